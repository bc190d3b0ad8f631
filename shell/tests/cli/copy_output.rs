//! `shell copy`: the names and attributes of the files, and the command's output.

use crate::kit::stopped_copy::copy_waiting_for_input;
use crate::kit::*;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

#[test]
fn placeholders_and_padding() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", b"1");
        for (template, peers, first, last) in [
            ("{name}.{peer}", 9, "f.01", "f.09"),
            ("{name}.{peer}", 99, "f.01", "f.99"),
            ("{peer}", 100, "001", "100"),
            ("{name}{name}-{peer}{peer}", 2, "ff-0101", "ff-0202"),
        ] {
            let out = format!("out-{peers}-{}", template.len());
            let arguments =
                ["copy", transport, "-n", &peers.to_string(), "-d", &out, "--name", template, "f"];
            run(&mut sandbox.shell(arguments)).silent_success();
            let names = sandbox.names(&out);
            assert_eq!(names.len(), peers);
            assert_eq!((&*names[0], &*names[peers - 1]), (first, last));
        }
        let copy =
            run(&mut sandbox.shell(["copy", transport, "-n", "3", "--name", "{pid}_{name}", "--json", "f"]));
        for peer in copy.silent_success().json()["receivers"].as_array().unwrap() {
            assert_holds(&sandbox.at(format!("received-files/{}_f", peer["pid"])), b"1");
        }
        run(&mut sandbox.shell(["copy", transport, "-n", "1", "-d", "one", "--name", "plain", "f"]))
            .silent_success();
        assert_eq!(sandbox.names("one"), ["plain"]);
    }
}

#[test]
fn directories_are_made_with_their_parents_and_files_are_replaced() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", b"new");
        for _twice in [0, 1] {
            run(&mut sandbox.shell(["copy", transport, "-n", "2", "-d", "a/b/c", "f"])).silent_success();
        }
        sandbox.file("a/b/c/peer-01_f", &noise(5000, 1));
        fs::hard_link(sandbox.at("a/b/c/peer-01_f"), sandbox.at("kept")).unwrap();
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "-d", "a/b/c", "f"])).silent_success();
        assert_eq!(sandbox.names("a/b/c"), ["peer-01_f", "peer-02_f"]);
        assert_holds(&sandbox.at("a/b/c/peer-01_f"), b"new");
        assert_holds(&sandbox.at("kept"), &noise(5000, 1)); // replaced, not overwritten in place
    }
}

#[test]
fn a_source_may_be_replaced_by_its_own_copy() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(2_000_000, 3);
        sandbox.file("f", &bytes);
        let arguments = ["copy", transport, "-n", "1", "-d", ".", "--name", "{name}", "f"];
        run(&mut sandbox.shell(arguments)).silent_success();
        assert_holds(&sandbox.at("f"), &bytes);
    }
}

#[test]
fn a_symbolic_link_at_the_destination_is_replaced_not_followed() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", b"new");
        sandbox.file("precious", b"precious");
        fs::create_dir(sandbox.at("received-files")).unwrap();
        symlink(sandbox.at("precious"), sandbox.received(1, "f")).unwrap();
        symlink("/nowhere/at/all", sandbox.received(2, "f")).unwrap();
        symlink(sandbox.at("received-files"), sandbox.received(3, "f")).unwrap(); // to a directory
        run(&mut sandbox.shell(["copy", transport, "-n", "3", "f"])).silent_success();
        assert_holds(&sandbox.at("precious"), b"precious");
        for peer in 1..=3 {
            assert!(fs::symlink_metadata(sandbox.received(peer, "f")).unwrap().is_file());
            assert_holds(&sandbox.received(peer, "f"), b"new");
        }
    }
}

