//! The address of a server, as users write it and as a server prints it: `localhost`, `127.0.0.1:9000`, `::1`,
//! `[::1]:9000`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

/// A host, perhaps with a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, if one was written.
    pub port: Option<u16>,
}

/// What is wrong with the text of a server's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// There is no host.
    #[error("it must name a host: localhost, 127.0.0.1 or [::1], perhaps with :PORT")]
    NoHost,
    /// The text in brackets is no IPv6 address.
    #[error("what stands in brackets must be an IPv6 address, as in [::1]")]
    Brackets,
    /// The text after the colon is no port.
    #[error("the port after the colon must be a whole number from 1 to 65535")]
    Port,
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = if let Some(inner) = text.strip_prefix('[') {
            let (host, rest) = inner.split_once(']').ok_or(AddressError::Brackets)?;
            if !is_ipv6(host) {
                return Err(AddressError::Brackets);
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(AddressError::Brackets),
            }
        } else {
            match text.split_once(':') {
                // With more than one colon it is an IPv6 address.
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            }
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let number = |port: &str| port.parse().ok().filter(|&number| number != 0 && digits(port));
        let port = port.map(|port| number(port).ok_or(AddressError::Port)).transpose()?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Reads an address of this machine, with or without brackets, and without a port.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    without_brackets(text).parse().ok()
}

/// Returns a host as the resolver needs it: an IPv6 address without brackets.
pub fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| is_ipv6(inner)).unwrap_or(host)
}

/// Formats a host and a port as a server prints them. An IPv6 address gets brackets.
pub fn shown(host: &str, port: u16) -> String {
    let host = without_brackets(host);
    if is_ipv6(host) {
        format!("[{host}]:{port}")
    } else {
        format!("{}:{port}", crate::os::escape::line(host))
    }
}

/// Returns whether this is an IPv6 address, perhaps with its interface (`fe80::1%eth0`).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
    let plain = zone.bytes().all(|byte| byte.is_ascii_graphic() && !b"[]/".contains(&byte));
    !zone.is_empty() && plain && address.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_prints_is_understood() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("localhost:9000", "localhost", Some(9000)),
            ("127.0.0.1:9000", "127.0.0.1", Some(9000)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:9000", "::1", Some(9000)),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", Some(1)),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", None),
        ] {
            assert_eq!(text.parse(), Ok(HostPort { host: host.into(), port }), "{text}");
        }
        for address in ["127.0.0.1:9000", "[::1]:9000", "[2001:db8::7]:65535"] {
            let parsed: HostPort = address.parse().unwrap();
            let socket: std::net::SocketAddr = address.parse().unwrap();
            assert_eq!((parsed.host, parsed.port), (socket.ip().to_string(), Some(socket.port())));
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        for (text, error) in [
            ("", AddressError::NoHost),
            (":9000", AddressError::NoHost),
            ("[]", AddressError::Brackets),
            ("[::1", AddressError::Brackets),
            ("[::1]9000", AddressError::Brackets),
            ("[localhost]:9000", AddressError::Brackets),
            ("[127.0.0.1]", AddressError::Brackets),
            ("[::1%]", AddressError::Brackets),
            ("[::1]:", AddressError::Port),
            ("localhost:", AddressError::Port),
            ("localhost:0", AddressError::Port),
            ("localhost:+9", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("localhost:http", AddressError::Port),
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(error), "{text}");
        }
    }

    #[test]
    fn brackets_come_and_go() {
        assert_eq!(parse_ip("[::1]"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_ip("::1"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_ip("127.0.0.1"), Some(std::net::Ipv4Addr::LOCALHOST.into()));
        for text in ["[127.0.0.1]", "[::1]:9", "[::1", "::1]", "localhost", ""] {
            assert_eq!(parse_ip(text), None, "{text}");
        }
        assert_eq!(without_brackets("[host]"), "[host]");
        assert_eq!((shown("::1", 1), shown("[::1]", 1)), ("[::1]:1".into(), "[::1]:1".into()));
        assert_eq!(shown("a\u{1b}", 1), "a\\u{1b}:1");
    }
}
