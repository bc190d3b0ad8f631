//! Reader-writer locks: those that every machine has, Whorl's, and parking_lot's.

pub use ::whorl::internal::contenders::lock as whorl;
pub use harness::locks::*;

harness::lock_of_threads!(ParkingLot, "parking_lot, threads", parking_lot::RwLock<()>);