#[test]
fn no_clobber_leaves_existing_files_alone() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", b"new");
        fs::create_dir(sandbox.at("received-files")).unwrap();
        fs::write(sandbox.received(2, "f"), b"old").unwrap();
        symlink("/nowhere/at/all", sandbox.received(3, "f")).unwrap();
        let copy = run(&mut sandbox.shell(["copy", transport, "-n", "3", "--no-clobber", "--json", "f"]));
        copy.has_code(4);
        assert!(copy.stderr.contains("peer 2 ") && copy.stderr.contains("exists"), "{copy:?}");
        assert!(copy.json()["receivers"][0]["error"].is_null());
        assert_holds(&sandbox.received(1, "f"), b"new");
        assert_holds(&sandbox.received(2, "f"), b"old");
        assert!(fs::symlink_metadata(sandbox.received(3, "f")).unwrap().is_symlink());
        run(&mut sandbox.shell(["copy", transport, "-n", "3", "--no-clobber", "f"])).has_code(1);
        sandbox.only_names_left(Duration::ZERO);
        // A file that appears while the copy runs is an existing file, too.
        let arguments = ["copy", transport, "-n", "1", "--no-clobber", "-"];
        let (mut copy, _) = copy_waiting_for_input(&sandbox, &arguments, 1, b"x");
        fs::write(sandbox.received(1, "stdin"), b"older").unwrap();
        copy.close_stdin();
        copy.end(LIMIT).has_code(1).one_line(&["exists"]);
        assert_holds(&sandbox.received(1, "stdin"), b"older");
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn mode_bits_are_the_sources_less_the_umask() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        for (mode, umask, expected) in [
            (0o644, 0o022, 0o644),
            (0o755, 0o022, 0o755),
            (0o777, 0o022, 0o755),
            (0o666, 0o077, 0o600),
            (0o600, 0o000, 0o600),
            (0o750, 0o000, 0o750),
            (0o400, 0o022, 0o400),
            (0o6755, 0o022, 0o755), // the writer's set-ID bits do not pass to the copy
        ] {
            let source = sandbox.file(format!("f{mode:o}"), b"x");
            fs::set_permissions(&source, fs::Permissions::from_mode(mode)).unwrap();
            let script = format!(
                "umask {umask:03o}; exec \"$SHELL_BIN\" copy {transport} -n 1 --name 'x{mode:o}' f{mode:o}"
            );
            run(&mut sandbox.script(&script)).silent_success();
            let received = fs::metadata(sandbox.at(format!("received-files/x{mode:o}"))).unwrap();
            let found = received.mode() & 0o7777;
            assert_eq!(found, expected, "{transport}: {mode:o} less {umask:o} became {found:o}");
        }
        // A stream has no mode, so the files get the mode of a new file.
        run(&mut sandbox.script(&format!("umask 027; exec \"$SHELL_BIN\" copy {transport} -n 1 -")))
            .silent_success();
        assert_eq!(fs::metadata(sandbox.received(1, "stdin")).unwrap().mode() & 0o7777, 0o640);
    }
}

#[test]
fn preserve_keeps_times_and_attributes() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let source = sandbox.file("f", b"contents");
        let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        File::options().write(true).open(&source).unwrap().set_modified(old).unwrap();
        let attributes =
            rustix::fs::setxattr(&source, "user.colour", b"green\0\xff", rustix::fs::XattrFlags::empty());
        fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "f"])).silent_success();
        assert_ne!(fs::metadata(sandbox.received(1, "f")).unwrap().modified().unwrap(), old);
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "--preserve", "f"])).silent_success();
        for peer in [1, 2] {
            assert_eq!(fs::metadata(sandbox.received(peer, "f")).unwrap().modified().unwrap(), old);
            assert_eq!(fs::metadata(sandbox.received(peer, "f")).unwrap().mode() & 0o777, 0o444);
            if let Err(error) = attributes {
                skip("extended attributes", &error.to_string());
                continue;
            }
            let mut value = [0; 32];
            let length =
                rustix::fs::getxattr(sandbox.received(peer, "f"), "user.colour", &mut value).unwrap();
            assert_eq!(value[..length], b"green\0\xff"[..]);
        }
    }
}

