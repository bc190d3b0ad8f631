//! Answering a read: a message in as many packets as it needs.

use super::{CallContext, MailboxStore};
use crate::mailbox_server::reply::{self, Fault, Refusal};

/// The longest text of a reply's packet: a word, three numbers, the spaces between them, and two line ends.
const LONGEST_HEAD: usize = 64;

/// Answers a read, in as many packets as the message needs. Returns `false`, without a reply, if there is no room for
/// it yet.
pub(super) fn read<B: MailboxStore>(mailbox: u32, call: &mut CallContext<'_, B>) -> bool {
    let packet = call.config.limits.packet;
    let out = &mut *call.out;
    let start = out.len();
    let (mut version, mut size) = (0, 0);
    let done = call.boxes.read(mailbox, out, |out, new_version, new_size| {
        (version, size) = (new_version, new_size);
        if size <= packet {
            reply::data(out, mailbox, version, size, true);
        }
    });
    if let Err(fault) = done {
        out.truncate(start);
        reply::refuse(out, &call.config.limits, Refusal::Fault(fault));
        return true;
    }
    let heads = size.div_ceil(packet).saturating_mul(LONGEST_HEAD);
    if out.len().saturating_add(heads) > call.room {
        out.truncate(start);
        if start > 0 || call.keeps_replies {
            return false;
        }
        reply::refuse(out, &call.config.limits, Refusal::Fault(Fault::Memory));
        return true;
    }
    if size <= packet {
        out.push(b'\n');
        return true;
    }
    let at = out.len() - size;
    let message = out[at..].to_vec();
    out.truncate(at);
    let mut packets = message.chunks(packet).peekable();
    while let Some(bytes) = packets.next() {
        reply::data(out, mailbox, version, bytes.len(), packets.peek().is_none());
        out.extend_from_slice(bytes);
        out.push(b'\n');
    }
    true
}
