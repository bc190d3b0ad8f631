//! A worker without a server, and clients for it.

use crate::kit::session::{Plain, config};
use rustix::event::epoll::Event;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use whorl::internal::mailbox_server::budget::Budget;
use whorl::internal::mailbox_server::lobby::Lobby;
use whorl::internal::mailbox_server::wait_list::WaitList;
use whorl::internal::mailbox_server::worker::{Shared, Worker};
use whorl::internal::mailbox_server::worker_queue::{WorkerMessage, WorkerQueue};
use whorl::internal::os::close_on_fork::CloseOnForkFd;

/// A worker without a server, whose turns a test takes one by one.
pub struct TestWorker {
    pub worker: Worker<Plain>,
    pub queue: Arc<WorkerQueue>,
    pub shared: Arc<Shared>,
    events: Vec<Event>,
}

impl TestWorker {
    pub fn new(boxes: u32, capacity: usize, packet: usize, budget: usize) -> Self {
        let queue = Arc::new(WorkerQueue::new().unwrap());
        let shared = Arc::new(Shared {
            config: config(boxes, capacity, packet, None),
            wait_list: WaitList::new(vec![queue.clone()]),
            budget: Budget::new(budget),
            lobby: Lobby::new(1000),
            most: 1000,
            epoch: Instant::now(),
            loads: vec![AtomicUsize::new(0)],
        });
        let mailboxes = Plain(vec![Default::default(); boxes as usize]);
        let worker = Worker::new(0, shared.clone(), queue.clone(), mailboxes).unwrap();
        Self { worker, queue, shared, events: Vec::with_capacity(256) }
    }

    /// A client, which the worker accepts at its next turn.
    pub fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        self.queue.send(WorkerMessage::Serve {
            socket: CloseOnForkFd::of(theirs.into()).expect("a descriptor"),
            ticket: None,
            share: None,
        });
        ours
    }

    /// Runs one turn. It waits if nothing is ready for the worker.
    pub fn turn(&mut self) {
        assert!(self.worker.turn(&mut self.events).unwrap());
    }
}
