//! The one door to atomics: everything else in this crate takes them from here.
//!
//! The models compile the same algorithms against another implementation of this module, which is why nothing else may
//! name `core::sync::atomic` (`tests/source.rs` looks) and why no shared type has a `const` constructor.

pub use core::hint::spin_loop;
pub use core::sync::atomic::{AtomicU32, Ordering};

/// As [`core::sync::atomic::fence`]; cheaper where the processor has something better than what the compiler picks.
#[inline(always)]
pub fn fence(order: Ordering) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if order == Ordering::SeqCst {
        // Any locked instruction orders ordinary memory as `mfence` does (Intel's manual, volume 3, 9.2; AMD's, volume 2,
        // 7.1), in half of its time, because it does not wait for the instructions before it. Linux's `smp_mb` is the same.
        // SAFETY: a locked `or` with 0 changes no byte at the stack's top, which every function has. Without `nomem` it
        // is a fence for the compiler, too.
        unsafe { core::arch::asm!("lock or dword ptr [rsp], 0") };
        return;
    }
    core::sync::atomic::fence(order);
}

/// Exchanges a word, Relaxed, and is a full barrier wherever [`fence_after_exchange`] relies on that.
///
/// Where the caller needs no result, a compiler may turn the ordinary exchange into a store, which is no barrier. So on
/// x86-64 this is the instruction itself.
#[inline(always)]
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut old = value;
        // SAFETY: changes the word that the reference is to, and nothing else: one atomic access, since `xchg` with memory
        // locks always. Without `nomem` it is a fence for the compiler, too.
        unsafe {
            core::arch::asm!("xchg dword ptr [{word}], {old:e}", word = in(reg) word.as_ptr(), old = inout(reg) old,
                options(nostack, preserves_flags));
        }
        old
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    word.swap(value, Ordering::Relaxed)
}

/// A fence that stands directly behind the caller's own compare-exchange or [`exchange_before_fence`], and is free where that
/// is one already.
#[inline(always)]
pub fn fence_after_exchange(order: Ordering) {
    // On this processor a compare-exchange is a locked instruction, won or lost: a full barrier (see `fence`). What is left
    // to forbid is the compiler's reordering.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    core::sync::atomic::compiler_fence(order);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fence(order);
}

/// Whether scans pass idle seats in one go (`rwlock::Step::skip`). Models take every step by itself: the loads are the
/// same, and a second look at each word would multiply what they have to try.
pub(crate) const SKIPS: bool = true;
