//! `shell dipc`, `shell dipcrm`.

use crate::ui::candidates::ports;
use crate::ui::units::{parse_duration, parse_whole};
use clap_complete::ArgValueCandidates;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use whorl::internal::mailbox_server::address::parse_ip;

/// Serve mailboxes over TCP, in the background.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = concat!(
        "Examples:\n",
        "  shell dipc 8 64 9000 4   8 mailboxes of 64 KiB at port 9000, packets of 4 KiB\n",
        "  shell dipc 1 1024 0 64   one of 1 MiB; it picks a free port and prints it\n",
        "  shell dipc 8 64 9000 4 --bind 0.0.0.0 --token-file t\n",
        "                           for other machines, which must send the token\n",
        "\n",
        "Then, by hand: nc localhost 9000, and type: w 3 (Enter) hello (Enter)\n",
        "r 3 (Enter) q (Enter). The command returns when the server listens; 'shell\n",
        "dipcrm PORT' stops it. A mailbox holds the latest message, of at most SIZE. A\n",
        "message longer than PACKET travels in several packets. With PACKET as large as\n",
        "SIZE or larger, every message travels in one. The variable WHORL_LOG sets the\n",
        "log level: off, error, warn, info, or debug with a line for each connection.\n",
        "\n",
        "Exit codes: 0 the server listens; 1 it cannot listen, for instance because the\n",
        "port is in use; 2 usage error."
    )
)]
pub struct Args {
    /// The number of mailboxes, 1 to 1048576
    #[arg(value_name = "K", value_parser = boxes, allow_negative_numbers = true)]
    pub boxes: u32,

    /// The size of a mailbox in KiB, 1 to 2097152
    #[arg(value_name = "SIZE", value_parser = kibibytes, allow_negative_numbers = true)]
    pub size: u32,

    /// The port, 1 to 65535; 0 picks a free one
    #[arg(value_name = "PORT", value_parser = port_or_any, allow_negative_numbers = true)]
    pub port: u16,

    /// The most data in a packet in KiB, 1 to 2097152
    #[arg(value_name = "PACKET", value_parser = kibibytes, allow_negative_numbers = true)]
    pub packet: u32,

    /// Stay in the foreground
    #[arg(long)]
    pub foreground: bool,

    /// The address; 127.0.0.1 and ::1 by default
    ///
    /// An address other than loopback needs --token-file or --insecure.
    #[arg(long, value_name = "ADDR", value_parser = ip)]
    pub bind: Option<IpAddr>,

    /// Also listen on this unix socket, only for this user
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// Serve only clients that send the token in this file
    ///
    /// A client sends it within 10 s, in a first line: a TOKEN. Clients that have not
    /// sent it take at most half of the connections; the oldest of them is closed for
    /// the next. Other users must not be able to read the file. Its group may, if root
    /// owns the file or it is mounted read-only, as secrets of containers are. A pipe
    /// works too: <(command).
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Serve other machines without a token
    #[arg(long)]
    pub insecure: bool,

    /// Serve every user of this machine, not only you and root
    ///
    /// --token-file and --insecure include it.
    #[arg(long)]
    pub any_user: bool,

    /// Close a connection that is idle this long: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    pub idle: Option<Duration>,

    /// The most clients at a time, 1 to 1048576
    ///
    /// By default as many as the limit of open files allows. A further client gets the line 'bye busy'.
    #[arg(long, value_name = "N", value_parser = connections, allow_hyphen_values = true)]
    pub max_connections: Option<usize>,

    /// The number of worker threads, 1 to 64
    ///
    /// By default one for each processor, up to 8.
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true)]
    pub workers: Option<usize>,

    /// The file for the log
    ///
    /// By default a file in the runtime directory; with --foreground, standard error.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Log JSON objects, one in each line
    #[arg(long)]
    pub log_json: bool,
}

/// Stop a mailbox server, or remove what a dead one left.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell dipcrm 9000",
    after_long_help = concat!(
        "Example: shell dipcrm 9000\n",
        "\n",
        "It returns when the server has ended. Clients get 1.5 s to finish their\n",
        "requests.\n",
        "\n",
        "Exit codes: 0 the server has ended, or was dead; 1 it does not end; 2 usage\n",
        "error; 3 there is no mailbox server owned by you on that port."
    )
)]
pub struct RemoveArgs {
    /// The server's port
    #[arg(value_name = "PORT", value_parser = port, allow_negative_numbers = true, add = ArgValueCandidates::new(ports))]
    pub port: u16,

    /// Kill the server if it does not end within 5 s
    #[arg(long)]
    pub force: bool,
}

fn number(text: &str, least: u64, most: u64, what: &str) -> Result<u64, String> {
    parse_whole(text, least..=most)
        .ok_or_else(|| format!("it must be a whole number from {least} to {most}{what}"))
}

fn boxes(text: &str) -> Result<u32, String> {
    number(text, 1, 1 << 20, "").map(|number| number as u32)
}

fn kibibytes(text: &str) -> Result<u32, String> {
    number(text, 1, 1 << 21, " (KiB)").map(|number| number as u32)
}

/// Reads a port of a running server.
pub fn port(text: &str) -> Result<u16, String> {
    number(text, 1, 65535, "").map(|number| number as u16)
}

/// Reads an address to listen at, also in the form that a server prints.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    parse_ip(text).ok_or_else(|| "it must be an IP address without a port, such as 127.0.0.1 or [::1]".into())
}

fn port_or_any(text: &str) -> Result<u16, String> {
    number(text, 0, 65535, ", and 0 picks a free one").map(|number| number as u16)
}

fn connections(text: &str) -> Result<usize, String> {
    number(text, 1, 1 << 20, "").map(|number| number as usize)
}

fn workers(text: &str) -> Result<usize, String> {
    number(text, 1, 64, "").map(|number| number as usize)
}
