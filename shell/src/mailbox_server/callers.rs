//! Programs at the control socket: silent callers, which have sent no request yet, and programs that are attached to
//! the mailboxes.
//!
//! A program sends its request as soon as it is connected. A silent caller keeps its place for a short time only, and a
//! newer caller may take the place earlier. So any number of silent callers cannot keep the server from answering one
//! that sends a request.

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

/// Identifies a caller.
pub(crate) type Number = u64;

/// What a caller has done.
#[derive(Debug)]
pub(crate) enum CallerEvent {
    /// It has sent a request, which its socket holds.
    Request(CloseOnForkFd),
    /// It was attached, and has gone.
    Detached,
    /// It was refused before.
    Unknown,
}

/// The callers of a server.
#[derive(Debug)]
pub(crate) struct Callers {
    next: Number,
    /// In the order of connecting.
    silent: BTreeMap<Number, (CloseOnForkFd, Instant)>,
    attached: HashMap<Number, CloseOnForkFd>,
}

impl Callers {
    /// Returns no callers. The first one will get this number.
    pub(crate) fn new(first: Number) -> Self {
        Self { next: first, silent: BTreeMap::new(), attached: HashMap::new() }
    }

    /// Adds a caller. The server watches its socket under the number that this returns. The oldest silent caller may
    /// make room.
    pub(crate) fn add(&mut self, socket: CloseOnForkFd, now: Instant) -> (&CloseOnForkFd, Number) {
        if self.silent.len() >= SILENT {
            self.make_room();
        }
        let number = self.next;
        self.next += 1;
        let (socket, _) = self.silent.entry(number).or_insert((socket, now + TIMEOUT));
        (socket, number)
    }

    /// Refuses the oldest silent caller. Returns `false` if there is none.
    pub(crate) fn make_room(&mut self) -> bool {
        let oldest = self.silent.pop_first();
        if let Some((_, (socket, _))) = &oldest {
            refuse(socket);
        }
        oldest.is_some()
    }

    /// Takes out a caller whose socket is readable, because it sent a request or has gone.
    pub(crate) fn take(&mut self, number: Number) -> CallerEvent {
        match (self.silent.remove(&number), self.attached.remove(&number)) {
            (Some((socket, _)), _) => CallerEvent::Request(socket),
            // An attached program sends no further request, so it has gone.
            (None, Some(_)) => CallerEvent::Detached,
            (None, None) => CallerEvent::Unknown,
        }
    }

    /// Returns whether another program may be attached.
    pub(crate) fn may_attach(&self) -> bool {
        self.attached.len() < ATTACHED
    }

    /// Attaches a caller for as long as its socket is open.
    pub(crate) fn attach(&mut self, number: Number, socket: CloseOnForkFd) {
        self.attached.insert(number, socket);
    }

    /// Returns when [`expire`](Self::expire) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.silent.first_key_value().map(|(_, (_, until))| *until)
    }

    /// Refuses the silent callers whose time has passed.
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
        // An attached program stays.
        let CallerEvent::Request(socket) = callers.take(newest.1) else { panic!("it is there") };
        callers.attach(newest.1, socket);
        callers.expire(late + 2 * TIMEOUT);
        assert_eq!((callers.deadline(), callers.make_room(), callers.attached.len()), (None, false, 1));
        assert!(matches!(callers.take(newest.1), CallerEvent::Detached));
        assert!(matches!(callers.take(newest.1), CallerEvent::Unknown));
    }
}
