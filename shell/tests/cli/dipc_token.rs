//! Token files: which are read, which are refused, and whether the refusal's advice can be followed.

use crate::kit::mailbox_server::{Server, converse, port_of};
use crate::kit::{Ended, LIMIT, SHELL, Sandbox, run, skip, until};
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

const TOKEN: &str = "0123456789abcdef\n";

/// A client that reads the token, and then finds no server. Exit code 2 means that the token was refused.
fn read_by_mail(sandbox: &Sandbox, token: &Path) -> Ended {
    sandbox.run([
        "mail",
        "--unix",
        "/nonexistent/socket",
        "--token-file",
        token.to_str().unwrap(),
        "read",
        "0",
    ])
}

#[track_caller]
fn is_read(output: &Ended) {
    assert!(output.stderr.contains("/nonexistent/socket"), "{output:?}");
}

#[track_caller]
fn is_refused(output: &Ended, words: &[&str]) {
    let said = &output.stderr;
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 3), "{output:?}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_token_file_that_other_users_can_read_is_refused() {
    let sandbox = Sandbox::new();
    let path = sandbox.at("token");
    write(&path, TOKEN).unwrap();
    let read = |owner: Option<u32>, mode: u32| {
        if owner.is_some() {
            chown(&path, owner, None).unwrap();
        }
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read_by_mail(&sandbox, &path)
    };
    for mode in [0o400, 0o600] {
        is_read(&read(None, mode));
    }
    for mode in [0o444, 0o604, 0o644, 0o602] {
        is_refused(&read(None, mode), &["token is open to other users", "'chmod 600'"]);
    }
    for mode in [0o620, 0o660] {
        is_refused(&read(None, mode), &["token is open to its group", "'chmod 600'"]);
    }
    if !rustix::process::geteuid().is_root() {
        return skip("owners of tokens", "only root gives files away");
    }
    for mode in [0o440, 0o640] {
        is_read(&read(Some(0), mode));
        is_refused(&read(Some(1234), mode), &["token is open to its group", "'chmod 600'"]);
    }
    is_read(&read(Some(1234), 0o400));
}

#[test]
fn what_is_mounted_read_only_gets_advice_that_can_be_followed() {
    // As orchestrators mount secrets. Prints the exit codes of three clients.
    let script = r#"
        mkdir "$1/secrets" && mount -t tmpfs none "$1/secrets" && cd "$1/secrets" || exit 77
        echo 0123456789abcdef > token; chmod 440 token; chown 1234 token
        cp token all; chmod 444 all
        mount -o remount,ro none "$1/secrets" || exit 77
        for file in token all; do
            "$0" mail --unix /nonexistent/socket --token-file $file read 0; echo $?
        done"#;
    let sandbox = Sandbox::new();
    let mut command = sandbox.program("unshare");
    let output = run(command.args(["--mount", "sh", "-c", script, SHELL]).arg(sandbox.root()));
    if !output.status.success() {
        return skip("tokens on a read-only mount", &format!("nothing can be mounted here: {output:?}"));
    }
    let codes: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
    let said: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
    assert!(codes.len() == 2 && codes[0] != "2" && codes[1] == "2", "{output:?}");
    assert!(said[0].contains("/nonexistent/socket"), "{output:?}");
    assert!(said[1].contains("open to other users; mount it with mode 0400"), "{output:?}");
}

#[test]
fn a_pipe_brings_a_token_once_it_is_written() {
    let sandbox = Sandbox::new();
    let pipe = sandbox.at("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_by_mail(&sandbox, &pipe));
        write(&pipe, TOKEN).unwrap(); // waits for the reader
        is_read(&reader.join().unwrap());
    });
    is_refused(&read_by_mail(&sandbox, sandbox.root()), &["is not a regular file or a pipe"]);
    is_refused(&read_by_mail(&sandbox, Path::new("/dev/null")), &["is not a regular file or a pipe"]);
}

#[test]
fn a_token_and_a_log_may_be_descriptors_of_the_shells() {
    let sandbox = Sandbox::new();
    let script = r#""$0" dipc 1 1 0 1 --token-file <(sleep 0.1; echo 0123456789abcdef) --log-file >(exec cat > "$1" 2> /dev/null)"#;
    let log = sandbox.at("log");
    if Command::new("bash").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("a token and a log as descriptors of the shell's", "there is no bash");
    }
    let mut command = sandbox.program("bash");
    let output = run(command.args(["-c", script, SHELL]).arg(&log).env("WHORL_LOG", "info"));
    assert!(output.status.success(), "{output:?}");
    let port = port_of(&output.stdout);
    let server = Server { sandbox, port };
    assert!(converse(server.connect(), b"a 0123456789abcdef\n").starts_with("ok auth"));
    until(LIMIT, "the log came through the pipe", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listening on"))
    });
}
