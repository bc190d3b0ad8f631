//! Locks for the threads of one process: std's and parking_lot's. Their sleepers cannot be woken from another process.

use super::Lock;

pub struct Std(&'static std::sync::RwLock<()>);

impl Lock for Std {
    const NAME: &'static str = "std, threads";
    const THREADS: bool = true;
    type Shared = std::sync::RwLock<()>;

    unsafe fn make(place: *mut Self::Shared) {
        // SAFETY: ours by the caller's promise.
        unsafe { place.write(Default::default()) };
    }
    fn enter(shared: &'static Self::Shared, _: u32) -> Self {
        Self(shared)
    }
    #[inline]
    fn read<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.0.read();
        inside()
    }
    #[inline]
    fn write<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.0.write();
        inside()
    }
}

pub struct ParkingLot(&'static parking_lot::RwLock<()>);

impl Lock for ParkingLot {
    const NAME: &'static str = "parking_lot, threads";
    const THREADS: bool = true;
    type Shared = parking_lot::RwLock<()>;

    unsafe fn make(place: *mut Self::Shared) {
        // SAFETY: ours by the caller's promise.
        unsafe { place.write(Default::default()) };
    }
    fn enter(shared: &'static Self::Shared, _: u32) -> Self {
        Self(shared)
    }
    #[inline]
    fn read<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.0.read();
        inside()
    }
    #[inline]
    fn write<R>(&mut self, inside: impl FnOnce() -> R) -> R {
        let _held = self.0.write();
        inside()
    }
}
