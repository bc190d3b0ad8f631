//! The memory of a lock and a mailbox, as a model owns it, with a payload that loom watches.

use crate::mailbox::{self, Mailbox, MailboxHeader, Payload};
use crate::parking::Parking;
use crate::rwlock::{self, Actor, OwnerWord, Participant, SeatState, SeatsUsed, Step};
use loom::cell::UnsafeCell;
use std::sync::Arc;

struct Memory {
    owner_word: OwnerWord,
    cells: Vec<SeatState>,
    seats_used: SeatsUsed,
    header: MailboxHeader,
    buffers: Buffers,
    value: UnsafeCell<u32>,
}

// SAFETY: loom's `UnsafeCell` checks every access; the lock, which the models try, keeps them apart.
unsafe impl Sync for Memory {}

/// A handle to a lock with a value and a mailbox behind it, and its host.
#[derive(Clone)]
pub struct Lock {
    memory: Arc<Memory>,
    host: Parking,
}

impl Lock {
    /// Returns a free lock with `seats` seats, all of which count as taken. The last owner was seat 0.
    pub fn new(seats: u32) -> Self {
        Self::with_version(seats, 0)
    }

    /// Returns such a lock whose mailbox has an empty message of `version`.
    pub fn with_version(seats: u32, version: u64) -> Self {
        let memory = Memory {
            owner_word: OwnerWord::new(),
            cells: (0..seats).map(|_| SeatState::new()).collect(),
            seats_used: SeatsUsed::new(),
            header: MailboxHeader::new(),
            buffers: Buffers([UnsafeCell::new([0; 2]), UnsafeCell::new([0; 2])]),
            value: UnsafeCell::new(0),
        };
        memory.seats_used.raise(seats - 1);
        memory.header.start_at(version);
        Self { memory: Arc::new(memory), host: Parking::new() }
    }

    /// Returns the participant in `seat`. Each model has one participant for each seat at a time.
    pub fn occupy(&self, seat: u32) -> Participant<Self> {
        // SAFETY: the models keep to one participant for each seat.
        unsafe { Participant::new(self.clone(), seat) }
    }

    /// Returns the mailbox of the participant in `seat`.
    pub fn mailbox(&self, seat: u32) -> Mailbox<Self> {
        // SAFETY: as above.
        unsafe { Mailbox::new(self.clone(), seat) }
    }

    /// Reads the value. Loom fails the model unless every write is visible and no write is in progress.
    pub fn get(&self) -> u32 {
        // SAFETY: loom checks.
        self.memory.value.with(|value| unsafe { *value })
    }

    /// Adds 1 to the value. Loom fails the model if another thread uses the value meanwhile.
    pub fn add(&self) {
        // SAFETY: loom checks.
        self.memory.value.with_mut(|value| unsafe { *value += 1 });
    }

    /// Takes steps for the occupant of `seat`, from `at` on: at most `steps`, and fewer if a step sleeps, or if it is
    /// in or out.
    pub fn take(&self, seat: u16, at: Step, steps: u32) -> Step {
        self.walk(Actor { seat, reclaiming: false }, at, steps)
    }

    /// Reclaims the occupant of `seat`, with a reclaimer that dies after `steps` steps.
    pub fn reclaim_for(&self, seat: u16, steps: u32) {
        self.walk(Actor { seat, reclaiming: true }, Step::Reclaim, steps);
    }

    /// Reclaims the occupant of `seat`.
    pub fn reclaim(&self, seat: u32) {
        // SAFETY: the models reclaim only an occupant that will not act again, or check what happens otherwise.
        unsafe { rwlock::reclaim(self, seat) };
    }

    fn walk(&self, actor: Actor, mut at: Step, steps: u32) -> Step {
        for _ in 0..steps {
            // SAFETY: the models have one actor for each seat at a time.
            at = unsafe { at.take(self, actor) };
            if at.is_settled() || at.sleeps(actor).is_some() {
                break;
            }
        }
        at
    }

    /// Checks that no participant is in, or wants to be.
    ///
    /// # Panics
    /// If one is.
    pub fn assert_idle(&self) {
        drop(self.occupy(0).try_write().expect("no participant is in or waits"));
    }
}

// SAFETY: the parts of one lock; the models reclaim only an occupant that will not act again, or check what happens
// otherwise.
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

/// Two buffers of two bytes that loom watches: a reader that meets a writer fails the model, whatever the values.
pub struct Buffers([UnsafeCell<[u8; 2]>; 2]);

// SAFETY: a constant.
unsafe impl Payload for Buffers {
    fn capacity(&self) -> usize {
        2
    }

    unsafe fn fill(&self, index: usize, message: &[u8]) {
        // SAFETY: loom checks that no other thread uses it.
        let buffer = |buffer: *mut [u8; 2]| unsafe { &mut *buffer };
        self.0[index].with_mut(|raw| buffer(raw)[..message.len()].copy_from_slice(message));
    }

    unsafe fn copy(&self, index: usize, into: &mut [u8]) {
        // SAFETY: loom checks that no thread writes it.
        let buffer = |buffer: *const [u8; 2]| unsafe { &*buffer };
        self.0[index].with(|raw| into.copy_from_slice(&buffer(raw)[..into.len()]));
    }
}
