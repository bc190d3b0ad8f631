//! Who takes part: a seat is one word with a state and a generation.
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
//!             reclaim, by anybody who knows of the occupant's death: the same step
//! ```
//!
//! Every step is one compare-exchange that names the generation. So leaving and being reclaimed can race and only one of
//! them counts, the generation grows by exactly one, and a late act of a former occupant fails instead of hitting its
//! successor. Generations guard seats; 2^29 of them pass before one comes round.
//!
//! Everything a participant owns hangs on its seat, in words that only it or its reclaimer changes: a death is
//! cleaned up by clearing one seat, and nothing is ever counted anonymously.

use crate::sync::{AtomicU32, Ordering};

const STATE_BITS: u32 = 3;
const STATE_MASK: u32 = (1 << STATE_BITS) - 1;

/// What a seat's occupant is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// The seat is free. Zeroed memory is a free seat of generation 0.
    Free = 0,
    /// Asks to be admitted at the first item of the stream.
    AskFirst = 1,
    /// Asks to be admitted at the next published item.
    AskNow = 2,
    /// Is being admitted: its start is not decided yet, and the sender may not pass it meanwhile.
    Admitting = 3,
    /// Takes part.
    Active = 4,
    /// Was too slow: gates nothing any more, and stays taken until its occupant leaves or dies.
    Evicted = 5,
    /// Asked for a beginning that is gone.
    Refused = 6,
}

/// The generation of a seat: one for each occupant.
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

    /// Whether the occupant waits to be admitted.
    pub fn is_asking(self) -> bool {
        matches!(self.state, State::AskFirst | State::AskNow)
    }
}

/// One seat. 8 bytes.
#[repr(C)]
pub struct Seat {
    /// *Occupy*: each change of state is an AcqRel compare-exchange and each look is Acquire, so a participant that sees a state sees
    /// what was written before it: a start cursor before `Active`, the last read before `Free`.
    word: AtomicU32,
    /// The occupant's process id, for display only; 0 when unknown. Written by the occupant. Relaxed: guards nothing.
    pid: AtomicU32,
}

impl Seat {
    /// A free seat; the same as zeroed memory.
    #[expect(
        clippy::new_without_default,
        reason = "shared types come from a cast of memory, or from a model"
    )]
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), pid: AtomicU32::new(0) }
    }

    /// Who sits here.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy::decode(self.word.load(Ordering::Acquire)) // Acquire: the looking half of *occupy*
    }

    /// The occupant's process id, for display.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Sits down, if the seat is free, in `state`.
    pub fn occupy(&self, state: State, pid: u32) -> Option<Generation> {
        let seen = self.occupancy();
        if seen.is_taken() || !self.step(seen, state) {
            return None;
        }
        self.pid.store(pid, Ordering::Relaxed);
        Some(seen.generation)
    }

    /// Moves the occupant of generation `generation` from one state to another; false if it is no longer so.
    pub fn transition(&self, generation: Generation, from: State, to: State) -> bool {
        self.step(Occupancy { state: from, generation }, to)
    }

    /// The occupant of generation `generation` goes, from whatever state it is in. False if it was reclaimed before.
    pub fn leave(&self, generation: Generation) -> bool {
        // Bounded: an occupant's state changes at most three times, so a seat that changes more often is not honest.
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

    /// Clears the seat of a dead occupant. To be called only through [`Host::try_reclaim`](crate::host::Host::try_reclaim).
    /// False if the seat was free. It may be repeated, and several callers may do it at the same time.
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
        // AcqRel: both halves of *occupy*. Relaxed on failure: nothing was learnt but that it failed.
        self.word.compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_act_of_a_former_occupant_fails() {
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
    fn every_word_decodes_and_what_was_encoded_comes_back() {
        for word in [0, 5, 7, u32::MAX, 1 << 31, 0x8000_0004] {
            let seen = Occupancy::decode(word);
            assert_eq!(Occupancy::decode(seen.encode()), seen);
        }
    }
}
