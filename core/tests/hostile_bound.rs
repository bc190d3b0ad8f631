//! A peer that changes its words at every look. A call with a deadline must not look forever.

mod common;

use common::{Alone, create, regions};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use whorl_core::layout::Geometry;
use whorl_core::ring::{
    ClaimSize, Control, Membership, Parts, PendingReceiver, ReceiverEntry, Sender, SenderParts, SenderState,
    SenderStateView,
};

/// The words of seat 0, as `core/src/layout/ring.rs` draws the control region.
const SEAT: usize = 1024;
const CURSOR: usize = SEAT + 2;

/// The parts of a ring. Each time a participant looks at the seats, one word changes to the other of two values.
struct Fickle<'m, R> {
    ring: R,
    word: &'m AtomicU32,
    values: [u32; 2],
    looks: Rc<Cell<Option<usize>>>,
}

// SAFETY: the ring's own parts; the word is atomic and belongs to the ring, and a peer may write it.
unsafe impl<R: Parts> Parts for Fickle<'_, R> {
    type Host = R::Host;
    type Cells = R::Cells;

    fn host(&self) -> &R::Host {
        self.ring.host()
    }
    fn sender_state(&self) -> SenderStateView<'_> {
        self.ring.sender_state()
    }
    fn control(&self) -> &Control {
        self.ring.control()
    }
    fn receivers(&self) -> &[ReceiverEntry] {
        if let Some(looks) = self.looks.get() {
            self.word.store(self.values[looks % 2], Relaxed);
            self.looks.set((looks < 1000).then_some(looks + 1));
            assert!(looks < 1000, "the call looks forever, although its deadline has passed");
        }
        self.ring.receivers()
    }
    fn cells(&self) -> &R::Cells {
        self.ring.cells()
    }
}

// SAFETY: as above.
unsafe impl<R: SenderParts> SenderParts for Fickle<'_, R> {
    fn sender_state_to_write(&self) -> &SenderState {
        self.ring.sender_state_to_write()
    }
}

#[test]
fn draining_ends_although_a_receiver_moves_its_cursor_back() {
    let geometry = Geometry::new(64, 1).unwrap();
    let memory = regions(geometry);
    let owned = create(&memory, geometry, Alone::default());
    let ring = owned.ring();
    let looks = Rc::new(Cell::new(None));
    let parts = Fickle { ring: owned, word: memory[1].word(CURSOR), values: [0, 1], looks: looks.clone() };
    // SAFETY: the only sender of this ring.
    let mut sender = unsafe { Sender::new(parts) };
    // SAFETY: the only membership of this ring.
    let membership = unsafe { Membership::new(ring.clone()) };
    let pending = PendingReceiver::request_seat(ring, 0, true, 1).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(membership.admit_all(), 1);
    let _receiver = pending.admitted(Some(())).unwrap_or_else(|why| panic!("{why}"));
    sender.try_claim(ClaimSize::exactly(0)).unwrap().publish(0);
    looks.set(Some(0));
    assert_eq!(sender.drain(Some(())), Ok(()));
}

#[test]
fn asking_ends_although_a_peer_reverts_each_decision() {
    const ASKING: u32 = 1;
    const ACTIVE: u32 = 4;
    let geometry = Geometry::new(64, 1).unwrap();
    let memory = regions(geometry);
    let owned = create(&memory, geometry, Alone::default());
    let looks = Rc::new(Cell::new(None));
    let word = memory[1].word(SEAT);
    let parts = Fickle { ring: owned.ring(), word, values: [ASKING, ACTIVE], looks: looks.clone() };
    let pending = PendingReceiver::request_seat(parts, 0, true, 1).unwrap_or_else(|why| panic!("{why}"));
    looks.set(Some(0));
    assert!(pending.admitted(Some(())).is_ok());
}
