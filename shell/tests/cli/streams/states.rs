//! Every command with standard streams that are closed, full, or not ready. Lost output is never a success, nothing
//! hangs or panics, and no file that the command opens becomes a standard stream.

use crate::kit::mailbox_server::port_of;
use crate::kit::*;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::process::{Command, Stdio};

/// What a command needs before it runs.
#[derive(Clone, Copy, PartialEq)]
enum Scene {
    Nothing,
    /// A sender of `chan` that waits for its receiver.
    Sender,
    /// A mailbox server with port PORT and one message.
    Mailboxes,
}
use Scene::{Mailboxes, Nothing, Sender};

/// A command that ends by itself.
struct Case {
    words: &'static str,
    scene: Scene,
    /// Whether it reads standard input.
    reads: bool,
    /// Whether it prints the same each time.
    same: bool,
}

const fn case(words: &'static str, scene: Scene) -> Case {
    Case { words, scene, reads: false, same: false }
}

const fn same(words: &'static str, scene: Scene) -> Case {
    Case { words, scene, reads: false, same: true }
}

const fn reads(words: &'static str, scene: Scene) -> Case {
    Case { words, scene, reads: true, same: false }
}

const CASES: &[Case] = &[
    same("--help", Nothing),
    same("--version", Nothing),
    same("copy -h", Nothing),
    same("nosuch", Nothing),
    same("copy -n 2 f", Nothing),
    case("copy -n 2 --json f", Nothing),
    case("copy --socket -n 2 --json f", Nothing),
    reads("copy -n 2 -", Nothing),
    reads("copy --socket --json -n 2 -", Nothing),
    same("send x --peers 0 f", Nothing),
    reads("send x --peers 0", Nothing),
    reads("send x --peers 0 --socket", Nothing),
    same("recv chan", Sender),
    same("recv chan --verify", Sender),
    same("recv chan out", Sender),
    case("ls", Sender),
    case("ls --json", Sender),
    case("rm chan", Sender),
    same("rm nosuch", Nothing),
    same("serve s --dir d --for 1ms", Nothing),
    same("servers --dir d", Nothing),
    same("servers --dir d --json", Nothing),
    case("dipc 1 1 0 1", Nothing),
    case("dipcrm PORT", Mailboxes),
    same("dipcrm 9", Nothing),
    same("mail -p PORT read 0", Mailboxes),
    same("mail -p PORT write 0 text", Mailboxes),
    reads("mail -p PORT write 0", Mailboxes),
    case("top", Nothing),
    case("top --once", Sender),
    case("top --json", Sender),
    case("doctor", Nothing),
    case("doctor --json", Nothing),
    same("completions bash", Nothing),
    same("man pages", Nothing),
];

/// One run of a case: the processes and files that it needs, and what it left.
struct Run {
    sandbox: Sandbox,
    words: String,
    port: Option<String>,
    _sender: Option<Running>,
}

impl Run {
    fn new(case: &Case) -> Self {
        let sandbox = Sandbox::new();
        sandbox.file("f", &data());
        fs::create_dir(sandbox.at("d")).expect("a directory");
        let sender = (case.scene == Sender).then(|| {
            let sender = sandbox.start("send chan --verify f");
            // Until then `ls` may add that the channel has just begun.
            sandbox.until_joined("chan", 0);
            sender
        });
        let port = (case.scene == Mailboxes).then(|| {
            let started = run(&mut sandbox.words("dipc 1 256 0 4"));
            started.has_code(0);
            let port = port_of(&started.stdout).to_string();
            run(&mut sandbox.shell(["mail", "-p", &port, "write", "0", &text()])).has_code(0);
            port
        });
        let words = case.words.replace("PORT", port.as_deref().unwrap_or_default());
        Self { sandbox, words, port, _sender: sender }
    }

    fn command(&self) -> Command {
        self.sandbox.words(&self.words)
    }

    /// Runs it in a shell, with redirections.
    fn redirected(&self, redirections: &str) -> Ended {
        run(&mut self.sandbox.script(&format!("exec \"$SHELL_BIN\" {} {redirections}", self.words)))
    }

