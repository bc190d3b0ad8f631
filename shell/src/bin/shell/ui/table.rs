//! Tables: columns as wide as their cells are on a terminal, where some characters take two places and some none.

use crate::ui::terminal::size_of;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use whorl::internal::os::escape;
use whorl::internal::os::standard::output;

/// Returns the width of the terminal on standard output, or `None` if it is not a terminal.
pub fn terminal_width() -> Option<usize> {
    size_of(output()).map(|(width, _)| width.into())
}

/// The least width of the last column, however wide the first one is.
const LEAST: usize = 12;

/// Formats rows as lines with aligned columns. The last cell of a row is cut to the rest of `width`. If too little is left,
/// the first column is cut too.
pub fn aligned(rows: &[Vec<String>], width: usize) -> Vec<String> {
    // Escape first: an escape is wider than the character that it stands for.
    let seen = |row: &Vec<String>| row.iter().map(|cell| escape::line(cell).into_owned()).collect();
    let rows: &[Vec<String>] = &rows.iter().map(seen).collect::<Vec<_>>();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        // No column follows the last cell of a row, so it does not count.
        let cells = rows.iter().filter(|row| column + 1 < row.len()).filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    };
    let mut widths: Vec<_> = (0..columns).map(widest).collect();
    let all: usize = widths.iter().map(|width| width + 2).sum();
    // `all` counts a gap after the last column, which is not printed.
    let short = (all + LEAST).saturating_sub(width.saturating_add(2));
    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(short).max(LEAST.min(*first));
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 < row.len() {
                let cell = cut(cell, widths[column]);
                line += &cell;
                line.extend(std::iter::repeat_n(' ', widths[column] - cell.width() + 2));
            } else {
                line += &cut(cell, width.saturating_sub(line.width()));
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

/// Cuts text to `width` places. An ellipsis marks the cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut taken = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        taken.push(c);
    }
    if width > 0 {
        taken.push('…');
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[&[&str]]) -> Vec<Vec<String>> {
        text.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn columns_stand_under_each_other_whatever_is_in_them() {
        let table = rows(&[&["a", "漢字", "x"], &["ccc", "e\u{301}", "y"], &["bb", "long last cell"]]);
        assert_eq!(aligned(&table, 80), ["a    漢字  x", "ccc  e\u{301}     y", "bb   long last cell"]);
        for line in aligned(&table, 80).iter().take(2) {
            let last = line.char_indices().next_back().unwrap().0;
            assert_eq!(line[..last].width(), 11, "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_where_a_character_ends() {
        for width in 0..12 {
            let line = cut("a漢字b漢字c", width);
            assert!(line.width() <= width, "{width}: {line}");
            assert_eq!(line.ends_with('…'), 0 < width && width < 11, "{width}: {line}");
        }
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(aligned(&rows(&[&["ab", "cdefgh"]]), 7), ["ab  cd…"]);
        let long = rows(&[&["a-name-that-is-very-long", "kind", "owner of it"]]);
        assert_eq!(aligned(&long, 40), ["a-name-that-is-very…  kind  owner of it"]);
    }
}
