//! The world that is searched: up to four participants, each before one of the lock's own steps, and the lock's own
//! words. A transition sets the words to the state's values, lets one participant take one real [`Step`], and reads the
//! words back. The host does the sleeping, dying, reclaiming and giving up, so the model does it here.

use crate::mutants::Mutant;
use std::cell::Cell as Slot;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use whorl_core::host::{Futex, Host, WaitResult};
use whorl_core::rwlock::{Actor, OwnerWord, Parts, SeatState, SeatsUsed, Step, reclaim_dead};

pub const MOST: usize = 4;

/// The scope of a search.
#[derive(Clone, Copy)]
pub struct Config {
    /// One letter for each seat: `R` only reads, `W` only writes, `B` does both. Seat 0 never dies and never gives up.
    pub roles: &'static str,
    pub deaths: u8,
    pub cancels: bool,
    /// Whether any sleep may end by itself at any time. If not, a lost wake shows.
    pub slices: bool,
    pub reclamation: Reclamation,
    /// How many participants may reclaim the same seat at the same time.
    pub reclaimers: usize,
    /// Whether a participant that wants nothing of the lock may stop forever in the middle of a reclamation.
    pub stops: bool,
    pub mutant: Mutant,
    /// Whether to count the participants that overtake seat 0.
    pub count: bool,
}

/// Which participants reclaim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reclamation {
    /// Any sleeper, as soon as a participant is dead.
    Notified,
    /// Also a participant that wants nothing of the lock.
    NotifiedIdle,
    /// As the waiting loop does. A poll interval ends only while a participant is dead. One waiter at a time asks for
    /// the seats for which the code asks; the others continue as if woken. A participant that wants nothing of the lock
    /// may reclaim, too.
    Watch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Awake,
    Asleep,
    Dead,
    /// Dead and reclaimed. The seat has no new occupant yet.
    Reclaimed,
}

impl Life {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Dead | Self::Reclaimed)
    }
}

/// A reclamation: the seat, and the step to continue with afterwards (`Idle` if the reclaimer wanted nothing).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errand {
    pub seat: u8,
    pub resume: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    pub life: Life,
    pub at: Step,
    pub errand: Option<Errand>,
}

pub const IDLE: Party = Party { life: Life::Awake, at: Step::Idle, errand: None };

impl Party {
    /// Returns whether the participant wants in, is in, or is on its way out.
    pub fn wants(&self) -> bool {
        let own = self.errand.map_or(self.at, |errand| errand.resume);
        !self.life.is_over() && own != Step::Idle
    }

    pub fn is(&self, step: Step) -> bool {
        self.life == Life::Awake && self.errand.is_none() && self.at == step
    }
}

/// How often seat 0 has been overtaken while it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// 1: announced; 2: a writer that has slept; 3: a writer that owns the owner word.
    pub stage: u8,
    /// Other writers' sections that began since a reader announced itself, or since a writer slept.
    pub writers: u8,
    /// The stage of each reader since seat 0 claimed. 1: announced; 2: then entered; 3: then entered once more.
    pub readers: [u8; MOST],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct World {
    pub owner_word: u32,
    pub cells: [u32; MOST],
    pub parties: [Party; MOST],
    pub deaths: u8,
    pub tally: Tally,
}

/// The words that the steps change, and the host that records which waiters they wake and which seats they ask for.
pub struct Words {
    owner_word: OwnerWord,
    cells: Vec<SeatState>,
    seats_used: SeatsUsed,
    pub host: Notes,
}

#[derive(Default)]
pub struct Notes {
    woken: Slot<Option<*const AtomicU32>>,
    asked: Slot<u32>,
}

impl Futex for Notes {
    type Deadline = ();

    fn wait(&self, _: &AtomicU32, _: u32, _: Option<()>) -> WaitResult {
        unreachable!("a step never sleeps")
    }
    fn wake_all(&self, word: &AtomicU32) {
        assert!(self.woken.replace(Some(word)).is_none(), "a step wakes once");
    }
}

impl Host for Notes {
    fn try_reclaim(&self, seat: u32, _: impl FnOnce()) -> bool {
        self.asked.set(self.asked.get() | 1 << seat);
        false
    }
    fn try_sweep(&self, _: impl FnOnce()) {}
    fn owner_is_dead(&self) -> bool {
        false
    }
}

// SAFETY: the parts of one lock, which guards nothing.
unsafe impl Parts for Words {
    type Host = Notes;

    fn host(&self) -> &Notes {
        &self.host
    }
    fn owner_word(&self) -> &OwnerWord {
        &self.owner_word
    }
    fn cells(&self) -> &[SeatState] {
        &self.cells
    }
    fn seats_used(&self) -> &SeatsUsed {
        &self.seats_used
    }
}

/// Returns the word of a cell or of an owner word, to set it to a state's value.
pub fn raw<T>(part: &T) -> &AtomicU32 {
    // SAFETY: both are one atomic word with padding after it.
    unsafe { &*std::ptr::from_ref(part).cast() }
}

