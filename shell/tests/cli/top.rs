//! `shell top`, and `shell ls` on a terminal: the figures are true, and the text fits.

use crate::kit::mailbox_server::port_of;
use crate::kit::terminal::Terminal;
use crate::kit::*;
use rustix::process::Signal;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// A sender that waits for one of its two receivers, which is stopped: its ring is full.
struct Scene {
    sandbox: Sandbox,
    sender: Running,
    quick: Running,
    stopped: Running,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.file("f", &noise(3 << 20, 5));
        let sender = sandbox.start("send video --peers 2 f");
        let stopped = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv video stopped"));
        sandbox.until_joined("video", 1);
        signal(stopped.pid(), Signal::STOP);
        until(SOON, "it is stopped", || is_stopped(stopped.pid()));
        let quick = start(&mut sandbox.script("exec \"$SHELL_BIN\" recv video quick"));
        sandbox.until_joined("video", 2);
        Self { sandbox, sender, quick, stopped }
    }

    fn end(self) {
        signal(self.stopped.pid(), Signal::CONT);
        for process in [self.sender, self.quick, self.stopped] {
            process.end(LIMIT).has_code(0); // the sender has printed which receiver it waited for
        }
    }
}

/// A mailbox server that ends with the test.
struct Boxes<'h> {
    sandbox: &'h Sandbox,
    port: String,
}

impl<'h> Boxes<'h> {
    fn start(sandbox: &'h Sandbox, sizes: &str) -> Self {
        let started = run(&mut sandbox.words(&format!("dipc {sizes}")));
        started.has_code(0);
        Self { sandbox, port: port_of(&started.stdout).to_string() }
    }
}

impl Drop for Boxes<'_> {
    fn drop(&mut self) {
        let _ = self.sandbox.words(&format!("dipcrm --force {}", self.port)).output();
    }
}

fn figures(sandbox: &Sandbox, name: &str) -> Value {
    let ended = run(&mut sandbox.words("top --json"));
    ended.silent_success();
    let channels = ended.json()["channels"].clone();
    let found = channels.as_array().expect("an array").iter().find(|channel| channel["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {channels}")).clone()
}

#[test]
fn the_figures_name_the_receiver_that_blocks_the_sender() {
    let scene = Scene::new();
    let mut video = Value::Null;
    until(LIMIT, "the ring is full", || {
        video = figures(&scene.sandbox, "video");
        let peers = video["receivers"].as_array();
        // The fast receiver has taken everything, which takes a moment.
        let quick = peers.and_then(|peers| peers.iter().find(|peer| peer["pid"] == scene.quick.pid()));
        let is_quick = quick.is_some_and(|peer| peer["lag_bytes"] == 0);
        video["fill"].as_f64() > Some(0.9) && video["waiting"] == "for slowest" && is_quick
    });
    assert_eq!(video["slowest"]["pid"], scene.stopped.pid(), "{video}");
    // Twelve blocks of 80 KiB in a ring of 1 MiB.
    assert_eq!(video["messages"], 12, "{video}");
    assert!(video["lag_bytes"].as_u64().is_some_and(|lag| (12 * 81920..=1 << 20).contains(&lag)), "{video}");
    let peers = video["receivers"].as_array().unwrap();
    let of = |pid: i32| peers.iter().find(|peer| peer["pid"] == pid).unwrap();
    assert_eq!(of(scene.stopped.pid())["state"], "stopped");
    assert_eq!(
        (of(scene.quick.pid())["state"].clone(), of(scene.quick.pid())["fill"].clone()),
        ("live".into(), 0.0.into())
    );
    let once = run(&mut scene.sandbox.words("top --once"));
    once.silent_success();
    let lines: Vec<_> = once.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{once:?}");
    assert!(lines[1].starts_with("video\tring\t98%\t"), "{once:?}");
    run(&mut scene.sandbox.words("top"))
        .refusal(2, &["top: standard input or output is not a terminal", "--once"]);
    scene.end();
}

