//! The first line of a request: a function from bytes to a meaning. No allocation, no input or output, no state.
//!
//! ```text
//! r BOX [SINCE [MS]]      w BOX SIZE    w BOX SIZE+    w BOX    w BOX -
//! q [BOX]                 a TOKEN       i
//! ```
//!
//! A line has at most 128 bytes with its end, which is LF. One CR before it is ignored. Fields are separated by spaces.
//! The first line alone decides the form of a `w`, so the server never guesses how its data end. A `w` that is not
//! valid ends the connection, because the server cannot know where its data end.
//!
//! A web page can make a browser send lines of its choice to a port of this machine, but only after a line or two of HTTP,
//! or inside TLS. So the first sign of either ends the connection, and nothing after it is executed.

/// The longest first line, its end included.
pub const LINE_MAX: usize = 128;

/// The first byte of a TLS connection. No request begins with it.
pub const TLS: u8 = 0x16;

/// The methods of HTTP requests that a browser sends, and the first word of HTTP/2.
const METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"];

/// How many digits a number has at most; a version may have [`VERSION_DIGITS`].
const NUMBER_DIGITS: usize = 10;

/// How many digits a version has at most: those of the largest 64-bit number.
const VERSION_DIGITS: usize = 20;

/// The result of parsing the start of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// No line has ended yet.
    NeedMore,
    /// An empty line, which the caller skips.
    Blank {
        /// How many bytes it takes.
        used: usize,
    },
    /// A line that can be answered. The data of a `w` begin right after it.
    Request {
        /// How many bytes the line takes, its end included.
        used: usize,
        /// What it asks for.
        request: Request<'a>,
    },
    /// The bytes after this cannot be trusted.
    Fatal(Fatal),
}

/// The request of a first line. Mailbox numbers and sizes are as written: the server checks whether they fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// `r BOX [SINCE [MS]]`.
    Read {
        /// The mailbox.
        mailbox: u64,
        /// The version that the client has, if it named one.
        since: Option<u64>,
        /// How many milliseconds to wait for a newer version; `None` for no limit.
        patience: Option<u64>,
    },
    /// `w BOX ...`.
    Write {
        /// The mailbox.
        mailbox: u64,
        /// How the data follow.
        form: Form,
    },
    /// `q [BOX]`.
    Quit,
    /// `i`.
    Info,
    /// `a TOKEN`. A line of another shape carries an empty token, which is never right.
    Auth {
        /// The token as sent.
        token: &'a [u8],
    },
    /// Another first field.
    Unknown(&'a [u8]),
    /// Fields that do not fit the verb, with the right ones.
    Usage(&'static str),
}

/// The form of the data after the first line of a `w`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// This many bytes and a line end.
    Sized {
        /// How many bytes.
        size: u64,
        /// Whether they end the message. If not, another packet of it follows.
        last: bool,
    },
    /// One line of text.
    Line,
    /// Everything until the sender closes its half.
    Pipe,
}

/// Why the connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fatal {
    /// No line end within [`LINE_MAX`] bytes.
    Line,
    /// A `w` of unknown length.
    WriteArgs,
    /// A line of HTTP.
    Http,
}

