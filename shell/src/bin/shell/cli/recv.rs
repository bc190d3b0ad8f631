//! `shell recv`.

use super::name;
use crate::ui::candidates::channels;
use crate::ui::units::parse_duration;
use clap::ValueEnum;
use clap_complete::ArgValueCandidates;
use std::path::PathBuf;
use std::time::Duration;
use whorl::{Name, Start};

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum From {
    /// At the first byte
    First,
    /// At whatever is sent next
    Now,
}

impl From {
    /// The same, for the library.
    pub fn start(self) -> Start {
        match self {
            Self::First => Start::First,
            Self::Now => Start::Now,
        }
    }
}

/// Receive what somebody sends under a name.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell recv src | tar x     and elsewhere: tar c src | shell send src",
    after_long_help = concat!(
        "Examples:\n",
        "  shell recv hello            waits for 'shell send hello', prints what it sends\n",
        "  shell recv x copy.bin       a file, named only once it is complete\n",
        "  shell recv x --from now     joins under way, at whatever is sent next\n",
        "\n",
        "Exit codes: 0 everything arrived, or the reader of the output had enough;\n",
        "1 failed, or the beginning was missed; 2 used wrongly; 4 the sender died,\n",
        "threw us out, or the time was up; 5 what arrived is not what the sender says it\n",
        "sent. Stopped by a signal, it dies of it."
    )
)]
pub struct Args {
    /// The sender's name
    #[arg(value_name = "NAME", value_parser = name, add = ArgValueCandidates::new(channels))]
    pub name: Name,

    /// Where to put it; - is the standard output
    ///
    /// A file gets its name once it is complete; what had the name is replaced. A FIFO, a device and an open descriptor
    /// (/dev/stdout, /dev/fd/3) are written as the data arrives. What another user put into a directory that others may
    /// write, such as /tmp, is refused.
    #[arg(value_name = "FILE", default_value = "-")]
    pub target: PathBuf,

    /// Where in the stream to begin
    #[arg(long, value_name = "WHERE", value_enum, default_value = "first")]
    pub from: From,

    /// Give up after waiting so long for the sender: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,

    /// Insist on the sender's checksum; a file is compared whenever there is one
    #[arg(long)]
    pub verify: bool,

    /// Return only when the file is on the disk
    ///
    /// A warning says so where the file system cannot do that for the directory it is in.
    #[arg(long)]
    pub fsync: bool,

    /// Do not replace an existing file
    ///
    /// Refused where the file system can give a file its name only by replacing one that has it.
    #[arg(long)]
    pub no_clobber: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}
