//! Sizes and durations with units, as people type them.

use std::time::Duration;

/// Reads a whole number in `range`: digits and nothing else, so no sign either.
pub fn parse_whole(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && range.contains(number))
}

/// Reads a size in bytes: a whole number, alone or with a unit. K, M, G, KiB, MiB and GiB count in 1024s; KB, MB and GB in
/// 1000s. What is too large for a number of bytes is the largest one, so that the caller names its limit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text, "size", "512, 80K, 1MiB")?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(
                "the units of a size are B, K, M, G, KiB, MiB, GiB, KB, MB, GB: 512, 80K, 1MiB".into()
            );
        }
    };
    Ok(number.saturating_mul(scale))
}

/// Reads a duration: a whole number of seconds, or one with a unit: ms, s, m, h, d. Not zero, and at most a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text, "duration", "500ms, 30s, 5m, 2h")?;
    let scale: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("the units of a duration are ms, s, m, h, d: 500ms, 30s, 5m, 2h".into()),
    };
    match number.saturating_mul(scale) {
        millis @ 1..=31_622_400_000 => Ok(Duration::from_millis(millis)),
        0 => Err("a duration is at least 1ms".into()),
        _ => Err("a duration is at most a year, 366d".into()),
    }
}

/// Takes apart what begins with a whole number. A number with more digits than fit is the largest one.
fn number_and_unit<'t>(text: &'t str, what: &str, examples: &str) -> Result<(u64, &'t str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let negative = text
        .strip_prefix(['-', '\u{2212}'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match () {
        () if negative => Err(format!("a {what} is not negative: {examples}")),
        () if number.is_empty() => Err(format!("a {what} starts with a whole number: {examples}")),
        () if unit.starts_with(['.', ',']) => {
            Err(format!("a {what} is a whole number, with a smaller unit if need be: {examples}"))
        }
        () => Ok((number.parse().unwrap_or(u64::MAX), unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_size, parse_whole};
    use std::time::Duration;

    #[test]
    fn whole_numbers_have_digits_only() {
        for (text, number) in [("1", Some(1)), ("007", Some(7)), ("9", Some(9)), ("10", None), ("0", None)] {
            assert_eq!(parse_whole(text, 1..=9), number, "{text}");
        }
        for nonsense in ["", "+5", "-5", "5 ", "x", "1e0", "99999999999999999999"] {
            assert_eq!(parse_whole(nonsense, 0..=u64::MAX), None, "{nonsense}");
        }
    }

    #[test]
    fn durations_with_and_without_units() {
        for (text, millis) in
            [("1", 1000), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (nonsense, why) in [
            ("", "starts with a whole number"),
            ("s", "starts with a whole number"),
            ("nan", "starts with a whole number"),
            ("-s", "starts with a whole number"),
            ("0", "at least 1ms"),
            ("-1", "not negative"),
            ("-1s", "not negative"),
            ("1.5s", "a smaller unit"),
            ("1 s", "the units"),
            ("3w", "the units"),
            ("400d", "at most a year"),
            ("18446744073709551616", "at most a year"),
        ] {
            let error = parse_duration(nonsense).expect_err(nonsense);
            assert!(error.contains(why), "{nonsense}: {error}");
        }
    }

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("80K", 81920), ("80KiB", 81920), ("1kb", 1000), ("2g", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for nonsense in ["", "K", "-1", "1.5M", "1 M", "0x10", "12Q", "nan", "inf", "+1"] {
            assert!(parse_size(nonsense).is_err(), "{nonsense}");
        }
        for large in ["18446744073709551616", "99999999999999999999K", "99999999999G"] {
            assert_eq!(parse_size(large), Ok(u64::MAX), "the caller names its limit");
        }
    }
}
