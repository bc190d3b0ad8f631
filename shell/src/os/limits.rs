//! Resource limits.

use rustix::process::Resource;

/// Raises the soft limit of open descriptors to the hard limit. Returns the soft limit that is now in force.
pub fn raise_descriptor_limit() -> u64 {
    let [_, hard] = limit_of(Resource::Nofile);
    let raised = libc::rlimit64 { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the call only reads `raised`, which lives through it.
    unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, &raw const raised) };
    limit_of(Resource::Nofile)[0]
}

/// Returns the soft and the hard limit of a resource, such as `RLIMIT_NOFILE`. `u64::MAX` means that there is no limit, or that
/// the kernel does not tell it.
pub fn limit_of(resource: Resource) -> [u64; 2] {
    // The function of rustix panics where a filter forbids this system call.
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    // SAFETY: the call writes only `limit`, which lives through it. If the call fails, `limit` keeps its valid initial value.
    unsafe { libc::getrlimit64(resource as _, &raw mut limit) };
    [limit.rlim_cur, limit.rlim_max]
}
