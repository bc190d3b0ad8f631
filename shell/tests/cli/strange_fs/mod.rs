//! The command on file systems that lack what a local disk has.

mod strange;

use crate::kit::mailbox_server::port_of;
use crate::kit::{LIMIT, SOON, Sandbox, TRANSPORTS, assert_holds, noise, run, signal, skip, start, until};
use rustix::io::Errno;
use rustix::process::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use strange::{Operation, StrangeFs};
use whorl::internal::discovery::Information;

/// A sandbox with a file system mounted on its `mnt`.
fn sandbox(what: &str) -> Option<(Sandbox, StrangeFs)> {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.at("mnt")).expect("a directory");
    let files = StrangeFs::mount(sandbox.at("mnt"), what)?;
    Some((sandbox, files))
}

/// A sandbox whose runtime directory is in such a file system.
fn strange_home(what: &str) -> Option<(Sandbox, StrangeFs)> {
    let sandbox = Sandbox::new();
    let files = StrangeFs::mount(sandbox.at("run"), what)?;
    Some((sandbox, files))
}

/// The errors by which close(2) reports a full disk.
const FULL: [(Errno, &str); 3] = [
    (Errno::NOSPC, "no space left on device"),
    (Errno::DQUOT, "quota exceeded"),
    (Errno::IO, "input/output error"),
];

