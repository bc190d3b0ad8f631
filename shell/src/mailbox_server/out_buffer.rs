//! The buffer that collects replies until they are sent.

use std::collections::TryReserveError;
use std::io;
use std::ops::{Deref, DerefMut};

/// Bytes to send. Unlike a `Vec`, it keeps memory that was written once, so that it need not zero the room for a
/// message before the message is copied there. With messages of 64 KiB, zeroing took a twelfth of a worker's time.
#[derive(Debug, Default)]
pub struct OutBuffer {
    /// Its length is the most that was ever in use.
    memory: Vec<u8>,
    used: usize,
}

impl OutBuffer {
    /// Returns room for `count` more bytes, with any contents.
    ///
    /// # Errors
    /// There is no memory for them. Nothing has changed.
    pub fn room(&mut self, count: usize) -> Result<&mut [u8], TryReserveError> {
        let start = self.used;
        let end = start.saturating_add(count); // too much for any memory
        if let more @ 1.. = end.saturating_sub(self.memory.len()) {
            self.memory.try_reserve(more)?;
            self.memory.resize(end, 0);
        }
        self.used = end;
        Ok(&mut self.memory[start..end])
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        match self.memory.get_mut(self.used..end) {
            Some(there) => there.copy_from_slice(bytes),
            None => {
                self.memory.truncate(self.used);
                self.memory.extend_from_slice(bytes);
            }
        }
        self.used = end;
    }

    /// Appends a byte.
    pub fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    /// Keeps at most the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.used = self.used.min(length);
    }

    /// Drops all bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Returns the bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.memory.capacity()
    }
}

impl Deref for OutBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.used]
    }
}

impl DerefMut for OutBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.used]
    }
}

impl io::Write for OutBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_appended_whatever_was_there_before() {
        let mut replies = OutBuffer::default();
        replies.extend_from_slice(b"a long first reply");
        replies.clear();
        assert!(replies.is_empty());
        replies.extend_from_slice(b"one");
        replies.push(b' ');
        replies.room(3).unwrap().copy_from_slice(b"two");
        assert_eq!(*replies, *b"one two");
        replies.truncate(100);
        replies.truncate(4);
        // Beyond the length that was ever in use.
        replies.extend_from_slice(b"and much more than there was before");
        assert_eq!(*replies, *b"one and much more than there was before");
        assert_eq!(replies.room(100).unwrap().len(), 100);
        assert_eq!(replies.len(), 139);
        assert!(replies[..39].ends_with(b"before"));
    }

    #[test]
    fn what_there_is_no_memory_for_changes_nothing() {
        let mut replies = OutBuffer::default();
        replies.extend_from_slice(b"here");
        replies.room(usize::MAX).unwrap_err();
        replies.room(isize::MAX as usize).unwrap_err();
        assert_eq!(*replies, *b"here");
    }
}
