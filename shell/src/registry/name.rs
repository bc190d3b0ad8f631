//! Names of channels and servers.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A name: 1 to 64 of the characters `A-Z a-z 0-9 . _ -`, not starting with a dot. So it is a valid file name on every
/// file system, and needs no quoting or escaping.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a name has 1 to 64 letters, digits, dots, hyphens and underscores, and does not start with a dot")]
pub struct NameError;

impl Name {
    /// The most characters in a name.
    pub const MAX: usize = 64;

    /// Returns the port if this is the name of a mailbox server, `dipc-PORT`. No channel can have such a name.
    pub fn mailbox_port(&self) -> Option<u16> {
        let port = self.0.strip_prefix("dipc-")?;
        port.parse().ok().filter(|number: &u16| number.to_string() == port)
    }

    /// Returns the name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let fits =
            (1..=Self::MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed);
        fits.then(|| Self(text.to_owned())).ok_or(NameError)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_names() {
        for good in ["a", "A.b-c_9", "-", "_", &"x".repeat(64)] {
            assert_eq!(good.parse::<Name>().map(|name| name.to_string()), Ok(good.to_string()));
        }
        for bad in ["", ".", "..", ".a", "a/b", "/", "a b", "a\n", "ä", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad:?}");
        }
        let port = |name: &str| name.parse::<Name>().unwrap().mailbox_port();
        assert_eq!(
            ["dipc-9000", "dipc-09", "dipc-", "dipc-99999", "x-9"].map(port),
            [Some(9000), None, None, None, None]
        );
    }
}
