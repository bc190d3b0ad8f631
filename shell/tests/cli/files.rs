//! Files of every kind as source and as output: paths to open descriptors, files planted by another user, limits of
//! sizes, files whose length means nothing, leases, directories that cannot be listed.

use crate::kit::*;
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
fn as_nobody(sandbox: &Sandbox, words: &str) -> Result<Command, &'static str> {
    if !is_root() {
        return Err("only root can become another user");
    }
    fs::set_permissions(sandbox.at(""), Permissions::from_mode(0o755)).unwrap();
    let set = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()];
    let with = |words: &str| {
        let mut command = sandbox.program("setpriv");
        command.args(&set).arg(SHELL).args(words.split_whitespace());
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

/// Receives into a path what a sender sends.
fn receive(sandbox: &Sandbox, path: &str, stdout: impl Into<Stdio>) -> Ended {
    sandbox.file("source", b"hello\n");
    let recv = start_with_stdout(&mut sandbox.shell(["recv", "x", path]), stdout.into());
    let send = sandbox.start("send x source --peers 1");
    let ended = recv.end(LIMIT);
    if ended.code() == Some(0) {
        send.end(LIMIT).silent_success();
    }
    ended
}

#[test]
fn a_path_to_an_open_descriptor_is_written_from_where_it_stands() {
    let sandbox = Sandbox::new();
    let here = |name: &str| sandbox.at(name);
    symlink("/proc/self/fd/1", here("stdout")).unwrap();
    symlink("stdout", here("again")).unwrap();
    symlink("/proc/thread-self/fd/1", here("thread")).unwrap();
    for path in ["stdout", "again", "thread", "/proc/self/fd/1", "/dev/fd/1"] {
        let mut out = File::create(here("out")).unwrap();
        out.write_all(b"before\n").unwrap();
        receive(&sandbox, path, out.try_clone().unwrap()).silent_success();
        out.write_all(b"after\n").unwrap();
        assert_holds(&here("out"), b"before\nhello\nafter\n");
        // A socket cannot be opened by its path, but it is open already.
        let (mut reader, writer) = UnixStream::pair().unwrap();
        receive(&sandbox, path, OwnedFd::from(writer)).silent_success();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n", "{path}");
    }
    for link in ["stdout", "again", "thread"] {
        assert!(is_link(&here(link)), "{link} was replaced");
    }
    let ended = receive(&sandbox, "/dev/fd/99", Stdio::null());
    ended.one_line(&["/dev/fd/99: ", "no such file"]).has_code(1);
}

#[test]
fn the_descriptor_of_another_process_is_written_too() {
    let sandbox = Sandbox::new();
    let out = File::create(sandbox.at("out")).unwrap();
    out.write_all_at(b"longer than what comes", 0).unwrap();
    let other = start_with_stdout(sandbox.program("sleep").arg("1000"), out.into());
    receive(&sandbox, &format!("/proc/{}/fd/1", other.pid()), Stdio::null()).silent_success();
    assert_holds(&sandbox.at("out"), b"hello\n");
}

#[test]
fn what_is_no_regular_file_is_not_replaced_by_a_new_one() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"contents");
    for directory in ["out", "man"] {
        fs::create_dir(sandbox.at(directory)).unwrap();
    }
    let link = |name: &str| symlink("/proc/self/fd/1", sandbox.at(name)).unwrap();
    link("out/stdout");
    link("man/shell.1");
    fifo(&sandbox.at("out/fifo"));
    let copy = |name: &str| run(&mut sandbox.words(&format!("copy -n 1 -d out --name {name} f")));
    copy("stdout").refusal(1, &["out/stdout: ", "open descriptor"]);
    copy("fifo").refusal(1, &["out/fifo: ", "FIFO"]);
    let man = run(&mut sandbox.words("man man"));
    man.refusal(1, &["man/shell.1: ", "open descriptor"]);
    assert!(is_link(&sandbox.at("out/stdout")) && is_link(&sandbox.at("man/shell.1")));
    sandbox.nothing_left();
}

