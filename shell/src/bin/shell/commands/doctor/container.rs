//! What is different in a container.

use super::Finding;
use whorl::os::memory::{available, available_on_machine, in_words};

/// The kernel's number of the first pid namespace of a machine.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

pub(super) fn look() -> Vec<Finding> {
    vec![dev_shm(), pid_namespace(), memory_limit()]
}

/// The usual trap, 64 MiB in a container, is none of ours. Said because people look for it.
fn dev_shm() -> Finding {
    let name = "/dev/shm";
    match rustix::fs::statvfs(name) {
        Ok(at) => {
            let size = in_words(at.f_blocks.saturating_mul(at.f_frsize));
            Finding::ok(name, format!("{size}, and not used: memory here has no names"))
        }
        Err(_) => Finding::ok(name, "none, and not needed"),
    }
}

fn pid_namespace() -> Finding {
    let name = "pid namespace";
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() == FIRST_PID_NAMESPACE => Finding::ok(name, "the machine's own"),
        Ok(_) => Finding::warn(
            name,
            "one of its own",
            "processes outside have no pid here; data arrives all the same if both share the runtime directory",
        ),
        Err(error) => Finding::warn(name, whorl::os::error::reason_of(&error), "is /proc mounted?"),
    }
}

/// Shared memory counts against the group of whoever touched it first.
fn memory_limit() -> Finding {
    let name = "memory limit";
    let (here, all) = (available(), available_on_machine().unwrap_or(u64::MAX));
    // Both move while one looks; a limit is what makes a clear difference.
    if here >= all / 2 {
        return Finding::ok(name, "the control group allows what the machine has");
    }
    let finding = format!("the control group allows {} of {} that are free", in_words(here), in_words(all));
    Finding::warn(name, finding, "larger rings and mailboxes are refused; raise the limit")
}
