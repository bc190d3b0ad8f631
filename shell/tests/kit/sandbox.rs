//! A directory of a test's own, with a runtime directory in it.

use super::{Ended, LIMIT, Running, SHELL, SOON, all_pids, run, start, until};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::registry::lock_file::OWNER;

/// A test's own directory. Everything that the test starts has its working directory here.
pub struct Sandbox {
    _directory: TempDir,
    root: PathBuf,
}

impl Sandbox {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().canonicalize().expect("its real path");
        let sandbox = Self { _directory: directory, root };
        fs::DirBuilder::new().mode(0o700).create(sandbox.runtime()).expect("a directory");
        sandbox
    }

    /// The path of a name in this directory.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The command's `XDG_RUNTIME_DIR`.
    pub fn runtime(&self) -> PathBuf {
        self.at("run")
    }

    /// Writes a file.
    pub fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).expect("a test's own file");
        path
    }

    /// The file of a peer under the default template, for fewer than a hundred peers.
    pub fn received(&self, peer: u32, name: &str) -> PathBuf {
        self.at(format!("received-files/peer-{peer:02}_{name}"))
    }

    /// `shell` with these arguments.
    pub fn shell<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program(SHELL);
        command.args(arguments);
        command
    }

    /// A copy of the command in this directory, for other users. `cp` writes it, because a child of another test could
    /// inherit a descriptor of this process that keeps the file busy.
    pub fn copy_of_shell(&self) -> PathBuf {
        let copy = self.at("shell");
        let copied = Command::new("cp").arg(SHELL).arg(&copy).status();
        assert!(copied.expect("cp").success(), "the command is copied");
        copy
    }

    /// `shell` with words separated by blanks.
    pub fn words(&self, words: &str) -> Command {
        self.shell(words.split_whitespace())
    }

    /// Runs `shell` with these arguments to its end.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        run(&mut self.shell(arguments))
    }

    /// Starts `shell` with words separated by blanks.
    #[track_caller]
    pub fn start(&self, words: &str) -> Running {
        start(&mut self.words(words))
    }

    /// Starts `shell` with a pipe as standard input.
    #[track_caller]
    pub fn start_fed(&self, words: &str) -> Running {
        start(self.words(words).stdin(Stdio::piped()))
    }

    /// A script for `sh`, in which `shell` and `"$SHELL_BIN"` are the command.
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.program("sh");
        command.arg("-c").arg(format!("shell() {{ \"$SHELL_BIN\" \"$@\"; }}\n{script}"));
        command
    }

    /// A program that will run here, in a process group of its own.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null()).process_group(0);
        command.env("SHELL_BIN", SHELL).env("XDG_RUNTIME_DIR", self.runtime());
        for variable in ["NO_COLOR", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(variable);
        }
        command
    }

    /// Every process that was started here and still runs.
    pub fn processes(&self) -> Vec<i32> {
        let here = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == self.root);
        all_pids().into_iter().filter(here).collect()
    }

    /// Temporary files below this directory. No run may leave one.
    pub fn parts(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.root, &mut |path| {
            if path.as_os_str().as_encoded_bytes().ends_with(b".part") {
                found.push(path.to_owned());
            }
        });
        found
    }

    /// The sorted names in a directory below; none if it does not exist.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(directory)) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The names in the command's part of the runtime directory.
    pub fn left(&self) -> Vec<String> {
        self.names("run/whorl")
    }

    /// The file of a name's socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.at(format!("run/whorl/{name}.sock"))
    }

    /// Asserts that nothing is left: no process, no temporary file, no file of a name.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.only_names_left(SOON);
        assert_eq!(self.left(), Vec::<String>::new(), "names were left");
    }

    /// Asserts that no process is left (and with it no memory object, no socket), and no temporary file.
    #[track_caller]
    pub fn only_names_left(&self, within: std::time::Duration) {
        until(within, "every process is gone", || self.processes().is_empty());
        assert_eq!(self.parts(), Vec::<PathBuf>::new(), "temporary files were left");
    }

    /// The channels that `ls` lists.
    #[track_caller]
    pub fn ls(&self) -> Vec<serde_json::Value> {
        let ended = run(&mut self.words("ls --json"));
        ended.has_code(0);
        ended.json()["channels"].as_array().expect("an array").clone()
    }

    /// Waits until a name has an owner.
    #[track_caller]
    pub fn until_owned(&self, name: &str) {
        let file = self.socket(name);
        until(SOON, "the name has an owner", || {
            fs::symlink_metadata(&file).is_ok_and(|file| file.file_type().is_socket())
        });
    }

    /// Makes the runtime directory, as the first command does that owns a name.
    pub fn make_runtime_directory(&self) {
        fs::DirBuilder::new().mode(0o700).create(self.at("run/whorl")).expect("a directory");
    }

    /// Waits until this many processes wait for a name. Each of them has a file, and a lock on it.
    #[track_caller]
    pub fn until_awaited(&self, name: &str, count: usize) {
        until(SOON, "processes wait for the name", || {
            let waits = |file: &String| file.starts_with(&format!("{name}.")) && file.ends_with(".wait");
            let is_locked = |file: &String| {
                let opened = fs::File::open(self.at("run/whorl").join(file));
                opened.and_then(|file| Ok(ByteLocks::open(file)?.is_held(OWNER))).unwrap_or(false)
            };
            self.left().iter().filter(|file| waits(file) && is_locked(file)).count() == count
        });
    }

    /// Waits until this many receivers take part in a channel.
    #[track_caller]
    pub fn until_joined(&self, name: &str, count: usize) {
        until(LIMIT, &format!("{count} receivers take part in {name}"), || {
            self.ls().iter().any(|channel| {
                channel["name"] == name && !channel["owner"].is_null() && live_receivers(channel) == count
            })
        });
    }
}

/// How many receivers take part in a channel that `ls` listed.
pub fn live_receivers(channel: &serde_json::Value) -> usize {
    let receivers = channel["receivers"].as_array().expect("receivers");
    receivers.iter().filter(|peer| peer["state"] == "live" || peer["state"] == "stopped").count()
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}
