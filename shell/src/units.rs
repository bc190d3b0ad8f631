//! Sizes and durations with units, as people type them.

use std::time::Duration;

/// Reads a whole number in `range`: digits and nothing else, so no sign either.
pub fn parse_whole(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && range.contains(number))
}

/// Reads a size in bytes: a whole number, alone or with a unit. K, M, G, KiB, MiB and GiB count in 1024s; KB, MB and GB in
/// 1000s.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("a size is a whole number with or without a unit: 512, 80K, 1MiB".into()),
    };
    let number: u64 =
        number.parse().map_err(|_| "a size starts with a whole number: 512, 80K, 1MiB".to_string())?;
    number.checked_mul(scale).ok_or_else(|| "that is more than any machine has".into())
}

/// Reads a duration: a whole number of seconds, or one with a unit: ms, s, m, h, d. Not zero, and at most a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a duration is a whole number with or without a unit: 500ms, 30s, 5m, 2h".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a duration starts with a whole number: 500ms, 30s, 5m, 2h".to_string())?;
    match number.checked_mul(scale) {
        Some(millis @ 1..=31_622_400_000) => Ok(Duration::from_millis(millis)),
        _ => Err("a duration is from 1ms to a year".into()),
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
        for nonsense in ["", "0", "s", "-1", "1.5s", "1 s", "3w", "99999999999999999999", "400d"] {
            assert!(parse_duration(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("80K", 81920), ("80KiB", 81920), ("1kb", 1000), ("2g", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for nonsense in ["", "K", "-1", "1.5M", "1 M", "0x10", "12Q", "99999999999999999999", "99999999999G"]
        {
            assert!(parse_size(nonsense).is_err(), "{nonsense}");
        }
    }
}
