//! A worker's queue: messages of other threads, and a descriptor that wakes the worker.

use super::budget::Share;
use super::lobby::Ticket;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::event_fd::EventFd;
use crate::os::thread::unpoisoned;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::sync::{Arc, Mutex};

/// Identifies a connection of a worker. A later connection in its place has another one.
pub type Key = u64;

/// A request to a worker.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Serve this client.
    Serve {
        /// Its socket.
        socket: CloseOnForkFd,
        /// Its ticket, if it must send a token and is in the lobby until then.
        ticket: Option<Ticket>,
        /// Its address's share of the memory for data in flight.
        share: Option<Arc<Share>>,
    },
    /// Close this client of the lobby, because another one needs its place.
    MakeRoom(Ticket),
    /// This mailbox may have a new message, and clients of the worker wait for it.
    Changed(u32),
    /// Send the last line to clients between requests, and let the others finish.
    Stop,
    /// Send every client the last line.
    StopNow,
    /// Close what is still open, and end.
    End,
}

/// A queue of messages.
#[derive(Debug)]
pub struct WorkerQueue {
    messages: Mutex<Vec<WorkerMessage>>,
    event: EventFd,
}

impl WorkerQueue {
    /// Returns an empty queue.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { messages: Mutex::new(Vec::new()), event: EventFd::new()? })
    }

    /// Adds a message.
    pub fn send(&self, message: WorkerMessage) {
        let mut messages = unpoisoned(&self.messages);
        messages.push(message);
        // The thread that added the first message has signalled, and the worker takes all messages together.
        if messages.len() == 1 {
            self.event.signal();
        }
    }

    /// Takes all messages. `into` is empty. Its memory becomes the queue's.
    pub fn collect(&self, into: &mut Vec<WorkerMessage>) {
        let mut messages = unpoisoned(&self.messages);
        self.event.drain();
        std::mem::swap(&mut *messages, into);
    }
}

impl AsFd for WorkerQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
