//! Text that a terminal would act on, in every input from which a command takes text.

use crate::kit::mailbox_server::port_of;
use crate::kit::terminal::Terminal;
use crate::kit::*;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

/// A title, a colour, the C1 twin of a colour, DEL; characters that set the direction of writing, have no width, or end a
/// line; a tag. It is also a file name.
const HOSTILE: &str = "\x1b]0;owned\x07\x1b[31m\u{9b}31m\x7f\r\u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{feff}\u{ad}\u{2028}\u{e0041}";

/// The same text, with bytes that are not UTF-8: a C1 control sequence for terminals without UTF-8, and half a
/// surrogate.
fn broken() -> OsString {
    OsString::from_vec([HOSTILE.as_bytes(), b"\x9b31m\xff\xed\xa0\x80"].concat())
}

/// Asserts that these bytes contain nothing that a terminal acts on or that cannot be seen.
#[track_caller]
fn assert_tame(what: &str, bytes: &[u8]) {
    let shown = bytes.escape_ascii();
    let text = std::str::from_utf8(bytes).unwrap_or_else(|why| panic!("{what}: {why}: {shown}"));
    for c in text.chars().filter(|c| !matches!(c, '\n' | '\t')) {
        assert!(
            !c.is_control() && !HOSTILE.chars().filter(|c| !c.is_ascii_graphic()).any(|bad| bad == c),
            "{what}: {c:?} in {shown}"
        );
        assert!(!whorl::internal::os::escape::is_hazard(c), "{what}: {c:?} in {shown}");
    }
}

/// The commands that were tried.
#[derive(Default)]
struct Tried(BTreeSet<String>);

impl Tried {
    /// Runs a command and checks its output, which must contain `holds`.
    #[track_caller]
    fn run(&mut self, command: &mut Command, holds: &str) {
        let name = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let said = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it starts");
        assert_tame(&what, &said.stdout);
        assert_tame(&what, &said.stderr);
        let all = String::from_utf8([said.stdout, said.stderr].concat()).expect("checked above");
        assert!(all.contains(holds), "{what}: '{holds}' is missing in {all}");
        assert!(!all.contains("panicked"), "{what}: {all}");
        self.0.insert(name);
    }
}

fn words(sandbox: &Sandbox, words: &str, more: &[&OsStr]) -> Command {
    let mut command = sandbox.words(words);
    command.args(more);
    command
}

