//! Core against loom.
