//! The three standard streams of every command: no text from elsewhere reaches a terminal as a command, and output is
//! never lost without an error, whatever the streams are.

mod hostile;
#[cfg(feature = "cli")]
mod sizes;
mod states;
