//! Resource limits.

use rustix::process::Resource;

/// Raises the soft limit of open descriptors to the hard one and returns how many may be open.
pub fn raise_descriptor_limit() -> u64 {
    let [_, hard] = limit_of(Resource::Nofile);
    let all = libc::rlimit64 { rlim_cur: hard, rlim_max: hard };
    // SAFETY: reads the limits, which live through the call.
    unsafe { libc::setrlimit64(libc::RLIMIT_NOFILE, &raw const all) };
    limit_of(Resource::Nofile)[0]
}

/// The soft and the hard limit of a resource (`RLIMIT_NOFILE` and so on); `u64::MAX` is none, or none that can be asked for.
/// (Not rustix's, which panics where a filter forbids the question.)
pub fn limit_of(resource: Resource) -> [u64; 2] {
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    // SAFETY: writes the limits, which live through the call; they stay as they are if it fails.
    unsafe { libc::getrlimit64(resource as _, &raw mut limit) };
    [limit.rlim_cur, limit.rlim_max]
}
