//! Sockets of several users in one test: a thread may have another user than its process, and a socket belongs to the user
//! of the thread that makes it.

#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "../common/filter.rs"]
#[expect(dead_code, reason = "a family of sockets is refused here, not a call")]
mod filter;

use filter::install;
use rustix::process::Uid;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The user without rights, whose number also stands for users that have none.
pub const NOBODY: u32 = 65534;
/// A user without a name.
pub const OTHER: u32 = 54321;

/// Whether this process may become other users.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test}: it takes root to have several users");
    }
    root
}

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

/// Closes a connection so that nothing of it remains, as by a program that is in a hurry.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Lets a process that this becomes make no netlink sockets, as a container's filter does.
///
/// # Errors
/// The kernel allows no filter.
pub fn refuse_netlink() -> std::io::Result<()> {
    refuse_family(libc::AF_NETLINK, libc::EPERM)
}

/// Lets a process that this becomes make no sockets of a family.
///
/// # Errors
/// The kernel allows no filter.
pub fn refuse_family(family: i32, error: i32) -> std::io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const END: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call, then the low half of its first argument.
    let first_argument = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(IS, 0, 3, libc::SYS_socket as u32),
        step(LOAD, 0, 0, first_argument),
        step(IS, 0, 1, family as u32),
        step(END, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(END, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    install(&mut filter)
}
