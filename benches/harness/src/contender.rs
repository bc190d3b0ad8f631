//! Contenders: what can carry a stream to many receivers, or single messages back and forth.

use crate::latency::{Echo, Meter};
use crate::role::{Pacer, Tally};

/// A contender in the ring's bench. The parent makes each run's channels before it forks.
pub trait Contender {
    fn name(&self) -> &'static str;

    /// Opens what one sender and `case.receivers` receivers need.
    fn stream(&self, case: &StreamCase) -> Result<Stream, Unavailable> {
        let _ = case;
        Err(Unavailable::cannot("a channel between two parties, not a stream"))
    }

    /// Opens the channel that two parties need to send single messages back and forth.
    fn latency(&self, case: &LatencyCase) -> Result<Latency, Unavailable> {
        let _ = case;
        Err(Unavailable::cannot("a stream, not a channel to and fro"))
    }

    /// Returns an error if killing a receiver in mid-stream is no fair test of this contender.
    fn mortal(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    /// Removes what a killed run has left behind. Called by the parent after every run.
    fn clean_up(&self) {}
}

/// A lossless stream from one sender to all receivers.
#[derive(Clone, Copy, Debug)]
pub struct StreamCase {
    /// Bytes of a message: a multiple of 8.
    pub size: usize,
    pub receivers: usize,
    /// How many messages may lie between the sender and its slowest receiver.
    pub slots: usize,
    /// How many messages the sender may publish at a time.
    pub batch: usize,
}

impl StreamCase {
    pub fn words(&self) -> usize {
        self.size / 8
    }
}

/// Messages of 64 bytes back and forth between two parties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyCase {
    pub wait: Wait,
    pub cores: Cores,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wait {
    /// A waiting party keeps its core busy.
    Spin,
    /// A party that waits for long sleeps in the kernel.
    Sleep,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cores {
    One,
    Two,
}

/// Why there is no figure.
#[derive(Clone, Debug)]
pub enum Unavailable {
    /// The contender does not exist yet.
    NotMeasured(String),
    /// The contender cannot do this case, with the reason.
    LeftOut(String),
}

impl Unavailable {
    pub fn cannot(why: impl Into<String>) -> Self {
        Unavailable::LeftOut(why.into())
    }
}

impl From<std::io::Error> for Unavailable {
    fn from(error: std::io::Error) -> Self {
        Unavailable::LeftOut(error.to_string())
    }
}

/// An opened stream.
pub enum Stream {
    Processes(Box<dyn StreamParties>),
    Threads(Box<dyn StreamThreads>),
}

/// The parts of a stream's parties. Each party is its own process, and has inherited the opened stream.
///
/// Each party sets itself up, calls `ready`, and works until a batch, or a message, is the last.
pub trait StreamParties {
    fn send(self: Box<Self>, pace: &mut Pacer);
    fn receive(self: Box<Self>, index: usize, tally: &mut Tally);
}

/// The parties of a stream within one process: the calling thread sends, one thread for each tally receives.
pub trait StreamThreads {
    fn run(self: Box<Self>, pace: &mut Pacer, tallies: Vec<Tally>);
}

/// An opened channel back and forth.
pub enum Latency {
    Processes(Box<dyn LatencyParties>),
    Threads(Box<dyn LatencyThreads>),
}

/// Each party sets itself up, and passes its end to `run`.
pub trait LatencyParties {
    fn ping(self: Box<Self>, meter: &mut Meter);
    fn pong(self: Box<Self>, echo: &mut Echo);
}

/// Both ends within one process: the calling thread runs the meter, one further thread the echo.
pub trait LatencyThreads {
    fn run(self: Box<Self>, meter: &mut Meter, echo: Echo);
}
