//! The mailbox protocol: the document's examples, every short first line, and random conversations. Each is compared
//! with a second implementation that shares no code with the server, and with the input cut into pieces in several
//! ways.

use crate::kit::oracle::{Oracle, agrees};
use crate::kit::session::{Plain, config, converse};

const BOXES: u32 = 8;
const CAPACITY: usize = 64;
const PACKET: usize = 16;

/// Lets both servers answer `input` in pieces that end at `cuts`, and compares.
fn compare(oracle: &Oracle, input: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut expected_boxes = oracle.clone();
    let expected = expected_boxes.converse(input);
    let config = config(oracle.boxes.len() as u32, oracle.capacity, oracle.packet, oracle.token.as_deref());
    let mut boxes = Plain(oracle.boxes.clone());
    let edges = [0].iter().chain(cuts).chain([&input.len()]).copied().collect::<Vec<_>>();
    let pieces = edges.windows(2).map(|edge| &input[edge[0]..edge[1]]);
    let replies =
        converse(&config, &mut boxes, if cuts.len().is_multiple_of(2) { 1 << 16 } else { 1 }, pieces);
    let texts = || format!("{}\n{}\n{expected:?}", input.escape_ascii(), replies.escape_ascii());
    assert!(agrees(&expected, &replies), "{}", texts());
    assert_eq!(boxes.0, expected_boxes.boxes, "{}", texts());
    replies
}

fn small() -> Oracle {
    let mut oracle = Oracle::new(BOXES as usize, CAPACITY, PACKET);
    oracle.boxes[0] = (7, b"seven".to_vec());
    oracle
}

fn in_every_way(oracle: &Oracle, input: &[u8]) -> String {
    let whole = compare(oracle, input, &[]);
    let each_byte: Vec<usize> = (1..input.len()).collect();
    assert_eq!(compare(oracle, input, &each_byte), whole, "byte by byte");
    if input.len() < 300 {
        for cut in 1..input.len() {
            assert_eq!(compare(oracle, input, &[cut]), whole, "cut at {cut}");
        }
    }
    String::from_utf8_lossy(&whole).into_owned()
}

/// The replies before the end of the input.
fn answers(input: &[u8]) -> String {
    let all = in_every_way(&Oracle::new(BOXES as usize, 65536, 4096), input);
    all.strip_suffix("bye quit\n").map(str::to_owned).unwrap_or(all)
}

#[test]
fn the_documents_vectors() {
    assert_eq!(answers(b"r 0\n"), "data 0 0 0\n\n");
    assert_eq!(answers(b"w 0 0\n\nr 0\n"), "ok 0 1\ndata 0 1 0\n\n");
    assert_eq!(answers(b"w 0 3\na\nb\n"), "ok 0 1\n");
    assert_eq!(answers(b"w 1 3\na\nb\nr 1\nq\n"), "ok 1 1\ndata 1 1 3\na\nb\n");
    assert_eq!(answers(b"w 0 3\nabcd\nr 0\n"), "bye frame expected a newline after 3 bytes of data\n");
    assert_eq!(answers(b"w 0\n\n"), "ok 0 1\n");
    assert_eq!(answers(b"w 0 2\r\nhi\r\nr 0\r\n"), "ok 0 1\ndata 0 1 2\nhi\n");
    assert_eq!(answers(b"w 0\r\nhi\r\nr 0\r\n"), "ok 0 1\ndata 0 1 2\nhi\n");
    let full = "x".repeat(4096);
    let long = format!("w 0 4096+\n{full}\nw 0 1\nz\nr 0\n");
    let read = format!("more 0 4096\nok 0 1\ndata 0 1 4096+\n{full}\ndata 0 1 1\nz\n");
    assert_eq!(answers(long.as_bytes()), read);
    let dropped = format!("w 0 2\nhi\nw 0 4096+\n{full}\nr 0\nw 0 1\nz\nr 0\n");
    let replies = "ok 0 1\nmore 0 4096\ndata 0 1 2\nhi\nok 0 2\ndata 0 2 1\nz\n";
    assert_eq!(answers(dropped.as_bytes()), replies);
    assert_eq!(answers(b"w 99 2\nhi\nr 0\n"), "err box 99 is not 0..7\ndata 0 0 0\n\n");
    let large = format!("w 0 1\na\nw 0 5000\n{}\nr 0\n", "x".repeat(5000));
    assert_eq!(answers(large.as_bytes()), "ok 0 1\nerr size 5000 exceeds the packet, 4096\ndata 0 1 1\na\n");
    assert_eq!(answers(b"w 0 5\nhe"), "bye cut connection ended inside a request\n");
    assert_eq!(answers(b"w 0 x5\n"), "bye args usage: w BOX SIZE, data on the next line\n");
    let pipe = format!("w 0 -\n{}", "x".repeat(65537));
    assert_eq!(answers(pipe.as_bytes()), "err full 65537 exceeds the mailbox, 65536\n");
    assert_eq!(answers(b"w 3 -\nnotes\nof two lines\n"), "ok 3 1\n");
    assert_eq!(answers(b"r 0 0 0\n"), "same 0 0\n");
    assert_eq!(answers(&[b'x'; 129]), "bye line longer than 128 bytes\n");
    assert_eq!(answers(b"\n\nq\n"), "");
    assert_eq!(answers(b"w 18446744073709551616 1\n"), "bye args usage: w BOX SIZE, data on the next line\n");
    assert_eq!(answers(b"i\n"), "info 1 8 65536 4096\n");
    assert_eq!(answers(b"a whatever\n"), "ok auth\n");
    assert_eq!(answers(b"get 0\n"), "err verb unknown request \"get\", want r, w or q\n");
    assert_eq!(answers(b"r x\n"), "err args usage: r BOX [SINCE [MS]]\n");
    assert_eq!(answers(b"Host: x\n"), NO_WEB);
    assert_eq!(answers(b"H:\n"), "err verb unknown request \"H:\", want r, w or q\n");
}

