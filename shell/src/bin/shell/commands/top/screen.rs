//! The terminal, taken for drawing and given back.

use crate::ui::terminal::size_of;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use std::io::{BufWriter, Result};
use whorl::os::standard::{Output, output};

/// The terminal on standard output, in raw mode and with another screen.
///
/// Its size is what [`size_of`] makes of what it says. It is not left to ratatui, which takes 65535 columns and rows at
/// their word, and would make a buffer of 4 billion cells.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Output>>>,
    area: Rect,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before it is told.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn take() -> Result<Self> {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = restore(); // as far as possible
            tell(panic);
        }));
        enable_raw_mode()?;
        let taken = Self::enter();
        if taken.is_err() {
            let _ = restore(); // the first error counts
        }
        taken
    }

    fn enter() -> Result<Self> {
        execute!(output(), EnterAlternateScreen)?;
        let area = area();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let backend = CrosstermBackend::new(BufWriter::new(output()));
        Ok(Self { terminal: Terminal::with_options(backend, options)?, area })
    }

    /// Whether the terminal has another size than what was drawn last.
    pub fn has_changed(&self) -> bool {
        area() != self.area
    }

    /// Draws, on all of it.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn draw(&mut self, drawing: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        if self.has_changed() {
            self.area = area();
            self.terminal.resize(self.area)?;
        }
        self.terminal.draw(drawing).map(|_| ())
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn give_back(mut self) -> Result<()> {
        let shown = self.terminal.show_cursor();
        if shown.is_err() {
            // Dropped, it would try again, and print why not, which may panic.
            std::mem::forget(self);
        }
        restore().and(shown)
    }
}

fn area() -> Rect {
    let (width, height) = size_of(output()).unwrap_or((80, 24));
    Rect::new(0, 0, width, height)
}

fn restore() -> Result<()> {
    // First what has more consequences.
    disable_raw_mode()?;
    execute!(output(), LeaveAlternateScreen)
}
