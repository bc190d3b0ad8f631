//! What one client of a mailbox server, or one kernel without some call, may cost the others: a bounded part.

mod dipc_support;
#[path = "common/filter.rs"]
mod filter;

use dipc_support::{Place, Server, expect, text};
use std::io::Write;

/// Starts a server for which the kernel refuses a call.
fn filtered(call: libc::c_long, error: i32, args: &[&str]) -> Server {
    let place = Place::new();
    let mut command = place.shell(&[&["dipc"], args].concat());
    filter::refuse(&mut command, &[call], error);
    let output = command.output().expect("it starts");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let port = said.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
    Server { place, port: port.expect("a port") }
}

/// Any client may ask for it, and the older call for waiting takes less.
#[test]
fn a_far_deadline_ends_no_server_where_the_kernel_lacks_a_call() {
    for error in [libc::ENOSYS, libc::EPERM] {
        let server = filtered(libc::SYS_epoll_pwait2, error, &["8", "1", "0", "1", "--workers", "1"]);
        let mut patient = server.connect();
        patient.write_all(b"r 0 0 9999999999\n").unwrap();
        let mut other = server.connect();
        for round in 1..=3 {
            // The one worker has seen the far deadline once it has answered the other.
            expect(&mut other, "r 1 0 20\n", "same 1 0\n");
            expect(&mut other, "w 2 1\nx\n", &format!("ok 2 {round}\n"));
        }
        expect(&mut other, "w 0 2\nhi\n", "ok 0 1\n");
        expect(&mut patient, "", "data 0 1 2\nhi\n");
    }
}
