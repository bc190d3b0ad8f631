//! Receivers that sleep in event loops of their own, which are notified over their sockets.

use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::socket::send_with_descriptors;
use crate::os::thread::unpoisoned;
use crate::registry::protocol::{ControlMessage, Record};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The sockets of receivers that sleep in poll(2), by place.
#[derive(Default)]
pub(crate) struct PollWaiters {
    any: AtomicBool,
    sockets: Mutex<HashMap<u32, Arc<CloseOnForkFd>>>,
}

impl PollWaiters {
    pub(super) fn add(&self, place: u32, socket: &Arc<CloseOnForkFd>) {
        self.lock().insert(place, socket.clone());
        // Relaxed: the caller notifies the receiver afterwards, so it checks again.
        self.any.store(true, Ordering::Relaxed);
    }

    /// Removes a receiver that would be notified over this socket.
    pub(super) fn remove(&self, place: u32, socket: &Arc<CloseOnForkFd>) {
        let mut sockets = self.lock();
        if sockets.get(&place).is_some_and(|known| Arc::ptr_eq(known, socket)) {
            sockets.remove(&place);
        }
        self.any.store(!sockets.is_empty(), Ordering::Relaxed);
    }

    /// Notifies the receivers for which `is_asleep` returns true. Never waits. A receiver with a full socket has a
    /// notification already.
    pub(super) fn notify(&self, is_asleep: impl Fn(u32) -> bool) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        for (place, socket) in self.lock().iter() {
            if is_asleep(*place) {
                let _ = send_with_descriptors(socket, &Record::plain(ControlMessage::Changed).encode(), &[]);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<CloseOnForkFd>>> {
        unpoisoned(&self.sockets)
    }
}
