//! `shell copy` does its job: every byte to every peer, whatever the source is and however it arrives.

use crate::kit::stopped_copy::{copy_waiting_for_input, copy_with_stopped_receiver};
use crate::kit::*;
use rustix::fs::{CWD, Mode, SeekFrom};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::time::Duration;

const BLOCK: usize = 80 << 10;

fn to_peers(peers: u32, length: usize) {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(length, u64::from(peers));
        sandbox.file("source", &bytes);
        run(&mut sandbox.shell(["copy", transport, "-n", &peers.to_string(), "source"])).silent_success();
        let width = peers.to_string().len().max(2);
        let names: Vec<_> = (1..=peers).map(|peer| format!("peer-{peer:0width$}_source")).collect();
        assert_eq!(sandbox.names("received-files"), names);
        for name in names {
            assert_holds(&sandbox.at("received-files").join(name), &bytes);
        }
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn one_peer() {
    to_peers(1, 3_000_001);
}

#[test]
fn two_peers() {
    to_peers(2, 3_000_001);
}

#[test]
fn sixteen_peers() {
    to_peers(16, 1_500_007);
}

#[test]
fn sixty_four_peers() {
    to_peers(64, 900_001);
}

#[test]
fn two_hundred_and_fifty_peers() {
    to_peers(250, 300_017);
}

#[test]
fn every_length_around_blocks_arrives_whole() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        for length in
            [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 8 * BLOCK - 1, 8 * BLOCK, 8 * BLOCK + 1, 40 * BLOCK]
        {
            let bytes = noise(length, length as u64);
            sandbox.file("source", &bytes);
            run(&mut sandbox.shell(["copy", transport, "-n", "2", "source"])).silent_success();
            for peer in [1, 2] {
                assert_holds(&sandbox.received(peer, "source"), &bytes);
            }
        }
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn blocks_and_rings_of_every_size() {
    let bytes = noise(1_200_345, 5);
    for (block, ring) in [
        ("512", "4K"),
        ("2040", "4096"),
        ("512B", "1MiB"),
        ("4kb", "9K"),
        ("1MiB", "3M"),
        ("80k", "256K"),
        ("64M", "256M"),
    ] {
        for more in [vec!["--shm", "--ring", ring], vec!["--socket"]] {
            let sandbox = Sandbox::new();
            sandbox.file("source", &bytes);
            let arguments = [&["copy", "-n", "2", "--block", block][..], &more].concat();
            run(sandbox.shell(&arguments).arg("source")).silent_success();
            // And as a stream, which takes another path through the code.
            let stream = File::open(sandbox.at("source")).unwrap();
            run(sandbox.shell(&arguments).arg("-").stdin(stream)).silent_success();
            for peer in [1, 2] {
                assert_holds(&sandbox.received(peer, "source"), &bytes);
                assert_holds(&sandbox.received(peer, "stdin"), &bytes);
            }
            sandbox.only_names_left(Duration::ZERO);
        }
    }
}

#[test]
fn a_stream_appears_at_the_receivers_as_it_is_written() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let (mut copy, receivers) =
            copy_waiting_for_input(&sandbox, &["copy", transport, "-n", "3", "-"], 3, b"first");
        let mut sent = b"first".to_vec();
        // Far less than a block each time, and once more than a ring.
        for piece in [&b"second"[..], b"\0", &noise(1_000_000, 3), b"last"] {
            copy.stdin().write_all(piece).unwrap();
            sent.extend_from_slice(piece);
            copy.have(&receivers, &sandbox.at("received-files"), sent.len() as u64);
        }
        assert_eq!(sandbox.names("received-files").len(), 0, "no file has its name before the end");
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
        for peer in 1..=3 {
            assert_holds(&sandbox.received(peer, "stdin"), &sent);
        }
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn a_silent_stream_costs_no_time_and_no_words() {
    all_at_once(TRANSPORTS, |transport| {
        let sandbox = Sandbox::new();
        let (mut copy, receivers) =
            copy_waiting_for_input(&sandbox, &["copy", transport, "-n", "2", "-"], 2, b"x");
        let all: Vec<_> = receivers.iter().copied().chain([copy.pid()]).collect();
        let before: Vec<_> = all.iter().map(|&pid| cpu_ticks(pid)).collect();
        std::thread::sleep(Duration::from_millis(2500));
        for (&pid, before) in all.iter().zip(before) {
            // In hundredths of a second. A process that spins would have used 250.
            assert!(cpu_ticks(pid) - before < 40, "{transport}: process {pid} is busy while nothing comes");
        }
        // All processes wait for the source, so no receiver is reported as slow.
        assert_eq!(copy.stderr(), "");
        copy.close_stdin();
        copy.end(LIMIT).silent_success();
    });
}

#[test]
fn an_empty_stream_makes_empty_files() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "-"])).silent_success();
        for peer in [1, 2] {
            assert_holds(&sandbox.received(peer, "stdin"), b"");
        }
    }
}

