//! What a user reads: last lines, usage errors, JSON, colours; and what a listing does not change.

use crate::kit::terminal::Terminal;
use crate::kit::*;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::process::Stdio;

#[test]
fn a_usage_error_names_the_command_and_shows_its_usage_in_one_write() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"some");
    for (line, first, usage) in [
        ("cpoy f", "shell: unrecognized subcommand 'cpoy'", "Usage: shell [OPTIONS] <COMMAND>"),
        ("copy f", "shell: copy: ", "Usage: shell copy [OPTIONS] --peers <N> <FILE>"),
        ("mail read x", "shell: mail: invalid value 'x'", "Usage: shell mail read [OPTIONS] <BOX>"),
        (
            "mail --port 1 --host h:2 read 0",
            "shell: mail: --host names port 2",
            "Usage: shell mail [OPTIONS]",
        ),
        ("recv x --verify --from now", "shell: recv: --verify does not work", "Usage: shell recv [OPTIONS]"),
        ("copy -n 2 --name x f", "shell: copy: --name x: ", "Usage: shell copy "),
        ("dipc 1 1 0 1 --bind 0.0.0.0", "shell: dipc: --bind 0.0.0.0", "Usage: shell dipc "),
    ] {
        let ended = run(&mut sandbox.words(line));
        ended.refusal(2, &[]);
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(lines[0].starts_with(first) && lines[1].starts_with(usage), "{line}: {ended:?}");
    }
    if !lacks_strace("one write for each error") {
        let mut traced = sandbox.program("strace");
        traced.args(["-qq", "-e", "trace=write", "-e", "signal=none", "-o", "trace"]);
        run(traced.args([SHELL, "copy", "f"])).has_code(2);
        let trace = fs::read_to_string(sandbox.at("trace")).expect("a trace");
        assert_eq!(trace.lines().filter(|line| line.starts_with("write(2, ")).count(), 1, "{trace}");
    }
}

#[test]
fn help_and_version_are_commands_too() {
    let sandbox = Sandbox::new();
    for (typed, means) in [
        ("help", "--help"),
        ("help copy", "copy --help"),
        ("help mail read", "mail read --help"),
        ("version", "--version"),
    ] {
        let (typed, means) = (run(&mut sandbox.words(typed)), run(&mut sandbox.words(means)));
        assert_eq!(typed.silent_success().stdout, means.silent_success().stdout);
    }
    run(&mut sandbox.words("help cpoy")).refusal(2, &["copy"]);
}