#[test]
fn the_file_system_of_these_tests_keeps_files_and_refuses_what_it_lacks() {
    let Some((sandbox, files)) = sandbox("the file system of these tests") else { return };
    let bytes = noise(300_000, 1);
    std::fs::write(files.at("a"), &bytes).unwrap();
    std::fs::hard_link(files.at("a"), files.at("b")).unwrap();
    std::fs::rename(files.at("b"), files.at("c")).unwrap();
    assert_holds(&files.at("c"), &bytes);
    files.refuse(Operation::Link, Errno::PERM).refuse(Operation::Flush, Errno::DQUOT);
    let refused = std::fs::hard_link(files.at("a"), files.at("d")).unwrap_err();
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::PERM));
    assert!(run(sandbox.program("cp").args(["mnt/a", "mnt/d"])).stderr.contains("quota"));
    assert!(files.asked(Operation::Flush) > 0);
    let names: Vec<_> =
        std::fs::read_dir(files.at(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a", "c", "d"]);
}

#[test]
fn copy_reports_a_disk_that_is_full_at_close_and_names_no_file() {
    let Some((sandbox, files)) = sandbox("copy to a disk that is full at close") else { return };
    sandbox.file("f", &noise(300_000, 2));
    for (error, words) in FULL {
        files.refuse(Operation::Flush, error);
        for transport in TRANSPORTS {
            for more in [&[][..], &["--verify"], &["--fsync"], &["--no-clobber"], &["--preserve"]] {
                let arguments = ["copy", transport, "-n", "2", "-d", "mnt", "f"];
                let ended = run(&mut sandbox.shell(arguments.iter().chain(more)));
                ended.has_code(1);
                assert_eq!(ended.stderr.matches(words).count(), 2, "a line for each peer: {ended:?}");
                assert_eq!(sandbox.names("mnt"), Vec::<String>::new(), "{ended:?}");
            }
        }
    }
    files.allow(Operation::Flush);
    run(&mut sandbox.words("copy --verify -n 2 -d mnt f")).silent_success();
    sandbox.nothing_left();
}

#[test]
fn holes_at_the_end_are_kept_where_files_cannot_be_lengthened() {
    let Some((sandbox, files)) = sandbox("holes where files cannot be lengthened") else { return };
    let bytes = noise(100_000, 8);
    let source = sandbox.file("f", &bytes);
    std::fs::File::options().write(true).open(source).unwrap().set_len(1_000_000).unwrap();
    files.refuse(Operation::SetLength, Errno::NOSYS);
    for transport in TRANSPORTS {
        run(&mut sandbox.words(&format!("copy {transport} --verify -n 2 -d mnt f"))).silent_success();
        assert_holds(&files.at("peer-02_f"), &[&bytes[..], &[0; 900_000]].concat());
    }
    sandbox.nothing_left();
}

#[test]
fn recv_reports_a_disk_that_is_full_at_close_and_does_not_confirm() {
    let Some((sandbox, files)) = sandbox("recv to a disk that is full at close") else { return };
    sandbox.file("f", &noise(300_000, 3));
    files.refuse(Operation::Flush, Errno::DQUOT);
    for script in ["shell recv x mnt/g", "shell recv --verify x mnt/g", "shell recv x > mnt/out"] {
        let send = start(&mut sandbox.words("send --verify --peers 1 x f"));
        run(&mut sandbox.script(script)).refusal(1, &["recv: x: ", "quota exceeded"]);
        send.end(LIMIT).has_code(4);
        assert!(!files.at("g").exists(), "{script}");
    }
    sandbox.nothing_left();
}

#[test]
fn man_names_no_page_that_a_full_disk_did_not_take() {
    let Some((sandbox, files)) = sandbox("man pages on a disk that is full at close") else { return };
    files.refuse(Operation::Flush, Errno::NOSPC);
    let ended = run(&mut sandbox.words("man mnt/pages"));
    ended.refusal(1, &["man: mnt/pages/shell-", ".1: ", "no space left on device"]);
    assert_eq!(sandbox.names("mnt/pages"), Vec::<String>::new());
    files.allow(Operation::Flush);
    run(&mut sandbox.words("man mnt/pages")).silent_success();
    run(&mut sandbox.words("man mnt/pages")).silent_success();
    assert!(sandbox.names("mnt/pages").len() > 10);
    sandbox.nothing_left();
}

#[test]
fn servers_do_not_announce_themselves_by_a_file_that_a_full_disk_did_not_take() {
    let Some((sandbox, files)) = strange_home("announcing on a disk that is full at close") else { return };
    files.refuse(Operation::Flush, Errno::NOSPC);
    run(&mut sandbox.words("dipc 1 1 0 1")).refusal(1, &["cannot write", "dipc-", "no space left on device"]);
    let ended = run(&mut sandbox.words("serve x --dir run --socket-message hi --for 1s"));
    ended.refusal(1, &["no space left on device"]);
    assert_eq!(sandbox.names("run").into_iter().filter(|name| name != "whorl").count(), 0);
    sandbox.nothing_left();
}

#[test]
fn no_clobber_keeps_files_where_rename_cannot() {
    let Some((sandbox, files)) = sandbox("--no-clobber without RENAME_NOREPLACE") else { return };
    let bytes = noise(300_000, 4);
    sandbox.file("f", &bytes);
    files.refuse(Operation::RenameWithFlags, Errno::INVAL);
    run(&mut sandbox.words("copy --no-clobber -n 2 -d mnt f")).silent_success();
    assert_holds(&files.at("peer-01_f"), &bytes);
    run(&mut sandbox.words("copy --no-clobber -n 1 -d mnt --name peer-02_f f")).refusal(1, &["file exists"]);
    assert_eq!(sandbox.names("mnt"), ["peer-01_f", "peer-02_f"]);
    for (target, code) in [("mnt/g", 0), ("mnt/peer-01_f", 1)] {
        let send = start(&mut sandbox.words("send --peers 1 x f"));
        run(&mut sandbox.words(&format!("recv --no-clobber x {target}"))).has_code(code);
        if code == 1 {
            signal(send.pid(), Signal::TERM);
            send.end(LIMIT);
        } else {
            send.end(LIMIT).has_code(0);
        }
    }
    assert_holds(&files.at("g"), &bytes);
    sandbox.nothing_left();
}

#[test]
fn preserve_keeps_the_data_and_warns_of_what_is_refused() {
    let Some((sandbox, files)) = sandbox("--preserve where times are refused") else { return };
    let (source, bytes) = (sandbox.at("f"), noise(300_000, 6));
    sandbox.file("f", &bytes);
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o444)).unwrap();
    files.refuse(Operation::SetTimes, Errno::PERM);
    let times = "peers 1, 2: the file is complete, but cannot keep its times: operation not permitted";
    for transport in TRANSPORTS {
        let ended = run(&mut sandbox.words(&format!("copy {transport} --preserve --verify -n 2 -d mnt f")));
        ended.refusal(1, &[times]);
        [1, 2].iter().for_each(|peer| assert_holds(&files.at(format!("peer-0{peer}_f")), &bytes));
    }
    let ended = run(&mut sandbox.words("copy --preserve --json -n 1 -d mnt f"));
    ended.has_code(1).one_line(&["copy: peer 1: ", "times"]);
    assert_eq!(ended.json()["receivers"][0]["error"], serde_json::Value::Null);
    assert!(ended.json()["receivers"][0]["warnings"][0].as_str().unwrap().contains("its times"));

    files.allow(Operation::SetTimes);
    run(&mut sandbox.words("copy --preserve -n 2 -d mnt f")).silent_success();
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(&source, "user.colour", b"green", flags) {
        return skip("--preserve where attributes are refused", &error.to_string());
    }
    run(&mut sandbox.words("copy --preserve -n 2 -d mnt f")).silent_success();
    let mut value = [0; 9];
    assert_eq!(rustix::fs::getxattr(files.at("peer-01_f"), "user.colour", &mut value), Ok(5));
    // A few of many are printed one by one.
    for number in 0..6 {
        rustix::fs::setxattr(&source, format!("user.number-{number}"), b"x", flags).unwrap();
    }
    files.refuse(Operation::SetAttribute, Errno::OPNOTSUPP);
    let ended = run(&mut sandbox.words("copy --preserve -n 2 -d mnt f"));
    ended.has_code(1);
    assert_eq!(ended.stderr.lines().count(), 4, "{ended:?}");
    assert!(
        ended.stderr.ends_with("peers 1, 2: the file is complete, but cannot keep 4 more\n"),
        "{ended:?}"
    );
    for number in 0..6 {
        rustix::fs::removexattr(&source, format!("user.number-{number}")).unwrap();
    }
    let ended = run(&mut sandbox.words("copy --preserve -n 2 -d mnt f"));
    ended.refusal(1, &["peers 1, 2: ", "cannot keep its attribute user.colour: operation not supported"]);
    assert_holds(&files.at("peer-02_f"), &bytes);
    assert_eq!(std::fs::metadata(files.at("peer-02_f")).unwrap().mode() & 0o7777, 0o444);
    sandbox.nothing_left();
}

