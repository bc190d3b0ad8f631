//! A real terminal, for behaviour that differs on one. tmux draws it and returns its text.

use super::{LIMIT, SHELL, Sandbox, skip, until};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A terminal of its own, with a script that runs in it.
pub struct Terminal {
    socket: std::path::PathBuf,
}

impl Terminal {
    /// Runs a script for `sh`, in which `shell` is the command, on a terminal of this size. Returns `None` without
    /// tmux.
    pub fn open(sandbox: &Sandbox, width: u16, height: u16, script: &str) -> Option<Self> {
        Self::open_with(sandbox, width, height, script, &[])
    }

    /// Runs a script on a terminal of this size, with these environment variables. Returns `None` without tmux.
    pub fn open_with(
        sandbox: &Sandbox,
        width: u16,
        height: u16,
        script: &str,
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        // Each terminal has a new socket, because tmux may still be closing the last one.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { socket: sandbox.at(format!("tmux-{number}")) };
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            skip("what needs a terminal", "there is no tmux");
            return None;
        }
        let script = format!("shell() {{ \"$SHELL_BIN\" \"$@\"; }}\n{script}\necho ended $?; exec sleep 600");
        let mut command = terminal.tmux();
        command.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width.to_string(),
            "-y",
            &height.to_string(),
        ]);
        command.arg(script).current_dir(sandbox.root()).env("SHELL_BIN", SHELL);
        command.env("SHELL", "/bin/sh").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").env_remove("TMUX");
        command.env("XDG_RUNTIME_DIR", sandbox.runtime()).envs(variables.iter().copied());
        assert!(command.status().expect("tmux").success(), "tmux does not start");
        Some(terminal)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-S"]).arg(&self.socket);
        command
    }

    fn output(&self, arguments: &[&str]) -> String {
        let output = self.tmux().args(arguments).output().expect("tmux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Its text, without blanks at the end.
    pub fn screen(&self) -> String {
        self.output(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// Its text with the codes for colours.
    pub fn coloured(&self) -> String {
        self.output(&["capture-pane", "-p", "-e"])
    }

    pub fn keys(&self, keys: &[&str]) {
        self.output(&[&["send-keys"], keys].concat());
    }

    pub fn resize(&self, width: u16, height: u16) {
        self.output(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// Closes it, while the script may still run.
    pub fn close(self) {
        drop(self);
    }

    /// The process that the script runs in.
    pub fn pid(&self) -> i32 {
        self.output(&["display-message", "-p", "#{pane_pid}"]).trim().parse().expect("a pid")
    }

    /// Waits until all of these words are on it, and returns its text.
    #[track_caller]
    pub fn shows(&self, words: &[&str]) -> String {
        let mut screen = String::new();
        let begun = std::time::Instant::now();
        while begun.elapsed() < LIMIT {
            screen = self.screen();
            if words.iter().all(|word| screen.contains(word)) {
                return screen;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{words:?} do not all stand there:\n{screen}");
    }

    /// Waits until this text is no longer on it.
    #[track_caller]
    pub fn hides(&self, word: &str) {
        until(LIMIT, &format!("'{word}' goes away"), || !self.screen().contains(word));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").stderr(Stdio::null()).status();
    }
}
