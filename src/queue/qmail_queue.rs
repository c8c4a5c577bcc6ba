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
//! - `if_down`: `next` asks the next queue line when surely nothing was queued (the program cannot be run, it did not read
//!   everything, statuses 51, 53 to 56, 61 to 66, 71, 73, 120); `defer`.
//! - `smtputf8`: 1 if the MTA behind carries internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! 8BITMIME is offered; BINARYMIME is not, for lines end in LF in there, nor is DSN, for which qmail has no place.
//!
//! Only exit status 0 of a program that has read everything makes 250. 11 to 40 and 115 are permanent refusals (554), all else is
//! transient (451): every other status, death by a signal, a time limit, a program that cannot be run, one that
//! leaves any of the message or the envelope unread (even if it then says 0). Text for the client is taken with status 82 and 88 from descriptor 4 (simscan,
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

use super::{IfDown, Queue, QueueError, Seconds, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt, Severity};
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::world::{Child, Exit, Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/qmail-queue", crate::manual!("qmail_queue.rs"), build);

/// qmail-queue's own limit on an address (`ADDR` in qmail-queue.c counts the NUL too).
const ADDRESS_OCTETS_MAX: usize = 1002;

/// What notqmail reads of a custom text; more is dropped.
const TEXT_OCTETS_MAX: usize = 255;

// The pipes, by their place in the job.
const MESSAGE: usize = 0;
const ENVELOPE: usize = 1;
const TEXT: usize = 2;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    path: Option<String>,
    timeout: Seconds<60>,
    deadline: Seconds<300>,
    if_down: IfDown,
    smtputf8: bool,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(path) = settings.take_odd() {
        settings.set("path", path);
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    let home = PathBuf::from(world.host.variable("QMAIL").unwrap_or_else(|| "/var/qmail".into()));
    let own = options.path.is_none() && world.host.variable("QMAILQUEUE").is_none();
    let program = match (world.host.variable("QMAILQUEUE"), &options.path) {
        (Some(path), _) => home.join(path),
        (None, Some(path)) => world.config.resolve(path).map_err(|error| fault(error.to_string()))?,
        (None, None) => home.join("bin/qmail-queue"),
    };
    // It starts in another directory than ours.
    let program = std::path::absolute(program).map_err(|error| fault(error.to_string()))?;
    let queue = QmailQueue {
        world: world.clone(),
        home,
        program,
        own,
        pace: options.timeout.get(),
        deadline: options.deadline.get(),
        smtputf8: options.smtputf8,
    };
    Ok(line(queue, options.if_down))
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
            let wanted = if self.own { "4711" } else { "755" };
            fault(format!("{shown}: is not executable (mode {mode:04o}); mend it with chmod {wanted}"))
        } else if self.own && mode & 0o4000 == 0 {
            fault(format!("{shown}: is not setuid (mode {mode:04o}): qmail's own is 4711, owned by qmailq"))
        } else {
            Vec::new()
        }
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let recipients: Vec<String> = envelope.forward_paths().iter().map(|path| path.address()).collect();
        let records = records(&envelope.reverse_path().address(), &recipients)?;
        self.world.within(self.deadline, || self.hand_over(message, &records))
    }
}

