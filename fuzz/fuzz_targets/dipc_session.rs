//! Whole conversations. The first three bytes choose the sizes, whether a token is asked for, and how the input is cut;
//! the answers must be those of the second reading of the document, and must not depend on the cuts.
#![no_main]

#[path = "../../shell/tests/dipc_harness/mod.rs"]
mod dipc_harness;
#[path = "../../shell/tests/dipc_oracle/mod.rs"]
mod dipc_oracle;

use dipc_harness::{Plain, converse, rules};
use dipc_oracle::{Oracle, agrees};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [sizes, piece, brim, text @ ..] = input else { return };
    let (boxes, capacity, packet) =
        [(8, 64, 16), (1, 8, 16), (2, 16, 16), (8, 4096, 1024)][usize::from(sizes % 4)];
    let token = (sizes & 4 != 0).then_some(&b"0123456789abcdef"[..]);
    let mut oracle = Oracle::new(boxes, capacity, packet);
    oracle.token = token.map(<[u8]>::to_vec);
    let mut plain = Plain(oracle.boxes.clone());
    let expected = oracle.converse(text);
    let rules = rules(boxes as u32, capacity, packet, token);
    let piece = usize::from(*piece).max(1);
    let replies = converse(&rules, &mut plain, usize::from(*brim) * 16 + 1, text.chunks(piece));
    assert!(agrees(&expected, &replies), "{}", replies.escape_ascii());
    assert_eq!(plain.0, oracle.boxes);
});
