//! `shell dipc` and `shell dipcrm`: start a mailbox server, detach it, and stop it.

use crate::cli::dipc::{Args, RemoveArgs};
use crate::ui::exit::Exit;
use crate::ui::logging;
use crate::ui::terminal::{print, print_error, print_note};
use crate::ui::units::size;
use crate::ui::usage;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tracing_subscriber::filter::LevelFilter;
use whorl::internal::mailbox_server::listen::{self, Inherited};
use whorl::internal::mailbox_server::notify::notify;
use whorl::internal::mailbox_server::remove::{RemoveError, Removed, remove};
use whorl::internal::mailbox_server::reply::Limits;
use whorl::internal::mailbox_server::server::{Options, RunningServer, Server};
use whorl::internal::mailbox_server::server_registry::{ServerRegistry, log_name};
use whorl::internal::mailbox_server::token;
use whorl::internal::os::daemon;
use whorl::internal::os::daemon::ReadyPipe;
use whorl::internal::os::signal;

const KIB: usize = 1 << 10;

/// Runs `shell dipc`.
pub fn run(args: Args) -> Exit {
    // Read and opened first: /dev/fd/63, as the shells write `<(command)`, is a descriptor that is closed right after.
    let options = match options(&args) {
        Ok(options) => options,
        Err(why) => {
            return usage::refuse(&["dipc"], &why);
        }
    };
    let stream = match args.log_file.as_deref().filter(|path| leads_to_descriptor(path)) {
        Some(path) => match logging::open(path) {
            Ok(stream) => Some(stream),
            Err(why) => {
                print_error(&format!("dipc: {why}"));
                return Exit::Failed;
            }
        },
        None => None,
    };
    // A descriptor that the parent left open by mistake would stay open as long as the server runs.
    if std::env::var_os("LISTEN_FDS").is_none() {
        daemon::close_inherited(3, stream.as_ref().map(AsFd::as_fd));
    }
    let inherited = match listen::inherited() {
        Ok(inherited) => inherited,
        Err(error) => {
            print_error(&format!("dipc: {error}"));
            return Exit::Failed;
        }
    };
    if let Some(why) = inherited.as_ref().and_then(|inherited| mismatch(&args, inherited)) {
        return usage::refuse(&["dipc"], &why);
    }
    let log = match logging::level(args.log_json || args.log_file.is_some()) {
        Ok(level) => Log { level, json: args.log_json, stream },
        Err(why) => {
            return usage::refuse(&["dipc"], &why);
        }
    };
    if args.packet > args.size {
        let (packet, size) = (size_of_kib(args.packet), size_of_kib(args.size));
        print_note(&format!(
            "dipc: PACKET ({packet}) is larger than SIZE ({size}): a message has at most {size}, and each travels in one packet"
        ));
    }
    if args.foreground {
        foreground(&args, options, inherited, log)
    } else {
        background(&args, options, inherited, log)
    }
}

/// The log level, the format, and the stream.
struct Log {
    level: LevelFilter,
    json: bool,
    /// The stream, if it was open already.
    stream: Option<OwnedFd>,
}

impl Log {
    /// Redirects standard error to the log: to the open stream, or to the file at `path`.
    fn redirect(&self, path: &Path, chosen: bool) -> Result<(), String> {
        match &self.stream {
            Some(stream) => logging::redirect_stderr_to(path, stream),
            None => logging::redirect_stderr(path, chosen),
        }
    }
}

/// Returns whether a path leads to a descriptor of this process. The daemon has other descriptors of the same numbers.
fn leads_to_descriptor(path: &Path) -> bool {
    let above = path.parent();
    above == Some(Path::new("/dev/fd"))
        || above == Some(Path::new("/proc/self/fd"))
        || [Path::new("/dev/stdout"), Path::new("/dev/stderr")].contains(&path)
}

fn size_of_kib(kibibytes: u32) -> String {
    size(u64::from(kibibytes) << 10)
}

/// Builds the options, or returns what is wrong with the arguments.
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

/// Returns how the sockets that a supervisor opened differ from the arguments.
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

/// Makes a path absolute, because a daemon leaves its working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn listening(server: &Server) -> String {
    format!("listening on {}", server.address())
}

