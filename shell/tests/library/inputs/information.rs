//! Information files: of announced servers, and of mailbox servers. The first byte says which.

use whorl::discovery::Information;
use whorl::mailbox_server::place;

/// Whatever is understood means the same when it is written again.
pub fn run(input: &[u8]) -> bool {
    let Some((which, text)) = input.split_first() else { return false };
    if which & 1 == 0 {
        return Information::parse(text).is_ok_and(|found| {
            assert_eq!(Information::parse(found.text().as_bytes()), Ok(found));
            true
        });
    }
    let Ok(text) = std::str::from_utf8(text) else { return false };
    place::Information::parse(text).is_some_and(|found| {
        assert_eq!(place::Information::parse(&found.to_text()), Some(found));
        true
    })
}
