//! Sockets of several users in one test. A thread may have another user than its process, and a socket belongs to the
//! user of the thread that makes it.

use rustix::process::Uid;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The user without rights. Its number also stands for users that have no number here.
pub const NOBODY: u32 = 65534;
/// A user without a name.
pub const OTHER: u32 = 54321;

/// Runs something as another user.
pub fn as_user<T: Send>(user: u32, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

/// Connects as a user.
pub fn connect(user: u32, address: SocketAddr) -> TcpStream {
    let stream = as_user(user, || TcpStream::connect(address).unwrap());
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Connects as a user, from an address of this machine.
pub fn connect_from(user: u32, from: SocketAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let stream = as_user(user, || {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &from).unwrap();
        connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    });
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// An address of loopback on which no other process takes ports.
pub fn own_loopback() -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    ([127, a | 0x80, b, c], 0).into()
}

/// Closes a connection at once, so that the kernel keeps no state of it.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}
