//! A connection to a Redis server: commands out, answers in, within the world's deadline. The protocol is the crate's
//! (packing and parsing), the connection the world's, so that each step stops in time and tests can play the server.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use redis::{Cmd, Parser, Value as Said, cmd};

use crate::world::net::{Address, Net, Stream};
use crate::world::store::settings::{At, Server, password};

/// Octets of one batch of answers: a page of the longest keys and values.
const ANSWERS_OCTETS_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server closed the connection before it answered anything.
    HungUp,
    /// Not there, or not in time.
    Gone(String),
    /// It will not have us.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HungUp => write!(f, "it hung up"),
            Self::Gone(why) => write!(f, "{why}"),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

/// An open connection, with nothing outstanding.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    parser: Parser,
}

impl Wire {
    /// Connects, says who we are and which database is meant.
    pub(super) fn connect(server: &Server, net: &dyn Net) -> Result<Self, Failure> {
        let gone = |error: io::Error| Failure::Gone(words(&error, "connecting"));
        let stream = match &server.at {
            At::Unix(path) => net.connect(&Address::Unix(path.clone())).map_err(gone)?,
            At::Tcp(host, port) => {
                let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
                let mut found = None;
                for address in net.resolve(host, *port).map_err(gone)? {
                    match net.connect(&address) {
                        Ok(stream) => {
                            found = Some(stream);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                found.ok_or_else(|| gone(last))?
            }
        };
        let mut wire = Self { stream, parser: Parser::new() };
        wire.introduce(server)?;
        Ok(wire)
    }

    fn introduce(&mut self, server: &Server) -> Result<(), Failure> {
        let mut commands = Vec::new();
        if let Some(file) = &server.password_file {
            let password = password(file).map_err(Failure::Refused)?;
            let mut auth = cmd("AUTH");
            server.user.iter().for_each(|user| {
                auth.arg(user);
            });
            auth.arg(password);
            commands.push(auth);
        }
        if server.db != 0 {
            let mut select = cmd("SELECT");
            select.arg(server.db);
            commands.push(select);
        }
        if commands.is_empty() {
            return Ok(());
        }
        for said in self.ask(&commands)? {
            if let Said::ServerError(error) = said {
                let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
                return Err(Failure::Refused(format!("it refuses: {}", harmless(text.trim()))));
            }
        }
        Ok(())
    }

    /// Sends commands, and reads an answer for each. After a failure the connection is of no use.
    pub(super) fn ask(&mut self, commands: &[Cmd]) -> Result<Vec<Said>, Failure> {
        let packed: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        match self.stream.write_all(&packed) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Err(Failure::HungUp);
            }
            Err(error) => return Err(Failure::Gone(words(&error, "sending"))),
        }
        let mut answers = Vec::with_capacity(commands.len());
        let mut source = Source { stream: &mut *self.stream, left: ANSWERS_OCTETS_MAX, read: 0, failed: None };
        for _ in commands {
            match self.parser.parse_value(&mut source) {
                Ok(said) => answers.push(said),
                Err(error) => {
                    let nothing = source.read == 0;
                    return Err(match source.failed {
                        Some(error) if nothing && error.kind() == ErrorKind::ConnectionReset => Failure::HungUp,
                        Some(error) => Failure::Gone(words(&error, "answering")),
                        None if nothing => Failure::HungUp,
                        None => Failure::Gone(format!("no answer of Redis's: {}", harmless(&error.to_string()))),
                    });
                }
            }
        }
        Ok(answers)
    }
}

/// What the parser reads from: bounded, and it remembers what failed.
struct Source<'a> {
    stream: &'a mut dyn Stream,
    left: u64,
    read: u64,
    failed: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("an answer without end"));
        }
        match self.stream.read(buffer) {
            Ok(octets) => {
                self.read += octets as u64;
                self.left = self.left.saturating_sub(octets as u64);
                Ok(octets)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn words(error: &io::Error, doing: &str) -> String {
    match error.kind() {
        ErrorKind::TimedOut => format!("{doing} takes it too long"),
        _ => format!("{doing}: {error}"),
    }
}

/// What a server says, fit for a log line.
pub(super) fn harmless(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
