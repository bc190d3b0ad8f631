//! What the tests share, one purpose per file:
//!
//! | file | purpose |
//! |---|---|
//! | [`sandbox`] | a directory of a test's own, with a runtime directory in it |
//! | [`command`] | running a command and checking how it ended |
//! | [`process`] | what `/proc` reports about a process, and signals to it |
//! | [`wait`] | waiting for a condition |
//! | [`bytes`] | contents of files and messages that show any damage |
//! | [`requirements`] | what a machine may lack, so that a test is skipped |
//! | [`machine`] | a busy machine, and how late it runs a thread |
//! | [`stopped_copy`] | copies that are stopped in the middle |
//! | [`mailbox_server`] | mailbox servers and clients of their protocol |
//! | [`effort`] | how much of a test runs |
//! | [`session`] | a session of that protocol without sockets |
//! | [`oracle`] | a second implementation of that protocol, made from its document |
//! | [`seccomp`] | commands for which the kernel refuses some calls |
//! | [`users`] | sockets of several users |
//! | [`terminal`] | a terminal, drawn by tmux |

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub mod bytes;
pub mod command;
pub mod effort;
pub mod machine;
pub mod mailbox_server;
pub mod oracle;
pub mod process;
pub mod requirements;
pub mod sandbox;
pub mod seccomp;
pub mod session;
pub mod stopped_copy;
pub mod terminal;
pub mod users;
pub mod wait;

pub use bytes::{assert_holds, next, noise};
pub use command::{Ended, Running, own_test, ran_alone, run, start, start_with_stdout, start_with_streams};
pub use effort::{is_long, short_or_long};
pub use process::{
    all_pids, children, cpu_ticks, is_alive, is_stopped, open_file, proc_status, signal, signal_group, stat,
    stop, written,
};
pub use requirements::{can_mount, is_root, lacks_root, lacks_strace, lacks_unshare, skip};
pub use sandbox::{Sandbox, live_receivers};
pub use wait::{LIMIT, SOON, all_at_once, is_readable, until};

/// The command.
pub const SHELL: &str = env!("CARGO_BIN_EXE_shell");
/// The options for the two transports.
pub const TRANSPORTS: [&str; 2] = ["--shm", "--socket"];

/// A transport, and a ring that holds few blocks.
pub fn small(transport: &str) -> &str {
    if transport == "--shm" { "--shm --ring 256K" } else { transport }
}

/// A transport, and the smallest ring.
pub fn smallest(transport: &str) -> &str {
    if transport == "--shm" { "--shm --ring 4K" } else { transport }
}
