//! Escapes text from other programs and users, so that the command can print it on a terminal, in a log or in JSON.
//!
//! Names, paths, arguments, variables, messages of servers and errors of peers can contain hazards. A hazard is a character that
//! controls a terminal, that reverses the direction of writing, or that is invisible. [`text`] and [`json`] replace hazards by
//! escapes. Each text that the command prints passes one of them. A second pass leaves the escapes of the first as they are.

use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The hazards besides control characters, as ascending inclusive ranges:
///
/// - the format characters (Cf), which include the characters that set the direction of writing and those without a width;
/// - the separators of lines and paragraphs;
/// - the fillers, which are invisible;
/// - the tags, and the reserved code points beside them;
/// - the noncharacters;
/// - the planes without assigned characters.
///
/// The private use areas are not hazards, because fonts define visible signs there.
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

/// Returns whether a character is a hazard: a control character (C0, DEL, C1), one that sets the direction of writing, or an
/// invisible one.
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

/// Escapes a text. Hazards become escapes such as `\n` or `\u{202e}`, and bytes that are not UTF-8 become escapes such as `\xff`.
/// The characters in `kept` are not escaped, for example the line ends of a text with several lines.
pub fn text<'t>(bytes: &'t (impl AsRef<[u8]> + ?Sized), kept: &[char]) -> Cow<'t, str> {
    let bytes = bytes.as_ref();
    let is_kept = |c: char| !is_hazard(c) || kept.contains(&c);
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_kept) => text.into(),
        _ => escaped(bytes, is_kept, &mut |shown, c| shown.extend(c.escape_debug())).into(),
    }
}

/// Escapes a text, including its line ends. The result is one line.
pub fn line<'t>(bytes: &'t (impl AsRef<[u8]> + ?Sized)) -> Cow<'t, str> {
    text(bytes, &[])
}

/// Puts a name or path in single quotes. Backslashes and quotes in it are escaped too, so that the result is unambiguous.
pub fn quoted(bytes: &[u8]) -> String {
    let is_kept = |c| !is_hazard(c) && c != '\\' && c != '\'';
    format!("'{}'", escaped(bytes, is_kept, &mut |shown, c| shown.extend(c.escape_debug())))
}

/// Escapes JSON. Hazards can only be in its strings, where they become escapes such as `\u202e`. So each value stays the same.
pub fn json(text: &str) -> Cow<'_, str> {
    // Line ends between the values are valid and not escaped.
    let is_kept = |c| !is_hazard(c) || c == '\n';
    if text.chars().all(is_kept) {
        return text.into();
    }
    let escape = &mut |shown: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}"); // writing to a `String` cannot fail
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
            let _ = write!(shown, "\\x{byte:02x}"); // writing to a `String` cannot fail
        }
    }
    shown
}

/// Formats a path for a message. Quotes and escapes it if it is empty, is not UTF-8, or contains spaces or hazards.
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
    fn the_ranges_ascend() {
        assert!(HAZARDS.iter().all(|(first, last)| first <= last));
        assert!(HAZARDS.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn hazards_are_escaped_and_visible_text_is_kept() {
        assert_eq!(text("plain, grün\n\ttext", &['\n', '\t']), "plain, grün\n\ttext");
        assert_eq!(line(b"\x1b[2J\r\x07\x9b\xff"), "\\u{1b}[2J\\r\\u{7}\\x9b\\xff");
        assert_eq!(line("\u{9b}31m\u{7f}\u{85}"), "\\u{9b}31m\\u{7f}\\u{85}");
        assert_eq!(line("a\u{202e}b\u{2066}c\u{200d}\u{2028}"), "a\\u{202e}b\\u{2066}c\\u{200d}\\u{2028}");
        assert_eq!(line("\u{e0041}\u{fdd0}\u{10ffff}\u{50000}"), "\\u{e0041}\\u{fdd0}\\u{10ffff}\\u{50000}");
        // The bytes of half a surrogate pair are not UTF-8.
        assert_eq!(line(b"\xed\xa0\x80"), "\\xed\\xa0\\x80");
        assert_eq!(line("\\u{1b} stays"), "\\u{1b} stays");
        for visible in
            ["漢字", "e\u{301}", "שלום", "👍🏽\u{fe0f}", "a b\u{a0}c\u{3000}", "\u{e0a0}", "\u{fffd}"]
        {
            assert_eq!(line(visible), visible);
        }
    }

    #[test]
    fn quoted_text_is_unambiguous() {
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted("it's \\n\n\u{202e}".as_bytes()), "'it\\'s \\\\n\\n\\u{202e}'");
        assert_eq!(quoted(b"\xff"), "'\\xff'");
    }

    #[test]
    fn json_keeps_every_value() {
        let mut hazards: String = HAZARDS.iter().flat_map(|&(first, last)| [first, last]).collect();
        hazards.extend(('\0'..='\u{a0}').chain(['"', '\\', '漢']));
        let value = serde_json::json!({ "text": hazards, hazards.clone(): [1] });
        let shown = json(&value.to_string()).into_owned();
        assert!(!shown.contains(is_hazard), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(json("{\n\"a\": 1}\n"), "{\n\"a\": 1}\n");
    }
}