#[test]
fn the_last_line_says_what_was_done_on_a_terminal_only() {
    let sandbox = Sandbox::new();
    sandbox.file("f", &noise(71_694, 1));
    let script = "shell copy -n 16 f; shell copy -q -n 1 f; shell copy --json -n 1 f > json
        shell send x f & shell recv x got; wait
        shell send y f & shell recv y > plain; wait; shell ls";
    for width in [80, 120] {
        let Some(terminal) = Terminal::open(&sandbox, width, 40, script) else { return };
        let screen = terminal.shows(&["ended 0"]);
        let ends = |start: &str, end: &str| {
            screen.lines().filter(|line| line.starts_with(start) && line.ends_with(end)).count()
        };
        assert_eq!(ends("16 copies of 71,694 bytes in received-files/, ", "s"), 1, "{screen}");
        assert_eq!(ends("1 copy of ", ""), 0, "quiet, and a result on stdout:\n{screen}");
        assert_eq!(ends("sent 71,694 bytes to 1 receiver, ", "s"), 2, "{screen}");
        assert_eq!(ends("received 71,694 bytes into got", ""), 1, "{screen}");
        assert_eq!(ends("received ", ""), 1, "the data went to stdout:\n{screen}");
        assert_eq!(ends("No channels or servers.", ""), 1, "{screen}");
        assert!(!screen.contains("left"), "the progress bar is gone:\n{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= usize::from(width)), "{screen}");
    }
    run(&mut sandbox.words("copy -n 2 f")).silent_success();
}

#[test]
fn colours_follow_the_option_the_variable_and_the_terminal() {
    let sandbox = Sandbox::new();
    let waiting = sandbox.start("recv x");
    sandbox.until_awaited("x", 1);
    let coloured = |words: &str| {
        let ended = run(&mut sandbox.words(words));
        (ended.stdout.contains('\x1b'), ended.stderr.contains('\x1b'))
    };
    assert_eq!(coloured("doctor"), (false, false));
    assert!(coloured("doctor --color always").0);
    assert_eq!(coloured("rm --color always missing"), (false, true));
    assert_eq!(coloured("rm missing"), (false, false));
    let red = |screen: &str| ["\x1b[31m", "38;5;1m"].iter().any(|red| screen.contains(red));
    for (script, variables, expected) in [
        ("shell rm missing", &[][..], true),
        ("shell rm missing", &[("NO_COLOR", "1")], false),
        ("shell rm --color never missing", &[], false),
        ("shell rm --color always missing", &[("NO_COLOR", "1")], true),
    ] {
        let Some(terminal) = Terminal::open_with(&sandbox, 80, 24, script, variables) else { return };
        terminal.shows(&["rm: missing", "ended 3"]);
        assert_eq!(red(&terminal.coloured()), expected, "{script} {variables:?}: {}", terminal.coloured());
    }
    signal(waiting.pid(), rustix::process::Signal::TERM);
}

#[test]
fn send_recv_and_mail_print_json() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", &noise(100_000, 1));
        let sender = sandbox.start(&format!("send x --json {transport} f"));
        let received = run(&mut sandbox.words("recv x got --json"));
        assert_eq!(
            received.silent_success().json(),
            json!({"path": "got", "bytes": 100_000, "warnings": []}),
            "{transport}"
        );
        let sent = sender.end(LIMIT).silent_success().json();
        assert_eq!((&sent["name"], &sent["bytes"]), (&json!("x"), &json!(100_000)));
        assert_eq!((&sent["transport"], &sent["done"]), (&json!(&transport[2..]), &json!(1)));
        assert_eq!((&sent["left"], &sent["receivers"]), (&json!(0), &json!([])));
    }
    let sandbox = Sandbox::new();
    for target in ["", "-", "/dev/stdout"] {
        run(&mut sandbox.words(&format!("recv x --json {target}")))
            .refusal(2, &["recv: --json needs a FILE"]);
    }
    let started = run(&mut sandbox.words("dipc 2 1 0 1"));
    let port = started.stdout.trim().rsplit(':').next().unwrap().to_owned();
    let mail = |words: &str, input: &[u8]| {
        let mut live = start(sandbox.words(&format!("mail --json -p {port} {words}")).stdin(Stdio::piped()));
        live.stdin().write_all(input).unwrap();
        live.close_stdin();
        let ended = live.end(LIMIT);
        ended.silent_success().json()
    };
    assert_eq!(mail("write 1 -", b"caf\xc3\xa9\n"), json!({"mailbox": 1, "version": 1}));
    assert_eq!(mail("read 1", b""), json!({"mailbox": 1, "version": 1, "text": "caf\u{e9}\n"}));
    assert_eq!(mail("write 1 -", b"\xff\xfe\xfd")["version"], 2);
    assert_eq!(mail("read 1", b""), json!({"mailbox": 1, "version": 2, "base64": "//79"}));
    let mut watching = start(&mut sandbox.script(&format!("shell mail --json -p {port} watch 1 | head -1")));
    until(LIMIT, "it finds that its reader has closed the pipe", || {
        mail("write 1 -", b"more");
        !watching.is_running()
    });
    let watched = watching.end(LIMIT).json();
    assert_eq!((&watched["mailbox"], &watched["missed"]), (&json!(1), &json!(0)), "{watched}");
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
}

#[test]
fn a_listing_creates_nothing() {
    let sandbox = Sandbox::new();
    for words in ["ls", "ls --json", "top --once", "top --json"] {
        run(&mut sandbox.words(words)).silent_success();
    }
    for word in ["recv", "send", "rm", "dipcrm"] {
        let mut command = sandbox.shell(["--", "shell", word, ""]);
        command.env("WHORL_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
        run(&mut command).silent_success();
    }
    assert_eq!(sandbox.names("run"), Vec::<String>::new());
    run(sandbox.words("ls").env("XDG_RUNTIME_DIR", sandbox.at("missing"))).refusal(1, &["no such file"]);
}

#[test]
fn a_packet_larger_than_a_mailbox_is_explained() {
    let sandbox = Sandbox::new();
    let started = run(&mut sandbox.words("dipc 1 4 0 64"));
    started.has_code(0).one_line(&[
        "PACKET (64 KiB) is larger than SIZE (4 KiB)",
        "at most 4 KiB",
        "one packet",
    ]);
    let port = started.stdout.trim().rsplit(':').next().unwrap();
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
}