    /// Asserts that the copies equal the source.
    fn copies_are_whole(&self, expected: usize) {
        let copies = self.sandbox.names("received-files");
        assert_eq!(copies.len(), expected, "{}: {copies:?}", self.words);
        for copy in copies {
            assert_holds(&self.sandbox.at("received-files").join(copy), &data());
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A server that the case itself started is found by its name.
        let own = self
            .sandbox
            .left()
            .into_iter()
            .filter_map(|file| Some(file.strip_prefix("dipc-")?.split('.').next()?.to_owned()));
        for port in own.chain(self.port.take()).collect::<std::collections::BTreeSet<_>>() {
            let _ = run(&mut self.sandbox.words(&format!("dipcrm --force {port}")));
        }
    }
}

fn text() -> String {
    (0..10_000).map(|number| format!("line {number}\n")).collect()
}

fn data() -> Vec<u8> {
    text().into_bytes()
}

/// A run with good streams, for comparison.
fn good(case: &Case) -> Ended {
    let scene = Run::new(case);
    let mut command = scene.command();
    if case.reads {
        command.stdin(File::open(scene.sandbox.at("f")).expect("a file"));
    }
    let ended = run(&mut command);
    assert_eq!(ended.signal(), None, "{}: {ended:?}", case.words);
    ended
}

/// Asserts that there is no signal and no panic, and the same code as with good streams.
#[track_caller]
fn is_as(good: &Ended, ended: &Ended, what: &str) {
    assert_eq!(ended.code(), good.code(), "{what}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
}

#[test]
fn output_to_a_stream_that_takes_none_is_not_lost_in_success() {
    all_at_once(CASES, |case| {
        let good = good(case);
        for lossy in [
            ">&-",
            ">/dev/full",
            ">&- 2>&-",
            ">/dev/full 2>/dev/full",
            "0<&- >&- 2>&-",
            ">&- 2>/dev/full",
            ">/dev/full 2>&-",
        ] {
            let scene = Run::new(case);
            let input = if lossy.starts_with('0') || !case.reads { "" } else { "<f" };
            let ended = scene.redirected(&format!("{lossy} {input}"));
            let what = format!("{} {lossy}", case.words);
            if lossy.starts_with('0') && case.reads {
                assert_eq!(ended.code(), Some(1), "{what}: {ended:?}");
            } else if good.code() == Some(0) && (!good.stdout.is_empty()) {
                assert_eq!(ended.code(), Some(1), "{what}: {ended:?}");
                if !lossy.contains('2') {
                    ended.one_line(&["standard output"]);
                }
                if case.words.starts_with("dipc ") {
                    assert_eq!(scene.sandbox.left(), Vec::<String>::new(), "the server left its files");
                }
            } else if good.code() == Some(0) && !good.stderr.is_empty() && lossy.contains("2>/dev/full") {
                assert_ne!(ended.code(), Some(0), "{what}: {ended:?}");
            } else {
                is_as(&good, &ended, &what);
            }
            assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
            assert_eq!(ended.signal(), None, "{what}: {ended:?}");
            if case.words.starts_with("copy -n") && !(case.reads && lossy.starts_with('0')) {
                scene.copies_are_whole(2);
            }
        }
    });
}

#[test]
fn messages_that_cannot_be_written_change_nothing_but_a_good_end() {
    all_at_once(CASES, |case| {
        let good = good(case);
        for lossy in ["2>&-", "2>/dev/full"] {
            let scene = Run::new(case);
            let ended = scene.redirected(&format!("{lossy}{}", if case.reads { " <f" } else { "" }));
            let what = format!("{} {lossy}", case.words);
            if good.code() == Some(0) && !good.stderr.is_empty() && lossy == "2>/dev/full" {
                assert_ne!(ended.code(), Some(0), "{what}: {ended:?}");
            } else {
                is_as(&good, &ended, &what);
            }
            if case.same {
                assert_eq!(ended.stdout, good.stdout, "{what}");
            }
        }
    });
}

#[test]
fn a_closed_standard_input_is_not_an_empty_one() {
    for case in CASES {
        let good = good(case);
        let scene = Run::new(case);
        let ended = scene.redirected("<&-");
        if case.reads {
            assert_eq!(ended.code(), Some(1), "{}: {ended:?}", case.words);
            ended.one_line(&[]);
            assert_eq!(scene.sandbox.names("received-files"), Vec::<String>::new());
        } else {
            is_as(&good, &ended, case.words);
        }
    }
}

/// The state of a process's main thread, while it runs.
fn is_asleep(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "S")
}

fn make_non_blocking(pipe: impl rustix::fd::AsFd) {
    let flags = fcntl_getfl(&pipe).expect("flags");
    fcntl_setfl(&pipe, flags | OFlags::NONBLOCK).expect("flags");
}

/// A non-blocking pipe that is full, and the number of bytes in it.
fn full_pipe() -> (PipeReader, std::io::PipeWriter, usize) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    make_non_blocking(&writer);
    let mut filled = 0;
    loop {
        match rustix::io::write(&writer, &[b'.'; 4096]) {
            Ok(count) => filled += count,
            Err(Errno::AGAIN) => return (reader, writer, filled),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What comes out of a pipe after `filled` bytes. The test reads from it only when the process sleeps or has ended.
fn drained(mut reader: PipeReader, filled: usize, live: &mut Running) -> String {
    until(LIMIT, "it waits or ends", || !live.is_running() || is_asleep(live.pid()));
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a pipe");
    String::from_utf8(bytes.split_off(filled)).expect("text")
}

#[test]
fn output_waits_for_a_stream_that_is_not_ready() {
    all_at_once(CASES, |case| {
        let good = good(case);
        for number in [1, 2] {
            let scene = Run::new(case);
            let mut command = scene.command();
            if case.reads {
                command.stdin(File::open(scene.sandbox.at("f")).expect("a file"));
            }
            let (reader, writer, filled) = full_pipe();
            let other = tempfile::tempfile().expect("a file");
            let copy = writer.try_clone().expect("a copy");
            let (out, err): (Stdio, Stdio) =
                if number == 1 { (writer.into(), other.into()) } else { (other.into(), writer.into()) };
            let mut live = start_with_streams(&mut command, out, err);
            drop(command); // and with it the test's own ends
            let flags = fcntl_getfl(&copy).expect("flags");
            drop(copy);
            let said = drained(reader, filled, &mut live);
            let ended = live.end(LIMIT);
            let what = format!("{}, stream {number}", case.words);
            is_as(&good, &ended, &what);
            assert!(flags.contains(OFlags::NONBLOCK), "{what}: the command must not change the flag");
            let expected = if number == 1 { &good.stdout } else { &good.stderr };
            assert_eq!(said.is_empty(), expected.is_empty(), "{what}: {said:?}");
            if case.same && number == 1 {
                assert_eq!(&said, expected, "{what}");
            }
        }
    });
}

#[test]
fn input_waits_for_a_stream_that_is_not_ready() {
    for case in CASES.iter().filter(|case| case.reads) {
        let scene = Run::new(case);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        make_non_blocking(&reader);
        let mut command = scene.command();
        let mut live = start(command.stdin(reader));
        drop(command);
        until(LIMIT, "it waits or ends", || !live.is_running() || is_asleep(live.pid()));
        assert!(live.is_running(), "{}: it did not wait; stderr: {}", case.words, live.stderr());
        writer.write_all(&data()).expect("it reads");
        drop(writer);
        let ended = live.end(LIMIT);
        ended.has_code(0);
        if case.words.starts_with("copy") {
            scene.copies_are_whole(2);
        }
        if let Some(port) = &scene.port {
            let read = run(&mut scene.sandbox.words(&format!("mail -p {port} read 0")));
            assert_eq!(read.stdout, text(), "{}", case.words);
        }
    }
}

#[test]
fn lines_of_a_chat_come_through_a_stream_that_is_not_ready() {
    let scene = Run::new(&reads("mail -p PORT chat 0 --nick a", Mailboxes));
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    make_non_blocking(&reader);
    let mut command = scene.command();
    let mut live = start(command.stdin(reader));
    drop(command);
    until(LIMIT, "it waits or ends", || !live.is_running() || is_asleep(live.pid()));
    writer.write_all(b"one\ntwo\n").expect("it reads");
    drop(writer);
    live.end(LIMIT).has_code(0);
    let read =
        run(&mut scene.sandbox.words(&format!("mail -p {} read 0", scene.port.as_deref().expect("a port"))));
    assert_eq!(read.stdout, "a: two");
}

#[test]
fn nothing_that_is_opened_becomes_a_standard_stream() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"some bytes");
    fs::create_dir(sandbox.at("d")).expect("a directory");
    for command in ["send x f", "recv y", "serve s --dir d"] {
        let live = start(&mut sandbox.script(&format!("exec \"$SHELL_BIN\" {command} <&- >&- 2>&-")));
        until(SOON, "it waits", || is_asleep(live.pid()) && !sandbox.left().is_empty());
        for number in 0..3 {
            let leads = fs::read_link(format!("/proc/{}/fd/{number}", live.pid())).expect("a descriptor");
            assert_eq!(leads.to_str(), Some("/dev/null"), "{command}, stream {number}");
        }
        signal(live.pid(), Signal::TERM);
        live.end(LIMIT);
    }
    sandbox.nothing_left();
}

#[test]
fn closed_streams_are_reported_without_a_null_device() {
    if !can_mount() {
        return skip("a system without /dev/null", "a mount namespace cannot be made");
    }
    let sandbox = Sandbox::new();
    let script = "mount -t tmpfs none /dev && \"$SHELL_BIN\" ls <&- && \"$SHELL_BIN\" ls --json <&- && exec \"$SHELL_BIN\" ls --json <&- >&-";
    let mut command = sandbox.program("unshare");
    command.args(["-m", "sh", "-c", script]);
    let ended = run(&mut command);
    ended.has_code(1).one_line(&["cannot write to standard output: it is closed"]);
    assert_eq!(ended.stdout, "{\"channels\":[]}\n");
}

#[test]
fn a_log_that_cannot_be_written_ends_no_server() {
    for level in ["info", "debug"] {
        let scene = Run::new(&case("", Nothing));
        let script = "exec \"$SHELL_BIN\" serve s --dir d --clients 1 2>/dev/full";
        let serving = start(scene.sandbox.script(script).env("WHORL_LOG", level));
        until(SOON, "it is announced", || scene.sandbox.names("d") == ["s.server"]);
        let asked = run(&mut scene.sandbox.words("servers --dir d"));
        assert!(asked.stdout.contains("\nHost: 1\n"), "{asked:?}");
        // It served its client, and reports at its end that the log is not complete.
        serving.end(LIMIT).has_code(1);
    }
}

#[test]
fn a_server_that_cannot_say_where_it_listens_leaves_nothing() {
    for lossy in [">&-", ">/dev/full", ">&- 2>&-"] {
        for words in ["dipc 1 1 0 1", "dipc 1 1 0 1 --foreground", "dipc 1 1 0 1 --unix socket"] {
            let scene = Run::new(&case("", Nothing));
            let ended = run(&mut scene.sandbox.script(&format!("exec \"$SHELL_BIN\" {words} {lossy}")));
            ended.has_code(1);
            assert_eq!(scene.sandbox.left(), Vec::<String>::new(), "{words} {lossy}");
            assert!(!scene.sandbox.at("socket").exists(), "{words} {lossy}");
        }
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_stream_that_is_not_ready() {
    for is_blocking in [true, false] {
        let scene = Run::new(&case("copy -n 1 --json f", Nothing));
        let (_reader, writer, _) = full_pipe();
        if is_blocking {
            let flags = fcntl_getfl(&writer).expect("flags");
            fcntl_setfl(&writer, flags - OFlags::NONBLOCK).expect("flags");
        }
        let live = start_with_stdout(&mut scene.command(), writer.into());
        // It has only its result left to write when its receiver is gone.
        until(LIMIT, "the copy is there", || scene.sandbox.names("received-files").len() == 1);
        until(LIMIT, "it waits", || children(live.pid()).is_empty() && is_asleep(live.pid()));
        signal(live.pid(), Signal::TERM);
        let ended = live.end(LIMIT);
        assert_eq!((ended.signal(), &*ended.stderr), (Some(15), ""), "{ended:?}");
    }
}
