//! Checks of the kernel.

use super::{Finding, files};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use whorl::internal::os::error::reason;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::os::socket_owner::{OwnerCheck, Source};

/// The oldest version that has everything.
const OLDEST: (u32, u32) = (5, 6);

pub(super) fn check() -> Vec<Finding> {
    vec![
        version(),
        memory_objects(),
        sealing(),
        byte_locks(),
        pidfd(),
        socket_owners(),
        files::calls(),
        proc(),
    ]
}

/// Returns why a call failed, in words that fit the checks.
fn why(error: Errno) -> String {
    match error {
        Errno::NOSYS => "this kernel does not have it".into(),
        Errno::PERM | Errno::ACCESS => "forbidden, perhaps by a container's seccomp profile".into(),
        other => reason(other),
    }
}

const UPDATE: &str = "use Linux 5.6 or newer, and allow the call in the container's profile";

fn version() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match numbers(release) {
        Some(version) if version >= OLDEST => Finding::ok("kernel", format!("Linux {release}")),
        Some(_) => Finding::fail("kernel", format!("Linux {release}"), "5.6 is the oldest that works"),
        None => Finding::warn("kernel", "its version cannot be read", "5.6 is the oldest that works"),
    }
}

fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn memfd() -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let object = match rustix::fs::memfd_create("doctor", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("doctor", flags)?, // a kernel before 6.3
        other => other?,
    };
    rustix::fs::ftruncate(&object, 4096)?;
    Ok(object)
}

fn memory_objects() -> Finding {
    match memfd() {
        Ok(_) => Finding::ok("memfd", "unnamed memory objects work"),
        Err(error) => Finding::fail("memfd", why(error), UPDATE),
    }
}

fn sealing() -> Finding {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    match memfd().and_then(|object| rustix::fs::fcntl_add_seals(&object, seals)) {
        Ok(()) => Finding::ok("sealing", "prevents resizing, and writing by receivers"),
        Err(error) => Finding::fail("sealing", why(error), UPDATE),
    }
}

fn byte_locks() -> Finding {
    let tried = memfd().and_then(|object| {
        let (one, other) = (ByteLocks::open(&object)?, ByteLocks::open(&object)?);
        Ok(one.try_lock(0)? && other.is_held(0) && !other.try_lock(0)?)
    });
    match tried {
        Ok(true) => Finding::ok("OFD locks", "the kernel tells which processes are dead"),
        Ok(false) => Finding::fail("OFD locks", "a held lock is not seen as held", UPDATE),
        Err(error) => Finding::fail("OFD locks", why(error), UPDATE),
    }
}

fn pidfd() -> Finding {
    match rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()) {
        Ok(_) => Finding::ok("pidfd", "the kernel reports the end of a process at once"),
        Err(error) => {
            let advice =
                "'shell copy' uses pipes instead; 'shell dipcrm' cannot signal a server that does not answer";
            Finding::warn("pidfd", why(error), advice)
        }
    }
}

/// Asks the kernel for the owner of a loopback connection of this process.
fn socket_owners() -> Finding {
    let name = "sock_diag";
    let advice = "'shell dipc' and 'shell serve' refuse clients on loopback, unless --any-user is given";
    let listener = match std::net::TcpListener::bind(("127.0.0.1", 0)) {
        Ok(listener) => listener,
        Err(error) => {
            return Finding::warn(
                name,
                format!("not tried: {}", whorl::internal::os::error::reason_of(&error)),
                advice,
            );
        }
    };
    let connected = listener.local_addr().and_then(|address| {
        // A filter may drop what comes over loopback.
        let client = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1))?;
        Ok((address, client, listener.accept()?.0))
    });
    let (address, _client, accepted) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            return Finding::warn(
                name,
                format!("not tried: {}", whorl::internal::os::error::reason_of(&error)),
                advice,
            );
        }
    };
    let check = OwnerCheck::open(address);
    match (check.owner(&accepted), check.source()) {
        (Ok(_), Source::SockDiag) => {
            Finding::ok(name, "the kernel tells which user owns a loopback connection")
        }
        (Ok(_), Source::ProcNet { why: error }) => Finding::warn(
            name,
            why(error),
            "servers read /proc/net/tcp instead, which is slow with many connections",
        ),
        (Err(unknown), _) => Finding::fail(name, unknown.to_string(), advice),
    }
}

fn proc() -> Finding {
    match std::fs::metadata("/proc/self/fd") {
        Ok(_) => Finding::ok("/proc", "mounted"),
        Err(_) => Finding::fail("/proc", "not mounted", "mount -t proc proc /proc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("6.18.5-generic"), Some((6, 18)));
        assert_eq!(numbers("5.6.0"), Some(OLDEST));
        assert!(numbers("5.10.1") >= Some(OLDEST) && numbers("5.4.9") < Some(OLDEST));
        assert_eq!(numbers("words"), None);
    }
}