fn foreground(args: &Args, options: Options, inherited: Option<Inherited>, log: Log) -> Exit {
    signal::catch_stop_signals_of_server();
    if let Some(path) = &args.log_file
        && let Err(why) = log.redirect(path, true)
    {
        print_error(&format!("dipc: {why}"));
        return Exit::Failed;
    }
    logging::start(log.level, log.json, None);
    let server = match Server::open(options, inherited) {
        Ok(server) => server,
        Err(error) if error.is_usage() => return usage::refuse(&["dipc"], &error.to_string()),
        Err(error) => {
            print_error(&format!("dipc: {error}"));
            return Exit::Failed;
        }
    };
    let listening = listening(&server);
    let server = match server.start() {
        Ok(server) => server,
        Err(error) => {
            print_error(&format!("dipc: {error}"));
            return Exit::Failed;
        }
    };
    if !print(&listening) {
        server.close();
        return Exit::Failed;
    }
    match serve(server, &listening) {
        Exit::Done => match signal::stop_signal() {
            None | Some(SIGTERM) => Exit::Done,
            Some(signal) => Exit::Signal(signal),
        },
        failed => failed,
    }
}

/// The signal by which supervisors stop a server. The server then ends with success.
const SIGTERM: i32 = 15;

fn serve(server: RunningServer, listening: &str) -> Exit {
    tracing::info!("{listening}");
    notify(&format!("READY=1\nMAINPID={}\nSTATUS={listening}\n", std::process::id()));
    match server.serve() {
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

/// Starts the daemon and prints its result: the digit of its exit code, followed by a line of text.
fn background(args: &Args, options: Options, inherited: Option<Inherited>, log: Log) -> Exit {
    let log_file = args.log_file.as_deref().map(absolute);
    let result = daemon::daemonize(move |ready| daemon(options, inherited, log_file.as_deref(), log, ready));
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            print_error(&format!(
                "dipc: cannot go to the background: {}",
                whorl::internal::os::error::reason(error)
            ));
            return Exit::Failed;
        }
    };
    let (code, text) = result.split_at_checked(1).unwrap_or_default();
    match code {
        "0" if print(text) => Exit::Done,
        "0" => {
            // The address was not printed, so the caller cannot use the server: stop it.
            if let Some(port) = text.rsplit(':').next().and_then(|port| port.parse().ok())
                && let Err(error) = remove(port, false)
            {
                print_error(&format!("dipc: {error}"));
            }
            Exit::Failed
        }
        "2" => usage::refuse(&["dipc"], text),
        "1" => {
            print_error(&format!("dipc: {text}"));
            Exit::Failed
        }
        _ => {
            print_error("dipc: the server ended before it listened");
            Exit::Failed
        }
    }
}

/// Runs in the daemon.
fn daemon(
    options: Options,
    inherited: Option<Inherited>,
    log_file: Option<&Path>,
    log: Log,
    ready: ReadyPipe,
) -> u8 {
    signal::catch_stop_signals_of_server();
    let mut server = match Server::open(options, inherited) {
        Ok(server) => server,
        Err(error) => {
            let code = if error.is_usage() { 2 } else { 1 };
            ready.send(&format!("{code}{error}"));
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
        ready.send(&format!("1{why}"));
        return 1;
    }
    logging::start(log.level, log.json, None);
    if let Some(own) = own {
        server.logs_to(own);
    }
    let listening = listening(&server);
    let server = match server.start() {
        Ok(server) => server,
        Err(error) => {
            ready.send(&format!("1{error}"));
            return 1;
        }
    };
    if !ready.send(&format!("0{listening}")) {
        // The caller got no result and takes the start as failed, so it must fail.
        server.close();
        return 1;
    }
    u8::from(serve(server, &listening) != Exit::Done)
}

/// Runs `shell dipcrm`.
pub fn run_remove(args: RemoveArgs) -> Exit {
    let port = args.port;
    let done = match remove(port, args.force) {
        Ok(Removed::Server) => format!("stopped the mailbox server on port {port}"),
        Ok(Removed::Killed) => format!("killed the mailbox server on port {port}"),
        Ok(Removed::Leftovers) => format!("removed what a dead mailbox server left on port {port}"),
        Err(error) => {
            print_error(&format!("dipcrm: {error}"));
            return if matches!(error, RemoveError::Nothing(_)) { Exit::Nothing } else { Exit::Failed };
        }
    };
    if print(&done) { Exit::Done } else { Exit::Failed }
}
