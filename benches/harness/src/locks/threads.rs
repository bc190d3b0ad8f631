//! Locks for the threads of one process: std's, and any lock with its methods. Another process cannot wake their
//! sleepers.

/// Implements [`Lock`](crate::locks::Lock) for a lock with the methods of `std::sync::RwLock`.
#[macro_export]
macro_rules! lock_of_threads {
    ($who:ident, $name:literal, $lock:ty) => {
        pub struct $who(&'static $lock);

        impl $crate::locks::Lock for $who {
            const NAME: &'static str = $name;
            const THREADS: bool = true;
            type Shared = $lock;

            unsafe fn make(place: *mut $lock) {
                // SAFETY: the place is the caller's, by its promise.
                unsafe { place.write(Default::default()) };
            }
            fn enter(shared: &'static $lock, _: u32) -> Self {
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
    };
}

lock_of_threads!(Std, "std, threads", std::sync::RwLock<()>);
