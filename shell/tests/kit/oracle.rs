//! A second implementation of the mailbox protocol, made from its document. It gets a client's whole input at once, and
//! may use any amount of memory and time. It shares no code with the server and works differently: it has no states and
//! no increments, only the remaining text and what that must be.

/// A reply as the document fixes it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Expect {
    /// These bytes.
    Exactly(Vec<u8>),
    /// A line that begins with these words; the rest is for people.
    Line(&'static str),
}

/// Mailboxes and sizes.
#[derive(Clone)]
pub struct Oracle {
    pub boxes: Vec<(u64, Vec<u8>)>,
    pub capacity: usize,
    pub packet: usize,
    pub token: Option<Vec<u8>>,
}

const MEBIBYTE: usize = 1 << 20;

/// The connection ends here, with this last line.
struct Over(&'static str);

struct Talk<'a> {
    server: &'a mut Oracle,
    text: &'a [u8],
    replies: Vec<Expect>,
    /// Mailbox and packets so far, or the error that the message met.
    open_message: Option<(u128, Result<Vec<u8>, Expect>)>,
    proven: bool,
}

impl Oracle {
    pub fn new(boxes: usize, capacity: usize, packet: usize) -> Self {
        Self { boxes: vec![(0, Vec::new()); boxes], capacity, packet, token: None }
    }

    /// All replies to a client that sends `text` and then closes its half.
    pub fn converse(&mut self, text: &[u8]) -> Vec<Expect> {
        if text.starts_with(b"\x16") {
            return vec![Expect::Line("bye http")];
        }
        let proven = self.token.is_none();
        let mut talk = Talk { server: self, text, replies: Vec::new(), open_message: None, proven };
        let last = loop {
            match talk.request() {
                Ok(()) => {}
                Err(Over(line)) => break line,
            }
        };
        talk.replies.push(Expect::Line(last));
        talk.replies
    }
}

/// Whether `actual` is `expected`, to the last byte.
pub fn agrees(expected: &[Expect], actual: &[u8]) -> bool {
    let mut rest = actual;
    for reply in expected {
        match reply {
            Expect::Exactly(bytes) => match rest.strip_prefix(&bytes[..]) {
                Some(behind) => rest = behind,
                None => return false,
            },
            Expect::Line(words) => {
                let Some(end) = rest.iter().position(|&b| b == b'\n') else { return false };
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                let plain = line.chars().all(|c| (' '..='~').contains(&c));
                if !plain || !(line == *words || line.starts_with(&format!("{words} "))) {
                    return false;
                }
                rest = &rest[end + 1..];
            }
        }
    }
    rest.is_empty()
}

