//! Text from elsewhere, made safe to show: on a terminal, in a log, in JSON.
//!
//! Names, paths, arguments, variables, messages of servers and errors of peers can hold what a terminal acts on, what
//! turns the direction of writing round, or what cannot be seen. [`text`] and [`json`] replace it by escapes. Everything
//! that the command prints passes one of them, whatever was escaped before: an escape stays as it is.

use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The characters that are escaped besides control characters, as inclusive ranges in order.
///
/// These are the format characters (Cf), among them those that set the direction of writing and those without a width;
/// the separators of lines and paragraphs; the fillers, which look like nothing; the tags, and what is reserved beside
/// them; what will never be a character; and the planes in which nothing is assigned. Private use is left alone: fonts
/// give it signs.
const HAZARDS: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{1fffe}', '\u{1ffff}'),
    ('\u{2fffe}', '\u{2ffff}'),
    ('\u{3fffe}', '\u{effff}'),
    ('\u{ffffe}', '\u{fffff}'),
    ('\u{10fffe}', '\u{10ffff}'),
];

/// Whether a character is escaped: it is a control character (C0, DEL, C1), sets the direction of writing, or cannot be
/// seen.
pub fn is_hazard(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || HAZARDS
            .binary_search_by(|&(first, last)| match () {
                () if c < first => std::cmp::Ordering::Greater,
                () if c > last => std::cmp::Ordering::Less,
                () => std::cmp::Ordering::Equal,
            })
            .is_ok()
}

/// Text that is safe to show: hazards are escaped as `\n`, `\r`, `\t` or `\u{202e}`, and bytes that are no UTF-8 as `\xff`.
/// The characters in `kept` stay as they are: line ends, where several lines are wanted.
pub fn text<'t>(bytes: &'t (impl AsRef<[u8]> + ?Sized), kept: &[char]) -> Cow<'t, str> {
    let bytes = bytes.as_ref();
    let is_kept = |c: char| !is_hazard(c) || kept.contains(&c);
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_kept) => text.into(),
        _ => escaped(bytes, is_kept, &mut |shown, c| shown.extend(c.escape_debug())).into(),
    }
}

/// [`text`] on one line.
pub fn line<'t>(bytes: &'t (impl AsRef<[u8]> + ?Sized)) -> Cow<'t, str> {
    text(bytes, &[])
}

/// A name or path in single quotes, so that what it is can be read off: a backslash or a quote in it is escaped too.
pub fn quoted(bytes: &[u8]) -> String {
    let is_kept = |c| !is_hazard(c) && c != '\\' && c != '\'';
    format!("'{}'", escaped(bytes, is_kept, &mut |shown, c| shown.extend(c.escape_debug())))
}

/// JSON that is safe to show: hazards, which can stand only in its strings, are escaped as `\u202e`. So every value stays
/// what it was.
pub fn json(text: &str) -> Cow<'_, str> {
    // Line ends can stand between the values.
    let is_kept = |c| !is_hazard(c) || c == '\n';
    if text.chars().all(is_kept) {
        return text.into();
    }
    let escape = &mut |shown: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}"); // a String takes everything
        }
    };
    escaped(text.as_bytes(), is_kept, escape).into()
}

fn escaped(
    bytes: &[u8],
    is_kept: impl Fn(char) -> bool,
    escape: &mut dyn FnMut(&mut String, char),
) -> String {
    let mut shown = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_kept(c) { shown.push(c) } else { escape(&mut shown, c) }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}"); // a String takes everything
        }
    }
    shown
}

/// A path for people: quoted where it needs to be, and nothing in it reaches a terminal as a command.
pub fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| is_hazard(c) || c.is_whitespace()) => {
            text.to_owned()
        }
        _ => quoted(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_are_in_order() {
        assert!(HAZARDS.iter().all(|(first, last)| first <= last));
        assert!(HAZARDS.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn nothing_that_moves_a_terminal_gets_through() {
        assert_eq!(text("plain, grün\n\ttext", &['\n', '\t']), "plain, grün\n\ttext");
        assert_eq!(line(b"\x1b[2J\r\x07\x9b\xff"), "\\u{1b}[2J\\r\\u{7}\\x9b\\xff");
        assert_eq!(line("\u{9b}31m\u{7f}\u{85}"), "\\u{9b}31m\\u{7f}\\u{85}");
        assert_eq!(line("a\u{202e}b\u{2066}c\u{200d}\u{2028}"), "a\\u{202e}b\\u{2066}c\\u{200d}\\u{2028}");
        assert_eq!(line("\u{e0041}\u{fdd0}\u{10ffff}\u{50000}"), "\\u{e0041}\\u{fdd0}\\u{10ffff}\\u{50000}");
        // The bytes of half a surrogate pair are no UTF-8.
        assert_eq!(line(b"\xed\xa0\x80"), "\\xed\\xa0\\x80");
        assert_eq!(line("\\u{1b} stays"), "\\u{1b} stays");
        for visible in
            ["漢字", "e\u{301}", "שלום", "👍🏽\u{fe0f}", "a b\u{a0}c\u{3000}", "\u{e0a0}", "\u{fffd}"]
        {
            assert_eq!(line(visible), visible);
        }
    }

    #[test]
    fn what_is_quoted_can_be_read_off() {
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted("it's \\n\n\u{202e}".as_bytes()), "'it\\'s \\\\n\\n\\u{202e}'");
        assert_eq!(quoted(b"\xff"), "'\\xff'");
    }

    #[test]
    fn json_keeps_every_value() {
        let mut hazards: String = HAZARDS.iter().flat_map(|&(first, last)| [first, last]).collect();
        hazards.extend(('\0'..='\u{a0}').chain(['"', '\\', '漢']));
        let said = serde_json::json!({ "text": hazards, hazards.clone(): [1] });
        let shown = json(&said.to_string()).into_owned();
        assert!(!shown.contains(is_hazard), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), said);
        assert_eq!(json("{\n\"a\": 1}\n"), "{\n\"a\": 1}\n");
    }
}
