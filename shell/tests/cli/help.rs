//! Help at the command line: help texts, manual pages, suggestions, completion in real shells.

use crate::kit::mailbox_server::port_of;
use crate::kit::*;
use std::fs;
use std::process::{Command, Stdio};

/// Every command, including those that the list does not show.
fn commands() -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![vec![]];
    let mut next = 0;
    while next < found.len() {
        let command = found[next].clone();
        let help = run(&mut Sandbox::new().shell(command.iter().map(String::as_str).chain(["--help"])));
        help.silent_success();
        let list = help.stdout.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
        let lines = list
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        for name in lines.filter_map(|line| line.split_whitespace().next()) {
            found.push(command.iter().cloned().chain([name.into()]).collect());
        }
        next += 1;
    }
    found.extend(["completions", "man"].map(|hidden| vec![hidden.to_string()]));
    assert!(found.len() > 15, "{found:?}");
    found
}

#[test]
fn every_help_ends_with_examples_and_exit_codes_and_every_short_one_fits_a_screen() {
    let sandbox = Sandbox::new();
    for command in commands() {
        let help = |flag| {
            let help = run(&mut sandbox.shell(command.iter().map(String::as_str).chain([flag])));
            help.silent_success();
            help.stdout
        };
        let long = help("--help");
        let examples =
            long.find("\nExample").unwrap_or_else(|| panic!("{command:?} without examples:\n{long}"));
        let codes = long
            .rfind("\nExit codes: 0 ")
            .unwrap_or_else(|| panic!("{command:?} without exit codes:\n{long}"));
        assert!(examples < codes, "{command:?}:\n{long}");
        assert!(!long[codes..].contains("\n\n"), "{command:?}: the exit codes come last:\n{long}");
        let words = long[codes..].split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("2 usage error"), "{command:?}:\n{long}");
        let short = help("-h");
        for line in short.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
        assert!(short.lines().count() <= 24, "{command:?}:\n{short}");
    }
}

#[test]
fn what_was_mistyped_is_answered_with_what_was_meant() {
    let sandbox = Sandbox::new();
    for (typed, meant) in [
        (&["cpoy", "f"][..], "copy"),
        (&["sevrers"], "servers"),
        (&["copy", "-n", "2", "--sokcet", "f"], "--socket"),
        (&["ls", "--jsn"], "--json"),
        (&["recv", "x", "--from", "nwo"], "now"),
        (&["mail", "raed", "3"], "read"),
    ] {
        run(&mut sandbox.shell(typed)).refusal(2, &[meant]);
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let sandbox = Sandbox::new();
    run(&mut sandbox.shell(["man", "a/man1"])).silent_success();
    let pages = sandbox.names("a/man1");
    for command in commands() {
        let name = ["shell".to_string()].iter().chain(&command).cloned().collect::<Vec<_>>().join("-");
        assert!(pages.contains(&format!("{name}.1")), "{name} of {pages:?}");
        let page = fs::read_to_string(sandbox.at(format!("a/man1/{name}.1"))).unwrap();
        let order: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        for section in ["NAME", "SYNOPSIS", "EXAMPLES", "\"EXIT STATUS\""] {
            assert!(order.contains(&section), "{name} has no {section}: {order:?}");
        }
    }
    for (link, page) in [("whorl", "shell"), ("dipc", "shell-dipc"), ("dipcrm", "shell-dipcrm")] {
        assert_eq!(
            fs::read_to_string(sandbox.at(format!("a/man1/{link}.1"))).unwrap(),
            format!(".so man1/{page}.1\n")
        );
    }
    sandbox.file("f", b"");
    run(&mut sandbox.shell(["man", "f"])).refusal(1, &["man: f: "]);
    run(&mut sandbox.shell(["man", "f/g"])).refusal(1, &["man: f/g: ", "not a directory"]);
    let Ok(man) = sandbox.program("man").args(["-l", "a/man1/shell-copy.1"]).env("MANWIDTH", "80").output()
    else {
        return skip("reading a page with man", "there is no man");
    };
    let (text, said) = (String::from_utf8_lossy(&man.stdout), String::from_utf8_lossy(&man.stderr));
    assert!(man.status.success() && said.is_empty(), "{said}");
    assert!(text.contains("shell copy -n 16 bigfile"), "{text}");
}

/// The words that a shell offers. The test speaks the protocol of the shell's script itself.
fn offered(sandbox: &Sandbox, shell: &str, line: &[&str]) -> Vec<String> {
    let mut command = sandbox.shell(["--"].iter().chain(line));
    command.env("WHORL_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", (line.len() - 1).to_string());
    let ended = run(command.env("_CLAP_IFS", "\n"));
    ended.silent_success();
    let first = |line: &str| line.split(['\t', ':']).next().unwrap_or_default().to_string();
    ended.stdout.lines().map(first).collect()
}

#[test]
fn names_that_are_there_just_now_are_offered() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        assert_eq!(offered(&sandbox, shell, &["shell", "ser"]), ["serve", "servers"], "{shell}");
        assert_eq!(
            offered(&sandbox, shell, &["shell", "recv", ""])
                .iter()
                .filter(|word| !word.starts_with('-'))
                .count(),
            0
        );
    }
    let dead = sandbox.start_fed("send dead");
    sandbox.until_owned("dead");
    signal(dead.pid(), rustix::process::Signal::KILL);
    drop(dead);
    let _living = sandbox.start_fed("send living");
    sandbox.until_owned("living");
    let _waiting = sandbox.start("recv waiting");
    sandbox.until_awaited("waiting", 1);
    for shell in ["bash", "zsh", "fish"] {
        let names = |verb| {
            let all = offered(&sandbox, shell, &["shell", verb, ""]);
            all.into_iter().filter(|word| !word.starts_with('-')).collect::<Vec<_>>()
        };
        assert_eq!(names("recv"), ["living"], "{shell}");
        assert_eq!(names("send"), ["waiting"], "{shell}");
        assert_eq!(names("rm"), ["dead", "living", "waiting"], "{shell}");
    }
}

