//! One connection's requests and replies. A session uses no socket and no clock, so a test can cut its input in every
//! way.
//!
//! What makes it safe:
//! 1. The session receives all data of a `w` into private memory before it touches the mailbox, and copies a message
//!    out before it is sent. So a client that stalls or dies holds no lock.
//! 2. Any doubt about where data end closes the connection, so data never become a command.
//! 3. A line of HTTP, or a first byte of TLS, closes the connection, so a web page cannot send requests through a
//!    browser.
//! 4. The session stages the packets of a message, and another request in between discards them. If a packet is
//!    refused, so are the message's other packets. So a stored message never has a gap.

mod data;
mod read;

use std::sync::Arc;

use self::read::read;
use crate::mailbox_server::budget::{Account, BudgetedBuf, Use};
use crate::mailbox_server::out_buffer::OutBuffer;
use crate::mailbox_server::reply::{self, CloseReason, Fault, Limits, Refusal};
use crate::mailbox_server::wire::{self, Fatal, Parsed, Request};

/// Milliseconds since a fixed point.
pub type Millis = u64;

/// The longest time for a first line, from its first byte.
const LINE_PATIENCE: Millis = 10_000;
/// The most bytes before the right token. A line has fewer, so only empty lines add up to more.
const UNPROVEN_MAX: usize = 1024;
/// The longest time for announced data, plus a second for each [`PATIENT_BYTES`].
const DATA_PATIENCE: Millis = 10_000;
const PATIENT_BYTES: u64 = 64 << 10;
/// The longest time for a line of typed text, or for the next packet of a message.
const TEXT_PATIENCE: Millis = 300_000;
/// The longest time of a pipe without a byte.
const PIPE_PATIENCE: Millis = 60_000;

/// The most steps of a session, each a request or a part of one, before the worker serves other connections.
const STEPS: usize = 1024;
/// The mailboxes as a session needs them. The session checks numbers and sizes before.
pub trait MailboxStore {
    /// Returns the version of the message in `mailbox`.
    fn version(&mut self, mailbox: u32) -> Result<u64, Fault>;

    /// Appends what `head` writes for the message's version and length, and then the message. `head` may be called
    /// several times. The last call counts.
    fn read(
        &mut self,
        mailbox: u32,
        out: &mut OutBuffer,
        head: impl FnMut(&mut OutBuffer, u64, usize),
    ) -> Result<(), Fault>;

    /// Stores `message`, and returns its version.
    fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, Fault>;
}

/// What all sessions of a server share.
#[derive(Debug)]
pub struct Config {
    /// The sizes.
    pub limits: Limits,
    /// The token that `a` must name, if any.
    pub token: Option<Vec<u8>>,
    /// How long a connection may be idle.
    pub idle: Option<Millis>,
}

/// What a session works with during one call.
#[derive(Debug)]
pub struct CallContext<'a, B> {
    /// The current time.
    pub now: Millis,
    /// The server's configuration.
    pub config: &'a Config,
    /// The mailboxes.
    pub boxes: &'a mut B,
    /// The buffer for replies.
    pub out: &'a mut OutBuffer,
    /// How many bytes of replies can be kept if the client does not take them.
    pub room: usize,
    /// Earlier replies are still kept, so there is more room later.
    pub keeps_replies: bool,
}

/// What a session waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitingFor {
    /// More input.
    Input,
    /// Room: the connection sends the output, and calls again with the same input.
    Room,
    /// A message with another version in this mailbox, or the deadline.
    NewVersion {
        /// The mailbox.
        mailbox: u32,
        /// The version that the client has.
        since: u64,
    },
    /// Nothing: the last line is in the output.
    Nothing,
}

/// A connection's dialogue.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Data of the current message: staged packets, then what has arrived of the next one.
    buffer: BudgetedBuf,
    staged: Option<StagedMessage>,
    /// It need not send a token, or has sent the right one.
    known: bool,
    /// No byte has been read yet.
    is_new: bool,
    /// The bytes used before the right token.
    unproven: usize,
    /// The client sends no more, so the session does not wait for anything.
    is_input_closed: bool,
    /// When the current request began.
    began: Option<Millis>,
    /// When the last request was answered.
    last: Millis,
    close_reason: Option<CloseReason>,
}

#[derive(Debug)]
enum State {
    Line,
    Sized(Sized),
    Text(Text),
    Pipe(Target),
    Wait { mailbox: u32, since: u64, until: Option<Millis> },
    Done,
}

/// The destination of data.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// In range, unless refused.
    mailbox: u64,
    /// Why the data are dropped.
    refusal: Option<Refusal>,
}

/// A packet that is arriving.
#[derive(Clone, Copy, Debug)]
struct Sized {
    target: Target,
    size: u64,
    got: u64,
    /// No further packet of its message follows.
    last: bool,
}

/// A line of text that is arriving.
#[derive(Clone, Copy, Debug)]
struct Text {
    target: Target,
    got: u64,
    /// The bytes so far end with CR, which may be a part of the line's end.
    ends_in_return: bool,
}

