//! Files of every kind as source and as output: paths to open descriptors, what another user planted, limits of sizes, files
//! whose length means nothing, leases, directories that cannot be listed.

use crate::common::*;
use crate::home::Home;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::Signal;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user without any rights.
const NOBODY: u32 = 54321;

/// `shell` as that user, or why that cannot be tried.
fn as_nobody(home: &Home, words: &str) -> Result<Command, &'static str> {
    if !is_root() {
        return Err("only root can become another user");
    }
    fs::set_permissions(home.place.at(""), Permissions::from_mode(0o755)).unwrap();
    let set = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()];
    let with = |words: &str| {
        let mut command = home.place.program("setpriv");
        command.args(&set).arg(env!("CARGO_BIN_EXE_shell")).args(words.split_whitespace());
        command.env("XDG_RUNTIME_DIR", home.place.at("run"));
        command
    };
    match with("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(_) => Err("there is no setpriv"),
        Ok(status) if !status.success() => Err("another user cannot run the command here"),
        Ok(_) => Ok(with(words)),
    }
}

fn fifo(path: &Path) -> PathBuf {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.to_owned()
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink())
}

/// Receives what a sender sends to a path.
fn receive(home: &Home, path: &str, stdout: impl Into<Stdio>) -> Ended {
    home.place.file("source", b"hello\n");
    let recv = start_with_stdout(&mut home.shell(["recv", "x", path]), stdout.into());
    let send = home.start("send x source --peers 1");
    let ended = recv.end(LIMIT);
    if ended.code() == Some(0) {
        send.end(LIMIT).silent_success();
    }
    ended
}

#[test]
fn a_path_to_an_open_descriptor_is_written_from_where_it_stands() {
    let home = Home::new();
    let here = |name: &str| home.place.at(name);
    symlink("/proc/self/fd/1", here("stdout")).unwrap();
    symlink("stdout", here("again")).unwrap();
    symlink("/proc/thread-self/fd/1", here("thread")).unwrap();
    for path in ["stdout", "again", "thread", "/proc/self/fd/1", "/dev/fd/1"] {
        let mut out = File::create(here("out")).unwrap();
        out.write_all(b"before\n").unwrap();
        receive(&home, path, out.try_clone().unwrap()).silent_success();
        out.write_all(b"after\n").unwrap();
        assert_holds(&here("out"), b"before\nhello\nafter\n");
        // A socket cannot be opened by its path; it is open already.
        let (mut reader, writer) = UnixStream::pair().unwrap();
        receive(&home, path, OwnedFd::from(writer)).silent_success();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n", "{path}");
    }
    for link in ["stdout", "again", "thread"] {
        assert!(is_link(&here(link)), "{link} was replaced");
    }
    let ended = receive(&home, "/dev/fd/99", Stdio::null());
    ended.one_line(&["/dev/fd/99: ", "no such file"]).has_code(1);
}

#[test]
fn the_descriptor_of_another_process_is_written_too() {
    let home = Home::new();
    let out = File::create(home.place.at("out")).unwrap();
    out.write_all_at(b"longer than what comes", 0).unwrap();
    let other = start_with_stdout(home.place.program("sleep").arg("1000"), out.into());
    receive(&home, &format!("/proc/{}/fd/1", other.pid()), Stdio::null()).silent_success();
    assert_holds(&home.place.at("out"), b"hello\n");
}

#[test]
fn what_is_no_regular_file_is_not_replaced_by_a_new_one() {
    let home = Home::new();
    home.place.file("f", b"contents");
    for directory in ["out", "man"] {
        fs::create_dir(home.place.at(directory)).unwrap();
    }
    let link = |name: &str| symlink("/proc/self/fd/1", home.place.at(name)).unwrap();
    link("out/stdout");
    link("man/shell.1");
    fifo(&home.place.at("out/fifo"));
    let copy = |name: &str| run(&mut home.words(&format!("copy -n 1 -d out --name {name} f")));
    copy("stdout").refusal(1, &["out/stdout: ", "open descriptor"]);
    copy("fifo").refusal(1, &["out/fifo: ", "FIFO"]);
    let man = run(&mut home.words("man man"));
    man.refusal(1, &["man/shell.1: ", "open descriptor"]);
    assert!(is_link(&home.place.at("out/stdout")) && is_link(&home.place.at("man/shell.1")));
    home.nothing_left();
}