#[test]
fn a_path_to_an_open_descriptor_is_read_from_where_it_stands() {
    let sandbox = Sandbox::new();
    sandbox.file("f", b"first\nsecond\n");
    symlink("/proc/self/fd/0", sandbox.at("stdin")).unwrap();
    for path in ["stdin", "/dev/fd/0"] {
        let mut input = File::open(sandbox.at("f")).unwrap();
        input.seek(std::io::SeekFrom::Start(6)).unwrap();
        let words = format!("copy -n 1 --name out {path}");
        run(sandbox.words(&words).stdin(input)).silent_success();
        assert_holds(&sandbox.at("received-files/out"), b"second\n");
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"through a socket").unwrap();
        drop(writer);
        run(sandbox.words(&words).stdin(OwnedFd::from(reader))).silent_success();
        assert_holds(&sandbox.at("received-files/out"), b"through a socket");
    }
}

#[test]
fn what_another_user_planted_is_not_written() {
    let sandbox = Sandbox::new();
    if let Err(why) = as_nobody(&sandbox, "--version") {
        return skip("output that another user planted", why);
    }
    sandbox.file("secret", b"hello\n");
    let here = |name: &str| sandbox.at(name);
    let root = sandbox.at("run/whorl");
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
            // Its reader exists already, so that no writer waits.
            let flags = OFlags::RDWR | OFlags::NONBLOCK;
            let mut reader = File::from(rustix::fs::open(here(&path), flags, Mode::empty()).unwrap());
            let ended = receive(&sandbox, &path, Stdio::null());
            let mut bytes = [0; 100];
            let read = reader.read(&mut bytes).unwrap_or(0);
            if is_refused {
                let copy = format!("copy -n 1 -d {directory} --name {name} secret");
                run(&mut sandbox.words(&copy)).refusal(1, &[&path, "another user"]);
                ended.refusal(1, &[&path, "another user"]);
                assert_eq!(read, 0, "{path} was written");
            } else {
                ended.silent_success();
                assert_eq!(&bytes[..read], b"hello\n", "{path}");
            }
        }
    }
    // A file of the directory's owner may be used by all: the kernel checks the rights.
    let path = "sticky/of-the-owner";
    fifo(&here(path));
    fs::set_permissions(here(path), Permissions::from_mode(0o666)).unwrap();
    let _ = fs::remove_dir_all(root);
    std::os::unix::fs::chown(here("run"), Some(NOBODY), None).unwrap();
    let _reader =
        rustix::fs::open(here(path), OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).expect("a reader");
    let recv = start(&mut as_nobody(&sandbox, &format!("recv x {path}")).unwrap());
    let send = start(&mut as_nobody(&sandbox, "send x secret --peers 1").unwrap());
    recv.end(LIMIT).silent_success();
    send.end(LIMIT).silent_success();
}

#[test]
fn a_log_goes_to_nothing_that_another_user_planted() {
    let sandbox = Sandbox::new();
    if !is_root() {
        return skip("a log that another user planted", "only root can give files away");
    }
    fs::create_dir(sandbox.at("open")).unwrap();
    fs::set_permissions(sandbox.at("open"), Permissions::from_mode(0o1777)).unwrap();
    sandbox.file("precious", b"precious");
    symlink("../precious", sandbox.at("open/log")).unwrap();
    std::os::unix::fs::lchown(sandbox.at("open/log"), Some(NOBODY), Some(NOBODY)).unwrap();
    let serve = run(&mut sandbox.words("serve x --dir open --for 100ms --log-file open/log"));
    serve.one_line(&["open/log: ", "another user"]);
    assert_holds(&sandbox.at("precious"), b"precious");
}

