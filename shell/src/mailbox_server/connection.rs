//! One connection: a socket, its dialogue, and what could not be sent or looked at yet.
//!
//! Buffers belong to the worker; a connection keeps bytes of its own only while a line is half received, a request waits,
//! or the client does not read. So an idle one costs little more than its descriptor.

use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::sync::Arc;

use super::budget::{Account, BudgetedBuf, Use};
use super::out_buffer::OutBuffer;
use super::reply::CloseReason;
use super::session::{CallContext, Config, MailboxStore, Millis, Session, WaitingFor};
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::socket::cancel;

/// Replies are sent when there are this many bytes of them.
pub(crate) const FLUSH_AT: usize = 256 << 10;
/// After this many sendings the worker's other clients have their turn.
const TURN: usize = 4;
/// A client gets this long to take the last line, and then to notice that the server has closed its half.
const LEAVING: Millis = 10_000;
const LINGERING: Millis = 1_000;
/// How long a client gets to take the last line when the server goes down.
const LAST_MOMENT: Millis = 20;
/// How long a client that sent a wrong token is kept.
const AUTH_DELAY: Millis = 500;

/// What a connection works with during one call; the buffers are its worker's.
pub(crate) struct IoContext<'a, B> {
    /// The time.
    pub now: Millis,
    /// The server's rules.
    pub config: &'a Config,
    /// The mailboxes.
    pub boxes: &'a mut B,
    /// Where input is received.
    pub input: &'a mut [u8],
    /// Where replies are collected. Empty between calls.
    pub output: &'a mut OutBuffer,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The connection stays open.
    Stay,
    /// Its socket is to be closed.
    Close,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: CloseOnForkFd,
    session: Session,
    /// Received, but not used up.
    input: BudgetedBuf,
    /// Replies that the socket did not take.
    output: BudgetedBuf,
    waiting_for: WaitingFor,
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
    pub(crate) fn new(socket: CloseOnForkFd, known: bool, account: &Arc<Account>, now: Millis) -> Self {
        Self {
            socket,
            session: Session::new(known, account, now),
            input: BudgetedBuf::new(account, Use::Requests),
            output: BudgetedBuf::new(account, Use::Replies),
            waiting_for: WaitingFor::Input,
            is_stalled: false,
            ended: false,
            ending: false,
            gone: false,
            leaving: None,
        }
    }

    /// What it wants to be told about. `most`: how much input may pile up behind a waiting request.
    pub(crate) fn interest(&self, most: usize) -> EventFlags {
        let mut interest = EventFlags::empty();
        let reads = match self.waiting_for {
            WaitingFor::Input | WaitingFor::Nothing => true,
            WaitingFor::NewVersion { .. } => self.input.len() < most.min(self.input.most()),
            WaitingFor::Room => false,
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
    pub(crate) fn deadline(&self, config: &Config) -> Option<Millis> {
        match (self.leaving, self.waiting_for) {
            (Some(leaving), _) => Some(leaving),
            // The server does not look at its input meanwhile, so only idleness counts.
            (None, WaitingFor::Room) => self.session.idle_deadline(config),
            (None, _) => self.session.deadline(config),
        }
    }

    /// The mailbox and version it waits to see replaced.
    pub(crate) fn waits_for(&self) -> Option<(u32, u64)> {
        match self.waiting_for {
            WaitingFor::NewVersion { mailbox, since } => Some((mailbox, since)),
            _ => None,
        }
    }

    /// The socket is ready for something.
    pub(crate) fn ready<B: MailboxStore>(&mut self, events: EventFlags, io: &mut IoContext<'_, B>) -> Next {
        if events.contains(EventFlags::ERR) {
            return Next::Close;
        }
        if events.intersects(EventFlags::RDHUP | EventFlags::HUP) {
            self.ending = true;
            self.session.input_closed();
        }
        if events.contains(EventFlags::HUP) {
            // The client takes no replies any more; what it sent before still counts.
            self.gone = true;
            self.output.clear();
        }
        if self.leaving.is_some() {
            return self.leave(events, io);
        }
        if events.contains(EventFlags::OUT) && self.send_kept() == Next::Close {
            return Next::Close;
        }
        if self.waiting_for == WaitingFor::Room {
            if self.output.len() > 2 * io.config.limits.packet {
                return Next::Stay;
            }
            self.session.resume(io.now);
        }
        self.talk(true, io)
    }

    /// Whether it has input to look at and room for the replies, and only stopped for others to have their turn.
    pub(crate) fn is_unfinished(&self, config: &Config) -> bool {
        self.leaving.is_none()
            && self.waiting_for == WaitingFor::Room
            && !self.is_stalled
            && !self.is_clogged(config)
    }

    /// Its turn has come again.
    pub(crate) fn resume<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        if self.is_unfinished(io.config) { self.talk(false, io) } else { Next::Stay }
    }

    /// Whether so much is unsent that no more is read.
    fn is_clogged(&self, config: &Config) -> bool {
        self.output.len() > 4 * config.limits.packet
    }

    /// A message it waits for may have come.
    pub(crate) fn notify<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        match self.waiting_for {
            WaitingFor::NewVersion { .. } => self.talk(false, io),
            _ => Next::Stay,
        }
    }

    /// Its deadline has passed.
    pub(crate) fn expire<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        if self.leaving.is_some() {
            return Next::Close;
        }
        self.session.expire(io.now, io.output);
        self.talk(false, io)
    }

    /// The server goes down: what is complete is answered, what is not may be `late`, or is cut off.
    pub(crate) fn stop<B: MailboxStore>(&mut self, late: bool, io: &mut IoContext<'_, B>) -> Next {
        if self.leaving.is_some() {
            return if late { Next::Close } else { Next::Stay };
        }
        if self.waiting_for == WaitingFor::Input && self.talk(true, io) == Next::Close {
            return Next::Close;
        }
        if !late && !self.is_between_requests() {
            return Next::Stay;
        }
        self.session.finish(CloseReason::Stop, io.output);
        let next = self.talk(false, io);
        // Everything it sent was received, so closing takes nothing back, but for what it sends just now.
        self.leaving = self.leaving.map(|leaving| leaving.min(io.now + LAST_MOMENT));
        next
    }

    /// Its place is wanted, before it has said anything worth an answer. It gets its last line if the socket takes it.
    pub(crate) fn make_room<B>(&mut self, reason: CloseReason, io: &mut IoContext<'_, B>) -> Next {
        if self.leaving.is_none() {
            self.session.finish(reason, io.output);
            cancel(&self.socket, io.output);
            io.output.clear();
        }
        Next::Close
    }

    /// Whether no token is asked for, or the right one has come.
    pub(crate) fn is_known(&self) -> bool {
        self.session.is_known()
    }

    /// Whether its last line is written.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether nothing is half done, neither a request nor a reply.
    fn is_between_requests(&self) -> bool {
        let idle = match self.waiting_for {
            WaitingFor::Input => self.input.is_empty(),
            WaitingFor::NewVersion { .. } | WaitingFor::Nothing => true,
            WaitingFor::Room => false,
        };
        idle && self.session.is_between_requests()
    }

    /// Receives once, and answers what can be answered.
    fn talk<B: MailboxStore>(&mut self, receive: bool, io: &mut IoContext<'_, B>) -> Next {
        let kept = self.input.len();
        let mut length = kept;
        // No more than could be kept if none of it can be answered yet.
        let most = io.input.len().min(self.input.most());
        if receive && !self.ended && kept < most {
            match rustix::net::recv(&self.socket, &mut io.input[kept..most], RecvFlags::empty()) {
                Ok((0, _)) => (self.ended, self.ending) = (true, true),
                Ok((count, _)) => length += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Next::Close,
            }
        }
        io.input[..kept].copy_from_slice(self.input.bytes());
        let mut used = 0;
        for sendings in 1.. {
            let room = self.output.most().saturating_sub(self.output.len());
            let mut call = CallContext {
                now: io.now,
                config: io.config,
                boxes: io.boxes,
                out: io.output,
                room,
                keeps_replies: !self.output.is_empty(),
            };
            let rest = &io.input[used..length];
            let (count, waiting_for) = self.session.advance(rest, self.ended, FLUSH_AT.min(room), &mut call);
            used += count;
            self.waiting_for = waiting_for;
            self.is_stalled =
                waiting_for == WaitingFor::Room && io.output.is_empty() && !self.output.is_empty();
            if self.send(io.output) == Next::Close {
                return Next::Close;
            }
            if waiting_for != WaitingFor::Room
                || self.is_stalled
                || self.is_clogged(io.config)
                || sendings == TURN
            {
                break;
            }
        }
        if self.waiting_for == WaitingFor::Nothing {
            self.input.clear();
            self.leaving = Some(io.now + LEAVING);
            return self.leave(EventFlags::empty(), io);
        }
        if kept > 0 || used < length {
            self.input.clear();
            if self.input.extend(&io.input[used..length]).is_err() {
                // What the other connections took meanwhile.
                self.session.finish(CloseReason::Memory, io.output);
                return self.talk(false, io);
            }
        }
        Next::Stay
    }

    /// Sends `replies`, and keeps what the socket does not take.
    fn send(&mut self, replies: &mut OutBuffer) -> Next {
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
        if kept.is_ok() { Next::Stay } else { Next::Close }
    }

    /// The socket takes nothing any more. What the client sent before it went away still counts.
    fn lose(&mut self, taken: &mut usize, all: usize) {
        self.gone = true;
        self.session.input_closed();
        *taken = all;
    }

    fn send_kept(&mut self) -> Next {
        match rustix::net::send(&self.socket, self.output.bytes(), SendFlags::NOSIGNAL) {
            Ok(count) => self.output.consume(count),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Next::Close,
        }
        Next::Stay
    }

    /// The last line is written. Closing a socket that holds unread input would take that line back from a client that
    /// has not read it yet; so the client is given a moment to finish, and what it still sends is dropped.
    fn leave<B>(&mut self, events: EventFlags, io: &mut IoContext<'_, B>) -> Next {
        let waiting = !self.output.is_empty();
        if waiting && events.contains(EventFlags::OUT) && self.send_kept() == Next::Close {
            return Next::Close;
        }
        if events.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) && !self.ended {
            match rustix::net::recv(&self.socket, &mut *io.input, RecvFlags::empty()) {
                Ok((0, _)) => self.ended = true,
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Next::Close,
            }
        }
        if !self.output.is_empty() {
            return Next::Stay;
        }
        if self.ended || self.gone {
            return Next::Close;
        }
        if waiting || events.is_empty() {
            // The last byte has gone just now.
            let is_delayed = self.session.close_reason() == Some(CloseReason::Auth);
            if !is_delayed && rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
                return Next::Close;
            }
            self.leaving = Some(io.now + if is_delayed { AUTH_DELAY } else { LINGERING });
        }
        Next::Stay
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