#[test]
fn a_fifo_is_copied_to_its_end() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let fifo = sandbox.at("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let bytes = noise(2_000_003, 8);
        let copy = start(&mut sandbox.shell(["copy", transport, "-n", "2", "fifo"]));
        let mut writer = File::options().write(true).open(&fifo).unwrap();
        writer.write_all(&bytes).unwrap();
        drop(writer);
        copy.end(LIMIT).silent_success();
        for peer in [1, 2] {
            assert_holds(&sandbox.received(peer, "fifo"), &bytes);
        }
    }
}

#[test]
fn a_file_of_proc_that_says_it_has_no_length_is_read_to_its_end() {
    let expected = fs::read("/proc/version").unwrap();
    assert!(!expected.is_empty() && fs::metadata("/proc/version").unwrap().len() == 0);
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "/proc/version"])).silent_success();
        // /proc/self depends on the reader, which is the command here.
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "/proc/self/cmdline"])).silent_success();
        for peer in [1, 2] {
            assert_holds(&sandbox.received(peer, "version"), &expected);
            let cmdline = fs::read(sandbox.received(peer, "cmdline")).unwrap();
            assert!(cmdline.ends_with(b"\0-n\x002\0/proc/self/cmdline\0"), "{transport}: {cmdline:?}");
        }
    }
}

#[test]
fn a_file_of_sys_that_says_it_is_longer_than_it_is_is_read_to_its_end() {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let path = if fs::metadata(path).is_ok() { path } else { "/sys/kernel/uevent_seqnum" };
    let Ok(expected) = fs::read(path) else { return skip("a file of /sys", "there is none") };
    assert!((expected.len() as u64) < fs::metadata(path).unwrap().len());
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        run(&mut sandbox.shell(["copy", transport, "-n", "1", "--name", "x", path])).silent_success();
        assert_holds(&sandbox.at("received-files/x"), &expected);
    }
}

#[test]
fn standard_input_from_a_file_starts_at_its_offset() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(500_000, 21);
        let mut input = File::open(sandbox.file("input", &bytes)).unwrap();
        input.seek(std::io::SeekFrom::Start(123_456)).unwrap();
        run(sandbox.shell(["copy", transport, "-n", "2", "-"]).stdin(input.try_clone().unwrap()))
            .silent_success();
        for peer in [1, 2] {
            assert_holds(&sandbox.received(peer, "stdin"), &bytes[123_456..]);
        }
        assert_eq!(input.stream_position().unwrap(), 500_000, "what was read is read");
    }
}

#[test]
fn standard_input_that_never_blocks_is_waited_for() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut copy = start(sandbox.shell(["copy", transport, "-n", "2", "-"]).stdin(reader));
        let receivers = copy.receivers(2);
        writer.write_all(b"one").unwrap();
        copy.have(&receivers, &sandbox.at("received-files"), 3);
        writer.write_all(b"two").unwrap();
        copy.have(&receivers, &sandbox.at("received-files"), 6);
        drop(writer);
        copy.end(LIMIT).silent_success();
        assert_holds(&sandbox.received(2, "stdin"), b"onetwo");
    }
}

/// The ranges of a file that hold data.
fn extents(file: &File) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Ok(data) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap();
        found.push((data, at));
    }
    found
}

