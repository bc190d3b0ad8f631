//! No descriptors, no memory, no space, a closed output: one clear line, the right exit code, and nothing left behind.
//! (`copy_refuses` and `copy_output` have more of this for `copy`.)

use crate::kit::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Commands that end by themselves in a [`Setting`]. `PORT` is its mailbox server's port.
const SCENES: [&str; 17] = [
    "copy --shm -n 2 source",
    "copy --socket -n 2 source",
    "send x source --timeout 100ms",
    "send x source --timeout 100ms --socket",
    "recv x --timeout 100ms",
    "recv held --timeout 100ms",
    "dipc 2 4 0 4",
    "dipcrm 1",
    "mail -p PORT write 0 text",
    "mail -p PORT read 0",
    "mail -p PORT chat 0 --nick me",
    "serve two --dir servers --for 100ms -q",
    "servers --dir servers",
    "ls",
    "rm --dead",
    "top --once",
    "doctor",
];

/// A sandbox with a sender that waits, a mailbox server, and a server that announced itself.
struct Setting {
    sandbox: Sandbox,
    port: String,
    _send: Running,
    _serve: Running,
}

impl Setting {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.file("source", &noise(100_000, 4));
        fs::create_dir(sandbox.at("servers")).expect("a directory");
        let send = sandbox.start("send held source --peers 99");
        let serve = sandbox.start("serve one --dir servers --socket-message hello --shm-message there -q");
        sandbox.until_owned("held");
        until(SOON, "it announced itself", || !sandbox.names("servers").is_empty());
        let said = run(&mut sandbox.words("dipc 2 4 0 4"));
        let port = port(&said).expect("a port");
        Self { sandbox, port, _send: send, _serve: serve }
    }

    /// `shell` with these words, after this prefix of a shell script.
    fn limited(&self, prefix: &str, words: &str) -> Command {
        let words = words.replace("PORT", &self.port);
        self.sandbox.script(&format!("{prefix}; exec \"$SHELL_BIN\" {words}"))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = self.sandbox.words(&format!("dipcrm {} --force", self.port)).stderr(Stdio::null()).status();
    }
}

/// The port in the line that a mailbox server prints.
fn port(said: &Ended) -> Option<String> {
    said.stdout.trim_end().rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).map(String::from)
}

/// What is wrong about the end of a command that lacked something.
fn wrong(ended: &Ended) -> Option<&'static str> {
    if ended.stderr.contains("panicked") {
        return Some("it panicked");
    }
    match ended.code() {
        None => Some("it was killed"),
        Some(0) => None,
        Some(127) => None, // the loader: the program never began
        Some(1..=5) if ended.stderr.is_empty() && ended.stdout.is_empty() => Some("it failed without a word"),
        Some(1..=5) if !ended.stderr.lines().all(|line| line.starts_with("shell: ")) => {
            Some("not its own words")
        }
        Some(1..=5) if ended.stderr.lines().count() > 3 => Some("too many words"),
        Some(1..=5) => None,
        Some(_) => Some("an exit code of its own"),
    }
}

/// Runs every scene under every limit. Returns what was wrong, and the numbers of successes and failures.
fn every_scene_under(limits: impl Iterator<Item = String>) -> (Vec<String>, [usize; 2]) {
    let all = Mutex::new((Vec::new(), [0; 2]));
    all_at_once(limits, |limit| {
        let (wrong, count) = every_scene_with(&limit);
        let mut all = all.lock().expect("no panic in between");
        all.0.extend(wrong);
        all.1 = [0, 1].map(|kind| all.1[kind] + count[kind]);
    });
    all.into_inner().expect("no panic in between")
}

fn every_scene_with(limit: &str) -> (Vec<String>, [usize; 2]) {
    let setting = Setting::new();
    let (mut found, mut count) = (Vec::new(), [0; 2]);
    for words in SCENES {
        let ended = run(&mut setting.limited(limit, words));
        count[usize::from(ended.code() != Some(0))] += 1;
        if let Some(what) = wrong(&ended) {
            found.push(format!("{limit}; {words}: {what}: {ended:?}"));
        }
        if words.starts_with("dipc ")
            && ended.code() == Some(0)
            && let Some(port) = port(&ended)
        {
            run(&mut setting.sandbox.words(&format!("dipcrm {port}"))).has_code(0);
        }
    }
    // The earlier server still runs and serves.
    run(&mut setting.limited(":", "mail -p PORT write 1 after")).has_code(0);
    assert_eq!(run(&mut setting.limited(":", "mail -p PORT read 1")).stdout, "after");
    let left: Vec<_> = setting
        .sandbox
        .left()
        .into_iter()
        .filter(|name| name.ends_with(".wait") || name.starts_with("x."))
        .collect();
    assert!(left.is_empty(), "names were left: {left:?}");
    assert_eq!(setting.sandbox.names("servers").len(), 1, "information files were left");
    assert_eq!(setting.sandbox.parts(), Vec::<PathBuf>::new());
    (found, count)
}