const NO_WEB: &str = "bye http this is not a web server\n";

#[test]
fn a_web_page_cannot_send_requests_through_a_browser() {
    let body = "w 3 2\nhi\nr 3\n";
    let post =
        format!("POST / HTTP/1.1\r\nHost: localhost:9000\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(in_every_way(&small(), post.as_bytes()), NO_WEB);
    // Each line of HTTP ends the connection, as the first line and after requests.
    for line in post.split_inclusive("\r\n").filter(|line| *line != "\r\n") {
        let rest = &post[post.find(line).unwrap()..];
        if line != body {
            assert_eq!(in_every_way(&small(), rest.as_bytes()), NO_WEB, "{line}");
            let after = in_every_way(&small(), format!("r 1\n\n{rest}").as_bytes());
            assert_eq!(after, format!("data 1 0 0\n\n{NO_WEB}"), "{line}");
        }
    }
    let long = format!("GET /{} HTTP/1.1\r\n{body}", "x".repeat(128));
    assert_eq!(in_every_way(&small(), long.as_bytes()), "bye line longer than 128 bytes\n");
    // The first byte identifies TLS. Later in the connection that byte is an unknown verb.
    assert_eq!(in_every_way(&small(), b"\x16\x03\x01\x02\0\nw 3 2\nhi\n"), NO_WEB);
    assert_eq!(in_every_way(&small(), b"\x16"), NO_WEB);
    assert!(in_every_way(&small(), b"\n\x16\nr 0\n").starts_with("err verb"));
    // Data may look like HTTP, in any form.
    let data = "GET / HTTP/1.1";
    let stored =
        format!("w 1\n{data}\nw 1 14\n{data}\nw 1 14+\n{data}\nw 1 14\n{data}\nw 1 -\n{data}\nHost: x\n");
    assert_eq!(
        in_every_way(&small(), stored.as_bytes()),
        "ok 1 1\nok 1 2\nmore 1 14\nok 1 3\nok 1 4\nbye quit\n"
    );
    // A server with a token gives the same answer.
    let asking = Oracle { token: Some(b"0123456789abcdef".to_vec()), ..small() };
    assert_eq!(in_every_way(&asking, post.as_bytes()), NO_WEB);
    // A staged message is dropped.
    let staged = "w 0 16+\n0123456789abcdef\nHost: x\nw 0 1\nx\n";
    assert_eq!(in_every_way(&small(), staged.as_bytes()), format!("more 0 16\n{NO_WEB}"));
}

#[test]
fn with_a_token_nothing_is_answered_before_it() {
    let token = b"0123456789abcdef";
    let oracle = Oracle { token: Some(token.to_vec()), ..small() };
    let right = "a 0123456789abcdef\nr 0\n".as_bytes();
    assert_eq!(in_every_way(&oracle, right), "ok auth\ndata 0 7 5\nseven\nbye quit\n");
    for input in
        ["a wrong\n", "a\n", "a 0123456789abcdef x\n", "a 0123456789abcdeg\n", "r 0\n", "w x\n", "i\n", "q\n"]
    {
        assert!(in_every_way(&oracle, input.as_bytes()).starts_with("bye auth"), "{input}");
    }
}

#[test]
fn a_refused_packet_takes_the_rest_of_its_message_with_it() {
    let replies =
        in_every_way(&small(), b"w 0 16+\n0123456789abcdef\nw 0 17+\n0123456789abcdefg\nw 0 1\nx\nr 0\n");
    assert_eq!(
        replies,
        "more 0 16\nerr size 17 exceeds the packet, 16\nerr size 17 exceeds the packet, 16\n\
         data 0 7 5\nseven\nbye quit\n"
    );
    let five = "w 0 16+\n0123456789abcdef\n".repeat(5);
    let replies = in_every_way(&small(), format!("{five}w 0 0\n\nr 0\n").as_bytes());
    let full = "err full 80 exceeds the mailbox, 64\n";
    assert_eq!(
        replies,
        format!("more 0 16\nmore 0 32\nmore 0 48\nmore 0 64\n{full}{full}data 0 7 5\nseven\nbye quit\n")
    );
}

#[test]
fn data_that_are_only_dropped_are_bounded() {
    let mebibyte = 1 << 20;
    for (size, line) in [(mebibyte, "err size"), (mebibyte + 1, "bye size")] {
        let text = "x".repeat(size);
        for input in [format!("w 0 {size}\n{text}\n"), format!("w 0\n{text}\n"), format!("w 0\n{text}\r\n")] {
            assert!(
                String::from_utf8(compare(&small(), input.as_bytes(), &[9, 4000])).unwrap().starts_with(line)
            );
        }
    }
    assert_eq!(in_every_way(&small(), b"w 99 9999999999\n"), "bye size 9999999999 is over 1048576\n");
    // If a packet may be larger than that, the packet is the limit.
    let large = Oracle::new(1, 3 << 20, 2 << 20);
    let size = (2 << 20) + 1;
    let input = format!("w 0 {}\n{}\nw 0 {size}\n", size - 1, "x".repeat(size - 1));
    let replies = String::from_utf8(compare(&large, input.as_bytes(), &[100, 70_000])).unwrap();
    assert_eq!(replies, "ok 0 1\nbye size 2097153 is over 2097152\n");
    // A packet may also be larger than the mailbox.
    let small = Oracle::new(1, 8, 16);
    assert_eq!(
        in_every_way(&small, b"w 0 9\n123456789\nw 0\n123456789\nw 0 17\n12345678901234567\n"),
        "err full 9 exceeds the mailbox, 8\nerr full 9 exceeds the mailbox, 8\n\
         err size 17 exceeds the packet, 16\nbye quit\n"
    );
}

#[test]
fn all_first_lines_of_one_and_two_bytes() {
    let oracle = small();
    let mut lines = 0;
    for first in 0..=255u8 {
        for rest in ["\n", "\nhi\nr 0\n", ""] {
            compare(&oracle, &[&[first], rest.as_bytes()].concat(), &[]);
        }
        for second in 0..=255u8 {
            for rest in ["\n", "\nhi\nr 0\n"] {
                compare(&oracle, &[&[first, second], rest.as_bytes()].concat(), &[]);
                lines += 1;
            }
        }
    }
    assert_eq!(lines, 2 * 65_536);
}

#[test]
fn all_first_lines_of_three_bytes_over_forty_symbols() {
    let symbols = b"rwqai019 87\r\n\0\t+-.,:/xRWQA\"\\\x7f\x80\xff\xc3\x1b[e{~_z=";
    let mut distinct = symbols.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 40);
    let oracle = small();
    let mut lines = 0;
    for a in &distinct {
        for b in &distinct {
            for c in &distinct {
                for rest in ["\n", " 2\nhi\nr 0\n"] {
                    compare(&oracle, &[&[*a, *b, *c], rest.as_bytes()].concat(), &[]);
                    lines += 1;
                }
            }
        }
    }
    assert_eq!(lines, 2 * 64_000);
}

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