#[test]
fn no_argument_or_variable_reaches_the_terminal_as_it_is() {
    let sandbox = Sandbox::new();
    let mut tried = Tried::default();
    let (hostile, broken) = (OsStr::new(HOSTILE), broken());
    sandbox.file("f", b"some bytes");
    sandbox.file("file", b"");
    fs::create_dir(sandbox.at("d")).expect("a directory");
    let below = |name: &OsStr| {
        let mut path = sandbox.at("file").into_os_string();
        path.push("/");
        path.push(name);
        path
    };
    let escape = "\\u{202e}";
    // Values that are refused, and unknown flags and commands.
    for (command, flags) in [
        ("copy", "-n --block --ring --progress"),
        ("send", "--timeout --peers --seats --block --ring --evict-after --progress"),
        ("recv", "--from --timeout"),
        ("rm", ""),
        ("serve", "--for --clients --bind"),
        ("servers", "--timeout"),
        ("dipc", "--idle --bind --workers --max-connections"),
        ("mail", "-p"),
        ("top", "--interval"),
        ("bench", "--seconds --rate"),
        ("completions", ""),
        ("man", ""),
        ("doctor", ""),
        ("ls", ""),
        ("dipcrm", ""),
        ("", ""),
    ] {
        for flag in flags.split_whitespace() {
            tried.run(&mut words(&sandbox, command, &[flag.as_ref(), hostile]), escape);
            tried.run(&mut words(&sandbox, command, &[flag.as_ref(), &broken]), "shell: ");
        }
        let unknown = OsString::from_vec([b"--", HOSTILE.as_bytes()].concat());
        tried.run(&mut words(&sandbox, command, &[&unknown]), escape);
        tried.run(&mut words(&sandbox, command, &[hostile, hostile, hostile, hostile, hostile]), "shell: ");
        // The directory of manual pages can have any name.
        let holds = if command == "man" { "" } else { "shell: " };
        tried.run(&mut words(&sandbox, command, &[&broken]), holds);
    }
    for positional in [
        "send",
        "recv",
        "rm",
        "serve --dir d",
        "dipc",
        "dipc 1",
        "dipc 1 1",
        "dipc 1 1 0",
        "dipcrm",
        "mail read",
        "mail write",
        "mail watch",
        "mail chat",
        "completions",
        "bench",
    ] {
        tried.run(&mut words(&sandbox, positional, &[hostile]), escape);
    }
    // Files that do not or cannot exist, each with a hostile path.
    for path in [below(hostile), below(&broken)] {
        for command in [
            "copy -n 1",
            "copy -n 1 f -d",
            "send x --peers 0",
            "recv x --timeout 1ms",
            "serve x --dir",
            "serve x --dir d --log-file",
            "servers --dir",
            "dipc 1 1 0 1 --unix",
            "dipc 1 1 0 1 --token-file",
            "dipc 1 1 0 1 --log-file",
            "dipc 1 1 0 1 --foreground --log-file",
            "mail read 0 --unix",
            "mail read 0 --token-file",
            "man",
        ] {
            tried.run(&mut words(&sandbox, command, &[&path]), escape);
        }
        if cfg!(feature = "cli") {
            tried.run(&mut words(&sandbox, "bench copy --quick -d", &[&path]), escape);
        }
    }
    let template = |text: &str| OsString::from(format!("{text}{HOSTILE}"));
    for name in [template("{peer}{unknown"), template("a/{peer}"), template("{peer}/")] {
        tried.run(&mut words(&sandbox, "copy -n 2 f --name", &[&name]), "shell: ");
    }
    tried.run(&mut words(&sandbox, "mail read 0 --host", &[hostile]), escape);
    tried.run(
        &mut words(&sandbox, "recv x --timeout 1ms", &[sandbox.at("").join(HOSTILE).join("f").as_os_str()]),
        escape,
    );
    // Results that name a file.
    fs::write(sandbox.at(HOSTILE), "text").expect("a file");
    tried.run(&mut words(&sandbox, "copy --json -n 1", &[hostile]), "\\u202e");
    tried.run(&mut words(&sandbox, "copy --no-clobber -n 1", &[hostile]), "file exists");
    // Environment variables.
    for command in [
        "ls",
        "ls --json",
        "rm --dead",
        "rm x",
        "top --once",
        "doctor",
        "doctor --json",
        "send x --peers 0 f",
        "recv x",
        "serve x --dir d",
        "servers --dir d",
        "dipc 1 1 0 1",
        "dipcrm 9",
    ] {
        let json = command.ends_with("--json") && command.starts_with("doctor");
        let holds = if command.starts_with("servers") {
            "Total"
        } else if json {
            "\\\\u{202e}"
        } else {
            escape
        };
        tried.run(sandbox.words(command).env("XDG_RUNTIME_DIR", below(hostile)), holds);
    }
    for command in ["serve x --dir d", "dipc 1 1 0 1", "dipc 1 1 0 1 --foreground"] {
        tried.run(sandbox.words(command).env("WHORL_LOG", HOSTILE), escape);
    }
    tried.run(sandbox.words("top").env("TERM", HOSTILE), "shell: top");
    tried.run(sandbox.words("ls").env("WHORL_COMPLETE", HOSTILE), escape);
    // The name that the program was called by.
    let link = sandbox.at("bin").join(HOSTILE);
    fs::create_dir(sandbox.at("bin")).expect("a directory");
    symlink(SHELL, &link).expect("a link");
    for (arguments, holds) in [
        ("--help", "Usage: shell"),
        ("ls --help", "Usage: shell ls"),
        ("nosuch", "nosuch"),
        ("completions bash", "call the program by another path"),
    ] {
        let mut called = sandbox.program(link.to_str().expect("it is UTF-8"));
        tried.run(called.args(arguments.split(' ')), holds);
    }
    every_command_was_tried(&sandbox, &tried);
    sandbox.nothing_left();
}

/// Compares the commands that were tried with all commands.
fn every_command_was_tried(sandbox: &Sandbox, tried: &Tried) {
    let help = run(&mut sandbox.words("--help"));
    let list =
        help.stdout.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    let listed = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        assert!(tried.0.contains(command), "{command} was not tried");
    }
}

#[test]
fn no_name_that_was_planted_reaches_the_terminal_as_it_is() {
    let sandbox = Sandbox::new();
    let mut tried = Tried::default();
    sandbox.make_runtime_directory();
    let runtime = sandbox.at("run/whorl");
    let plant = |before: &str, after: &str| runtime.join(format!("{before}{HOSTILE}{after}"));
    fs::create_dir(plant("x.17-", ".wait")).expect("a directory");
    fs::write(plant("y.18-", ".wait"), "").expect("a file");
    fs::write(plant("", ".sock"), "").expect("a file");
    fs::write(plant("dipc-", ".server"), "").expect("a file");
    for command in ["ls", "ls --json", "ls --sysv", "top --once", "top --json", "doctor", "doctor --json"] {
        tried.run(&mut sandbox.words(command), "");
    }
    tried.run(&mut sandbox.words("rm x"), "\\u{202e}");
    tried.run(&mut sandbox.words("rm --dead"), "\\u{202e}");
    tried.run(&mut sandbox.words("rm y"), "");
    for (name, value) in [("WHORL_COMPLETE", "bash"), ("WHORL_COMPLETE", "zsh"), ("WHORL_COMPLETE", "fish")] {
        for line in ["rm ", "recv ", "send ", "copy -n 1 ", "dipcrm ", "mail --unix "] {
            fs::write(sandbox.at(HOSTILE), "").expect("a file");
            fs::write(sandbox.at("a\nb"), "").expect("a file");
            fs::write(sandbox.at("plain"), "").expect("a file");
            let line: Vec<_> = line.split(' ').collect();
            let mut asked = sandbox.shell(["--", "shell"]);
            asked.args(&line).env(name, value).env("_CLAP_COMPLETE_INDEX", line.len().to_string());
            let is_path = ["copy", "mail"].contains(&line[0]);
            tried.run(asked.env("_CLAP_IFS", "\n"), if is_path { "plain" } else { "" });
        }
    }
}

