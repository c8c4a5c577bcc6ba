//! One connection to a next hop: commands out, replies in.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::Failure;
use super::place::Way;
use super::reply::{self, LINE_OCTETS_MAX, LINES_MAX, Reply};
use crate::hook::Severity;
use crate::queue::QueueError;
use crate::smtp::escape::safe;
use crate::world::{Stream, World};

/// Octets that are read at once.
const READ_OCTETS: usize = 4096;

/// Commands that are sent before their replies are read, where the far end offers PIPELINING. Their replies fit into any
/// socket's buffers, so nobody waits for the other.
const GROUP_COMMANDS: usize = 50;

/// What is told of the prose of a program.
const PROSE_OCTETS_MAX: usize = 255;

pub(super) struct Peer {
    stream: Box<dyn Stream>,
    /// Received and not yet taken.
    input: Vec<u8>,
    place: String,
}

impl Peer {
    /// Connects, or starts the program, within `pace`.
    pub(super) fn connect(world: &World, to: &Way, pace: Duration) -> Result<Self, Failure> {
        let place = to.to_string();
        let (opened, unable) = match to {
            Way::Net(address) => (world.within(pace, || world.net.connect(address)), "the next hop cannot be reached"),
            Way::Program(job) => (world.process.converse(job), "the program cannot be run"),
        };
        match opened {
            Ok(mut stream) => {
                stream.set_pace(pace);
                Ok(Self { stream, input: Vec::new(), place })
            }
            Err(error) => Err(Failure::elsewhere(unable, format!("{place}: {error}"), (4, 1))),
        }
    }

    /// What there is to be said of it beside its replies, where it is a program.
    pub(super) fn aside(&mut self) -> String {
        let (exit, prose) = self.stream.aside();
        let prose = safe(String::from_utf8_lossy(&prose).trim(), PROSE_OCTETS_MAX);
        let exit = exit.map(|exit| exit.to_string());
        exit.into_iter().chain((!prose.is_empty()).then_some(prose)).map(|text| format!("; {text}")).collect()
    }

    /// Sends one command and takes its reply.
    pub(super) fn command(&mut self, line: &str) -> Result<Reply, Failure> {
        self.say(&format!("{line}\r\n"), line)?;
        self.reply(line)
    }

    /// Sends several and takes their replies, in groups if the far end offers that. The replies end where the first command was
    /// refused: the others make no sense without it, and the far end may hang up on them.
    pub(super) fn commands(&mut self, lines: &[String], pipelining: bool) -> Result<Vec<Reply>, Failure> {
        let refused = |replies: &[Reply]| replies.first().is_some_and(|first| first.class() >= 4 && first.code != 421);
        let mut replies = Vec::with_capacity(lines.len());
        for group in lines.chunks(if pipelining { GROUP_COMMANDS } else { 1 }) {
            let text: String = group.iter().map(|line| format!("{line}\r\n")).collect();
            self.say(&text, group.first().map_or("", |line| line))?;
            for line in group {
                match self.reply(line) {
                    Ok(reply) => replies.push(reply),
                    Err(_) if refused(&replies) => return Ok(replies),
                    Err(failure) => return Err(failure),
                }
            }
            if refused(&replies) {
                break;
            }
        }
        Ok(replies)
    }

    fn say(&mut self, text: &str, at: &str) -> Result<(), Failure> {
        // What came before it was asked for would be taken for the answer.
        self.nothing_came(at)?;
        self.stream.write_all(text.as_bytes()).map_err(|error| self.lost(at, &error))
    }

    /// Nothing may have been said that was not asked for.
    pub(super) fn nothing_came(&self, at: &str) -> Result<(), Failure> {
        if self.input.is_empty() { Ok(()) } else { Err(self.garbage(at, "a reply that nothing asked for")) }
    }

    /// Says goodbye. What has been acknowledged stays so, whatever becomes of this.
    pub(super) fn quit(mut self) {
        drop(self.stream.write_all(b"QUIT\r\n").and_then(|()| self.stream.finish()));
    }

    /// Gives up the transaction, and says goodbye.
    pub(super) fn reset(mut self) {
        drop(self.stream.write_all(b"RSET\r\nQUIT\r\n").and_then(|()| self.stream.finish()));
    }

    /// Takes one whole reply.
    pub(super) fn reply(&mut self, at: &str) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        loop {
            let octets = self.line(at)?;
            let Some((code, last, text)) = reply::line(&octets) else {
                return Err(self.garbage(at, &octets.escape_ascii().to_string()));
            };
            lines.push(text);
            if last {
                // RFC 5321 §4.2.1: the last line's code counts.
                return Ok(Reply { code, lines });
            }
            if lines.len() >= LINES_MAX {
                return Err(self.garbage(at, "a reply without end"));
            }
        }
    }

    fn line(&mut self, at: &str) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
                return Ok(self.input.drain(..=end).collect());
            }
            if self.input.len() > LINE_OCTETS_MAX {
                return Err(self.garbage(at, "a line without end"));
            }
            let mut octets = [0; READ_OCTETS];
            match self.stream.read(&mut octets) {
                Ok(0) => return Err(self.lost(at, &ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.input.extend_from_slice(&octets[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(at, &error)),
            }
        }
    }

    /// The connection, to write a message to.
    pub(super) fn stream(&mut self) -> &mut dyn Stream {
        &mut *self.stream
    }

    pub(super) fn lost(&self, at: &str, error: &std::io::Error) -> Failure {
        let text = if error.kind() == ErrorKind::TimedOut { "timeout" } else { "the connection was lost" };
        Failure::elsewhere(text, format!("{}: {at}: {error}", self.place), (4, 2))
    }

    pub(super) fn garbage(&self, at: &str, what: &str) -> Failure {
        let what = safe(what, 100);
        Failure::elsewhere("the next hop breaks the protocol", format!("{}: {at}: {what}", self.place), (5, 0))
    }

    /// What a reply means that is not the one wanted.
    pub(super) fn refused(&self, at: &str, about: &str, reply: &Reply) -> Failure {
        let evidence = format!("{}: {at}: {reply}", self.place);
        let severity = match reply.class() {
            4 => Severity::Transient,
            5 => Severity::Permanent,
            _ => return self.garbage(at, &reply.to_string()),
        };
        let said = reply.text();
        let said = if said.is_empty() { format!("the next hop said {}", reply.code) } else { said };
        // Most name it themselves.
        let text = if said.contains(about) { said } else { format!("{about}: {said}") };
        let enhanced = reply.enhanced().unwrap_or((3, 0));
        let error = QueueError { severity, text, enhanced, evidence, untouched: false };
        // 421 is about the connection, not about the message.
        Failure { error, elsewhere: reply.code == 421 }
    }
}
