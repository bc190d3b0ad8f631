//! What the file systems, and the calls that make files, can do. Each lack has another way; what that way cannot do is said.

use super::Finding;
use rustix::fd::AsFd;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use whorl::os::error::reason;
use whorl::os::new_file::{Abilities, abilities, check_locks};
use whorl::registry::RuntimeDir;

/// Whether a filter of system calls bars one that makes or judges files. A call that is let through says that there is no
/// file with an empty name.
pub(super) fn calls() -> Finding {
    let name = "file calls";
    let tried = [
        ("linkat", rustix::fs::linkat(CWD, "", CWD, "", AtFlags::empty())),
        ("renameat2", rustix::fs::renameat_with(CWD, "", CWD, "", RenameFlags::NOREPLACE)),
        ("faccessat2", rustix::fs::accessat(CWD, "", Access::EXISTS, AtFlags::SYMLINK_NOFOLLOW)),
    ];
    let is_barred =
        |result: &Result<(), Errno>| matches!(result, Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS));
    let barred: Vec<_> =
        tried.iter().filter(|(_, result)| is_barred(result)).map(|(call, _)| *call).collect();
    if barred.is_empty() {
        return Finding::ok(name, "linkat, renameat2 and faccessat2 are there");
    }
    Finding::warn(
        name,
        format!("missing or forbidden: {}", barred.join(", ")),
        "older calls are used instead; allow these in the container's profile",
    )
}

/// The information files of mailbox servers are made in the runtime directory.
pub(super) fn runtime_directory(directory: impl AsFd) -> Finding {
    let name = "unnamed files";
    match abilities(directory) {
        Ok(Abilities { unnamed: true, .. }) => Finding::ok(name, "in the runtime directory"),
        Ok(_) => Finding::ok(name, "not in the runtime directory; temporary names are used instead"),
        Err(error) => Finding::fail(
            name,
            format!("no file can be made in the runtime directory: {}", reason(error)),
            "set XDG_RUNTIME_DIR to a directory that can be written",
        ),
    }
}

/// Names of channels are sockets, which some file systems do not know (FAT, some FUSE ones). Locks say which of them live.
pub(super) fn sockets_and_locks(directory: &RuntimeDir) -> Finding {
    let name = "sockets, locks";
    let locks = || directory.lock().map(drop).and_then(|()| check_locks(directory));
    match try_socket(directory).and_then(|()| locks()) {
        Ok(()) => Finding::ok(name, "in the runtime directory"),
        Err(error) => Finding::fail(
            name,
            format!("not in the runtime directory: {}", reason(error)),
            "set XDG_RUNTIME_DIR to a directory on a tmpfs or a local disk",
        ),
    }
}

fn try_socket(directory: &RuntimeDir) -> Result<(), Errno> {
    let file = format!(".doctor-{}.sock", std::process::id());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(directory.path_of(&file))?)?;
    rustix::fs::unlinkat(directory, &file, AtFlags::empty())
}

/// Files that are copied here have no name before they are complete, where the file system can do that.
pub(super) fn this_directory() -> Finding {
    let name = "this directory";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(".", flags, Mode::empty()).and_then(abilities) {
        Ok(Abilities { unnamed: true, keeps: true }) => {
            Finding::ok(name, "copies have no name before they are complete")
        }
        Ok(Abilities { keeps: true, .. }) => {
            Finding::warn(name, "no unnamed files", "a kill at the wrong moment can leave a .part file")
        }
        Ok(Abilities { keeps: false, .. }) => Finding::warn(
            name,
            "no unnamed files, no hard links, and no rename that keeps existing files",
            "--no-clobber is refused here, and a kill at the wrong moment can leave a .part file",
        ),
        Err(Errno::ACCESS | Errno::ROFS) => Finding::warn(name, "not writable", "'shell copy' needs -d DIR"),
        Err(error) => Finding::warn(name, reason(error), "'shell copy' needs -d DIR"),
    }
}