/// H12: EMFILE at each of the first calls that open something, in every command.
#[test]
fn without_descriptors_every_command_says_so() {
    let step = crate::kit::short_or_long(3, 1);
    let limits = (3..=24).step_by(step).map(|limit| format!("ulimit -n {limit}"));
    let (wrong, [done, failed]) = every_scene_under(limits);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(done > 0 && failed > 0, "no limit was one: {done} done, {failed} failed");
    eprintln!("{done} done, {failed} failed with a line");
}

/// H12: ENOMEM for mappings, threads and the heap, in every command.
#[test]
fn without_address_space_every_command_says_so() {
    // With less, the loader or the main thread's stack has not enough, and no code of the program runs.
    let all: &[u32] = &[16, 18, 20, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384];
    let step = crate::kit::short_or_long(3, 1);
    let limits = all.iter().step_by(step).map(|mib| format!("ulimit -v {}", mib * 1024));
    let (wrong, [done, failed]) = every_scene_under(limits);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(done > 0 && failed > 0, "no limit was one: {done} done, {failed} failed");
    eprintln!("{done} done, {failed} failed with a line");
}

/// Commands that print a result.
const TALKERS: [&str; 14] = [
    "recv x",
    "mail -p PORT read 0",
    "servers --dir servers",
    "servers --dir servers --json",
    "ls",
    "ls --json",
    "ls --sysv",
    "top --once",
    "top --once --json",
    "doctor",
    "completions bash",
    "rm gone",
    "serve --help",
    "dipc -h",
];

/// Starts something to be received or removed, for the commands that need it.
fn feed(setting: &Setting, words: &str) -> Option<Running> {
    match words {
        "recv x" => Some(setting.sandbox.start("send x source")),
        "rm gone" => {
            let owner = setting.sandbox.start("send gone source --peers 9");
            setting.sandbox.until_owned("gone");
            Some(owner)
        }
        _ => None,
    }
}

/// H20: a full disk behind standard output is an error that names it. A closed pipe is a quiet end.
#[test]
fn results_that_cannot_be_written_are_reported_unless_the_reader_is_gone() {
    let setting = Setting::new();
    run(&mut setting.limited(":", "mail -p PORT write 0 text")).has_code(0);
    for words in TALKERS {
        for lossy in ["exec >/dev/full", "exec >&-"] {
            let fed = feed(&setting, words);
            let ended = run(&mut setting.limited(lossy, words));
            assert_eq!(ended.code(), Some(1), "{words}: {ended:?}");
            ended.one_line(&["standard output"]);
            drop(fed);
        }
        let fed = feed(&setting, words);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = start_with_stdout(&mut setting.limited(":", words), Stdio::from(writer)).end(LIMIT);
        assert_eq!((ended.code(), &*ended.stderr), (Some(0), ""), "{words}, a closed pipe: {ended:?}");
        drop(fed);
        // A killed sender's name must neither block the next command nor appear in its list.
        run(&mut setting.sandbox.words("rm --dead")).has_code(0);
    }
}

/// H20: if the error itself cannot be written, the exit code still shows it.
#[test]
fn errors_that_cannot_be_written_are_still_exit_codes() {
    let setting = Setting::new();
    let failing = [
        ("recv missing --timeout 100ms", 4),
        ("send x missing", 1),
        ("send x source --timeout 100ms", 4),
        ("mail -p 1 read 0", 3),
        ("mail -p PORT read 77", 1),
        ("serve one --dir servers", 1),
        ("servers --dir missing", 1),
        ("rm missing", 3),
        ("dipc 0 0 0 0", 2),
        ("dipcrm 1", 3),
        ("top --once --interval never", 2),
        ("ls --unknown", 2),
    ];
    for (words, code) in failing {
        let said = run(&mut setting.limited(":", words));
        said.refusal(code, &[]);
        for closed in ["exec 2>&-", "exec 2>/dev/full", "exec >&- 2>&-", "exec <&- >&- 2>&-"] {
            let ended = run(&mut setting.limited(closed, words));
            assert_eq!((ended.code(), &*ended.stderr), (Some(code), ""), "{closed}; {words}");
        }
    }
}

