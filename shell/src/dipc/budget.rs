//! Memory for data in flight: bounded for all connections together.
//!
//! A connection holds data only while a request is half received, or a reply half sent. One that does so is cheap, ten
//! thousand may not be; so all draw on one account, and who finds it empty is refused instead of the machine going down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An account of bytes, shared by all connections of a server.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

impl Budget {
    /// An account of `bytes`.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// What is left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    // Relaxed throughout: the number guards no other memory.
    fn take(&self, bytes: usize) -> bool {
        let enough = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// No memory, or none that the budget allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Bytes that draw on a [`Budget`]. Empty, it owns no memory.
#[derive(Debug)]
pub struct Held {
    bytes: Vec<u8>,
    /// So many at the front are forgotten.
    start: usize,
    budget: Arc<Budget>,
}

impl Held {
    /// The first piece of memory, so that a byte at a time does not mean an allocation at a time.
    const FIRST: usize = 1024;

    /// Nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), start: 0, budget }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `data`. Memory grows with what has arrived, never with what was announced.
    pub fn extend(&mut self, data: &[u8]) -> Result<(), OutOfMemory> {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        if data.len() > spare {
            let doubled = self.bytes.capacity();
            let wanted = (data.len() - spare).max(doubled).max(Self::FIRST);
            let before = self.bytes.capacity();
            if !self.budget.take(wanted) {
                return Err(OutOfMemory);
            }
            let grown = self.bytes.try_reserve_exact(spare + wanted);
            // What the allocator gave is what must be given back, whether or not it is what was asked for.
            let given = self.bytes.capacity() - before;
            if given < wanted {
                self.budget.give(wanted - given);
            } else if given > wanted && !self.budget.take(given - wanted) {
                self.bytes.shrink_to(before + wanted);
            }
            grown.map_err(|_| OutOfMemory)?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        if count >= self.len() {
            self.clear();
        } else {
            self.start += count;
        }
    }

    /// Takes the bytes away, leaving nothing.
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Arc::clone(&self.budget)))
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.start = 0;
        if bytes.capacity() > 0 {
            self.budget.give(bytes.capacity());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back() {
        let budget = Budget::new(10_000);
        let mut held = Held::new(budget.clone());
        for piece in [1, 10, 1000, 3000] {
            held.extend(&vec![7; piece]).unwrap();
        }
        assert_eq!(held.len(), 4011);
        assert!(budget.left() <= 10_000 - 4011);
        held.consume(11);
        assert_eq!(held.len(), 4000);
        let mut other = Held::new(budget.clone());
        assert_eq!(other.extend(&[0; 9_000]), Err(OutOfMemory));
        assert!(other.is_empty());
        held.clear();
        other.extend(&[0; 9_000]).unwrap();
        drop((held, other));
        assert_eq!(budget.left(), 10_000);
    }
}
