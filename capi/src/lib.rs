//! Whorl for programs in C. cbindgen makes `include/whorl.h` from these files, and a test compares the two.
//!
//! - Each function that can fail returns a `whorl_status`. `whorl_last_error` returns the text of the last error of this thread.
//! - No panic unwinds into C: a panic, which would be a fault of the library, is `WHORL_ERR_PANIC`.
//! - The caller owns each handle from its `_create`, `_join`, `_attach` or `_start` until its `_destroy`.
//! - An options struct begins with its size, so a program works with a library that knows more or fewer options.

#![allow(non_camel_case_types, reason = "these are names in C")]

mod mailboxes;
mod receiver;
mod sender;
mod server;
mod support;
