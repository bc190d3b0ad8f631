//! Looking after the names by which a server is found: a program that cleans up may remove them while it runs.

use super::{CONTROL, Server, StartError, watch};
use crate::mailbox_server::server_registry::ServerRegistry;
use crate::os::error::cannot;
use std::time::Duration;

/// How often to look.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(2);

impl Server {
    /// Puts the lock file and the control socket back, if they were removed. What cannot be put back is logged once, and
    /// tried again the next time.
    pub(super) fn keep_names(&mut self) {
        let directory = self.registry.directory();
        let has_lock_file = directory.is_in_place() && self.lock_file.has_name();
        if has_lock_file && !self.control.is_gone() {
            return;
        }
        match self.put_names_back(has_lock_file) {
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

    fn put_names_back(&mut self, has_lock_file: bool) -> Result<(), StartError> {
        if !has_lock_file {
            // Fails where another server has taken the name: then the control socket is not this server's either.
            let registry = ServerRegistry::open()?;
            let lock_file = registry.register(&self.info)?;
            self.registry = registry;
            // The lock of the former file still tells a process that has it open that this server lives.
            self.former = Some(std::mem::replace(&mut self.lock_file, lock_file));
        }
        if self.control.is_gone() {
            self.control.put_back()?;
            watch(&self.epoll, &self.control, CONTROL).map_err(cannot("wait for events"))?;
        }
        Ok(())
    }
}