#[test]
fn a_sparse_file_over_four_gibibytes_stays_sparse() {
    const LENGTH: u64 = (5 << 30) + 7;
    for (transport, tail_hole) in TRANSPORTS.into_iter().flat_map(|t| [(t, false), (t, true)]) {
        let sandbox = Sandbox::new();
        let source = File::create_new(sandbox.at("source")).unwrap();
        source.write_all_at(&noise(100_000, 1), 0).unwrap();
        source.write_all_at(&noise(100_000, 2), (4 << 30) - 50_000).unwrap(); // across the 32-bit limit
        if tail_hole {
            source.set_len(LENGTH).unwrap();
        } else {
            source.write_all_at(&noise(100_000, 3), LENGTH - 100_000).unwrap();
        }
        let source = File::open(sandbox.at("source")).unwrap();
        if extents(&source) == [(0, LENGTH)] {
            return skip("sparse files", "this file system has none");
        }
        run(&mut sandbox.shell(["copy", transport, "-n", "2", "source"])).silent_success();
        for peer in [1, 2] {
            let copy = File::open(sandbox.received(peer, "source")).unwrap();
            let stat = copy.metadata().unwrap();
            assert_eq!(stat.len(), LENGTH);
            assert!(stat.blocks() * 512 < 1 << 20, "{} blocks are stored", stat.blocks());
            assert_same_data(&source, &copy);
        }
        sandbox.only_names_left(Duration::ZERO);
    }
}

/// Compares two files in the ranges in which either has data. The rest is holes in both.
fn assert_same_data(one: &File, other: &File) {
    for (from, to) in extents(one).into_iter().chain(extents(other)) {
        let mut both = [vec![0; (to - from) as usize], vec![1; (to - from) as usize]];
        one.read_exact_at(&mut both[0], from).unwrap();
        other.read_exact_at(&mut both[1], from).unwrap();
        assert!(both[0] == both[1], "they differ between {from} and {to}");
    }
}

#[test]
fn holes_count_for_the_checksum() {
    let sandbox = Sandbox::new();
    let source = File::create_new(sandbox.at("source")).unwrap();
    source.write_all_at(b"head", 0).unwrap();
    source.write_all_at(b"tail", 3 << 20).unwrap();
    let mut bytes = vec![0; (3 << 20) + 4];
    bytes[..4].copy_from_slice(b"head");
    bytes[3 << 20..].copy_from_slice(b"tail");
    sandbox.file("dense", &bytes);
    let mut sums = Vec::new();
    for transport in TRANSPORTS {
        for name in ["source", "dense"] {
            let copy = run(&mut sandbox.shell(["copy", transport, "-n", "2", "--verify", "--json", name]));
            let json = copy.silent_success().json();
            sums.extend(json["receivers"].as_array().unwrap().iter().map(|peer| peer["checksum"].clone()));
            assert_holds(&sandbox.received(2, name), &bytes);
        }
    }
    sums.dedup();
    assert_eq!(sums.len(), 1, "{sums:?}");
}

#[test]
fn a_source_that_grows_is_copied_up_to_its_end_as_met() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let mut bytes = noise(48 << 20, 4);
        sandbox.file("source", &bytes);
        let received = sandbox.at("received-files");
        let held = copy_with_stopped_receiver(
            &sandbox,
            &["copy", transport, "-n", "1", "source"],
            1,
            &received,
            bytes.len() as u64,
        );
        let more = noise(300_000, 5);
        File::options().append(true).open(sandbox.at("source")).unwrap().write_all(&more).unwrap();
        bytes.extend_from_slice(&more);
        signal(held.stopped, Signal::CONT);
        held.copy.end(LIMIT).has_code(0);
        assert_holds(&sandbox.received(1, "source"), &bytes);
    }
}

#[test]
fn copies_at_the_same_time_do_not_collide() {
    let sandbox = Sandbox::new();
    let bytes: Vec<_> = (0..6).map(|seed| noise(2_000_000 + seed, seed as u64)).collect();
    let mut running = Vec::new();
    for (index, bytes) in bytes.iter().enumerate() {
        let name = format!("source{index}");
        sandbox.file(&name, bytes);
        // Three by each transport, all into one directory.
        running.push(start(&mut sandbox.shell(["copy", TRANSPORTS[index % 2], "-n", "5", &name])));
    }
    for copy in running {
        copy.end(LIMIT).silent_success();
    }
    for (index, bytes) in bytes.iter().enumerate() {
        for peer in 1..=5 {
            assert_holds(&sandbox.received(peer, &format!("source{index}")), bytes);
        }
    }
    sandbox.only_names_left(Duration::ZERO);
}

