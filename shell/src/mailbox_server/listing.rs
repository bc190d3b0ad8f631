//! Mailbox servers, whose files lie in the same directory: `dipc-PORT.info`, and beside it their own control socket
//! `dipc-PORT.sock`. They judge and clear their own; channels leave names of this form to them.

use crate::mailbox_server::place::{Information, Place, PlaceError};
use crate::registry::Name;
use crate::registry::status::Kind;
use crate::registry::{Listed, State};

/// Every mailbox server of this user there is, or was.
///
/// # Errors
/// The runtime directory cannot be used.
pub fn mailbox_servers() -> Result<Vec<Listed>, PlaceError> {
    let place = Place::open()?;
    let seen = place.ports().into_iter().filter_map(|port| Some((port, place.see(port).ok()??)));
    let listed = seen.filter_map(|(port, seen)| {
        let state = if seen.is_live() { State::Live } else { State::Stale };
        let owner = match state {
            State::Stale => seen.information.as_ref().map_or(0, Information::visible_pid),
            _ => place.pid_of(port, &seen),
        };
        Some(Listed {
            kind: Some(Kind::Mailboxes),
            owner: Some(owner).filter(|&pid| pid != 0),
            ..Listed::new(name_of(port)?, state)
        })
    });
    Ok(listed.collect())
}

/// Clears away what dead mailbox servers left; returns their names.
///
/// # Errors
/// The runtime directory cannot be used.
pub fn clear_mailbox_servers() -> Result<Vec<Name>, PlaceError> {
    let place = Place::open()?;
    let cleared = |&port: &u16| matches!(place.see(port), Ok(Some(seen)) if place.clear(&seen));
    Ok(place.ports().into_iter().filter(cleared).filter_map(name_of).collect())
}

fn name_of(port: u16) -> Option<Name> {
    format!("dipc-{port}").parse().ok()
}
