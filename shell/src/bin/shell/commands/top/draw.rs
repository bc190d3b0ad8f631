//! The screen. What a colour says, a word or a sign says too.

use super::app::App;
use super::figures::{Row, in_bytes, in_thousands, short};
use crate::ui::table::cut;
use crate::ui::terminal::Paint;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, TableState};
use whorl::os::escape;

/// Places of a fill bar.
const BAR: usize = 8;
/// How full is nearly full.
const HIGH: f64 = 0.75;

const KEYS: [&str; 8] = [
    "up, down     choose a row, or scroll",
    "Enter        that one in detail",
    "Esc          back",
    "s            sort by name, rate, fill, peers",
    "q            end",
    "",
    "FILL   what the slowest receiver has still to take, of what the ring holds;",
    "       at 100% the sender waits for it.  LAG  the same in bytes.",
];

/// Draws it.
pub fn screen(frame: &mut Frame, app: &mut App) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let rows = &app.rows;
    let live = rows.iter().filter(|row| row.state == "live").count();
    let total: u64 = rows.iter().filter_map(|row| row.rate).sum();
    let title = format!("shell top: {} names, {live} live, {}/s", rows.len(), in_bytes(total));
    frame.render_widget(Line::styled(title, Modifier::BOLD), head);
    if app.is_detailed && app.row().is_some() {
        detail(frame, body, app);
    } else {
        list(frame, body, app);
    }
    let keys = match app.is_detailed {
        true => "Esc back  up/down scroll  ? help  q end".into(),
        false => format!("Enter detail  s sort (by {})  ? help  q end", app.order.word()),
    };
    frame.render_widget(Line::styled(keys, Modifier::DIM), foot);
    if app.is_explained {
        explain(frame);
    }
}

fn list(frame: &mut Frame, area: Rect, app: &App) {
    if app.rows.is_empty() {
        let text = "Nothing has a name just now. Try, elsewhere:  shell send x";
        return frame.render_widget(Paragraph::new(text), area);
    }
    let rows = app.rows.iter().map(|row| {
        let cells = row.cells().into_iter().enumerate().map(|(column, cell)| match (column, row.fill) {
            (2, Some(fill)) => Cell::from(Line::styled(bar(fill, BAR), heat(fill))),
            (3..=6, _) => Cell::from(Line::from(cell).right_aligned()),
            _ => Cell::from(cell),
        });
        TableRow::new(cells)
    });
    let head = Row::HEAD.iter().enumerate().map(|(column, title)| match column {
        3..=6 => Cell::from(Line::from(*title).right_aligned()),
        _ => Cell::from(*title),
    });
    let longest = app.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).clamp(6, 24) as u16;
    let narrow = area.width < 110;
    let widths = [
        Constraint::Length(longest.min(if narrow { 11 } else { 24 })),
        Constraint::Length(9),
        Constraint::Length(BAR as u16),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(11),
        Constraint::Min(5),
    ];
    let table = Table::new(rows, widths)
        .header(TableRow::new(head).style(Modifier::UNDERLINED))
        .row_highlight_style(Modifier::REVERSED)
        .column_spacing(1);
    let mut state = TableState::default().with_selected(app.at());
    frame.render_stateful_widget(table, area, &mut state);
}

fn detail(frame: &mut Frame, area: Rect, app: &mut App) {
    let Some(row) = app.row() else { return };
    let size = |bytes: Option<u64>| bytes.map_or("-".into(), in_bytes);
    let count = |number: Option<u64>| number.map_or("-".into(), in_thousands);
    let mut head = vec![
        Line::styled(format!("{}  ({}, {})", row.name, row.kind.unwrap_or("-"), row.state), Modifier::BOLD),
        Line::from(format!("owner    {}", short(&row.owner))),
        Line::from(format!(
            "memory   {}   sent {} in {} messages   now {}, {} messages/s",
            size(row.memory),
            size(row.sent),
            count(row.messages),
            row.rate.map_or("-".into(), |rate| format!("{}/s", in_bytes(rate))),
            count(row.message_rate),
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

/// A line for each receiver: how full the ring was for it, look after look, and how far behind it is now.
fn receivers<'a>(app: &App, row: &Row, width: usize) -> Vec<Line<'a>> {
    if row.peers.is_empty() {
        return vec![Line::from("no receivers")];
    }
    // What the other columns leave: for the past, and the process.
    let past = ((width.saturating_sub(44)) / 2).clamp(8, super::app::HISTORY);
    let head = format!("{:8} {:past$} {:BAR$} {:>10}  PROCESS", "STATE", "PAST", "NOW", "BEHIND");
    let lines = row.peers.iter().map(|peer| {
        let pid = peer.process.as_ref().map_or(0, |process| process.pid);
        let line: Vec<_> = app.line(&row.name, pid).collect();
        let line: String =
            line.iter().skip(line.len().saturating_sub(past)).map(|fill| spark(*fill)).collect();
        let behind = if peer.behind == 0 { "-".into() } else { in_bytes(peer.behind) };
        let start = format!("{:8} {line:past$} ", peer.state);
        let end = format!(" {behind:>10}  ");
        let process =
            cut(&short(&peer.process), width.saturating_sub(start.chars().count() + BAR + end.len()));
        Line::from(vec![
            Span::raw(start),
            Span::styled(bar(peer.fill, BAR), heat(peer.fill)),
            Span::raw(end + &process),
        ])
    });
    std::iter::once(Line::styled(head, Modifier::UNDERLINED)).chain(lines).collect()
}

/// Mailboxes side by side: number and version, with a star where something was written since the last look.
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
        "{} mailboxes of {}, {clients} connections; number:version, * is new",
        boxes.boxes,
        in_bytes(boxes.capacity),
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

/// A bar in `places` places, to an eighth of a place.
fn bar(fill: f64, places: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fill.clamp(0.0, 1.0) * places as f64 * 8.0).round() as usize;
    let (whole, part) = (eighths / 8, PARTS[eighths % 8]);
    let used = whole + usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(whole), "·".repeat(places - used))
}

/// One place of a line over time.
fn spark(fill: f64) -> char {
    const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Something is never nothing.
    STEPS[(fill.clamp(0.0, 1.0) * 8.0).ceil() as usize]
}

fn heat(fill: f64) -> Style {
    match fill {
        full if full >= 0.999 => hot(Color::Red),
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
