//! Keeping the names by which a server is found. A program that cleans up may remove them while the server runs.

use super::{CONTROL, Server, StartError, watch};
use crate::mailbox_server::server_registry::ServerRegistry;
use crate::os::error::cannot;
use std::time::Duration;

/// How often to check the names.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(2);

impl Server {
    /// Puts the lock file and the control socket back if they were removed. If that fails, logs it once, and tries
    /// again the next time.
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
            // This fails if another server has taken the name. Then the control socket is not this server's either.
            let registry = ServerRegistry::open()?;
            let lock_file = registry.register(&self.info)?;
            self.registry = registry;
            // A process may have the former file open. Its lock still shows that process that this server lives.
            self.former = Some(std::mem::replace(&mut self.lock_file, lock_file));
        }
        if self.control.is_gone() {
            self.control.put_back()?;
            watch(&self.epoll, &self.control, CONTROL).map_err(cannot("wait for events"))?;
        }
        Ok(())
    }
}
