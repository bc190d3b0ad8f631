//! Programs at the control socket: those that have asked nothing yet, and those that are attached to the mailboxes.
//!
//! A program asks as soon as it is connected. One that does not keeps its place for a short time only, and a newer one may
//! take that place before. So however many callers say nothing, one that asks is answered.

use crate::os::close_on_fork::CloseOnForkFd;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::registry::protocol::{ControlMessage, Refusal};
use crate::registry::send;

/// A caller must send its request within this time.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most callers that have sent no request yet: several times the number that is accepted before the server reads them.
const SILENT: usize = 192;
/// The most programs that are attached at a time.
pub(crate) const ATTACHED: usize = 192;

/// Names a caller.
pub(crate) type Number = u64;

/// What a caller has done.
#[derive(Debug)]
pub(crate) enum CallerEvent {
    /// One that asks something.
    Request(CloseOnForkFd),
    /// A program that was attached, and is no more.
    Detached,
    /// One that was sent away meanwhile.
    Unknown,
}

/// The callers of a server.
#[derive(Debug)]
pub(crate) struct Callers {
    next: Number,
    /// In the order in which they came.
    silent: BTreeMap<Number, (CloseOnForkFd, Instant)>,
    attached: HashMap<Number, CloseOnForkFd>,
}

impl Callers {
    /// None yet; the first one gets this number.
    pub(crate) fn new(first: Number) -> Self {
        Self { next: first, silent: BTreeMap::new(), attached: HashMap::new() }
    }

    /// Adds a caller, which is to be watched under the number that is returned. The oldest that has asked nothing may make room.
    pub(crate) fn add(&mut self, socket: CloseOnForkFd, now: Instant) -> (&CloseOnForkFd, Number) {
        if self.silent.len() >= SILENT {
            self.make_room();
        }
        let number = self.next;
        self.next += 1;
        let (socket, _) = self.silent.entry(number).or_insert((socket, now + TIMEOUT));
        (socket, number)
    }

    /// Sends the oldest away that has asked nothing yet. False: there is none.
    pub(crate) fn make_room(&mut self) -> bool {
        let oldest = self.silent.pop_first();
        if let Some((_, (socket, _))) = &oldest {
            refuse(socket);
        }
        oldest.is_some()
    }

    /// Takes out a caller that has said something, or has gone.
    pub(crate) fn take(&mut self, number: Number) -> CallerEvent {
        match (self.silent.remove(&number), self.attached.remove(&number)) {
            (Some((socket, _)), _) => CallerEvent::Request(socket),
            // It never says anything more: it has gone.
            (None, Some(_)) => CallerEvent::Detached,
            (None, None) => CallerEvent::Unknown,
        }
    }

    /// Whether another program may be attached.
    pub(crate) fn may_attach(&self) -> bool {
        self.attached.len() < ATTACHED
    }

    /// A caller is attached now, for as long as its socket is open.
    pub(crate) fn attach(&mut self, number: Number, socket: CloseOnForkFd) {
        self.attached.insert(number, socket);
    }

    /// When [`expire`](Self::expire) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.silent.first_key_value().map(|(_, (_, until))| *until)
    }

    /// Sends those away whose time to ask is up.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(first) = self.silent.first_entry()
            && first.get().1 <= now
        {
            let (socket, _) = first.remove();
            refuse(&socket);
        }
    }
}

fn refuse(socket: &CloseOnForkFd) {
    send(socket, ControlMessage::Refused(Refusal::Silent), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::protocol::Record;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_silent_caller_is_refused_after_its_timeout_or_when_a_new_one_needs_its_place() {
        let (mut callers, begun) = (Callers::new(7), Instant::now());
        let mut call = |now| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (_, number) = callers.add(CloseOnForkFd::of(theirs.into()).unwrap(), now);
            (ours, number)
        };
        let said = |(mut stream, _): (UnixStream, _)| {
            let mut packet = Vec::new();
            stream.read_to_end(&mut packet).unwrap();
            Record::decode(&packet).map(|record| record.message)
        };
        let mut all: Vec<_> =
            (0..SILENT as u32).map(|at| call(begun + Duration::from_millis(at.into()))).collect();
        let late = begun + TIMEOUT;
        let newest = call(late);
        let silent = Ok(ControlMessage::Refused(Refusal::Silent));
        assert_eq!(said(all.remove(0)), silent, "the oldest has made room");
        assert_eq!(callers.deadline(), Some(late + Duration::from_millis(1)));
        callers.expire(late);
        assert!(matches!(callers.take(all[0].1), CallerEvent::Request(_)));
        callers.expire(late + Duration::from_millis(2));
        assert_eq!(said(all.remove(1)), silent);
        callers.expire(late + Duration::from_secs(1));
        assert_eq!(callers.deadline(), Some(late + TIMEOUT));
        // One that is attached stays.
        let CallerEvent::Request(socket) = callers.take(newest.1) else { panic!("it is there") };
        callers.attach(newest.1, socket);
        callers.expire(late + 2 * TIMEOUT);
        assert_eq!((callers.deadline(), callers.make_room(), callers.attached.len()), (None, false, 1));
        assert!(matches!(callers.take(newest.1), CallerEvent::Detached));
        assert!(matches!(callers.take(newest.1), CallerEvent::Unknown));
    }
}
