//! Tells a supervisor that the server is ready.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state` to `$NOTIFY_SOCKET`, if it is set. Errors are ignored, because the server also works without a
/// supervisor.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(&path),
        _ => return,
    };
    let socket = UnixDatagram::unbound();
    let (Ok(address), Ok(socket)) = (address, socket) else { return };
    let _ = socket.send_to_addr(state.as_bytes(), &address);
}
