//! What a machine may lack. A test that needs it is skipped, and prints that on standard error.

use std::process::{Command, Stdio};

/// Prints that something is not tested on this machine.
pub fn skip(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}

/// Whether strace cannot be used. If so, prints that `what` is skipped.
pub fn lacks_strace(what: &str) -> bool {
    let tried =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let lacks = !tried.is_ok_and(|status| status.success());
    if lacks {
        skip(what, "strace is not installed, or is not allowed to trace");
    }
    lacks
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process cannot become other users. If so, prints that `what` is skipped.
pub fn lacks_root(what: &str) -> bool {
    if !is_root() {
        skip(what, "only root can act as several users");
    }
    !is_root()
}

/// Whether unshare(1) cannot make namespaces with these flags. If so, prints that `what` is skipped.
pub fn lacks_unshare(flags: &[&str], what: &str) -> bool {
    let tried = Command::new("unshare").args(flags).arg("true").stderr(Stdio::null()).status();
    let lacks = !tried.is_ok_and(|status| status.success());
    if lacks {
        skip(what, &format!("'unshare {}' does not work", flags.join(" ")));
    }
    lacks
}

/// Whether a private mount namespace with a tmpfs can be made.
pub fn can_mount() -> bool {
    let script = "d=$(mktemp -d) && mount -t tmpfs -o size=64k tmpfs \"$d\" && umount \"$d\" && rmdir \"$d\"";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", script]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}
