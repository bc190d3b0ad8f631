//! How much of a test runs. The ordinary suite tries each property at small counts, `.ci/nightly` at large ones.

/// Whether `WHORL_FAULTS_LONG` asks for the large counts.
pub fn is_long() -> bool {
    std::env::var_os("WHORL_FAULTS_LONG").is_some()
}

/// Returns `short` in the ordinary suite, and `long` if the large counts are asked for.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// How many faults of each operation a sweep tries: all with `WHORL_FAULTS_LONG`, N with `WHORL_FAULTS=N`. `None`
/// stands for the sweep's own small count.
pub fn asked() -> Option<usize> {
    if is_long() {
        return Some(usize::MAX);
    }
    let number = std::env::var("WHORL_FAULTS").ok()?;
    Some(number.parse().expect("WHORL_FAULTS is a number of faults of each operation"))
}
