//! The memory of a ring, as a model owns it, and cells that loom watches.

use crate::error::ReadError;
use crate::parking::Parking;
use crate::ring::{Batch, CELL, Cells, ClaimSize, Parts, Receiver, Sender, SenderParts};
use crate::ring::{Control, Membership, PendingReceiver, ReceiverEntry, SenderState, SenderStateView};
use crate::sequence::Sequence;
use crate::sync::{AtomicU32, Ordering};
use loom::cell::UnsafeCell;
use std::sync::Arc;

/// A ring's parts, on the heap. Each model makes its own.
struct Memory<S> {
    head: SenderState,
    control: Control,
    receivers: Vec<ReceiverEntry>,
    cells: S,
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

impl<S: Cells> Ring<S> {
    /// Returns a ring over `cells` for `seats` receivers, whose first message lies at position `first`.
    pub fn new(cells: S, seats: u32, first: u32) -> Self {
        let head = SenderState::new(Sequence::default());
        head.start_at(Sequence::from_word(first));
        let memory = Memory {
            head,
            control: Control::new(),
            receivers: (0..seats).map(|_| ReceiverEntry::new()).collect(),
            cells,
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
pub fn after_a_lap(ring: &Ring<Watched>) -> (Sender<Ring<Watched>>, Receiver<Ring<Watched>>) {
    let (mut sender, mut receiver) = (ring.sender(), ring.join(0));
    for lap in 0..2 {
        for _ in 0..ring.cells().count() {
            assert!(try_send(&mut sender, 0), "a fresh ring");
        }
        for _ in 0..ring.cells().count() * (1 - lap) {
            assert_eq!(try_take(&mut receiver), Ok(0), "a fresh ring");
        }
    }
    (sender, receiver)
}

/// Publishes a message of one cell if there is room now.
pub fn try_send<P: SenderParts<Cells = Watched>>(sender: &mut Sender<P>, value: u32) -> bool {
    try_send_of(sender, 0, value)
}

/// Publishes a message with a payload of `length` bytes if there is room now.
pub fn try_send_of<P: SenderParts<Cells = Watched>>(sender: &mut Sender<P>, length: u32, value: u32) -> bool {
    let Ok(mut claim) = sender.try_claim(ClaimSize::exactly(length)) else { return false };
    claim.writer().set(value);
    claim.publish(length);
    true
}

/// Publishes a message of one cell, and waits for room.
pub fn send<P: SenderParts<Cells = Watched, Host = Parking>>(sender: &mut Sender<P>, value: u32) {
    let mut claim = sender.claim(ClaimSize::exactly(0), None).unwrap();
    claim.writer().set(value);
    claim.publish(0);
}

/// Takes one message if one is published: reads it in place, then gives it back.
pub fn try_take<P: Parts<Cells = Watched>>(receiver: &mut Receiver<P>) -> Result<u32, ReadError> {
    take_from(receiver.try_read()?)
}

/// Takes one message, and waits for it.
pub fn take<P: Parts<Cells = Watched, Host = Parking>>(receiver: &mut Receiver<P>) -> Result<u32, ReadError> {
    take_from(receiver.read(None)?)
}

fn take_from<P: Parts<Cells = Watched>>(mut batch: Batch<'_, P>) -> Result<u32, ReadError> {
    let value = read(&mut batch)?;
    batch.release();
    Ok(value)
}

/// Reads the next message of a batch in place.
///
/// # Panics
/// If there is none.
pub fn read<P: Parts<Cells = Watched>>(batch: &mut Batch<'_, P>) -> Result<u32, ReadError> {
    Ok(batch.next_frame()?.expect("a message").payload().get())
}

/// Returns the receiver that an admitted pending receiver becomes.
///
/// # Panics
/// If it was not admitted.
pub fn admitted<P: Parts>(pending: PendingReceiver<P>) -> Receiver<P> {
    pending.try_admitted().unwrap_or_else(|(why, _)| panic!("{why}"))
}

// SAFETY: the parts of one memory; the host reclaims only what a model has declared dead.
unsafe impl<S: Cells> Parts for Ring<S> {
    type Host = Parking;
    type Cells = S;

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
    fn cells(&self) -> &S {
        self.host.step();
        &self.memory.cells
    }
}

// SAFETY: as above.
unsafe impl<S: Cells> SenderParts for Ring<S> {
    fn sender_state_to_write(&self) -> &SenderState {
        &self.memory.head
    }
}

/// Cells that loom watches, headers and payloads: a read that can meet a write fails the model, whatever the values.
pub struct Watched(Vec<(UnsafeCell<[u32; 2]>, UnsafeCell<u32>)>);

impl Watched {
    /// Returns `count` cells.
    pub fn new(count: u32) -> Self {
        Self((0..count).map(|_| (UnsafeCell::new([u32::MAX; 2]), UnsafeCell::new(u32::MAX))).collect())
    }

    fn payload(&self, cell: u32, length: u32) -> Payload<'_> {
        let cells = 1 + (length as usize).div_ceil(CELL);
        Payload(&self.0[cell as usize..][..cells])
    }
}

// SAFETY: `UnsafeCell` of loom's checks every access; the ring's protocol, which the models try, keeps them apart.
unsafe impl Sync for Watched {}

/// The payload of a frame in [`Watched`]: one value, kept in each of its cells.
pub struct Payload<'a>(&'a [(UnsafeCell<[u32; 2]>, UnsafeCell<u32>)]);

impl Payload<'_> {
    /// Returns the value.
    ///
    /// # Panics
    /// If the cells hold different ones.
    pub fn get(&self) -> u32 {
        // SAFETY: the ring gave the cells out to be read; loom checks that no thread writes them.
        let mut values = self.0.iter().map(|(_, value)| value.with(|value| unsafe { *value }));
        let first = values.next().expect("a cell");
        assert!(values.all(|value| value == first), "cells of two messages");
        first
    }