#[test]
fn a_path_to_an_open_descriptor_is_read_from_where_it_stands() {
    let home = Home::new();
    home.place.file("f", b"first\nsecond\n");
    symlink("/proc/self/fd/0", home.place.at("stdin")).unwrap();
    for path in ["stdin", "/dev/fd/0"] {
        let mut input = File::open(home.place.at("f")).unwrap();
        input.seek(std::io::SeekFrom::Start(6)).unwrap();
        let words = format!("copy -n 1 --name out {path}");
        run(home.words(&words).stdin(input)).silent_success();
        assert_holds(&home.place.at("received-files/out"), b"second\n");
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"through a socket").unwrap();
        drop(writer);
        run(home.words(&words).stdin(OwnedFd::from(reader))).silent_success();
        assert_holds(&home.place.at("received-files/out"), b"through a socket");
    }
}

#[test]
fn what_another_user_planted_is_not_written() {
    let home = Home::new();
    if let Err(why) = as_nobody(&home, "--version") {
        return skip("output that another user planted", why);
    }
    home.place.file("secret", b"hello\n");
    let here = |name: &str| home.place.at(name);
    let root = home.place.at("run/whorl");
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    for (directory, mode) in [("sticky", 0o1777), ("open", 0o777), ("group", 0o1775), ("closed", 0o755)] {
        fs::create_dir(here(directory)).unwrap();
        fs::set_permissions(here(directory), Permissions::from_mode(mode)).unwrap();
        let planted = fifo(&here(directory).join("planted"));
        give(&planted);
        fifo(&here(directory).join("own"));
        symlink("own", here(directory).join("link")).unwrap();
        symlink("own", here(directory).join("good-link")).unwrap();
        give(&here(directory).join("link"));
        let is_refused = directory != "closed";
        for (name, is_refused) in
            [("planted", is_refused), ("link", is_refused), ("own", false), ("good-link", false)]
        {
            let path = format!("{directory}/{name}");
            // Its reader is there already, so that nothing is waited for.
            let flags = OFlags::RDWR | OFlags::NONBLOCK;
            let mut reader = File::from(rustix::fs::open(here(&path), flags, Mode::empty()).unwrap());
            let ended = receive(&home, &path, Stdio::null());
            let mut bytes = [0; 100];
            let read = reader.read(&mut bytes).unwrap_or(0);
            if is_refused {
                let copy = format!("copy -n 1 -d {directory} --name {name} secret");
                run(&mut home.words(&copy)).refusal(1, &[&path, "another user"]);
                ended.refusal(1, &[&path, "another user"]);
                assert_eq!(read, 0, "{path} was written");
            } else {
                ended.silent_success();
                assert_eq!(&bytes[..read], b"hello\n", "{path}");
            }
        }
    }
    // What belongs to the directory's owner may be used by everybody: the kernel asks for the rights.
    let path = "sticky/of-the-owner";
    fifo(&here(path));
    fs::set_permissions(here(path), Permissions::from_mode(0o666)).unwrap();
    let _ = fs::remove_dir_all(root);
    std::os::unix::fs::chown(here("run"), Some(NOBODY), None).unwrap();
    let _reader =
        rustix::fs::open(here(path), OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).expect("a reader");
    let recv = start(&mut as_nobody(&home, &format!("recv x {path}")).unwrap());
    let send = start(&mut as_nobody(&home, "send x secret --peers 1").unwrap());
    recv.end(LIMIT).silent_success();
    send.end(LIMIT).silent_success();
}

#[test]
fn a_log_goes_to_nothing_that_another_user_planted() {
    let home = Home::new();
    if !is_root() {
        return skip("a log that another user planted", "only root can give files away");
    }
    fs::create_dir(home.place.at("open")).unwrap();
    fs::set_permissions(home.place.at("open"), Permissions::from_mode(0o1777)).unwrap();
    home.place.file("precious", b"precious");
    symlink("../precious", home.place.at("open/log")).unwrap();
    std::os::unix::fs::lchown(home.place.at("open/log"), Some(NOBODY), Some(NOBODY)).unwrap();
    let serve = run(&mut home.words("serve x --dir open --for 100ms --log-file open/log"));
    serve.one_line(&["open/log: ", "another user"]);
    assert_holds(&home.place.at("precious"), b"precious");
}

