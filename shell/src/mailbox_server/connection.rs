//! One connection: a socket, its dialogue, and what could not be sent or looked at yet.
//!
//! Buffers belong to the worker; a connection keeps bytes of its own only while a line is half received, a request waits,
//! or the client does not read. So an idle one costs little more than its descriptor.

use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::sync::Arc;

use super::budget::{Account, Held, Use};
use super::replies::Replies;
use super::reply::Bye;
use super::session::{Boxes, Millis, Need, Rules, Session, Turn};
use crate::os::close_on_fork::Unshared;

/// Replies are sent when there are so many bytes of them.
pub const BRIM: usize = 256 << 10;
/// And after so many of these the worker's other clients have their turn.
const TURN: usize = 4;
/// A client gets so long to take the last line, and then to notice that we have gone.
const LEAVING: Millis = 10_000;
const LINGERING: Millis = 1_000;
/// The same when the server goes down, where nobody lingers.
const LAST_MOMENT: Millis = 20;
/// How long who sent a wrong token is kept.
const REGRET: Millis = 500;

/// What a connection works with during one call; the buffers are its worker's.
pub struct Desk<'a, B> {
    /// The time.
    pub now: Millis,
    /// The server's rules.
    pub rules: &'a Rules,
    /// The mailboxes.
    pub boxes: &'a mut B,
    /// Where input is received.
    pub input: &'a mut [u8],
    /// Where replies are collected. Empty between calls.
    pub output: &'a mut Replies,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on.
    Stay,
    /// Its socket is to be closed.
    Close,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: Unshared,
    session: Session,
    /// Received, but not used up.
    input: Held,
    /// Replies that the socket did not take.
    output: Held,
    need: Need,
    /// The next reply has no room until some of those before it are sent.
    is_stalled: bool,
    /// The client has closed its half, and everything was received.
    ended: bool,
    /// The client has closed its half.
    ending: bool,
    /// The client takes no replies any more.
    gone: bool,
    /// When the socket is closed, once the last line is written.
    leaving: Option<Millis>,
}

impl Connection {
    /// A connection that begins `now`. `known`: it need not send a token. What it keeps is paid for by `account`.
    pub fn new(socket: Unshared, known: bool, account: &Arc<Account>, now: Millis) -> Self {
        Self {
            socket,
            session: Session::new(known, account, now),
            input: Held::new(account, Use::Requests),
            output: Held::new(account, Use::Replies),
            need: Need::Input,
            is_stalled: false,
            ended: false,
            ending: false,
            gone: false,
            leaving: None,
        }
    }

    /// What it wants to be told about. `most`: how much input may pile up behind a waiting request.
    pub fn interest(&self, most: usize) -> EventFlags {
        let mut interest = EventFlags::empty();
        let reads = match self.need {
            Need::Input | Need::Nothing => true,
            Need::News { .. } => self.input.len() < most.min(self.input.most()),
            Need::Room => false,
        };
        if reads && !self.ended {
            interest |= EventFlags::IN;
        }
        if !self.ending {
            interest |= EventFlags::RDHUP;
        }
        if !self.output.is_empty() {
            interest |= EventFlags::OUT;
        }
        interest
    }

    /// When [`expire`](Connection::expire) is due.
    pub fn deadline(&self, rules: &Rules) -> Option<Millis> {
        match (self.leaving, self.need) {
            (Some(leaving), _) => Some(leaving),
            // It is we who do not look at its input, so only idleness counts.
            (None, Need::Room) => self.session.idle_deadline(rules),
            (None, _) => self.session.deadline(rules),
        }
    }

    /// The mailbox and version it waits to see replaced.
    pub fn waits_for(&self) -> Option<(u32, u64)> {
        match self.need {
            Need::News { mailbox, since } => Some((mailbox, since)),
            _ => None,
        }
    }

