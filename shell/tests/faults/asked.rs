//! How much of a sweep is asked for.

/// Everything with `WHORL_FAULTS_LONG` set; so many of each with `WHORL_FAULTS=N`; otherwise `None`: the gate's part.
pub fn asked() -> Option<usize> {
    if std::env::var_os("WHORL_FAULTS_LONG").is_some() {
        return Some(usize::MAX);
    }
    let number = std::env::var("WHORL_FAULTS").ok()?;
    Some(number.parse().expect("WHORL_FAULTS is how many faults of each operation to try"))
}
