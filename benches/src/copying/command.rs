//! Whorl's own command, `shell`: builds it, finds it, and checks which flags it knows.

use super::{Copier, text, tools};
use crate::contender::Unavailable;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release build beside this bench, and the help texts of its subcommands.
pub struct Shell {
    binary: Result<PathBuf, String>,
}

impl Shell {
    /// Builds the command, unless it is up to date.
    pub fn build() -> Self {
        Shell { binary: build() }
    }

    /// Returns the copier that runs `shell VERB FLAGS... -n COPIES SOURCE -d DIRECTORY`.
    pub fn copier(&self, name: &str, flags: &'static [&'static str]) -> Copier {
        match self.verb("copy", flags) {
            Err(why) => Copier::absent(name, Unavailable::NotMeasured(why)),
            Ok(binary) => tools::whorl(name, binary, flags),
        }
    }

    /// Returns the copier that streams through `shell send` into one `shell recv | wc -c` for each copy.
    pub fn streamer(&self, name: &str) -> Copier {
        let binary = self.verb("send", &["--peers"]).and_then(|_| self.verb("recv", &[]));
        match binary {
            Err(why) => Copier::absent(name, Unavailable::NotMeasured(why)),
            Ok(binary) => Copier::new(name, move |job| {
                let script = r#"
                    shell=$1 source=$2 channel=bench-$$; shift 2
                    for count; do "$shell" recv "$channel" | wc -c > "$count" & done
                    "$shell" send "$channel" "$source" --peers $# && wait"#;
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh"]).arg(&binary).arg(&job.source).args(job.destinations());
                tools::succeed(&mut command)
            }),
        }
    }

    /// Returns the path of the command if its help for this subcommand knows these flags, or why not.
    fn verb(&self, verb: &str, flags: &[&str]) -> Result<PathBuf, String> {
        let binary = self.binary.clone()?;
        let output = Command::new(&binary).args([verb, "--help"]).stdin(Stdio::null()).output();
        let output = output.map_err(text("run shell"))?;
        let help = String::from_utf8_lossy(&output.stdout);
        // A subcommand that is not built yet may succeed and print nothing.
        if !output.status.success() || !help.contains(verb) {
            return Err(format!("`shell {verb}` is not built yet"));
        }
        match flags.iter().find(|flag| !help.contains(*flag)) {
            Some(flag) => Err(format!("`shell {verb}` does not know {flag} yet")),
            None => Ok(binary),
        }
    }
}

/// Builds the release version of the command, and returns its path.
pub fn build() -> Result<PathBuf, String> {
    // This bench is in target/release/deps.
    let own = std::env::current_exe().map_err(text("find this bench"))?;
    let target = own.ancestors().nth(3).ok_or("this bench is not in a target directory")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--release", "-p", "whorl-ipc", "--bin", "shell", "--target-dir"])
        .arg(target);
    tools::succeed(command.current_dir(workspace)).map_err(|why| format!("shell was not built: {why}"))?;
    Ok(target.join("release/shell"))
}

/// Returns the target directory of this build, which is usually on disk.
pub fn target_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(3).unwrap_or(Path::new(".")).to_path_buf()
}
