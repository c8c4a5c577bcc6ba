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
use crate::smtp::find::find;

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
        let line = octets.split(|&octet| octet == b'\n').rfind(|line| !line.is_empty())?;
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
        let length = find(b'\n', rest).map_or(rest.len(), |at| at + 1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays a dialog against replies: the first is the greeting, each further one answers what the client sent then.
    /// Gives back all that the client said, one item a turn.
    fn play(dialog: &[u8], replies: &[&str], buffer_octets: usize) -> Vec<Vec<u8>> {
        let mut script = Script::new(dialog);
        let exchanges = script.exchanges();
        let mut replies = replies.iter();
        let mut heard = Vec::new();
        let mut buffer = vec![0; buffer_octets];
        let now = Instant::now();
        for _turn in 0..1000 {
            if let Some(reply) = replies.next() {
                script.write(reply.as_bytes(), now).expect("it takes everything");
            }
            let before = exchanges.get().len();
            loop {
                match script.read(&mut buffer, now) {
                    Ok(0) => return heard_in(&exchanges),
                    Ok(taken) => heard.extend_from_slice(&buffer[..taken]),
                    Err(fault) => panic!("{fault}"),
                }
                // One turn: until what the client said then has been taken.
                if script.sent == script.sending.len() {
                    break;
                }
            }
            assert_eq!(exchanges.get().len(), before + 1);
        }
        panic!("it never ends");
    }

    fn heard_in(exchanges: &Exchanges) -> Vec<Vec<u8>> {
        let events = exchanges.get();
        events
            .iter()
            .filter_map(|event| match event {
                Exchange::Client(octets) => Some(octets.clone()),
                Exchange::Server(_) => None,
            })
            .collect()
    }

    #[test]
    fn turns() {
        let (yes, no) = (["220 x\r\n", "354 go\r\n", "250 ok\r\n"], ["220 x\r\n", "503 no\r\n", "250 ok\r\n"]);
        #[rustfmt::skip]
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &yes, &[]),
            ("\n", &yes, &["\r\n"]),
            ("QUIT", &yes, &["QUIT\r\n"]),
            ("A\nB\n", &yes, &["A\r\n", "B\r\n"]),
            ("A\r\nB\nC", &yes, &["A\r\n", "B\n", "C\r\n"]),
            // Content goes out in one piece after 354, is skipped otherwise.
            ("DATA\nx\n.\nQUIT\n", &yes, &["DATA\r\n", "x\r\n.\r\n", "QUIT\r\n"]),
            ("DATA\nx\n.\nQUIT\n", &no, &["DATA\r\n", "QUIT\r\n"]),
            ("DATA\nx\n.\nQUIT\n", &["220 x\r\n", "250-354\r\n250 x\r\n"], &["DATA\r\n", "QUIT\r\n"]),
            ("DATA\nx\n.\nQUIT\n", &["220 x\r\n", "354-a\r\n354 b\r\n"], &["DATA\r\n", "x\r\n.\r\n", "QUIT\r\n"]),
            ("DATA\nx\n.\nQUIT\n", &["220 x\r\n"], &["DATA\r\n", "QUIT\r\n"]),
            (" data \r\n.\r\nQUIT\r\n", &yes, &[" data \r\n", ".\r\n", "QUIT\r\n"]),
            ("DATA x\nQUIT\n", &yes, &["DATA x\r\n", "QUIT\r\n"]),
            // A dot that is missing, or has no line end.
            ("DATA\nx\n", &yes, &["DATA\r\n", "x\r\n.\r\n"]),
            ("DATA\nx", &yes, &["DATA\r\n", "x\r\n.\r\n"]),
            ("DATA\nx\n.", &yes, &["DATA\r\n", "x\r\n.\r\n"]),
            ("DATA\nx\n", &no, &["DATA\r\n"]),
            ("DATA", &yes, &["DATA\r\n", ".\r\n"]),
            ("DATA\n..\n.\nQ\n", &yes, &["DATA\r\n", "..\r\n.\r\n", "Q\r\n"]),
            // In a file with CRLF only CRLF.CRLF ends content: attempts at smuggling go out as they are.
            ("DATA\r\na\n.\nb\n.\r\nc\r\n.\n.\r\n.\r\nQ\r\n", &yes,
             &["DATA\r\n", "a\n.\nb\n.\r\nc\r\n.\n.\r\n.\r\n", "Q\r\n"]),
            // Chunks: octets of the file, whatever they are.
            ("BDAT 4 LAST\na\nb\nQUIT\n", &yes, &["BDAT 4 LAST\r\na\nb\n", "QUIT\r\n"]),
            ("bdat 3\r\na\r\nQUIT\r\n", &no, &["bdat 3\r\na\r\n", "QUIT\r\n"]),
            ("BDAT 0 LAST\nQUIT\n", &yes, &["BDAT 0 LAST\r\n", "QUIT\r\n"]),
            ("BDAT 99\nabc", &yes, &["BDAT 99\r\nabc"]),
            ("BDAT 18446744073709551615\nabc", &yes, &["BDAT 18446744073709551615\r\nabc"]),
            ("BDAT 18446744073709551616\nabc", &yes, &["BDAT 18446744073709551616\r\n", "abc\r\n"]),
            ("BDAT x\nabc", &yes, &["BDAT x\r\n", "abc\r\n"]),
        ];
        for (dialog, replies, expected) in table {
            for buffer_octets in [1, 7, 4096] {
                let heard = play(dialog.as_bytes(), replies, buffer_octets);
                let heard: Vec<_> = heard.iter().map(|octets| String::from_utf8_lossy(octets)).collect();
                assert_eq!(heard, *expected, "{dialog:?} {replies:?}");
            }
        }
    }

    #[test]
    fn the_record_has_both_sides_in_order() {
        let mut script = Script::new(b"NOOP\nQUIT\n");
        let exchanges = script.exchanges();
        let now = Instant::now();
        let mut buffer = [0; 64];
        script.write(b"220 ", now).expect("written");
        script.write(b"x\r\n", now).expect("written");
        assert_eq!(script.read(&mut buffer, now).ok(), Some(6));
        script.write(b"250 ok\r\n", now).expect("written");
        assert!(!script.client_speaks_within(Duration::from_secs(9)));
        script.close(true);
        assert_eq!(script.read(&mut buffer, now).ok(), Some(0));
        let expected = [
            Exchange::Server(b"220 x\r\n".to_vec()),
            Exchange::Client(b"NOOP\r\n".to_vec()),
            Exchange::Server(b"250 ok\r\n".to_vec()),
        ];
        assert_eq!(&*exchanges.get(), expected);
    }

    proptest! {
        /// Whatever the file holds, the client comes to an end, and a file with CRLF goes out octet for octet if nothing is refused.
        #[test]
        fn everything_goes_out(lines in proptest::collection::vec("(DATA|BDAT [0-9]{1,2}|[a-z.\n]{0,5})\r\n", 1..8)) {
            let dialog = lines.concat();
            let heard = play(dialog.as_bytes(), &["354 go\r\n"; 1000], 3).concat();
            prop_assert!(heard.starts_with(dialog.as_bytes()), "{:?}", String::from_utf8_lossy(&heard));
        }
    }
}
