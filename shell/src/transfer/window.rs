//! A bounded window of a stream: blocks that were read and that a receiver still needs.

use super::source::{Chunk, SourceError};
use std::collections::VecDeque;

/// Blocks in the order they were read.
pub(super) struct Window {
    blocks: VecDeque<Block>,
    spare: Vec<Vec<u8>>,
    block: usize,
    most: usize,
    end: u64,
    /// Whether the source is known to have bytes.
    pub readable: bool,
    /// Whether the source always has bytes, or its end.
    pub always_readable: bool,
}

struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Returns a window of at most `most` blocks of `block` bytes.
    pub(super) fn new(block: usize, most: usize, always_readable: bool) -> Self {
        let (blocks, spare) = (VecDeque::new(), Vec::new());
        Self { blocks, spare, block, most, end: 0, readable: always_readable, always_readable }
    }

    /// Returns where the window ends: the number of bytes read so far.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns whether another block may be read.
    pub(super) fn has_room(&self) -> bool {
        self.blocks.len() < self.most
    }

    /// Returns where it would start without the blocks before `position`.
    pub(super) fn start_without(&self, position: u64) -> u64 {
        let kept = self.blocks.iter().find(|block| block.start + block.bytes.len() as u64 > position);
        kept.map_or(self.end, |block| block.start)
    }

    /// Drops the blocks before `position`.
    pub(super) fn forget_before(&mut self, position: u64) {
        while self.blocks.front().is_some_and(|block| block.start + block.bytes.len() as u64 <= position) {
            self.spare.extend(self.blocks.pop_front().map(|block| block.bytes));
        }
    }

    /// Reads one block, with one read.
    pub(super) fn read(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<Chunk, SourceError>,
    ) -> Result<Chunk, SourceError> {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.resize(self.block, 0);
        let chunk = read(&mut bytes)?;
        if let Chunk::Bytes(count) = chunk {
            bytes.truncate(count);
            self.blocks.push_back(Block { start: self.end, bytes });
            self.end += count as u64;
        }
        Ok(chunk)
    }

    /// Returns the block read last.
    pub(super) fn last(&self) -> &[u8] {
        self.blocks.back().map_or(&[], |block| &block.bytes)
    }

    /// Returns how many bytes from `position` on lie in one block.
    pub(super) fn available(&self, position: u64) -> usize {
        self.bytes(position, usize::MAX).len()
    }

    /// Returns at most `most` bytes from `position` on, within one block.
    pub(super) fn bytes(&self, position: u64, most: usize) -> &[u8] {
        let index = self.blocks.partition_point(|block| block.start + block.bytes.len() as u64 <= position);
        let Some(block) = self.blocks.get(index) else { return &[] };
        let bytes = &block.bytes[(position - block.start) as usize..];
        &bytes[..bytes.len().min(most)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_while_needed_and_reused_after() {
        let mut window = Window::new(4, 2, true);
        for text in [b"abcd", b"efgh"] {
            window
                .read(|buffer| {
                    Ok({
                        buffer.copy_from_slice(text);
                        Chunk::Bytes(4)
                    })
                })
                .unwrap();
        }
        assert!(!window.has_room());
        assert_eq!(
            (window.bytes(2, 10), window.bytes(4, 3), window.bytes(8, 1)),
            (&b"cd"[..], &b"efg"[..], &b""[..])
        );
        window.forget_before(3);
        assert_eq!([3, 4, 8, u64::MAX].map(|position| window.start_without(position)), [0, 4, 8, 8]);
        assert!(!window.has_room());
        window.forget_before(4);
        assert!(window.has_room());
        window
            .read(|buffer| {
                Ok({
                    buffer[..1].copy_from_slice(b"i");
                    Chunk::Bytes(1)
                })
            })
            .unwrap();
        assert_eq!((window.end(), window.bytes(8, 9), window.last()), (9, &b"i"[..], &b"i"[..]));
    }
}
