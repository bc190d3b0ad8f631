//! A ring together with the memory it lies in: what keeps a mapping alive while anybody uses it.

use std::sync::Arc;
use whorl_core::host::Host;
use whorl_core::layout::{Geometry, OwnedRing, Ring};
use whorl_core::ring::{
    ByteSlots, Control, Membership, Parts, ReceiverEntry, Sender, SenderParts, SenderState, SenderStateView,
};

/// A ring as receivers see it, in memory `M` that it keeps alive. The kind of memory goes with its host, so the wrong
/// futex for it cannot be named.
pub struct MappedRing<H, M> {
    ring: Ring<'static, H>,
    _memory: Arc<M>,
}

/// A ring as its sender sees it, in memory that it keeps alive.
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
    /// # Safety
    /// - `ring` lies in `memory`, which stays where it is until it is dropped.
    pub(crate) unsafe fn new(ring: Ring<'static, H>, memory: Arc<M>) -> Self {
        Self { ring, _memory: memory }
    }

    /// The ring's measures.
    pub fn geometry(&self) -> Geometry {
        self.ring.geometry()
    }

    /// What tells this ring from others.
    pub fn nonce(&self) -> u64 {
        self.ring.nonce()
    }
}

impl<H: Host + Clone, M> MappedRingOwner<H, M> {
    /// # Safety
    /// - `ring` lies in `memory`, which stays where it is until it is dropped.
    pub(crate) unsafe fn new(ring: OwnedRing<'static, H>, memory: Arc<M>) -> Self {
        Self { ring, memory }
    }

    /// The same ring as receivers see it.
    pub fn ring(&self) -> MappedRing<H, M> {
        MappedRing { ring: self.ring.ring(), _memory: self.memory.clone() }
    }

    /// The sender, and the membership that admits its receivers.
    pub fn into_sender(self) -> (Sender<Self>, Membership<MappedRing<H, M>>) {
        // SAFETY: an `OwnedRing` exists once for its memory, and it is consumed here.
        let membership = unsafe { Membership::new(self.ring()) };
        // SAFETY: as above.
        (unsafe { Sender::new(self) }, membership)
    }
}

macro_rules! parts_of_the_ring_inside {
    ($type:ident) => {
        // SAFETY: the parts of the one ring inside.
        unsafe impl<H: Host, M> Parts for $type<H, M> {
            type Host = H;
            type Slots = ByteSlots<'static>;

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
            fn slots(&self) -> &ByteSlots<'static> {
                self.ring.slots()
            }
        }
    };
}
parts_of_the_ring_inside!(MappedRing);
parts_of_the_ring_inside!(MappedRingOwner);

// SAFETY: as above.
unsafe impl<H: Host, M> SenderParts for MappedRingOwner<H, M> {
    fn sender_state_to_write(&self) -> &SenderState {
        self.ring.sender_state_to_write()
    }
}
