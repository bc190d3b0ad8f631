//! The memory of a ring: which processes may write it, that it cannot be resized, and the locks that show which process
//! lives.

use crate::kit::stopped_copy::copy_waiting_for_input;
use crate::kit::*;
use rustix::fs::{OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::ptr::null_mut;
use whorl::internal::os::ofd_lock::ByteLocks;
use whorl::internal::shm::liveness::{OWNER, Owner};
use whorl::internal::shm::ring::Segment;
use whorl_core::layout::Geometry;

const DATA: &str = "memfd:whorl-data";
const CONTROL: &str = "memfd:whorl-control";

/// The /proc path of a process's descriptor of one of the two objects.
fn object(pid: i32, name: &str) -> PathBuf {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let is_it = |fd: &PathBuf| fs::read_link(fd).is_ok_and(|at| at.to_string_lossy().contains(name));
    descriptors.map(|entry| entry.path()).find(is_it).expect("its descriptor")
}

/// The permissions with which a process maps an object, and the addresses.
fn mappings(pid: i32, name: &str) -> Vec<(String, usize, usize)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let number = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    maps.lines()
        .filter(|line| line.contains(name))
        .map(|line| {
            let (range, rest) = line.split_once(' ').expect("a range");
            let (from, to) = range.split_once('-').expect("two ends");
            (rest[..4].to_owned(), number(from), number(to))
        })
        .collect()
}

/// A copy by the ring, stopped in its middle.
fn caught(sandbox: &Sandbox, peers: usize) -> (Running, Vec<i32>) {
    let number = peers.to_string();
    copy_waiting_for_input(sandbox, &["copy", "--shm", "-n", &number, "-"], peers, b"x")
}

#[test]
fn receivers_map_data_for_reading_only_and_the_sender_alone_writes_it() {
    let sandbox = Sandbox::new();
    let (copy, receivers) = caught(&sandbox, 3);
    let permissions = |pid, name| mappings(pid, name).into_iter().map(|map| map.0).collect::<Vec<_>>();
    assert_eq!(permissions(copy.pid(), DATA), ["rw-s"]);
    for pid in receivers {
        // The sender's own mapping is not inherited.
        assert_eq!(permissions(pid, DATA), ["r--s"]);
        assert!(permissions(pid, CONTROL).iter().all(|permission| permission == "rw-s"));
    }
}

#[test]
fn both_objects_are_private_sealed_and_reserved() {
    let sandbox = Sandbox::new();
    let (copy, _) = caught(&sandbox, 2);
    for (name, seals) in [
        (DATA, SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL),
        (CONTROL, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
    ] {
        let path = object(copy.pid(), name);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600, "{name}");
        assert!(metadata.blocks() * 512 >= metadata.len(), "{name} is reserved in full");
        let opened = File::options().read(true).write(true).open(&path).unwrap();
        let found = rustix::fs::fcntl_get_seals(&opened).unwrap();
        assert!(found.contains(seals), "{name}: {found:?}");
        for length in [0, metadata.len() - 1, metadata.len() + 1] {
            assert_eq!(rustix::fs::ftruncate(&opened, length), Err(Errno::PERM), "{name} to {length}");
        }
        // An object that is sealed against new writers cannot be written in any way.
        if name == DATA {
            assert_eq!(rustix::io::pwrite(&opened, &[0; 8], 0), Err(Errno::PERM));
            // SAFETY: a new mapping at an address of the kernel's choice, which is never used.
            let new = unsafe { mmap(null_mut(), 4096, ProtFlags::WRITE, MapFlags::SHARED, &opened, 0) };
            assert_eq!(new, Err(Errno::PERM));
        }
    }
}

/// Set in the process that is to kill itself.
const VICTIM: &str = "WHORL_TEST_VICTIM";

