//! Hands mail to qmail-queue, or to any program that can be called as it is (simscan, a Postfix or Exim wrapper).
//!
//! ```text
//! queue/qmail-queue
//! queue/qmail-queue /var/qmail/bin/qmail-queue
//! queue/qmail-queue /var/qmail/bin/simscan timeout 120 deadline 600
//! ```
//! The program is, in this order: `$QMAILQUEUE` of our own environment (a path, no command line; a relative one starts at the
//! qmail home), the path on the line, `bin/qmail-queue` in the qmail home. The qmail home is `$QMAIL`, else `/var/qmail`; the
//! program starts there if it exists. The environment is passed on whole. Nothing goes through a shell.
//!
//! - `path`: the program, if it is not given by position; a relative one starts at the configuration directory.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either.
//! - `smtputf8`: 1 if the MTA behind carries internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! 8BITMIME is offered; BINARYMIME is not, for lines end in LF in there, nor is DSN, for which qmail has no place.
//!
//! Only exit status 0 after everything was written makes 250. 11 to 40 and 115 are permanent refusals (554), all else is
//! transient (451): every other status, death by a signal, a time limit, a program that cannot be run, one that stopped
//! reading too early (even if it then says 0). Text for the client is taken with status 82 and 88 from descriptor 4 (simscan,
//! netqmail's patch) or 6 (notqmail): `D` and the text is permanent, `Z` transient, at most 255 octets.
//! After a time limit the message may have been queued all the same: the client tries again, so a duplicate is possible, a
//! loss is not. The record shows `qp`, the program's process id, which is in qmail-send's log too.
//!
//! Differs from qpsmtpd: permanent refusals are passed on as such (qpsmtpd makes 451 of all), there are time limits and custom
//! texts, and a path may hold any character. `queue/qmail_queue` is the same plugin.

