//! The three standard streams of every command. No text from elsewhere reaches a terminal as a control sequence, and
//! output is never lost without an error, whatever the streams are.

mod hostile;
#[cfg(feature = "cli")]
mod sizes;
mod states;
