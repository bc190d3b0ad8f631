//! Finds out how much memory is available, so that a caller can refuse a memory object that does not fit.
//!
//! A memfd has no size limit of its own. Without this check, reserving too much would start the out-of-memory killer. A race with
//! another process that takes memory can still start it.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns how many bytes this process can take now. The free memory of the machine and each control group above this process
/// limit it.
pub fn available() -> u64 {
    let on_machine = available_on_machine().unwrap_or(u64::MAX);
    fs::read_to_string("/proc/self/cgroup").map_or(on_machine, |groups| {
        groups.lines().filter_map(group_of).map(|group| left_under(&group)).fold(on_machine, u64::min)
    })
}

/// Formats a number of bytes with a binary unit and at most three digits: `999 B`, `1.5 KiB`, `640 KiB`.
pub fn in_words(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    let places = usize::from(value < 9.95 && (value * 10.0).round() % 10.0 != 0.0);
    format!("{value:.places$} {unit}")
}

/// Returns how many bytes the machine has free, without the limits of control groups. Returns `None` if `/proc` does not show it.
pub fn available_on_machine() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the mount point and the directory of the control group that a line of /proc/self/cgroup names. Returns `None` for a
/// version 1 group without the memory controller.
fn group_of(line: &str) -> Option<(PathBuf, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let root = match controllers {
        "" => PathBuf::from("/sys/fs/cgroup"),
        _ if controllers.split(',').any(|name| name == "memory") => PathBuf::from("/sys/fs/cgroup/memory"),
        _ => return None,
    };
    let group = root.join(path.trim_start_matches('/'));
    Some((root, group))
}

/// Returns how many bytes a control group and its ancestors still allow.
fn left_under((root, group): &(PathBuf, PathBuf)) -> u64 {
    group.ancestors().take_while(|dir| dir.starts_with(root)).map(left_in).min().unwrap_or(u64::MAX)
}

/// Returns how many bytes one control group still allows, without its ancestors.
fn left_in(group: &Path) -> u64 {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let pairs = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")];
    let left =
        |(limit, used)| Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(page_cache(group))));
    pairs.into_iter().find_map(left).unwrap_or(u64::MAX) // the limit "max" does not parse and means no limit
}

/// Returns the page cache charged to a group. The kernel frees it before it refuses an allocation.
fn page_cache(group: &Path) -> u64 {
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let field =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    field("inactive_file ").or_else(|| field("total_inactive_file ")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_not_zero_and_not_more_than_the_machine_has() {
        // What is free changes from one look to the next. The size of the machine does not.
        let info = fs::read_to_string("/proc/meminfo").unwrap();
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        let total = total.unwrap().parse::<u64>().unwrap() * 1024;
        for free in [available(), available_on_machine().unwrap()] {
            assert!(free > 0 && free <= total, "{free} of {total}");
        }
    }

    #[test]
    fn byte_counts_have_a_binary_unit_and_three_digits() {
        let words =
            [0, 999, 1000, 1024, 1536, 655_360, 1_047_552, (5 << 30) + (1 << 29), u64::MAX].map(in_words);
        let expected = ["0 B", "999 B", "1 KiB", "1 KiB", "1.5 KiB", "640 KiB", "1 MiB", "5.5 GiB", "16 EiB"];
        assert_eq!(words, expected);
    }

    #[test]
    fn lines_of_both_cgroup_versions_are_parsed() {
        let (root, group) = group_of("0::/user.slice/x").unwrap();
        assert_eq!(
            (root.to_str(), group.to_str()),
            (Some("/sys/fs/cgroup"), Some("/sys/fs/cgroup/user.slice/x"))
        );
        assert!(group_of("7:cpu,cpuacct:/x").is_none());
        assert!(group_of("4:memory:/a").unwrap().1.ends_with("memory/a"));
        assert!(group_of("malformed").is_none());
    }
}