#[test]
fn what_gives_rights_is_not_preserved() {
    let sandbox = Sandbox::new();
    let source = sandbox.file("f", b"contents");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o6755)).unwrap();
    // CAP_NET_RAW, permitted and effective, in the kernel's second format.
    let capability = [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
    let (name, flags) = ("security.capability", rustix::fs::XattrFlags::empty());
    if let Err(error) = rustix::fs::setxattr(&source, name, &capability, flags) {
        return skip("file capabilities", &error.to_string());
    }
    for more in [&[][..], &["--preserve"]] {
        run(sandbox.shell(["copy", "-n", "1", "f"]).args(more)).silent_success();
        let copy = sandbox.received(1, "f");
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o755);
        let found = rustix::fs::getxattr(&copy, name, &mut [0; 32]);
        assert_eq!(found, Err(rustix::io::Errno::NODATA), "{more:?}");
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn json_has_the_documented_shape() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        sandbox.file("f", &noise(200_000, 1));
        let copy = run(&mut sandbox.shell(["copy", transport, "-n", "3", "-d", "./out", "--json", "f"]));
        let all = copy.silent_success().json();
        assert_eq!(keys(&all), ["bytes", "receivers", "seconds", "transport"]);
        assert_eq!((&all["bytes"], &all["transport"]), (&json!(200_000), &json!(&transport[2..])));
        let seconds = all["seconds"].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds < 60.0);
        for (peer, number) in all["receivers"].as_array().unwrap().iter().zip(1..) {
            assert_eq!(
                keys(peer),
                ["bytes", "checksum", "error", "path", "peer", "pid", "seconds", "warnings"]
            );
            assert_eq!(peer["warnings"], json!([]));
            assert_eq!(peer["peer"], json!(number));
            assert_eq!(peer["bytes"], json!(200_000));
            assert_eq!(peer["path"], json!(format!("./out/peer-{number:02}_f")));
            assert_eq!((&peer["checksum"], &peer["error"]), (&Value::Null, &Value::Null));
            assert!(peer["pid"].as_i64().unwrap() > 1);
            assert!(peer["seconds"].as_f64().unwrap() <= seconds);
        }
        assert_eq!(all["receivers"].as_array().unwrap().len(), 3);
        // In the documented order.
        let order =
            ["\"bytes\"", "\"transport\"", "\"seconds\"", "\"receivers\"", "\"peer\"", "\"pid\"", "\"path\""];
        let places: Vec<_> = order.iter().map(|key| copy.stdout.find(key).unwrap()).collect();
        assert!(places.is_sorted(), "{}", copy.stdout);
    }
}

#[test]
fn without_json_and_with_quiet_nothing_is_printed() {
    let sandbox = Sandbox::new();
    sandbox.file("f", &noise(1_000_000, 1));
    for flags in [&[][..], &["--quiet"], &["-q", "--progress", "always"], &["--progress", "never"]] {
        let copy = run(sandbox.shell(["copy", "-n", "2", "f"]).args(flags));
        assert_eq!((&*copy.silent_success().stdout, flags.len()), ("", flags.len()));
    }
    // Quiet does not suppress errors.
    run(&mut sandbox.shell(["copy", "-q", "-n", "2", "missing"])).refusal(1, &["missing"]);
}

#[test]
fn progress_is_shown_where_it_was_asked_for() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "2", "--progress", "always", "-"];
        let (mut copy, _) = copy_waiting_for_input(&sandbox, &arguments, 2, &noise(12_345, 1));
        until(LIMIT, "progress is on stderr", || copy.stderr().contains("12345"));
        copy.close_stdin();
        let copy = copy.end(LIMIT);
        assert_eq!((copy.code(), &*copy.stdout), (Some(0), ""));
        assert!(!copy.stderr.contains('\x1b'), "no escape sequences without a terminal: {copy:?}");
    }
}

