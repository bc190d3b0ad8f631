//! `shell copy`.

use crate::ui::terminal::When;
use crate::ui::units::{parse_size, parse_whole};
use clap::ArgGroup;
use std::ffi::OsString;
use std::path::PathBuf;
use whorl::transfer::{MAX_PEERS, Template};

/// Copy one file or stream to many processes, each writing a file of its own.
#[derive(clap::Args, Debug)]
#[command(
    group = ArgGroup::new("transport"),
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = concat!(
        "Examples:\n",
        "  shell copy -n 16 bigfile                 to 16, into received-files/\n",
        "  shell copy --socket -n 4 -d out bigfile  through unix sockets, into out/\n",
        "  tar c src | shell copy -n 2 --verify -   a stream, checked at the other end\n",
        "  shell copy -n 3 --name '{name}.{peer}' f names them f.01, f.02 and f.03\n",
        "\n",
        "A file gets its name only once it is complete; what had that name is replaced,\n",
        "unless it is a FIFO, a device, a socket or leads to an open descriptor.\n",
        "\n",
        "Set-user-ID and set-group-ID bits and file capabilities are never copied.\n",
        "\n",
        "Exit codes: 0 every peer has everything; 1 the source failed, every peer did, or\n",
        "--preserve was refused; 2 used wrongly; 4 some peers failed or were lost; 5 a\n",
        "checksum does not match. Stopped by a signal, it dies of it."
    )
)]
pub struct Args {
    /// Use a ring in shared memory (the default)
    #[arg(long, group = "transport")]
    pub shm: bool,

    /// Use a unix socket for each peer
    #[arg(long, group = "transport")]
    pub socket: bool,

    /// How many processes receive, 1 to 1000
    #[arg(short = 'n', long, value_name = "N", value_parser = peers, allow_hyphen_values = true)]
    pub peers: u32,

    /// What to copy; - is the standard input
    #[arg(value_name = "FILE")]
    pub source: PathBuf,

    /// Where to put the copies
    ///
    /// Made if it does not exist.
    #[arg(short, long, value_name = "DIR", default_value = "received-files")]
    pub directory: PathBuf,

    /// How the copies are named
    ///
    /// Text with {peer} (01, 02, ...), {pid} (of the receiving process) and {name} (of the source; a stream's is stdin).
    /// Several peers need {peer} or {pid}.
    #[arg(long, value_name = "TEMPLATE", default_value = Template::DEFAULT)]
    pub name: OsString,

    /// Bytes in one block, 512 to 64M
    #[arg(long, value_name = "SIZE", default_value = "80K", value_parser = block, allow_hyphen_values = true)]
    pub block: u32,

    /// Blocks under way, a power of two
    #[arg(long, value_name = "SLOTS", default_value = "8", value_parser = slots, allow_hyphen_values = true)]
    pub slots: u32,

    /// Read every file back and compare checksums
    #[arg(long)]
    pub verify: bool,

    /// Return only when the files are on the disk
    ///
    /// A warning says so where the file system cannot do that for the directory they are in.
    #[arg(long)]
    pub fsync: bool,

    /// Keep the source's times and extended attributes
    ///
    /// Attributes of the kind security (file capabilities, labels) are not copied. What the file system refuses is said
    /// in a warning: the copies stay, and the exit code is 1.
    #[arg(long)]
    pub preserve: bool,

    /// Do not replace existing files
    ///
    /// Refused where the file system can give a file its name only by replacing one that has it.
    #[arg(long)]
    pub no_clobber: bool,

    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Show progress: auto, always, never
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", hide_possible_values = true)]
    pub progress: When,

    /// Say nothing but errors
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

/// Reads a number of slots.
pub(super) fn slots(text: &str) -> Result<u32, String> {
    parse_whole(text, 1..=1 << 20)
        .filter(|slots| slots.is_power_of_two())
        .map(|slots| slots as u32)
        .ok_or_else(|| "it must be a power of two from 1 to 1048576".into())
}
