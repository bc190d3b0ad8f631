//! What was measured on: a figure without its machine says nothing.

use serde_json::{Value, json};

/// Processor, cores that may be used, kernel, and our own version.
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

/// The same in a line.
pub fn in_words(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    let cores = machine["cores"].as_u64().unwrap_or(0);
    let plural = if cores == 1 { "" } else { "s" };
    format!("{cores} core{plural} ({}), Linux {}, whorl {}", text("cpu"), text("kernel"), text("whorl"))
}
