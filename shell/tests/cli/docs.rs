//! The documentation is true: its commands print what it shows, and words in memory are at the offsets in its tables.

use crate::kit::*;
use rustix::fd::AsFd;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use whorl::MailSegment;
use whorl::internal::shm::ring::Segment;
use whorl_core::error::End;
use whorl_core::layout::{Geometry, MailGeometry};
use whorl_core::ring::{ClaimSize, PendingReceiver};

const README: &str = include_str!("../../../README.md");
const HELLO: &str = include_str!("../../examples/hello.rs");
const LAYOUT: &str = include_str!("../../../docs/memory-layout.md");

/// The first number in the row below this heading whose last cell begins with these words.
fn offset(heading: &str, words: &str) -> u64 {
    let section = LAYOUT.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let row = section
        .lines()
        .find(|line| line.rsplit('|').nth(1).is_some_and(|cell| cell.trim().starts_with(words)));
    let row = row.unwrap_or_else(|| panic!("'{words}' under '{heading}'"));
    row.split('|')
        .nth(1)
        .and_then(|cell| cell.trim().parse().ok())
        .unwrap_or_else(|| panic!("an offset: {row}"))
}

fn word(object: impl AsFd, at: u64) -> u32 {
    let mut four = [0; 4];
    assert_eq!(rustix::io::pread(object, &mut four, at), Ok(4), "at {at}");
    u32::from_ne_bytes(four)
}

fn words<const N: usize>(object: impl AsFd, at: u64) -> [u32; N] {
    std::array::from_fn(|index| word(&object, at + 4 * index as u64))
}

fn header(object: impl AsFd, region: u32, measures: [u32; 4], length: u64) {
    assert_eq!(word(&object, offset("The header", "magic")), 0x4C52_4857);
    assert_eq!(word(&object, offset("The header", "layout version")), 2);
    assert_eq!(word(&object, offset("The header", "byte order")), 0x0102_0304);
    assert_eq!(word(&object, offset("The header", "region")), region);
    assert_eq!(words(&object, offset("The header", "measures")), measures);
    let halves = words::<2>(&object, offset("The header", "length"));
    assert_eq!(u64::from(halves[0]) | u64::from(halves[1]) << 32, length);
    let stat = rustix::fs::fstat(&object).unwrap();
    assert_eq!(stat.st_size as u64, length);
    let mut bytes = [0; 60];
    rustix::io::pread(&object, &mut bytes, 0).unwrap();
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    assert_eq!(word(&object, offset("The header", "CRC-32")), !crc);
}

#[test]
fn a_ring_lies_as_its_page_says() {
    let (cells, seats) = (16, 3);
    let (segment, ring) = Segment::create(Geometry::new(8 * u64::from(cells), seats).unwrap()).unwrap();
    let [data, control] = segment.objects();
    // As the page computes them.
    header(data, 1, [cells, 8, seats, 0], 4096 + 8 * u64::from(cells));
    header(control, 2, [cells, 8, seats, 0], 4096 + 128 * u64::from(seats));
    assert_eq!(
        words::<2>(data, offset("The header", "nonce")),
        words::<2>(control, offset("The header", "nonce"))
    );

    let seen = ring.ring();
    let (mut sender, membership) = ring.into_sender();
    let applicant = PendingReceiver::request_seat(seen, 1, true, 4711).unwrap();
    let member = 4096 + 128;
    assert_eq!(words(control, member), [1, 4711, 0, 0], "it asks for the first item");
    assert_eq!(word(control, offset("A ring: the control region", "`seats_used`")), 2);
    membership.admit_all();
    assert_eq!(words(control, member), [4, 4711, 0, 0], "it is active");
    let mut receiver = applicant.try_admitted().map_err(|(why, _)| why).unwrap();
    // Three messages of 3 cells, a hole of 2, and a message of 5 that needs padding.
    let mut send = |length: u32, byte: u8| {
        let mut claim = sender.try_claim(ClaimSize::exactly(length)).unwrap();
        claim.writer().write(&vec![byte; length as usize]);
        claim.publish(length);
    };
    (1..=3).for_each(|byte| send(9, byte));
    sender.try_claim(ClaimSize::exactly(8)).unwrap().publish_hole(7 << 32 | 5);
    let mut batch = receiver.try_read().unwrap();
    (0..2).for_each(|_| assert!(batch.next_frame().unwrap().is_some()));
    batch.release();
    let mut claim = sender.try_claim(ClaimSize::exactly(33)).unwrap();
    claim.writer().write(&[4; 33]);
    claim.publish(33);
    let at = |words| offset("A ring: the data region", words);
    assert_eq!(words(data, at("`tail`")), [22, 0, 1, 0], "tail, state, lapped, first");
    assert_eq!((at("`state`"), at("`lapped`"), at("`first`")), (132, 136, 140));
    assert_eq!(word(control, member + 8), 6, "its cursor");
    let cell = |cell: u64| words::<2>(data, at("cells") + 8 * cell);
    assert_eq!(cell(6), [1 << 29 | 9, 2], "message 2");
    assert_eq!([cell(9), cell(10)], [[2 << 29 | 8, 3], [5, 7]], "the hole");
    assert_eq!(
        [cell(11), cell(0)],
        [[3 << 29 | 4, 0], [1 << 29 | 33, 4]],
        "padding, and the frame behind it"
    );
    let mut payload = [0; 9];
    rustix::io::pread(data, &mut payload, at("cells") + 8 * 7).unwrap();
    assert_eq!(payload, [3; 9]);
    let checksum: [u8; 16] = std::array::from_fn(|index| index as u8 + 1);
    sender.close(End { total: 1 << 33 | 5, checksum: Some(checksum) });
    assert_eq!(word(data, at("`state`")), 1);
    assert_eq!(words(data, at("end record: total")), [5, 2]);
    assert_eq!(word(data, at("end record: 1 if")), 1);
    let four = |at: usize| u32::from_le_bytes(checksum[at..at + 4].try_into().unwrap());
    assert_eq!(words(data, at("end record: the checksum")), [four(0), four(4), four(8), four(12)]);
    drop(receiver);
    assert_eq!(word(control, member), 1 << 3, "free, one generation later");
}