#[test]
fn beyond_the_limit_of_file_sizes_is_a_line_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.file("f", &noise(300_000, 3));
    // In blocks of 512 bytes.
    let limited = |words: &str| {
        run(&mut sandbox.script(&format!("ulimit -c 0; ulimit -f 100; exec \"$SHELL_BIN\" {words}")))
    };
    let copy = limited("copy --socket -n 2 f");
    copy.has_code(1);
    assert_eq!(copy.stderr.matches("cannot write: file too large\n").count(), 2, "{copy:?}");
    limited("copy --shm -n 2 f").refusal(1, &["shared memory", "file too large", "ulimit -f"]);
    for words in ["recv x g", "recv x > h"] {
        let send = sandbox.start("send x f --peers 1");
        limited(words).refusal(1, &["file too large"]);
        send.end(LIMIT).has_code(4);
    }
    limited("dipc 1 1000 0 1 --foreground").refusal(1, &["file too large"]);
    limited("man pages").has_code(0);
    sandbox.nothing_left();
    assert!(!sandbox.at("g").exists());
}

#[test]
fn programs_that_are_executed_do_not_inherit_the_signals_of_the_limit() {
    let sandbox = Sandbox::new();
    let send = sandbox.start_fed("send x");
    sandbox.until_owned("x");
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
    let sandbox = Sandbox::new();
    // These files report a page or nothing as their length, hold less or more, and some cannot be read by position.
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
            run(&mut sandbox.shell(["copy", transport, "-n", "1", "--verify", "--name", "x", path]))
                .silent_success();
            let copied = fs::read(sandbox.at("received-files/x")).unwrap();
            assert!(copied == expected, "{path}: {copied:?}");
            let send = start(&mut sandbox.shell(["send", "x", path, transport, "--peers", "1"]));
            run(&mut sandbox.words("recv x taken")).silent_success();
            send.end(LIMIT).silent_success();
            assert_holds(&sandbox.at("taken"), &expected);
        }
    }
}

#[test]
fn where_holes_cannot_be_asked_for_a_sparse_file_arrives_all_the_same() {
    if lacks_strace("a file system that knows no holes") {
        return;
    }
    let sandbox = Sandbox::new();
    let source = File::create(sandbox.at("source")).unwrap();
    source.write_all_at(b"tail", 300_000).unwrap();
    let bytes = fs::read(sandbox.at("source")).unwrap();
    // A file system without holes, and one whose files have no position.
    for (transport, error) in
        TRANSPORTS.into_iter().flat_map(|transport| [(transport, "EINVAL"), (transport, "ESPIPE")])
    {
        let mut copy = sandbox.program("strace");
        copy.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("inject=lseek:error={error}")]);
        copy.args([SHELL, "copy", transport, "-n", "1", "--verify", "source"]);
        run(&mut copy).silent_success();
        assert_holds(&sandbox.received(1, "source"), &bytes);
    }
}

/// A lease of this process on a file, which other processes break by reading.
struct Lease(File);

impl Lease {
    fn set(file: File) -> Option<Self> {
        const F_SETSIG: i32 = 10;
        // SAFETY: the descriptor is open. The signal does nothing if it is not caught.
        unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
        // SAFETY: the descriptor is open.
        let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        (set == 0).then_some(Self(file))
    }

    /// Whether another process waits for the end of the lease.
    fn is_breaking(&self) -> bool {
        let inode = format!(":{} ", self.0.metadata().unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| line.contains("BREAKING") && line.contains(&inode))
    }
}

#[test]
fn a_file_under_a_lease_is_waited_for() {
    for (transport, stops) in [("--shm", false), ("--socket", false), ("--shm", true)] {
        let sandbox = Sandbox::new();
        let path = sandbox.file("f", b"contents");
        let file = File::options().read(true).write(true).open(path).unwrap();
        let Some(lease) = Lease::set(file) else {
            return skip("a file under a lease", "this file system grants none");
        };
        let mut copy = start(&mut sandbox.shell(["copy", transport, "-n", "1", "f"]));
        until(LIMIT, "the lease is asked for", || lease.is_breaking() || !copy.is_running());
        assert!(copy.is_running(), "it did not wait: {}", copy.stderr());
        if stops {
            signal(copy.pid(), Signal::TERM);
            assert_eq!(copy.end(LIMIT).signal(), Some(libc::SIGTERM));
        } else {
            drop(lease);
            copy.end(LIMIT).silent_success();
            assert_holds(&sandbox.received(1, "f"), b"contents");
        }
        sandbox.nothing_left();
    }
}