#[test]
fn fsync_warns_where_directories_cannot_be_synced_and_fails_where_the_disk_does() {
    let Some((sandbox, files)) = sandbox("--fsync where directories cannot be synced") else { return };
    let bytes = noise(300_000, 7);
    sandbox.file("f", &bytes);
    for (error, code, words) in [
        (Errno::INVAL, 0, "the file is on the disk, but its directory cannot be written to disk: invalid"),
        (Errno::IO, 1, "cannot write the directory to disk: input/output error"),
    ] {
        files.refuse(Operation::SyncDirectory, error);
        let ended = run(&mut sandbox.words("copy --fsync -n 1 -d mnt f"));
        ended.refusal(code, &["copy: peer 1", words]);
        assert_holds(&files.at("peer-01_f"), &bytes);
        let send = start(&mut sandbox.words("send --peers 1 x f"));
        run(&mut sandbox.words("recv --fsync x mnt/g")).refusal(code, &["recv: x: ", words]);
        send.end(LIMIT);
        assert_holds(&files.at("g"), &bytes);
    }
    assert!(files.asked(Operation::Sync) >= 4);
    sandbox.nothing_left();
}

#[test]
fn of_copies_that_want_one_name_at_once_only_one_gets_it() {
    let Some((sandbox, files)) = sandbox("copies that want one name at once") else { return };
    files.refuse(Operation::RenameWithFlags, Errno::INVAL).split_links();
    let sources = [10, 11, 12, 13].map(|seed| (format!("f{seed}"), noise(100_000, seed)));
    sources.iter().for_each(|(name, bytes)| _ = sandbox.file(name, bytes));
    for round in 0..5 {
        let words = |name| format!("copy --no-clobber -n 1 -d mnt --name g{round} {name}");
        let copies = sources.each_ref().map(|(name, _)| start(&mut sandbox.words(&words(name))));
        let ended = copies.map(|copy| copy.end(LIMIT));
        let won: Vec<_> = (0..ended.len()).filter(|&copy| ended[copy].code() == Some(0)).collect();
        assert_eq!(won.len(), 1, "{ended:?}");
        assert_holds(&files.at(format!("g{round}")), &sources[won[0]].1);
        for lost in ended.iter().filter(|copy| copy.code() != Some(0)) {
            lost.refusal(1, &["file exists"]);
        }
    }
    sandbox.nothing_left();
}

