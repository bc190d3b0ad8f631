//! One-to-many communication over any memory, lock-free and without an operating system.
//!
//! This crate holds every lock-free algorithm of Whorl and nothing else: no allocation, no standard library, no system
//! call, no clock. It is given memory (a pointer and a length, checked once by [`layout`]) and a [`Host`](host::Host),
//! which knows the two things that an algorithm cannot know: how to sleep, and which participants are dead.
//!
//! | module | what it is |
//! |---|---|
//! | [`sync`] | the only module that names atomics, fences and the spin hint |
//! | [`host`] | what a host supplies: waiting on a word, waking, reclaiming dead participants |
//! | [`event_count`] | the parking protocol: announce, fence, look again, sleep; and why no wake is lost |
//! | [`sequence`] | 32-bit sequence numbers that wrap |
//! | [`seat`] | the seats of participants: a word with a state and a generation |
//! | [`ring`] | the lossless broadcast ring: one sender, many receivers |
//! | [`rwlock`] | the seat lock: many readers or one writer, no participant starves, and dead participants block no other |
//! | [`mailbox`] | the latest message, behind that lock |
//! | [`layout`] | the bytes: header, offsets, checked casts from memory to typed parts |
//! | [`error`] | small error enums, one for each operation |
//!
//! Shared words are 32 bits wide, so the smallest targets can run it. `core/examples/static_ring.rs` sends through a
//! ring in a `static` array.
#![no_std]

pub mod error;
pub mod event_count;
pub mod host;
pub mod layout;
pub mod mailbox;
pub mod ring;
pub mod rwlock;
pub mod seat;
pub mod sequence;
pub mod sync;