#[test]
fn links_are_completed_as_the_commands_they_stand_for() {
    let sandbox = Sandbox::new();
    let started = run(&mut sandbox.words("dipc 1 1 0 1"));
    started.has_code(0);
    let port = port_of(&started.stdout).to_string();
    for shell in ["bash", "zsh", "fish"] {
        assert_eq!(offered(&sandbox, shell, &["dipc", "--foreg"]), ["--foreground"], "{shell}");
        assert_eq!(offered(&sandbox, shell, &["/usr/bin/dipcrm", "--for"]), ["--force"], "{shell}");
        assert!(offered(&sandbox, shell, &["dipcrm", ""]).contains(&port), "{shell}");
        let script = run(&mut sandbox.words(&format!("completions {shell}"))).stdout;
        for name in ["whorl", "dipc", "dipcrm"] {
            let registered = script
                .lines()
                .any(|line| line.contains("comp") && line.split_whitespace().any(|word| word == name));
            assert!(registered, "{shell}: {name} in\n{script}");
        }
    }
    run(&mut sandbox.words(&format!("dipcrm {port}"))).has_code(0);
}

#[test]
fn the_scripts_work_in_their_shells() {
    let sandbox = Sandbox::new();
    let _living = sandbox.start_fed("send living");
    sandbox.until_owned("living");
    // The command's directory is first in the path, as on a machine where it is installed.
    let program = std::path::Path::new(SHELL);
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    // Each script loads the completion and prints what the key would offer after `shell recv li`.
    let bash = "source <(shell completions bash); COMP_WORDS=(shell recv li); COMP_CWORD=2; COMP_TYPE=9; \
                _clap_complete_shell shell li recv; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let fish = "shell completions fish | source; complete --do-complete 'shell recv li'";
    // Without a line editor zsh has no completion, so here `_describe` prints.
    let zsh = "compdef() { :; }; source <(shell completions zsh); _describe() { print -l -- ${(P)3}; }; \
               words=(shell recv li); CURRENT=3; _clap_dynamic_completer_shell";
    for (shell, script) in [("bash", bash), ("fish", fish), ("zsh", zsh)] {
        if Command::new(shell).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            skip(&format!("completion in {shell}"), &format!("there is no {shell}"));
            continue;
        }
        let mut command = sandbox.program(shell);
        command.args(["-c", script]).env("PATH", &path);
        let ended = run(command.env("HOME", sandbox.at("")));
        assert!(ended.stdout.lines().any(|line| line.trim() == "living"), "{shell}: {ended:?}");
    }
    run(&mut sandbox.words("completions tcsh")).refusal(2, &["tcsh", "bash, zsh, fish"]);
}
