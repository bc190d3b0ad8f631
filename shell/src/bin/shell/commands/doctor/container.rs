//! Checks of what containers restrict.

use super::Finding;
use crate::ui::units::size;
use whorl::internal::os::memory::{available, available_on_machine};

/// The link of the first pid namespace of a machine.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

pub(super) fn check() -> Vec<Finding> {
    vec![dev_shm(), pid_namespace(), memory_limit()]
}

/// Reports `/dev/shm`, because its 64 MiB in a container often cause trouble elsewhere. Whorl does not use it.
fn dev_shm() -> Finding {
    let name = "/dev/shm";
    match rustix::fs::statvfs(name) {
        Ok(at) => {
            let size = size(at.f_blocks.saturating_mul(at.f_frsize));
            Finding::ok(name, format!("{size}; Whorl does not use it"))
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
            "a namespace of its own",
            "processes outside it have no pid here; data still arrive if both sides share the runtime directory",
        ),
        Err(error) => Finding::warn(name, whorl::internal::os::error::reason_of(&error), "is /proc mounted?"),
    }
}

/// Checks the limit of the control group, which shared memory counts against.
fn memory_limit() -> Finding {
    let name = "memory limit";
    let (here, all) = (available(), available_on_machine().unwrap_or(u64::MAX));
    // Both figures change all the time, so only a clear difference shows a limit.
    if here >= all / 2 {
        return Finding::ok(name, "the control group allows what the machine has");
    }
    let finding = format!("the control group allows {} of {} that are free", size(here), size(all));
    Finding::warn(name, finding, "larger rings and mailboxes are refused; raise the limit")
}
