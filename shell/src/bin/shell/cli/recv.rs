//! `shell recv`.

use super::name;
use crate::ui::candidates::channels;
use crate::ui::units::parse_duration;
use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use std::path::PathBuf;
use std::time::Duration;
use whorl::{Name, Start};

/// Where in the stream a receiver begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum From {
    /// At the first byte
    First,
    /// At the next byte that is sent
    Now,
}

impl From {
    /// Converts it to the library's type.
    pub fn start(self) -> Start {
        match self {
            Self::First => Start::First,
            Self::Now => Start::Now,
        }
    }
}

/// Receive a stream that a process sends under a name.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell recv src | tar x     and elsewhere: tar c src | shell send src",
    after_long_help = concat!(
        "Examples:\n",
        "  shell recv hello            waits for 'shell send hello' and prints its data\n",
        "  shell recv x copy.bin       a file, named when it is complete\n",
        "  shell recv x --from now     joins a running stream at the next byte\n",
        "\n",
        "Exit codes: 0 everything arrived, or the reader of the output closed it; 1\n",
        "failed, or the first bytes are gone; 2 usage error; 4 the sender died or evicted\n",
        "this receiver, or --timeout passed; 5 the data differ from what the sender sent.\n",
        "If a signal stops it, it dies of that signal."
    )
)]
pub struct Args {
    /// The sender's name
    #[arg(value_name = "NAME", value_parser = name, add = ArgValueCandidates::new(channels))]
    pub name: Name,

    /// The file to write; - is standard output
    ///
    /// A file gets its name when it is complete, and replaces an existing file of that name. A FIFO, a device or an open
    /// descriptor (/dev/stdout, /dev/fd/3) is written as the data arrive. A file that another user put into a directory
    /// that others may write, such as /tmp, is refused.
    #[arg(value_name = "FILE", default_value = "-")]
    pub target: PathBuf,

    /// Where in the stream to begin
    #[arg(long, value_name = "WHERE", value_enum, default_value = "first")]
    pub from: From,

    /// Give up if the sender does not come, or sends nothing, this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,

    /// Fail if the sender sends no checksum; a checksum is always compared
    #[arg(long)]
    pub verify: bool,

    /// Return only when the file is on the disk
    ///
    /// If the file system cannot sync the directory, a warning says so.
    #[arg(long)]
    pub fsync: bool,

    /// Do not replace an existing file
    ///
    /// It fails on a file system that cannot name a file without replacing an existing one.
    #[arg(long)]
    pub no_clobber: bool,

    /// Print the result as one JSON object; needs a FILE
    #[arg(long)]
    pub json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}
