//! Drives a session without sockets: mailboxes in a `Vec`, input cut into pieces at will.

#![allow(dead_code, reason = "each test uses a part of it")]

use rustix::event::epoll::Event;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use whorl::dipc::budget::Budget;
use whorl::dipc::lobby::Lobby;
use whorl::dipc::news::News;
use whorl::dipc::post::{Letter, Post};
use whorl::dipc::replies::Replies;
use whorl::dipc::reply::{Fault, Shape};
use whorl::dipc::session::{Boxes, Need, Rules, Session, Turn};
use whorl::dipc::worker::{Shared, Worker};

/// Mailboxes in a `Vec`.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Plain(pub Vec<(u64, Vec<u8>)>);

impl Boxes for Plain {
    fn version(&mut self, mailbox: u32) -> Result<u64, Fault> {
        Ok(self.0[mailbox as usize].0)
    }

    fn read(
        &mut self,
        mailbox: u32,
        out: &mut Replies,
        mut head: impl FnMut(&mut Replies, u64, usize),
    ) -> Result<(), Fault> {
        let (version, message) = &self.0[mailbox as usize];
        head(out, *version, message.len());
        out.extend_from_slice(message);
        Ok(())
    }

    fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, Fault> {
        let found = &mut self.0[mailbox as usize];
        *found = (found.0 + 1, message.to_vec());
        Ok(found.0)
    }
}

pub fn rules(boxes: u32, capacity: usize, packet: usize, token: Option<&[u8]>) -> Rules {
    let shape = Shape { boxes, capacity, packet };
    Rules { shape, token: token.map(<[u8]>::to_vec), idle: None }
}

/// All replies to `pieces`, one after the other, and then the end of the input.
pub fn converse<'a>(
    rules: &Rules,
    boxes: &mut Plain,
    brim: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let budget = Budget::new(64 << 20);
    let mut session = Session::new(rules.token.is_none(), &budget.account(0, None), 0);
    let mut replies = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    let mut pieces = pieces.into_iter();
    let mut end = false;
    while !end {
        match pieces.next() {
            Some(piece) => input.extend(piece),
            None => end = true,
        }
        loop {
            let mut out = Replies::default();
            let mut turn = Turn { now: 0, rules, boxes, out: &mut out, room: usize::MAX, is_clogged: false };
            let (used, need) = session.advance(&input, end, brim, &mut turn);
            input.drain(..used);
            replies.extend_from_slice(&out);
            match need {
                Need::Room => {}
                Need::Input => {
                    assert!(
                        input.len() < 128,
                        "a session that wants more has used up all but a line's beginning"
                    );
                    break;
                }
                Need::News { .. } | Need::Nothing => break,
            }
        }
    }
    assert!(session.is_done());
    drop(session);
    assert_eq!(budget.left(), 64 << 20, "all memory for data is given back");
    replies
}

/// A worker without a server, whose turns a test takes one by one.
pub struct Stage {
    pub worker: Worker<Plain>,
    pub post: Arc<Post>,
    pub shared: Arc<Shared>,
    events: Vec<Event>,
}

impl Stage {
    pub fn new(boxes: u32, capacity: usize, packet: usize, budget: usize) -> Self {
        let post = Arc::new(Post::new().unwrap());
        let shared = Arc::new(Shared {
            rules: rules(boxes, capacity, packet, None),
            news: News::new(vec![post.clone()]),
            budget: Budget::new(budget),
            lobby: Lobby::new(1000),
            most: 1000,
            epoch: Instant::now(),
            loads: vec![AtomicUsize::new(0)],
        });
        let mailboxes = Plain(vec![Default::default(); boxes as usize]);
        let worker = Worker::new(0, shared.clone(), post.clone(), mailboxes).unwrap();
        Self { worker, post, shared, events: Vec::with_capacity(256) }
    }

    /// A client, which the worker takes in at its next turn.
    pub fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        self.post.send(Letter::Serve { socket: theirs.into(), ticket: None, share: None });
        ours
    }

    /// Something must be ready for the worker, or this waits.
    pub fn turn(&mut self) {
        assert!(self.worker.turn(&mut self.events).unwrap());
    }
}
