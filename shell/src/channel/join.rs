//! Joining a named channel: connects, receives the grant, occupies a seat, and waits to be admitted.

use crate::channel::error::JoinError;
use crate::channel::transport::incoming::Incoming;
use crate::channel::transport::ring_receiver::RingReceiver;
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::CloseOnForkFd;
use crate::os::error::cannot;
use crate::os::signal::stop_signal;
use crate::registry::protocol::{ControlMessage, ProtocolError, Refusal, Start, Token};
use crate::registry::{Answer, Client, ConnectError, Name, RequestError, RuntimeDir};
use crate::shm::liveness::Owner;
use crate::shm::ring::Segment;
use std::time::{Duration, Instant};
use whorl_core::error::JoinError as CoreJoinError;
use whorl_core::ring::{PendingReceiver, is_free};

/// The result of one try to join.
pub(super) enum Attempt<T> {
    Joined(T),
    /// No sender admits this receiver now. One may do so in a moment.
    NotYet {
        refused: bool,
    },
}

/// How long to try for a seat while the sender reclaims those of dead receivers.
const SEAT_SEARCH: Duration = Duration::from_secs(2);

/// Tries to join, without waiting for a sender to take the name.
pub(super) fn attempt(
    directory: &RuntimeDir,
    name: &Name,
    start: Start,
    token: Token,
    deadline: Option<Instant>,
) -> Result<Attempt<(Incoming, Client)>, JoinError> {
    let not_yet = |refused| Ok(Attempt::NotYet { refused });
    let client = match Client::connect(directory, name) {
        Ok(client) => client,
        Err(ConnectError::NotFound) => return not_yet(false),
        Err(ConnectError::Dead | ConnectError::Backlog) => return not_yet(true),
        Err(error) => return Err(error.into()),
    };
    let answer = match client.request(ControlMessage::Join(start), token, deadline) {
        Ok(answer) => answer,
        Err(RequestError::Closed) => return not_yet(true),
        Err(RequestError::TimedOut) => return Err(JoinError::TimedOut),
        Err(RequestError::Interrupted) => return Err(JoinError::Interrupted),
        Err(error) => return Err(error.into()),
    };
    Ok(match enter(answer, &client, start, deadline)? {
        Some(incoming) => Attempt::Joined((incoming, client)),
        None => Attempt::NotYet { refused: true },
    })
}

/// Uses what the sender granted. Returns `None` if the sender has gone.
fn enter(
    answer: Answer,
    client: &Client,
    start: Start,
    deadline: Option<Instant>,
) -> Result<Option<Incoming>, JoinError> {
    let malformed = || RequestError::from(ProtocolError::Malformed);
    match answer.record.message {
        ControlMessage::Ring(hint) => {
            let objects: [CloseOnForkFd; 2] = answer.descriptors.try_into().map_err(|_| malformed())?;
            // Forked children share them, because a descriptor of memory does not show that a process lives.
            let [data, control] = objects.map(CloseOnForkFd::share);
            let segment = Segment::received(data, control);
            Ok(occupy_seat(&segment, hint, client, start, deadline)?.map(Incoming::Ring))
        }
        ControlMessage::Stream => {
            let [stream]: [CloseOnForkFd; 1] = answer.descriptors.try_into().map_err(|_| malformed())?;
            let stream = Stream::new(stream).map_err(cannot("receive"))?;
            Ok(Some(Incoming::Stream(stream)))
        }
        ControlMessage::Refused(Refusal::Over) => Ok(None),
        ControlMessage::Refused(why) => Err(why.into()),
        _ => Err(malformed().into()),
    }
}

fn occupy_seat(
    segment: &Segment,
    hint: u32,
    client: &Client,
    start: Start,
    deadline: Option<Instant>,
) -> Result<Option<RingReceiver>, JoinError> {
    let ring = segment.attach(Owner::LockHolder)?;
    let locks = segment.byte_locks()?;
    let seats = ring.geometry().seats();
    let begun = Instant::now();
    let pending = loop {
        let seated = (0..seats).map(|step| (hint % seats + step) % seats).find_map(|seat| {
            let from_first = start == Start::First;
            let request =
                || PendingReceiver::request_seat(ring.clone(), seat, from_first, std::process::id()).ok();
            locks.occupy(seat, || is_free(&ring, seat), request).ok().flatten()
        });
        match seated {
            Some(pending) => break pending,
            None if stop_signal().is_some() => return Err(JoinError::Interrupted),
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(JoinError::TimedOut);
            }
            None if begun.elapsed() > SEAT_SEARCH => return Err(Refusal::Full.into()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    match client.send(ControlMessage::Seated(pending.seat()), Token::default()) {
        Err(RequestError::Closed) => return Ok(None),
        other => other?,
    }
    match pending.admitted(deadline) {
        Ok(receiver) => Ok(Some(RingReceiver::new(receiver, locks))),
        Err(CoreJoinError::SenderDied | CoreJoinError::Reclaimed) => Ok(None),
        Err(CoreJoinError::Missed) => Err(Refusal::Missed.into()),
        Err(CoreJoinError::TimedOut) => Err(JoinError::TimedOut),
        Err(CoreJoinError::Interrupted) => Err(JoinError::Interrupted),
        Err(CoreJoinError::Taken | CoreJoinError::Asking) => Err(Refusal::Full.into()),
    }
}
