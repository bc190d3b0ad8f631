//! `shell top`: shows channels and servers as rows that update.
//!
//! | file | what it is |
//! |---|---|
//! | `figures.rs` | the figures, from the owners' answers |
//! | `boxes.rs` | mailboxes, whose versions are read from their memory |
//! | `app.rs` | the state of the view, and the keys that change it |
//! | `draw.rs` | the screen |
//! | `screen.rs` | the terminal, taken and given back |
//! | `gone.rs` | the end of the process when its terminal is closed |

mod app;
mod boxes;
mod draw;
mod figures;
mod gone;
mod screen;

use crate::cli::top::Args;
use crate::ui::exit::Exit;
use crate::ui::table::{aligned, terminal_width};
use crate::ui::terminal::{is_dumb, print, print_error, print_json};
use crate::ui::usage;
use app::App;
use figures::{Figures, Row, Sampler};
use ratatui::crossterm::event::{self, Event};
use screen::Screen;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;
use std::time::Duration;
use whorl::internal::os::signal::{catch_stop_signals, stop_signal};
use whorl::internal::os::standard::{input, output};
use whorl::internal::os::thread::start_thread;

/// How long a signal or new figures may stay unnoticed while no key is pressed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs it.
pub fn run(args: Args) -> Exit {
    if args.once || args.json {
        return once(args.json);
    }
    if !output().is_terminal() || !input().is_terminal() {
        return usage::refuse(&["top"], "standard input or output is not a terminal; use --once or --json");
    }
    if is_dumb() {
        let why = "TERM is not set or names a terminal that cannot move its cursor; set TERM, or use --once or --json";
        return usage::refuse(&["top"], why);
    }
    catch_stop_signals();
    let figures = sample_every(args.interval);
    // The first sample comes before the screen is taken, so that its error is printed as usual.
    let first = match figures.recv() {
        Ok(Ok(first)) => first,
        Ok(Err(why)) => return failed(&why),
        Err(_) => return failed("cannot start a thread"),
    };
    gone::end_with_terminal();
    let result = Screen::take().and_then(|mut screen| {
        let shown = show(&mut screen, &figures, App::new(first));
        screen.give_back().and(shown)
    });
    match (result, stop_signal()) {
        (_, Some(signal)) => Exit::Signal(signal),
        (Ok(Ok(())), None) => Exit::Done,
        (Ok(Err(why)), None) => failed(&why),
        (Err(error), None) => {
            failed(&format!("the terminal: {}", whorl::internal::os::error::reason_of(&error)))
        }
    }
}

fn failed(why: &str) -> Exit {
    print_error(&format!("top: {why}"));
    Exit::Failed
}

/// Takes samples in a thread of its own, because an owner that does not answer must not delay the keys.
fn sample_every(interval: Duration) -> Receiver<Result<Figures, String>> {
    let (sender, samples) = sync_channel(1);
    let take_samples = move || {
        let mut sampler = Sampler::default();
        while sender.send(sampler.sample()).is_ok() {
            std::thread::sleep(interval);
        }
    };
    // Without the thread the channel is closed, which the caller reports.
    let _ = start_thread(Builder::new().name("figures".into()), take_samples);
    samples
}

/// Draws until a key or a signal ends the view. An inner error says why there are no more figures.
fn show(
    screen: &mut Screen,
    figures: &Receiver<Result<Figures, String>>,
    mut app: App,
) -> std::io::Result<Result<(), String>> {
    loop {
        screen.draw(|frame| draw::screen(frame, &mut app))?;
        loop {
            if screen.has_changed() {
                break;
            }
            if stop_signal().is_some() {
                return Ok(Ok(()));
            }
            if event::poll(POLL_INTERVAL)? {
                match event::read()? {
                    Event::Key(key) if app.key(key) => return Ok(Ok(())),
                    _ => break,
                }
            }
            match figures.try_recv() {
                Ok(Ok(fresh)) => {
                    app.update(fresh);
                    break;
                }
                Ok(Err(why)) => return Ok(Err(why)),
                Err(_) => {}
            }
        }
    }
}

fn once(json: bool) -> Exit {
    let figures = match Sampler::default().sample() {
        Ok(figures) => figures,
        Err(why) => return failed(&why),
    };
    let printed = if json {
        print_json(&figures)
    } else {
        let head = Row::HEAD.map(String::from).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(figures.channels.iter().map(Row::cells)).collect();
        print(&match terminal_width() {
            Some(width) => aligned(&rows, width).join("\n"),
            None => rows.iter().map(|row| row.join("\t")).collect::<Vec<_>>().join("\n"),
        })
    };
    if printed { Exit::Done } else { Exit::Failed }
}
