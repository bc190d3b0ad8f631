//! Reader-writer locks, one file each, behind one trait, so that all run the loops of `asking.rs`.

pub mod asking;
pub mod pthread;
pub mod threads;

/// A reader-writer lock as one party holds it.
pub trait Lock: Sized + 'static {
    const NAME: &'static str;
    /// Whether its parties are threads of one process: locks that do not work between processes.
    const THREADS: bool = false;
    /// The memory that all parties share.
    type Shared: Sync;

    /// Makes the shared part in zeroed shared memory, before the first party exists.
    ///
    /// # Safety
    /// `place` is zeroed, writable, aligned, large enough, and stays for the life of the bench.
    unsafe fn make(place: *mut Self::Shared);

    /// Makes a party. `seat` differs for each.
    fn enter(shared: &'static Self::Shared, seat: u32) -> Self;

    fn read<R>(&mut self, inside: impl FnOnce() -> R) -> R;
    fn write<R>(&mut self, inside: impl FnOnce() -> R) -> R;
}