/// A message of which some packets have arrived, but not the last.
#[derive(Debug)]
struct StagedMessage {
    mailbox: u64,
    refusal: Option<Refusal>,
}

/// Whether the input so far allows another step.
enum Step {
    Used(usize),
    Starved,
    Stuck,
    /// The reply fits after others are sent.
    Full,
}

impl Session {
    /// Returns a session that begins `now`. `known`: the client need not send a token.
    pub fn new(known: bool, account: &Arc<Account>, now: Millis) -> Self {
        Self {
            state: State::Line,
            buffer: BudgetedBuf::new(account, Use::Requests),
            staged: None,
            known,
            is_new: true,
            unproven: 0,
            is_input_closed: false,
            // A client that must send a token has a time limit from the start.
            began: (!known).then_some(now),
            last: now,
            close_reason: None,
        }
    }

    /// Answers the requests in `input`. Returns how much of it is used, and what the session needs next. The caller
    /// passes the rest again, with more behind it. `end`: the client has closed its half, and `input` is the rest.
    /// Stops early when the output holds `flush_at` bytes or more, or after so much work that the worker must serve other
    /// clients.
    pub fn advance<B: MailboxStore>(
        &mut self,
        input: &[u8],
        end: bool,
        flush_at: usize,
        call: &mut CallContext<'_, B>,
    ) -> (usize, WaitingFor) {
        self.is_input_closed |= end;
        let mut used = 0;
        let mut steps = 0;
        loop {
            let rest = &input[used..];
            if (call.out.len() >= flush_at || steps == STEPS) && !self.is_done() {
                return (used, WaitingFor::Room);
            }
            steps += 1;
            let step = match self.state {
                State::Line => self.line(rest, call),
                State::Sized(sized) => self.sized(rest, sized, call),
                State::Text(text) => self.text(rest, text, call),
                State::Pipe(target) => self.pipe(rest, target, call),
                State::Wait { mailbox, since, until } => self.check_version(mailbox, since, until, call),
                State::Done => return (input.len(), WaitingFor::Nothing),
            };
            match step {
                Step::Used(count) => used += count,
                Step::Starved if end => self.end(rest, call),
                Step::Starved => return (used, WaitingFor::Input),
                Step::Full => return (used, WaitingFor::Room),
                Step::Stuck => {
                    let State::Wait { mailbox, since, .. } = self.state else {
                        return (used, WaitingFor::Input);
                    };
                    return (used, WaitingFor::NewVersion { mailbox, since });
                }
            }
        }
    }

    /// Returns when [`expire`](Session::expire) is due.
    pub fn deadline(&self, config: &Config) -> Option<Millis> {
        let began = self.began.unwrap_or(self.last);
        let (patience, bound) = match self.state {
            State::Done => return None,
            State::Wait { until, .. } => return until,
            State::Line => {
                let staged = self.staged.as_ref().map(|_| self.last + TEXT_PATIENCE);
                let line = self.began.map(|began| began + LINE_PATIENCE);
                (line.or(staged), self.last)
            }
            State::Sized(Sized { size, .. }) => {
                (Some(began + DATA_PATIENCE + size.div_ceil(PATIENT_BYTES) * 1000), began)
            }
            State::Text(_) => (Some(began + TEXT_PATIENCE), began),
            State::Pipe(_) => (Some(began + PIPE_PATIENCE), began),
        };
        let idle = config.idle.map(|idle| bound.saturating_add(idle));
        patience.into_iter().chain(idle).min()
    }

    /// Returns the end of the idle limit, if there is one.
    pub fn idle_deadline(&self, config: &Config) -> Option<Millis> {
        config.idle.map(|idle| self.last.saturating_add(idle))
    }

    /// Acts on a deadline that has passed: answers a wait, and ends the connection in every other state. Call
    /// [`advance`](Session::advance) next.
    pub fn expire(&mut self, now: Millis, out: &mut OutBuffer) {
        match self.state {
            // This wait ends with one more check, and then `same`.
            State::Wait { mailbox, since, .. } => {
                self.state = State::Wait { mailbox, since, until: Some(now) };
            }
            _ => self.finish(CloseReason::Idle, out),
        }
    }

    /// Continues after a pause that the client did not cause.
    pub fn resume(&mut self, now: Millis) {
        self.last = now;
        if self.began.is_some() {
            self.began = Some(now);
        }
    }

    /// Records that the client sends no more, although its bytes are not all received. So no wait is useful.
    pub fn input_closed(&mut self) {
        self.is_input_closed = true;
    }

    /// Ends the session with a last line, unless it has ended.
    pub fn finish(&mut self, reason: CloseReason, out: &mut OutBuffer) {
        if !self.is_done() {
            reply::bye(out, reason);
            self.state = State::Done;
            self.close_reason = Some(reason);
            self.discard();
        }
    }

