//! Hands mail to Postfix by its postdrop program, which any user may run: no socket, no group, Postfix need not even be up.
//!
//! ```text
//! queue/postdrop
//! queue/postdrop /usr/sbin/postdrop -c /etc/postfix-out timeout 30 deadline 120
//! ```
//! The program is setgid postdrop, so postern needs no rights of its own; but a unit with NoNewPrivileges, or a file system
//! mounted nosuid, takes that bit away, and then postdrop waits for ever: the time limit ends that. Words after the program are its
//! arguments, up to the first key; `-r` is always given. Nothing goes through a shell.
//!
//! - `command`: the program, and perhaps arguments, parted by blanks, if not given by position; a relative program starts at the
//!   configuration directory. `/usr/sbin/postdrop`.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either.
//! - `if_down`: `next` asks the next queue line where it is sure that nothing was handed over; `defer`.
//! - `smtputf8`: 0 if this Postfix carries no internationalised mail (before 3.0, or `smtputf8_enable = no`); 1. Postfix finds out by
//!   itself which mail needs it.
//!
//! 8BITMIME, SMTPUTF8 and DSN are offered; BINARYMIME is not, for content goes line by line.
//!
//! 250 `queued as ID` only on postdrop's own word that the message is in the maildrop; its exit status counts for nothing. ID is the
//! maildrop's: Postfix gives the message another one when it takes it in (within a moment, or when it is started), and adds a Received
//! field of its own. What Postfix refuses from then on (header_checks, milters, hops) becomes a bounce, and Postfix's milters see a
//! local user, not the client: where that matters use `queue/postfix-queue`. Too big is permanent (554), a fault in what we said and
//! everything else transient (451). After a time limit the message may have been queued all the same: the client tries again, so
//! a duplicate is possible, a loss is not.
//!
//! qpsmtpd has no such plugin.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::postfix::attributes::{Attributes, OCTETS_MAX};
use super::postfix::records::{self, Content};
use super::postfix::status;
use super::{IfDown, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::extension::Capabilities;
use crate::world::{Child, Exit, Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/postdrop", crate::manual!("postdrop.rs"), build);

/// Where it is.
const PROGRAM: &str = "/usr/sbin/postdrop";

/// What its greeting says since Postfix 3.6.
const PROTOCOL: &str = "postdrop_protocol";

/// Seconds that either limit may have: the chain ends a hand-over after an hour.
const LIMIT_S_MAX: u64 = 3600;

/// Where words of the line stop being the program's.
const KEYS: [&str; 5] = ["command", "timeout", "deadline", "smtputf8", "if_down"];

/// For its last words, after it was killed.
const LAST_WORDS: Duration = Duration::from_secs(2);

// The pipes, by their place in the job.
const RECORDS: usize = 0;
const ANSWERS: usize = 1;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    command: String,
    timeout: u64,
    deadline: u64,
    smtputf8: bool,
    if_down: IfDown,
}

impl Default for Options {
    fn default() -> Self {
        Self { command: PROGRAM.into(), timeout: 60, deadline: 300, smtputf8: true, if_down: IfDown::Defer }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let words = settings.take_words();
    let (command, pairs) = words.split_at(words.iter().position(|word| KEYS.contains(&&**word)).unwrap_or(words.len()));
    if !command.is_empty() {
        settings.set("command", command.join(" "));
    }
    if pairs.len() % 2 == 1 {
        return Err(settings.error(format!("{}: a key without a value", pairs.join(" "))));
    }
    pairs.chunks(2).for_each(|pair| settings.set(&pair[0], &*pair[1]));
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    for (key, limit_s) in [("timeout", options.timeout), ("deadline", options.deadline)] {
        if !(1..=LIMIT_S_MAX).contains(&limit_s) {
            return Err(fault(format!("{key} {limit_s}: from 1 to {LIMIT_S_MAX} seconds")));
        }
    }
    let mut command = options.command.split_whitespace().map(str::to_owned);
    let program = command.next().unwrap_or_default();
    if !program.contains('/') {
        return Err(fault(format!("{program:?}: write the program with its directory, as {PROGRAM}")));
    }
    Ok(line(
        Postdrop {
            world: world.clone(),
            program: world.config.resolve(&program).map_err(|error| fault(error.to_string()))?,
            arguments: command.filter(|word| word != "-r").collect(),
            pace: Duration::from_secs(options.timeout),
            deadline: Duration::from_secs(options.deadline),
            smtputf8: options.smtputf8,
        },
        options.if_down,
    ))
}

struct Postdrop {
    world: World,
    program: PathBuf,
    arguments: Vec<String>,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for Postdrop {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: true }
    }

    fn check(&mut self) -> Vec<String> {
        let shown = self.program.display();
        let found = match self.program.metadata() {
            Ok(found) => found,
            Err(error) => return vec![format!("{shown}: {error}; install Postfix, or name its postdrop on the line")],
        };
        let mode = found.permissions().mode() & 0o7777;
        if !found.is_file() {
            return vec![format!("{shown}: is not a file")];
        }
        if mode & 0o111 == 0 {
            return vec![format!("{shown}: is not executable (mode {mode:04o}); mend it with postfix set-permissions")];
        }
        if mode & 0o2000 == 0 && self.program.ends_with("postdrop") {
            return vec![format!("{shown}: is not setgid (mode {mode:04o}); mend it with postfix set-permissions")];
        }
        // It greets once it has a file in the maildrop. Left without a message it takes that away again.
        let greeted = self.world.within(self.pace.min(self.deadline), || -> io::Result<Vec<u8>> {
            let mut child = self.world.process.spawn(&self.job())?;
            child.close(RECORDS);
            child.read(ANSWERS, OCTETS_MAX)
        });
        let fault = match greeted {
            Ok(said) => Attributes::take(&mut &said[..]).queue_id(PROTOCOL).err(),
            Err(error) if error.kind() == ErrorKind::TimedOut => Some(
                "no greeting in time; can it write to the maildrop? Mend it with postfix set-permissions; a nosuid mount and \
                 NoNewPrivileges take its group away, too"
                    .to_owned(),
            ),
            Err(error) => Some(error.to_string()),
        };
        fault.map(|fault| format!("{shown}: {fault}")).into_iter().collect()
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let mut records = Vec::new();
        records::before_sender(&mut records, envelope.parameters());
        records::sender(&mut records, envelope)?;
        records::recipients(&mut records, envelope)?;
        self.world.within(self.deadline, || self.hand_over(records, message))
    }
}

impl Postdrop {
    fn job(&self) -> Job {
        let mut job = Job::new(&self.program);
        job.arguments = vec!["-r".into()];
        job.arguments.extend(self.arguments.iter().map(Into::into));
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::from_child(&[1])];
        job.pace = self.pace;
        job
    }

    fn hand_over(&self, records: Vec<u8>, message: &Message) -> Result<Receipt, QueueError> {
        let shown = self.program.display();
        let mut child = self.world.process.spawn(&self.job()).map_err(|error| {
            QueueError::transient(unable("postdrop cannot be run"), format!("{shown}: {error}")).untouched()
        })?;
        let who = format!("{shown} pid {}", child.id());
        let whole = match give(&mut *child, records, message) {
            Ok(()) => true,
            // It will have said why.
            Err(Stopped { error, ours: false }) if error.kind() == ErrorKind::BrokenPipe => false,
            // The end was not sent, so nothing is queued; dropped, it is killed.
            Err(Stopped { error, ours }) => {
                return Err(stopped(&who, if ours { "while the spool was read" } else { "while it read" }, &error));
            }
        };
        child.close(RECORDS);
        let said = match child.read(ANSWERS, OCTETS_MAX) {
            Ok(said) => said,
            Err(error) => self.last_words(&mut *child).ok_or_else(|| stopped(&who, "before its end", &error))?,
        };
        let mut rest = &said[..];
        let greeting = Attributes::take(&mut rest);
        let list = Attributes::take(&mut rest);
        let exit = child.wait();
        let about = |what: &str| format!("{who}: {what}{}", exit.as_ref().map_or(String::new(), |exit| ended(*exit)));
        let id = greeting
            .queue_id(PROTOCOL)
            .map_err(|text| QueueError::transient(unable("postdrop failed"), about(&text)))?;
        let Some(status) = list.status() else {
            return Err(QueueError::transient(unable("postdrop failed"), about("no status")));
        };
        match status::refusal(status, list.get("reason").unwrap_or_default()) {
            None if whole => Ok(Receipt { id: Some(id), text: "queued".to_owned() }),
            None => {
                Err(QueueError::transient(unable("postdrop failed"), about("it said yes before the message's end")))
            }
            Some(mut error) => {
                error.evidence = about(&format!("{id}: status {status}"));
                Err(error)
            }
        }
    }

    /// What it has said that is hanging now, if that was its status: then the message is stored.
    fn last_words(&self, child: &mut dyn Child) -> Option<Vec<u8>> {
        child.kill();
        let before = self.world.deadline.replace(Some(self.world.clock.instant() + LAST_WORDS));
        let said = child.read(ANSWERS, OCTETS_MAX);
        self.world.deadline.replace(before);
        said.ok().filter(|said| {
            let mut rest = &said[..];
            Attributes::take(&mut rest);
            Attributes::take(&mut rest).status().is_some()
        })
    }
}

