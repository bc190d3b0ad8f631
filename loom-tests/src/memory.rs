//! The memory of a ring, as a model owns it, and slots that loom watches.

use crate::error::ReadError;
use crate::parking::Parking;
use crate::ring::{Control, Membership, PendingReceiver, ReceiverEntry, SenderState, SenderStateView};
use crate::ring::{Parts, Receiver, Sender, SenderParts, Slots};
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};
use loom::cell::UnsafeCell;
use std::sync::Arc;

/// A ring's parts, on the heap. Each model makes its own.
struct Memory<S> {
    head: SenderState,
    control: Control,
    receivers: Vec<ReceiverEntry>,
    slots: S,
}

/// A handle to a ring's memory, with its host.
pub struct Ring<S> {
    memory: Arc<Memory<S>>,
    host: Parking,
}

impl<S> Clone for Ring<S> {
    fn clone(&self) -> Self {
        Self { memory: self.memory.clone(), host: self.host.clone() }
    }
}

impl<S: Slots> Ring<S> {
    /// Returns a ring over `slots` for `seats` receivers, whose first item has sequence `first`.
    pub fn new(slots: S, seats: u32, first: u32) -> Self {
        let head = SenderState::new(Sequence::default());
        head.start_at(Sequence::from_word(first));
        let memory = Memory {
            head,
            control: Control::new(),
            receivers: (0..seats).map(|_| ReceiverEntry::new()).collect(),
            slots,
        };
        Self { memory: Arc::new(memory), host: Parking::new() }
    }

    /// Returns the only sender of the ring. Each model calls this once.
    pub fn sender(&self) -> Sender<Self> {
        // SAFETY: the models keep to one sender for each ring.
        unsafe { Sender::new(self.clone()) }
    }

    /// Returns the membership of the ring. Each model calls this once.
    pub fn membership(&self) -> Membership<Self> {
        // SAFETY: the models use one membership at a time.
        unsafe { Membership::new(self.clone()) }
    }

    /// Requests `seat`.
    ///
    /// # Panics
    /// If it is taken.
    pub fn request_seat(&self, seat: u32, from_first: bool) -> PendingReceiver<Self> {
        PendingReceiver::request_seat(self.clone(), seat, from_first, 0)
            .unwrap_or_else(|why| panic!("seat {seat}: {why}"))
    }

    /// Admits a receiver in `seat` at once, before the threads of a model start.
    pub fn join(&self, seat: u32) -> Receiver<Self> {
        self.join_as(self.clone(), seat)
    }

    /// Admits a receiver in `seat` that uses `handle`.
    ///
    /// # Panics
    /// If it is not admitted.
    pub fn join_as(&self, handle: Self, seat: u32) -> Receiver<Self> {
        let pending = PendingReceiver::request_seat(handle, seat, true, 0)
            .unwrap_or_else(|why| panic!("seat {seat}: {why}"));
        self.membership().admit_all();
        admitted(pending)
    }

    /// Returns a handle to this ring for a participant that can die.
    pub fn mortal(&self) -> Self {
        Self { memory: self.memory.clone(), host: self.host.mortal() }
    }

    /// Returns the state and the generation of `seat`.
    pub fn occupancy(&self, seat: u32) -> crate::seat::Occupancy {
        self.memory.receivers[seat as usize].seat.occupancy()
    }
}

/// Returns the sender of `ring` and a receiver in seat 0, after the first lap and with a full ring of zeroes to read.
/// On its first lap a sender fences once more, which would hide a weakened *release*.
///
/// # Panics
/// If the ring is not fresh.
pub fn after_a_lap(ring: &Ring<Cells>) -> (Sender<Ring<Cells>>, Receiver<Ring<Cells>>) {
    let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
    for lap in 0..2 {
        for _ in 0..ring.slots().count() {
            assert!(try_send(&mut sender, 0), "a fresh ring");
        }
        for _ in 0..ring.slots().count() * (1 - lap) {
            assert_eq!(try_take(&mut receiver), Ok(0), "a fresh ring");
        }
    }
    (sender, receiver)
}

/// Publishes one item if a slot is free now.
pub fn try_send<P: SenderParts<Slots = Cells>>(sender: &mut Sender<P>, value: u32) -> bool {
    let Ok(mut claim) = sender.try_claim(1) else { return false };
    claim.slot(0).set(value);
    claim.publish(1);
    true
}

/// Publishes one item, and waits for a slot.
pub fn send<P: SenderParts<Slots = Cells, Host = Parking>>(sender: &mut Sender<P>, value: u32) {
    let mut claim = sender.claim(1, None).unwrap();
    claim.slot(0).set(value);
    claim.publish(1);
}

