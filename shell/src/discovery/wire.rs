//! The protocol between a client and a server over TCP: fixed heads, little-endian.
//!
//! ```text
//! client    0 magic "WHSV"   4 version   8..24 token
//! server    0 magic "WHSV"   4 version   8 length, 8 bytes   then the message
//! ```
//!
//! A client that is not served gets a line instead of that head:
//!
//! ```text
//! server    "bye user REASON", LF
//! ```
//!
//! The client closes the connection at the end of its run, so that the server counts both transports of a run as one
//! client.

use crate::registry::protocol::Token;

/// Bytes of a client's head.
pub(super) const HELLO: usize = 24;
/// Bytes of a server's head.
pub(super) const HEAD: usize = 16;
/// The most bytes of a message.
pub(super) const LONGEST: u64 = 1 << 20;

const MAGIC: [u8; 4] = *b"WHSV";
const VERSION: u32 = 1;

/// Returns a client's head.
pub(super) fn hello(token: Token) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes[8..].copy_from_slice(&token);
    bytes
}

/// Returns the token in a client's head, or `None` if it is not valid.
pub(super) fn token_of(bytes: &[u8; HELLO]) -> Option<Token> {
    let token = bytes[8..].try_into().ok()?;
    (*bytes == hello(token)).then_some(token)
}

/// Returns a server's head and message.
pub(super) fn reply(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + message.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// The beginning of the line that a client gets if it is not served.
const REFUSAL: &[u8] = b"bye ";
/// The longest such line.
pub(super) const REFUSAL_MAX: usize = 512;

/// Returns the line for a client that is not served.
pub(super) fn refusal(why: &dyn std::fmt::Display) -> String {
    format!("bye user {why}\n")
}

/// Returns whether the bytes that a client reads instead of a head are the beginning of such a line.
pub(super) fn is_refusal(head: &[u8; HEAD]) -> bool {
    head.starts_with(REFUSAL)
}

/// Returns the length of the message after a server's head, or `None` for a head that no server sends.
pub(super) fn length_of(bytes: &[u8; HEAD]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes[8..].try_into().ok()?);
    let version = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
    (bytes[..4] == MAGIC && version == VERSION && length <= LONGEST).then_some(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_and_other_bytes_are_refused() {
        assert_eq!(token_of(&hello([7; 16])), Some([7; 16]));
        assert_eq!(token_of(&[7; HELLO]), None);
        let reply = reply(b"text");
        assert_eq!(length_of(reply[..HEAD].try_into().unwrap()), Some(4));
        assert_eq!(length_of(&[0xff; HEAD]), None);
        let mut huge: [u8; HEAD] = reply[..HEAD].try_into().unwrap();
        huge[15] = 0xff;
        assert_eq!(length_of(&huge), None);
    }
}
