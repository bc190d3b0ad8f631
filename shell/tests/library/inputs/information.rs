//! Information files: of announced servers, and of mailbox servers. The first byte chooses the kind.

use whorl::internal::discovery::Information;
use whorl::internal::mailbox_server::server_registry::ServerInfo;

/// What was parsed means the same after it is written and parsed again.
pub fn run(input: &[u8]) -> bool {
    let Some((which, text)) = input.split_first() else { return false };
    if which & 1 == 0 {
        return Information::parse(text).is_ok_and(|found| {
            assert_eq!(Information::parse(found.text().as_bytes()), Ok(found));
            true
        });
    }
    ServerInfo::parse(text).is_some_and(|found| {
        assert_eq!(ServerInfo::parse(found.to_text().as_bytes()), Some(found));
        true
    })
}