#[test]
fn the_same_file_copied_twice_at_once_under_the_same_names_is_whole_in_the_end() {
    let sandbox = Sandbox::new();
    let bytes = noise(3_000_000, 77);
    sandbox.file("source", &bytes);
    let running: Vec<_> = (0..6)
        .map(|index| start(&mut sandbox.shell(["copy", TRANSPORTS[index % 2], "-n", "3", "source"])))
        .collect();
    for copy in running {
        copy.end(LIMIT).silent_success();
    }
    for peer in 1..=3 {
        assert_holds(&sandbox.received(peer, "source"), &bytes);
    }
    sandbox.only_names_left(Duration::ZERO);
}

#[test]
fn names_that_are_not_utf_8_are_kept_byte_by_byte() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let name = OsStr::from_bytes(b"f\xff\xfe\x80 \n.bin");
        sandbox.file(name, b"contents");
        let directory = OsStr::from_bytes(b"out\xc3");
        run(sandbox.shell(["copy", transport, "-n", "1", "-d"]).arg(directory).arg(name)).silent_success();
        let expected = sandbox.at(directory).join(OsStr::from_bytes(b"peer-01_f\xff\xfe\x80 \n.bin"));
        assert_holds(&expected, b"contents");
        // And in a template.
        let template = OsStr::from_bytes(b"\xf0{peer}");
        run(sandbox.shell(["copy", transport, "-n", "2", "--name"]).arg(template).arg(name)).silent_success();
        assert_holds(&sandbox.at("received-files").join(OsStr::from_bytes(b"\xf002")), b"contents");
    }
}

#[test]
fn names_of_255_bytes_fit() {
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let long = "x".repeat(255);
        sandbox.file(&long, b"contents");
        for _twice in [0, 1] {
            // The second time there is a file to replace.
            run(&mut sandbox.shell(["copy", transport, "-n", "1", "--name", "{name}", &long]))
                .silent_success();
            assert_holds(&sandbox.at("received-files").join(&long), b"contents");
        }
        let template = format!("{}{{peer}}", "y".repeat(253));
        run(&mut sandbox.shell(["copy", transport, "-n", "99", "--name", &template, &long])).silent_success();
        assert_holds(&sandbox.at("received-files").join(format!("{}99", "y".repeat(253))), b"contents");
        sandbox.only_names_left(Duration::ZERO);
    }
}

#[test]
fn closed_standard_descriptors_do_no_harm() {
    // From sh, with closed standard descriptors: what the command opens must not land on them.
    for transport in TRANSPORTS {
        let sandbox = Sandbox::new();
        let bytes = noise(700_001, 6);
        sandbox.file("source", &bytes);
        let script = format!("exec \"$SHELL_BIN\" copy {transport} -n 3 source <&- >&- 2>&-");
        assert_eq!(run(&mut sandbox.script(&script)).code(), Some(0));
        for peer in 1..=3 {
            assert_holds(&sandbox.received(peer, "source"), &bytes);
        }
    }
}

#[test]
fn a_pipeline_as_typed() {
    let sandbox = Sandbox::new();
    let mut expected = Vec::new();
    sandbox.file("a", &noise(300_000, 9));
    File::open(sandbox.at("a")).unwrap().read_to_end(&mut expected).unwrap();
    run(&mut sandbox.script("cat a | \"$SHELL_BIN\" copy -n 2 --verify -")).silent_success();
    assert_holds(&sandbox.received(1, "stdin"), &expected);
    assert_holds(&sandbox.received(2, "stdin"), &expected);
    // The kernel also gives a fifo as a file of /proc.
    run(sandbox.script("cat a | \"$SHELL_BIN\" copy -n 2 --name 'p{peer}' /dev/stdin").stdin(Stdio::null()))
        .silent_success();
    assert_holds(&sandbox.at("received-files/p02"), &expected);
}
