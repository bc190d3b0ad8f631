//! Sizes with units, as people type them.

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

#[cfg(test)]
mod tests {
    use super::parse_size;

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
