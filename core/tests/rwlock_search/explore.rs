//! The search. It finds all reachable states, breadth first. Then it looks, for each seat, for a weakly fair run in
//! which the seat wants in forever.

use crate::world::{Config, Life, Next, Words, World};
use std::hint::black_box;

/// The result of a search.
pub enum Verdict {
    Fine {
        states: usize,
        edges: usize,
    },
    /// Two participants are in that exclude each other.
    Unsafe(String),
    /// A seat may wait forever.
    Starves(String),
}

/// The most overtaking of seat 0 that any state showed.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Overtaking {
    /// Other writers' sections.
    pub writers: u8,
    /// Entries of one reader that announced itself after seat 0 had claimed the owner word.
    pub readers: u8,
}

const FAIR: u32 = 1 << 31;
const WHO: u32 = 29;
const TARGET: u32 = (1 << WHO) - 1;

/// All states that were reached, with an index over them.
struct States {
    keys: Vec<u128>,
    table: Vec<u32>,
}

impl States {
    const FREE: u32 = u32::MAX;

    fn new() -> Self {
        Self { keys: Vec::new(), table: vec![Self::FREE; 1 << 16] }
    }

    /// Returns the place in a table of this length at which the search for a key begins.
    fn hash(len: usize, key: u128) -> usize {
        let mut hash = key as u64 ^ 0x9E37_79B9_7F4A_7C15;
        for part in [(key >> 64) as u64, 0] {
            hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
            hash ^= hash >> 32 ^ part;
        }
        hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53) as usize >> 7 & (len - 1)
    }

    /// Loads what [`number`](Self::number) will look at for these keys. The loads overlap, so the search waits for the
    /// memory once for all successors of a state.
    fn prefetch(&self, keys: &[u128]) {
        let number = |key: &u128| self.table[Self::hash(self.table.len(), *key)];
        let key_of = |number: u32| self.keys.get(number as usize).map_or(0, |key| *key as u64);
        black_box(keys.iter().map(number).fold(0, u32::wrapping_add));
        black_box(keys.iter().map(number).map(key_of).fold(0, u64::wrapping_add));
    }

    fn place(table: &[u32], keys: &[u128], key: u128) -> usize {
        let mut at = Self::hash(table.len(), key);
        while table[at] != Self::FREE && keys[table[at] as usize] != key {
            at = (at + 1) & (table.len() - 1);
        }
        at
    }

    /// Returns the number of a state, which may be new.
    fn number(&mut self, key: u128) -> u32 {
        let at = Self::place(&self.table, &self.keys, key);
        if self.table[at] != Self::FREE {
            return self.table[at];
        }
        let number = self.keys.len() as u32;
        self.keys.push(key);
        self.table[at] = number;
        if self.keys.len() * 2 > self.table.len() {
            let mut table = vec![Self::FREE; self.table.len() * 2];
            for (number, key) in self.keys.iter().enumerate() {
                let at = Self::place(&table, &self.keys, *key);
                table[at] = number as u32;
            }
            self.table = table;
        }
        number
    }
}

struct Graph {
    keys: Vec<u128>,
    parents: Vec<u32>,
    /// Where each state's edges begin, with one more entry at the end.
    begins: Vec<u32>,
    /// The target, the participant, and whether the step is fair.
    edges: Vec<u32>,
    /// The participants that must step here at some time.
    enabled: Vec<u8>,
    /// The participants that want in, are in, or are on their way out.
    wanting: Vec<u8>,
    count: usize,
}

/// Searches everything that `config` allows. Stores the overtaking in `most`, if the search counts it.
pub fn search(config: &Config, most: &mut Overtaking) -> Verdict {
    let count = config.roles.len();
    let words = Words::new(count);
    let mut states = States::new();
    states.number(World::START.pack(count));
    let mut graph = Graph {
        keys: Vec::new(),
        parents: vec![0],
        begins: Vec::new(),
        edges: Vec::new(),
        enabled: Vec::new(),
        wanting: Vec::new(),
        count,
    };
    let (mut next, mut keys) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < states.keys.len() {
        let world = World::unpack(states.keys[at], count);
        debug_assert_eq!(world.pack(count), states.keys[at]);
        if world.is_bad() {
            graph.keys = states.keys;
            return Verdict::Unsafe(graph.trace(at));
        }
        most.writers = most.writers.max(world.tally.writers);
        most.readers = most.readers.max(world.tally.readers.into_iter().max().unwrap_or(0).saturating_sub(1));
        graph.begins.push(graph.edges.len() as u32);
        let mut enabled = 0;
        world.successors(config, &words, &mut next);
        keys.clear();
        keys.extend(next.iter().map(|next| next.world.pack(count)));
        states.prefetch(&keys);
        for (Next { who, fair, .. }, key) in next.iter().zip(&keys) {
            let number = states.number(*key);
            if number as usize == graph.parents.len() {
                graph.parents.push(at as u32);
            }
            if *fair {
                enabled |= 1 << who;
            }
            graph.edges.push(number | (*who as u32) << WHO | if *fair { FAIR } else { 0 });
        }
        graph.enabled.push(enabled);
        let wants = |seat: &usize| world.parties[*seat].wants();
        graph.wanting.push((0..count).filter(wants).fold(0, |all, seat| all | 1 << seat));
        at += 1;
    }
    graph.begins.push(graph.edges.len() as u32);
    assert!(
        states.keys.len() < TARGET as usize && graph.edges.len() < u32::MAX as usize,
        "too large to number"
    );
    let States { keys, table } = states;
    drop(table);
    graph.keys = keys;
    match (0..count).find_map(|seat| graph.starves(seat)) {
        Some(trace) => Verdict::Starves(trace),
        None => Verdict::Fine { states: graph.keys.len(), edges: graph.edges.len() },
    }
}

