//! `shell copy`.

use crate::ui::terminal::When;
use crate::ui::units::{parse_size, parse_whole};
use clap::ArgGroup;
use std::ffi::OsString;
use std::path::PathBuf;
use whorl::internal::transfer::{MAX_PEERS, Template};

/// Copy one file or stream to many processes, each writing a file of its own.
#[derive(clap::Args, Debug)]
#[command(
    group = ArgGroup::new("transport"),
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = concat!(
        "Examples:\n",
        "  shell copy -n 16 bigfile                 to 16, into received-files/\n",
        "  shell copy --socket -n 4 -d out bigfile  through unix sockets, into out/\n",
        "  tar c src | shell copy -n 2 --verify -   a stream, read back and compared\n",
        "  shell copy -n 3 --name '{name}.{peer}' f names them f.01, f.02 and f.03\n",
        "\n",
        "A file gets its name when it is complete. It replaces an existing file of that\n",
        "name, except a FIFO, a device, a socket or a link to an open descriptor.\n",
        "\n",
        "Set-user-ID and set-group-ID bits and file capabilities are never copied.\n",
        "\n",
        "Exit codes: 0 every receiver has everything; 1 the source or every receiver\n",
        "failed, or --preserve was refused; 2 usage error; 4 some receivers failed or\n",
        "were lost; 5 a checksum does not match. If a signal stops it, it removes\n",
        "incomplete files and dies of that signal."
    )
)]
pub struct Args {
    /// Use a ring in shared memory (default)
    #[arg(long, group = "transport")]
    pub shm: bool,

    /// Use a unix socket for each receiver
    #[arg(long, group = "transport")]
    pub socket: bool,

    /// The number of receivers, 1 to 1000
    #[arg(short = 'n', long, value_name = "N", value_parser = peers, allow_hyphen_values = true)]
    pub peers: u32,

    /// The file to copy; - is standard input
    #[arg(value_name = "FILE")]
    pub source: PathBuf,

    /// The directory for the copies
    ///
    /// It is created if it does not exist.
    #[arg(short, long = "dir", value_name = "DIR", default_value = "received-files")]
    pub directory: PathBuf,

    /// The names of the copies
    ///
    /// The text may hold {peer} (the receiver's number: 01, 02, ...), {pid} (its process id) and {name} (the source's
    /// name, or stdin). With several receivers it must hold {peer} or {pid}.
    #[arg(long, value_name = "TEMPLATE", default_value = Template::DEFAULT)]
    pub name: OsString,

    /// Block size, 512 to 64M; 1K is 1024 [default: 80K]
    ///
    /// At most half of the ring.
    #[arg(long, value_name = "SIZE", value_parser = block, allow_hyphen_values = true)]
    pub block: Option<u32>,

    /// Size of the ring, 4K to 8G
    ///
    /// It is rounded up to a power of two.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = ring, conflicts_with = "socket", allow_hyphen_values = true)]
    pub ring: u64,

    /// Read every file back and compare checksums
    #[arg(long)]
    pub verify: bool,

    /// Return only when the files are on the disk
    ///
    /// If the file system cannot sync the directory, a warning says so.
    #[arg(long)]
    pub fsync: bool,

    /// Keep the source's times and extended attributes
    ///
    /// Security attributes (file capabilities, labels) are not copied. If the file system refuses an attribute, a
    /// warning says so, the copies stay, and the exit code is 1.
    #[arg(long)]
    pub preserve: bool,

    /// Do not replace existing files
    ///
    /// It fails on a file system that cannot name a file without replacing an existing one.
    #[arg(long)]
    pub no_clobber: bool,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Show progress: auto, always, never
    ///
    /// With auto, progress is shown if standard error is a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", hide_possible_values = true)]
    pub progress: When,

    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

fn peers(text: &str) -> Result<u32, String> {
    parse_whole(text, 1..=MAX_PEERS.into())
        .map(|peers| peers as u32)
        .ok_or_else(|| format!("it must be a whole number from 1 to {MAX_PEERS}"))
}

/// Reads the size of a block.
pub(super) fn block(text: &str) -> Result<u32, String> {
    match parse_size(text)? {
        size @ 512..=0x400_0000 => Ok(size as u32),
        _ => Err("a block has from 512 bytes to 64 MiB".into()),
    }
}

/// Reads the size of a ring, and rounds it up.
pub(super) fn ring(text: &str) -> Result<u64, String> {
    const LIMITS: &str = "a ring has from 4 KiB to 8 GiB";
    match parse_size(text).map_err(|why| format!("{why}; {LIMITS}"))? {
        size @ 0x1000..=0x2_0000_0000 => Ok(size.next_power_of_two()),
        _ => Err(LIMITS.into()),
    }
}

/// Returns the size of a block, or why the ring is too small for it. Sockets need no ring.
pub fn block_in(ring: Option<u64>, block: Option<u32>) -> Result<u32, String> {
    let most = ring.map_or(u64::MAX, |ring| ring / 2 - 8);
    match block {
        Some(block) if u64::from(block) > most => Err(format!(
            "--block {block}: a ring of {} bytes takes blocks of at most {most}",
            ring.unwrap_or(0)
        )),
        Some(block) => Ok(block),
        None => Ok(most.min(DEFAULT_BLOCK.into()) as u32),
    }
}

/// Bytes of a block by default.
const DEFAULT_BLOCK: u32 = 80 << 10;