#[test]
fn a_receivers_data_cannot_be_made_writable_and_a_store_kills() {
    if std::env::var(VICTIM).is_ok() {
        return victim();
    }
    let test = "a_receivers_data_cannot_be_made_writable_and_a_store_kills";
    let output = run(own_test(module_path!(), test).env(VICTIM, "1"));
    assert!(output.stdout.contains("about to store"), "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
}

/// Attaches as a receiver, tries everything that must be refused, then writes to memory that it may only read.
fn victim() {
    let me = std::process::id() as i32;
    let (segment, owned) = Segment::create(Geometry::new(8192, 1).unwrap()).unwrap();
    let receiver = segment.attach(Owner::ThisProcess).unwrap();
    let reading: Vec<_> = mappings(me, DATA).into_iter().filter(|map| map.0 == "r--s").collect();
    let [(_, from, to)] = reading[..] else { panic!("{reading:?}") };
    let start = std::ptr::with_exposed_provenance_mut::<u8>(from);
    // SAFETY: it changes nothing if it is refused, and if it is not, this test fails.
    let changed = unsafe { mprotect(start.cast(), to - from, MprotectFlags::READ | MprotectFlags::WRITE) };
    assert_eq!(changed, Err(Errno::ACCESS));
    for flags in [OFlags::RDWR, OFlags::WRONLY] {
        let reopened = rustix::fs::open(object(me, DATA), flags, rustix::fs::Mode::empty()).unwrap();
        // SAFETY: a new mapping at an address of the kernel's choice, which is never used.
        let new = unsafe { mmap(null_mut(), 4096, ProtFlags::WRITE, MapFlags::SHARED, &reopened, 0) };
        assert!(matches!(new, Err(Errno::PERM | Errno::ACCESS)), "{new:?}");
        assert_eq!(rustix::io::pwrite(&reopened, &[1], 0), Err(Errno::PERM));
    }
    println!("about to store");
    // SAFETY: none. This store is meant to end this process.
    unsafe { start.write_volatile(1) };
    drop((segment, owned, receiver));
    println!("the store went through");
}

#[test]
fn seat_bytes_are_held_by_the_living_also_by_the_stopped_and_freed_by_death() {
    let sandbox = Sandbox::new();
    let (mut copy, receivers) = caught(&sandbox, 3);
    let locks = ByteLocks::open(File::open(object(copy.pid(), CONTROL)).unwrap()).unwrap();
    for seat in 0..3 {
        assert!(locks.is_held(seat), "seat {seat}");
        assert_eq!(locks.try_lock(seat), Ok(false));
    }
    assert!(!locks.is_held(3), "a free seat");
    for &pid in &receivers {
        signal(pid, Signal::STOP);
        until(SOON, "it is stopped", || is_stopped(pid));
    }
    for seat in 0..3 {
        assert!(locks.is_held(seat), "a stopped process is alive, seat {seat}");
    }
    signal(receivers[1], Signal::KILL);
    until(SOON, "its byte is free", || !locks.is_held(1));
    assert!(locks.is_held(0) && locks.is_held(2));
    for &pid in &receivers {
        signal(pid, Signal::CONT);
    }
    copy.close_stdin();
    copy.end(LIMIT).has_code(4);
    until(SOON, "all bytes are free", || (0..3).all(|seat| !locks.is_held(seat)));
}

#[test]
fn a_lock_belongs_to_the_description_not_the_process() {
    let (segment, _owned) = Segment::create(Geometry::new(8192, 4).unwrap()).unwrap();
    let (mine, other) = (segment.byte_locks().unwrap(), segment.byte_locks().unwrap());
    assert_eq!(mine.try_lock(2), Ok(true));
    assert!(other.is_held(2) && !mine.is_held(2), "a process does not see its own lock as held by another");
    assert_eq!(
        (other.try_lock(2), other.try_lock(1), other.try_lock(OWNER)),
        (Ok(false), Ok(true), Ok(true))
    );
    drop(segment.byte_locks()); // closing another description drops nothing
    assert!(other.is_held(2));
    mine.unlock(2);
    assert!(!other.is_held(2));
    drop(other);
    assert!(!mine.is_held(1) && !mine.is_held(OWNER));
}

#[test]
fn nothing_of_a_segment_stays_when_it_is_dropped() {
    let me = std::process::id() as i32;
    let size = 4 << 20; // a size that only this test uses
    let count = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let objects = descriptors.filter(|fd| {
            fs::metadata(fd.path()).is_ok_and(|file| file.len() > size as u64 && file.len() < 2 * size as u64)
        });
        let maps = mappings(me, DATA);
        (
            objects.count(),
            maps.iter().filter(|(_, from, to)| to - from > size && to - from < 2 * size).count(),
        )
    };
    let (segment, owned) = Segment::create(Geometry::new(size as u64, 1).unwrap()).unwrap();
    let receiver = segment.attach(Owner::ThisProcess).unwrap();
    assert_eq!(count(), (1, 2));
    drop((segment, owned, receiver));
    assert_eq!(count(), (0, 0));
}

#[test]
fn a_segment_is_owned_once() {
    let geometry = Geometry::new(8192, 1).unwrap();
    let segment = Segment::reserve(geometry).unwrap();
    assert!(segment.attach(Owner::ThisProcess).is_err(), "there is no ring in it yet");
    let _owned = segment.own(geometry).unwrap();
    assert!(segment.attach(Owner::ThisProcess).is_ok());
    assert!(segment.own(geometry).is_err());
}
