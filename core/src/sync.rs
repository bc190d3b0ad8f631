//! The only module that names atomics: the rest of this crate takes them from here.
//!
//! The models compile the same algorithms against another implementation of this module. So no other module may name
//! `core::sync::atomic` (`tests/source.rs` checks that), and no shared type has a `const` constructor.

pub use core::hint::spin_loop;
pub use core::sync::atomic::{AtomicU32, Ordering};

/// A fence, like [`core::sync::atomic::fence`]. It is cheaper on processors that have a faster instruction than the
/// compiler's choice.
#[inline(always)]
pub fn fence(order: Ordering) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if order == Ordering::SeqCst {
        // A locked instruction orders ordinary memory as `mfence` does (Intel's manual, volume 3, 9.2; AMD's, volume 2,
        // 7.1). It takes half the time, because it does not wait for the instructions before it. Linux's `smp_mb` does
        // this too.
        // SAFETY: a locked `or` with 0 changes no byte at the top of the stack, which every function has. Without
        // `nomem` it is a fence for the compiler, too.
        unsafe { core::arch::asm!("lock or dword ptr [rsp], 0") };
        return;
    }
    core::sync::atomic::fence(order);
}

/// Exchanges a word, Relaxed. This is a full barrier on each processor where [`fence_after_exchange`] relies on that.
///
/// If the caller ignores the result, a compiler may turn an ordinary exchange into a store, which is no barrier. So on
/// x86-64 this function is the instruction itself.
#[inline(always)]
pub fn exchange_before_fence(word: &AtomicU32, value: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut old = value;
        // SAFETY: this is one atomic access, because `xchg` with memory always locks. It changes only the word that the
        // reference names. Without `nomem` it is a fence for the compiler, too.
        unsafe {
            core::arch::asm!("xchg dword ptr [{word}], {old:e}", word = in(reg) word.as_ptr(), old = inout(reg) old,
                options(nostack, preserves_flags));
        }
        old
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    word.swap(value, Ordering::Relaxed)
}

/// A fence directly after the caller's own compare-exchange or [`exchange_before_fence`]. It costs nothing on
/// processors where that exchange is already a full barrier.
#[inline(always)]
pub fn fence_after_exchange(order: Ordering) {
    // On this processor a compare-exchange is a locked instruction even if it fails, and so a full barrier (see
    // `fence`). Only the compiler's reordering is left to forbid.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    core::sync::atomic::compiler_fence(order);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fence(order);
}

/// Whether scans pass all idle seats at once (`rwlock::Step::skip`). The models take every step by itself: the loads
/// are the same, and a second look at each word would multiply the interleavings that they have to try.
pub(crate) const SKIPS: bool = true;
