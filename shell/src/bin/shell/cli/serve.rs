//! `shell serve`.

use super::name;
use crate::ui::units::{parse_duration, parse_whole};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use whorl::Name;

/// Announce a server in a directory, and give each client two messages.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = "\
The file DIR/NAME.server holds the server's address, port, channel and id, one
in each line. It exists while the server runs. A file that a killed server left
is replaced.

Examples:
  shell serve one --dir servers --socket-message hi --shm-message ho
  shell serve two --dir /shared --bind --for 10m    for other machines too

On loopback it serves only you and root, unless --any-user is given. With --bind
to another address it serves every client that reaches it.

Exit codes: 0 served; 1 failed, or the name is in use; 2 usage error. If a
signal stops it, it removes the file and dies of that signal."
)]
pub struct Args {
    /// The server's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: Name,

    /// The directory of announcements; created if missing
    #[arg(short, long = "dir", value_name = "DIR")]
    pub directory: PathBuf,

    /// The message over TCP, at most 1 MiB; empty by default
    #[arg(long, value_name = "MESSAGE", default_value = "", hide_default_value = true)]
    pub socket_message: OsString,

    /// The message through shared memory, at most 1 MiB
    #[arg(long, value_name = "MESSAGE", default_value = "", hide_default_value = true)]
    pub shm_message: OsString,

    /// End after N clients; without limit by default
    #[arg(long, value_name = "N", value_parser = clients, allow_hyphen_values = true)]
    pub clients: Option<u64>,

    /// End after this time: 500ms, 10s, 2m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub time: Option<Duration>,

    /// Listen at every address of this machine, or at ADDRESS
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "0.0.0.0", value_parser = super::dipc::ip)]
    pub bind: Option<IpAddr>,

    /// Serve every user of this machine, not only you and root
    ///
    /// With --bind to an address other than loopback it serves every client that reaches it.
    #[arg(long, hide_short_help = true)]
    pub any_user: bool,

    /// The file for the log; standard error by default
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub log_file: Option<PathBuf>,

    /// Log JSON objects, one in each line
    #[arg(long, hide_short_help = true)]
    pub log_json: bool,

    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

fn clients(text: &str) -> Result<u64, String> {
    parse_whole(text, 1..=u64::MAX).ok_or_else(|| format!("it must be a whole number from 1 to {}", u64::MAX))
}
