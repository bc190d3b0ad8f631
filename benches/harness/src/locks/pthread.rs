//! The C library's lock, shared between processes, as it is by default and with writers preferred. Only glibc has the second
//! kind.

use super::Lock;
use std::cell::UnsafeCell;

pub struct Shared(UnsafeCell<libc::pthread_rwlock_t>);

// SAFETY: the C library makes this lock for sharing.
unsafe impl Sync for Shared {}

/// glibc's number for "prefer writers, and let no reader lock twice" (pthread.h).
#[cfg(target_env = "gnu")]
const PREFER_WRITER_NONRECURSIVE_NP: libc::c_int = 2;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn pthread_rwlockattr_setkind_np(
        attributes: *mut libc::pthread_rwlockattr_t,
        kind: libc::c_int,
    ) -> libc::c_int;
}

pub struct Pthread<const PREFER_WRITERS: bool> {
    shared: &'static Shared,
}

impl<const PREFER_WRITERS: bool> Lock for Pthread<PREFER_WRITERS> {
    const NAME: &'static str = if PREFER_WRITERS { "pthread, writers preferred" } else { "pthread" };
    type Shared = Shared;

    unsafe fn make(place: *mut Shared) {
        assert!(!PREFER_WRITERS || cfg!(target_env = "gnu"), "only glibc's lock can prefer writers");
        // SAFETY: plain data, initialised by the next call.
        let mut attributes: libc::pthread_rwlockattr_t = unsafe { std::mem::zeroed() };
        let attributes = &raw mut attributes;
        // SAFETY: writable for the call.
        let failed = unsafe { libc::pthread_rwlockattr_init(attributes) };
        assert_eq!(failed, 0);
        // SAFETY: initialised.
        let failed = unsafe { libc::pthread_rwlockattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        assert_eq!(failed, 0);
        #[cfg(target_env = "gnu")]
        if PREFER_WRITERS {
            // SAFETY: initialised.
            let failed = unsafe { pthread_rwlockattr_setkind_np(attributes, PREFER_WRITER_NONRECURSIVE_NP) };
            assert_eq!(failed, 0);
        }
        // SAFETY: the place is the caller's, by its promise.
        let failed = unsafe { libc::pthread_rwlock_init(place.cast(), attributes) };
        assert_eq!(failed, 0);
    }

    fn enter(shared: &'static Shared, _: u32) -> Self {
        Self { shared }
    }

    #[inline]
    fn read<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        // SAFETY: made by `make`.
        unsafe { libc::pthread_rwlock_rdlock(self.shared.0.get()) };
        let result = inside();
        // SAFETY: held.
        unsafe { libc::pthread_rwlock_unlock(self.shared.0.get()) };
        result
    }

    #[inline]
    fn write<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        // SAFETY: made by `make`.
        unsafe { libc::pthread_rwlock_wrlock(self.shared.0.get()) };
        let result = inside();
        // SAFETY: held.
        unsafe { libc::pthread_rwlock_unlock(self.shared.0.get()) };
        result
    }
}