#[test]
fn beyond_the_limit_of_file_sizes_is_a_line_and_leaves_nothing() {
    let home = Home::new();
    home.place.file("f", &noise(300_000, 3));
    // In blocks of 512 bytes.
    let limited = |words: &str| {
        run(&mut home.script(&format!("ulimit -c 0; ulimit -f 100; exec \"$SHELL_BIN\" {words}")))
    };
    let copy = limited("copy --socket -n 2 f");
    copy.has_code(1);
    assert_eq!(copy.stderr.matches("cannot write: file too large\n").count(), 2, "{copy:?}");
    limited("copy --shm -n 2 f").refusal(1, &["shared memory", "file too large", "ulimit -f"]);
    for words in ["recv x g", "recv x > h"] {
        let send = home.start("send x f --peers 1");
        limited(words).refusal(1, &["file too large"]);
        send.end(LIMIT).has_code(4);
    }
    limited("dipc 1 1000 0 1 --foreground").refusal(1, &["file too large"]);
    limited("man pages").has_code(0);
    home.nothing_left();
    assert!(!home.place.at("g").exists());
}

#[test]
fn programs_that_are_executed_do_not_inherit_the_signals_of_the_limit() {
    let home = Home::new();
    let send = home.start_fed("send x");
    home.owned("x");
    let status = fs::read_to_string(format!("/proc/{}/status", send.pid())).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a mask");
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let limit = 1 << (libc::SIGXFSZ - 1);
    assert_eq!(mask("SigIgn:") & limit, 0, "an ignored signal survives execve");
    assert_ne!(mask("SigCgt:") & limit, 0);
}

#[test]
fn files_that_do_not_know_their_length_are_read_to_their_end() {
    let home = Home::new();
    // They say a page or nothing, hold less or more, and some cannot be read by position.
    let paths = [
        "/sys/devices/system/cpu/cpu0/topology/core_cpus",
        "/sys/devices/system/cpu/cpu0/topology/core_cpus_list",
        "/sys/kernel/notes",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/proc/version",
        "/proc/sys/kernel/osrelease",
    ];
    for path in paths {
        let Ok(expected) = fs::read(path) else {
            skip(path, "it is not there");
            continue;
        };
        for transport in TRANSPORTS {
            run(&mut home.shell(["copy", transport, "-n", "1", "--verify", "--name", "x", path]))
                .silent_success();
            let copied = fs::read(home.place.at("received-files/x")).unwrap();
            assert!(copied == expected, "{path}: {copied:?}");
            let send = start(&mut home.shell(["send", "x", path, transport, "--peers", "1"]));
            run(&mut home.words("recv x taken")).silent_success();
            send.end(LIMIT).silent_success();
            assert_holds(&home.place.at("taken"), &expected);
        }
    }
}

#[test]
fn where_holes_cannot_be_asked_for_a_sparse_file_arrives_all_the_same() {
    if no_strace("a file system that knows no holes") {
        return;
    }
    let home = Home::new();
    let source = File::create(home.place.at("source")).unwrap();
    source.write_all_at(b"tail", 300_000).unwrap();
    let bytes = fs::read(home.place.at("source")).unwrap();
    // A file system without holes, and one whose files have no position.
    for (transport, error) in
        TRANSPORTS.into_iter().flat_map(|transport| [(transport, "EINVAL"), (transport, "ESPIPE")])
    {
        let mut copy = home.place.program("strace");
        copy.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject=lseek:error={error}")]);
        copy.args([env!("CARGO_BIN_EXE_shell"), "copy", transport, "-n", "1", "--verify", "source"]);
        run(&mut copy).silent_success();
        assert_holds(&home.place.received(1, "source"), &bytes);
    }
}

/// A lease of this process on a file, against readers.
struct Lease(File);

impl Lease {
    fn set(file: File) -> Option<Self> {
        const F_SETSIG: i32 = 10;
        // SAFETY: the descriptor is open. The signal is one that does nothing where it is not caught.
        unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
        // SAFETY: the descriptor is open.
        let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        (set == 0).then_some(Self(file))
    }

    /// Whether another process waits for its end.
    fn is_breaking(&self) -> bool {
        let inode = format!(":{} ", self.0.metadata().unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| line.contains("BREAKING") && line.contains(&inode))
    }
}

#[test]
fn a_file_under_a_lease_is_waited_for() {
    for (transport, stops) in [("--shm", false), ("--socket", false), ("--shm", true)] {
        let home = Home::new();
        let path = home.place.file("f", b"contents");
        let file = File::options().read(true).write(true).open(path).unwrap();
        let Some(lease) = Lease::set(file) else {
            return skip("a file under a lease", "this file system grants none");
        };
        let mut copy = start(&mut home.shell(["copy", transport, "-n", "1", "f"]));
        until(LIMIT, "the lease is asked for", || lease.is_breaking() || !copy.is_running());
        assert!(copy.is_running(), "it did not wait: {}", copy.stderr());
        if stops {
            signal(copy.pid(), Signal::TERM);
            assert_eq!(copy.end(LIMIT).signal(), Some(libc::SIGTERM));
        } else {
            drop(lease);
            copy.end(LIMIT).silent_success();
            assert_holds(&home.place.received(1, "f"), b"contents");
        }
        home.nothing_left();
    }
}