#[test]
fn mailboxes_are_counted_without_asking_the_server() {
    let sandbox = Sandbox::new();
    let boxes = Boxes::start(&sandbox, "5 4 0 4");
    let port = &boxes.port;
    for _ in 0..3 {
        run(&mut sandbox.words(&format!("mail -p {port} write 4 x"))).has_code(0);
    }
    let server = figures(&sandbox, &format!("dipc-{port}"));
    assert_eq!(server["mailboxes"]["versions"], serde_json::json!([0, 0, 0, 0, 3]), "{server}");
    assert_eq!((server["messages"].clone(), server["kind"].clone()), (3.into(), "mailboxes".into()));
    drop(boxes);
    sandbox.nothing_left();
}

#[test]
fn rows_details_and_keys_on_a_terminal() {
    let scene = Scene::new();
    let boxes = Boxes::start(&scene.sandbox, "12 4 0 4");
    let port = &boxes.port;
    let Some(terminal) = Terminal::open(&scene.sandbox, 80, 24, "shell top --interval 100ms") else { return };
    let stopped = scene.stopped.pid().to_string();
    let screen =
        terminal.shows(&["video", "███████▉", "for slowest", &stopped, &format!("dipc-{port}"), "q quit"]);
    assert!(screen.lines().all(|line| line.width() <= 80), "{screen}");
    let slowest = format!("{stopped} recv stopped");
    assert!(screen.contains(&slowest) && !screen.contains('…'), "nothing is cut:\n{screen}");
    let red = |screen: &str| ["\x1b[31m", "38;5;1m"].iter().any(|red| screen.contains(red));
    assert!(red(&terminal.coloured()), "a full ring is red: {:?}", terminal.coloured());
    // Sorted by name, the server comes first. Sorted by fill, the full ring comes first.
    let first = |screen: &str| {
        screen.lines().nth(2).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(first(&screen), format!("dipc-{port}"));
    terminal.keys(&["s"]);
    terminal.shows(&["by rate"]);
    terminal.keys(&["s"]);
    assert_eq!(first(&terminal.shows(&["by fill"])), "video");
    terminal.keys(&["?"]);
    terminal.shows(&["choose a row"]);
    terminal.keys(&["x"]);
    terminal.hides("choose a row");
    terminal.keys(&["Up", "Enter"]);
    // The server is selected now, and the selection stays with its row. One row up is the ring.
    let detail = terminal.shows(&["STATE", "stopped", "live", "█ ", &stopped, "waiting  for slowest"]);
    assert!(detail.contains("960 KiB"), "{detail}");
    terminal.keys(&["Escape"]);
    terminal.shows(&["s sort"]);
    terminal.keys(&["Down", "Enter"]);
    terminal.shows(&["12 mailboxes of 4 KiB", "0:0", "11:0"]);
    run(&mut scene.sandbox.words(&format!("mail -p {port} write 7 x"))).has_code(0);
    terminal.shows(&["7:1"]);
    terminal.resize(200, 50);
    terminal.keys(&["Escape"]);
    terminal.shows(&[&format!("{stopped} recv stopped")]);
    terminal.resize(20, 3);
    terminal.resize(80, 24);
    terminal.shows(&["q quit"]);
    terminal.keys(&["q"]);
    terminal.shows(&["ended 0"]);
    drop(boxes);
    scene.end();
}

#[test]
fn the_slowest_receivers_of_pipes_are_distinguished_by_their_parents() {
    let sandbox = Sandbox::new();
    sandbox.file("f", &noise(3 << 20, 5));
    let sender = sandbox.start("send video --peers 1 f");
    let mut bash = sandbox.program("bash");
    bash.args(["-c", "\"$SHELL_BIN\" recv video | sleep 600; true"]).env("SHELL_BIN", SHELL);
    let reader = start(&mut bash);
    sandbox.until_joined("video", 1);
    for width in [80, 120] {
        let script = "shell top --interval 100ms";
        let Some(terminal) = Terminal::open(&sandbox, width, 24, script) else { return };
        let screen = terminal.shows(&["for slowest", " recv by bash"]);
        let slowest = screen.lines().find_map(|line| line.split_once("for slowest")).expect("a row").1;
        let words: Vec<_> = slowest.split_whitespace().collect();
        assert!(words[0].parse::<u32>().is_ok() && words[1..] == ["recv", "by", "bash"], "{screen}");
        terminal.keys(&["q"]);
        terminal.shows(&["ended 0"]);
    }
    for process in children(reader.pid()) {
        signal(process, Signal::KILL);
    }
    sender.end(LIMIT).has_code(4);
    drop(reader);
}

#[test]
fn without_colours_and_after_a_signal_the_terminal_is_as_before() {
    let scene = Scene::new();
    let script = "shell top --interval 100ms";
    let Some(terminal) = Terminal::open_with(&scene.sandbox, 80, 24, script, &[("NO_COLOR", "1")]) else {
        return;
    };
    terminal.shows(&["video", "███████▉"]);
    let coloured = terminal.coloured();
    assert!(!coloured.contains("38;5;"), "{coloured:?}");
    for colour in 30..=37 {
        assert!(!coloured.contains(&format!("\x1b[{colour}m")), "colour {colour}: {coloured:?}");
    }
    let top = children(terminal.pid());
    assert_eq!(top.len(), 1, "the view alone runs there");
    signal(top[0], Signal::TERM);
    let screen = terminal.shows(&["ended 143"]);
    assert!(!screen.contains("SLOWEST"), "the screen is given back:\n{screen}");
    scene.end();
}

#[test]
fn the_view_ends_with_its_terminal_even_if_hanging_up_is_ignored() {
    let sandbox = Sandbox::new();
    for ignore in ["", "trap '' HUP\n"] {
        // The error goes to a file, because the terminal is gone. The exit code, too.
        let script = format!("{ignore}shell top --interval 100ms 2>said; echo $? >code");
        let Some(terminal) = Terminal::open(&sandbox, 80, 24, &script) else { return };
        terminal.shows(&["q quit"]);
        let top = children(terminal.pid());
        assert_eq!(top.len(), 1, "the view alone runs there");
        terminal.close();
        until(SOON, "it ends", || !is_alive(top[0]));
        if !ignore.is_empty() {
            until(SOON, "its exit code is there", || {
                std::fs::read(sandbox.at("code")).is_ok_and(|code| code == b"1\n")
            });
            let said = std::fs::read_to_string(sandbox.at("said")).unwrap();
            assert!(said.starts_with("shell: top: the terminal"), "{said}");
        }
    }
}

#[test]
fn the_list_is_a_table_that_fits_whatever_a_command_is_called() {
    let sandbox = Sandbox::new();
    let named =
        "exec -a '漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字' \"$SHELL_BIN\" recv wide";
    let mut bash = sandbox.program("bash");
    bash.args(["-c", named]);
    let waiting = start(&mut bash);
    sandbox.until_awaited("wide", 1);
    let sender = sandbox.start_fed("send long-long-long-long-long-long-name");
    sandbox.until_owned("long-long-long-long-long-long-name");
    for width in [80, 200] {
        let Some(terminal) = Terminal::open(&sandbox, width, 24, "shell ls") else { return };
        let screen = terminal.shows(&["ended 0"]);
        let lines: Vec<_> = screen.lines().collect();
        assert_eq!(lines.len(), 5, "nothing wraps:\n{screen}");
        assert!(lines[0].starts_with("NAME ") && lines[0].contains("OWNER"), "{screen}");
        // In columns, not in bytes: an ellipsis has three bytes.
        let kind = |line: &str, word: &str| line.split(word).next().map(UnicodeWidthStr::width);
        assert_eq!(kind(lines[0], "KIND"), kind(lines[1], "ring"), "{screen}");
        assert_eq!(kind(lines[0], "KIND"), kind(lines[2], "ring"), "{screen}");
        assert!(lines[3].contains("漢字"), "{screen}");
        assert_eq!(lines[3].ends_with('…'), width == 80, "{screen}");
        assert!(lines.iter().all(|line| line.width() <= usize::from(width)), "{screen}");
    }
    for process in [&waiting, &sender] {
        signal(process.pid(), Signal::TERM);
    }
}
