//! What servers log: nothing in a good run unless asked, a line for each connection only at debug, JSON on request.

use crate::kit::mailbox_server::port_of;
use crate::kit::*;
use std::fs;
use std::process::Command;

/// Runs a mailbox server with two clients, and returns its log.
fn dipc_log(sandbox: &Sandbox, level: Option<&str>, flags: &str) -> String {
    let with = |mut command: Command| {
        command.env_remove("WHORL_LOG");
        if let Some(level) = level {
            command.env("WHORL_LOG", level);
        }
        command
    };
    let _ = fs::remove_file(sandbox.at("log"));
    let started = run(&mut with(sandbox.words(&format!("dipc 1 4 0 4 --log-file log {flags}"))));
    started.has_code(0);
    let port = port_of(&started.stdout).to_string();
    for _ in 0..2 {
        run(&mut sandbox.words(&format!("mail -p {port} write 0 x"))).has_code(0);
    }
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
    fs::read_to_string(sandbox.at("log")).unwrap()
}

#[test]
fn a_mailbox_server_logs_at_the_level_it_is_given() {
    let sandbox = Sandbox::new();
    let usual = dipc_log(&sandbox, None, "");
    assert!(usual.contains(" INFO listening on 127.0.0.1:"), "{usual}");
    assert!(usual.contains("asked to stop") && usual.contains("ended"), "{usual}");
    assert!(!usual.contains("connection from"), "{usual}");
    assert_eq!(dipc_log(&sandbox, Some("warn"), ""), "");
    assert_eq!(dipc_log(&sandbox, Some("off"), ""), "");
    let all = dipc_log(&sandbox, Some("debug"), "");
    let clients = all.lines().filter(|line| line.contains("DEBUG connection from 127.0.0.1:")).count();
    assert_eq!(clients, 2, "one line for each:\n{all}");
    assert!(!all.contains('\x1b'), "{all:?}");
    for line in dipc_log(&sandbox, Some("debug"), "--log-json").lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert!(object["level"].is_string() && object["message"].is_string(), "{line}");
    }
    let mut wrong = sandbox.words("dipc 1 4 0 4");
    run(wrong.env("WHORL_LOG", "loud")).refusal(2, &["dipc: ", "WHORL_LOG", "loud", "debug"]);
    run(&mut sandbox.words("dipc 1 4 0 4 --log-file nowhere/log")).refusal(1, &["dipc: ", "cannot log to"]);
    sandbox.nothing_left();
}

#[test]
fn a_server_that_announces_itself_logs_too_and_still_says_what_is_wrong() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.at("d")).unwrap();
    let serve = "serve one --dir d --clients 1 --log-file log --socket-message hi";
    let mut command = sandbox.words(serve);
    let serving = start(command.env("WHORL_LOG", "debug"));
    until(SOON, "it is announced", || sandbox.names("d") == ["one.server"]);
    let second = run(&mut sandbox.words(serve));
    second.refusal(1, &["serve: one", "in use"]);
    run(&mut sandbox.words("servers --dir d")).has_code(0);
    serving.end(LIMIT).silent_success();
    let log = fs::read_to_string(sandbox.at("log")).unwrap();
    assert!(log.contains("INFO one listens at 127.0.0.1"), "{log}");
    assert_eq!(log.matches("DEBUG connection from 127.0.0.1:").count(), 1, "{log}");
    assert!(log.contains("one ended after 1 client"), "{log}");
    run(&mut sandbox.words("serve x --dir d --log-file nowhere/log"))
        .refusal(1, &["serve: ", "cannot log to"]);
}
