//! Pids that processes of other pid namespaces wrote down. No process is signalled or shown because of them.

use crate::kit::mailbox_server::port_of;
use crate::kit::{LIMIT, Running, SHELL, Sandbox, all_at_once, run, skip, start, until};
use std::process::{Command, Stdio};

/// `sh` as the first process of a new pid namespace with a `/proc` of its own. Its `$S` is the program.
fn in_namespace(sandbox: &Sandbox, script: &str) -> Command {
    let mut command = sandbox.program("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]);
    command.env("S", SHELL).stdin(Stdio::piped());
    command
}

/// Whether namespaces can be made here. If not, prints that the test is skipped.
fn can_try(test: &str) -> bool {
    let tried = run(&mut in_namespace(&Sandbox::new(), "exit 0"));
    if !tried.status.success() {
        skip(test, &format!("no pid namespace can be made here: {tried:?}"));
    }
    tried.status.success()
}

fn ended(mut process: Running) {
    process.close_stdin();
    process.end(LIMIT);
}

/// Starts a server, stops it, and stays until its input ends.
const STOPPED_SERVER: &str = r#"
    "$S" dipc 1 1 0 1 || exit 1
    pid=$(sed -n s/^pid=//p "$XDG_RUNTIME_DIR"/whorl/dipc-*.info)
    kill -STOP $pid; echo $pid; read end; kill -KILL $pid; exit 0"#;

#[test]
fn dipcrm_leaves_the_innocent_process_with_the_servers_pid_alone() {
    if !can_try("dipcrm_leaves_the_innocent_process_with_the_servers_pid_alone") {
        return;
    }
    // With its control socket the kernel reports the listening process. Without, only the information file is left.
    all_at_once([true, false], |keeps_socket| {
        let sandbox = Sandbox::new();
        let server = start(&mut in_namespace(&sandbox, STOPPED_SERVER));
        until(LIMIT, "the server is stopped", || server.stdout().matches('\n').count() == 2);
        let said = server.stdout();
        let (listening, pid) = said.trim_end().split_once('\n').unwrap();
        let port = port_of(listening);
        if !keeps_socket {
            std::fs::remove_file(sandbox.socket(&format!("dipc-{port}"))).unwrap();
        }
        let script = format!(
            r#"until [ "${{innocent:-0}}" -ge {pid} ]; do sleep 1000 & innocent=$!; done
               [ $innocent = {pid} ] || exit 77
               "$S" dipcrm --force {port}; echo "code $?"
               kill -0 {pid} && grep -q '^State:.[^Z]' /proc/{pid}/status && echo alive"#
        );
        let removal = run(&mut in_namespace(&sandbox, &script));
        assert_eq!(removal.stdout, "code 1\nalive\n", "{keeps_socket} {removal:?}");
        assert!(removal.stderr.contains("not visible in this pid namespace"), "{removal:?}");
        assert_eq!(removal.stderr.lines().count(), 1, "{removal:?}");
        ended(server);
    });
}

#[test]
fn dipcrm_finds_a_server_of_a_namespace_below_by_its_own_number_for_it() {
    if !can_try("dipcrm_finds_a_server_of_a_namespace_below_by_its_own_number_for_it") {
        return;
    }
    let sandbox = Sandbox::new();
    // In the namespace the server has a small pid, which out here belongs to a sleeping process.
    let script = r#"
        for number in 2 3 4 5 6 7 8 9; do sleep 1000 & done
        mkfifo "$XDG_RUNTIME_DIR/end"
        unshare --pid --fork --kill-child --mount-proc sh -c "$BELOW" < "$XDG_RUNTIME_DIR/end" > "$XDG_RUNTIME_DIR/said" &
        exec 9> "$XDG_RUNTIME_DIR/end"
        until [ $(wc -l < "$XDG_RUNTIME_DIR/said") = 2 ]; do sleep 0.01; done
        port=$(sed -n 's/.*://p' "$XDG_RUNTIME_DIR/said")
        "$S" dipcrm --force $port; echo "code $?"
        for number in 2 3 4 5 6 7 8 9; do
            grep -q '^State:.[^Z]' /proc/$number/status || echo "$number was killed"
        done"#;
    let output = run(in_namespace(&sandbox, script).env("BELOW", STOPPED_SERVER));
    let said = &output.stdout;
    assert!(said.starts_with("killed the mailbox server"), "{output:?}");
    assert!(said.ends_with("\ncode 0\n") && said.lines().count() == 2, "{output:?}");
}

#[test]
fn ls_shows_no_pid_or_command_of_another_namespaces_numbers() {
    if !can_try("ls_shows_no_pid_or_command_of_another_namespaces_numbers") {
        return;
    }
    let sandbox = Sandbox::new();
    let script = r#""$S" recv awaited & "$S" send x - < "$XDG_RUNTIME_DIR/end" & "$S" recv x > /dev/null & read end; kill $!"#;
    let fifo = sandbox.runtime().join("end");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let _source = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let others = start(&mut in_namespace(&sandbox, script));
    let mut channels = Vec::new();
    until(LIMIT, "both names have their receiver, and one its owner", || {
        channels = sandbox.ls();
        channels.len() == 2
            && channels.iter().all(|channel| channel["receivers"][0]["state"].is_string())
            && channels[1]["owner"].is_object()
    });
    for channel in &channels {
        let receiver = &channel["receivers"][0];
        assert!(receiver["pid"].is_null() && receiver["command"].is_null(), "{channel}");
    }
    // The owner is in the namespace. Out here it has another pid, which the kernel reports.
    let owner = channels[1]["owner"]["command"].as_str().unwrap_or_default().to_owned();
    assert!(owner.contains("send x"), "{channels:?}");
    ended(others);
    assert!(sandbox.run(["rm", "--dead"]).status.success());
}