    /// Fills claimed cells.
    pub fn set(&mut self, new: u32) {
        for (_, value) in self.0 {
            // SAFETY: the ring gave the cells out to be written; loom checks that no other thread uses them.
            value.with_mut(|value| unsafe { *value = new });
        }
    }
}

// SAFETY: of constant measures.
unsafe impl Cells for Watched {
    type Writer<'a> = Payload<'a>;
    type Reader<'a> = Payload<'a>;

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
    unsafe fn load_words(&self, cell: u32) -> [u32; 2] {
        // SAFETY: the caller may read the cell; loom checks that no thread writes it.
        self.0[cell as usize].0.with(|words| unsafe { *words })
    }
    unsafe fn store_words(&self, cell: u32, new: [u32; 2]) {
        // SAFETY: the caller may write the cell; loom checks that no other thread uses it.
        self.0[cell as usize].0.with_mut(|words| unsafe { *words = new });
    }
    unsafe fn writer(&self, cell: u32, length: u32) -> Payload<'_> {
        self.payload(cell, length)
    }
    unsafe fn reader(&self, cell: u32, length: u32) -> Payload<'_> {
        self.payload(cell, length)
    }
}

/// Cells of a ring that evicts. Each has two words that are copied one by one, so a torn copy shows. Another pair of words
/// holds the payload of a frame of one cell; that of a longer frame begins in its second cell, as in memory.
pub struct Words(Vec<([AtomicU32; 2], [AtomicU32; 2])>);

impl Words {
    /// Returns `count` cells.
    pub fn new(count: u32) -> Self {
        let pair = || [AtomicU32::new(0), AtomicU32::new(0)];
        Self((0..count).map(|_| (pair(), pair())).collect())
    }

    fn payload(&self, cell: u32, length: u32) -> Pair<'_> {
        Pair(match length {
            0 => &self.0[cell as usize].1,
            _ => &self.0[cell as usize + 1].0,
        })
    }
}

/// The payload of a frame in [`Words`].
pub struct Pair<'a>(&'a [AtomicU32; 2]);

impl Pair<'_> {
    /// Copies the payload.
    pub fn copy(&self) -> [u32; 2] {
        // Relaxed: `Batch::validate` fences after the copy.
        [self.0[0].load(Ordering::Relaxed), self.0[1].load(Ordering::Relaxed)]
    }

    /// Fills a claimed payload.
    pub fn set(&mut self, value: u32) {
        // Relaxed: *publish*, and the sender's fence before it writes over the cells of an evicted receiver.
        self.0[0].store(value, Ordering::Relaxed);
        self.0[1].store(value, Ordering::Relaxed);
    }
}

// SAFETY: of constant measures.
unsafe impl Cells for Words {
    type Writer<'a> = Pair<'a>;
    type Reader<'a> = Pair<'a>;

    fn count(&self) -> u32 {
        self.0.len() as u32
    }
    unsafe fn load_words(&self, cell: u32) -> [u32; 2] {
        // Relaxed: as for the payload.
        self.0[cell as usize].0.each_ref().map(|word| word.load(Ordering::Relaxed))
    }
    unsafe fn store_words(&self, cell: u32, new: [u32; 2]) {
        // Relaxed: as for the payload.
        self.0[cell as usize].0.iter().zip(new).for_each(|(word, new)| word.store(new, Ordering::Relaxed));
    }
    unsafe fn writer(&self, cell: u32, length: u32) -> Pair<'_> {
        self.payload(cell, length)
    }
    unsafe fn reader(&self, cell: u32, length: u32) -> Pair<'_> {
        self.payload(cell, length)
    }
    fn may_evict(&self) -> bool {
        true
    }
}