impl Words {
    pub fn new(count: usize) -> Self {
        let cells = (0..count).map(|_| SeatState::new()).collect();
        let words = Self {
            owner_word: OwnerWord::new(),
            cells,
            seats_used: SeatsUsed::new(),
            host: Notes::default(),
        };
        words.seats_used.raise(count as u32 - 1);
        words
    }

    fn set(&self, world: &World) {
        raw(&self.owner_word).store(world.owner_word, Relaxed);
        for (cell, word) in self.cells.iter().zip(world.cells) {
            raw(cell).store(word, Relaxed);
        }
    }

    fn get(&self, world: &mut World) {
        world.owner_word = raw(&self.owner_word).load(Relaxed);
        for (cell, word) in self.cells.iter().zip(&mut world.cells) {
            *word = raw(cell).load(Relaxed);
        }
    }

    /// Returns the seats for which a waiter of this lock asks whether they are dead.
    fn asked(&self, world: &World) -> u32 {
        self.set(world);
        self.host.asked.set(0);
        reclaim_dead(self);
        self.host.asked.get()
    }

    fn seat_of(&self, word: *const AtomicU32) -> u16 {
        self.cells.iter().position(|cell| std::ptr::eq(raw(cell), word)).expect("a cell") as u16
    }
}

/// One possible next state: the participant that acts, and whether it must act at some time if it always can.
pub struct Next {
    pub world: World,
    pub who: usize,
    pub fair: bool,
}

impl World {
    pub const START: Self = Self {
        owner_word: 0,
        cells: [0; MOST],
        parties: [IDLE; MOST],
        deaths: 0,
        tally: Tally { stage: 0, writers: 0, readers: [0; MOST] },
    };

    /// Returns whether two participants are in that exclude each other.
    pub fn is_bad(&self) -> bool {
        let count = |step| self.parties.iter().filter(|party| party.is(step)).count();
        let (writers, readers) = (count(Step::Writing), count(Step::Reading));
        writers > 1 || writers == 1 && readers > 0
    }

    /// Returns how many participants are reclaiming this seat.
    fn reclaimers(&self, seat: usize) -> usize {
        let reclaims = |party: &&Party| {
            !party.life.is_over() && party.errand.is_some_and(|errand| usize::from(errand.seat) == seat)
        };
        self.parties.iter().filter(reclaims).count()
    }

    fn reclaimable(&self, config: &Config, seat: usize) -> bool {
        self.parties[seat].life == Life::Dead && self.reclaimers(seat) < config.reclaimers
    }

