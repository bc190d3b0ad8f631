//! Frames: how messages lie in the cells of a ring.
//!
//! ```text
//! word 0    kind (bits 31 to 29), length (bits 28 to 0)
//! word 1    message number, wrapping; 0 in padding
//! payload   `length` bytes, then unused bytes up to the next cell
//! ```
//!
//! | kind | length | payload |
//! |---|---|---|
//! | 1 message | bytes of the message | the message |
//! | 2 hole | 8 | how many zero bytes it stands for: low word, high word |
//! | 3 padding | cells after the header | unused |
//!
//! A frame is contiguous. Padding fills the rest of the ring where the next frame does not fit before its end, and the
//! gap before a payload that is aligned. So at most two padding frames lie in a row, and the sender publishes them
//! together with the frame behind them.

use crate::error::Corrupt;

/// Bytes in a cell, the unit of positions.
pub const CELL: usize = 8;

/// The largest number of cells: distances stay far from half the sequence space.
pub const MAX_CELLS: u32 = 1 << 30;

/// The longest message that a header can describe, in bytes.
pub const MAX_MESSAGE: u32 = LENGTH_MASK;

/// How many padding frames an honest sender writes in a row.
pub(super) const MAX_PADDING: u32 = 2;

const LENGTH_BITS: u32 = 29;
const LENGTH_MASK: u32 = (1 << LENGTH_BITS) - 1;

const MESSAGE: u32 = 1;
const HOLE: u32 = 2;
const PADDING: u32 = 3;

/// The payload of a hole, in bytes.
pub(super) const HOLE_LENGTH: u32 = CELL as u32;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// This many bytes.
    Message(u32),
    /// A hole, whose length lies in the next cell.
    Hole,
    /// Nothing.
    Padding,
}

/// A header, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) content: Content,
    pub(super) number: u32,
    /// The cells of the whole frame.
    pub(super) cells: u32,
}

/// Returns the cells of a frame with a payload of `length` bytes.
pub(super) const fn cells_of(length: u32) -> u32 {
    1 + length.div_ceil(CELL as u32)
}

/// Returns the header words of a message.
pub(super) fn message(length: u32, number: u32) -> [u32; 2] {
    debug_assert!(length <= MAX_MESSAGE);
    [MESSAGE << LENGTH_BITS | length, number]
}

/// Returns the header words of a hole.
pub(super) fn hole(number: u32) -> [u32; 2] {
    [HOLE << LENGTH_BITS | HOLE_LENGTH, number]
}

/// Returns the header words of padding that takes `cells` cells, its header included.
pub(super) fn padding(cells: u32) -> [u32; 2] {
    debug_assert!((1..=MAX_CELLS / 2).contains(&cells));
    [PADDING << LENGTH_BITS | (cells - 1), 0]
}

impl Header {
    /// Checks the header words of a frame that has `room` cells at most.
    ///
    /// # Errors
    /// No honest sender writes these words there.
    pub(super) fn check([word, number]: [u32; 2], room: u32) -> Result<Self, Corrupt> {
        let length = word & LENGTH_MASK;
        let (content, cells) = match word >> LENGTH_BITS {
            MESSAGE => (Content::Message(length), cells_of(length)),
            HOLE if length == HOLE_LENGTH => (Content::Hole, cells_of(length)),
            PADDING => (Content::Padding, 1 + length),
            _ => return Err(Corrupt),
        };
        if cells <= room { Ok(Self { content, number, cells }) } else { Err(Corrupt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 7, 8, 9, MAX_MESSAGE] {
            let header = Header::check(message(length, 7), u32::MAX).unwrap();
            assert_eq!((header.content, header.number), (Content::Message(length), 7));
            assert_eq!(header.cells, 1 + (u64::from(length) + 7) as u32 / 8);
            assert_eq!(Header::check(message(length, 7), header.cells - 1), Err(Corrupt));
        }
        assert_eq!(Header::check(hole(3), 2), Ok(Header { content: Content::Hole, number: 3, cells: 2 }));
        for cells in [1, 2, MAX_CELLS / 2] {
            let header = Header::check(padding(cells), cells).unwrap();
            assert_eq!((header.content, header.cells), (Content::Padding, cells));
        }
    }

    #[test]
    fn other_words_are_refused() {
        let [hole, _] = hole(0);
        for word in [0, 1, LENGTH_MASK, hole - 1, hole + 1, 4 << LENGTH_BITS, u32::MAX] {
            assert_eq!(Header::check([word, 0], u32::MAX), Err(Corrupt), "{word:#x}");
        }
    }
}
