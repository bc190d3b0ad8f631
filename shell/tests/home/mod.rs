//! What the tests of channels with names share: a runtime directory of one's own.

#![allow(dead_code)] // every test file uses a part of it

use crate::common::{Live, Place, SOON, run, start, until};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A test's own directory with a runtime directory in it.
pub struct Home {
    pub place: Place,
}

impl Home {
    pub fn new() -> Self {
        let place = Place::new();
        fs::DirBuilder::new().mode(0o700).create(place.at("run")).expect("a directory");
        Self { place }
    }

    /// `shell` with these arguments.
    pub fn shell<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.place.shell(arguments);
        command.env("XDG_RUNTIME_DIR", self.place.at("run"));
        command
    }

    /// `shell` with words separated by blanks.
    pub fn words(&self, words: &str) -> Command {
        self.shell(words.split_whitespace())
    }

    pub fn start(&self, words: &str) -> Live {
        start(&mut self.words(words))
    }

    /// Starts it with a pipe as standard input.
    pub fn start_fed(&self, words: &str) -> Live {
        start(self.words(words).stdin(Stdio::piped()))
    }

    /// A script for `sh`, in which `shell` is the command.
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.place.script(&format!("shell() {{ \"$SHELL_BIN\" \"$@\"; }}\n{script}"));
        command.env("XDG_RUNTIME_DIR", self.place.at("run"));
        command
    }

    /// The file of a name's socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.place.at(format!("run/whorl/{name}.sock"))
    }

    /// What lies in the runtime directory.
    pub fn left(&self) -> Vec<String> {
        self.place.names("run/whorl")
    }

    /// Asserts that nothing is left: no process, no file of a name, no temporary file.
    #[track_caller]
    pub fn nothing_left(&self) {
        self.place.nothing_left(SOON);
        assert_eq!(self.left(), Vec::<String>::new(), "names were left");
    }

    /// Makes the runtime directory, as the first command that owns a name does.
    pub fn make_runtime_directory(&self) {
        fs::DirBuilder::new().mode(0o700).create(self.place.at("run/whorl")).expect("a directory");
    }

    /// What `ls` says.
    #[track_caller]
    pub fn ls(&self) -> Vec<serde_json::Value> {
        let ended = run(&mut self.words("ls --json"));
        ended.has_code(0);
        ended.json()["channels"].as_array().expect("an array").clone()
    }

    /// Waits until somebody owns a name.
    #[track_caller]
    pub fn owned(&self, name: &str) {
        let file = self.socket(name);
        until(SOON, "the name is owned", || {
            fs::symlink_metadata(&file).is_ok_and(|file| file.file_type().is_socket())
        });
    }

    /// Waits until so many processes wait for a name: until their files are theirs, which is what locks them.
    #[track_caller]
    pub fn awaited(&self, name: &str, count: usize) {
        until(SOON, "somebody waits", || {
            let waits = |file: &String| file.starts_with(&format!("{name}.")) && file.ends_with(".wait");
            let is_locked = |file: &String| {
                let opened = fs::File::open(self.place.at("run/whorl").join(file));
                opened.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
            };
            self.left().iter().filter(|file| waits(file) && is_locked(file)).count() == count
        });
    }

    /// Waits until so many receivers are attached to a name.
    #[track_caller]
    pub fn attached(&self, name: &str, count: usize) {
        until(SOON, "receivers are attached", || {
            self.ls().iter().any(|channel| {
                channel["name"] == name && !channel["owner"].is_null() && live(channel) == count
            })
        });
    }
}

/// How many receivers of a channel take part.
pub fn live(channel: &serde_json::Value) -> usize {
    let receivers = channel["receivers"].as_array().expect("receivers");
    receivers.iter().filter(|peer| peer["state"] == "live" || peer["state"] == "stopped").count()
}
