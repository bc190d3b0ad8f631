//! Killing a process after each instruction of an operation, and looking at what the survivors make of it.
//!
//! | module | what it is |
//! |---|---|
//! | [`steps`] | a victim under ptrace: its operation instruction by instruction, and the way to any of them |
//! | [`sweep`] | every instruction of every operation, by several workers at a time, counted |
//! | [`peers`] | the processes beside the victim, and the words by which a test arranges them |
//! | [`ring`], [`lock`], [`mail`] | the operations, and what must hold after a death in the middle of them |
//! | [`asked`] | how much of it |
//! | [`random`] | the same participants at full speed, stopped, continued and killed at any moment |

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod asked;
pub mod lock;
pub mod mail;
pub mod peers;
pub mod random;
pub mod ring;
pub mod steps;
pub mod sweep;
