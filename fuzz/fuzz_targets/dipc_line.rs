//! First lines of the mailbox protocol: the first byte says how a line goes on, the rest is the line. What the server
//! answers must be what a second reading of the document says. Where a line asks for data, some follow.
#![no_main]

#[path = "../../shell/tests/dipc_harness/mod.rs"]
mod dipc_harness;
#[path = "../../shell/tests/dipc_oracle/mod.rs"]
mod dipc_oracle;

use dipc_harness::{Plain, converse, rules};
use dipc_oracle::{Oracle, agrees};
use libfuzzer_sys::fuzz_target;
use whorl::dipc::wire::{Parsed, parse};

fuzz_target!(|input: &[u8]| {
    let Some((kind, line)) = input.split_first() else { return };
    if let Parsed::Request { used, .. } | Parsed::Blank { used } = parse(line) {
        assert!(used <= line.len() && used <= 128 && line[used - 1] == b'\n');
    }
    let rest: &[u8] = match kind % 4 {
        0 => b"",
        1 => b"\n",
        2 => b"\nhi\nr 0\n",
        _ => b"\r\nhello\r\nr 1\r\n",
    };
    let text = [line, rest].concat();
    let mut oracle = Oracle::new(8, 64, 16);
    let mut boxes = Plain(oracle.boxes.clone());
    let expected = oracle.converse(&text);
    let replies = converse(&rules(8, 64, 16, None), &mut boxes, 1 << 16, [&text[..]]);
    assert!(agrees(&expected, &replies), "{}", replies.escape_ascii());
    assert_eq!(boxes.0, oracle.boxes);
});