fn random_request(dice: &mut Dice, out: &mut Vec<u8>) {
    let number = dice.pick(&["0", "1", "7", "8", "007", "0", "0", "4294967296", "x", ""]);
    let end = dice.pick(&["\n", "\r\n", "\n", " \n"]);
    match dice.roll(12) {
        0 | 1 => out.extend(format!("r {number}{end}").bytes()),
        2 => out.extend(format!("r {number} {} {}{end}", dice.roll(3), dice.roll(2)).bytes()),
        3 => {
            let text = "typed".repeat(dice.roll(16));
            out.extend(format!("w {number}{end}{text}{end}").bytes());
        }
        4 if dice.roll(4) == 0 => out.extend(format!("w {number} -{end}").bytes()),
        5 if dice.roll(2) == 0 => {
            for _ in 0..dice.roll(6) {
                out.push(b"rwqai 0123456789+-\r\n\0\xff"[dice.roll(22)]);
            }
        }
        6 => out.extend(
            dice.pick(&[
                "\n", "i\n", "a b\n", "\r\n", "  \n", "q x\n", "get\n", "GET\n", "GET x\n", "ab: \n",
                "a: b\n", "\x16\n",
            ])
            .bytes(),
        ),
        _ => {
            let size = dice.roll(20);
            let plus = dice.pick(&["", "+", "+"]);
            out.extend(format!("w {number} {size}{plus}{end}").bytes());
            let sent = if dice.roll(30) == 0 { dice.roll(20) } else { size };
            out.extend((0..sent).map(|at| b"\nab\r0w r"[at % 8]));
            out.extend(dice.pick(&["\n", "\r\n", "\n", "\n"]).bytes());
        }
    }
}

#[test]
fn random_conversations_however_they_are_cut() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let oracle = small();
    for _ in 0..60_000 {
        let mut input = Vec::new();
        for _ in 0..dice.roll(12) {
            random_request(&mut dice, &mut input);
        }
        input.truncate(input.len() - dice.roll(4).min(input.len()));
        let mut cuts: Vec<usize> = (0..dice.roll(6)).map(|_| dice.roll(input.len() + 1)).collect();
        cuts.sort_unstable();
        compare(&oracle, &input, &cuts);
    }
}