#[test]
fn verify_tells_one_checksum_and_the_known_one_of_nothing() {
    let sum = |sandbox: &Sandbox, transport: &str, stdin: Stdio, name: &str| {
        let arguments = ["copy", transport, "-n", "3", "--verify", "--json", name];
        let json = run(sandbox.shell(arguments).stdin(stdin)).silent_success().json();
        let sums: Vec<_> =
            json["receivers"].as_array().unwrap().iter().map(|peer| peer["checksum"].clone()).collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
        let text = sums[0].as_str().expect("a checksum").to_owned();
        assert!(text.len() == 32 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{text}");
        text
    };
    let sandbox = Sandbox::new();
    let bytes = noise(1_000_003, 1);
    sandbox.file("empty", b"");
    sandbox.file("f", &bytes);
    sandbox.file("other", &noise(1_000_003, 2));
    let mut seen = Vec::new();
    for transport in TRANSPORTS {
        let empty = sum(&sandbox, transport, Stdio::null(), "empty");
        assert_eq!(empty, "99aa06d3014798d86001c324468d497f");
        assert_eq!(sum(&sandbox, transport, Stdio::null(), "-"), empty);
        seen.push(sum(&sandbox, transport, Stdio::null(), "f"));
        seen.push(sum(&sandbox, transport, File::open(sandbox.at("f")).unwrap().into(), "-"));
        assert_ne!(sum(&sandbox, transport, Stdio::null(), "other"), seen[0]);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn verify_finds_a_file_that_is_not_what_was_sent() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let arguments = ["copy", transport, "-n", "3", "--verify", "--json", "-"];
        let (mut copy, receivers) = copy_waiting_for_input(&sandbox, &arguments, 3, &noise(500_000, 1));
        let damaged = receivers[1];
        let file = open_file(damaged, &sandbox.at("received-files")).expect("its file");
        let file = File::options().write(true).open(file).unwrap();
        file.write_all_at(b"not what was sent", 250_000).unwrap();
        copy.close_stdin();
        let copy = copy.end(LIMIT);
        copy.has_code(5).one_line(&["checksum", &damaged.to_string()]);
        for peer in copy.json()["receivers"].as_array().unwrap() {
            let is_damaged = peer["pid"] == json!(damaged);
            assert_eq!(peer["error"].is_null(), !is_damaged, "{peer}");
            assert_eq!(sandbox.at(peer["path"].as_str().unwrap()).exists(), !is_damaged, "{peer}");
        }
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn fsync_changes_nothing_that_can_be_seen() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(300_000, 2);
        sandbox.file("f", &bytes);
        let arguments = ["copy", transport, "-n", "2", "--fsync", "--verify", "-d", "a/b", "f"];
        run(&mut sandbox.shell(arguments)).silent_success();
        for peer in ["01", "02"] {
            assert_holds(&sandbox.at(format!("a/b/peer-{peer}_f")), &bytes);
        }
    }
}

#[test]
fn help_fits_a_screen_and_long_help_ends_with_exit_codes() {
    let sandbox = Sandbox::new();
    let verbs = ["copy", "send", "recv", "ls", "rm", "serve", "servers"];
    for arguments in verbs.map(|verb| vec![verb, "-h"]).into_iter().chain([vec!["-h"]]) {
        let help = run(&mut sandbox.shell(&arguments));
        help.silent_success();
        assert!(help.stdout.lines().count() <= 24, "{arguments:?}:\n{}", help.stdout);
        for line in help.stdout.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
    for arguments in [&["--help"][..], &["copy", "--help"]] {
        let help = run(&mut sandbox.shell(arguments));
        help.silent_success();
        let codes = help.stdout.rfind("Exit codes:").unwrap_or_else(|| panic!("{arguments:?}"));
        let tail = &help.stdout[codes..];
        for code in ["0", "1", "2", "4", "5", "signal"] {
            assert!(tail.contains(code), "{code} is not explained:\n{tail}");
        }
        assert!(!tail.contains("\n\n"), "they stand at the end:\n{tail}");
    }
    let help = run(&mut sandbox.shell(["copy", "--help"])).stdout;
    for flag in
        ["--shm", "--socket", "-n", "-d", "--name", "--block", "--ring", "--verify", "--fsync", "--json"]
    {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(help.contains("Examples:"));
}