use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Queue, QueueError, line, within};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt, Severity};
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::world::{Child, Exit, Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/qmail-queue", include_str!("qmail_queue.rs"), build);

/// qmail-queue's own limit on an address (`ADDR` in qmail-queue.c counts the NUL too).
const ADDRESS_OCTETS_MAX: usize = 1002;

/// What notqmail reads of a custom text; more is dropped.
const TEXT_OCTETS_MAX: usize = 255;

/// Seconds that either limit may have: the chain ends a hand-over after an hour.
const LIMIT_S_MAX: u64 = 3600;

// The pipes, by their place in the job.
const MESSAGE: usize = 0;
const ENVELOPE: usize = 1;
const TEXT: usize = 2;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    path: Option<String>,
    timeout: u64,
    deadline: u64,
    smtputf8: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { path: None, timeout: 60, deadline: 300, smtputf8: false }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(path) = settings.take_odd() {
        settings.set("path", path);
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    for (key, limit_s) in [("timeout", options.timeout), ("deadline", options.deadline)] {
        if !(1..=LIMIT_S_MAX).contains(&limit_s) {
            return Err(fault(format!("{key} {limit_s}: from 1 to {LIMIT_S_MAX} seconds")));
        }
    }
    let home = PathBuf::from(world.host.variable("QMAIL").unwrap_or_else(|| "/var/qmail".into()));
    let own = options.path.is_none() && world.host.variable("QMAILQUEUE").is_none();
    let program = match (world.host.variable("QMAILQUEUE"), &options.path) {
        (Some(path), _) => home.join(path),
        (None, Some(path)) => world.config.resolve(path).map_err(|error| fault(error.to_string()))?,
        (None, None) => home.join("bin/qmail-queue"),
    };
    // It starts in another directory than ours.
    let program = std::path::absolute(program).map_err(|error| fault(error.to_string()))?;
    Ok(line(QmailQueue {
        world: world.clone(),
        home,
        program,
        own,
        pace: Duration::from_secs(options.timeout),
        deadline: Duration::from_secs(options.deadline),
        smtputf8: options.smtputf8,
    }))
}

struct QmailQueue {
    world: World,
    home: PathBuf,
    program: PathBuf,
    /// Whether it is qmail's own, of which more is known than of another.
    own: bool,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for QmailQueue {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        let shown = self.program.display();
        let fault = |text: String| vec![text];
        if self.own && !self.home.is_dir() {
            return fault(format!("{}: there is no qmail here; name the program on the line", self.home.display()));
        }
        let found = match self.program.metadata() {
            Ok(found) => found,
            Err(error) => return fault(format!("{shown}: {error}; name the program on the line, or set $QMAILQUEUE")),
        };
        let mode = found.permissions().mode() & 0o7777;
        if !found.is_file() {
            fault(format!("{shown}: is not a file"))
        } else if mode & 0o111 == 0 {
            fault(format!("{shown}: is not executable (mode {mode:04o})"))
        } else if self.own && mode & 0o4000 == 0 {
            fault(format!("{shown}: is not setuid (mode {mode:04o}): qmail's own is 4711, owned by qmailq"))
        } else {
            Vec::new()
        }
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let records = records(envelope)?;
        within(&self.world, self.deadline, || self.hand_over(message, &records))
    }
}

impl QmailQueue {
    fn hand_over(&self, message: &Message, records: &[u8]) -> Result<Receipt, QueueError> {
        let mut child = self.world.process.spawn(&self.job()).map_err(|error| {
            QueueError::transient(unable("the program cannot be run"), format!("{}: {error}", self.program.display()))
        })?;
        let who = format!("{} qp {}", self.program.display(), child.id());
        let stopped = |at: &str, error: &io::Error| {
            if error.kind() == ErrorKind::TimedOut {
                QueueError::transient(unable("timeout"), format!("{who}: killed, no end or no progress {at}"))
            } else {
                QueueError::transient(unable("temporary problem"), format!("{who}: {at}: {error}"))
            }
        };
        // An error here drops the child, and that kills it.
        let whole = give(&mut *child, message, records).map_err(|(at, error)| stopped(at, &error))?;
        let text = child.read(TEXT, TEXT_OCTETS_MAX).map_err(|error| stopped("before its end", &error))?;
        let exit = child.wait().map_err(|error| stopped("before its end", &error))?;
        match refusal(exit, whole, &text) {
            None => Ok(Receipt { id: None, text: format!("queued qp {}", child.id()) }),
            Some(mut error) => {
                let unread = if whole { "" } else { ", and did not read everything" };
                error.evidence = format!("{who}: {}{unread}", shown(exit));
                Err(error)
            }
        }
    }

    fn job(&self) -> Job {
        let mut job = Job::new(&self.program);
        // qmail's own clients start it there, and fail without; replacements live on machines without qmail.
        job.directory = self.home.is_dir().then(|| self.home.clone());
        // One pipe as 4 and 6: both conventions for custom texts are in use.
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::to_child(&[1]), Pipe::from_child(&[4, 6])];
        job.pace = self.pace;
        job
    }
}

/// Writes message and envelope. False: the program stopped reading, and its exit status will say why. Then, or after an
/// error, the envelope's final NUL was not sent, so that nothing that keeps to the protocol can have queued half a message.
fn give(child: &mut dyn Child, message: &Message, records: &[u8]) -> Result<bool, (&'static str, io::Error)> {
    let mut pipe = MessagePipe { child, failed: false };
    if let Err(error) = message.write_to(&mut pipe, LineEnds::Lf) {
        let ours = !pipe.failed;
        child.close(ENVELOPE);
        child.close(MESSAGE);
        return match error.kind() {
            ErrorKind::BrokenPipe if !ours => Ok(false),
            // It cleans up after itself (status 54) when it finds no envelope, as it would not when killed.
            _ if ours => child.wait().and(Err(error)).map_err(|error| ("while the spool was read", error)),
            _ => Err(("while it read the message", error)),
        };
    }
    // It reads the envelope only after the message's end.
    child.close(MESSAGE);
    let sent = child.write(ENVELOPE, records);
    child.close(ENVELOPE);
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(("while it read the envelope", error)),
    }
}

