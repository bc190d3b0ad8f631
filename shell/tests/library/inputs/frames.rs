//! What arrives in sockets: control records and reports, the frames of a stream, the heads of announced servers. The
//! first byte chooses the kind.

use crate::{frame, wire};
use whorl::Name;
use whorl::internal::registry::Waiter;
use whorl::internal::registry::protocol::{LONGEST, Record};
use whorl::internal::registry::status::Report;

/// What was decoded means the same after it is encoded and decoded again.
pub fn run(input: &[u8]) -> bool {
    let Some((which, bytes)) = input.split_first() else { return false };
    match which % 6 {
        0 => Record::decode(bytes).is_ok_and(|record| {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
            true
        }),
        1 => Report::decode(bytes).is_some_and(|report| {
            let again = report.encode();
            assert!(again.len() <= LONGEST);
            // A report from a socket fits a packet. A longer one is cut when it is encoded.
            assert!(bytes.len() > LONGEST || Report::decode(&again) == Some(report));
            true
        }),
        2 => bytes.first_chunk().and_then(frame::Head::decode).is_some_and(|head| {
            assert_eq!(frame::Head::decode(&head.encode()), Some(head));
            true
        }),
        3 => bytes.first_chunk().is_some_and(|body| {
            let end = frame::decode_end(9, body);
            let again = frame::encode_end(end);
            assert_eq!(frame::decode_end(9, again[frame::HEAD..].try_into().expect("its body")), end);
            true
        }),
        4 => {
            let token = bytes.first_chunk().and_then(wire::token_of);
            let length = bytes.first_chunk().and_then(wire::length_of);
            assert!(token.is_none_or(|token| bytes.starts_with(&wire::hello(token))));
            assert!(length.is_none_or(|length| length as u64 <= wire::LONGEST));
            token.is_some() || length.is_some()
        }
        _ => std::str::from_utf8(bytes).is_ok_and(|text| {
            let name = text.parse::<Name>();
            assert!(name.as_ref().is_ok_and(|name| name.as_str() == text) || name.is_err());
            Waiter::parse(text).is_some() || name.is_ok()
        }),
    }
}
