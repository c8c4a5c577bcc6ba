//! Gives each message to a program: the message on standard input, the envelope in the environment and its arguments.
//!
//! ```text
//! queue/pipe /usr/local/bin/take-mail
//! queue/pipe timeout 20 deadline 60 /usr/lib/dovecot/deliver -f {sender} -d {recipients}
//! ```
//! Keys come before the program; all that follows the program is an argument of it. No shell has a look at any of it.
//!
//! - program and arguments (required; `command` as a list in the file): a relative path starts at the configuration directory.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either, with all that it started.
//! - `if_down`: `next` asks the next queue line when the program cannot be started; `defer`.
//! - `smtputf8`: 1 if it can carry internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! Standard input is the message, its lines ended by LF, and then the end. `SENDER` is the reverse-path (empty for `<>`),
//! `RECIPIENTS` the forward-paths, one a line. An argument that is `{sender}` becomes the reverse-path, one that is
//! `{recipients}` becomes as many arguments as there are forward-paths. Addresses are in their SMTP form without brackets: the
//! local-part is in quotes where RFC 5321 wants them, so that they can be given on to an MTA's command line as they are.
//! The rest of our environment is passed on.
//!
//! An address may begin with `-`, and would be taken for an option. So if `{recipients}`, or a `{sender}` that no option
//! stands before, is used and such an address comes, the message is refused (554 5.1.3), unless an argument `--` stands
//! before it. `-f {sender}` is the exception: what follows an option that wants a value is that value. Programs that do not
//! know `--` should read the environment instead, which is safe, as `{sender}` after an option is where the program uses getopt.
//! Lists of recipients longer than 100000 octets do not fit an argument of Linux (128 KiB), and are told to come again in parts
//! (451 4.5.3); the core's `recipients_max` lowers their number.
//!
//! Exit status 0 after everything was read: stored, 250. 65, 67, 68 (sysexits.h: data, user, host) and qmail's 100 are permanent
//! refusals; then the first line of the program's output is what the client reads. Everything else is transient: 64 and 77
//! mean a fault of ours, and mail waits; so do a death by signal, a time limit, a 0 without reading everything. After a time
//! limit the program may have stored the message all the same, and the client comes again: a duplicate is possible, a loss is
//! not, as long as the program says 0 only for what it has synced to the disk.
//!
//! Standard input has no mark of its end, so the program is never given the beginning of a message whose rest might not come: what is
//! longer than 4096 octets is in a file without a name in `spool_dir` before the program starts, and that file is its standard
//! input. The program must read it to its end by reading, not by mapping it into memory.
//!
//! 8BITMIME is offered; BINARYMIME is not, for lines end in LF, nor DSN. Not in qpsmtpd.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{IfDown, Paths, Queue, QueueError, Seconds, line, program};
use crate::config::{ConfigError, Settings, same_name};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::{Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/pipe", crate::manual!("pipe.rs"), build);

/// Linux takes 128 KiB for one argument or variable.
const LIST_OCTETS_MAX: usize = 100_000;

/// Keys that may stand before the program.
const KEYS: [&str; 4] = ["timeout", "deadline", "if_down", "smtputf8"];

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    command: Vec<String>,
    timeout: Seconds<60>,
    deadline: Seconds<300>,
    if_down: IfDown,
    smtputf8: bool,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    while settings.words().first().is_some_and(|word| KEYS.iter().any(|key| same_name(key, word))) {
        let (key, value) = (settings.take_first().unwrap_or_default(), settings.take_first());
        let value = value.ok_or_else(|| settings.error(format!("{key} has no value")))?;
        settings.set(&key, value);
    }
    let words = settings.take_words();
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    let mut command = if words.is_empty() { options.command } else { words }.into_iter();
    let Some(path) = command.next() else {
        return Err(fault("no program: queue/pipe COMMAND [ARG...]".to_owned()));
    };
    let path = world.config.resolve(&path).map_err(|error| fault(error.to_string()))?;
    Ok(line(
        PipeQueue {
            world: world.clone(),
            program: path,
            arguments: command.collect(),
            pace: options.timeout.get(),
            deadline: options.deadline.get(),
            smtputf8: options.smtputf8,
        },
        options.if_down,
    ))
}

struct PipeQueue {
    world: World,
    program: PathBuf,
    arguments: Vec<String>,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for PipeQueue {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        program::check(&self.program, "name the program on the line, by its whole path")
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let Paths { sender, recipients } = Paths::of(envelope)?;
        let list = recipients.join("\n");
        if list.len() > LIST_OCTETS_MAX {
            let evidence = format!("recipients of {} octets, {LIST_OCTETS_MAX} fit", list.len());
            let error = QueueError::transient("too many recipients for one message, send it in parts", evidence);
            return Err(error.code(5, 3).untouched());
        }
        let mut job = Job::new(&self.program);
        job.arguments = arguments(&self.arguments, &sender, &recipients)?;
        job.environment = vec![("SENDER".into(), sender.into()), ("RECIPIENTS".into(), list.into())];
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::from_child(&[1, 2])];
        job.pace = self.pace;
        let ended = self.world.within(self.deadline, || program::run_on(&self.world, job, message))?;
        match program::refusal(&ended) {
            None => Ok(Receipt { id: None, text: format!("queued pid {}", ended.id) }),
            Some(error) => Err(error),
        }
    }
}