/// The message's pipe, which knows whether an error is its own.
struct MessagePipe<'a> {
    child: &'a mut dyn Child,
    failed: bool,
}

impl Write for MessagePipe<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.child.write(MESSAGE, octets);
        self.failed |= written.is_err();
        written.map(|()| octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The envelope as qmail-queue reads it: `F sender NUL (T recipient NUL)... NUL`, addresses in qmail's bare form.
fn records(envelope: &Envelope) -> Result<Vec<u8>, QueueError> {
    let mut records = Vec::new();
    let mut add = |kind: u8, address: &str| {
        if address.len() > ADDRESS_OCTETS_MAX || address.contains('\0') {
            let evidence = format!("an address of {} octets, or with a NUL: {}", address.len(), safe(address, 80));
            return Err(QueueError::permanent(unable("envelope address too long"), evidence).code(1, 3));
        }
        records.push(kind);
        records.extend_from_slice(address.as_bytes());
        records.push(0);
        Ok(())
    };
    add(b'F', &envelope.reverse_path().address())?;
    for path in envelope.forward_paths() {
        add(b'T', &path.address())?;
    }
    records.push(0);
    Ok(records)
}

/// What an end means (qmail-queue(8), qmail.c); `None`: queued. `whole`: everything was written.
fn refusal(exit: Exit, whole: bool, text: &[u8]) -> Option<QueueError> {
    let Exit::Code(code) = exit else {
        return Some(QueueError::transient(unable("crashed"), ""));
    };
    if let 82 | 88 = code
        && let Some(error) = custom(text)
    {
        return Some(error);
    }
    // One that says yes without having read everything cannot know what it has queued.
    let code = if code == 0 && !whole { 54 } else { code };
    let (severity, enhanced, what) = match code {
        0 => return None,
        11 | 115 => (Severity::Permanent, (1, 3), "envelope address too long"),
        31 => (Severity::Permanent, (3, 0), "mail server permanently rejected message"),
        12..=40 => (Severity::Permanent, (3, 0), "permanent problem"),
        51 => (Severity::Transient, (3, 0), "out of memory"),
        52 => (Severity::Transient, (3, 0), "timeout"),
        53 => (Severity::Transient, (3, 0), "write error or disk full"),
        54 => (Severity::Transient, (3, 0), "read error"),
        55 => (Severity::Transient, (3, 0), "unable to read configuration"),
        56 => (Severity::Transient, (3, 0), "trouble making network connection"),
        61 => (Severity::Transient, (3, 0), "trouble in home directory"),
        62..=66 => (Severity::Transient, (3, 0), "trouble creating files in queue"),
        71 => (Severity::Transient, (3, 0), "mail server temporarily rejected message"),
        72 => (Severity::Transient, (4, 1), "connection to mail server timed out"),
        73 => (Severity::Transient, (4, 1), "connection to mail server rejected"),
        74 => (Severity::Transient, (4, 2), "communication with mail server failed"),
        81 | 91 => (Severity::Transient, (3, 0), "internal bug"),
        120 => (Severity::Transient, (3, 0), "the program cannot be run"),
        _ => (Severity::Transient, (3, 0), "temporary problem"),
    };
    Some(QueueError { severity, text: unable(what), enhanced, evidence: String::new() })
}

/// A text of the program's own: `D` or `Z`, then what the client is to read, without a code.
fn custom(text: &[u8]) -> Option<QueueError> {
    let (kind, said) = text.split_first().filter(|_| text.len() > 2)?;
    let said = safe(String::from_utf8_lossy(said).trim(), TEXT_OCTETS_MAX);
    match kind {
        _ if said.is_empty() => None,
        b'D' => Some(QueueError::permanent(said, "")),
        b'Z' => Some(QueueError::transient(said, "")),
        _ => None,
    }
}

/// qpsmtpd's words, and what is the matter instead of a number.
fn unable(what: &str) -> String {
    format!("Unable to queue message: {what}")
}

fn shown(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit status {code}"),
        Exit::Signal(signal) => format!("killed by signal {signal}"),
    }
}
