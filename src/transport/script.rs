//! A client that reads its part from a file: `postern try`, and tests.
//!
//! In: a dialog's client side, octets as in a `.smtp` file. Out: the same octets as a client would send them, taking turns:
//! the next command goes out only when it is asked for, that is when the reply to the one before has been written.
//!
//! - After `DATA` the lines up to `.` are its content. They are sent if the reply was 354, else skipped, as a client would do.
//!   A dot that is missing at the end of the file is supplied.
//! - The n octets after `BDAT n` follow the command at once (RFC 3030 §2).
//! - A file without any CRLF has its line ends made CRLF, except in BDAT chunks: those are taken octet for octet, and n counts
//!   octets of the file (LF counts 1).
//! - After the last line the input ends, with or without QUIT.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Fault, Transport};

/// What one side sent, in the order in which it happened. Several writes in a row are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// A command, with the content or chunk that went out with it.
    Client(Vec<u8>),
    /// Replies.
    Server(Vec<u8>),
}

/// The record of a [`Script`], to be looked at while or after the session owns the script.
#[derive(Debug, Clone, Default)]
pub struct Exchanges(Rc<RefCell<Vec<Exchange>>>);

impl Exchanges {
    /// What was said so far.
    pub fn get(&self) -> Ref<'_, [Exchange]> {
        Ref::map(self.0.borrow(), Vec::as_slice)
    }

    fn client(&self, octets: &[u8]) {
        self.0.borrow_mut().push(Exchange::Client(octets.to_vec()));
    }

    fn server(&self, octets: &[u8]) {
        let mut events = self.0.borrow_mut();
        match events.last_mut() {
            Some(Exchange::Server(before)) => before.extend_from_slice(octets),
            _ => events.push(Exchange::Server(octets.to_vec())),
        }
    }

    /// The code of the last reply line, if the server spoke last.
    fn last_code(&self) -> Option<u16> {
        let events = self.0.borrow();
        let Some(Exchange::Server(octets)) = events.last() else {
            return None;
        };
        let line = octets
            .split(|&octet| octet == b'\n')
            .rfind(|line| !line.is_empty())?;
        std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
    }
}

/// A canned client.
pub struct Script {
    dialog: Vec<u8>,
    /// Where the next line begins in `dialog`.
    next: usize,
    /// Whether line ends are to be made CRLF.
    bare: bool,
    /// DATA went out, its content is next.
    content_next: bool,
    /// What is being sent, and how much of it has been.
    sending: Vec<u8>,
    sent: usize,
    exchanges: Exchanges,
    closed: bool,
}

impl Script {
    /// A client that will say this.
    pub fn new(dialog: &[u8]) -> Self {
        Self {
            dialog: dialog.to_vec(),
            next: 0,
            bare: !dialog.windows(2).any(|pair| pair == b"\r\n"),
            content_next: false,
            sending: Vec::new(),
            sent: 0,
            exchanges: Exchanges::default(),
            closed: false,
        }
    }

    /// The record, shared: it fills while the session runs.
    pub fn exchanges(&self) -> Exchanges {
        self.exchanges.clone()
    }

    /// Decides what the client says next; leaves `sending` empty if nothing.
    fn prepare(&mut self) {
        self.sending.clear();
        self.sent = 0;
        if std::mem::take(&mut self.content_next) {
            let wanted = self.exchanges.last_code() == Some(354);
            self.content();
            if wanted {
                return;
            }
            self.sending.clear();
        }
        let Some(line) = self.line() else { return };
        self.put_line(line.clone());
        let text = String::from_utf8_lossy(&self.dialog[line]).into_owned();
        let mut words = text.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default();
        if verb.eq_ignore_ascii_case("DATA") && words.next().is_none() {
            self.content_next = true;
        } else if verb.eq_ignore_ascii_case("BDAT") {
            let octets = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let end = self.next.saturating_add(octets).min(self.dialog.len());
            self.sending.extend_from_slice(&self.dialog[self.next..end]);
            self.next = end;
        }
    }

    /// Puts the content up to and with its last line, the dot: CRLF.CRLF alone (RFC 5321 §4.1.1.4), so that a file with
    /// bare LFs on purpose goes out as it is.
    fn content(&mut self) {
        let mut after_line_end = true;
        while let Some(line) = self.line() {
            let octets = &self.dialog[line.clone()];
            let ends = self.bare || octets.ends_with(b"\r\n");
            let is_last = after_line_end && matches!(octets, b".\r\n" | b".\n" | b".");
            let is_last = is_last && (ends || self.next == self.dialog.len());
            after_line_end = ends;
            self.put_line(line);
            if is_last {
                return;
            }
        }
        self.sending.extend_from_slice(b".\r\n");
    }

    /// The next line, its line end included.
    fn line(&mut self) -> Option<std::ops::Range<usize>> {
        let rest = &self.dialog[self.next..];
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let start = self.next;
        self.next += length;
        (length > 0).then_some(start..self.next)
    }

    /// Puts a line, with a line end even if the file ends without one.
    fn put_line(&mut self, line: std::ops::Range<usize>) {
        let line = &self.dialog[line];
        match line.strip_suffix(b"\n") {
            Some(_) if !self.bare => self.sending.extend_from_slice(line),
            Some(text) => self.sending.extend_from_slice(&[text, b"\r\n"].concat()),
            None => self.sending.extend_from_slice(&[line, b"\r\n"].concat()),
        }
    }
}

impl Transport for Script {
    fn read(&mut self, buffer: &mut [u8], _until: Instant) -> Result<usize, Fault> {
        if self.closed {
            return Ok(0);
        }
        if self.sent == self.sending.len() {
            self.prepare();
            if self.sending.is_empty() {
                return Ok(0);
            }
            self.exchanges.client(&self.sending);
        }
        let taken = buffer.len().min(self.sending.len() - self.sent);
        buffer[..taken].copy_from_slice(&self.sending[self.sent..self.sent + taken]);
        self.sent += taken;
        Ok(taken)
    }

    fn write(&mut self, octets: &[u8], _until: Instant) -> Result<(), Fault> {
        self.exchanges.server(octets);
        Ok(())
    }

    fn client_speaks_within(&mut self, _time: Duration) -> bool {
        false
    }

    fn close(&mut self, _lingering: bool) {
        self.closed = true;
    }
}
