//! A server that announces itself in a directory, and asking everybody who is announced there.

use std::error::Error;
use std::time::Duration;
use whorl::discovery::Reach;
use whorl::{Name, Server, ServerOptions, discover};

fn main() -> Result<(), Box<dyn Error>> {
    let name: Name = format!("greeter-{}", std::process::id()).parse()?;
    let directory = std::env::temp_dir().join(name.as_str());
    let options = ServerOptions {
        socket_message: b"over TCP".to_vec(),
        shm_message: b"through memory".to_vec(),
        ..ServerOptions::new(directory.clone())
    };
    let mut server = Server::start(&name, &options)?;
    for answer in discover(&directory, Duration::from_secs(10))? {
        assert_eq!(answer.place, Reach::Host, "{:?}", answer.error);
        let [socket, memory] = [answer.socket_message, answer.shm_message].map(Option::unwrap_or_default);
        println!("{}: {}", String::from_utf8_lossy(&socket), String::from_utf8_lossy(&memory));
    }
    // Asking was one client, whatever ways it came.
    server.wait(Some(1), None)?;
    drop(server);
    std::fs::remove_dir(directory)?;
    Ok(())
}
