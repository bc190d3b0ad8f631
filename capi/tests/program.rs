//! C programs that use the shared and the static library print the right lines.

mod common;

use common::{home, installed, is_there, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use whorl::internal::mailbox_server::reply::Limits;
use whorl::internal::mailbox_server::server::{Options, Server};

/// Compiles a program against each library. Returns nothing if there is no compiler.
fn compiled(source: &str, to: &Path) -> Vec<PathBuf> {
    if !is_there("cc") {
        eprintln!("SKIPPED: {source}: there is no cc");
        return Vec::new();
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = installed(to).join("lib");
    let run_path = format!("-Wl,-rpath,{}", libraries.display());
    let fixed = libraries.join("libwhorl_c.a");
    let ways: [(&str, Vec<&std::ffi::OsStr>); 2] = [
        ("shared", vec!["-L".as_ref(), libraries.as_os_str(), "-lwhorl_c".as_ref(), run_path.as_ref()]),
        (
            "static",
            [fixed.as_os_str()].into_iter().chain(["-lpthread", "-ldl", "-lm"].map(AsRef::as_ref)).collect(),
        ),
    ];
    let build = |(way, libraries): (&str, Vec<&std::ffi::OsStr>)| {
        let program = to.join(way);
        let mut command = Command::new("cc");
        command.args(["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-I"]).arg(here.join("include"));
        command.arg(here.join(source)).args(libraries).arg("-o").arg(&program);
        let output = command.output().expect("cc");
        assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
        program
    };
    ways.into_iter().map(build).collect()
}

#[test]
fn the_example_says_hello_in_every_way() {
    let home = home();
    let programs = compiled("examples/hello.c", home.path());
    // SAFETY: no other thread of this test reads the environment; the programs below get theirs explicitly.
    unsafe { std::env::set_var("XDG_RUNTIME_DIR", home.path()) };
    let options = Options {
        limits: Limits { boxes: 2, capacity: 1024, packet: 1024 },
        address: None,
        port: 0,
        any_user: false,
        unix: None,
        token: None,
        idle: None,
        max_connections: Some(4),
        workers: Some(1),
    };
    let server = Server::open(options, None).expect("a mailbox server");
    let port = server.address().port().to_string();
    let serving = std::thread::spawn(move || server.start()?.serve());
    for program in programs {
        let directory = program.with_extension("servers");
        std::fs::create_dir(&directory).expect("a directory");
        let said = run(Command::new(&program).arg(&directory).arg(&port).env("XDG_RUNTIME_DIR", home.path()));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "received: hello",
                "received: from C",
                "received: ",
                "end after 11 bytes",
                "1 receiver has everything, it ended with 0",
                "room for 3 bytes: too long, needs 8",
                "mailbox 1 of 2, version 1: a letter",
                "a second one of that name: in use",
                "server on this host: 'by TCP' and 'by memory'",
                "clients: 1",
            ],
            "{}",
            program.display()
        );
        assert_eq!(std::fs::read_dir(&directory).expect("it").count(), 0, "nothing is left announced");
    }
    whorl::internal::mailbox_server::remove::remove(port.parse().expect("a port"), false).expect("it goes");
    serving.join().expect("a thread").expect("a good end");
}

#[test]
fn mistakes_are_answered_and_nothing_crashes() {
    let home = home();
    for program in compiled("tests/mistakes.c", home.path()) {
        let said = run(Command::new(&program).current_dir(home.path()).env("XDG_RUNTIME_DIR", home.path()));
        assert_eq!(said, "0 mistakes\n", "{}", program.display());
    }
}

#[test]
fn calls_work_while_a_thread_or_the_program_ends() {
    let home = home();
    for program in compiled("tests/endings.c", home.path()) {
        let said = run(Command::new(&program).current_dir(home.path()).env("XDG_RUNTIME_DIR", home.path()));
        let expected =
            ["destructor: good", "handler: good", "for ever: good", "asked for ever: 0", "exit: good"];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{}", program.display());
    }
}
