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
use whorl::internal::os::standard::{Output, output};

/// The terminal on standard output, in raw mode and with another screen.
///
/// Its size comes from [`size_of`], because ratatui would believe 65535 columns and rows and allocate 4 billion cells.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Output>>>,
    area: Rect,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before the panic is printed.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn take() -> Result<Self> {
        let print_panic = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = restore(); // as far as possible
            print_panic(panic);
        }));
        enable_raw_mode()?;
        let taken = Self::enter();
        if taken.is_err() {
            let _ = restore(); // the first error is returned
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

    /// Returns whether the terminal's size has changed since the last drawing.
    pub fn has_changed(&self) -> bool {
        area() != self.area
    }

    /// Draws the whole screen.
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
            // Its drop would try again and print the error, which may panic.
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
    // First the step that matters more.
    disable_raw_mode()?;
    execute!(output(), LeaveAlternateScreen)
}