#[test]
fn standard_input_that_cannot_be_read_is_not_an_empty_one() {
    let sandbox = Sandbox::new();
    for words in ["copy -n 1 -", "copy -n 1 /dev/fd/0", "send x --peers 0", "copy --socket -n 1 -"] {
        let ended = run(sandbox.words(words).stdin(File::create(sandbox.at("written")).unwrap()));
        ended.refusal(1, &["closed, or not open for reading"]);
        assert!(!sandbox.at("received-files").exists(), "{words}");
        let ended = run(&mut sandbox.script(&format!("shell {words} <&-")));
        ended.refusal(1, &["closed, or not open for reading"]);
        assert!(!sandbox.at("received-files").exists(), "{words} <&-");
    }
    sandbox.file("source", b"hello\n");
    for path in ["-", "/dev/fd/1"] {
        let recv = start(&mut sandbox.script(&format!("shell recv x {path} >&-")));
        let send = sandbox.start("send x source --peers 1");
        let ended = recv.end(LIMIT);
        ended.has_code(1).one_line(&["bad file descriptor"]);
        signal(send.pid(), Signal::TERM);
        send.end(LIMIT);
    }
}

#[test]
fn a_directory_that_cannot_be_listed_can_be_written() {
    let sandbox = Sandbox::new();
    let mut copy = match as_nobody(&sandbox, "copy -n 2 -d secret f") {
        Ok(copy) => copy,
        Err(why) => return skip("a directory that can be written and not listed", why),
    };
    sandbox.file("f", b"hello\n");
    for name in ["secret", "run"] {
        let _ = fs::create_dir(sandbox.at(name));
        std::os::unix::fs::chown(sandbox.at(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(sandbox.at("secret"), Permissions::from_mode(0o300)).unwrap();
    run(&mut copy).silent_success();
    assert_holds(&sandbox.at("secret/peer-02_f"), b"hello\n");
    let recv = start(&mut as_nobody(&sandbox, "recv x secret/taken").unwrap());
    let send = start(&mut as_nobody(&sandbox, "send x f --peers 1").unwrap());
    recv.end(LIMIT).silent_success();
    send.end(LIMIT).silent_success();
    assert_holds(&sandbox.at("secret/taken"), b"hello\n");
    run(&mut as_nobody(&sandbox, "serve x --dir secret --for 100ms").unwrap()).silent_success();
}

/// How many bytes all of a command's processes read from files by position.
fn bytes_read(calls: &str) -> u64 {
    let returned =
        |line: &str| line.rsplit_once("= ").and_then(|(_, count)| count.trim().parse::<u64>().ok());
    calls.lines().filter(|line| line.contains("pread64")).filter_map(returned).sum()
}

#[test]
fn verifying_reads_what_is_stored_and_no_holes() {
    if lacks_strace("counting what is read") {
        return;
    }
    const LENGTH: u64 = 32 << 20;
    let sandbox = Sandbox::new();
    let source = File::create(sandbox.at("source")).unwrap();
    source.write_all_at(b"head", 0).unwrap();
    source.write_all_at(b"middle", LENGTH / 2).unwrap();
    source.set_len(LENGTH).unwrap();
    if source.metadata().unwrap().blocks() * 512 > LENGTH / 2 {
        return skip("verifying holes", "this file system stores them");
    }
    for transport in TRANSPORTS {
        let mut copy = sandbox.program("strace");
        copy.args(["-f", "-qq", "-o", "calls", "-e", "trace=pread64"]);
        copy.args([SHELL, "copy", transport, "-n", "1", "--verify", "--json", "source"]);
        let sum = run(&mut copy).silent_success().json()["receivers"][0]["checksum"].clone();
        let read = bytes_read(&fs::read_to_string(sandbox.at("calls")).unwrap());
        assert!(read > 0 && read < 1 << 20, "{transport}: {read} bytes were read");
        let stdin = File::open(sandbox.at("source")).unwrap();
        let dense = run(sandbox.words("copy -q -n 1 --verify --json -").stdin(stdin));
        assert_eq!(dense.silent_success().json()["receivers"][0]["checksum"], sum, "another checksum");
    }
}
