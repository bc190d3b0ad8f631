//! TO BE FILLED IN: Whorl's own ring, measured like its rivals. Until then every case says "not measured".
//!
//! What the cases need:
//!
//! - `stream`: the parent opens a ring of `case.slots` slots of `case.size` bytes with `case.receivers` seats, and
//!   returns `Stream::Processes(Box::new(it))`, where *it* is a struct that implements `StreamParties`. The parent
//!   forks one process for `send` and one for each `receive(index)`; each has inherited the whole struct. The same
//!   parties serve throughput, the kill pause, idle CPU and memory.
//! - Table one comes with `case.batch == 32`, table two (one publish per message) with `case.batch == 1`.
//! - `latency`: the parent opens two rings of 64-byte messages, one each way, and returns `Latency::Processes`; `case.wait`
//!   says whether a waiting party spins or sleeps. The harness ties the parties to their cores.
//!
//! The shape of the parties (`claim`, `publish`, `read`, `release` stand for whatever the ring calls them):
//!
//! ```text
//! impl StreamParties for Ring {
//!     fn send(self: Box<Self>, pace: &mut Pace) {
//!         let mut sender = ...;                              // set up; own everything a sender owns
//!         pace.ready();                                      // returns when all parties are set up
//!         loop {
//!             let claimed = sender.claim(self.case.batch);   // 1 <= claimed.len() <= batch; waits at the gate
//!             let batch = pace.batch(claimed.len());         // all of these messages must be sent
//!             for (i, slot) in claimed.enumerate() {
//!                 unsafe { load::fill_at(slot.as_mut_ptr(), self.case.words(), batch.stamp(i)) };   // in place
//!             }
//!             claimed.publish();
//!             if batch.last { break }                        // then close, and leave
//!         }
//!     }
//!     fn receive(self: Box<Self>, index: usize, tally: &mut Tally) {
//!         let mut receiver = ...;                            // join
//!         tally.ready();
//!         loop {
//!             for message in receiver.read() {               // waits, as the ring sees fit
//!                 if tally.take(message.words()) { return }  // checks every word in place; true at the last
//!             }
//!             release
//!         }
//!     }
//! }
//! impl LatencyParties for Rings {
//!     fn ping(self: Box<Self>, meter: &mut Meter) { meter.run(&mut self.ends(0)) }   // a `Link`: send, receive
//!     fn pong(self: Box<Self>, echo: &mut Echo) { echo.run(&mut self.ends(1)) }
//! }
//! ```
//!
//! Joining must be complete when `ready` is called: a receiver that the sender admits later misses the beginning, and
//! the harness reports it as lossy. A sender whose receiver was killed must come to `pace.batch` again by itself.

use crate::rival::{Absent, Latency, LatencyCase, Rival, Stream, StreamCase};

pub struct Whorl;

fn not_yet() -> Absent {
    Absent::NotMeasured("benches/src/rivals/whorl.rs is yet to be filled in".into())
}

impl Rival for Whorl {
    fn name(&self) -> &'static str {
        "whorl"
    }

    fn stream(&self, _case: &StreamCase) -> Result<Stream, Absent> {
        Err(not_yet())
    }

    fn latency(&self, _case: &LatencyCase) -> Result<Latency, Absent> {
        Err(not_yet())
    }
}