fn decimal(field: &[u8], longest: usize) -> Option<u128> {
    let text = std::str::from_utf8(field).ok()?;
    let plain = !text.is_empty() && text.len() <= longest && text.chars().all(|c| c.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn box_number(field: &[u8]) -> Option<u128> {
    decimal(field, 10)
}

/// Whether a line, without its end, is one that a web browser sends.
fn from_a_browser(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let Some((first, _)) = line.trim_start_matches(' ').split_once(' ') else { return false };
    let methods = "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PRI";
    if methods.split(' ').any(|method| method == first) {
        return true;
    }
    let mut name = first.chars();
    name.next_back() == Some(':')
        && name.clone().count() > 1
        && name.all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-'))
}

impl Talk<'_> {
    fn request(&mut self) -> Result<(), Over> {
        let line_end = self.text.iter().position(|&b| b == b'\n').map(|at| at + 1);
        let taken = match line_end {
            Some(length) if length <= 128 => length,
            _ if self.text.len() >= 128 => return Err(Over("bye line")),
            _ if self.text.is_empty() => {
                let unfinished = matches!(self.open_message, Some((_, Ok(_))));
                return Err(Over(if unfinished { "bye cut" } else { "bye quit" }));
            }
            _ => return Err(Over("bye cut")),
        };
        let (line, text) = self.text.split_at(taken);
        self.text = text;
        let line = &line[..taken - 1];
        let line = if line.ends_with(b"\r") { &line[..line.len() - 1] } else { line };
        if from_a_browser(line) {
            return Err(Over("bye http"));
        }
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').filter(|field| !field.is_empty()).collect();
        if fields.is_empty() {
            return Ok(());
        }
        if fields[0] == b"a" {
            let asked = self.server.token.as_deref();
            if asked.is_some_and(|token| fields[1..] != [token]) {
                return Err(Over("bye auth"));
            }
            self.proven = true;
            self.open_message = None;
            self.replies.push(Expect::Exactly(b"ok auth\n".to_vec()));
            return Ok(());
        }
        if !self.proven {
            return Err(Over("bye auth"));
        }
        if fields[0] == b"w" {
            return self.write(&fields[1..]);
        }
        self.open_message = None;
        match (fields[0], fields.len()) {
            (b"r", _) => {
                let reply = self.read(&fields[1..]);
                self.replies.extend(reply);
            }
            (b"q", 1) => return Err(Over("bye quit")),
            (b"q", 2) if box_number(fields[1]).is_some() => return Err(Over("bye quit")),
            (b"i", 1) => {
                let Oracle { boxes, capacity, packet, .. } = &*self.server;
                let line = format!("info 1 {} {capacity} {packet}\n", boxes.len());
                self.replies.push(Expect::Exactly(line.into_bytes()));
            }
            (b"q" | b"i", _) => self.replies.push(Expect::Line("err args")),
            _ => self.replies.push(Expect::Line("err verb")),
        }
        Ok(())
    }

    fn read(&self, fields: &[&[u8]]) -> Vec<Expect> {
        let wrong = vec![Expect::Line("err args")];
        if fields.is_empty() || fields.len() > 3 {
            return wrong;
        }
        let since = fields.get(1).map(|field| decimal(field, 20).filter(|&v| v <= u128::from(u64::MAX)));
        let time = fields.get(2).map(|field| decimal(field, 10));
        let Some(number) = box_number(fields[0]) else { return wrong };
        if since == Some(None) || time == Some(None) {
            return wrong;
        }
        let Some((version, message)) = usize::try_from(number).ok().and_then(|n| self.server.boxes.get(n))
        else {
            return vec![Expect::Line("err box")];
        };
        if since == Some(Some(u128::from(*version))) {
            return vec![Expect::Exactly(format!("same {number} {version}\n").into_bytes())];
        }
        let mut packets: Vec<&[u8]> = message.chunks(self.server.packet).collect();
        if packets.is_empty() {
            packets.push(b"");
        }
        let count = packets.len();
        let numbered = packets.into_iter().enumerate();
        numbered
            .map(|(index, packet)| {
                let plus = if index + 1 < count { "+" } else { "" };
                let mut reply = format!("data {number} {version} {}{plus}\n", packet.len()).into_bytes();
                reply.extend(packet);
                reply.push(b'\n');
                Expect::Exactly(reply)
            })
            .collect()
    }

    fn write(&mut self, fields: &[&[u8]]) -> Result<(), Over> {
        let malformed = || Over("bye args");
        if fields.is_empty() || fields.len() > 2 {
            return Err(malformed());
        }
        let number = box_number(fields[0]).ok_or_else(malformed)?;
        match fields.get(1).copied() {
            None => {
                self.open_message = None;
                let data = self.line_of_text()?;
                let outcome = self.judge(number, data.len(), data.len()).map(|()| data);
                self.conclude(number, outcome);
            }
            Some(b"-") => {
                self.open_message = None;
                let data = std::mem::take(&mut self.text).to_vec();
                let length = data.len();
                let outcome = if number >= self.server.boxes.len() as u128 {
                    Err(Expect::Line("err box"))
                } else if length > self.server.capacity {
                    Err(Expect::Line("err full"))
                } else {
                    Ok(data)
                };
                self.conclude(number, outcome);
            }
            Some(size) => {
                let (digits, more) = match size.split_last() {
                    Some((b'+', digits)) => (digits, true),
                    _ => (size, false),
                };
                let size = box_number(digits).ok_or_else(malformed)?;
                self.packet(number, size, more)?;
            }
        }
        Ok(())
    }

    fn packet(&mut self, number: u128, size: u128, more: bool) -> Result<(), Over> {
        if size > MEBIBYTE.max(self.server.packet) as u128 {
            return Err(Over("bye size"));
        }
        let size = size as usize;
        if self.text.len() < size {
            return Err(Over("bye cut"));
        }
        let (data, text) = self.text.split_at(size);
        self.text = if let Some(text) = text.strip_prefix(b"\n") {
            text
        } else if let Some(text) = text.strip_prefix(b"\r\n") {
            text
        } else if text.is_empty() || text == b"\r" {
            return Err(Over("bye cut"));
        } else {
            return Err(Over("bye frame"));
        };
        let before = match self.open_message.take() {
            Some((same, sofar)) if same == number => sofar,
            _ => Ok(Vec::new()),
        };
        let outcome = before.and_then(|mut message| {
            self.judge(number, size, message.len() + size)?;
            message.extend(data);
            Ok(message)
        });
        if !more {
            self.conclude(number, outcome);
            return Ok(());
        }
        self.replies.push(match &outcome {
            Ok(message) => Expect::Exactly(format!("more {number} {}\n", message.len()).into_bytes()),
            Err(line) => line.clone(),
        });
        self.open_message = Some((number, outcome));
        Ok(())
    }

    fn line_of_text(&mut self) -> Result<Vec<u8>, Over> {
        let length = self.text.iter().position(|&b| b == b'\n');
        let line = &self.text[..length.unwrap_or(self.text.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MEBIBYTE.max(self.server.packet) {
            return Err(Over("bye size"));
        }
        let Some(length) = length else { return Err(Over("bye cut")) };
        self.text = &self.text[length + 1..];
        Ok(line.to_vec())
    }

    fn judge(&self, number: u128, size: usize, total: usize) -> Result<(), Expect> {
        if number >= self.server.boxes.len() as u128 {
            Err(Expect::Line("err box"))
        } else if size > self.server.packet {
            Err(Expect::Line("err size"))
        } else if total > self.server.capacity {
            Err(Expect::Line("err full"))
        } else {
            Ok(())
        }
    }

    fn conclude(&mut self, number: u128, outcome: Result<Vec<u8>, Expect>) {
        self.replies.push(match outcome {
            Err(line) => line,
            Ok(message) => {
                let mailbox = &mut self.server.boxes[number as usize];
                *mailbox = (mailbox.0 + 1, message);
                Expect::Exactly(format!("ok {number} {}\n", mailbox.0).into_bytes())
            }
        });
    }
}
