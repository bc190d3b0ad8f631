//! Looking after the names by which a server is found: a program that cleans up may remove them while it runs.

use super::{CONTROL, Server, watch};
use crate::mailbox_server::control;
use crate::mailbox_server::place::{Place, PlaceError};
use std::time::Duration;

/// How often to look.
pub(super) const LOOK: Duration = Duration::from_secs(2);

impl Server {
    /// Puts the information file and the control socket back, if they were removed. What cannot be put back is logged
    /// once, and tried again the next time.
    pub(super) fn keep_names(&mut self) {
        let port = self.address.port();
        let has_information = self.place.is_in_place() && self.place.has(&self.held);
        let has_control = || self.place.is_control(port, self.control_file);
        if has_information && has_control() {
            return;
        }
        match self.put_names_back(has_information) {
            Ok(()) => {
                tracing::warn!("the server's files in the runtime directory were removed, and are back");
                self.is_missed = false;
            }
            Err(error) if !self.is_missed => {
                tracing::warn!("the server's files in the runtime directory were removed: {error}");
                self.is_missed = true;
            }
            Err(_) => {}
        }
    }

    fn put_names_back(&mut self, has_information: bool) -> Result<(), PlaceError> {
        let port = self.address.port();
        if !has_information {
            // Fails where another server has taken the name: then the control socket is not ours either.
            let place = Place::open()?;
            let held = place.hold(&self.information)?;
            self.place = place;
            // The lock of the former file still tells whoever has it open that this server lives.
            self.former = Some(std::mem::replace(&mut self.held, held));
        }
        let failed =
            |error| self.place.failed("write", &crate::mailbox_server::place::socket_name(port))(error);
        let (control, file) = control::listen(&self.place, port).map_err(failed)?;
        watch(&self.epoll, &control, CONTROL).map_err(failed)?;
        (self.control, self.control_file) = (control, file);
        Ok(())
    }
}