    /// Returns whether the last line is written.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Returns whether no request is half done: no data outstanding, no message staged.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.state, State::Line | State::Wait { .. } | State::Done) && self.staged.is_none()
    }

    /// Returns whether the client need not send a token, or has sent the right one.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Returns how the session ended.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    fn discard(&mut self) {
        self.staged = None;
        self.buffer.clear();
    }

    fn answered(&mut self, now: Millis) {
        self.state = State::Line;
        self.began = None;
        self.last = now;
    }

    fn line<B: MailboxStore>(&mut self, input: &[u8], call: &mut CallContext<'_, B>) -> Step {
        if self.is_new
            && let Some(&first) = input.first()
        {
            self.is_new = false;
            if first == wire::TLS {
                self.finish(CloseReason::Http, call.out);
                return Step::Used(input.len());
            }
        }
        let (used, request) = match wire::parse(input) {
            Parsed::Request { used, request } => (used, request),
            Parsed::Blank { used } if self.known => {
                self.began = None;
                return Step::Used(used);
            }
            Parsed::Blank { used } => {
                self.unproven += used;
                if self.unproven > UNPROVEN_MAX {
                    self.finish(CloseReason::Auth, call.out);
                }
                return Step::Used(used);
            }
            Parsed::NeedMore => {
                if !input.is_empty() {
                    self.began.get_or_insert(call.now);
                }
                return Step::Starved;
            }
            Parsed::Fatal(fatal) => {
                let reason = match fatal {
                    Fatal::Line => CloseReason::Line,
                    Fatal::WriteArgs if !self.known => CloseReason::Auth,
                    Fatal::WriteArgs => CloseReason::Args,
                    Fatal::Http => CloseReason::Http,
                };
                self.finish(reason, call.out);
                return Step::Used(input.len());
            }
        };
        match request {
            Request::Auth { token } => self.prove(token, call),
            _ if !self.known => self.finish(CloseReason::Auth, call.out),
            Request::Write { mailbox, form } => self.begin(mailbox, form, call),
            _ => {
                self.discard();
                if !self.answer(request, call) {
                    return Step::Full;
                }
            }
        }
        Step::Used(used)
    }

    fn prove<B>(&mut self, token: &[u8], call: &mut CallContext<'_, B>) {
        let right = call.config.token.as_deref();
        if right.is_none_or(|right| is_same(right, token)) {
            self.known = true;
            self.discard();
            reply::authenticated(call.out);
            self.answered(call.now);
        } else {
            self.finish(CloseReason::Auth, call.out);
        }
    }

    /// Answers a request without data. Returns `false` if there is no room for the reply yet. Then the caller passes it
    /// again.
    fn answer<B: MailboxStore>(&mut self, request: Request<'_>, call: &mut CallContext<'_, B>) -> bool {
        let limits = &call.config.limits;
        match request {
            Request::Read { mailbox, since, patience } => {
                if mailbox >= limits.boxes.into() {
                    reply::refuse(call.out, limits, Refusal::Box(mailbox));
                } else if let Some(since) = since {
                    let until = patience.map(|patience| call.now.saturating_add(patience));
                    self.state = State::Wait { mailbox: mailbox as u32, since, until };
                    return true;
                } else if !read(mailbox as u32, call) {
                    return false;
                }
            }
            Request::Info => reply::info(call.out, limits),
            Request::Unknown(verb) => reply::unknown(call.out, verb),
            Request::Usage(usage) => reply::usage(call.out, usage),
            Request::Quit => {
                self.finish(CloseReason::Quit, call.out);
                return true;
            }
            Request::Write { .. } | Request::Auth { .. } => {} // handled elsewhere
        }
        self.answered(call.now);
        true
    }

    fn check_version<B: MailboxStore>(
        &mut self,
        mailbox: u32,
        since: u64,
        until: Option<Millis>,
        call: &mut CallContext<'_, B>,
    ) -> Step {
        match call.boxes.version(mailbox) {
            Ok(version) if version == since => {
                if !self.is_input_closed && until.is_none_or(|until| call.now < until) {
                    return Step::Stuck;
                }
                reply::same(call.out, mailbox, version);
            }
            Ok(_) if !read(mailbox, call) => return Step::Full,
            Ok(_) => {}
            Err(fault) => reply::refuse(call.out, &call.config.limits, Refusal::Fault(fault)),
        }
        self.answered(call.now);
        Step::Used(0)
    }

    /// Ends the session after the input has ended. The rest of the input is no request.
    fn end<B: MailboxStore>(&mut self, rest: &[u8], call: &mut CallContext<'_, B>) {
        let reason = match self.state {
            State::Line if rest.is_empty() => match &self.staged {
                // After `more` the client owes the rest of a message. After a refusal it owes nothing.
                Some(staged) if staged.refusal.is_none() => CloseReason::Cut,
                _ => CloseReason::Quit,
            },
            State::Pipe(target) => {
                if target.refusal.is_none() {
                    let message = self.buffer.take();
                    self.store(target, message.bytes(), call);
                }
                CloseReason::Quit
            }
            _ => CloseReason::Cut,
        };
        self.finish(reason, call.out);
    }
}

/// Compares in a time that depends only on the lengths.
fn is_same(right: &[u8], tried: &[u8]) -> bool {
    let difference = right.iter().zip(tried).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(difference) == 0 && right.len() == tried.len()
}
