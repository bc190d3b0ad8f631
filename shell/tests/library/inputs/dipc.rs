//! The mailbox protocol, compared with a second implementation.

use crate::kit::oracle::{Oracle, agrees};
use crate::kit::session::{Plain, config, converse};
use whorl::internal::mailbox_server::wire::{Parsed, parse};

/// First lines: the first byte chooses how a line ends, the rest is the line. If a line asks for data, some follow.
pub fn line(input: &[u8]) -> bool {
    let Some((kind, line)) = input.split_first() else { return false };
    let parsed = parse(line);
    if let Parsed::Request { used, .. } | Parsed::Blank { used } = parsed {
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
    let replies = converse(&config(8, 64, 16, None), &mut boxes, 1 << 16, [&text[..]]);
    assert!(agrees(&expected, &replies), "{}", replies.escape_ascii());
    assert_eq!(boxes.0, oracle.boxes);
    matches!(parse(&text), Parsed::Request { .. })
}

/// Whole conversations. The first three bytes choose the sizes, whether the server asks for a token, and how the input
/// is cut. The answers must not depend on the cuts.
pub fn session(input: &[u8]) -> bool {
    let [sizes, piece, brim, text @ ..] = input else { return false };
    let (boxes, capacity, packet) =
        [(8, 64, 16), (1, 8, 16), (2, 16, 16), (8, 4096, 1024)][usize::from(sizes % 4)];
    let token = (sizes & 4 != 0).then_some(&b"0123456789abcdef"[..]);
    let mut oracle = Oracle::new(boxes, capacity, packet);
    oracle.token = token.map(<[u8]>::to_vec);
    let mut plain = Plain(oracle.boxes.clone());
    let expected = oracle.converse(text);
    let config = config(boxes as u32, capacity, packet, token);
    let piece = usize::from(*piece).max(1);
    let replies = converse(&config, &mut plain, usize::from(*brim) * 16 + 1, text.chunks(piece));
    assert!(agrees(&expected, &replies), "{}", replies.escape_ascii());
    assert_eq!(plain.0, oracle.boxes);
    matches!(parse(text), Parsed::Request { .. })
}
