//! `shell mail`.

use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

/// Read and write mailboxes.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: shell mail read 3",
    after_long_help = concat!(
        "Examples:\n",
        "  shell mail write 3 'hello there'    replace the message in mailbox 3\n",
        "  tar c src | shell mail write 3 -    the same, with what comes from the standard input\n",
        "  shell mail read 3 > copy.tar        its bytes, exactly; a terminal shows them escaped\n",
        "  shell mail watch 3                  each new message, as it comes\n",
        "  shell mail chat 0 --nick eve        talk to whoever else does\n",
        "\n",
        "A mailbox holds the latest message. Who looks too late misses some, and is told how many.\n",
        "\n",
        "Exit codes: 0 done; 1 the server refused or is gone; 2 used wrongly."
    )
)]
pub struct Args {
    /// The server's machine
    #[arg(long, value_name = "HOST", default_value = "localhost", global = true)]
    pub host: String,

    /// The server's port
    #[arg(short, long, value_name = "PORT", default_value = "9000", value_parser = super::dipc::port, global = true)]
    pub port: u16,

    /// The server's unix socket, instead of host and port
    #[arg(long, value_name = "PATH", global = true)]
    pub unix: Option<PathBuf>,

    /// Send the token in this file first
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a mailbox.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Print the latest message
    Read {
        /// The mailbox
        #[arg(value_name = "BOX")]
        mailbox: u32,
    },
    /// Replace the message
    Write {
        /// The mailbox
        #[arg(value_name = "BOX")]
        mailbox: u32,
        /// The new one; - or nothing reads the standard input
        #[arg(value_name = "TEXT", allow_hyphen_values = true)]
        text: Option<OsString>,
    },
    /// Print each new message, until interrupted
    Watch {
        /// The mailbox
        #[arg(value_name = "BOX")]
        mailbox: u32,
    },
    /// Send each line typed, and print what others send
    Chat {
        /// The mailbox
        #[arg(value_name = "BOX")]
        mailbox: u32,
        /// Who says it; the login name if absent
        #[arg(long, value_name = "NAME")]
        nick: Option<String>,
    },
}
