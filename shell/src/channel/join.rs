//! Joining: connect, be handed the channel, take a seat, be admitted.

use super::error::JoinError;
use super::options::ReceiverOptions;
use super::receiver::{Receiver, Way};
use crate::channel::transport::stream::Stream;
use crate::os::close_on_fork::{CloseOnForkFd, ForkId};
use crate::os::error::cannot;
use crate::os::ofd_lock::ByteLocks;
use crate::os::signal::stop_signal;
use crate::registry::protocol::{ControlMessage, ProtocolError, Refusal, Start, Token};
use crate::registry::{Answer, Client, ConnectError, Name, RequestError, RuntimeDir};
use crate::shm::liveness::Owner;
use crate::shm::ring::{Segment, SharedRing};
use std::time::{Duration, Instant};
use whorl_core::error::JoinError as CoreJoinError;
use whorl_core::ring::{PendingReceiver, Receiver as CoreReceiver, is_free};

/// What came of one try.
pub(super) enum Attempt {
    Joined(Box<Receiver>),
    /// Nobody is there who would have us; perhaps in a moment.
    NotYet {
        refused: bool,
    },
}

/// How long to look for a free seat while those of the dead are cleared.
const CROWDED: Duration = Duration::from_secs(2);

/// Tries to join, without waiting for an owner to come.
pub(super) fn attempt(
    directory: &RuntimeDir,
    name: &Name,
    options: &ReceiverOptions,
    token: Token,
    deadline: Option<Instant>,
) -> Result<Attempt, JoinError> {
    let not_yet = |refused| Ok(Attempt::NotYet { refused });
    let born = ForkId::current();
    let client = match Client::connect(directory, name) {
        Ok(client) => client,
        Err(ConnectError::NotFound) => return not_yet(false),
        Err(ConnectError::Dead | ConnectError::Backlog) => return not_yet(true),
        Err(error) => return Err(error.into()),
    };
    let answer = match client.ask(ControlMessage::Join(options.start), token, deadline) {
        Ok(answer) => answer,
        Err(RequestError::Closed) => return not_yet(true),
        Err(RequestError::TimedOut) => return Err(JoinError::TimedOut),
        Err(RequestError::Interrupted) => return Err(JoinError::Interrupted),
        Err(error) => return Err(error.into()),
    };
    let Some(way) = enter(answer, &client, options, deadline)? else { return not_yet(true) };
    let receiver = Receiver::new(way, client, token, options, born);
    Ok(Attempt::Joined(Box::new(receiver)))
}

/// Takes what was handed over; `None` if the owner went away meanwhile.
fn enter(
    answer: Answer,
    client: &Client,
    options: &ReceiverOptions,
    deadline: Option<Instant>,
) -> Result<Option<Way>, JoinError> {
    let nonsense = || RequestError::from(ProtocolError::Malformed);
    match answer.record.saying {
        ControlMessage::Ring(hint) => {
            let objects: [CloseOnForkFd; 2] = answer.descriptors.try_into().map_err(|_| nonsense())?;
            let [data, control] = objects.map(CloseOnForkFd::share); // memory: nobody's life hangs on it
            let ring = Segment::received(data, control);
            Ok(sit(&ring, hint, client, options, deadline)?
                .map(|(receiver, _seat)| Way::Ring { receiver, _seat }))
        }
        ControlMessage::Stream => {
            let [stream]: [CloseOnForkFd; 1] = answer.descriptors.try_into().map_err(|_| nonsense())?;
            let stream = Stream::new(stream).map_err(cannot("receive"))?;
            Ok(Some(Way::Stream(stream)))
        }
        ControlMessage::Refused(Refusal::Over) => Ok(None),
        ControlMessage::Refused(why) => Err(why.into()),
        _ => Err(nonsense().into()),
    }
}

fn sit(
    segment: &Segment,
    hint: u32,
    client: &Client,
    options: &ReceiverOptions,
    deadline: Option<Instant>,
) -> Result<Option<(CoreReceiver<SharedRing>, ByteLocks)>, JoinError> {
    let ring = segment.attach(Owner::LockHolder)?;
    let locks = segment.byte_locks()?;
    let seats = ring.geometry().seats();
    let begun = Instant::now();
    let applicant = loop {
        let sat = (0..seats).map(|step| (hint % seats + step) % seats).find_map(|seat| {
            let from_first = options.start == Start::First;
            let ask =
                || PendingReceiver::request_seat(ring.clone(), seat, from_first, std::process::id()).ok();
            locks.occupy(seat, || is_free(&ring, seat), ask).ok().flatten()
        });
        match sat {
            Some(applicant) => break applicant,
            None if stop_signal().is_some() => return Err(JoinError::Interrupted),
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(JoinError::TimedOut);
            }
            None if begun.elapsed() > CROWDED => return Err(Refusal::Full.into()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    match client.say(ControlMessage::Seated(applicant.seat()), Token::default()) {
        Err(RequestError::Closed) => return Ok(None),
        other => other?,
    }
    match applicant.admitted(deadline) {
        Ok(receiver) => Ok(Some((receiver, locks))),
        Err(CoreJoinError::SenderDied | CoreJoinError::Reclaimed) => Ok(None),
        Err(CoreJoinError::Missed) => Err(Refusal::Missed.into()),
        Err(CoreJoinError::TimedOut) => Err(JoinError::TimedOut),
        Err(CoreJoinError::Interrupted) => Err(JoinError::Interrupted),
        Err(CoreJoinError::Taken | CoreJoinError::Asking) => Err(Refusal::Full.into()),
    }
}
