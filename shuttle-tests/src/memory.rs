//! The memory of a run: a ring, and a mailbox behind its lock, with payloads that detect conflicting accesses.

use crate::mailbox::{self, MailboxHeader, Payload};
use crate::parking::Parking;
use crate::ring::{Cells, Control, Parts, ReceiverEntry, SenderParts, SenderState, SenderStateView};
use crate::rwlock::{self, OwnerWord, SeatState, SeatsUsed};
use crate::sequence::Sequence;
use shuttle::thread::yield_now;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32 as Plain, Ordering::SeqCst};

/// A value that detects a write during a read or during another write. Other threads may run in the middle of each
/// access. The words are plain atomics, which shuttle does not schedule.
#[derive(Default)]
pub struct Watched {
    value: Plain,
    readers: Plain,
    writers: Plain,
}

impl Watched {
    /// Returns the value.
    ///
    /// # Panics
    /// If another thread writes it meanwhile.
    pub fn get(&self) -> u32 {
        self.readers.fetch_add(1, SeqCst);
        assert_eq!(self.writers.load(SeqCst), 0, "it is being written");
        let value = self.value.load(SeqCst);
        yield_now();
        assert_eq!(self.writers.load(SeqCst), 0, "it was written meanwhile");
        assert_eq!(self.value.load(SeqCst), value, "it changed meanwhile");
        self.readers.fetch_sub(1, SeqCst);
        value
    }

    /// Changes the value.
    ///
    /// # Panics
    /// If another thread reads or writes it meanwhile.
    pub fn set(&self, value: u32) {
        assert_eq!(self.writers.fetch_add(1, SeqCst), 0, "two write it");
        assert_eq!(self.readers.load(SeqCst), 0, "it is being read");
        yield_now();
        self.value.store(value, SeqCst);
        assert_eq!(self.readers.load(SeqCst), 0, "it was read meanwhile");
        self.writers.fetch_sub(1, SeqCst);
    }
}

struct RingMemory {
    head: SenderState,
    control: Control,
    receivers: Vec<ReceiverEntry>,
    cells: Watching,
}

/// A handle to a ring's memory, with its host.
#[derive(Clone)]
pub struct Ring {
    memory: Arc<RingMemory>,
    host: Parking,
}

impl Ring {
    /// Returns a ring of `cells` cells for `seats` receivers, whose first message lies at position `first`.
    pub fn new(cells: u32, seats: u32, first: u32) -> Self {
        let head = SenderState::new(Sequence::default());
        head.start_at(Sequence::from_word(first));
        let memory = RingMemory {
            head,
            control: Control::new(),
            receivers: (0..seats).map(|_| ReceiverEntry::new()).collect(),
            cells: Watching((0..cells).map(|_| Default::default()).collect()),
        };
        Self { memory: Arc::new(memory), host: Parking::new() }
    }
}

// SAFETY: the parts of one memory; this host reclaims no participant.
unsafe impl Parts for Ring {
    type Host = Parking;
    type Cells = Watching;

    fn host(&self) -> &Parking {
        &self.host
    }
    fn sender_state(&self) -> SenderStateView<'_> {
        self.memory.head.view()
    }
    fn control(&self) -> &Control {
        &self.memory.control
    }
    fn receivers(&self) -> &[ReceiverEntry] {
        &self.memory.receivers
    }
    fn cells(&self) -> &Watching {
        &self.memory.cells
    }
}

// SAFETY: as above.
unsafe impl SenderParts for Ring {
    fn sender_state_to_write(&self) -> &SenderState {
        &self.memory.head
    }
}

/// Cells that detect conflicting accesses: the two words of each as plain atomics, and a value for the frame that begins
/// there.
pub struct Watching(Vec<([Plain; 2], Watched)>);

// SAFETY: of constant measures.
unsafe impl Cells for Watching {
    type Writer<'a> = &'a Watched;
    type Reader<'a> = &'a Watched;

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
    unsafe fn load_words(&self, cell: u32) -> [u32; 2] {
        self.0[cell as usize].0.each_ref().map(|word| word.load(SeqCst))
    }
    unsafe fn store_words(&self, cell: u32, words: [u32; 2]) {
        self.0[cell as usize].0.iter().zip(words).for_each(|(word, value)| word.store(value, SeqCst));
    }
    unsafe fn writer(&self, cell: u32, _length: u32) -> &Watched {
        &self.0[cell as usize].1
    }
    unsafe fn reader(&self, cell: u32, _length: u32) -> &Watched {
        &self.0[cell as usize].1
    }
}

struct LockMemory {
    owner_word: OwnerWord,
    cells: Vec<SeatState>,
    seats_used: SeatsUsed,
    header: MailboxHeader,
    buffers: Buffers,
    value: Watched,
}

/// A handle to a lock with a value and a mailbox behind it, and its host.
#[derive(Clone)]
pub struct Lock {
    memory: Arc<LockMemory>,
    host: Parking,
}

impl Lock {
    /// Returns a free lock with `seats` seats. Its mailbox's empty message has `version`.
    pub fn new(seats: u32, version: u64) -> Self {
        let memory = LockMemory {
            owner_word: OwnerWord::new(),
            cells: (0..seats).map(|_| SeatState::new()).collect(),
            seats_used: SeatsUsed::new(),
            header: MailboxHeader::new(),
            buffers: Buffers::default(),
            value: Watched::default(),
        };
        memory.header.start_at(version);
        Self { memory: Arc::new(memory), host: Parking::new() }
    }

    /// Returns the value that the lock guards.
    pub fn value(&self) -> &Watched {
        &self.memory.value
    }
}

// SAFETY: the parts of one lock; this host reclaims no participant.
unsafe impl rwlock::Parts for Lock {
    type Host = Parking;

    fn host(&self) -> &Parking {
        &self.host
    }
    fn owner_word(&self) -> &OwnerWord {
        &self.memory.owner_word
    }
    fn cells(&self) -> &[SeatState] {
        &self.memory.cells
    }
    fn seats_used(&self) -> &SeatsUsed {
        &self.memory.seats_used
    }
}

// SAFETY: as above.
unsafe impl mailbox::Parts for Lock {
    type Payload = Buffers;

    fn header(&self) -> &MailboxHeader {
        &self.memory.header
    }
    fn payload(&self) -> &Buffers {
        &self.memory.buffers
    }
}

/// Two buffers of one word each.
#[derive(Default)]
pub struct Buffers([Watched; 2]);

// SAFETY: a constant.
unsafe impl Payload for Buffers {
    fn capacity(&self) -> usize {
        4
    }

    unsafe fn fill(&self, index: usize, message: &[u8]) {
        self.0[index].set(u32::from_le_bytes(message.try_into().expect("the runs write whole words")));
    }

    unsafe fn copy(&self, index: usize, into: &mut [u8]) {
        let value = self.0[index].get().to_le_bytes();
        into.copy_from_slice(&value[..into.len()]);
    }
}
