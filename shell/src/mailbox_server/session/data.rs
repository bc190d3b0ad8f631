//! The data of a `w`: how they are judged, kept, and stored, in each of their forms.

use super::{CallContext, MailboxStore, Phase, Session, Sized, State, Step, Target, Text};
use crate::mailbox_server::reply::{self, CloseReason, Fault, Refusal};
use crate::mailbox_server::wire::Form;

impl Session {
    /// Judges a `w` by its first line: what becomes of its data, which follow in any case.
    pub(super) fn begin<B>(&mut self, mailbox: u64, form: Form, turn: &mut CallContext<'_, B>) {
        let shape = &turn.rules.shape;
        let continues = matches!(form, Form::Sized { .. })
            && self.stage.as_ref().is_some_and(|stage| stage.mailbox == mailbox);
        if !continues {
            self.discard();
        }
        let refusal = (mailbox >= shape.boxes.into()).then_some(Refusal::Box(mailbox));
        let target = Target { mailbox, refusal };
        self.began = Some(turn.now);
        self.state = match form {
            Form::Sized { size, .. } if size > shape.discard_max() => {
                return self.finish(CloseReason::Size(size, shape.discard_max()), turn.out);
            }
            Form::Sized { size, last } => {
                let total = self.held.len() as u64 + size;
                let refusal = refusal
                    .or(self.stage.as_ref().and_then(|stage| stage.refusal))
                    .or((size > shape.packet as u64).then_some(Refusal::Size(size)))
                    .or((total > shape.capacity as u64).then_some(Refusal::Full(total)));
                State::Sized(Sized { target: Target { mailbox, refusal }, size, got: 0, last })
            }
            Form::Line => State::Text(Text { target, got: 0, ends_in_return: false }),
            Form::Pipe => {
                if let Some(refusal) = refusal {
                    reply::refuse(turn.out, shape, refusal);
                }
                State::Pipe(target)
            }
        };
    }

    /// Keeps `data` of the message in hand, unless they are refused; without memory for them they become so.
    fn keep(&mut self, data: &[u8], target: &mut Target) {
        if target.refusal.is_none() && self.held.extend(data).is_err() {
            target.refusal = Some(Refusal::Fault(Fault::Memory));
        }
        if target.refusal.is_some() {
            self.held.clear();
        }
    }

    pub(super) fn sized<B: MailboxStore>(
        &mut self,
        input: &[u8],
        mut packet: Sized,
        turn: &mut CallContext<'_, B>,
    ) -> Step {
        let missing = packet.size - packet.got;
        let here = missing.min(input.len() as u64) as usize;
        let (data, behind) = input.split_at(here);
        let line_end = match behind {
            [b'\n', ..] => Some(1),
            [b'\r', b'\n', ..] => Some(2),
            [] | [b'\r'] => None,
            _ => {
                self.finish(CloseReason::Frame(packet.size), turn.out);
                return Step::Used(here);
            }
        };
        let whole = packet.got == 0 && packet.last && packet.target.refusal.is_none() && self.held.is_empty();
        if let (Some(line_end), true) = (line_end, whole) {
            // The usual case: a message that lies in the input as a whole is stored from there.
            self.store(packet.target, data, turn);
            return Step::Used(here + line_end);
        }
        self.keep(data, &mut packet.target);
        packet.got += here as u64;
        self.state = State::Sized(packet);
        match line_end {
            Some(line_end) => {
                self.packet(packet, turn);
                Step::Used(here + line_end)
            }
            None if here > 0 => Step::Used(here),
            None => Step::Starved,
        }
    }

    /// A packet is complete, its line end included.
    fn packet<B: MailboxStore>(&mut self, Sized { target, last, .. }: Sized, turn: &mut CallContext<'_, B>) {
        match target.refusal {
            Some(refusal) => reply::refuse(turn.out, &turn.rules.shape, refusal),
            None if last => {
                let message = self.held.take();
                return self.store(target, message.bytes(), turn);
            }
            None => reply::more(turn.out, target.mailbox as u32, self.held.len() as u64),
        }
        self.stage = (!last).then_some(Phase { mailbox: target.mailbox, refusal: target.refusal });
        self.answered(turn.now);
    }

    pub(super) fn text<B: MailboxStore>(
        &mut self,
        input: &[u8],
        mut text: Text,
        turn: &mut CallContext<'_, B>,
    ) -> Step {
        let shape = &turn.rules.shape;
        let line_end = input.iter().position(|&byte| byte == b'\n');
        let piece = &input[..line_end.unwrap_or(input.len())];
        let whole = text.got == 0 && line_end.is_some();
        text.got += piece.len() as u64;
        text.ends_in_return = piece.last().map_or(text.ends_in_return, |&byte| byte == b'\r');
        let size = text.got - u64::from(text.ends_in_return);
        if size > shape.discard_max() {
            self.finish(CloseReason::Size(shape.discard_max() + 1, shape.discard_max()), turn.out);
            return Step::Used(input.len());
        }
        let fits = size <= shape.packet.min(shape.capacity) as u64;
        if !fits {
            self.held.clear(); // and once a line is too long, it stays so
        } else if !whole {
            self.keep(piece, &mut text.target);
        }
        let Some(line_end) = line_end else {
            self.state = State::Text(text);
            return if input.is_empty() { Step::Starved } else { Step::Used(input.len()) };
        };
        let too_long = if size > shape.packet as u64 { Refusal::Size(size) } else { Refusal::Full(size) };
        if let Some(refusal) = text.target.refusal.or((!fits).then_some(too_long)) {
            reply::refuse(turn.out, shape, refusal);
            self.answered(turn.now);
        } else if whole {
            self.store(text.target, &piece[..size as usize], turn);
        } else {
            let message = self.held.take();
            self.store(text.target, &message.bytes()[..size as usize], turn);
        }
        Step::Used(line_end + 1)
    }

    pub(super) fn pipe<B>(
        &mut self,
        input: &[u8],
        mut target: Target,
        turn: &mut CallContext<'_, B>,
    ) -> Step {
        if input.is_empty() {
            return Step::Starved;
        }
        self.began = Some(turn.now);
        if target.refusal.is_none() {
            let capacity = turn.rules.shape.capacity;
            if self.held.len() + input.len() > capacity {
                target.refusal = Some(Refusal::Full(capacity as u64 + 1));
            }
            self.keep(input, &mut target);
            // Told at once: a pipe may have no end.
            if let Some(refusal) = target.refusal {
                reply::refuse(turn.out, &turn.rules.shape, refusal);
            }
            self.state = State::Pipe(target);
        }
        Step::Used(input.len())
    }

    pub(super) fn store<B: MailboxStore>(
        &mut self,
        target: Target,
        message: &[u8],
        turn: &mut CallContext<'_, B>,
    ) {
        let mailbox = target.mailbox as u32;
        match turn.boxes.write(mailbox, message) {
            Ok(version) => reply::ok(turn.out, mailbox, version),
            Err(fault) => reply::refuse(turn.out, &turn.rules.shape, Refusal::Fault(fault)),
        }
        self.discard();
        self.answered(turn.now);
    }
}
