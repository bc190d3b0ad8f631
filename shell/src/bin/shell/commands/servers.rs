//! `shell servers`: queries every server that is announced in a directory.

use crate::cli::servers::Args;
use crate::ui::exit::Exit;
use crate::ui::terminal::{print, print_error, print_json};
use serde::Serialize;
use whorl::internal::os::escape;
use whorl::internal::os::escape::shown;
use whorl::{Answer, Reach, discover};

/// Runs it.
pub fn run(args: Args) -> Exit {
    let answers = match discover(&args.directory, args.timeout) {
        Ok(answers) => answers,
        Err(error) => {
            print_error(&format!("servers: {}: {error}", shown(&args.directory)));
            return Exit::Failed;
        }
    };
    for answer in answers.iter().filter(|answer| answer.reach == Reach::Vm) {
        let error = answer.error.as_deref().unwrap_or("nothing works");
        print_error(&format!("servers: {}: {error}", shown(&answer.file)));
    }
    let printed = if args.json { print_json(&json(&answers)) } else { print(&text(&answers)) };
    if printed { Exit::Done } else { Exit::Failed }
}

fn count(answers: &[Answer], place: Reach) -> usize {
    answers.iter().filter(|answer| answer.reach == place).count()
}

/// Formats the counts, followed by every message in the order of the files.
fn text(answers: &[Answer]) -> String {
    let messages = answers.iter().flat_map(|answer| [&answer.socket_message, &answer.shm_message]);
    let messages: Vec<_> =
        messages.flatten().filter(|message| !message.is_empty()).map(escape::line).collect();
    format!(
        "Total Servers: {}\nHost: {}\nContainer: {}\nVM: {}\nMessages: {}",
        answers.len(),
        count(answers, Reach::Host),
        count(answers, Reach::Container),
        count(answers, Reach::Vm),
        messages.join(" "),
    )
}

#[derive(Serialize)]
struct Json {
    total: usize,
    host: usize,
    container: usize,
    vm: usize,
    servers: Vec<ServerJson>,
}

#[derive(Serialize)]
struct ServerJson {
    file: String,
    kind: &'static str,
    socket_message: Option<String>,
    shm_message: Option<String>,
    error: Option<String>,
}

fn json(answers: &[Answer]) -> Json {
    let text = |message: &Option<Vec<u8>>| Some(String::from_utf8_lossy(message.as_ref()?).into_owned());
    let servers = answers.iter().map(|answer| ServerJson {
        file: answer.file.to_string_lossy().into_owned(),
        kind: match answer.reach {
            Reach::Host => "host",
            Reach::Container => "container",
            Reach::Vm => "vm",
        },
        socket_message: text(&answer.socket_message),
        shm_message: text(&answer.shm_message),
        error: answer.error.clone(),
    });
    Json {
        total: answers.len(),
        host: count(answers, Reach::Host),
        container: count(answers, Reach::Container),
        vm: count(answers, Reach::Vm),
        servers: servers.collect(),
    }
}