    /// The socket is ready for something.
    pub fn ready<B: Boxes>(&mut self, events: EventFlags, desk: &mut Desk<'_, B>) -> Verdict {
        if events.contains(EventFlags::ERR) {
            return Verdict::Close;
        }
        if events.intersects(EventFlags::RDHUP | EventFlags::HUP) {
            self.ending = true;
            self.session.hurry();
        }
        if events.contains(EventFlags::HUP) {
            // Nobody takes replies any more; what was sent before still counts.
            self.gone = true;
            self.output.clear();
        }
        if self.leaving.is_some() {
            return self.leave(events, desk);
        }
        if events.contains(EventFlags::OUT) && self.send_kept() == Verdict::Close {
            return Verdict::Close;
        }
        if self.need == Need::Room {
            if self.output.len() > 2 * desk.rules.shape.packet {
                return Verdict::Stay;
            }
            self.session.resume(desk.now);
        }
        self.talk(true, desk)
    }

    /// Whether it has input to look at and room for the replies, and only stopped for others to have their turn.
    pub fn is_unfinished(&self, rules: &Rules) -> bool {
        self.leaving.is_none() && self.need == Need::Room && !self.is_stalled && !self.is_clogged(rules)
    }

    /// Its turn has come again.
    pub fn again<B: Boxes>(&mut self, desk: &mut Desk<'_, B>) -> Verdict {
        if self.is_unfinished(desk.rules) { self.talk(false, desk) } else { Verdict::Stay }
    }

    /// Whether so much is unsent that no more is read.
    fn is_clogged(&self, rules: &Rules) -> bool {
        self.output.len() > 4 * rules.shape.packet
    }

    /// A message it waits for may have come.
    pub fn told<B: Boxes>(&mut self, desk: &mut Desk<'_, B>) -> Verdict {
        match self.need {
            Need::News { .. } => self.talk(false, desk),
            _ => Verdict::Stay,
        }
    }

    /// Its deadline has passed.
    pub fn expire<B: Boxes>(&mut self, desk: &mut Desk<'_, B>) -> Verdict {
        if self.leaving.is_some() {
            return Verdict::Close;
        }
        self.session.expire(desk.now, desk.output);
        self.talk(false, desk)
    }

    /// The server goes down: what is complete is answered, what is not may be `late`, or is cut off.
    pub fn stop<B: Boxes>(&mut self, late: bool, desk: &mut Desk<'_, B>) -> Verdict {
        if self.leaving.is_some() {
            return if late { Verdict::Close } else { Verdict::Stay };
        }
        if self.need == Need::Input && self.talk(true, desk) == Verdict::Close {
            return Verdict::Close;
        }
        if !late && !self.is_between_requests() {
            return Verdict::Stay;
        }
        self.session.finish(Bye::Stop, desk.output);
        let verdict = self.talk(false, desk);
        // Everything it sent was received, so closing takes nothing back, but for what it sends just now.
        self.leaving = self.leaving.map(|leaving| leaving.min(desk.now + LAST_MOMENT));
        verdict
    }

    /// Its place is wanted, before it has said anything worth an answer. It gets its last line if the socket takes it.
    pub fn give_way<B>(&mut self, bye: Bye, desk: &mut Desk<'_, B>) -> Verdict {
        if self.leaving.is_none() {
            self.session.finish(bye, desk.output);
            super::farewell::dismiss(&self.socket, desk.output);
            desk.output.clear();
        }
        Verdict::Close
    }

    /// Whether no token is asked for, or the right one has come.
    pub fn is_known(&self) -> bool {
        self.session.is_known()
    }

    /// Whether its last line is written.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether nothing is half done, neither a request nor a reply.
    fn is_between_requests(&self) -> bool {
        let idle = match self.need {
            Need::Input => self.input.is_empty(),
            Need::News { .. } | Need::Nothing => true,
            Need::Room => false,
        };
        idle && self.session.is_between_requests()
    }