/// Takes one item if one is published: reads it in place, then gives it back.
pub fn try_take<P: Parts<Slots = Cells>>(receiver: &mut Receiver<P>) -> Result<u32, ReadError> {
    let run = receiver.try_read()?;
    let value = run.item(0).get();
    run.release(1);
    Ok(value)
}

/// Takes one item, and waits for it.
pub fn take<P: Parts<Slots = Cells, Host = Parking>>(receiver: &mut Receiver<P>) -> Result<u32, ReadError> {
    let run = receiver.read(None)?;
    let value = run.item(0).get();
    run.release(1);
    Ok(value)
}

/// Returns the receiver that an admitted pending receiver becomes.
///
/// # Panics
/// If it was not admitted.
pub fn admitted<P: Parts>(pending: PendingReceiver<P>) -> Receiver<P> {
    pending.try_admitted().unwrap_or_else(|(why, _)| panic!("{why}"))
}

// SAFETY: the parts of one memory; the host reclaims only what a model has declared dead.
unsafe impl<S: Slots> Parts for Ring<S> {
    type Host = Parking;
    type Slots = S;

    fn host(&self) -> &Parking {
        self.host.step();
        &self.host
    }
    fn sender_state(&self) -> SenderStateView<'_> {
        self.host.step();
        self.memory.head.view()
    }
    fn control(&self) -> &Control {
        self.host.step();
        &self.memory.control
    }
    fn receivers(&self) -> &[ReceiverEntry] {
        self.host.step();
        &self.memory.receivers
    }
    fn slots(&self) -> &S {
        self.host.step();
        &self.memory.slots
    }
}

// SAFETY: as above.
unsafe impl<S: Slots> SenderParts for Ring<S> {
    fn sender_state_to_write(&self) -> &SenderState {
        &self.memory.head
    }
}

/// Slots that loom watches: a read that can meet a write fails the model, whatever the values.
pub struct Cells(Vec<UnsafeCell<u32>>);

impl Cells {
    /// Returns `count` slots.
    pub fn new(count: u32) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(u32::MAX)).collect())
    }
}

// SAFETY: `UnsafeCell` of loom's checks every access; the ring's protocol, which the models try, keeps them apart.
unsafe impl Sync for Cells {}

/// One slot of [`Cells`].
pub struct Cell<'a>(&'a UnsafeCell<u32>);

impl Cell<'_> {
    /// Returns what the slot holds.
    pub fn get(&self) -> u32 {
        // SAFETY: the ring gave the slot out to be read; loom checks that no thread writes it.
        self.0.with(|value| unsafe { *value })
    }

    /// Fills a claimed slot.
    pub fn set(&mut self, value: u32) {
        // SAFETY: the ring gave the slot out to be written; loom checks that no other thread uses it.
        self.0.with_mut(|old| unsafe { *old = value });
    }
}

// SAFETY: of constant measures.
unsafe impl Slots for Cells {
    type Writer<'a> = Cell<'a>;
    type Reader<'a> = Cell<'a>;

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
    unsafe fn writer(&self, index: u32) -> Cell<'_> {
        Cell(&self.0[index as usize])
    }
    unsafe fn reader(&self, index: u32) -> Cell<'_> {
        Cell(&self.0[index as usize])
    }
}

/// Slots of a ring that evicts: two words each, copied word by word, so a torn copy shows.
pub struct Words(Vec<[AtomicU32; 2]>);

impl Words {
    /// Returns `count` slots.
    pub fn new(count: u32) -> Self {
        Self((0..count).map(|_| [AtomicU32::new(0), AtomicU32::new(0)]).collect())
    }
}

/// One slot of [`Words`].
pub struct Pair<'a>(&'a [AtomicU32; 2]);

impl Pair<'_> {
    /// Copies the slot.
    pub fn copy(&self) -> [u32; 2] {
        // Relaxed: `Batch::validate` fences after the copy.
        [self.0[0].load(Ordering::Relaxed), self.0[1].load(Ordering::Relaxed)]
    }

    /// Fills a claimed slot.
    pub fn set(&mut self, value: u32) {
        // Relaxed: *publish*, and the sender's fence before it writes over the slots of an evicted receiver.
        self.0[0].store(value, Ordering::Relaxed);
        self.0[1].store(value, Ordering::Relaxed);
    }
}

// SAFETY: of constant measures.
unsafe impl Slots for Words {
    type Writer<'a> = Pair<'a>;
    type Reader<'a> = Pair<'a>;

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
    unsafe fn writer(&self, index: u32) -> Pair<'_> {
        Pair(&self.0[index as usize])
    }
    unsafe fn reader(&self, index: u32) -> Pair<'_> {
        Pair(&self.0[index as usize])
    }
    fn may_evict(&self) -> bool {
        true
    }
}
