//! `shell dipc` and `shell dipcrm`: a mailbox server starts, detaches, and stops.

use crate::cli::dipc::{Args, RemoveArgs};
use crate::ui::exit::Exit;
use crate::ui::logging;
use crate::ui::terminal::{print, say};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tracing_subscriber::filter::LevelFilter;
use whorl::mailbox_server::listen::{self, Inherited};
use whorl::mailbox_server::notify::notify;
use whorl::mailbox_server::remove::{RemoveError, Removed, remove};
use whorl::mailbox_server::reply::Limits;
use whorl::mailbox_server::server::{Options, Server, StartError};
use whorl::mailbox_server::server_registry::{ServerRegistry, log_name};
use whorl::mailbox_server::token;
use whorl::os::daemon;
use whorl::os::daemon::ReadyPipe;
use whorl::os::signal;

const KIB: usize = 1 << 10;

/// Runs `shell dipc`.
pub fn run(args: Args) -> Exit {
    // Read and opened first: /dev/fd/63, as the shells write `<(command)`, is a descriptor that is closed right after.
    let options = match options(&args) {
        Ok(options) => options,
        Err(why) => {
            say(&format!("dipc: {why}"));
            return Exit::Usage;
        }
    };
    let stream = match args.log_file.as_deref().filter(|path| leads_to_descriptor(path)) {
        Some(path) => match logging::open(path) {
            Ok(stream) => Some(stream),
            Err(why) => {
                say(&format!("dipc: {why}"));
                return Exit::Failed;
            }
        },
        None => None,
    };
    // What whoever started us left open by mistake would stay open for as long as the server lives.
    if std::env::var_os("LISTEN_FDS").is_none() {
        daemon::close_inherited(3, stream.as_ref().map(AsFd::as_fd));
    }
    let inherited = match listen::inherited() {
        Ok(inherited) => inherited,
        Err(error) => {
            say(&format!("dipc: {error}"));
            return Exit::Failed;
        }
    };
    if let Some(why) = inherited.as_ref().and_then(|inherited| mismatch(&args, inherited)) {
        say(&format!("dipc: {why}"));
        return Exit::Usage;
    }
    let log = match logging::level(args.log_json || args.log_file.is_some()) {
        Ok(level) => Log { level, json: args.log_json, stream },
        Err(why) => {
            say(&format!("dipc: {why}"));
            return Exit::Usage;
        }
    };
    if args.foreground {
        foreground(&args, options, inherited, log)
    } else {
        background(&args, options, inherited, log)
    }
}

/// How much is logged, and how.
struct Log {
    level: LevelFilter,
    json: bool,
    /// Where to, if that was open already.
    stream: Option<OwnedFd>,
}

impl Log {
    /// From now on stderr goes to the log: to what was open already, or to the file at `path`.
    fn redirect(&self, path: &Path, chosen: bool) -> Result<(), String> {
        match &self.stream {
            Some(stream) => logging::redirect_stderr_to(path, stream),
            None => logging::redirect_stderr(path, chosen),
        }
    }
}

/// Whether a path leads to a descriptor that is open in this process. In the daemon the number means something else.
fn leads_to_descriptor(path: &Path) -> bool {
    let above = path.parent();
    above == Some(Path::new("/dev/fd"))
        || above == Some(Path::new("/proc/self/fd"))
        || [Path::new("/dev/stdout"), Path::new("/dev/stderr")].contains(&path)
}

/// Everything that can be found wrong without trying.
fn options(args: &Args) -> Result<Options, String> {
    let token = match &args.token_file {
        Some(path) => Some(token::read(path).map_err(|error| format!("--token-file: {error}"))?),
        None => None,
    };
    if let Some(address) = args.bind.filter(|address| !address.is_loopback())
        && token.is_none()
        && !args.insecure
    {
        return Err(format!(
            "--bind {address}: other machines could use the mailboxes; add --token-file FILE, or --insecure to allow it",
        ));
    }
    let limits =
        Limits { boxes: args.boxes, capacity: args.size as usize * KIB, packet: args.packet as usize * KIB };
    Ok(Options {
        limits,
        address: args.bind,
        port: args.port,
        unix: args.unix.as_deref().map(absolute),
        any_user: args.any_user || args.insecure || token.is_some(),
        token,
        idle: args.idle,
        max_connections: args.max_connections,
        workers: args.workers,
    })
}

/// What a supervisor opened must be what the arguments say.
fn mismatch(args: &Args, inherited: &Inherited) -> Option<String> {
    let open = args.token_file.is_none() && !args.insecure;
    inherited.tcp.iter().find_map(|(_, address)| {
        if args.port != 0 && args.port != address.port() {
            let port = address.port();
            Some(format!("LISTEN_FDS brings port {port}, and PORT is {}; make it {port} or 0", args.port))
        } else if open && !address.ip().is_loopback() {
            Some(format!("LISTEN_FDS brings {address}: add --token-file FILE, or --insecure to allow it"))
        } else {
            None
        }
    })
}

