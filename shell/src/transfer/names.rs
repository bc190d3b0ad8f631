//! The names of received files.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use thiserror::Error;

/// A template for file names: text with `{peer}`, `{pid}` and `{name}`.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Peer,
    Pid,
    Name,
}

/// Why a template cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A placeholder that does not exist.
    #[error("{0} is not known; there are {{peer}}, {{pid}} and {{name}}")]
    Unknown(String),
    /// Several peers would write the same file.
    #[error("several peers would get the same name; use {{peer}} or {{pid}} in it")]
    Collides,
    /// A result would not be a file name.
    #[error("it makes {0}, which is not a file name")]
    NotAName(String),
}

fn shown(text: &OsStr) -> String {
    crate::os::escape::shown(Path::new(text))
}

/// The name of a stream from standard input.
pub const STDIN_NAME: &str = "stdin";

impl Template {
    /// The default names of a copy.
    pub const DEFAULT: &str = "peer-{peer}_{name}";

    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`].
    pub fn parse(template: &OsStr) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = template.as_bytes();
        while let Some(open) = rest.iter().position(|&byte| byte == b'{') {
            let close = rest[open..].iter().position(|&byte| byte == b'}').map(|at| open + at + 1);
            let close = close.unwrap_or(rest.len());
            parts.push(Part::Text(rest[..open].to_vec()));
            parts.push(match &rest[open..close] {
                b"{peer}" => Part::Peer,
                b"{pid}" => Part::Pid,
                b"{name}" => Part::Name,
                other => return Err(TemplateError::Unknown(shown(OsStr::from_bytes(other)))),
            });
            rest = &rest[close..];
        }
        parts.push(Part::Text(rest.to_vec()));
        Ok(Self { parts })
    }

    /// Checks that `peers` peers get different, possible file names for a source called `name`.
    ///
    /// # Errors
    /// Two peers would get the same name, or a name is not possible.
    pub fn check(&self, name: &OsStr, peers: u32) -> Result<(), TemplateError> {
        if peers > 1 && !self.parts.iter().any(|part| matches!(part, Part::Peer | Part::Pid)) {
            return Err(TemplateError::Collides);
        }
        let result = self.name(name, 1, peers, 1);
        let bytes = result.as_bytes();
        if bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|byte| matches!(byte, b'/' | 0))
        {
            return Err(TemplateError::NotAName(shown(&result)));
        }
        Ok(())
    }

    /// Returns whether a name depends on a process id, which is not known before the peer is forked.
    pub fn needs_pid(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Pid))
    }

    /// Returns the name for one of `peers` peers. Peers count from 1, and their numbers are padded to the same width,
    /// at least 2.
    pub fn name(&self, name: &OsStr, peer: u32, peers: u32, pid: i32) -> OsString {
        let width = peers.to_string().len().max(2);
        let mut result = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => result.extend_from_slice(text),
                Part::Peer => result.extend_from_slice(format!("{peer:0width$}").as_bytes()),
                Part::Pid => result.extend_from_slice(pid.to_string().as_bytes()),
                Part::Name => result.extend_from_slice(name.as_bytes()),
            }
        }
        OsString::from_vec(result)
    }

    /// Returns the most bytes that a name can have.
    pub fn max_length(&self, name: &OsStr, peers: u32) -> usize {
        self.name(name, peers, peers, 4_194_304).len() // the kernel's highest pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(template: &str, peer: u32, peers: u32) -> String {
        let template = Template::parse(OsStr::new(template)).unwrap();
        template.name(OsStr::new("f.txt"), peer, peers, 77).into_string().unwrap()
    }

    #[test]
    fn placeholders_are_filled_in_and_peers_are_padded() {
        assert_eq!(made(Template::DEFAULT, 3, 8), "peer-03_f.txt");
        assert_eq!(made("{peer}", 3, 1000), "0003");
        assert_eq!(made("{name}.{pid}.{peer}", 1, 1), "f.txt.77.01");
        assert_eq!(made("plain", 1, 1), "plain");
    }

    #[test]
    fn impossible_templates_are_refused() {
        let check = |template: &str, peers| {
            Template::parse(OsStr::new(template)).and_then(|template| template.check(OsStr::new("f"), peers))
        };
        assert_eq!(check("{nam}", 1), Err(TemplateError::Unknown("{nam}".into())));
        assert_eq!(check("{peer", 1), Err(TemplateError::Unknown("{peer".into())));
        assert_eq!(check("{name}", 2), Err(TemplateError::Collides));
        assert_eq!(check("{name}", 1), Ok(()));
        assert_eq!(check("a/{peer}", 2), Err(TemplateError::NotAName("a/01".into())));
        for bad in ["", ".", ".."] {
            assert!(matches!(check(bad, 1), Err(TemplateError::NotAName(_))));
        }
    }
}
