//! A connection to a Redis server: commands out, answers in. The connection is the world's, so that each step stops at its
//! deadline.

use std::fmt;
use std::io::{self, ErrorKind};

use super::resp::{Answers, Command, Said};
use crate::world::store::settings::{At, Server, password};
use crate::world::{Address, Net, Stream};

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
    answers: Answers,
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
        let mut wire = Self { stream, answers: Answers::default() };
        wire.introduce(server)?;
        Ok(wire)
    }

    fn introduce(&mut self, server: &Server) -> Result<(), Failure> {
        let mut commands = Vec::new();
        if let Some(file) = &server.password_file {
            let password = password(file).map_err(Failure::Refused)?;
            let auth = server.user.iter().fold(Command::new("AUTH"), |auth, user| auth.arg(user.as_str()));
            commands.push(auth.arg(password));
        }
        if server.db != 0 {
            commands.push(Command::new("SELECT").arg(server.db.to_string()));
        }
        if commands.is_empty() {
            return Ok(());
        }
        for said in self.ask(&commands)? {
            if let Said::Error(text) = said {
                return Err(Failure::Refused(format!("it refuses: {}", harmless(&text))));
            }
        }
        Ok(())
    }

    /// Sends commands, and reads an answer for each. After a failure the connection is of no use.
    pub(super) fn ask(&mut self, commands: &[Command]) -> Result<Vec<Said>, Failure> {
        let mut packed = Vec::new();
        commands.iter().for_each(|command| command.pack(&mut packed));
        let lost = |error: &io::Error| matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        self.stream.write_all(&packed).map_err(|error| match lost(&error) {
            true => Failure::HungUp,
            false => Failure::Gone(words(&error, "sending")),
        })?;
        self.answers.begin();
        let mut said = Vec::with_capacity(commands.len());
        for _ in commands {
            match self.answers.next(&mut *self.stream) {
                Ok(answer) => said.push(answer),
                Err(error) => {
                    let hung_up = lost(&error) || error.kind() == ErrorKind::UnexpectedEof;
                    return Err(match hung_up && self.answers.is_empty() {
                        true => Failure::HungUp,
                        false => Failure::Gone(words(&error, "answering")),
                    });
                }
            }
        }
        Ok(said)
    }
}

fn words(error: &io::Error, doing: &str) -> String {
    match error.kind() {
        ErrorKind::TimedOut => format!("{doing} takes it too long"),
        ErrorKind::UnexpectedEof => "it hung up within an answer".to_owned(),
        _ => format!("{doing}: {error}"),
    }
}

/// What a server says, fit for a log line.
pub(super) fn harmless(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
