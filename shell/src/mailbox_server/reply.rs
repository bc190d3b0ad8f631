//! The reply lines. They end with LF, never with CR. The first word decides the shape. Programs read no text after the
//! code, and text from a client comes back only escaped.

use super::out_buffer::OutBuffer;
use crate::os::socket_owner::Refused;
use std::io::Write;

/// The sizes of a server, fixed when it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many mailboxes there are (K).
    pub boxes: u32,
    /// The longest message (M), in bytes.
    pub capacity: usize,
    /// The most data that one packet carries (P), in bytes.
    pub packet: usize,
}

/// The most data of a refused request that the server reads and drops, unless a packet may be larger.
pub const DISCARD_MAX: u64 = 1 << 20;

impl Limits {
    /// Returns the memory that each connection has for itself: for a first line and one packet, at most 64 KiB of it.
    pub fn reserve(&self) -> usize {
        super::wire::LINE_MAX + self.packet.min(64 << 10)
    }

    /// Returns the most memory that one connection may need: for the longest message and its lines.
    pub fn largest(&self) -> usize {
        // A reply of many packets has a line for each.
        self.capacity.saturating_add(self.capacity / 16).saturating_add(self.packet)
    }

    /// Returns the most data that the server reads for one packet, even only to drop them.
    pub fn discard_max(&self) -> u64 {
        DISCARD_MAX.max(self.packet as u64)
    }
}

/// A request that failed. Nothing changed, and the connection stays open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The mailbox does not exist.
    Box(u64),
    /// The data are more than a packet may have.
    Size(u64),
    /// The message is more than a mailbox holds.
    Full(u64),
    /// The server has a problem of its own.
    Fault(Fault),
}

/// A problem of the server with one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// No memory for the data in flight.
    #[error("no memory for these data now, try again")]
    Memory,
    /// The mailbox's lock was not free in time.
    #[error("the mailbox is held by a stopped process, try again")]
    Busy,
    /// The shared memory holds values that no honest program writes.
    #[error("the mailbox is damaged")]
    Damaged,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// It sent `q`, or closed its half after all its requests were answered.
    Quit,
    /// A `w` of unknown length.
    Args,
    /// A first line without an end.
    Line,
    /// No line end follows the data.
    Frame(u64),
    /// The input ended inside a request.
    Cut,
    /// More data than the server reads, even only to drop them.
    Size(u64, u64),
    /// Half a request or no request for too long.
    Idle,
    /// It did not send the right token.
    Auth,
    /// It speaks HTTP or TLS.
    Http,
    /// There are too many connections.
    Busy(usize),
    /// There is no memory for requests that it sent early.
    Memory,
    /// The server ends.
    Stop,
}

/// Appends formatted text. A `Vec` takes everything, so there is no error to report.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
    }};
}

/// `ok BOX VERSION`.
pub fn ok(out: &mut OutBuffer, mailbox: u32, version: u64) {
    words(out, b"ok", &[mailbox.into(), version]);
    out.push(b'\n');
}

/// `ok auth`.
pub fn authenticated(out: &mut OutBuffer) {
    out.extend_from_slice(b"ok auth\n");
}

/// `more BOX TOTAL`.
pub fn more(out: &mut OutBuffer, mailbox: u32, total: u64) {
    words(out, b"more", &[mailbox.into(), total]);
    out.push(b'\n');
}

/// `same BOX VERSION`.
pub fn same(out: &mut OutBuffer, mailbox: u32, version: u64) {
    words(out, b"same", &[mailbox.into(), version]);
    out.push(b'\n');
}

/// `data BOX VERSION SIZE` or `SIZE+`, before a packet's bytes.
pub fn data(out: &mut OutBuffer, mailbox: u32, version: u64, size: usize, last: bool) {
    words(out, b"data", &[mailbox.into(), version, size as u64]);
    out.extend_from_slice(if last { b"\n" } else { b"+\n" });
}

/// `info 1 K M P`: the protocol's version and the server's sizes.
pub fn info(out: &mut OutBuffer, limits: &Limits) {
    words(out, b"info", &[1, limits.boxes.into(), limits.capacity as u64, limits.packet as u64]);
    out.push(b'\n');
}

