//! Checks of the limits of a process and of a user.

use super::{Finding, files};
use crate::ui::units::size;
use rustix::process::Resource;
use whorl::internal::os::limits::limit_of;
use whorl::internal::os::memory::available;
use whorl::internal::transfer::MAX_PEERS;

/// Below the first number of descriptors the check fails, below the second it warns.
const FILES: (u64, u64) = (64, 1024);
/// Below the first amount of free memory the check fails, below the second it warns.
const MEMORY: (u64, u64) = (1 << 20, 64 << 20);

pub(super) fn check() -> Vec<Finding> {
    vec![
        open_files(),
        processes(),
        file_size(),
        address_space(),
        memory(),
        files::this_directory(),
        loopback(),
    ]
}

/// Returns the hard limit, because the commands raise the soft limit themselves.
fn most(resource: Resource) -> u64 {
    limit_of(resource)[1]
}

fn current(resource: Resource) -> u64 {
    limit_of(resource)[0]
}

fn open_files() -> Finding {
    let (name, most) = ("open files", most(Resource::Nofile));
    let advice = "raise it: 'ulimit -Hn', or LimitNOFILE= of the service";
    match most {
        _ if most < FILES.0 => Finding::fail(name, format!("only {most} are allowed"), advice),
        _ if most < FILES.1 => Finding::warn(name, format!("only {most} are allowed"), advice),
        u64::MAX => Finding::ok(name, "no limit"),
        _ => Finding::ok(name, format!("{most} are allowed")),
    }
}

fn processes() -> Finding {
    match current(Resource::Nproc) {
        few if few < u64::from(MAX_PEERS) + 64 => Finding::warn(
            "processes",
            format!("this user may have {few}"),
            format!("'shell copy' can have up to {MAX_PEERS} peers; raise it: 'ulimit -u'"),
        ),
        _ => Finding::ok("processes", format!("enough for 'shell copy' to {MAX_PEERS} peers")),
    }
}

fn file_size() -> Finding {
    match current(Resource::Fsize) {
        u64::MAX => Finding::ok("file size", "no limit"),
        limit => Finding::warn(
            "file size",
            format!("files and memory objects end at {}", size(limit)),
            "raise it: 'ulimit -f unlimited'",
        ),
    }
}

fn address_space() -> Finding {
    match current(Resource::As) {
        u64::MAX => Finding::ok("address space", "no limit"),
        limit => Finding::warn(
            "address space",
            format!("limited to {}", size(limit)),
            "large rings and mailboxes cannot be mapped; 'ulimit -v unlimited'",
        ),
    }
}

fn memory() -> Finding {
    let (name, free) = ("memory", available());
    let advice = "free some, or raise the container's limit: shared memory counts there";
    match free {
        u64::MAX => Finding::warn(name, "the amount of free memory is unknown", "is /proc mounted?"),
        _ if free < MEMORY.0 => Finding::fail(name, format!("{} free", size(free)), advice),
        _ if free < MEMORY.1 => Finding::warn(name, format!("{} free", size(free)), advice),
        _ => Finding::ok(name, format!("{} free", size(free))),
    }
}

fn loopback() -> Finding {
    match std::net::TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) if std::net::TcpListener::bind(("::1", 0)).is_ok() => {
            Finding::ok("loopback", "127.0.0.1 and ::1 work")
        }
        Ok(_) => Finding::ok("loopback", "127.0.0.1 works; there is no ::1"),
        Err(error) => Finding::fail(
            "loopback",
            whorl::internal::os::error::reason_of(&error),
            "'shell dipc' and 'shell serve' need it: ip link set lo up",
        ),
    }
}
