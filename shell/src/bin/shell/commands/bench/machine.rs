//! The description of the machine, which every figure needs.

use crate::ui::units::count;
use serde_json::{Value, json};

/// Returns the processor, the usable cores, the kernel and the version of Whorl.
pub fn machine() -> Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map_or("unknown", |(_, name)| name.trim()),
        "cores": harness::process::cores().len(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "whorl": env!("CARGO_PKG_VERSION"),
    })
}

/// Formats the description as a line.
pub fn in_words(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    let cores = machine["cores"].as_u64().unwrap_or(0);
    let cores = count(cores, "core");
    format!("{cores} ({}), Linux {}, whorl {}", text("cpu"), text("kernel"), text("whorl"))
}
