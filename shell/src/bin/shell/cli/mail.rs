//! `shell mail`.

use crate::ui::candidates::ports;
use crate::ui::units::{parse_duration, parse_whole};
use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use whorl::internal::mailbox_server::address::HostPort;

/// The exit codes of every action.
macro_rules! exits {
    () => {
        concat!(
            "Exit codes: 0 done; 1 the server refused or closed the connection, or a stream\n",
            "failed; 2 usage error; 3 no server listens there; 4 the server does not answer\n",
            "within --timeout."
        )
    };
}

/// Read and write mailboxes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell mail read 3",
    after_long_help = concat!(
        "Examples:\n",
        "  shell mail write 3 'hello there'    replace the message in mailbox 3\n",
        "  tar c src | shell mail write 3 -    the same, from standard input\n",
        "  shell mail read 3 > copy.tar        its bytes; a terminal shows them escaped\n",
        "  shell mail watch 3                  each new message, as it comes\n",
        "  shell mail chat 0 --nick eve        talk with other chats on mailbox 0\n",
        "\n",
        "A mailbox holds the latest message only. A reader that is late misses messages;\n",
        "watch and chat print how many.\n",
        "\n",
        exits!()
    )
)]
pub struct Args {
    /// The server's host, or HOST:PORT
    #[arg(long, value_name = "HOST", default_value = "localhost", global = true)]
    pub host: HostPort,

    /// The server's port, 1 to 65535; 9000 by default
    #[arg(short, long, value_name = "PORT", value_parser = super::dipc::port, allow_hyphen_values = true, global = true, add = ArgValueCandidates::new(ports))]
    pub port: Option<u16>,

    /// The server's unix socket, instead of host and port
    #[arg(long, value_name = "PATH", global = true)]
    pub unix: Option<PathBuf>,

    /// Send the token in this file first, as the server asks for
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// Give up if the server does not answer this long: 500ms, 30s
    ///
    /// It applies to connecting, to each answer, and to each 64 KiB of a message. The time that watch and chat wait for a
    /// message does not count.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, global = true, allow_negative_numbers = true)]
    pub timeout: Duration,

    /// Print each result as one JSON object
    ///
    /// A message is `text`, or `base64` if it is not UTF-8.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a mailbox.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Print the latest message
    #[command(after_long_help = concat!("Example: shell mail read 3 > copy.tar\n\n", exits!()))]
    Read {
        /// The mailbox's number, from 0
        #[arg(value_name = "BOX", value_parser = mailbox, allow_negative_numbers = true)]
        mailbox: u32,
    },
    /// Replace the message
    #[command(after_long_help = concat!(
        "Examples:\n",
        "  shell mail write 3 'hello there'\n",
        "  tar c src | shell mail write 3 -\n\n",
        exits!()
    ))]
    Write {
        /// The mailbox's number, from 0
        #[arg(value_name = "BOX", value_parser = mailbox, allow_negative_numbers = true)]
        mailbox: u32,
        /// The new message; - or nothing reads standard input
        #[arg(value_name = "TEXT", allow_hyphen_values = true)]
        text: Option<OsString>,
    },
    /// Print each new message, until interrupted
    #[command(after_long_help = concat!("Example: shell mail watch 3 | head -1\n\n", exits!()))]
    Watch {
        /// The mailbox's number, from 0
        #[arg(value_name = "BOX", value_parser = mailbox, allow_negative_numbers = true)]
        mailbox: u32,
    },
    /// Send each line typed, and print what others send
    #[command(after_long_help = concat!("Example: shell mail chat 0 --nick eve\n\n", exits!()))]
    Chat {
        /// The mailbox's number, from 0
        #[arg(value_name = "BOX", value_parser = mailbox, allow_negative_numbers = true)]
        mailbox: u32,
        /// Your name in the chat; the login name by default
        #[arg(long, value_name = "NAME")]
        nick: Option<String>,
    },
}

fn mailbox(text: &str) -> Result<u32, String> {
    // A server has 1048576 at most.
    let number = parse_whole(text, 0..=(1 << 20) - 1).map(|number| number as u32);
    number.ok_or_else(|| "it must be a whole number from 0 to 1048575".into())
}