/// H1, H12: a runtime directory on a file system without a free inode, or without a free block.
#[test]
fn a_full_file_system_under_the_names_is_a_line() {
    if !can_mount() {
        return skip("a full file system under the names", "a private mount namespace cannot be made");
    }
    let sandbox = Sandbox::new();
    sandbox.file("source", b"text");
    let commands = [
        ("no inode", "send x source --timeout 100ms"),
        ("no inode", "recv x out --timeout 100ms"),
        ("no inode", "dipc 1 1 0 1"),
        ("no block", "dipc 1 1 0 1"),
        ("no inode", "serve one --dir run/whorl --for 100ms"),
        ("no block", "serve one --dir run/whorl --for 100ms"),
        ("no inode", "ls"),
        ("no inode", "rm --dead"),
        ("no inode", "top --once"),
    ];
    for (lack, words) in commands {
        let options = if lack == "no inode" { "nr_inodes=2,mode=0700" } else { "size=8k,mode=0700" };
        // The directory below exists already. If blocks are missing, a file has taken them all.
        let fill = if lack == "no inode" { ":" } else { "head -c 1M /dev/zero >run/filler 2>/dev/null; :" };
        let script = format!(
            "mount -t tmpfs -o {options} tmpfs run && mkdir -m 0700 run/whorl || exit 99; {fill}
             \"$SHELL_BIN\" {words}; code=$?; ls -A run/whorl | grep -v lock >&3; exit $code"
        );
        let mut command = sandbox.program("unshare");
        command.args(["-m", "sh", "-c", &format!("exec 3>left; {script}")]);
        let ended = run(&mut command);
        assert_eq!(wrong(&ended), None, "{lack}; {words}: {ended:?}");
        let reads = ["ls", "rm --dead", "top --once"].contains(&words);
        assert_eq!(ended.code(), Some(if reads { 0 } else { 1 }), "{lack}; {words}: {ended:?}");
        let left = fs::read_to_string(sandbox.at("left")).expect("what is left");
        assert!(left.is_empty(), "{lack}; {words} left {left}");
    }
}

/// A control group with a limit of memory; removed when dropped.
struct Group(PathBuf);

impl Group {
    fn with(bytes: u64) -> Option<Self> {
        let name = format!("whorl-test-{}", std::process::id());
        let roots = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        roots.into_iter().find_map(|(root, file)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // A file that the kernel did not make is an ordinary file.
            let limit = fs::File::options().write(true).open(group.0.join(file));
            limit.and_then(|mut limit| limit.write_all(bytes.to_string().as_bytes())).ok()?;
            Some(group)
        })
    }

    fn prefix(&self) -> String {
        format!("echo $$ >{}/cgroup.procs || exit 99", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The processes in it may be ending just now.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// H1: a request beyond a control group's limit fails with an error, before the kernel kills a process. A smaller one
/// works.
#[test]
fn a_control_groups_limit_is_a_sentence_and_not_a_kill() {
    let Some(group) = Group::with(64 << 20) else {
        return skip("a limit of a control group", "no group with a limit of memory can be made");
    };
    let setting = Setting::new();
    for (words, code) in [
        ("copy -n 1 --ring 512M source", 1),
        ("send x source --ring 512M --timeout 100ms", 1),
        ("dipc 64 1024 0 4", 2),
    ] {
        let ended = run(&mut setting.limited(&group.prefix(), words));
        if ended.code() == Some(99) {
            return skip("a limit of a control group", "no process can be put into it");
        }
        ended.refusal(code, &["need", "is free"]);
    }
    run(&mut setting.limited(&group.prefix(), "copy -n 2 source")).silent_success();
    let said = run(&mut setting.limited(&group.prefix(), "dipc 4 1024 0 4"));
    let port = port(&said).unwrap_or_else(|| panic!("it fits: {said:?}"));
    run(&mut setting.sandbox.words(&format!("dipcrm {port}"))).has_code(0);
}

/// H24: a process that waits, for any event, sleeps: it hardly uses the processor.
#[test]
fn a_waiting_process_uses_no_processor_time() {
    let setting = Setting::new();
    let sandbox = &setting.sandbox;
    let mut send = sandbox.start_fed("send x --peers 2");
    let waiting = [
        sandbox.start("recv missing"),
        sandbox.start("recv x out1"),
        sandbox.start("recv x out2"),
        sandbox.start(&format!("mail -p {} watch 0", setting.port)),
    ];
    sandbox.until_joined("x", 2);
    send.stdin().write_all(b"first").expect("it reads");
    let pids: Vec<_> = waiting.iter().map(Running::pid).chain([send.pid()]).collect();
    let mut used = Vec::new();
    // A process that spins uses 100 ticks of 10 ms in every second, or its share of a busy machine. A process that
    // sleeps uses some ticks only until it waits.
    until(LIMIT, "in some second none of them uses the processor", || {
        let before: Vec<_> = pids.iter().map(|pid| cpu_ticks(*pid)).collect();
        std::thread::sleep(std::time::Duration::from_secs(1));
        used = pids.iter().zip(before).map(|(pid, before)| cpu_ticks(*pid) - before).collect();
        used.iter().all(|ticks| *ticks <= 5)
    });
    send.close_stdin();
    send.end(LIMIT).silent_success();
}