/// `err verb ...`.
pub fn unknown(out: &mut OutBuffer, verb: &[u8]) {
    /// Enough to recognise a typing error. A line of random bytes is not sent back whole.
    const SHOWN: usize = 16;
    let shown = verb[..verb.len().min(SHOWN)].escape_ascii();
    let dots = if verb.len() > SHOWN { "..." } else { "" };
    put!(out, "err verb unknown request \"{shown}{dots}\", want r, w or q\n");
}

/// `err args usage: ...`.
pub fn usage(out: &mut OutBuffer, usage: &str) {
    put!(out, "err args usage: {usage}\n");
}

/// `err CODE ...`.
pub fn refuse(out: &mut OutBuffer, limits: &Limits, refusal: Refusal) {
    match refusal {
        Refusal::Box(number) => put!(out, "err box {number} is not 0..{}\n", limits.boxes.saturating_sub(1)),
        Refusal::Size(size) => put!(out, "err size {size} exceeds the packet, {}\n", limits.packet),
        Refusal::Full(size) => put!(out, "err full {size} exceeds the mailbox, {}\n", limits.capacity),
        Refusal::Fault(fault) => put!(out, "err fault {fault}\n"),
    }
}

/// `bye CODE ...`: the last line.
pub fn bye(out: &mut OutBuffer, bye: CloseReason) {
    match bye {
        CloseReason::Quit => put!(out, "bye quit\n"),
        CloseReason::Args => put!(out, "bye args usage: w BOX SIZE, data on the next line\n"),
        CloseReason::Line => put!(out, "bye line longer than {} bytes\n", super::wire::LINE_MAX),
        CloseReason::Frame(size) => put!(out, "bye frame expected a newline after {size} bytes of data\n"),
        CloseReason::Cut => put!(out, "bye cut connection ended inside a request\n"),
        CloseReason::Size(size, most) => put!(out, "bye size {size} is over {most}\n"),
        CloseReason::Idle => put!(out, "bye idle\n"),
        CloseReason::Auth => put!(out, "bye auth send a TOKEN first\n"),
        CloseReason::Http => put!(out, "bye http this is not a web server\n"),
        CloseReason::Busy(limit) => put!(out, "bye busy {limit} connections\n"),
        CloseReason::Memory => put!(out, "bye busy no memory for unanswered requests\n"),
        CloseReason::Stop => put!(out, "bye stop\n"),
    }
}

/// `bye user ...`: the last line, and the only one, to a client that is not served.
pub fn bye_user(out: &mut OutBuffer, refused: &Refused) {
    put!(out, "bye user {refused}\n");
}

/// Writes a word and numbers with spaces between. By hand, because these lines are most of what a busy server formats.
fn words(out: &mut OutBuffer, word: &[u8], numbers: &[u64]) {
    out.extend_from_slice(word);
    for &number in numbers {
        let mut digits = [0; 21];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        at -= 1;
        digits[at] = b' ';
        out.extend_from_slice(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut OutBuffer)) -> String {
        let mut out = OutBuffer::default();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_written_in_full() {
        assert_eq!(line(|out| ok(out, 0, 0)), "ok 0 0\n");
        assert_eq!(line(|out| ok(out, u32::MAX, u64::MAX)), "ok 4294967295 18446744073709551615\n");
        assert_eq!(line(|out| data(out, 3, 10, 4096, false)), "data 3 10 4096+\n");
        assert_eq!(line(|out| data(out, 3, 10, 4096, true)), "data 3 10 4096\n");
    }

    #[test]
    fn what_a_peer_sent_comes_back_on_one_plain_line() {
        let text = line(|out| unknown(out, b"\x1b[2J\r\0\xff\"aaaaaaaaaaaaaaaaaaaaaaa"));
        assert!(
            text.starts_with("err verb unknown request \"\\x1b[2J\\r\\x00\\xff\\\"aaaaaaaa...\", want"),
            "{text}"
        );
        assert_eq!(text.bytes().filter(|byte| !(0x20..0x7f).contains(byte)).count(), 1, "only the line end");
    }
}
