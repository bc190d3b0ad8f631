//! Checks of the file systems and of the system calls that make files. The commands have a substitute for each one; a
//! warning says what the substitute cannot do.

use super::Finding;
use rustix::fd::AsFd;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use whorl::internal::os::error::reason;
use whorl::internal::os::new_file::{Abilities, abilities, check_locks};
use whorl::internal::registry::RuntimeDir;

/// Checks whether a filter of system calls forbids one that makes or tests files. An allowed call reports that no file has an
/// empty name.
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
        return Finding::ok(name, "linkat, renameat2 and faccessat2 work");
    }
    Finding::warn(
        name,
        format!("missing or forbidden: {}", barred.join(", ")),
        "older calls are used instead; allow these in the container's profile",
    )
}

/// Checks for unnamed files, of which mailbox servers make their information files.
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

/// Checks for sockets and locks, which some file systems lack (FAT, some FUSE ones). A channel needs both.
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

/// Checks whether copies into this directory can stay unnamed until they are complete.
pub(super) fn this_directory() -> Finding {
    let name = "this directory";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(".", flags, Mode::empty()).and_then(abilities) {
        Ok(Abilities { unnamed: true, keeps: true }) => {
            Finding::ok(name, "a copy has no name before it is complete")
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
