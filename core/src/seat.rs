//! The seats of participants: a seat is one word with a state and a generation.
//!
//! ```text
//! bit 31                                3  2      0
//!     | generation                       | state  |
//!
//!            sit               admission               settle
//!  Free(g) ------> AskFirst(g) ---------> Admitting(g) ------> Active(g) ----> Evicted(g)
//!     ^        `-> AskNow(g)                    `------------> Refused(g)
//!     |                                                                 |
//!     '------ leave, by the occupant: Free(g + 1)  <--------------------' from any of them
//!             reclaim, by a participant that knows of the occupant's death: the same step
//! ```
//!
//! Every step is one compare-exchange that names the generation. So if an occupant leaves while a participant reclaims
//! it, only one of the two counts, and the generation grows by exactly one. A late step of a former occupant fails, and
//! never changes its successor's seat. The generation wraps after 2^29 occupants.
//!
//! Everything that a participant owns belongs to its seat, in words that only the participant or its reclaimer changes.
//! So clearing one seat cleans up after a death, and no count is anonymous.

use crate::sync::{AtomicU32, Ordering};

const STATE_BITS: u32 = 3;
const STATE_MASK: u32 = (1 << STATE_BITS) - 1;

/// The state of a seat's occupant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// The seat is free. Zeroed memory is a free seat of generation 0.
    Free = 0,
    /// The occupant asks to be admitted at the first item of the stream.
    AskFirst = 1,
    /// The occupant asks to be admitted at the next published item.
    AskNow = 2,
    /// The sender's process is admitting the occupant. Its start is not decided yet, and the sender may not pass it
    /// meanwhile.
    Admitting = 3,
    /// The occupant takes part.
    Active = 4,
    /// The occupant was too slow. It no longer holds up the sender, and the seat stays taken until it leaves or dies.
    Evicted = 5,
    /// The occupant asked for a beginning that has been overwritten.
    Refused = 6,
}

/// The generation of a seat. Each occupant has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation(u32);

impl Generation {
    fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & (u32::MAX >> STATE_BITS))
    }
}

/// A seat's word, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupancy {
    /// The state.
    pub state: State,
    /// The generation.
    pub generation: Generation,
}

impl Occupancy {
    fn decode(word: u32) -> Self {
        let state = match word & STATE_MASK {
            1 => State::AskFirst,
            2 => State::AskNow,
            3 => State::Admitting,
            4 => State::Active,
            5 => State::Evicted,
            6 => State::Refused,
            _ => State::Free, // no honest participant writes 7
        };
        Self { state, generation: Generation(word >> STATE_BITS) }
    }

    fn encode(self) -> u32 {
        self.generation.0 << STATE_BITS | self.state as u32
    }

    /// Returns whether the seat is taken.
    pub fn is_taken(self) -> bool {
        self.state != State::Free
    }

    /// Returns whether the occupant waits to be admitted.
    pub fn is_asking(self) -> bool {
        matches!(self.state, State::AskFirst | State::AskNow)
    }
}

/// One seat. 8 bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Seat {
    /// *Occupy*: each change of state is an AcqRel compare-exchange, and each look is Acquire. So a participant that
    /// sees a state sees what was written before it: a start cursor before `Active`, the last read before `Free`.
    word: AtomicU32,
    /// The occupant's process id, for display only, or 0 if unknown. The occupant writes it. Relaxed: it guards
    /// nothing.
    pid: AtomicU32,
}

impl Seat {
    /// Returns a free seat, which is zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), pid: AtomicU32::new(0) }
    }

    /// Returns the state and the generation of the seat.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy::decode(self.word.load(Ordering::Acquire)) // Acquire: the looking half of *occupy*
    }

    /// Returns the occupant's process id, for display.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Occupies the seat in `state`, and returns the generation. Returns `None` if the seat is taken.
    pub fn occupy(&self, state: State, pid: u32) -> Option<Generation> {
        let seen = self.occupancy();
        if seen.is_taken() || !self.step(seen, state) {
            return None;
        }
        self.pid.store(pid, Ordering::Relaxed);
        Some(seen.generation)
    }

    /// Moves the occupant of `generation` from one state to another. Returns false if the seat has another state or
    /// generation.
    pub fn transition(&self, generation: Generation, from: State, to: State) -> bool {
        self.step(Occupancy { state: from, generation }, to)
    }

    /// Frees the seat that the occupant of `generation` has, whatever its state. Returns false if the occupant was
    /// reclaimed before.
    pub fn leave(&self, generation: Generation) -> bool {
        // Bounded: an occupant's state changes at most three times, so only a hostile peer changes it more often.
        for _ in 0..8 {
            let seen = self.occupancy();
            if !seen.is_taken() || seen.generation != generation {
                return false;
            }
            if self.vacate(seen) {
                return true;
            }
        }
        false
    }

    /// Clears the seat of a dead occupant. Call it only through [`Host::try_reclaim`](crate::host::Host::try_reclaim).
    /// Returns false if the seat was free. A reclaimer may repeat it, and several may call it at the same time.
    pub fn reclaim(&self) -> bool {
        let seen = self.occupancy();
        seen.is_taken() && self.leave(seen.generation)
    }

    fn vacate(&self, seen: Occupancy) -> bool {
        let next = Occupancy { state: State::Free, generation: seen.generation.next() };
        self.exchange(seen, next)
    }

    fn step(&self, from: Occupancy, to: State) -> bool {
        self.exchange(from, Occupancy { state: to, generation: from.generation })
    }

    fn exchange(&self, from: Occupancy, to: Occupancy) -> bool {
        // AcqRel: both halves of *occupy*. Relaxed on failure: the caller learns only that it failed.
        self.word.compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_step_of_a_former_occupant_fails() {
        let seat = Seat::new();
        let old = seat.occupy(State::AskNow, 1).unwrap();
        assert!(seat.occupy(State::AskNow, 2).is_none());
        assert!(seat.transition(old, State::AskNow, State::Admitting));
        assert!(seat.reclaim());
        assert!(!seat.reclaim());
        let new = seat.occupy(State::AskNow, 2).unwrap();
        assert_ne!(old, new);
        assert!(!seat.leave(old));
        assert!(!seat.transition(old, State::Admitting, State::Active));
        assert!(seat.leave(new));
        assert!(!seat.occupancy().is_taken());
    }

    #[test]
    fn every_word_decodes_and_survives_a_round_trip() {
        for word in [0, 5, 7, u32::MAX, 1 << 31, 0x8000_0004] {
            let seen = Occupancy::decode(word);
            assert_eq!(Occupancy::decode(seen.encode()), seen);
        }
    }
}