/// Why not everything was written.
struct Stopped {
    error: io::Error,
    ours: bool,
}

fn give(child: &mut dyn Child, records: Vec<u8>, message: &Message) -> Result<(), Stopped> {
    let mut send = |octets: &[u8]| child.write(RECORDS, octets);
    let mut content = Content::new(records, &mut send);
    if let Err(error) = message.write_to(&mut content, LineEnds::Lf) {
        return Err(Stopped { error, ours: !content.failed });
    }
    content.finish().map_err(|error| Stopped { error, ours: false })
}

fn stopped(who: &str, at: &str, error: &io::Error) -> QueueError {
    if error.kind() == ErrorKind::TimedOut {
        let evidence =
            format!("{who}: killed, no end or no progress {at}; can it write to the maildrop? Try postern check");
        return QueueError::transient(unable("postdrop: timeout"), evidence).code(4, 2);
    }
    QueueError::transient(unable("postdrop failed"), format!("{who}: {at}: {error}"))
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!(", exit status {code}"),
        Exit::Signal(signal) => format!(", killed by signal {signal}"),
    }
}

fn unable(what: &str) -> String {
    format!("Unable to queue message: {what}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::hook::{Denial, Severity};
    use crate::queue::postfix::records::split;
    use crate::queue::trial;
    use crate::world::{Canned, FakeProcess, Ran};

    const CONTENT: &str = "Subject: x\r\n\r\n.one\r\n";
    const GREETING: &str = "protocol\0postdrop_protocol\0queue_id\0ABC1\0\0";
    const STORED: &str = "status\x000\0reason\0\0\0";

    fn says(text: &str) -> Canned {
        Canned { output: text.into(), ..Canned::default() }
    }

    /// One message against a canned program: what came of it, and what was done with the program.
    fn run(line: &str, canned: Canned) -> (Result<Receipt, (Denial, String)>, Ran) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let process = Rc::new(FakeProcess::default().answer(canned));
        world.process = process.clone();
        let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
        let envelope =
            trial::envelope("<\"a b\"@c.example>", &["<x@here.example>", "<postmaster>", "<x@here.example>"]);
        let came = trial::deliver(&mut *plugin, &envelope, CONTENT);
        assert_eq!(world.deadline.get(), None, "the deadline is put back");
        (came, process.ran().pop().unwrap())
    }

    #[test]
    fn it_is_given_records_that_postdrop_takes() {
        let (came, ran) = run("/p -c /etc/other timeout 7", says(&format!("{GREETING}{STORED}")));
        assert_eq!(came.unwrap(), Receipt { id: Some("ABC1".into()), text: "queued".into() });
        assert_eq!((ran.job.program.to_str(), ran.job.pace), (Some("/p"), Duration::from_secs(7)));
        assert_eq!(ran.job.arguments, ["-r", "-c", "/etc/other"]);
        let records = split(&ran.written[RECORDS]);
        let records: Vec<String> =
            records.iter().map(|(kind, data)| format!("{kind} {}", data.escape_ascii())).collect();
        assert_eq!(
            records,
            [
                "A rewrite_context=remote",
                "S a b@c.example",
                "A dsn_orig_rcpt=rfc822;x@here.example",
                "R x@here.example",
                "A dsn_orig_rcpt=rfc822;postmaster",
                "R postmaster",
                "M ",
                "N Subject: x",
                "N ",
                "N .one",
                "X ",
                "E ",
            ]
        );
    }

    #[test]
    fn only_the_status_counts() {
        let all = format!("{GREETING}{STORED}");
        let exit = |exit, text: &str| Canned { exit, ..says(text) };
        let status = |number, reason| format!("{GREETING}status\0{number}\0reason\0{reason}\0\0");
        let table = [
            (exit(Ok(Exit::Code(1)), &all), None),
            (exit(Ok(Exit::Signal(9)), &all), None),
            (exit(Err(ErrorKind::TimedOut), &all), None),
            (says(&format!("queue_id\0ABC1\0\0{STORED}")), None),
            (says(&all[..all.len() - 9]), None),
            (says(&all[..all.len() - 10]), Some((Severity::Transient, "postdrop failed"))),
            (says(""), Some((Severity::Transient, "postdrop failed"))),
            (says(GREETING), Some((Severity::Transient, "postdrop failed"))),
            (says(STORED), Some((Severity::Transient, "postdrop failed"))),
            (says("garbage"), Some((Severity::Transient, "postdrop failed"))),
            (Canned { reads_octets: 9, ..says(&all) }, Some((Severity::Transient, "postdrop failed"))),
            (Canned { reads_octets: 9, ..says(&status(4, "")) }, Some((Severity::Permanent, "message file too big"))),
            (says(&status(1, "")), Some((Severity::Transient, "internal protocol error"))),
            (says(&status(2, "")), Some((Severity::Transient, "queue file write error"))),
            (says(&status(512, "5.7.1 not you")), Some((Severity::Permanent, "not you"))),
        ];
        for (canned, expected) in table {
            let shown = format!("{canned:?}");
            match (run("/p", canned).0, expected) {
                (Ok(receipt), None) => assert_eq!(receipt.id.as_deref(), Some("ABC1"), "{shown}"),
                (Err((denial, evidence)), Some((severity, text))) => {
                    assert_eq!(denial.severity, severity, "{shown}");
                    assert!(
                        denial.text.contains(text) && evidence.starts_with("/p pid 4000"),
                        "{shown}: {denial:?} {evidence}"
                    );
                }
                (came, _) => panic!("{shown}: {came:?}"),
            }
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        for (line, fault) in [
            ("/p timeout 0", "timeout 0"),
            ("deadline 3601", "deadline 3601"),
            ("/p timeout", "a key without a value"),
            ("postdrop", "with its directory"),
            ("~/p", "~ is not expanded"),
            ("/p command /q", "command"),
        ] {
            let error = trial::build(&ENTRY, line, &world).err().unwrap();
            assert!(error.contains(fault) && error.contains("plugins line 1"), "{line}: {error}");
        }
        let offered = trial::build(&ENTRY, "", &world).unwrap().offers().unwrap();
        assert_eq!((offered.eight_bit, offered.binary, offered.smtputf8, offered.dsn), (true, false, true, true));
    }

    #[test]
    fn check_says_what_to_mend() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        make("postdrop", 0o755);
        make("plain", 0o644);
        make("good", 0o2755);
        let table = [
            ("none", says(""), "install Postfix"),
            ("postdrop", says(GREETING), "not setgid (mode 0755)"),
            ("plain", says(GREETING), "not executable (mode 0644)"),
            ("good", says("x"), "greeting"),
            ("good", Canned { cannot_start: Some(ErrorKind::PermissionDenied), ..says("") }, "permission denied"),
            ("good", says(GREETING), ""),
        ];
        for (name, canned, fault) in table {
            let mut world = trial::world(dir.path());
            world.process = Rc::new(FakeProcess::default().answer(canned));
            let path = dir.path().join(name);
            let faults = trial::build(&ENTRY, path.to_str().unwrap(), &world).unwrap().check();
            assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{name}: {faults:?}");
            assert!(faults.concat().contains(fault), "{name}: {faults:?}");
        }
    }
}
