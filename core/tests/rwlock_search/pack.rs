//! A state as a key of 128 bits, and back.

use crate::world::{Errand, Life, MOST, Party, World};
use whorl_core::rwlock::{Attempt, Ownership, Scan, Step};

/// The bits of what the participants share, and the bits of each seat.
const SHARED: u32 = 10;
const SEAT: u32 = 25;
const _: () = assert!(SHARED + SEAT * MOST as u32 <= u128::BITS);

impl World {
    /// Packs every bit of the state that matters into a key.
    pub fn pack(&self, count: usize) -> u128 {
        let owner_word = Ownership::from_word(self.owner_word);
        let mut bits = Bits::default();
        bits.put(owner_word.is_busy().into(), 1);
        bits.put(owner_word.seat(), 2);
        bits.put(self.deaths.into(), 2);
        bits.put(self.tally.stage.into(), 2);
        bits.put(self.tally.writers.into(), 3);
        debug_assert_eq!(bits.at, SHARED);
        // Each seat is packed into a small word of its own, because shifts of 128 bits are slow.
        (0..count).fold(bits.word.into(), |key, seat| {
            key | u128::from(self.pack_seat(seat)) << (SHARED + SEAT * seat as u32)
        })
    }

    #[inline]
    fn pack_seat(&self, seat: usize) -> u32 {
        let party = &self.parties[seat];
        let mut bits = Bits::default();
        bits.put(self.tally.readers[seat].into(), 2);
        bits.put(self.cells[seat] as u16, 3);
        bits.put(party.life as u16, 2);
        bits.put_step(party.at);
        bits.put(party.errand.is_some().into(), 1);
        let errand = party.errand.unwrap_or(Errand { seat: 0, resume: Step::Idle });
        bits.put(errand.seat.into(), 2);
        // Only steps at which a participant sleeps, and `Idle`.
        let (kind, visited) = match errand.resume {
            Step::SleepRead => (1, 0),
            Step::SleepWrite => (2, 0),
            Step::SleepDrainReaders(scan) => (3, scan.visited()),
            _ => (0, 0),
        };
        bits.put(kind, 2);
        bits.put(visited, 2);
        debug_assert_eq!(bits.at, SEAT);
        bits.word
    }

    /// Returns the state of a key.
    pub fn unpack(key: u128, count: usize) -> Self {
        let mut bits = Bits { word: key as u32, at: 0 };
        let mut world = Self::START;
        world.owner_word = u32::from(bits.get(1)) << 31;
        world.owner_word |= u32::from(bits.get(2));
        world.deaths = bits.get(2) as u8;
        world.tally.stage = bits.get(2) as u8;
        world.tally.writers = bits.get(3) as u8;
        for seat in 0..count {
            world.unpack_seat((key >> (SHARED + SEAT * seat as u32)) as u32, seat, count as u16);
        }
        world
    }

    #[inline]
    fn unpack_seat(&mut self, word: u32, seat: usize, count: u16) {
        let mut bits = Bits { word, at: 0 };
        self.tally.readers[seat] = bits.get(2) as u8;
        self.cells[seat] = bits.get(3).into();
        let life = [Life::Awake, Life::Asleep, Life::Dead, Life::Reclaimed][usize::from(bits.get(2))];
        let at = bits.get_step(count);
        let (reclaims, whom, kind, visited) = (bits.get(1), bits.get(2), bits.get(2), bits.get(2));
        let resume = match kind {
            1 => Step::SleepRead,
            2 => Step::SleepWrite,
            3 => Step::SleepDrainReaders(Scan::resume(seat as u16, count, visited)),
            _ => Step::Idle,
        };
        let errand = (reclaims == 1).then_some(Errand { seat: whom as u8, resume });
        self.parties[seat] = Party { life, at, errand };
    }
}

#[derive(Default)]
struct Bits {
    word: u32,
    at: u32,
}

impl Bits {
    #[inline]
    fn put(&mut self, value: u16, width: u32) {
        debug_assert!(value < 1 << width);
        self.word |= u32::from(value) << self.at;
        self.at += width;
    }

    #[inline]
    fn get(&mut self, width: u32) -> u16 {
        let value = (self.word >> self.at) as u16 & ((1 << width) - 1);
        self.at += width;
        value
    }

    #[inline]
    fn put_step(&mut self, step: Step) {
        let (kind, from, visited, met) = match step {
            Step::Claim(attempt) => (32, attempt.seen.seat(), 0, attempt.announced),
            Step::Defer(scan, attempt) => (33, scan.from(), scan.visited(), attempt.announced),
            Step::DrainReaders(scan) => (34, scan.from(), scan.visited(), false),
            Step::SleepDrainReaders(scan) => (35, scan.from(), scan.visited(), false),
            Step::WokenDrainReaders(scan) => (36, scan.from(), scan.visited(), false),
            Step::Grant(scan) => (37, scan.from(), scan.visited(), false),
            Step::GrantWake(scan) => (38, scan.from(), scan.visited(), false),
            Step::Notify(scan, met) => (39, scan.from(), scan.visited(), met),
            Step::NotifyWake(scan, met) => (40, scan.from(), scan.visited(), met),
            Step::NotifyAll(scan) => (41, scan.from(), scan.visited(), false),
            Step::NotifyAllWake(scan) => (42, scan.from(), scan.visited(), false),
            plain => (number(plain), 0, 0, false),
        };
        self.put(kind, 6);
        self.put(from, 2);
        self.put(visited, 2);
        self.put(met.into(), 1);
    }

    #[inline]
    fn get_step(&mut self, count: u16) -> Step {
        let (kind, from, visited, met) = (self.get(6), self.get(2), self.get(2), self.get(1) == 1);
        let scan = Scan::resume(from, count, visited);
        let attempt = Attempt { seen: Ownership::from_word(from.into()), announced: met };
        match kind {
            32 => Step::Claim(attempt),
            33 => Step::Defer(scan, attempt),
            34 => Step::DrainReaders(scan),
            35 => Step::SleepDrainReaders(scan),
            36 => Step::WokenDrainReaders(scan),
            37 => Step::Grant(scan),
            38 => Step::GrantWake(scan),
            39 => Step::Notify(scan, met),
            40 => Step::NotifyWake(scan, met),
            41 => Step::NotifyAll(scan),
            42 => Step::NotifyAllWake(scan),
            plain => PLAIN[usize::from(plain)],
        }
    }
}

macro_rules! plain_steps {
    ($count:literal: $($step:ident)+) => {
        /// The steps without fields. The number of a step is its place here.
        const PLAIN: [Step; $count] = [$(Step::$step),+];

        #[inline]
        fn number(step: Step) -> u16 {
            #[repr(u16)]
            enum Place { $($step),+ }
            match step {
                $(Step::$step => Place::$step as u16,)+
                other => unreachable!("{other:?} has no number"),
            }
        }
    };
}

plain_steps! { 24:
    Idle AnnounceRead LookRead QueueRead LookAgain ReturnRead SleepRead WokenRead Reading LeaveRead
    LeaveWake PeekWrite AnnounceWrite LookWrite SleepWrite WokenWrite Writing Withdraw LookWithdraw
    Clear Free Reclaim ReclaimWake ReclaimLook
}
