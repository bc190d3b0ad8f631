//! `shell dipc`, `shell dipcrm`.

use crate::ui::candidates::ports;
use crate::ui::units::{parse_duration, parse_whole};
use clap_complete::ArgValueCandidates;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use whorl::mailbox_server::address::parse_ip;

/// Serve mailboxes over TCP, in the background.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "", // -h is to fit a screen; the examples are --help's
    after_long_help = concat!(
        "Examples:\n",
        "  shell dipc 8 64 9000 4   8 mailboxes of 64 KiB at port 9000, packets of 4 KiB\n",
        "  shell dipc 1 1024 0 64   one of 1 MiB; a free port is picked and printed\n",
        "  shell dipc 8 64 9000 4 --bind 0.0.0.0 --token-file t\n",
        "                           for other machines, who must know the token\n",
        "\n",
        "Then, by hand: nc localhost 9000, and type: w 3 (Enter) hello (Enter)\n",
        "r 3 (Enter) q (Enter). It returns when the server listens; 'shell dipcrm PORT'\n",
        "stops it. A mailbox holds the latest message, of at most SIZE; a longer message\n",
        "than PACKET travels in several packets. WHORL_LOG says how much is logged: off,\n",
        "error, warn, info, or debug, with a line for each connection.\n",
        "\n",
        "Exit codes: 0 the server listens; 1 it cannot, for instance because the port is\n",
        "in use; 2 used wrongly."
    )
)]
pub struct Args {
    /// How many mailboxes, 1 to 1048576
    #[arg(value_name = "K", value_parser = boxes, allow_negative_numbers = true)]
    pub boxes: u32,

    /// What one holds, in KiB, 1 to 2097152
    #[arg(value_name = "SIZE", value_parser = kibibytes, allow_negative_numbers = true)]
    pub size: u32,

    /// The port, 1 to 65535; 0 picks a free one and prints it
    #[arg(value_name = "PORT", value_parser = port_or_any, allow_negative_numbers = true)]
    pub port: u16,

    /// The most data in one packet, in KiB, 1 to 2097152
    #[arg(value_name = "PACKET", value_parser = kibibytes, allow_negative_numbers = true)]
    pub packet: u32,

    /// Do not go to the background
    #[arg(long)]
    pub foreground: bool,

    /// Where to listen; 127.0.0.1 and ::1 if absent
    ///
    /// Other addresses than loopback need --token-file or --insecure.
    #[arg(long, value_name = "ADDR", value_parser = ip)]
    pub bind: Option<IpAddr>,

    /// Serve on this unix socket too, for this user alone
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// Ask clients for the token in this file
    ///
    /// They send it in a first line, a TOKEN, within 10 s. Clients that have not sent
    /// it take at most half of the places; the oldest of them makes room for the next.
    /// Other users must not be able to read the file. Its group may, if root owns the
    /// file or it is mounted read-only, as secrets of containers are. A pipe works too:
    /// <(command).
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Serve other machines without asking for a token
    #[arg(long)]
    pub insecure: bool,

    /// Serve every user of this machine, not only you and root
    ///
    /// With --token-file or --insecure it does so anyway.
    #[arg(long)]
    pub any_user: bool,

    /// Close what is idle for so long: 30s, 5m, 2h
    #[arg(long, value_name = "D", value_parser = parse_duration, allow_hyphen_values = true)]
    pub idle: Option<Duration>,

    /// How many clients at a time
    ///
    /// As many as descriptors allow if absent. One client more gets the line 'bye busy'.
    #[arg(long, value_name = "N", value_parser = connections, allow_hyphen_values = true)]
    pub max_connections: Option<usize>,

    /// How many threads serve, 1 to 64
    ///
    /// One for each processor, up to 8, if absent.
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true)]
    pub workers: Option<usize>,

    /// Where the server logs
    ///
    /// A file in the runtime directory if absent; with --foreground, stderr.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Log JSON objects, one in each line
    #[arg(long)]
    pub log_json: bool,
}

/// Stop a mailbox server, and clear away what a dead one left.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell dipcrm 9000",
    after_long_help = concat!(
        "Example: shell dipcrm 9000\n",
        "\n",
        "Returns when the server is gone. Clients get 1.5 s to finish their requests.\n",
        "\n",
        "Exit codes: 0 it is gone, or was dead already; 1 it does not go; 2 used wrongly;\n",
        "3 there is no mailbox server of this user on that port."
    )
)]
pub struct RemoveArgs {
    /// Its port
    #[arg(value_name = "PORT", value_parser = port, allow_negative_numbers = true, add = ArgValueCandidates::new(ports))]
    pub port: u16,

    /// Kill it if it does not go within 5 s
    #[arg(long)]
    pub force: bool,
}

fn whole(text: &str, least: u64, most: u64, what: &str) -> Result<u64, String> {
    parse_whole(text, least..=most)
        .ok_or_else(|| format!("it must be a whole number from {least} to {most}{what}"))
}

fn boxes(text: &str) -> Result<u32, String> {
    whole(text, 1, 1 << 20, "").map(|number| number as u32)
}

fn kibibytes(text: &str) -> Result<u32, String> {
    whole(text, 1, 1 << 21, " (KiB)").map(|number| number as u32)
}

/// A port that can be named.
pub fn port(text: &str) -> Result<u16, String> {
    whole(text, 1, 65535, "").map(|number| number as u16)
}

/// An address to listen at, also as a server prints it.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    parse_ip(text).ok_or_else(|| "it must be an IP address without a port, as 127.0.0.1 or [::1]".into())
}

fn port_or_any(text: &str) -> Result<u16, String> {
    whole(text, 0, 65535, ", and 0 picks a free one").map(|number| number as u16)
}

fn connections(text: &str) -> Result<usize, String> {
    whole(text, 1, 1 << 20, "").map(|number| number as usize)
}

fn workers(text: &str) -> Result<usize, String> {
    whole(text, 1, 64, "").map(|number| number as usize)
}
