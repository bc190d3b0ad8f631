//! The protocol as users type it, through the real `nc` (netcat-openbsd). If `nc` is missing, the tests print that and
//! check nothing.

use crate::kit::mailbox_server::{Server, text};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn nc(test: &str) -> bool {
    let there =
        Command::new("nc").arg("-h").output().is_ok_and(|output| text(&output.stderr).contains("OpenBSD"));
    if !there {
        eprintln!("{test}: skipped, there is no OpenBSD nc (package netcat-openbsd)");
    }
    there
}

fn spawn(server: &Server, options: &[&str]) -> Child {
    let mut command = Command::new("nc");
    command.args(options).args(["localhost", &server.port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Pipes `input` through nc, as `printf ... | nc`.
fn piped(server: &Server, options: &[&str], input: &[u8]) -> String {
    let mut child = spawn(server, options);
    child.stdin.take().unwrap().write_all(input).unwrap();
    text(&child.wait_with_output().unwrap().stdout)
}

#[test]
fn typed_line_by_line() {
    if !nc("typed_line_by_line") {
        return;
    }
    let server = Server::start(&["8", "64", "0", "4"]);
    let mut child = spawn(&server, &[]);
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut type_ = |lines: &str, answer: &str| {
        for line in lines.split_inclusive('\n') {
            keyboard.write_all(line.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut got = vec![0; answer.len()];
        screen.read_exact(&mut got).unwrap();
        assert_eq!(text(&got), answer);
    };
    type_("w 3\nhello there\n", "ok 3 1\n");
    type_("r 3\n", "data 3 1 11\nhello there\n");
    type_("r 9\n", "err box 9 is not 0..7\n");
    type_("w 3 5\nhowdy\n", "ok 3 2\n");
    type_("\n\nr 3 2 0\n", "same 3 2\n");
    type_("q\n", "bye quit\n");
    drop(keyboard);
    assert!(child.wait().unwrap().success());
}

#[test]
fn piped_in_one_go() {
    if !nc("piped_in_one_go") {
        return;
    }
    let server = Server::start(&["8", "64", "0", "4"]);
    assert_eq!(piped(&server, &["-N"], b"r 0\n"), "data 0 0 0\n\nbye quit\n");
    assert_eq!(piped(&server, &[], b"w 1 3\na\nb\nr 1\nq\n"), "ok 1 1\ndata 1 1 3\na\nb\nbye quit\n");
    assert_eq!(piped(&server, &["-N"], b"w 3 -\nnotes\nof two lines\n"), "ok 3 1\nbye quit\n");
    assert_eq!(piped(&server, &["-N"], b"r 3\n"), "data 3 1 19\nnotes\nof two lines\n\nbye quit\n");
    // With telnet's line ends.
    assert_eq!(piped(&server, &["-C", "-N"], b"w 4\nhi\nr 4\n"), "ok 4 1\ndata 4 1 2\nhi\nbye quit\n");
    // A pipe as large as a mailbox, and one byte more.
    let notes = "x".repeat(65536);
    assert_eq!(piped(&server, &["-N"], format!("w 5 -\n{notes}").as_bytes()), "ok 5 1\nbye quit\n");
    assert_eq!(
        piped(&server, &["-N"], format!("w 5 -\n{notes}x").as_bytes()),
        "err full 65537 exceeds the mailbox, 65536\nbye quit\n"
    );
    assert!(piped(&server, &["-N"], b"r 5\n").starts_with("data 5 1 4096+\n"));
}

#[test]
fn a_word_of_one_wakes_the_other() {
    if !nc("a_word_of_one_wakes_the_other") {
        return;
    }
    let server = Server::start(&["8", "64", "0", "4"]);
    let mut listener = spawn(&server, &[]);
    let mut keyboard = listener.stdin.take().unwrap();
    keyboard.write_all(b"r 0 0\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(piped(&server, &["-N"], b"w 0\nhello\n"), "ok 0 1\nbye quit\n");
    let mut received = [0; 17];
    listener.stdout.as_mut().unwrap().read_exact(&mut received).unwrap();
    assert_eq!(text(&received), "data 0 1 5\nhello\n");
    drop(keyboard);
    let _ = listener.kill();
    let _ = listener.wait();
}