#[test]
fn mailboxes_lie_as_their_page_says() {
    let (boxes, capacity, seats) = (3, 100, 5);
    let segment = MailSegment::create(MailGeometry::new(boxes, capacity, seats).unwrap()).unwrap();
    let boxes_at = (4096 + 8 * u64::from(seats)).next_multiple_of(64);
    let length = 192 + 64 * u64::from(seats);
    let buffers_at = (boxes_at + u64::from(boxes) * length).next_multiple_of(4096);
    let stride = u64::from(capacity).next_multiple_of(64);
    header(&segment, 3, [capacity, boxes, seats, 0], buffers_at + 2 * stride * u64::from(boxes));
    let mut user = segment.sit().unwrap();
    assert_eq!(word(&segment, offset("Mailboxes", "`seats_used`")), 1);
    assert_eq!(word(&segment, offset("Mailboxes", "seats: word")) & 7, 4, "seat 0 is active");
    for message in [&b"first"[..], b"second!"] {
        user.write(1, message).unwrap();
    }
    let of = |words| boxes_at + length + offset("Mailboxes", words);
    assert_eq!(word(&segment, of("`latest`")), 2);
    assert_eq!(words(&segment, of("buffer 0")), [7, 0]);
    assert_eq!(words(&segment, of("buffer 1")), [5, 0]);
    assert_eq!(word(&segment, of("the lock's owner word")), 0, "free; its last owner sits in seat 0");
    assert_eq!(word(&segment, of("cells")), 0, "and its cell is idle");
    let mut bytes = [0; 7];
    rustix::io::pread(&segment, &mut bytes, buffers_at + 2 * stride).unwrap();
    assert_eq!(&bytes, b"second!");
}

/// The script that plays the commands of the pages, with this program as the command.
fn first_minutes(sandbox: &Sandbox, program: impl AsRef<OsStr>) -> Command {
    let mut bash = sandbox.program("bash");
    bash.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/first-minutes.sh")).arg(program);
    bash.env("TMPDIR", sandbox.root());
    bash
}

/// Plays the pages to the end, and passes on what was skipped.
fn played(script: &mut Command) -> Ended {
    let ended = start(script).end(LIMIT * 3);
    ended.stdout.lines().filter(|line| line.starts_with("SKIPPED")).for_each(|line| eprintln!("{line}"));
    ended
}

#[test]
fn commands_of_the_pages_print_what_the_pages_say() {
    let ended = played(&mut first_minutes(&Sandbox::new(), SHELL));
    ended.has_code(0);
    assert!(ended.stdout.contains("the pages are true"), "{ended:?}");
}

#[test]
fn a_command_that_does_nothing_plays_no_block() {
    let sandbox = Sandbox::new();
    let nothing = sandbox.file("nothing", b"#!/bin/sh\nexit 0\n");
    fs::set_permissions(&nothing, fs::Permissions::from_mode(0o755)).unwrap();
    // One block waits for a file of the command.
    let ended = played(first_minutes(&sandbox, &nothing).env("FIRST_MINUTES_LIMIT", "5"));
    ended.has_code(1);
    let (mut failed, mut passed) = (0, Vec::new());
    for line in ended.stdout.lines() {
        failed += usize::from(line.starts_with("FAILED: "));
        passed.extend(line.strip_prefix("ok: "));
    }
    // Cargo alone plays this block.
    passed.retain(|line| !line.starts_with("cargo add "));
    assert_eq!(passed, Vec::<&str>::new(), "{}", ended.stdout);
    assert!(failed > 10, "{}", ended.stdout);
}