/// Removes every way of a file system to give a file a name without replacing another one.
fn without_ways_to_keep(files: &StrangeFs) {
    files.refuse(Operation::RenameWithFlags, Errno::INVAL).refuse(Operation::Link, Errno::PERM);
}

#[test]
fn no_clobber_is_refused_before_anything_is_sent_where_nothing_can_keep_files() {
    let Some((sandbox, files)) = sandbox("--no-clobber where nothing can keep files") else { return };
    sandbox.file("f", &noise(1000, 5));
    without_ways_to_keep(&files);
    let words = ["file system", "--no-clobber", "another directory"];
    run(&mut sandbox.words("copy --no-clobber -n 2 -d mnt f")).refusal(1, &words);
    run(&mut sandbox.words("recv --no-clobber x mnt/g")).refusal(1, &words);
    assert_eq!(sandbox.names("mnt"), Vec::<String>::new());
    run(&mut sandbox.words("copy -n 2 -d mnt f")).silent_success();
    run(&mut sandbox.words("copy -n 2 -d mnt f")).silent_success();
    sandbox.nothing_left();
}

/// Runs every kind of server and channel in a runtime directory, and announces one in a directory.
#[track_caller]
fn everything_works(sandbox: &Sandbox, directory: &str) {
    let ended = run(&mut sandbox
        .script("echo hi | shell send x --peers 1 --timeout 20s & shell recv x --timeout 20s && wait"));
    ended.has_code(0);
    assert_eq!(ended.stdout, "hi\n");

    let started = run(&mut sandbox.words("dipc 1 1 0 1"));
    started.has_code(0);
    let port = port_of(&started.stdout).to_string();
    run(&mut sandbox.words(&format!("dipc 1 1 {port} 1"))).has_code(1);
    let removed = run(&mut sandbox.words(&format!("dipcrm {port}")));
    removed.has_code(0);
    assert!(!removed.stdout.contains("dead"), "the server lived: {removed:?}");

    let announce = format!("serve one --dir {directory} --socket-message hi --shm-message ho");
    let server = sandbox.start(&announce);
    let file = sandbox.at(directory).join("one.server");
    until(SOON, "it is announced", || Information::read(&file).is_ok());
    run(&mut sandbox.words(&announce)).refusal(1, &["in use"]);
    let asked = run(&mut sandbox.words(&format!("servers --dir {directory}")));
    asked.silent_success();
    assert!(asked.stdout.contains("hi") && asked.stdout.contains("ho"), "{asked:?}");
    // A killed server's files are replaced.
    signal(server.pid(), Signal::KILL);
    drop(server);
    assert!(file.exists());
    let server = sandbox.start(&announce);
    until(SOON, "it is announced again", || Information::read(&file).is_ok());
    signal(server.pid(), Signal::TERM);
    server.end(LIMIT);
    assert_eq!(sandbox.names(directory), Vec::<String>::new());
    sandbox.nothing_left();
}

#[test]
fn servers_and_channels_work_where_there_are_no_unnamed_files() {
    let Some((sandbox, files)) = strange_home("a runtime directory without unnamed files") else { return };
    std::fs::create_dir(files.at("servers")).unwrap();
    everything_works(&sandbox, "run/servers");
}

