//! How a channel's bytes travel.

pub(crate) mod frame;