impl QmailQueue {
    fn hand_over(&self, message: &Message, records: &[u8]) -> Result<Receipt, QueueError> {
        let mut child = self.world.process.spawn(&self.job()).map_err(|error| {
            QueueError::transient(unable("the program cannot be run"), format!("{}: {error}", self.program.display()))
                .untouched()
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
        let whole = give(&mut *child, message, records).map_err(|(at, error)| stopped(at, &error).untouched())?;
        let text = child.read(TEXT, TEXT_OCTETS_MAX).map_err(|error| stopped("before its end", &error))?;
        let exit = child.wait().map_err(|error| stopped("before its end", &error))?;
        match refusal(exit, whole, &text) {
            None => Ok(Receipt { id: None, text: format!("queued qp {}", child.id()) }),
            Some(mut error) => {
                let unread = if whole { "" } else { ", and did not read everything" };
                error.evidence = format!("{who}: {}{unread}", shown(exit));
                error.untouched = surely_not_queued(exit, whole);
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

/// Writes message and envelope, and sees that each is read. False: the program stopped reading, and its exit status will say why. Then, or after an
/// error, the envelope's final NUL was not sent, so that nothing that keeps to the protocol can have queued half a message.
fn give(child: &mut dyn Child, message: &Message, records: &[u8]) -> Result<bool, (&'static str, io::Error)> {
    let mut pipe = MessagePipe { child, failed: false };
    if let Err(error) = message.write_to(&mut pipe, LineEnds::Lf).and_then(|_| pipe.drain()) {
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
    let sent = child.write(ENVELOPE, records).and_then(|()| drain(child, ENVELOPE));
    child.close(ENVELOPE);
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(("while it read the envelope", error)),
    }
}

/// Waits until all is read. What fits into the pipe is written without an error even if nobody ever reads it.
fn drain(child: &mut dyn Child, pipe: usize) -> io::Result<()> {
    if child.drained(pipe)? { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) }
}

/// The message's pipe, which knows whether an error is its own.
struct MessagePipe<'a> {
    child: &'a mut dyn Child,
    failed: bool,
}

impl MessagePipe<'_> {
    fn drain(&mut self) -> io::Result<()> {
        let drained = drain(self.child, MESSAGE);
        self.failed |= drained.is_err();
        drained
    }
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
fn records(sender: &str, recipients: &[String]) -> Result<Vec<u8>, QueueError> {
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
    add(b'F', sender)?;
    recipients.iter().try_for_each(|recipient| add(b'T', recipient))?;
    records.push(0);
    Ok(records)
}

/// What an end means (qmail-queue(8), qmail.c); `None`: queued. `whole`: everything was read.
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
    Some(QueueError { severity, ..QueueError::transient(unable(what), "").code(enhanced.0, enhanced.1) })
}

/// Whether an end that is no success leaves no doubt. Without the envelope's final NUL nothing is queued; else by statuses
/// that qmail-queue and qmail-qmqpc give before they could have done it. A time limit, a lost connection, a signal may come after.
fn surely_not_queued(exit: Exit, whole: bool) -> bool {
    match exit {
        Exit::Code(0) => false,
        Exit::Code(51 | 53..=56 | 61..=66 | 71 | 73 | 120) => true,
        Exit::Code(_) | Exit::Signal(_) => !whole,
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hook::Denial;
    use crate::queue::trial;
    use crate::world::{Canned, FakeHost, FakeProcess, Host};
    use std::rc::Rc;

    const CONTENT: &str = "Subject: x\r\n\r\none\r\n";

    /// Runs one message against a canned program: what came of it, and what was done with the program.
    fn run(line: &str, host: FakeHost, canned: Canned) -> (Result<Receipt, (Denial, String)>, crate::world::Ran) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let process = Rc::new(FakeProcess::default().answer(canned));
        world.process = process.clone();
        world.host = Rc::new(host);
        let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
        let envelope =
            trial::envelope("<\"a b\"@c.example>", &["<x@here.example>", "<postmaster>", "<x@here.example>"]);
        let came = trial::deliver(&mut *plugin, &envelope, CONTENT);
        assert_eq!(world.deadline.get(), None, "the deadline is put back");
        (came, process.ran().pop().unwrap())
    }

    #[test]
    fn it_is_given_the_message_then_the_envelope() {
        let (came, ran) = run("/q timeout 7", FakeHost::default(), Canned::default());
        assert_eq!(came.unwrap(), Receipt { id: None, text: "queued qp 4000".into() });
        assert_eq!(ran.written[MESSAGE], b"Subject: x\n\none\n");
        assert_eq!(ran.written[ENVELOPE], b"Fa b@c.example\0Tx@here.example\0Tpostmaster\0\0");
        assert_eq!((ran.closed[MESSAGE], ran.closed[ENVELOPE], ran.waited), (true, true, true));
        let descriptors: Vec<_> = ran.job.pipes.iter().map(|pipe| pipe.descriptors.as_slice()).collect();
        assert_eq!(descriptors, [&[0][..], &[1], &[4, 6]]);
        assert!(ran.job.arguments.is_empty() && ran.job.environment.is_empty());
        assert_eq!(ran.job.pace, Duration::from_secs(7));
    }

    #[test]
    fn the_program_is_the_environments_the_lines_or_qmails() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let host = FakeHost::default;
        let table = [
            ("", host(), "/var/qmail/bin/qmail-queue".to_owned()),
            ("", host().set("QMAIL", home), format!("{home}/bin/qmail-queue")),
            ("/q", host().set("QMAIL", home), "/q".to_owned()),
            ("path /q", host(), "/q".to_owned()),
            ("/q", host().set("QMAILQUEUE", "/e v"), "/e v".to_owned()),
            ("/q", host().set("QMAILQUEUE", ""), "/q".to_owned()),
            ("", host().set("QMAIL", home).set("QMAILQUEUE", "bin/e"), format!("{home}/bin/e")),
        ];
        for (line, host, program) in table {
            let qmail = host.variable("QMAIL").is_some();
            let (_, ran) = run(line, host, Canned::default());
            assert_eq!(ran.job.program.to_str(), Some(&*program), "{line:?}");
            // It starts in the qmail home if there is one.
            assert!(!qmail || ran.job.directory.as_deref() == Some(std::path::Path::new(home)), "{line:?}");
        }
        // A relative path starts at the configuration directory.
        let (_, ran) = run("bin/q", FakeHost::default(), Canned::default());
        assert!(ran.job.program.is_absolute() && ran.job.program.ends_with("bin/q"), "{:?}", ran.job.program);
    }

    #[test]
    fn lines_that_make_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        for (line, fault) in [
            ("/q timeout 0", "timeout: 0: from 1 to 3600"),
            ("/q deadline 3601", "deadline: 3601: from 1"),
            ("/q timeuot 5", "timeout"),
            ("/q timeout five", "five"),
            ("~/q", "~ is not expanded"),
        ] {
            let error = trial::build(&ENTRY, line, &world).err().unwrap();
            assert!(error.contains(fault) && error.contains("plugins line 1"), "{line}: {error}");
        }
        let offers = |line| trial::build(&ENTRY, line, &world).unwrap().offers().unwrap();
        assert_eq!((offers("/q").eight_bit, offers("/q").binary, offers("/q").smtputf8), (true, false, false));
        assert!(offers("/q smtputf8 1").smtputf8);
    }

    /// Either limit, a child that cannot be run or that stops reading: never a receipt, and the final NUL was not sent unless
    /// all the rest was.
    #[test]
    fn programs_that_fail_before_their_end() {
        let exit = |exit| Canned { exit, ..Canned::default() };
        let stops = |reads_octets, code| Canned { reads_octets, exit: Ok(Exit::Code(code)), ..Canned::default() };
        let leaves = |reads_octets, code| Canned { leaves_octets: 1 << 16, ..stops(reads_octets, code) };
        // As it is written: LF for CRLF, and the whole envelope but for its final NUL.
        let (message, almost) = (CONTENT.len() - 3, CONTENT.len() - 3 + 43);
        let table = [
            (leaves(0, 0), Severity::Transient, "read error"),
            (leaves(3, 0), Severity::Transient, "read error"),
            (leaves(message - 1, 0), Severity::Transient, "read error"),
            (leaves(message, 0), Severity::Transient, "read error"),
            (leaves(almost, 0), Severity::Transient, "read error"),
            (leaves(0, 31), Severity::Permanent, "permanently rejected"),
            (leaves(message, 53), Severity::Transient, "disk full"),
            (Canned { exit: Ok(Exit::Signal(9)), ..leaves(3, 0) }, Severity::Transient, "crashed"),
            (Canned { exit: Err(ErrorKind::TimedOut), ..leaves(3, 0) }, Severity::Transient, "timeout"),
            (Canned { exit: Err(ErrorKind::TimedOut), ..leaves(message, 0) }, Severity::Transient, "timeout"),
            (exit(Err(ErrorKind::TimedOut)), Severity::Transient, "timeout"),
            (exit(Err(ErrorKind::Other)), Severity::Transient, "temporary problem"),
            (exit(Ok(Exit::Signal(9))), Severity::Transient, "crashed"),
            (stops(0, 0), Severity::Transient, "read error"),
            (stops(3, 0), Severity::Transient, "read error"),
            (stops(3, 31), Severity::Permanent, "permanently rejected"),
            (stops(CONTENT.len() + 3, 0), Severity::Transient, "read error"),
            (stops(CONTENT.len() + 3, 53), Severity::Transient, "disk full"),
        ];
        for (canned, severity, text) in table {
            let (shown, canned_reads) = (format!("{canned:?}"), canned.reads_octets);
            let (came, ran) = run("/q", FakeHost::default(), canned);
            let (denial, evidence) = came.unwrap_err();
            assert_eq!(denial.severity, severity, "{shown}");
            assert!(denial.text.contains(text), "{shown}: {denial:?}");
            assert!(evidence.starts_with("/q qp 4000: "), "{shown}: {evidence}");
            assert!(ran.killed || ran.waited, "{shown}");
            // No envelope for one that left some of the message.
            let unread = canned_reads < message;
            assert!(!unread || ran.written[ENVELOPE].is_empty(), "{shown}");
        }
    }

    #[test]
    fn every_exit_status_has_its_reply() {
        let table: &[(i32, Severity, (u16, u16), &str)] = &[
            (1, Severity::Transient, (3, 0), "temporary problem"),
            (10, Severity::Transient, (3, 0), "temporary problem"),
            (11, Severity::Permanent, (1, 3), "address too long"),
            (12, Severity::Permanent, (3, 0), "permanent problem"),
            (31, Severity::Permanent, (3, 0), "permanently rejected"),
            (40, Severity::Permanent, (3, 0), "permanent problem"),
            (41, Severity::Transient, (3, 0), "temporary problem"),
            (50, Severity::Transient, (3, 0), "temporary problem"),
            (51, Severity::Transient, (3, 0), "out of memory"),
            (52, Severity::Transient, (3, 0), "timeout"),
            (53, Severity::Transient, (3, 0), "disk full"),
            (54, Severity::Transient, (3, 0), "read error"),
            (55, Severity::Transient, (3, 0), "configuration"),
            (56, Severity::Transient, (3, 0), "network connection"),
            (61, Severity::Transient, (3, 0), "home directory"),
            (62, Severity::Transient, (3, 0), "creating files"),
            (66, Severity::Transient, (3, 0), "creating files"),
            (67, Severity::Transient, (3, 0), "temporary problem"),
            (71, Severity::Transient, (3, 0), "temporarily rejected"),
            (72, Severity::Transient, (4, 1), "timed out"),
            (73, Severity::Transient, (4, 1), "connection to mail server rejected"),
            (74, Severity::Transient, (4, 2), "communication"),
            (81, Severity::Transient, (3, 0), "internal bug"),
            (82, Severity::Transient, (3, 0), "temporary problem"),
            (91, Severity::Transient, (3, 0), "internal bug"),
            (115, Severity::Permanent, (1, 3), "address too long"),
            (120, Severity::Transient, (3, 0), "cannot be run"),
            (255, Severity::Transient, (3, 0), "temporary problem"),
        ];
        for &(code, severity, enhanced, text) in table {
            let error = refusal(Exit::Code(code), true, b"").unwrap();
            assert_eq!((error.severity, error.enhanced), (severity, enhanced), "{code}");
            assert!(error.text.contains(text), "{code}: {}", error.text);
        }
        for code in 1..=255 {
            let permanent = matches!(code, 11..=40 | 115);
            let error = refusal(Exit::Code(code), true, b"Dtext that only 82 and 88 may give");
            let expected = if permanent || matches!(code, 82 | 88) { Severity::Permanent } else { Severity::Transient };
            assert_eq!(error.unwrap().severity, expected, "{code}");
        }
        assert!(refusal(Exit::Code(0), true, b"Dno").is_none());
        assert!(refusal(Exit::Code(0), false, b"").is_some());
        assert!(refusal(Exit::Signal(0), true, b"").is_some());
    }

    #[test]
    fn when_another_queue_may_be_asked() {
        let table = [
            (Exit::Code(0), false, false),
            (Exit::Code(52), true, false),
            (Exit::Code(52), false, true),
            (Exit::Code(53), true, true),
            (Exit::Code(71), true, true),
            (Exit::Code(72), true, false),
            (Exit::Code(74), true, false),
            (Exit::Code(82), true, false),
            (Exit::Code(120), true, true),
            (Exit::Signal(9), true, false),
            (Exit::Signal(9), false, true),
        ];
        for (exit, whole, sure) in table {
            assert_eq!(surely_not_queued(exit, whole), sure, "{exit:?} {whole}");
        }
        let envelope = trial::envelope("<>", &["<x@here.example>"]);
        let dir = tempfile::tempdir().unwrap();
        for (line, canned, passed) in [
            ("/q if_down next", Canned { cannot_start: Some(ErrorKind::NotFound), ..Canned::default() }, true),
            ("/q if_down defer", Canned { cannot_start: Some(ErrorKind::NotFound), ..Canned::default() }, false),
            ("/q if_down next", Canned { exit: Err(ErrorKind::TimedOut), ..Canned::default() }, false),
            ("/q if_down next", Canned { exit: Ok(Exit::Code(31)), ..Canned::default() }, false),
        ] {
            let mut world = trial::world(dir.path());
            world.process = Rc::new(FakeProcess::default().answer(canned));
            let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
            let verdict = trial::rule(&mut *plugin, &envelope, CONTENT).verdict;
            assert_eq!(matches!(verdict, crate::hook::Verdict::Skip), passed, "{line}: {verdict:?}");
        }
    }

    #[test]
    fn custom_texts() {
        let table: &[(&[u8], Option<(Severity, &str)>)] = &[
            (b"", None),
            (b"D", None),
            (b"Dx", None),
            (b"D \r\n", None),
            (b"Xtext", None),
            (b"dtext", None),
            (b"Dno\r\n", Some((Severity::Permanent, "no"))),
            (b"Zlater", Some((Severity::Transient, "later"))),
            (b"Za\r\n250 ok\0\x1b", Some((Severity::Transient, "a??250 ok??"))),
            (b"D\xff\xfe!", Some((Severity::Permanent, "\u{fffd}\u{fffd}!"))),
        ];
        for (octets, expected) in table {
            let found = custom(octets).map(|error| (error.severity, error.text));
            let expected = expected.map(|(severity, text)| (severity, text.to_owned()));
            assert_eq!(found, expected, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn an_address_that_qmail_cannot_hold_is_refused_before() {
        let longest = "x".repeat(1002);
        let table = [
            ("", "x@here.example", true),
            (&*longest, &*longest, true),
            (&*format!("{longest}x"), "x@here.example", false),
            ("", &*format!("{longest}x"), false),
            ("", "x\0y@here.example", false),
        ];
        for (sender, recipient, fits) in table {
            match records(sender, &[recipient.to_owned()]) {
                Ok(records) => {
                    assert!(fits);
                    assert_eq!(records, format!("F{sender}\0T{recipient}\0\0").into_bytes());
                }
                Err(error) => assert_eq!((fits, error.severity, error.enhanced), (false, Severity::Permanent, (1, 3))),
            }
        }
    }

    #[test]
    fn check_says_what_to_mend() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let make = |name: &str, mode| {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), "").unwrap();
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        make("plain", 0o644);
        make("good", 0o755);
        make("qmail/bin/qmail-queue", 0o755);
        make("setuid/bin/qmail-queue", 0o4711);
        let table = [
            (path("good"), "", ""),
            (path("plain"), "", "not executable (mode 0644)"),
            (path("none"), "", "No such file"),
            (path("qmail"), "", "not a file"),
            (String::new(), "none", "there is no qmail here"),
            (String::new(), "qmail", "not setuid (mode 0755)"),
            (String::new(), "setuid", ""),
        ];
        for (line, home, fault) in table {
            let mut world = trial::world(dir.path());
            world.host = Rc::new(FakeHost::default().set("QMAIL", &path(home)));
            let faults = trial::build(&ENTRY, &line, &world).unwrap().check();
            assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{line} {home}: {faults:?}");
            assert!(faults.concat().contains(fault), "{line} {home}: {faults:?}");
        }
    }
}
