//! A fork after each system call of a thread that opens, uses or closes something of the library.

use crate::kit::{Running, SOON, Sandbox, until};
use crate::victim::{Grandchild, Victim, lives, victim};
use std::path::Path;
use std::time::Duration;
use whorl::Mailboxes;
use whorl::Server as Announced;
use whorl::internal::mailbox_server::reply::Limits;
use whorl::internal::mailbox_server::server::{Options, Server as Mailbox};
use whorl::internal::registry::{Client, Listener, RuntimeDir};
use whorl::{Receiver, Sender};

/// Not a test of its own: opens what the tester asks for.
#[test]
fn opening() {
    let Ok(scene) = std::env::var("WHORL_TEST_SCENE") else { return };
    let variable = |name: &str| std::env::var_os(name).expect("set by the tester");
    let name = "x".parse().expect("a name");
    let options = || Receiver::options().timeout(Duration::from_millis(20));
    victim(|say| {
        // Kept until the tester has checked it.
        let opened = || {
            say("opened", 0);
            if std::env::var_os("WHORL_TEST_HOLD").is_some() {
                hold();
            }
        };
        match &*scene {
            "sender" => {
                let _sender = Sender::create(&name).expect("a sender");
                opened();
            }
            "receiver" | "stream" => {
                let _receiver = Receiver::join(&name).expect("a receiver");
                opened();
            }
            "waiter" => {
                assert!(options().join(&"missing".parse().expect("a name")).is_err());
                opened();
            }
            "accepted" => {
                let directory = || RuntimeDir::open().expect("a directory");
                let listener = Listener::bind(directory(), &name).expect("a name");
                let _client = Client::connect(&directory(), &name).expect("a client");
                let _accepted = listener.accept().expect("a client").expect("it waits");
                opened();
            }
            "mailboxes" => {
                let control = variable("WHORL_TEST_CONTROL");
                let mailboxes = Mailboxes::attach(Path::new(&control)).expect("mailboxes");
                let _other = mailboxes.try_clone().expect("another seat");
                opened();
            }
            "announced" => {
                let directory = Path::new(&variable("XDG_RUNTIME_DIR")).join("servers");
                let _server = Announced::options(directory).start(&name).expect("a server");
                opened();
            }
            "mailbox server" => {
                let options = Options {
                    limits: Limits { boxes: 2, capacity: 64, packet: 64 },
                    address: None,
                    port: 0,
                    any_user: false,
                    unix: Some(Path::new(&variable("XDG_RUNTIME_DIR")).join("socket")),
                    token: None,
                    idle: None,
                    max_connections: Some(4),
                    workers: Some(1),
                };
                let server = Mailbox::open(options, None).expect("a server");
                opened();
                drop(server);
            }
            other => panic!("no scene {other}"),
        }
        say("closed", 0);
    });
}

fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

struct Phase {
    sandbox: Sandbox,
    mailboxes: crate::kit::mailbox_server::Server,
    _senders: Vec<Running>,
}

impl Phase {
    /// What the victim of a scene needs around it.
    fn of(scene: &str) -> Self {
        let sandbox = Sandbox::new();
        let senders = match scene {
            "receiver" => vec![sandbox.start_fed("send x --peers 0 --seats 1000")],
            "stream" => vec![sandbox.start_fed("send x --peers 0 --socket --seats 1000")],
            _ => Vec::new(),
        };
        if !senders.is_empty() {
            sandbox.until_owned("x");
        }
        Self {
            sandbox,
            mailboxes: crate::kit::mailbox_server::Server::start(&["2", "4", "0", "4"]),
            _senders: senders,
        }
    }

    fn victim(&self, scene: &str, hold: bool) -> Victim {
        let (run, control) = (self.sandbox.at("run"), self.mailboxes.control());
        let mut variables = vec![
            ("WHORL_TEST_SCENE", scene.as_ref()),
            ("XDG_RUNTIME_DIR", run.as_os_str()),
            ("WHORL_TEST_CONTROL", control.as_os_str()),
        ];
        if hold {
            variables.push(("WHORL_TEST_HOLD", "1".as_ref()));
        }
        Victim::start("sweep::opening", &variables)
    }
}

/// Forks after each of the opener's system calls, up to the call after which it prints `phase`, and checks each child
/// then. Returns the number of calls.
fn sweep(scene: &str, phase: &str, from: usize) -> usize {
    let stage = Phase::of(scene);
    for calls in from.. {
        let mut victim = stage.victim(scene, phase == "opened");
        for _ in 0..calls {
            victim.next_call();
            if victim.printed(phase).is_some() {
                return calls;
            }
        }
        victim.fork();
        victim.run_on();
        let child = Grandchild(victim.wait_for("forked"));
        victim.wait_for(phase);
        let mut found = Vec::new();
        until(SOON, &format!("{scene}: forked after {calls} calls, the child holds nothing"), || {
            found = lives(child.0);
            found.is_empty()
        });
    }
    unreachable!("there are fewer numbers")
}

fn sweep_both(scene: &str) {
    let opening = sweep(scene, "opened", 0);
    let all = sweep(scene, "closed", opening);
    eprintln!("{scene}: {opening} system calls to open, {} to close", all - opening);
}

macro_rules! scenes {
    ($($name:ident: $scene:literal;)*) => {
        $(#[test]
        fn $name() {
            sweep_both($scene);
        })*
    };
}

scenes! {
    forks_while_a_sender_is_opened: "sender";
    forks_while_a_receiver_is_opened: "receiver";
    forks_while_a_receiver_of_a_stream_is_opened: "stream";
    forks_while_a_receiver_waits: "waiter";
    forks_while_a_connection_is_accepted: "accepted";
    forks_while_mailboxes_are_opened: "mailboxes";
    forks_while_a_server_is_opened: "announced";
    forks_while_a_mailbox_server_is_opened: "mailbox server";
}
