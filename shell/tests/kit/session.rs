//! Drives a session without sockets: the mailboxes are a `Vec`, and the test cuts the input into pieces.

use whorl::internal::mailbox_server::budget::Budget;
use whorl::internal::mailbox_server::out_buffer::OutBuffer;
use whorl::internal::mailbox_server::reply::{Fault, Limits};
use whorl::internal::mailbox_server::session::{CallContext, Config, MailboxStore, Session, WaitingFor};

/// Mailboxes in a `Vec`.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Plain(pub Vec<(u64, Vec<u8>)>);

impl MailboxStore for Plain {
    fn version(&mut self, mailbox: u32) -> Result<u64, Fault> {
        Ok(self.0[mailbox as usize].0)
    }

    fn read(
        &mut self,
        mailbox: u32,
        out: &mut OutBuffer,
        mut head: impl FnMut(&mut OutBuffer, u64, usize),
    ) -> Result<(), Fault> {
        let (version, message) = &self.0[mailbox as usize];
        head(out, *version, message.len());
        out.extend_from_slice(message);
        Ok(())
    }

    fn write(&mut self, mailbox: u32, message: &[u8]) -> Result<u64, Fault> {
        let found = &mut self.0[mailbox as usize];
        *found = (found.0 + 1, message.to_vec());
        Ok(found.0)
    }
}

pub fn config(boxes: u32, capacity: usize, packet: usize, token: Option<&[u8]>) -> Config {
    let limits = Limits { boxes, capacity, packet };
    Config { limits, token: token.map(<[u8]>::to_vec), idle: None }
}

/// All replies to `pieces`, in order, and then to the end of the input.
pub fn converse<'a>(
    config: &Config,
    boxes: &mut Plain,
    brim: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let budget = Budget::new(64 << 20);
    let mut session = Session::new(config.token.is_none(), &budget.account(0, None), 0);
    let mut replies = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    let mut pieces = pieces.into_iter();
    let mut end = false;
    while !end {
        match pieces.next() {
            Some(piece) => input.extend(piece),
            None => end = true,
        }
        loop {
            let mut out = OutBuffer::default();
            let mut turn =
                CallContext { now: 0, config, boxes, out: &mut out, room: usize::MAX, keeps_replies: false };
            let (used, need) = session.advance(&input, end, brim, &mut turn);
            input.drain(..used);
            replies.extend_from_slice(&out);
            match need {
                WaitingFor::Room => {}
                WaitingFor::Input => {
                    assert!(
                        input.len() < 128,
                        "a session that wants more has used up all but a line's beginning"
                    );
                    break;
                }
                WaitingFor::NewVersion { .. } | WaitingFor::Nothing => break,
            }
        }
    }
    assert!(session.is_done());
    drop(session);
    assert_eq!(budget.left(), 64 << 20, "all memory for data is given back");
    replies
}