    /// Receives once, and answers what can be answered.
    fn talk<B: Boxes>(&mut self, receive: bool, desk: &mut Desk<'_, B>) -> Verdict {
        let kept = self.input.len();
        let mut length = kept;
        // No more than could be kept if none of it can be answered yet.
        let most = desk.input.len().min(self.input.most());
        if receive && !self.ended && kept < most {
            match rustix::net::recv(&self.socket, &mut desk.input[kept..most], RecvFlags::empty()) {
                Ok((0, _)) => (self.ended, self.ending) = (true, true),
                Ok((count, _)) => length += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Verdict::Close,
            }
        }
        desk.input[..kept].copy_from_slice(self.input.bytes());
        let mut used = 0;
        for sendings in 1.. {
            let room = self.output.most().saturating_sub(self.output.len());
            let mut turn = Turn {
                now: desk.now,
                rules: desk.rules,
                boxes: desk.boxes,
                out: desk.output,
                room,
                keeps_replies: !self.output.is_empty(),
            };
            let rest = &desk.input[used..length];
            let (count, need) = self.session.advance(rest, self.ended, BRIM.min(room), &mut turn);
            used += count;
            self.need = need;
            self.is_stalled = need == Need::Room && desk.output.is_empty() && !self.output.is_empty();
            if self.send(desk.output) == Verdict::Close {
                return Verdict::Close;
            }
            if need != Need::Room || self.is_stalled || self.is_clogged(desk.rules) || sendings == TURN {
                break;
            }
        }
        if self.need == Need::Nothing {
            self.input.clear();
            self.leaving = Some(desk.now + LEAVING);
            return self.leave(EventFlags::empty(), desk);
        }
        if kept > 0 || used < length {
            self.input.clear();
            if self.input.extend(&desk.input[used..length]).is_err() {
                // What the other connections took meanwhile.
                self.session.finish(Bye::Memory, desk.output);
                return self.talk(false, desk);
            }
        }
        Verdict::Stay
    }

    /// Sends `replies`, and keeps what the socket does not take.
    fn send(&mut self, replies: &mut Replies) -> Verdict {
        let mut taken = 0;
        if self.gone {
            taken = replies.len();
        } else if self.output.is_empty() && !replies.is_empty() {
            match rustix::net::send(&self.socket, replies, SendFlags::NOSIGNAL) {
                Ok(count) => taken = count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.lose(&mut taken, replies.len()),
            }
        }
        // Before each of them was written, there was room.
        let kept = self.output.extend_as_promised(&replies[taken..]);
        replies.clear();
        if kept.is_ok() { Verdict::Stay } else { Verdict::Close }
    }

    /// The socket takes nothing any more. What the client sent before it went away still counts.
    fn lose(&mut self, taken: &mut usize, all: usize) {
        self.gone = true;
        self.session.hurry();
        *taken = all;
    }

    fn send_kept(&mut self) -> Verdict {
        match rustix::net::send(&self.socket, self.output.bytes(), SendFlags::NOSIGNAL) {
            Ok(count) => self.output.consume(count),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Verdict::Close,
        }
        Verdict::Stay
    }

    /// The last line is written. Closing a socket that holds unread input would take that line back from a client that
    /// has not read it yet; so the client is given a moment to finish, and what it still sends is dropped.
    fn leave<B>(&mut self, events: EventFlags, desk: &mut Desk<'_, B>) -> Verdict {
        let waiting = !self.output.is_empty();
        if waiting && events.contains(EventFlags::OUT) && self.send_kept() == Verdict::Close {
            return Verdict::Close;
        }
        if events.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) && !self.ended {
            match rustix::net::recv(&self.socket, &mut *desk.input, RecvFlags::empty()) {
                Ok((0, _)) => self.ended = true,
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Verdict::Close,
            }
        }
        if !self.output.is_empty() {
            return Verdict::Stay;
        }
        if self.ended || self.gone {
            return Verdict::Close;
        }
        if waiting || events.is_empty() {
            // The last byte has gone just now.
            let regret = self.session.farewell() == Some(Bye::Auth);
            if !regret && rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
                return Verdict::Close;
            }
            self.leaving = Some(desk.now + if regret { REGRET } else { LINGERING });
        }
        Verdict::Stay
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
