//! Kills a process after each instruction of an operation, and checks the survivors.
//!
//! | module | what it is |
//! |---|---|
//! | [`steps`] | a victim under ptrace: its operation instruction by instruction, and the way to any of them |
//! | [`sweep`] | every instruction of every operation, by several workers at a time, counted |
//! | [`peers`] | the processes beside the victim, and the words by which a test synchronises them |
//! | [`ring`], [`lock`], [`mail`] | the operations, and what must hold after a death in the middle of them |
//! | [`kill_steps`], [`kill_random`] | the tests |
//! | [`random`] | the same participants at full speed, stopped, continued and killed at any moment |

#![cfg(target_arch = "x86_64")]

#[path = "../kit/mod.rs"]
mod kit;

mod kill_random;
mod kill_steps;
mod lock;
mod mail;
mod peers;
mod random;
mod ring;
mod steps;
mod sweep;