#[test]
fn standard_input_that_cannot_be_read_is_not_an_empty_one() {
    let home = Home::new();
    for words in ["copy -n 1 -", "copy -n 1 /dev/fd/0", "send x --peers 0", "copy --socket -n 1 -"] {
        let ended = run(home.words(words).stdin(File::create(home.place.at("written")).unwrap()));
        ended.refusal(1, &["closed, or not open for reading"]);
        assert!(!home.place.at("received-files").exists(), "{words}");
        let ended = run(&mut home.script(&format!("shell {words} <&-")));
        ended.refusal(1, &["closed, or not open for reading"]);
        assert!(!home.place.at("received-files").exists(), "{words} <&-");
    }
    home.place.file("source", b"hello\n");
    for path in ["-", "/dev/fd/1"] {
        let recv = start(&mut home.script(&format!("shell recv x {path} >&-")));
        let send = home.start("send x source --peers 1");
        let ended = recv.end(LIMIT);
        ended.has_code(1).one_line(&["bad file descriptor"]);
        signal(send.pid(), Signal::TERM);
        send.end(LIMIT);
    }
}

#[test]
fn a_directory_that_cannot_be_listed_can_be_written() {
    let home = Home::new();
    let mut copy = match as_nobody(&home, "copy -n 2 -d secret f") {
        Ok(copy) => copy,
        Err(why) => return skip("a directory that can be written and not listed", why),
    };
    home.place.file("f", b"hello\n");
    for name in ["secret", "run"] {
        let _ = fs::create_dir(home.place.at(name));
        std::os::unix::fs::chown(home.place.at(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(home.place.at("secret"), Permissions::from_mode(0o300)).unwrap();
    run(&mut copy).silent_success();
    assert_holds(&home.place.at("secret/peer-02_f"), b"hello\n");
    let recv = start(&mut as_nobody(&home, "recv x secret/taken").unwrap());
    let send = start(&mut as_nobody(&home, "send x f --peers 1").unwrap());
    recv.end(LIMIT).silent_success();
    send.end(LIMIT).silent_success();
    assert_holds(&home.place.at("secret/taken"), b"hello\n");
    run(&mut as_nobody(&home, "serve x --dir secret --for 100ms").unwrap()).silent_success();
}

/// How many bytes all of a command's processes read from files by position.
fn bytes_read(calls: &str) -> u64 {
    let returned =
        |line: &str| line.rsplit_once("= ").and_then(|(_, count)| count.trim().parse::<u64>().ok());
    calls.lines().filter(|line| line.contains("pread64")).filter_map(returned).sum()
}

#[test]
fn verifying_reads_what_is_stored_and_no_holes() {
    if no_strace("counting what is read") {
        return;
    }
    const LENGTH: u64 = 32 << 20;
    let home = Home::new();
    let source = File::create(home.place.at("source")).unwrap();
    source.write_all_at(b"head", 0).unwrap();
    source.write_all_at(b"middle", LENGTH / 2).unwrap();
    source.set_len(LENGTH).unwrap();
    if source.metadata().unwrap().blocks() * 512 > LENGTH / 2 {
        return skip("verifying holes", "this file system stores them");
    }
    for transport in TRANSPORTS {
        let mut copy = home.place.program("strace");
        copy.args(["-f", "-qq", "-o", "calls", "-e", "trace=pread64"]);
        copy.args([
            env!("CARGO_BIN_EXE_shell"),
            "copy",
            transport,
            "-n",
            "1",
            "--verify",
            "--json",
            "source",
        ]);
        let sum = run(&mut copy).silent_success().json()["receivers"][0]["checksum"].clone();
        let read = bytes_read(&fs::read_to_string(home.place.at("calls")).unwrap());
        assert!(read > 0 && read < 1 << 20, "{transport}: {read} bytes were read");
        let stdin = File::open(home.place.at("source")).unwrap();
        let dense = run(home.words("copy -q -n 1 --verify --json -").stdin(stdin));
        assert_eq!(dense.silent_success().json()["receivers"][0]["checksum"], sum, "another checksum");
    }
}