#[test]
fn no_process_or_server_writes_to_the_terminal_of_its_viewer() {
    let sandbox = Sandbox::new();
    let mut tried = Tried::default();
    // A waiting receiver that was started under a hostile name, with hostile arguments.
    let mut bash = sandbox.program("bash");
    let script = "exec -a \"$0\" \"$SHELL_BIN\" recv wide --timeout 1h \"$0\"";
    bash.args([OsStr::new("-c"), script.as_ref(), &broken()]);
    let waiting = start(&mut bash);
    sandbox.until_awaited("wide", 1);
    for command in ["ls", "ls --json", "top --once", "top --json"] {
        tried.run(&mut sandbox.words(command), "wide");
    }
    if let Some(terminal) = Terminal::open(&sandbox, 200, 24, "shell ls; shell top --interval 100ms") {
        let screen = terminal.shows(&["wide", "1 for it", "q quit"]);
        assert_tame("top", screen.as_bytes());
        terminal.keys(&["Enter"]);
        assert_tame("top in detail", terminal.shows(&["owner", "no receivers"]).as_bytes());
        terminal.keys(&["q"]);
        assert_tame("ls", terminal.shows(&["ended 0", "\\u{202e}"]).as_bytes());
    }
    signal(waiting.pid(), Signal::TERM);
    waiting.end(LIMIT);
    // A server with hostile messages, and files that announce no server.
    let servers = sandbox.at("servers");
    fs::create_dir(&servers).expect("a directory");
    let message = broken();
    let serving = start(sandbox.words("serve one --dir servers").args([
        OsStr::new("--socket-message"),
        &message,
        OsStr::new("--shm-message"),
        &message,
    ]));
    until(SOON, "it is announced", || sandbox.names("servers") == ["one.server"]);
    fs::write(servers.join(format!("{HOSTILE}.server")), HOSTILE).expect("a file");
    fs::write(servers.join("text.server"), format!("127.0.0.1\n1\n{HOSTILE}\n")).expect("a file");
    symlink(HOSTILE, servers.join(format!("link{HOSTILE}.server"))).expect("a link");
    fs::create_dir(servers.join(format!("folder{HOSTILE}.server"))).expect("a directory");
    tried.run(&mut sandbox.words("servers --dir servers"), "\\u{202e}");
    tried.run(&mut sandbox.words("servers --dir servers --json"), "\\u202e");
    signal(serving.pid(), Signal::TERM);
    serving.end(LIMIT);
}

#[test]
fn no_message_or_mailbox_server_writes_to_the_terminal() {
    let sandbox = Sandbox::new();
    let mut tried = Tried::default();
    // Servers of another kind.
    for answer in [
        format!("{HOSTILE}\n"),
        format!("ok dipc {HOSTILE}\n"),
        format!("err {HOSTILE}\n"),
        format!("bye {HOSTILE}\n"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answering = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let _ = client.write_all(answer.as_bytes()).and_then(|()| client.read(&mut [0; 100]));
        });
        tried.run(&mut sandbox.words(&format!("mail --host 127.0.0.1 -p {port} read 0")), "shell: mail: ");
        answering.join().expect("it answered");
    }
    let started = run(&mut sandbox.words("dipc 2 4 0 4"));
    started.has_code(0);
    let port = port_of(&started.stdout).to_string();
    let message = broken();
    run(words(&sandbox, &format!("mail -p {port} write 0"), &[&message]).arg("")).has_code(2);
    run(&mut words(&sandbox, &format!("mail -p {port} write 0"), &[&message])).has_code(0);
    // A pipe gets the bytes themselves. Only lines are escaped.
    let bytes = sandbox.words(&format!("mail -p {port} read 0")).output().expect("it runs");
    assert_eq!(bytes.stdout, message.as_bytes());
    let mut watching =
        sandbox.words(&format!("mail -p {port} watch 0")).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = Vec::new();
    BufReader::new(watching.stdout.take().expect("a pipe")).read_until(b'\n', &mut line).expect("a line");
    watching.kill().and_then(|()| watching.wait()).expect("it ends");
    assert_tame("mail watch", &line);
    assert!(line.ends_with(b"\\xff\\xed\\xa0\\x80\n"), "{}", line.escape_ascii());
    if let Some(terminal) = Terminal::open(&sandbox, 200, 24, &format!("shell mail -p {port} read 0")) {
        assert_tame("mail read", terminal.shows(&["ended 0", "\\u{202e}", "\\xff"]).as_bytes());
    }
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
    sandbox.nothing_left();
}
