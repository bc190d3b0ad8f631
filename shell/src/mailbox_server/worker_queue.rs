//! A worker's queue: the messages of other threads, and a descriptor that wakes the worker.

use super::budget::Share;
use super::lobby::Ticket;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::event_fd::EventFd;
use crate::os::thread::unpoisoned;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::sync::{Arc, Mutex};

/// Names a connection of a worker, and never a later one in its place.
pub type Key = u64;

/// What a worker is asked to do.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Look after this client.
    Serve {
        /// Its socket.
        socket: CloseOnForkFd,
        /// It must send a token, and is in the lobby until then.
        ticket: Option<Ticket>,
        /// Its address's share of the memory for data in flight.
        share: Option<Arc<Share>>,
    },
    /// Send this client of the lobby away: another needs its place.
    MakeRoom(Ticket),
    /// A message may have come to this mailbox, for which clients of the worker wait.
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
    /// An empty one.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { messages: Mutex::new(Vec::new()), event: EventFd::new()? })
    }

    /// Adds a message.
    pub fn send(&self, message: WorkerMessage) {
        let mut messages = unpoisoned(&self.messages);
        messages.push(message);
        // The thread that added the first one has signalled, and the worker takes them all at once.
        if messages.len() == 1 {
            self.event.signal();
        }
    }

    /// Takes all messages. `into` is empty, and gives its memory in exchange.
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
