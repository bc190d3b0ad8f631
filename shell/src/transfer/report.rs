//! The report that a forked receiver sends to its parent when it ends.
//!
//! ```text
//! report    u64 bytes   f64 seconds   u8 has a checksum   16 bytes checksum   u8 fault   text   u8 warnings
//! warning   u8 kind   text
//! text      u16 length   that many bytes of UTF-8
//! ```
//!
//! All numbers are little-endian. Both sides are the same program, so the report carries no version.

use super::checksum::Sum;
use super::destination::Warning;
use crate::channel::control::forked::MAX_REPORT;

/// The most characters of a fault's text. With four bytes each, and with the warnings, they fit one report.
const MAX_TEXT: usize = 500;
/// The most warnings in a report.
const MAX_WARNINGS: usize = 4;

/// The reason that a receiver has no file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It failed on its own side, most often at the disk.
    Own(String),
    /// The file's contents differ from what was sent.
    Checksum,
    /// The sender has gone.
    Sender(String),
    /// A signal asked it to stop.
    Interrupted,
    /// It ended without a report.
    Lost(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(text) | Self::Sender(text) => f.write_str(text),
            Self::Checksum => f.write_str("the file read back has another checksum than the source"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Lost(how) => write!(f, "lost: {how}"),
        }
    }
}

/// The report that a receiver sends when it ends.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Report {
    pub bytes: u64,
    pub checksum: Option<Sum>,
    pub seconds: f64,
    pub fault: Option<Fault>,
    pub warnings: Vec<Warning>,
}

impl Report {
    /// Encodes the report. Long texts are cut, and warnings beyond the fourth are counted.
    pub(super) fn encode(mut self) -> Vec<u8> {
        if self.warnings.len() > MAX_WARNINGS {
            let more = self.warnings.split_off(MAX_WARNINGS - 1).len();
            self.warnings.push(Warning::NotKept(format!("{more} more")));
        }
        let mut packet = Vec::with_capacity(MAX_REPORT);
        packet.extend(self.bytes.to_le_bytes());
        packet.extend(self.seconds.to_le_bytes());
        packet.push(self.checksum.is_some().into());
        packet.extend(self.checksum.unwrap_or_default());
        let (kind, text) = match &self.fault {
            None => (0, ""),
            Some(Fault::Own(text)) => (1, text.as_str()),
            Some(Fault::Checksum) => (2, ""),
            Some(Fault::Sender(text)) => (3, text.as_str()),
            Some(Fault::Interrupted) => (4, ""),
            Some(Fault::Lost(text)) => (5, text.as_str()),
        };
        put_text(&mut packet, kind, text, MAX_TEXT);
        packet.push(self.warnings.len() as u8);
        for warning in &self.warnings {
            let (kind, text) = match warning {
                Warning::NotKept(text) => (0, text),
                Warning::NotSynced(text) => (1, text),
            };
            put_text(&mut packet, kind, text, MAX_TEXT / MAX_WARNINGS);
        }
        packet
    }

    /// Decodes a report. Returns `None` if it is not a whole report.
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = packet;
        let bytes = u64::from_le_bytes(take(&mut rest)?);
        let seconds = f64::from_le_bytes(take(&mut rest)?);
        let [has_checksum] = take(&mut rest)?;
        let sum: Sum = take(&mut rest)?;
        let (kind, text) = take_text(&mut rest)?;
        let fault = match kind {
            0 => None,
            1 => Some(Fault::Own(text)),
            2 => Some(Fault::Checksum),
            3 => Some(Fault::Sender(text)),
            4 => Some(Fault::Interrupted),
            5 => Some(Fault::Lost(text)),
            _ => return None,
        };
        let [count] = take(&mut rest)?;
        let warning = |_| match take_text(&mut rest)? {
            (0, text) => Some(Warning::NotKept(text)),
            (1, text) => Some(Warning::NotSynced(text)),
            _ => None,
        };
        let warnings = (0..count).map(warning).collect::<Option<_>>()?;
        let checksum = (has_checksum == 1).then_some(sum);
        rest.is_empty().then_some(Self { bytes, checksum, seconds, fault, warnings })
    }
}

/// Appends a kind and at most `most` characters of its text.
fn put_text(packet: &mut Vec<u8>, kind: u8, text: &str, most: usize) {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    packet.push(kind);
    packet.extend((end as u16).to_le_bytes());
    packet.extend(&text.as_bytes()[..end]);
}

fn take_text(rest: &mut &[u8]) -> Option<(u8, String)> {
    let [kind] = take(rest)?;
    let length = u16::from_le_bytes(take(rest)?);
    let (text, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    Some((kind, String::from_utf8(text.to_vec()).ok()?))
}

fn take<const LENGTH: usize>(rest: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fault: Option<Fault>, warnings: Vec<Warning>) -> Report {
        Report { bytes: 1 << 40, checksum: Some([3; 16]), seconds: 0.25, fault, warnings }
    }

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        let faults = [
            None,
            Some(Fault::Own("the disk is full".into())),
            Some(Fault::Checksum),
            Some(Fault::Sender("the sender died".into())),
            Some(Fault::Interrupted),
            Some(Fault::Lost("killed".into())),
        ];
        for fault in faults {
            let warnings = vec![Warning::NotKept("times".into()), Warning::NotSynced("why".into())];
            let sent = report(fault, warnings);
            assert_eq!(Report::decode(&sent.clone().encode()), Some(sent));
        }
        let without = Report { checksum: None, ..report(None, Vec::new()) };
        assert_eq!(Report::decode(&without.clone().encode()), Some(without));
    }

    #[test]
    fn the_longest_report_fits_one_packet_and_no_part_of_it_is_a_report() {
        let long = "\u{10000}".repeat(2 * MAX_TEXT);
        let sent = report(Some(Fault::Own(long.clone())), vec![Warning::NotKept(long); 9]);
        let packet = sent.encode();
        assert!(packet.len() <= MAX_REPORT, "{} bytes", packet.len());
        let arrived = Report::decode(&packet).unwrap();
        assert_eq!(arrived.warnings.len(), MAX_WARNINGS);
        assert_eq!(arrived.warnings.last(), Some(&Warning::NotKept("6 more".into())));
        for end in 0..packet.len() {
            assert_eq!(Report::decode(&packet[..end]), None, "cut at {end}");
        }
    }
}