impl Graph {
    fn edges(&self, state: u32) -> std::ops::Range<u32> {
        self.begins[state as usize]..self.begins[state as usize + 1]
    }

    /// Finds the strongly connected components of the states in which `seat` wants in (Tarjan's algorithm). A component
    /// starves the seat if every live seat either steps in it or cannot step in some of its states: then a fair run
    /// never leaves it. A deadlock is a component of one state without an edge.
    fn starves(&self, seat: usize) -> Option<String> {
        let inside: Vec<bool> = self.wanting.iter().map(|wanting| wanting >> seat & 1 == 1).collect();
        let mut order = vec![0u32; inside.len()];
        let mut low = vec![0u32; inside.len()];
        let mut open = vec![false; inside.len()];
        let (mut stack, mut calls, mut counter) = (Vec::new(), Vec::new(), 0);
        for root in 0..inside.len() as u32 {
            if !inside[root as usize] || order[root as usize] != 0 {
                continue;
            }
            calls.push((root, self.edges(root)));
            while let Some((state, edges)) = calls.last_mut() {
                let state = *state;
                let here = state as usize;
                if order[here] == 0 {
                    counter += 1;
                    (order[here], low[here], open[here]) = (counter, counter, true);
                    stack.push(state);
                }
                if let Some(edge) = edges.next() {
                    let target = self.edges[edge as usize] & TARGET;
                    if !inside[target as usize] {
                    } else if order[target as usize] == 0 {
                        calls.push((target, self.edges(target)));
                    } else if open[target as usize] {
                        low[here] = low[here].min(order[target as usize]);
                    }
                    continue;
                }
                calls.pop();
                if let Some((parent, _)) = calls.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[here]);
                }
                if low[here] == order[here] {
                    let first = stack.iter().rposition(|entry| *entry == state).expect("on the stack");
                    for entry in &stack[first..] {
                        (open[*entry as usize], low[*entry as usize]) = (false, order[here]);
                    }
                    if self.is_fair(&stack[first..], &low, &inside) {
                        let nearest = *stack[first..].iter().min().expect("not empty") as usize;
                        let size = stack.len() - first;
                        return Some(format!("seat {seat}, {size} states\n{}", self.trace(nearest)));
                    }
                    stack.truncate(first);
                }
            }
        }
        None
    }

    fn is_fair(&self, receivers: &[u32], component: &[u32], inside: &[bool]) -> bool {
        let own = component[receivers[0] as usize];
        let (mut always, mut steps) = (u8::MAX, 0);
        for entry in receivers {
            always &= self.enabled[*entry as usize];
            for edge in self.edges(*entry) {
                let edge = self.edges[edge as usize];
                let target = (edge & TARGET) as usize;
                if edge & FAIR != 0 && inside[target] && component[target] == own {
                    steps |= 1 << (edge >> WHO & 3);
                }
            }
        }
        always & !steps == 0
    }

    /// Returns the steps that lead from the start to a state.
    fn trace(&self, mut at: usize) -> String {
        let mut path = vec![at];
        while at != 0 {
            at = self.parents[at] as usize;
            path.push(at);
        }
        let mut text = String::new();
        for at in path.into_iter().rev() {
            let world = World::unpack(self.keys[at], self.count);
            text += &format!("{:8x} {:?}", world.owner_word, &world.cells[..self.count]);
            for party in &world.parties[..self.count] {
                let reclaiming = party.errand.map_or(String::new(), |errand| format!(" for {}", errand.seat));
                text += &match party.life {
                    Life::Dead => " | dead".into(),
                    Life::Reclaimed => " | reclaimed".into(),
                    Life::Asleep => format!(" | {:?} asleep", party.at),
                    Life::Awake => format!(" | {:?}{reclaiming}", party.at),
                };
            }
            text += "\n";
        }
        text
    }
}
