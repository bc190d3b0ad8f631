//! The screen. Every colour repeats what a word or a sign says.

use super::app::App;
use super::figures::{Row, peer_short, short};
use crate::ui::table::cut;
use crate::ui::terminal::Paint;
use crate::ui::units::{count, rate, short_number, size};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, TableState};
use whorl::internal::os::escape;

/// The width of a fill bar.
const BAR: usize = 8;
/// The fill level from which a bar is yellow.
const HIGH: f64 = 0.75;
/// The fill level from which a bar is red: the next message may not fit.
const FULL: f64 = 0.95;

const KEYS: [&str; 8] = [
    "up, down     choose a row, or scroll",
    "Enter        show the row in detail",
    "Esc          back",
    "s            sort by name, rate, fill, peers",
    "q            quit",
    "",
    "FILL   the part of the ring that the slowest receiver has still to take;",
    "       at 100% the sender waits for it.  LAG  the same in bytes.",
];

/// Draws the screen.
pub fn screen(frame: &mut Frame, app: &mut App) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let rows = &app.rows;
    let live = rows.iter().filter(|row| row.state == "live").count();
    let total: u64 = rows.iter().filter_map(|row| row.rate_bytes_per_s).sum();
    let title = format!("shell top: {}, {live} live, {}", count(rows.len() as u64, "name"), rate(total));
    frame.render_widget(Line::styled(title, Modifier::BOLD), head);
    if app.is_detailed && app.row().is_some() {
        detail(frame, body, app);
    } else {
        list(frame, body, app);
    }
    let keys = match app.is_detailed {
        true => "Esc back  up/down scroll  ? help  q quit".into(),
        false => format!("Enter detail  s sort (by {})  ? help  q quit", app.order.word()),
    };
    frame.render_widget(Line::styled(keys, Modifier::DIM), foot);
    if app.is_explained {
        explain(frame);
    }
}