/// Parses the line at the start of `input`.
pub fn parse(input: &[u8]) -> Parsed<'_> {
    let window = &input[..input.len().min(LINE_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() == LINE_MAX { Parsed::Fatal(Fatal::Line) } else { Parsed::NeedMore };
    };
    let used = end + 1;
    let line = &window[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if is_http(line) {
        return Parsed::Fatal(Fatal::Http);
    }
    let mut fields = Fields { rest: line };
    let Some(verb) = fields.next() else {
        return Parsed::Blank { used };
    };
    let request = match verb {
        b"r" => read(fields),
        b"w" => match write(fields) {
            Some(request) => request,
            None => return Parsed::Fatal(Fatal::WriteArgs),
        },
        b"q" => quit(fields),
        b"a" => Request::Auth { token: only(fields).unwrap_or_default() },
        b"i" if fields.next().is_none() => Request::Info,
        b"i" => Request::Usage("i"),
        other => Request::Unknown(other),
    };
    Parsed::Request { used, request }
}

/// Returns whether a line is one of HTTP: a method and a space, or a header's name, a colon and a space. A header's
/// name has two or more letters, digits or hyphens. Spaces before the first field are ignored, as in every line.
fn is_http(line: &[u8]) -> bool {
    let start = line.iter().position(|&byte| byte != b' ').unwrap_or(line.len());
    let line = &line[start..];
    let Some(space) = line.iter().position(|&byte| byte == b' ') else { return false };
    let word = &line[..space];
    let is_header = |name: &[u8]| {
        name.len() >= 2 && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    METHODS.contains(&word) || word.strip_suffix(b":").is_some_and(is_header)
}

fn read(mut fields: Fields<'_>) -> Request<'_> {
    const USAGE: Request<'_> = Request::Usage("r BOX [SINCE [MS]]");
    let Some(mailbox) = fields.next().and_then(number) else {
        return USAGE;
    };
    let (mut since, mut patience) = (None, None);
    if let Some(field) = fields.next() {
        since = digits(field, VERSION_DIGITS);
        if since.is_none() {
            return USAGE;
        }
    }
    if let Some(field) = fields.next() {
        patience = number(field);
        if patience.is_none() {
            return USAGE;
        }
    }
    match fields.next() {
        None => Request::Read { mailbox, since, patience },
        Some(_) => USAGE,
    }
}

fn write(mut fields: Fields<'_>) -> Option<Request<'_>> {
    let mailbox = number(fields.next()?)?;
    let form = match fields.next() {
        None => Form::Line,
        Some(b"-") => Form::Pipe,
        Some(size) => match size.strip_suffix(b"+") {
            Some(size) => Form::Sized { size: number(size)?, last: false },
            None => Form::Sized { size: number(size)?, last: true },
        },
    };
    fields.next().is_none().then_some(Request::Write { mailbox, form })
}

fn quit(mut fields: Fields<'_>) -> Request<'_> {
    match (fields.next().map(number), fields.next()) {
        (None | Some(Some(_)), None) => Request::Quit,
        _ => Request::Usage("q [BOX]"),
    }
}

/// Returns the only field, if there is exactly one.
fn only(mut fields: Fields<'_>) -> Option<&[u8]> {
    let field = fields.next()?;
    fields.next().is_none().then_some(field)
}

fn number(field: &[u8]) -> Option<u64> {
    digits(field, NUMBER_DIGITS)
}

/// Parses a plain decimal number of 1 to `most` digits that fits 64 bits.
fn digits(field: &[u8], most: usize) -> Option<u64> {
    if field.is_empty() || field.len() > most {
        return None;
    }
    field.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The fields between runs of spaces.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|&byte| byte != b' ')?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (field, rest) = rest.split_at(end);
        self.rest = rest;
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &[u8]) -> Request<'_> {
        match parse(line) {
            Parsed::Request { used, request } if used == line.len() => request,
            other => panic!("{}: {other:?}", line.escape_ascii()),
        }
    }

    #[test]
    fn a_line_ends_within_128_bytes_or_never() {
        let mut line = [b' '; 200];
        assert_eq!(parse(&line[..127]), Parsed::NeedMore);
        assert_eq!(parse(&line[..128]), Parsed::Fatal(Fatal::Line));
        assert_eq!(parse(&line), Parsed::Fatal(Fatal::Line));
        line[127] = b'\n';
        assert_eq!(parse(&line), Parsed::Blank { used: 128 });
        line[126] = b'q';
        assert_eq!(parse(&line), Parsed::Request { used: 128, request: Request::Quit });
        (line[127], line[128]) = (b' ', b'\n');
        assert_eq!(parse(&line), Parsed::Fatal(Fatal::Line));
    }

    #[test]
    fn one_carriage_return_belongs_to_the_end_and_no_more() {
        assert_eq!(parse(b"\r\n"), Parsed::Blank { used: 2 });
        assert_eq!(parse(b" \r\nq"), Parsed::Blank { used: 3 });
        assert_eq!(request(b"q\r\n"), Request::Quit);
        assert_eq!(request(b"q\r\r\n"), Request::Unknown(b"q\r"));
        assert_eq!(request(b"\r\r\n"), Request::Unknown(b"\r"));
        assert_eq!(parse(b"q\r"), Parsed::NeedMore);
    }

    #[test]
    fn numbers_are_plain_decimal_and_bounded() {
        for (field, value) in
            [("0", Some(0)), ("007", Some(7)), ("9999999999", Some(9_999_999_999)), ("00000000001", None)]
        {
            assert_eq!(number(field.as_bytes()), value, "{field}");
        }
        for field in ["", "+5", "-1", "1e3", "0x1", " 1", "1\0", "١", "18446744073709551616"] {
            assert_eq!(number(field.as_bytes()), None, "{field}");
        }
        assert_eq!(digits(b"18446744073709551615", VERSION_DIGITS), Some(u64::MAX));
        assert_eq!(digits(b"18446744073709551616", VERSION_DIGITS), None);
        assert_eq!(digits(b"99999999999999999999", VERSION_DIGITS), None);
        assert_eq!(digits(b"000000000000000000001", VERSION_DIGITS), None);
    }

    #[test]
    fn a_write_is_one_of_its_forms_or_fatal() {
        let write = |form| Request::Write { mailbox: 3, form };
        assert_eq!(request(b"w 3\n"), write(Form::Line));
        assert_eq!(request(b"w 3 -\n"), write(Form::Pipe));
        assert_eq!(request(b"  w  3  5  \n"), write(Form::Sized { size: 5, last: true }));
        assert_eq!(request(b"w 3 5+\n"), write(Form::Sized { size: 5, last: false }));
        for line in ["w\n", "w x\n", "w 3 x5\n", "w 3 +\n", "w 3 5 +\n", "w 3 5++\n", "w 3 --\n", "w 3 5 6\n"]
        {
            assert_eq!(parse(line.as_bytes()), Parsed::Fatal(Fatal::WriteArgs), "{line}");
        }
        assert_eq!(parse(b"w 18446744073709551616 1\n"), Parsed::Fatal(Fatal::WriteArgs));
    }

    #[test]
    fn a_line_of_http_is_fatal_and_nothing_that_only_resembles_one() {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"]
        {
            for line in
                [format!("{method} / HTTP/1.1\r\n"), format!("  {method} *\n"), format!("{method} \n")]
            {
                assert_eq!(parse(line.as_bytes()), Parsed::Fatal(Fatal::Http), "{line:?}");
            }
            for line in
                [format!("{method}\n"), format!("{method}\t/\n"), format!("{method}: x\n").to_lowercase()]
            {
                let is_header = line.contains(": ");
                assert_eq!(parse(line.as_bytes()) == Parsed::Fatal(Fatal::Http), is_header, "{line:?}");
            }
        }
        for line in ["Host: x\n", "x-y: \n", "--: 1\n", "42: 1\r\n", " Accept: */*\n"] {
            assert_eq!(parse(line.as_bytes()), Parsed::Fatal(Fatal::Http), "{line:?}");
        }
        for line in [
            "H:\n",
            "H: x\n",
            ": x\n",
            "Host:x\n",
            "Host :x\n",
            "Ho_st: x\n",
            "get / HTTP/1.1\n",
            "\tGET /\n",
        ] {
            assert!(
                matches!(parse(line.as_bytes()), Parsed::Request { request: Request::Unknown(_), .. }),
                "{line:?}"
            );
        }
        // Whether it is HTTP needs the whole line.
        assert_eq!(parse(b"GET / HTTP/1.1"), Parsed::NeedMore);
    }

    #[test]
    fn the_other_verbs() {
        let read = |since, patience| Request::Read { mailbox: 1, since, patience };
        assert_eq!(request(b"r 1\n"), read(None, None));
        assert_eq!(request(b"r 1 2\n"), read(Some(2), None));
        assert_eq!(request(b"r 1 2 3\n"), read(Some(2), Some(3)));
        for line in ["r\n", "r x\n", "r 1 x\n", "r 1 2 x\n", "r 1 2 3 4\n"] {
            assert!(matches!(request(line.as_bytes()), Request::Usage(_)), "{line}");
        }
        assert_eq!(request(b"q 77\n"), Request::Quit);
        assert!(matches!(request(b"q x\n"), Request::Usage(_)));
        assert!(matches!(request(b"q 1 2\n"), Request::Usage(_)));
        assert_eq!(request(b"i\n"), Request::Info);
        assert!(matches!(request(b"i 1\n"), Request::Usage(_)));
        assert_eq!(request(b"a secret\n"), Request::Auth { token: b"secret" });
        assert_eq!(request(b"a two words\n"), Request::Auth { token: b"" });
        for verb in ["r0", "R", "rx 0", "get", "\u{1b}[2J"] {
            let line = format!("{verb}\n");
            let first = verb.split(' ').next().unwrap();
            assert_eq!(request(line.as_bytes()), Request::Unknown(first.as_bytes()));
        }
    }
}
