//! The frames of a stream over a socket: a head of 16 bytes, and for a frame of bytes as many bytes as the head says.
//!
//! ```text
//! head   0..4 length   4..8 kind   8..16 argument        little-endian
//! kind   0 bytes: `length` bytes follow
//!        1 hole: nothing follows; it stands for `argument` zero bytes
//!        2 end: `argument` is the total; 17 bytes follow: 1 and a checksum, or zeros
//! ```

use whorl_core::error::End;

/// Bytes of a head.
pub(crate) const HEAD: usize = 16;
/// Bytes that follow the head of an end.
pub(crate) const END_BODY: usize = 17;

/// A head, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Head {
    /// A frame of this many bytes, which follow.
    Bytes(u32),
    /// A hole of this many zero bytes, which are not sent.
    Hole(u64),
    /// The end of a stream of this many bytes. A checksum follows.
    End(u64),
}

impl Head {
    /// Encodes the head.
    pub(crate) fn encode(self) -> [u8; HEAD] {
        let (length, kind, argument) = match self {
            Self::Bytes(length) => (length, 0_u32, 0),
            Self::Hole(length) => (0, 1, length),
            Self::End(total) => (END_BODY as u32, 2, total),
        };
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..8].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&argument.to_le_bytes());
        head
    }

    /// Decodes a head. Returns `None` for bytes that no sender writes.
    pub(crate) fn decode(head: &[u8; HEAD]) -> Option<Self> {
        let (length, rest) = head.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (argument, _) = rest.split_first_chunk::<8>()?;
        let (length, argument) = (u32::from_le_bytes(*length), u64::from_le_bytes(*argument));
        match (u32::from_le_bytes(*kind), length) {
            (0, 1..) if argument == 0 => Some(Self::Bytes(length)),
            (1, 0) => Some(Self::Hole(argument)),
            (2, length) if length == END_BODY as u32 => Some(Self::End(argument)),
            _ => None,
        }
    }
}

/// Encodes a whole end frame.
pub(crate) fn encode_end(end: End) -> Vec<u8> {
    let mut frame = Head::End(end.total).encode().to_vec();
    frame.push(end.checksum.is_some().into());
    frame.extend_from_slice(&end.checksum.unwrap_or_default());
    frame
}

/// Decodes the end record from the total in its head, and its body.
pub(crate) fn decode_end(total: u64, body: &[u8; END_BODY]) -> End {
    let (&present, sum) = body.split_first().expect("17 bytes");
    let checksum = (present == 1).then(|| sum.try_into().expect("16 bytes"));
    End { total, checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_comes_back_and_nothing_else_decodes() {
        for head in [Head::Bytes(1), Head::Bytes(u32::MAX), Head::Hole(0), Head::Hole(u64::MAX), Head::End(7)]
        {
            assert_eq!(Head::decode(&head.encode()), Some(head));
        }
        assert_eq!(Head::decode(&[0; HEAD]), None);
        assert_eq!(Head::decode(&[0xff; HEAD]), None);
        for checksum in [None, Some([9; 16])] {
            let end = End { total: 1 << 40, checksum };
            let frame = encode_end(end);
            assert_eq!(decode_end(end.total, frame[HEAD..].try_into().unwrap()), end);
        }
    }
}
