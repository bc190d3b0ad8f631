//! The options of a server that announces itself.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The options of a server.
#[derive(Clone, Debug)]
#[must_use = "options start a server with `start`"]
pub struct ServerOptions {
    pub(super) directory: PathBuf,
    pub(super) socket_message: Vec<u8>,
    pub(super) shm_message: Vec<u8>,
    pub(super) address: IpAddr,
    pub(super) any_user: bool,
    pub(super) runtime_dir: Option<PathBuf>,
}

impl ServerOptions {
    /// Returns the options of a server that announces itself in this directory, with two empty messages, on loopback,
    /// for this process's user and root. The directory is created for this user alone if it does not exist.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            socket_message: Vec::new(),
            shm_message: Vec::new(),
            address: Ipv4Addr::LOCALHOST.into(),
            any_user: false,
            runtime_dir: None,
        }
    }

    /// Sets the message that each client gets over TCP, at most 1 MiB. The default is empty.
    pub fn socket_message(mut self, message: impl Into<Vec<u8>>) -> Self {
        self.socket_message = message.into();
        self
    }

    /// Sets the message that each client gets through shared memory, at most 1 MiB. The default is empty.
    pub fn shm_message(mut self, message: impl Into<Vec<u8>>) -> Self {
        self.shm_message = message.into();
        self
    }

    /// Sets the address at which the server listens; the default is 127.0.0.1. With the unspecified address it listens at every
    /// address. Its information file then names an address that other machines reach, or 127.0.0.1 if there is none.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// Serves every user of this machine on loopback. By default the server serves this process's user and root there. On
    /// another address it serves every client that reaches it.
    pub fn any_user(mut self, any_user: bool) -> Self {
        self.any_user = any_user;
        self
    }

    /// Uses this directory for the name of the server's channel in place of the user's runtime directory.
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.runtime_dir = Some(path.into());
        self
    }
}
