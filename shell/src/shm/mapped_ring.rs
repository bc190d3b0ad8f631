//! A ring together with the memory that holds it. The memory stays mapped until the last user of the ring drops it.

use std::sync::Arc;
use whorl_core::host::Host;
use whorl_core::layout::{Geometry, OwnedRing, Ring};
use whorl_core::ring::{
    ByteCells, Control, Membership, Parts, ReceiverEntry, Sender, SenderParts, SenderState, SenderStateView,
};

/// A ring as a receiver uses it, in memory `M` that it keeps alive. The type fixes the host together with the kind of memory, so
/// a program cannot combine a memory with the wrong futex.
#[derive(Debug)]
pub struct MappedRing<H, M> {
    ring: Ring<'static, H>,
    _memory: Arc<M>,
}

/// A ring as its sender uses it, in memory that it keeps alive.
#[derive(Debug)]
pub struct MappedRingOwner<H, M> {
    ring: OwnedRing<'static, H>,
    memory: Arc<M>,
}

impl<H: Clone, M> Clone for MappedRing<H, M> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), _memory: self._memory.clone() }
    }
}

impl<H: Host + Clone, M> MappedRing<H, M> {
    /// Joins a ring with the memory that holds it.
    ///
    /// # Safety
    /// - `ring` lies in `memory`. The memory keeps its address until `memory` is dropped.
    pub(crate) unsafe fn new(ring: Ring<'static, H>, memory: Arc<M>) -> Self {
        Self { ring, _memory: memory }
    }

    /// Returns the ring's geometry.
    pub fn geometry(&self) -> Geometry {
        self.ring.geometry()
    }

    /// Returns the number that distinguishes this ring from others.
    pub fn nonce(&self) -> u64 {
        self.ring.nonce()
    }
}

impl<H: Host + Clone, M> MappedRingOwner<H, M> {
    /// Joins a ring with the memory that holds it.
    ///
    /// # Safety
    /// - `ring` lies in `memory`. The memory keeps its address until `memory` is dropped.
    pub(crate) unsafe fn new(ring: OwnedRing<'static, H>, memory: Arc<M>) -> Self {
        Self { ring, memory }
    }

    /// Returns this ring as a receiver uses it.
    pub fn ring(&self) -> MappedRing<H, M> {
        MappedRing { ring: self.ring.ring(), _memory: self.memory.clone() }
    }

    /// Returns the sender, and the membership that admits its receivers.
    pub fn into_sender(self) -> (Sender<Self>, Membership<MappedRing<H, M>>) {
        // SAFETY: each memory has one `OwnedRing`, and this call consumes it. So this is the ring's only membership.
        let membership = unsafe { Membership::new(self.ring()) };
        // SAFETY: for the same reason, this is the ring's only sender.
        (unsafe { Sender::new(self) }, membership)
    }
}

macro_rules! parts_of_the_ring_inside {
    ($type:ident) => {
        // SAFETY: each function returns the part of one and the same ring, and that ring upholds the contract of `Parts`.
        unsafe impl<H: Host, M> Parts for $type<H, M> {
            type Host = H;
            type Cells = ByteCells<'static>;

            fn host(&self) -> &H {
                self.ring.host()
            }
            fn sender_state(&self) -> SenderStateView<'_> {
                self.ring.sender_state()
            }
            fn control(&self) -> &Control {
                self.ring.control()
            }
            fn receivers(&self) -> &[ReceiverEntry] {
                self.ring.receivers()
            }
            fn cells(&self) -> &ByteCells<'static> {
                self.ring.cells()
            }
        }
    };
}
parts_of_the_ring_inside!(MappedRing);
parts_of_the_ring_inside!(MappedRingOwner);

// SAFETY: the sender state is the one of the ring in `self`, whose `OwnedRing` exists once.
unsafe impl<H: Host, M> SenderParts for MappedRingOwner<H, M> {
    fn sender_state_to_write(&self) -> &SenderState {
        self.ring.sender_state_to_write()
    }
}
