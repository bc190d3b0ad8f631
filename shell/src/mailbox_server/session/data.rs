//! The data of a `w` in each of its forms: how they are checked, staged, and stored.

use super::{CallContext, MailboxStore, Session, Sized, StagedMessage, State, Step, Target, Text};
use crate::mailbox_server::reply::{self, CloseReason, Fault, Refusal};
use crate::mailbox_server::wire::Form;

impl Session {
    /// Checks the first line of a `w`, and decides what happens to its data, which follow in any case.
    pub(super) fn begin<B>(&mut self, mailbox: u64, form: Form, call: &mut CallContext<'_, B>) {
        let limits = &call.config.limits;
        let continues = matches!(form, Form::Sized { .. })
            && self.staged.as_ref().is_some_and(|staged| staged.mailbox == mailbox);
        if !continues {
            self.discard();
        }
        let refusal = (mailbox >= limits.boxes.into()).then_some(Refusal::Box(mailbox));
        let target = Target { mailbox, refusal };
        self.began = Some(call.now);
        self.state = match form {
            Form::Sized { size, .. } if size > limits.discard_max() => {
                return self.finish(CloseReason::Size(size, limits.discard_max()), call.out);
            }
            Form::Sized { size, last } => {
                let total = self.buffer.len() as u64 + size;
                let refusal = refusal
                    .or(self.staged.as_ref().and_then(|staged| staged.refusal))
                    .or((size > limits.packet as u64).then_some(Refusal::Size(size)))
                    .or((total > limits.capacity as u64).then_some(Refusal::Full(total)));
                State::Sized(Sized { target: Target { mailbox, refusal }, size, got: 0, last })
            }
            Form::Line => State::Text(Text { target, got: 0, ends_in_return: false }),
            Form::Pipe => {
                if let Some(refusal) = refusal {
                    reply::refuse(call.out, limits, refusal);
                }
                State::Pipe(target)
            }
        };
    }

    /// Stages `data` of the current message, unless it is refused. If there is no memory for them, refuses it.
    fn keep(&mut self, data: &[u8], target: &mut Target) {
        if target.refusal.is_none() && self.buffer.extend(data).is_err() {
            target.refusal = Some(Refusal::Fault(Fault::Memory));
        }
        if target.refusal.is_some() {
            self.buffer.clear();
        }
    }

    pub(super) fn sized<B: MailboxStore>(
        &mut self,
        input: &[u8],
        mut packet: Sized,
        call: &mut CallContext<'_, B>,
    ) -> Step {
        let missing = packet.size - packet.got;
        let here = missing.min(input.len() as u64) as usize;
        let (data, behind) = input.split_at(here);
        let line_end = match behind {
            [b'\n', ..] => Some(1),
            [b'\r', b'\n', ..] => Some(2),
            [] | [b'\r'] => None,
            _ => {
                self.finish(CloseReason::Frame(packet.size), call.out);
                return Step::Used(here);
            }
        };
        let whole =
            packet.got == 0 && packet.last && packet.target.refusal.is_none() && self.buffer.is_empty();
        if let (Some(line_end), true) = (line_end, whole) {
            // The usual case: the whole message is in the input, and is stored from there.
            self.store(packet.target, data, call);
            return Step::Used(here + line_end);
        }
        self.keep(data, &mut packet.target);
        packet.got += here as u64;
        self.state = State::Sized(packet);
        match line_end {
            Some(line_end) => {
                self.packet(packet, call);
                Step::Used(here + line_end)
            }
            None if here > 0 => Step::Used(here),
            None => Step::Starved,
        }
    }

    /// Handles a complete packet, its line end included.
    fn packet<B: MailboxStore>(&mut self, Sized { target, last, .. }: Sized, call: &mut CallContext<'_, B>) {
        match target.refusal {
            Some(refusal) => reply::refuse(call.out, &call.config.limits, refusal),
            None if last => {
                let message = self.buffer.take();
                return self.store(target, message.bytes(), call);
            }
            None => reply::more(call.out, target.mailbox as u32, self.buffer.len() as u64),
        }
        self.staged = (!last).then_some(StagedMessage { mailbox: target.mailbox, refusal: target.refusal });
        self.answered(call.now);
    }

    pub(super) fn text<B: MailboxStore>(
        &mut self,
        input: &[u8],
        mut text: Text,
        call: &mut CallContext<'_, B>,
    ) -> Step {
        let limits = &call.config.limits;
        let line_end = input.iter().position(|&byte| byte == b'\n');
        let piece = &input[..line_end.unwrap_or(input.len())];
        let whole = text.got == 0 && line_end.is_some();
        text.got += piece.len() as u64;
        text.ends_in_return = piece.last().map_or(text.ends_in_return, |&byte| byte == b'\r');
        let size = text.got - u64::from(text.ends_in_return);
        if size > limits.discard_max() {
            self.finish(CloseReason::Size(limits.discard_max() + 1, limits.discard_max()), call.out);
            return Step::Used(input.len());
        }
        let fits = size <= limits.packet.min(limits.capacity) as u64;
        if !fits {
            self.buffer.clear(); // a line that is too long stays too long
        } else if !whole {
            self.keep(piece, &mut text.target);
        }
        let Some(line_end) = line_end else {
            self.state = State::Text(text);
            return if input.is_empty() { Step::Starved } else { Step::Used(input.len()) };
        };
        let too_long = if size > limits.packet as u64 { Refusal::Size(size) } else { Refusal::Full(size) };
        if let Some(refusal) = text.target.refusal.or((!fits).then_some(too_long)) {
            reply::refuse(call.out, limits, refusal);
            self.answered(call.now);
        } else if whole {
            self.store(text.target, &piece[..size as usize], call);
        } else {
            let message = self.buffer.take();
            self.store(text.target, &message.bytes()[..size as usize], call);
        }
        Step::Used(line_end + 1)
    }

    pub(super) fn pipe<B>(
        &mut self,
        input: &[u8],
        mut target: Target,
        call: &mut CallContext<'_, B>,
    ) -> Step {
        if input.is_empty() {
            return Step::Starved;
        }
        self.began = Some(call.now);
        if target.refusal.is_none() {
            let capacity = call.config.limits.capacity;
            if self.buffer.len() + input.len() > capacity {
                target.refusal = Some(Refusal::Full(capacity as u64 + 1));
            }
            self.keep(input, &mut target);
            // Replied at once, because a pipe may have no end.
            if let Some(refusal) = target.refusal {
                reply::refuse(call.out, &call.config.limits, refusal);
            }
            self.state = State::Pipe(target);
        }
        Step::Used(input.len())
    }

    pub(super) fn store<B: MailboxStore>(
        &mut self,
        target: Target,
        message: &[u8],
        call: &mut CallContext<'_, B>,
    ) {
        let mailbox = target.mailbox as u32;
        match call.boxes.write(mailbox, message) {
            Ok(version) => reply::ok(call.out, mailbox, version),
            Err(fault) => reply::refuse(call.out, &call.config.limits, Refusal::Fault(fault)),
        }
        self.discard();
        self.answered(call.now);
    }
}
