//! The state of the view: the selected row, the page, the order. Keys change it. It draws nothing.

use super::figures::{Figures, Row};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::{HashMap, VecDeque};

/// How many samples the line of a receiver shows.
pub const HISTORY: usize = 60;

/// The column by which rows are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Name,
    Rate,
    Fill,
    Peers,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Fill,
            Self::Fill => Self::Peers,
            Self::Peers => Self::Name,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Fill => "fill",
            Self::Peers => "peers",
        }
    }
}

/// The state of the view.
pub struct App {
    pub rows: Vec<Row>,
    /// The name of the selected channel, so that the selection follows it when the order changes.
    selected: Option<String>,
    /// Whether the selected channel fills the screen.
    pub is_detailed: bool,
    pub is_explained: bool,
    pub order: Order,
    /// The first visible line of a long detail.
    pub scrolled: usize,
    /// The fill level of each receiver, sample by sample, by channel and pid.
    history: HashMap<(String, u32), VecDeque<f64>>,
}

impl App {
    pub fn new(figures: Figures) -> Self {
        let mut app = Self {
            rows: Vec::new(),
            selected: None,
            is_detailed: false,
            is_explained: false,
            order: Order::Name,
            scrolled: 0,
            history: HashMap::new(),
        };
        app.update(figures);
        app
    }

    /// Takes over new figures.
    pub fn update(&mut self, figures: Figures) {
        self.rows = figures.channels;
        self.sort();
        let mut history = std::mem::take(&mut self.history);
        let peers = self.rows.iter().flat_map(|row| row.receivers.iter().map(move |peer| (row, peer)));
        for (row, peer) in peers {
            let key = (row.name.clone(), peer.process.as_ref().map_or(0, |process| process.pid));
            let mut line = history.remove(&key).unwrap_or_default();
            line.push_back(peer.fill);
            if line.len() > HISTORY {
                line.pop_front();
            }
            self.history.insert(key, line);
        }
    }

    fn sort(&mut self) {
        match self.order {
            Order::Name => self.rows.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::Rate => {
                self.rows.sort_by_key(|row| std::cmp::Reverse((row.rate_bytes_per_s, row.messages_per_s)))
            }
            Order::Fill => {
                self.rows.sort_by(|a, b| b.fill.partial_cmp(&a.fill).unwrap_or(std::cmp::Ordering::Equal))
            }
            Order::Peers => self.rows.sort_by_key(|row| std::cmp::Reverse(row.attached)),
        }
    }

    /// Returns the fill levels of a receiver, the latest last.
    pub fn line(&self, name: &str, pid: u32) -> impl Iterator<Item = f64> + '_ {
        self.history.get(&(name.to_owned(), pid)).into_iter().flatten().copied()
    }

    /// Returns the index of the selected row.
    pub fn at(&self) -> usize {
        let at = self.selected.as_ref().and_then(|name| self.rows.iter().position(|row| row.name == *name));
        at.unwrap_or(0)
    }

    /// Returns the selected row, or `None` if there are no rows.
    pub fn row(&self) -> Option<&Row> {
        self.rows.get(self.at())
    }

    fn step(&mut self, down: bool, by: usize) {
        if self.is_detailed {
            let moved = if down { self.scrolled + by } else { self.scrolled.saturating_sub(by) };
            self.scrolled = moved; // the drawing limits it
            return;
        }
        let last = self.rows.len().saturating_sub(1);
        let at = if down { (self.at() + by).min(last) } else { self.at().saturating_sub(by) };
        self.selected = self.rows.get(at).map(|row| row.name.clone());
    }

    /// Handles a key. Returns `true` if the view should end.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return true;
        }
        if std::mem::take(&mut self.is_explained) {
            return key.code == KeyCode::Char('q');
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('?' | 'h') => self.is_explained = true,
            KeyCode::Char('s') if !self.is_detailed => {
                self.selected = self.row().map(|row| row.name.clone());
                self.order = self.order.next();
                self.sort();
            }
            KeyCode::Enter if !self.is_detailed && self.row().is_some() => {
                self.selected = self.row().map(|row| row.name.clone());
                (self.is_detailed, self.scrolled) = (true, 0);
            }
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Enter => self.is_detailed = false,
            KeyCode::Down | KeyCode::Char('j') => self.step(true, 1),
            KeyCode::Up | KeyCode::Char('k') => self.step(false, 1),
            KeyCode::PageDown => self.step(true, 10),
            KeyCode::PageUp => self.step(false, 10),
            _ => {}
        }
        false
    }
}