/// The program's arguments for this envelope. No address becomes an option.
fn arguments(words: &[String], sender: &str, recipients: &[String]) -> Result<Vec<OsString>, QueueError> {
    let mut made = Vec::new();
    let mut ended = false;
    let mut before = "";
    for word in words {
        let addresses = match word.as_str() {
            "{sender}" => vec![sender.to_owned()],
            "{recipients}" => recipients.to_vec(),
            _ => Vec::new(),
        };
        if !matches!(word.as_str(), "{sender}" | "{recipients}") {
            ended |= word == "--";
            made.push(word.into());
        }
        // The value of an option; only the first address is that.
        let value = before.starts_with('-') && before != "--" && addresses.len() == 1;
        for address in addresses {
            if address.starts_with('-') && !ended && !value {
                let evidence = format!("{address} would be an option of the program: put -- before it");
                let error = QueueError::permanent("an address that begins with - cannot be handed over", evidence);
                return Err(error.code(1, 3).untouched());
            }
            made.push(address.into());
        }
        before = word;
    }
    Ok(made)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::hook::{Denial, Severity};
    use crate::queue::trial;
    use crate::world::{Canned, Exit, FakeProcess, Ran};

    const CONTENT: &str = "Subject: x\r\n\r\n.one\r\n";

    fn run(line: &str, reverse: &str, canned: Canned) -> (Result<Receipt, (Denial, String)>, Option<Ran>) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let process = Rc::new(FakeProcess::default().answer(canned));
        world.process = process.clone();
        let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
        let envelope = trial::envelope(reverse, &["<\"a b\"@here.example>", "<postmaster>", "<-x@here.example>"]);
        let came = trial::deliver(&mut *plugin, &envelope, CONTENT);
        (came, process.ran().pop())
    }

    #[test]
    fn it_is_given_message_and_envelope() {
        let line = "timeout 7 /p -f {sender} x{sender} -- {recipients} {sender} timeout";
        let (came, ran) = run(line, "<-a@c.example>", Canned::default());
        let (receipt, ran) = (came.unwrap(), ran.unwrap());
        assert_eq!(receipt, Receipt { id: None, text: "queued pid 4000".into() });
        let words: Vec<_> = ran.job.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        let expected = [
            "-f",
            "-a@c.example",
            "x{sender}",
            "--",
            "\"a b\"@here.example",
            "postmaster",
            "-x@here.example",
            "-a@c.example",
            "timeout",
        ];
        assert_eq!(words, expected);
        assert_eq!(ran.written[0], b"Subject: x\n\n.one\n");
        let list = "\"a b\"@here.example\npostmaster\n-x@here.example";
        assert_eq!(
            ran.job.environment,
            [("SENDER".into(), "-a@c.example".into()), ("RECIPIENTS".into(), list.into())] as [(OsString, OsString); 2]
        );
        assert_eq!((ran.job.pace, ran.waited), (Duration::from_secs(7), true));
        let (came, ran) = run("/p {sender}", "<>", Canned::default());
        assert!(came.is_ok() && ran.unwrap().job.arguments == [""]);
    }

    #[test]
    fn no_address_becomes_an_option() {
        for (line, reverse, refused) in [
            ("/p {recipients}", "<>", true),
            ("/p -r {recipients}", "<>", true),
            ("/p -- {recipients}", "<>", false),
            ("/p", "<-a@c.example>", false),
            ("/p {sender}", "<-a@c.example>", true),
            ("/p -f {sender}", "<-a@c.example>", false),
            ("/p x {sender}", "<-a@c.example>", true),
        ] {
            let (came, ran) = run(line, reverse, Canned::default());
            assert_eq!((came.is_err(), ran.is_none()), (refused, refused), "{line}");
            if let Err((denial, evidence)) = came {
                assert_eq!(denial.severity, Severity::Permanent);
                assert!(evidence.contains("put -- before it"), "{evidence}");
            }
        }
    }

    #[test]
    fn what_fails_is_no_receipt() {
        let exit =
            |code, output: &[u8]| Canned { exit: Ok(Exit::Code(code)), output: output.into(), ..Canned::default() };
        let table = [
            (exit(67, b"no such user here\n"), Severity::Permanent, "no such user here"),
            (exit(77, b"a secret path\n"), Severity::Transient, "temporary problem"),
            (Canned { exit: Ok(Exit::Signal(11)), ..Canned::default() }, Severity::Transient, "crashed"),
            (Canned { reads_octets: 3, ..Canned::default() }, Severity::Transient, "did not read"),
            (
                Canned { cannot_start: Some(std::io::ErrorKind::NotFound), ..Canned::default() },
                Severity::Transient,
                "run",
            ),
            (Canned { exit: Err(std::io::ErrorKind::TimedOut), ..Canned::default() }, Severity::Transient, "timeout"),
        ];
        for (canned, severity, text) in table {
            let (came, _) = run("/p", "<>", canned);
            let (denial, evidence) = came.unwrap_err();
            assert!(denial.severity == severity && denial.text.contains(text), "{denial:?}");
            assert!(evidence.starts_with("/p"), "{evidence}");
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        for (line, fault) in
            [("", "no program"), ("timeout", "timeout has no value"), ("timeout 0 /p", "from 1 to 3600")]
        {
            let error = trial::build(&ENTRY, line, &world).err().unwrap();
            assert!(error.contains(fault), "{line}: {error}");
        }
        let faults = trial::build(&ENTRY, "/no/such", &world).unwrap().check();
        assert!(faults.len() == 1 && faults[0].contains("No such file"), "{faults:?}");
    }
}
