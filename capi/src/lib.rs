//! Whorl for programs in C: `include/whorl.h` is made from these files.
//!
//! Each function returns a `whorl_status`; what went wrong is a text, one for each thread (`whorl_last_error`). Nothing
//! unwinds into C: a panic, which would be a mistake in here, is `WHORL_PANIC`. Handles are boxes that the caller owns from
//! `..._create`, `_join`, `_attach`, `_start` or `discover` until the `_free` of their kind.

#![allow(non_camel_case_types, reason = "these are names in C")]

mod mailbox;
mod recv;
mod send;
mod server;
mod support;
