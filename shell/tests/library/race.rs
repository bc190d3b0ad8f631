//! A race: one thread changes what some names lead to, as fast as it can, while another thread uses them. It takes no
//! lock, and plants objects that would do harm if they were followed.

use crate::kit::{noise, short_or_long};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An object that a name can be made to lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    Nothing,
    LinkToFile,
    LinkToDirectory,
    LinkToSocket,
    /// A link to a name outside that is free.
    LinkToNothing,
    File,
    Directory,
    /// A socket that no process listens on.
    Socket,
    /// A fifo that has a reader, so that no writer waits for one.
    Fifo,
}

pub const PLANTS: [Plant; 9] = [
    Plant::Nothing,
    Plant::LinkToFile,
    Plant::LinkToDirectory,
    Plant::LinkToSocket,
    Plant::LinkToNothing,
    Plant::File,
    Plant::Directory,
    Plant::Socket,
    Plant::Fifo,
];

/// Objects that must stay untouched. The planted links lead to them.
pub struct Outside {
    directory: PathBuf,
    listener: OwnedFd,
    /// The directory in which objects are made before they get their names.
    workshop: PathBuf,
    fifo: OwnedFd,
    before: BTreeMap<PathBuf, String>,
}

impl Outside {
    pub fn new(root: &Path) -> Self {
        let (directory, workshop) = (root.join("outside"), root.join("workshop"));
        fs::create_dir(&directory).expect("a directory");
        fs::create_dir(&workshop).expect("a directory");
        fs::write(directory.join("file"), noise(4096, 7)).expect("a file");
        fs::create_dir(directory.join("directory")).expect("a directory");
        fs::write(directory.join("directory/file"), "text").expect("a file");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let listener = listener.expect("a socket");
        let address = SocketAddrUnix::new(directory.join("socket")).expect("a short path");
        rustix::net::bind(&listener, &address).expect("a free name");
        rustix::net::listen(&listener, 4).expect("it listens");
        let fifo = workshop.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a fifo");
        let fifo = rustix::fs::open(&fifo, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let fifo = fifo.expect("a fifo");
        let mut outside = Self { directory, listener, workshop, fifo, before: BTreeMap::new() };
        outside.before = outside.state();
        outside
    }

    /// A description of everything that a change would show in.
    fn state(&self) -> BTreeMap<PathBuf, String> {
        let mut state = BTreeMap::new();
        for at in [".", "file", "directory", "directory/file", "socket"] {
            let path = self.directory.join(at);
            let said = path.symlink_metadata().map(|file| {
                let names = fs::read_dir(&path).map(Iterator::count).ok();
                let content = fs::read(&path).ok();
                let times = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
                format!("{} {:o} {} {names:?} {times:?} {content:02x?}", file.ino(), file.mode(), file.size())
            });
            state.insert(path, said.unwrap_or_else(|error| error.to_string()));
        }
        state
    }

    /// Asserts that nothing there was changed, and that no process connected to the socket.
    #[track_caller]
    pub fn is_untouched(&self) {
        assert_eq!(self.state(), self.before, "something outside was changed");
        let came = rustix::net::accept(&self.listener).map(drop);
        assert_eq!(came, Err(Errno::AGAIN), "a process connected to the socket outside");
    }

    /// Reads what was written into the fifo, so that it does not fill.
    pub fn drain(&self) {
        while rustix::io::read(&self.fifo, &mut [0; 1 << 16]).is_ok() {}
    }

    /// Makes a name lead to another object, in one step if it exists. Returns false if another call came first.
    fn swap(&self, at: &Path, plant: Plant) -> bool {
        let fresh = self.workshop.join("fresh");
        let outside = |name: &str| symlink(self.directory.join(name), &fresh).expect("a link");
        let node = |kind| {
            rustix::fs::mknodat(CWD, &fresh, kind, Mode::RUSR | Mode::WUSR, 0).expect("a node");
        };
        match plant {
            Plant::Nothing => {}
            Plant::LinkToFile => outside("file"),
            Plant::LinkToDirectory => outside("directory"),
            Plant::LinkToSocket => outside("socket"),
            Plant::LinkToNothing => outside("free"),
            Plant::File => fs::write(&fresh, "planted").expect("a file"),
            Plant::Directory => fs::create_dir(&fresh).expect("a directory"),
            Plant::Socket => node(FileType::Socket),
            Plant::Fifo => fs::hard_link(self.workshop.join("fifo"), &fresh).expect("a second name"),
        }
        let swapped = match plant {
            Plant::Nothing => rustix::fs::renameat(CWD, at, CWD, &fresh),
            _ => match rustix::fs::renameat_with(CWD, &fresh, CWD, at, RenameFlags::EXCHANGE) {
                Err(Errno::NOENT) => rustix::fs::renameat_with(CWD, &fresh, CWD, at, RenameFlags::NOREPLACE),
                other => other,
            },
        };
        if rustix::fs::unlink(&fresh) == Err(Errno::ISDIR) {
            let _ = rustix::fs::unlinkat(CWD, &fresh, AtFlags::REMOVEDIR);
        }
        swapped.is_ok()
    }
}

/// The least number of swaps and of calls, and the least time.
fn enough() -> (u64, u64, Duration) {
    short_or_long((1000, 20, Duration::from_millis(200)), (100_000, 10_000, Duration::from_secs(30)))
}

/// Swaps what `names` lead to while another thread repeats `call`. `call` gets the number of earlier calls, and returns
/// in a word how it went. At the end the names are removed.
#[track_caller]
pub fn race(
    what: &str,
    outside: &Arc<Outside>,
    names: &[PathBuf],
    plants: &[Plant],
    mut call: impl FnMut(u64) -> String + Send + 'static,
) {
    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let swaps = Arc::new(AtomicU64::new(0));
    let caller = std::thread::spawn({
        let (over, calls) = (over.clone(), calls.clone());
        move || {
            let mut outcomes = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                *outcomes.entry(call(calls.load(Ordering::Relaxed))).or_insert(0) += 1;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            outcomes
        }
    });
    let racer = std::thread::spawn({
        let (outside, over, swaps) = (outside.clone(), over.clone(), swaps.clone());
        let (names, plants) = (names.to_owned(), plants.to_owned());
        move || {
            let mut dice = 0x2545_f491_4f6c_dd1d_u64;
            while !over.load(Ordering::Relaxed) {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let name = &names[dice as usize % names.len()];
                let plant = plants[(dice >> 32) as usize % plants.len()];
                swaps.fetch_add(u64::from(outside.swap(name, plant)), Ordering::Relaxed);
            }
            names.iter().for_each(|name| _ = outside.swap(name, Plant::Nothing));
        }
    });
    let (least_swaps, least_calls, least_time) = enough();
    let begun = Instant::now();
    // Patience counts looks, not time, because a machine that stands still for a while has not hung.
    let (mut looks, mut before) = (0, 0);
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let (called, swapped) = (calls.load(Ordering::Relaxed), swaps.load(Ordering::Relaxed));
        looks = if called == before { looks + 1 } else { 0 };
        before = called;
        assert!(looks < 6000, "{what}: a call does not end, the {called}th");
        let done = called >= least_calls && swapped >= least_swaps && begun.elapsed() >= least_time;
        if done || caller.is_finished() || racer.is_finished() {
            break;
        }
    }
    over.store(true, Ordering::Relaxed);
    let outcomes = caller.join().unwrap_or_else(|_| panic!("{what}: a call went wrong, see above"));
    racer.join().unwrap_or_else(|_| panic!("{what}: the swapping went wrong, see above"));
    let (calls, swaps) = (calls.load(Ordering::Relaxed), swaps.load(Ordering::Relaxed));
    eprintln!("{what}: {swaps} swaps beside {calls} calls, in {:?}", begun.elapsed());
    outcomes.iter().for_each(|(outcome, count)| eprintln!("  {count:>6} {outcome}"));
    outside.is_untouched();
}

/// Describes in a line how a call went. An error must be readable.
pub fn outcome<T, E: std::fmt::Display>(what: &str, result: Result<T, E>) -> String {
    let Err(error) = result else { return format!("{what}: done") };
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "no line: {text:?}");
    assert!(!text.contains("os error") && !text.contains("symbolic links"), "no sentence: {text}");
    // Without its paths, so that equal errors count as equal.
    let words = text.split(' ').map(|word| if word.contains('/') { "PATH" } else { word });
    format!("{what}: {}", words.collect::<Vec<_>>().join(" "))
}
