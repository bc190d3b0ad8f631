//! Sizes, rates, durations and counts: how people type them, and how every command shows them.

use std::time::Duration;

/// Formats a number of bytes in 1024s with at most three digits: `999 B`, `1.5 KiB`, `640 KiB`.
pub use whorl::internal::os::memory::in_words as size;

/// Formats a number of bytes per second: `1.5 MiB/s`.
pub fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", size(bytes_per_s))
}

/// Formats a number with a comma between groups of three digits: `71,694`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with its noun: `1 name`, `3 names`, `16 copies`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match noun.strip_suffix('y') {
        _ if number == 1 => noun.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None if noun.ends_with('x') => format!("{noun}es"),
        None if noun.ends_with("ss") => format!("{noun}es"),
        None => format!("{noun}s"),
    };
    format!("{} {plural}", grouped(number))
}

/// Formats a number in at most five characters, for columns: `99999`, `1.2M`, `34M`.
pub fn short_number(number: u64) -> String {
    if number < 100_000 {
        return number.to_string();
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 'k';
    for larger in ['M', 'G', 'T'] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let places = usize::from(value < 9.95);
    format!("{value:.places$}{unit}")
}

/// Formats a measured time: `3 ms`, `1.25 s`, `2 min 5 s`.
pub fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0 if time < Duration::from_millis(1) => format!("{} us", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.2} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// Reads a whole number in `range`. Only digits are allowed, so a sign is refused.
pub fn parse_whole(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && range.contains(number))
}

/// Reads a size in bytes: a whole number, alone or with a unit. K, M, G, KiB, MiB and GiB count in 1024s; KB, MB and GB in
/// 1000s. A size beyond `u64` becomes `u64::MAX`, so that the caller names its own limit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const EXAMPLES: &str = "512, 80K, 1MiB";
    let (number, unit) = number_and_unit(text, "size", EXAMPLES)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ if unit.starts_with(['.', ',']) => {
            return Err(format!("a size is a whole number; use a smaller unit: {EXAMPLES}"));
        }
        _ => {
            return Err(format!(
                "the units of a size are B, K, M, G, KiB, MiB, GiB (1K is 1024) and KB, MB, GB (1KB is 1000): {EXAMPLES}"
            ));
        }
    };
    Ok(number.saturating_mul(scale))
}

/// Reads a duration: a number of seconds, or numbers with the units ms, s, m, h, d, the largest unit first: `500ms`,
/// `1.5s`, `1m30s`. It is at least 1 ms and at most a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "500ms, 1.5s, 1m30s, 2h";
    let (mut rest, mut millis, mut last) = (text, 0_u64, u64::MAX);
    loop {
        let (number, after) = number_and_unit(rest, "duration", EXAMPLES)?;
        let (fraction, after) = thousandths(after)
            .ok_or_else(|| format!("a duration has at most three digits after the point: {EXAMPLES}"))?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: u64 = match unit {
            "ms" => 1,
            "" if rest == text && after.is_empty() => 1_000,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("the units of a duration are ms, s, m, h, d: {EXAMPLES}")),
        };
        if scale >= last {
            return Err(format!("a duration names its largest unit first, and each once: {EXAMPLES}"));
        }
        last = scale;
        millis = millis.saturating_add(number.saturating_mul(scale)).saturating_add(fraction * scale / 1000);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    match millis {
        millis @ 1..=31_622_400_000 => Ok(Duration::from_millis(millis)),
        0 => Err("a duration is at least 1ms".into()),
        _ => Err("a duration is at most a year, 366d".into()),
    }
}

/// Splits text that begins with a whole number. A number with more digits than fit becomes the largest one.
fn number_and_unit<'t>(text: &'t str, what: &str, examples: &str) -> Result<(u64, &'t str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let negative = text
        .strip_prefix(['-', '\u{2212}'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match () {
        () if negative => Err(format!("a {what} is not negative: {examples}")),
        () if number.is_empty() => Err(format!("a {what} starts with a whole number: {examples}")),
        () => Ok((number.parse().unwrap_or(u64::MAX), unit)),
    }
}

/// Splits off `.5`, `.25` or `.125` as thousandths. Returns `None` if the point has no digits, or more than three.
fn thousandths(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let scale = [100, 10, 1].get(digits.len().checked_sub(1)?)?;
    Some((digits.parse::<u64>().ok()? * scale, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_digits_only() {
        for (text, number) in [("1", Some(1)), ("007", Some(7)), ("9", Some(9)), ("10", None), ("0", None)] {
            assert_eq!(parse_whole(text, 1..=9), number, "{text}");
        }
        for wrong in ["", "+5", "-5", "5 ", "x", "1e0", "99999999999999999999"] {
            assert_eq!(parse_whole(wrong, 0..=u64::MAX), None, "{wrong}");
        }
    }

    #[test]
    fn durations_with_and_without_units() {
        for (text, millis) in [
            ("1", 1000),
            ("1.5", 1500),
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1500),
            ("0.125s", 125),
            ("1m30s", 90_000),
            ("1h0.5s250ms", 3_600_750),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (wrong, why) in [
            ("", "starts with a whole number"),
            ("s", "starts with a whole number"),
            ("nan", "starts with a whole number"),
            ("-s", "starts with a whole number"),
            ("0", "at least 1ms"),
            ("0.5ms", "at least 1ms"),
            ("-1", "not negative"),
            ("-1s", "not negative"),
            ("1.s", "after the point"),
            ("1.2345s", "after the point"),
            ("1 s", "the units"),
            ("3w", "the units"),
            ("1m30", "the units"),
            ("30s1m", "largest unit first"),
            ("1m1m", "each once"),
            ("400d", "at most a year"),
            ("18446744073709551616", "at most a year"),
        ] {
            let error = parse_duration(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("80K", 81920), ("80KiB", 81920), ("1kb", 1000), ("2g", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "K", "-1", "1.5M", "1 M", "0x10", "12Q", "nan", "inf", "+1"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for large in ["18446744073709551616", "99999999999999999999K", "99999999999G"] {
            assert_eq!(parse_size(large), Ok(u64::MAX), "the caller names its limit");
        }
    }

    #[test]
    fn numbers_stay_short_and_nouns_agree() {
        let short = [0, 99_999, 100_000, 1_234_567, 34_000_000, 5_000_000_000].map(short_number);
        assert_eq!(short, ["0", "99999", "100k", "1.2M", "34M", "5.0G"]);
        assert_eq!([0, 999, 71_694, 1_000_000].map(grouped), ["0", "999", "71,694", "1,000,000"]);
        let counts = [
            count(1, "name"),
            count(0, "name"),
            count(16, "copy"),
            count(1000, "mailbox"),
            count(2, "process"),
        ];
        assert_eq!(counts, ["1 name", "0 names", "16 copies", "1,000 mailboxes", "2 processes"]);
        let times = [400, 3_000, 1_250_000, 125_000_000].map(|us| elapsed(Duration::from_micros(us)));
        assert_eq!(times, ["400 us", "3 ms", "1.25 s", "2 min 5 s"]);
    }
}