/// A daemon leaves the directory it was started in.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn code(error: &StartError) -> Exit {
    if error.is_usage() { Exit::Usage } else { Exit::Failed }
}

fn listening(server: &Server) -> String {
    format!("listening on {}", server.address())
}

fn foreground(args: &Args, options: Options, inherited: Option<Inherited>, log: Log) -> Exit {
    signal::catch_stop_signals_of_server();
    if let Some(path) = &args.log_file
        && let Err(why) = log.redirect(path, true)
    {
        say(&format!("dipc: {why}"));
        return Exit::Failed;
    }
    logging::start(log.level, log.json, None);
    let server = match Server::open(options, inherited) {
        Ok(server) => server,
        Err(error) => {
            say(&format!("dipc: {error}"));
            return code(&error);
        }
    };
    if !print(&listening(&server)) {
        server.close();
        return Exit::Failed;
    }
    match serve(server) {
        Exit::Done => match signal::stop_signal() {
            None | Some(SIGTERM) => Exit::Done,
            Some(signal) => Exit::Signal(signal),
        },
        failed => failed,
    }
}

/// The signal that supervisors send; an end by it is a good end.
const SIGTERM: i32 = 15;

fn serve(server: Server) -> Exit {
    tracing::info!("{}", listening(&server));
    notify(&format!("READY=1\nMAINPID={}\nSTATUS={}\n", std::process::id(), listening(&server)));
    match server.run() {
        Ok(()) => {
            tracing::info!("ended");
            Exit::Done
        }
        Err(error) => {
            tracing::error!("{error}");
            Exit::Failed
        }
    }
}

/// The daemon's verdict is its exit code's digit, then a line.
fn background(args: &Args, options: Options, inherited: Option<Inherited>, log: Log) -> Exit {
    let log_file = args.log_file.as_deref().map(absolute);
    let verdict =
        daemon::daemonize(move |verdict| daemon(options, inherited, log_file.as_deref(), log, verdict));
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(error) => {
            say(&format!("dipc: cannot go to the background: {}", whorl::os::error::reason(error)));
            return Exit::Failed;
        }
    };
    let (code, text) = verdict.split_at_checked(1).unwrap_or_default();
    match code {
        "0" if print(text) => Exit::Done,
        "0" => {
            // Nobody was told where it listens, so it does not go on.
            if let Some(port) = text.rsplit(':').next().and_then(|port| port.parse().ok())
                && let Err(error) = remove(port, false)
            {
                say(&format!("dipc: {error}"));
            }
            Exit::Failed
        }
        "2" => {
            say(&format!("dipc: {text}"));
            Exit::Usage
        }
        "1" => {
            say(&format!("dipc: {text}"));
            Exit::Failed
        }
        _ => {
            say("dipc: the server ended before it listened");
            Exit::Failed
        }
    }
}

/// In the daemon.
fn daemon(
    options: Options,
    inherited: Option<Inherited>,
    log_file: Option<&Path>,
    log: Log,
    verdict: ReadyPipe,
) -> u8 {
    signal::catch_stop_signals_of_server();
    let mut server = match Server::open(options, inherited) {
        Ok(server) => server,
        Err(error) => {
            let code = if error.is_usage() { 2 } else { 1 };
            verdict.send(&format!("{code}{error}"));
            return code;
        }
    };
    let own = log_file.is_none().then(|| log_name(server.address().port()));
    let registry = ServerRegistry::open().ok();
    let path = match (log_file, &own, &registry) {
        (Some(path), ..) => path.to_owned(),
        (None, Some(name), Some(registry)) => registry.path(name),
        _ => PathBuf::from("/dev/null"),
    };
    if let Err(why) = log.redirect(&path, log_file.is_some()) {
        verdict.send(&format!("1{why}"));
        server.close();
        return 1;
    }
    logging::start(log.level, log.json, None);
    if !verdict.send(&format!("0{}", listening(&server))) {
        // Who started it was told nothing: that must be true.
        server.close();
        return 1;
    }
    if let Some(own) = own {
        server.logs_to(own);
    }
    u8::from(serve(server) != Exit::Done)
}

/// Runs `shell dipcrm`.
pub fn run_remove(args: RemoveArgs) -> Exit {
    let port = args.port;
    let done = match remove(port, args.force) {
        Ok(Removed::Server) => format!("stopped the mailbox server on port {port}"),
        Ok(Removed::Killed) => format!("killed the mailbox server on port {port}"),
        Ok(Removed::Leftovers) => format!("removed what a dead mailbox server left on port {port}"),
        Err(error) => {
            say(&format!("dipcrm: {error}"));
            return if matches!(error, RemoveError::Nothing(_)) { Exit::Nothing } else { Exit::Failed };
        }
    };
    if print(&done) { Exit::Done } else { Exit::Failed }
}