#[test]
fn servers_and_channels_work_where_there_are_no_hard_links() {
    let Some((sandbox, files)) = strange_home("a runtime directory without hard links") else { return };
    std::fs::create_dir(files.at("servers")).unwrap();
    files.refuse(Operation::Link, Errno::PERM);
    everything_works(&sandbox, "run/servers");
}

#[test]
fn servers_and_channels_work_where_rename_knows_no_flags() {
    let Some((sandbox, files)) = strange_home("a runtime directory where rename knows no flags") else {
        return;
    };
    std::fs::create_dir(files.at("servers")).unwrap();
    files.refuse(Operation::RenameWithFlags, Errno::INVAL).split_links();
    everything_works(&sandbox, "run/servers");
}

#[test]
fn servers_and_channels_work_where_nothing_can_keep_files() {
    let Some((sandbox, files)) = strange_home("a runtime directory where nothing can keep files") else {
        return;
    };
    std::fs::create_dir(files.at("servers")).unwrap();
    without_ways_to_keep(&files);
    everything_works(&sandbox, "run/servers");
}

#[test]
fn servers_and_channels_work_where_permissions_cannot_be_set() {
    let Some((sandbox, files)) = strange_home("a runtime directory where permissions cannot be set") else {
        return;
    };
    std::fs::create_dir(files.at("servers")).unwrap();
    files.refuse(Operation::SetMode, Errno::PERM);
    everything_works(&sandbox, "run/servers");
}

#[test]
fn doctor_says_what_file_systems_lack() {
    let Some((sandbox, files)) = strange_home("doctor on a file system that lacks something") else { return };
    let line = |name: &str| {
        let mut doctor = sandbox.words("doctor");
        let ended = run(doctor.current_dir(files.at(".")));
        let lines = ended.stdout.lines();
        lines.map(str::to_owned).find(|line| line.contains(name)).unwrap_or_else(|| panic!("{ended:?}"))
    };
    assert!(line("unnamed files").starts_with("ok\tunnamed files\tnot in the runtime directory"));
    assert!(line("this directory").starts_with("warn\tthis directory\tno unnamed files; "));
    without_ways_to_keep(&files);
    let lacks = line("this directory");
    assert!(lacks.starts_with("warn\t") && lacks.contains("--no-clobber"), "{lacks}");
    assert!(line("unnamed files").starts_with("ok\t"));
    assert!(line("sockets, locks").starts_with("ok\t"));
    files.refuse(Operation::MakeSocket, Errno::PERM);
    let sockets = line("sockets, locks");
    assert!(sockets.starts_with("fail\t") && sockets.contains("XDG_RUNTIME_DIR"), "{sockets}");
    run(&mut sandbox.words("send x --peers 0 /dev/null")).refusal(1, &["socket", "operation not permitted"]);
    assert_eq!(sandbox.names("run"), ["whorl"]);
    sandbox.nothing_left();
}

#[test]
fn without_locks_every_command_says_so_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let what = "a runtime directory without locks";
    let Some(files) = StrangeFs::mount_without_locks(sandbox.at("run"), what, Errno::NOLCK) else {
        return;
    };
    std::fs::create_dir(files.at("servers")).unwrap();
    for words in ["recv x", "dipc 1 1 0 1", "serve one --dir run/servers --socket-message hi"] {
        run(&mut sandbox.words(words)).refusal(1, &["no locks available"]);
        assert_eq!(sandbox.names("run/servers"), Vec::<String>::new(), "{words}");
        sandbox.nothing_left();
    }
    assert!(files.asked(Operation::Lock) >= 3);
    let doctor = run(&mut sandbox.words("doctor"));
    doctor.has_code(1);
    let words = "fail\tsockets, locks\tnot in the runtime directory: no locks available; set XDG_RUNTIME_DIR";
    assert!(doctor.stdout.contains(words), "{doctor:?}");
    sandbox.nothing_left();
}