fn list(frame: &mut Frame, area: Rect, app: &App) {
    if app.rows.is_empty() {
        let text = "No channels or servers. Try in another terminal:  shell send x";
        return frame.render_widget(Paragraph::new(text), area);
    }
    // A narrow screen has no room for what the detail shows too.
    let shown: &[usize] =
        if area.width < 110 { &[0, 2, 3, 5, 6, 7, 8] } else { &[0, 1, 2, 3, 4, 5, 6, 7, 8] };
    let rows = app.rows.iter().map(|row| {
        let mut cells = row.cells();
        if let (None, Some(messages), true) = (row.rate_bytes_per_s, row.messages_per_s, area.width < 110) {
            cells[3] = format!("{} msg/s", short_number(messages));
        }
        let cells = shown.iter().map(|&column| {
            let cell = std::mem::take(&mut cells[column]);
            match (column, row.fill) {
                (2, Some(fill)) => Cell::from(Line::styled(bar(fill, BAR), heat(fill))),
                (3..=6, _) => Cell::from(Line::from(cell).right_aligned()),
                (8, _) => Cell::from(cut(&cell, last_width(app, area.width, shown))),
                _ => Cell::from(cell),
            }
        });
        TableRow::new(cells.collect::<Vec<_>>())
    });
    let head = shown.iter().map(|&column| match column {
        3..=6 => Cell::from(Line::from(Row::HEAD[column]).right_aligned()),
        _ => Cell::from(Row::HEAD[column]),
    });
    let widths = shown.iter().map(|&column| match column {
        8 => Constraint::Min(5),
        _ => Constraint::Length(width_of(app, column)),
    });
    let table = Table::new(rows, widths)
        .header(TableRow::new(head).style(Modifier::UNDERLINED))
        .row_highlight_style(Modifier::REVERSED)
        .column_spacing(1);
    let mut state = TableState::default().with_selected(app.at());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Returns the width of a column, all but the last.
fn width_of(app: &App, column: usize) -> u16 {
    let longest = app.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    [longest.clamp(6, 24) as u16, 9, BAR as u16, 10, 5, 5, 7, 12][column]
}

/// Returns the width that the other columns and the gaps leave to the last one.
fn last_width(app: &App, width: u16, shown: &[usize]) -> usize {
    let others: u16 =
        shown.iter().filter(|&&column| column < 8).map(|&column| width_of(app, column) + 1).sum();
    width.saturating_sub(others).into()
}

fn detail(frame: &mut Frame, area: Rect, app: &mut App) {
    let Some(row) = app.row() else { return };
    let size = |bytes: Option<u64>| bytes.map_or("-".into(), size);
    let number = |number: Option<u64>| number.map_or("-".into(), short_number);
    let mut head = vec![
        Line::styled(format!("{}  ({}, {})", row.name, row.kind.unwrap_or("-"), row.state), Modifier::BOLD),
        Line::from(format!("owner    {}", short(&row.owner))),
        Line::from(format!(
            "memory   {}   sent {} in {} messages   now {}, {} messages/s",
            size(row.memory_bytes),
            size(row.sent_bytes),
            number(row.messages),
            row.rate_bytes_per_s.map_or("-".into(), rate),
            number(row.messages_per_s),
        )),
        Line::from(format!("waiting  {}", row.waiting())),
    ];
    if let Some(why) = &row.silent {
        head.push(Line::from(format!("silent   {}", escape::line(why))));
    }
    head.push(Line::default());
    let width = usize::from(area.width);
    let lines = match &row.mailboxes {
        Some(_) => grid(row, width),
        None => receivers(app, row, width),
    };
    let room = usize::from(area.height).saturating_sub(head.len());
    let scrolled = app.scrolled.min(lines.len().saturating_sub(room));
    head.extend(lines.into_iter().skip(scrolled).take(room));
    app.scrolled = scrolled;
    frame.render_widget(Paragraph::new(head), area);
}

/// Returns a line for each receiver: the fill level, sample by sample, and how far behind it is now.
fn receivers<'a>(app: &App, row: &Row, width: usize) -> Vec<Line<'a>> {
    if row.receivers.is_empty() {
        return vec![Line::from("no receivers")];
    }
    // The past and the process share what the other columns leave.
    let past = ((width.saturating_sub(44)) / 2).clamp(8, super::app::HISTORY);
    let head = format!("{:8} {:past$} {:BAR$} {:>10}  PROCESS", "STATE", "PAST", "NOW", "BEHIND");
    let lines = row.receivers.iter().map(|peer| {
        let pid = peer.process.as_ref().map_or(0, |process| process.pid);
        let line: Vec<_> = app.line(&row.name, pid).collect();
        let line: String =
            line.iter().skip(line.len().saturating_sub(past)).map(|fill| spark(*fill)).collect();
        let behind = if peer.behind == 0 { "-".into() } else { size(peer.behind) };
        let start = format!("{:8} {line:past$} ", peer.state);
        let end = format!(" {behind:>10}  ");
        let process =
            cut(&peer_short(&peer.process), width.saturating_sub(start.chars().count() + BAR + end.len()));
        Line::from(vec![
            Span::raw(start),
            Span::styled(bar(peer.fill, BAR), heat(peer.fill)),
            Span::raw(end + &process),
        ])
    });
    std::iter::once(Line::styled(head, Modifier::UNDERLINED)).chain(lines).collect()
}

/// Returns mailboxes side by side: number and version, with a star after a version that changed since the last sample.
fn grid<'a>(row: &Row, width: usize) -> Vec<Line<'a>> {
    let Some(boxes) = &row.mailboxes else { return Vec::new() };
    let cells: Vec<_> = boxes
        .versions
        .iter()
        .enumerate()
        .map(|(number, version)| {
            let star = if boxes.changed.get(number).is_some_and(|changed| *changed) { "*" } else { " " };
            format!("{number}:{version}{star}")
        })
        .collect();
    let widest = cells.iter().map(String::len).max().unwrap_or(1) + 1;
    let across = (width / widest).max(1);
    let clients = boxes.connections.map_or("-".into(), |count| count.to_string());
    let head = format!(
        "{} of {}, {clients} connected; number:version, * is new",
        count(boxes.boxes.into(), "mailbox"),
        size(boxes.capacity),
    );
    let lines = cells.chunks(across).map(|cells| {
        let spans = cells.iter().map(|cell| {
            let style = if cell.ends_with('*') { hot(Color::Green) } else { Style::default() };
            Span::styled(format!("{cell:widest$}"), style)
        });
        Line::from(spans.collect::<Vec<_>>())
    });
    let more = u64::from(boxes.boxes) - boxes.versions.len() as u64;
    let rest = (more > 0).then(|| Line::from(format!("and {more} more")));
    std::iter::once(Line::styled(head, Modifier::UNDERLINED)).chain(lines).chain(rest).collect()
}

fn explain(frame: &mut Frame) {
    let area = frame.area();
    let (width, height) =
        ((KEYS[6].len() as u16 + 4).min(area.width), (KEYS.len() as u16 + 2).min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    let text = Paragraph::new(KEYS.map(|line| Line::from(format!(" {line}"))).to_vec());
    frame.render_widget(text.block(Block::bordered().title(" shell top ")), place);
}

/// Returns a bar of `places` characters, exact to an eighth of a character.
fn bar(fill: f64, places: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fill.clamp(0.0, 1.0) * places as f64 * 8.0).round() as usize;
    let (whole, part) = (eighths / 8, PARTS[eighths % 8]);
    let used = whole + usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(whole), "·".repeat(places - used))
}

/// Returns one character of a line over time.
fn spark(fill: f64) -> char {
    const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // A small value is never blank.
    STEPS[(fill.clamp(0.0, 1.0) * 8.0).ceil() as usize]
}

fn heat(fill: f64) -> Style {
    match fill {
        full if full >= FULL => hot(Color::Red),
        high if high >= HIGH => hot(Color::Yellow),
        _ => Style::default(),
    }
}

fn hot(colour: Color) -> Style {
    if Paint::for_stdout().colours() {
        Style::new().fg(colour)
    } else {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::{bar, spark};

    #[test]
    fn bars_have_their_width_whatever_is_in_them() {
        for thousandths in 0..=1000 {
            assert_eq!(bar(f64::from(thousandths) / 1000.0, 8).chars().count(), 8, "{thousandths}");
        }
        assert_eq!((bar(0.0, 4), bar(0.5, 4), bar(1.0, 4)), ("····".into(), "██··".into(), "████".into()));
        assert_eq!([0.0, 0.001, 0.5, 1.0, 7.0].map(spark), [' ', '▁', '▄', '█', '█']);
    }
}
