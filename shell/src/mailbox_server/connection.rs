//! One connection: a socket, its session, and the bytes that could not be sent or used yet.
//!
//! The buffers belong to the worker. A connection keeps bytes of its own only while a line is half received, a request
//! waits, or the client does not read. So an idle connection costs little more than its descriptor.

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
/// After this many calls to send, the worker serves its other clients.
const TURN: usize = 4;
/// A client gets this long to take the last line, and then to notice that the server has closed its half.
const LEAVING: Millis = 10_000;
const LINGERING: Millis = 1_000;
/// How long a client gets to take the last line when the server ends.
const LAST_MOMENT: Millis = 20;
/// How long a client that sent a wrong token is kept.
const AUTH_DELAY: Millis = 500;

/// What a connection works with during one call. The buffers are the worker's.
pub(crate) struct IoContext<'a, B> {
    /// The current time.
    pub now: Millis,
    /// The server's configuration.
    pub config: &'a Config,
    /// The mailboxes.
    pub boxes: &'a mut B,
    /// The buffer for received input.
    pub input: &'a mut [u8],
    /// The buffer for replies. Empty between calls.
    pub output: &'a mut OutBuffer,
}

/// What happens to a connection after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The connection stays open.
    Stay,
    /// The worker must close its socket.
    Close,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: CloseOnForkFd,
    session: Session,
    /// Received bytes that are not used yet.
    input: BudgetedBuf,
    /// Replies that the socket did not accept.
    output: BudgetedBuf,
    waiting_for: WaitingFor,
    /// The next reply has no room until some earlier replies are sent.
    is_stalled: bool,
    /// The client has closed its half, and all its bytes are received.
    ended: bool,
    /// The client has closed its half.
    ending: bool,
    /// The client accepts no replies any more.
    gone: bool,
    /// When the socket is closed, once the last line is written.
    leaving: Option<Millis>,
}

impl Connection {
    /// Returns a connection that begins `now`. `known`: the client need not send a token. Its bytes count in `account`.
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

    /// Returns the events that it waits for. `most`: the most input that may wait behind a waiting request.
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

    /// Returns when [`expire`](Connection::expire) is due.
    pub(crate) fn deadline(&self, config: &Config) -> Option<Millis> {
        match (self.leaving, self.waiting_for) {
            (Some(leaving), _) => Some(leaving),
            // The server does not read its input then, so only the idle limit counts.
            (None, WaitingFor::Room) => self.session.idle_deadline(config),
            (None, _) => self.session.deadline(config),
        }
    }

    /// Returns the mailbox and version for whose replacement it waits.
    pub(crate) fn waits_for(&self) -> Option<(u32, u64)> {
        match self.waiting_for {
            WaitingFor::NewVersion { mailbox, since } => Some((mailbox, since)),
            _ => None,
        }
    }

    /// Acts on events of the socket.
    pub(crate) fn ready<B: MailboxStore>(&mut self, events: EventFlags, io: &mut IoContext<'_, B>) -> Next {
        if events.contains(EventFlags::ERR) {
            return Next::Close;
        }
        if events.intersects(EventFlags::RDHUP | EventFlags::HUP) {
            self.ending = true;
            self.session.input_closed();
        }
        if events.contains(EventFlags::HUP) {
            // The client accepts no replies any more. Its earlier requests still count.
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

    /// Returns whether it has input and room for the replies, and has stopped only to let the worker serve other
    /// clients.
    pub(crate) fn is_unfinished(&self, config: &Config) -> bool {
        self.leaving.is_none()
            && self.waiting_for == WaitingFor::Room
            && !self.is_stalled
            && !self.is_clogged(config)
    }

    /// Continues after other clients were served.
    pub(crate) fn resume<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        if self.is_unfinished(io.config) { self.talk(false, io) } else { Next::Stay }
    }

    /// Returns whether so much is unsent that the server reads no more.
    fn is_clogged(&self, config: &Config) -> bool {
        self.output.len() > 4 * config.limits.packet
    }

    /// Checks whether the message has come for which it waits.
    pub(crate) fn notify<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        match self.waiting_for {
            WaitingFor::NewVersion { .. } => self.talk(false, io),
            _ => Next::Stay,
        }
    }

    /// Acts on a deadline that has passed.
    pub(crate) fn expire<B: MailboxStore>(&mut self, io: &mut IoContext<'_, B>) -> Next {
        if self.leaving.is_some() {
            return Next::Close;
        }
        self.session.expire(io.now, io.output);
        self.talk(false, io)
    }

    /// Ends with the server. Complete requests are answered. An incomplete request may still arrive if `late`, and is
    /// cut off otherwise.
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
        // All that it sent is received, so closing loses no reply, unless it sends more just now.
        self.leaving = self.leaving.map(|leaving| leaving.min(io.now + LAST_MOMENT));
        next
    }

    /// Makes room for another client, before it has sent a whole line. It gets its last line if the socket accepts
    /// that.
    pub(crate) fn make_room<B>(&mut self, reason: CloseReason, io: &mut IoContext<'_, B>) -> Next {
        if self.leaving.is_none() {
            self.session.finish(reason, io.output);
            cancel(&self.socket, io.output);
            io.output.clear();
        }
        Next::Close
    }

    /// Returns whether the client needs no token, or has sent the right one.
    pub(crate) fn is_known(&self) -> bool {
        self.session.is_known()
    }

    /// Returns whether its last line is written.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Returns whether no request and no reply is half done.
    fn is_between_requests(&self) -> bool {
        let idle = match self.waiting_for {
            WaitingFor::Input => self.input.is_empty(),
            WaitingFor::NewVersion { .. } | WaitingFor::Nothing => true,
            WaitingFor::Room => false,
        };
        idle && self.session.is_between_requests()
    }

    /// Receives once, and answers all requests that can be answered.
    fn talk<B: MailboxStore>(&mut self, receive: bool, io: &mut IoContext<'_, B>) -> Next {
        let kept = self.input.len();
        let mut length = kept;
        // No more than it could keep if no request can be answered yet.
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
                // The other connections have taken that memory since.
                self.session.finish(CloseReason::Memory, io.output);
                return self.talk(false, io);
            }
        }
        Next::Stay
    }

    /// Sends `replies`, and keeps the bytes that the socket does not accept.
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
        // There was room before each reply was written.
        let kept = self.output.extend_as_promised(&replies[taken..]);
        replies.clear();
        if kept.is_ok() { Next::Stay } else { Next::Close }
    }

    /// Records that the socket accepts nothing any more. The client's earlier requests still count.
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

    /// Ends a connection whose last line is written. If the server closed a socket that holds unread input, the kernel
    /// would drop that line. So the client has a moment to finish, and the server drops what it still sends.
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
            // The last byte was sent just now.
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