#[test]
fn a_missing_tool_skips_only_what_needs_it() {
    let sandbox = Sandbox::new();
    let tools = sandbox.at("tools");
    fs::create_dir(&tools).unwrap();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for tool in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !["nc", "cc", "pkg-config"].iter().any(|lacking| tool.file_name() == *lacking) {
                let _ = symlink(tool.path(), tools.join(tool.file_name())); // the first one of a name counts
            }
        }
    }
    let ended = played(first_minutes(&sandbox, SHELL).env("PATH", &tools));
    ended.has_code(0);
    for line in [
        "SKIPPED: ./hello servers: there is no cc",
        "no nc: a stand-in opens the connection",
        "ok: printf 'w 3\\nhello there\\nr 3\\nq\\n' | nc localhost 9000",
    ] {
        assert!(ended.stdout.lines().any(|found| found == line), "{line}\n{}", ended.stdout);
    }
}

#[test]
fn commands_of_the_pages_work_where_nothing_is_installed() {
    if lacks_unshare(&["-Urmpf"], "the pages in a root of their own") {
        return;
    }
    let sandbox = Sandbox::new();
    let mut fresh_root = sandbox.program(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/fresh-root"));
    let ended = played(fresh_root.arg(SHELL).env("TMPDIR", sandbox.root()));
    ended.has_code(0);
    assert!(ended.stdout.contains("the pages are true"), "{ended:?}");
    // The commands for a library in /usr/local are played there and nowhere else.
    let lacks_c = ended.stdout.contains("SKIPPED: ./hello servers");
    assert!(lacks_c || ended.stdout.contains("ok: cargo build --release -p whorl-capi"), "{ended:?}");
}

/// The text of the README between this fence and the next one.
fn fenced(opening: &str) -> &'static str {
    let (_, rest) = README.split_once(opening).unwrap_or_else(|| panic!("the README has no '{opening}'"));
    rest.split_once("\n```").expect("the end of it").0
}

/// Whether each line of `excerpt` is a line of `program`, in the same order. Comments and indentation do not count.
fn is_excerpt(excerpt: &str, program: &str) -> bool {
    let stripped = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
    let mut lines = program.lines().map(stripped);
    excerpt.lines().map(stripped).filter(|line| !line.is_empty()).all(|line| lines.any(|other| other == line))
}

#[test]
fn the_library_in_the_readme_is_an_example_that_works() {
    let excerpt = fenced("```rust\n");
    assert!(excerpt.lines().count() >= 10, "{excerpt}");
    assert!(is_excerpt(excerpt, HELLO), "README.md differs from shell/examples/hello.rs");
    assert!(
        !is_excerpt("sender.send();", HELLO)
            && !is_excerpt("Ok(())\nsender.wait_for_receivers(1)?;", "Ok(())")
    );
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/hello");
    if !program.exists() {
        return skip("example hello", "it was not built with this test");
    }
    let sandbox = Sandbox::new();
    let hello = || sandbox.program(program.to_str().unwrap());
    let receiver = start(&mut hello());
    run(hello().arg("send")).silent_success();
    let received = receiver.end(LIMIT);
    assert_eq!(received.silent_success().stdout, "hello\n");
    sandbox.nothing_left();
}

/// The pages of the documentation.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    let others = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md"];
    pages.extend(others.map(|file| root.join(file)));
    pages
}

/// The targets of the links of a page, without those to the web.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("https://"))
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(|heading| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    })
}

/// The targets of a page's links that do not exist.
fn dead_links(page: &Path, text: &str) -> Vec<String> {
    let leads_nowhere = |link: &&str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        let has_anchor = || {
            let target = fs::read_to_string(&target).unwrap();
            anchors(&target).any(|found| found == anchor)
        };
        !target.exists() || !(anchor.is_empty() || has_anchor())
    };
    links(text).filter(leads_nowhere).map(str::to_owned).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        seen += links(&text).count();
        assert_eq!(dead_links(&page, &text), Vec::<String>::new(), "{}", page.display());
    }
    assert!(seen > 50, "{seen} links");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let broken =
        dead_links(&page, "[a](docs/faq.md) [b](docs/fake.md) [c](docs/troubleshooting.md#exit-code)");
    assert_eq!(broken, ["docs/fake.md", "docs/troubleshooting.md#exit-code"]);
}

#[test]
fn the_gate_has_the_same_parts_wherever_they_are_named() {
    let between = |text: &'static str, before: &str, after: &str| {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no '{before}'"));
        rest.split_once(after).expect("the end of it").0
    };
    let words =
        |list: &'static str| list.split([' ', ',']).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let gate = include_str!("../../../.ci/run");
    let parts = words(between(gate, "|| set -- ", "\n"));
    assert!(parts.len() > 8, "{parts:?}");
    for part in &parts {
        assert!(gate.contains(&format!("\npart_{part}() {{")), "{part}");
    }
    assert_eq!(words(between(gate, "these parts: ", ";")), parts, "the head of .ci/run");
    let workflow = include_str!("../../../.github/workflows/ci.yml");
    assert_eq!(words(between(workflow, "part: [", "]")), parts, "the workflow");
    let page = include_str!("../../../CONTRIBUTING.md");
    assert_eq!(words(between(page, "runs single parts: ", ".\n")), parts, "CONTRIBUTING.md");
}