    /// Lists everything that can happen next.
    pub fn successors(&self, config: &Config, words: &Words, out: &mut Vec<Next>) {
        out.clear();
        let count = config.roles.len();
        for (who, role) in config.roles.bytes().enumerate() {
            let party = self.parties[who];
            let mut emit = |fair, change: &dyn Fn(&mut Party)| {
                let mut world = *self;
                change(&mut world.parties[who]);
                if world.parties[who].life == Life::Dead {
                    world.deaths += 1;
                }
                let sleeps = world.parties[0].life == Life::Asleep && world.parties[0].at == Step::SleepWrite;
                if config.count && sleeps && world.tally.stage == 1 {
                    world.tally.stage = 2;
                }
                out.push(Next { world, who, fair });
            };
            let begin = |seat: usize, resume| {
                move |party: &mut Party| {
                    let errand = Errand { seat: seat as u8, resume };
                    *party = Party { life: Life::Awake, at: Step::Reclaim, errand: Some(errand) };
                }
            };
            if party.life == Life::Reclaimed && self.reclaimers(who) == 0 {
                emit(false, &|party| *party = IDLE); // a new occupant takes the seat
            }
            if party.life.is_over() {
                continue;
            }
            let mortal = who != 0 && self.deaths < config.deaths;
            if mortal && party != IDLE {
                emit(false, &|party| *party = Party { life: Life::Dead, ..IDLE });
            }
            let may_cancel = config.cancels && who != 0 && party.errand.is_none();
            let actor = self.actor(who);
            if party == IDLE {
                if role != b'W' {
                    emit(false, &|party| party.at = Step::AnnounceRead);
                }
                if role != b'R' {
                    emit(false, &|party| party.at = Step::PeekWrite);
                }
                if config.reclamation != Reclamation::Notified {
                    for seat in (0..count).filter(|seat| self.reclaimable(config, *seat)) {
                        emit(false, &begin(seat, Step::Idle));
                    }
                }
            } else if let Some((seat, expected)) = party.at.sleeps(actor) {
                if may_cancel {
                    emit(false, &|party| {
                        *party = Party { life: Life::Awake, at: party.at.given_up(), ..*party }
                    });
                }
                let wake =
                    |party: &mut Party| *party = Party { life: Life::Awake, at: party.at.woken(), ..*party };
                if party.life == Life::Awake {
                    // The futex: comparing and going to sleep is one step.
                    let same = self.cells[usize::from(seat)] == expected;
                    emit(true, if same { &|party| party.life = Life::Asleep } else { &wake });
                } else {
                    self.end_slice(config, words, count, party.at, &mut emit, &begin, &wake);
                }
            } else {
                if may_cancel && party.at == Step::QueueRead {
                    emit(false, &|party| party.at = party.at.given_up());
                }
                // A reclaimer that wanted nothing must also continue once it has begun, unless it may stop.
                let stops = config.stops && party.errand.is_some_and(|errand| errand.resume == Step::Idle);
                out.push(Next { world: self.step(config, words, who), who, fair: !stops });
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the loop body of `successors`, cut out")]
    fn end_slice<F: Fn(&mut Party)>(
        &self,
        config: &Config,
        words: &Words,
        count: usize,
        at: Step,
        emit: &mut impl FnMut(bool, &dyn Fn(&mut Party)),
        begin: &impl Fn(usize, Step) -> F,
        wake: &dyn Fn(&mut Party),
    ) {
        let dead: Vec<usize> = (0..count).filter(|seat| self.reclaimable(config, *seat)).collect();
        if config.reclamation != Reclamation::Watch {
            for seat in &dead {
                emit(true, &begin(*seat, at));
            }
            if dead.is_empty() && config.slices {
                emit(true, wake);
            }
            return;
        }
        let alive = |party: &Party| !party.life.is_over();
        let watched = self
            .parties
            .iter()
            .any(|party| alive(party) && party.errand.is_some_and(|e| e.resume != Step::Idle));
        let asked = if watched || dead.is_empty() { 0 } else { words.asked(self) };
        let mut found = false;
        for seat in dead.into_iter().filter(|seat| asked >> seat & 1 == 1) {
            emit(true, &begin(seat, at));
            found = true;
        }
        if !found && (config.slices || !self.parties.iter().all(alive)) {
            emit(true, wake);
        }
    }

    fn actor(&self, who: usize) -> Actor {
        match self.parties[who].errand {
            Some(errand) => Actor { seat: errand.seat.into(), reclaiming: true },
            None => Actor { seat: who as u16, reclaiming: false },
        }
    }

    /// Lets one participant take one step of the lock.
    fn step(&self, config: &Config, words: &Words, who: usize) -> World {
        let mut world = *self;
        let (actor, before) = (self.actor(who), self.parties[who].at);
        words.set(self);
        words.host.woken.set(None);
        // `skip` passes at once what the steps would pass one by one. From here and from the next step, both lead to
        // one place.
        let skipped = before.skip(words, actor);
        let after = config.mutant.take(before, words, actor);
        if skipped != before && config.mutant == Mutant::None {
            assert_eq!(skipped, after.skip(words, actor), "{before:?}");
        }
        words.get(&mut world);
        if let Some(word) = words.host.woken.take() {
            let seat = words.seat_of(word);
            for sleeper in 0..config.roles.len() {
                let actor = self.actor(sleeper);
                let party = &mut world.parties[sleeper];
                if party.life == Life::Asleep && party.at.sleeps(actor).is_some_and(|(at, _)| at == seat) {
                    *party = Party { life: Life::Awake, at: party.at.woken(), ..*party };
                }
            }
        }
        let party = &mut world.parties[who];
        party.at = after;
        if let Some(errand) = party.errand.filter(|_| after == Step::Idle) {
            // Reclaimed: the reclaimer continues as if woken. A new occupant may take the seat once no reclaimer works
            // on it any more.
            *party = Party { at: errand.resume.woken(), errand: None, ..*party };
            world.parties[usize::from(errand.seat)].life = Life::Reclaimed;
        }
        if config.count {
            world.tally(config, who, before);
        }
        world
    }

    /// Counts what the step `before` of `who` means for seat 0.
    fn tally(&mut self, config: &Config, who: usize, before: Step) {
        let party = self.parties[who];
        let reads = config.roles.as_bytes()[0] == b'R';
        if who == 0 {
            match before {
                Step::AnnounceRead | Step::AnnounceWrite => {
                    self.tally = Tally { stage: 1, ..Tally::default() }
                }
                Step::Claim(_) if matches!(party.at, Step::DrainReaders(_)) => self.tally.stage = 3,
                _ if party.at.is_settled() => self.tally = Tally::default(),
                _ => {}
            }
        } else if party.is(Step::Writing) {
            if self.tally.stage >= 2 || reads && self.tally.stage == 1 {
                self.tally.writers = (self.tally.writers + 1).min(7);
            }
        } else if self.tally.stage == 3 {
            let reader = &mut self.tally.readers[who];
            match *reader {
                0 if before == Step::AnnounceRead => *reader = 1,
                1 | 2 if party.is(Step::Reading) => *reader += 1,
                _ => {}
            }
        }
    }
}
