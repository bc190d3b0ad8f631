//! A server that announces itself in a directory, and a query to every server that is announced there.

use std::error::Error;
use std::time::Duration;
use whorl::Reach;
use whorl::{Name, Server, discover};

fn main() -> Result<(), Box<dyn Error>> {
    let name: Name = format!("greeter-{}", std::process::id()).parse()?;
    let directory = std::env::temp_dir().join(name.as_str());
    let options = Server::options(&directory).socket_message("over TCP").shm_message("through memory");
    let mut server = options.start(&name)?;
    for answer in discover(&directory, Duration::from_secs(10))? {
        assert_eq!(answer.reach, Reach::Host, "{:?}", answer.error);
        let [socket, memory] = [answer.socket_message, answer.shm_message].map(Option::unwrap_or_default);
        println!("{}: {}", String::from_utf8_lossy(&socket), String::from_utf8_lossy(&memory));
    }
    // Asking was one client, whatever ways it came.
    server.wait(Some(1))?;
    drop(server);
    std::fs::remove_dir(directory)?;
    Ok(())
}
