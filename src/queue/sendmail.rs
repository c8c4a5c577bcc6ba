//! Hands mail to the `sendmail` command of any MTA: Postfix, Exim, sendmail, OpenSMTPD, nullmailer, msmtp.
//!
//! ```text
//! queue/sendmail
//! queue/sendmail /usr/lib/sendmail timeout 120 deadline 600
//! queue/sendmail form oi
//! ```
//! - `command` (first word; `/usr/sbin/sendmail`): the program; a relative path starts at the configuration directory.
//! - `form`: `bs` (`sendmail -bs`: it speaks SMTP on its standard input and output) or `oi` (`sendmail -oi -f`); `bs`.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either.
//! - `if_down`: `next` asks the next queue line when the program cannot be started, or surely took nothing; `defer`.
//! - `smtputf8`: 1 if the MTA carries internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! Nothing goes through a shell, and no address becomes an option.
//!
//! **form bs** is the default because a message has a mark of its end there: whatever is killed, and when, the MTA never
//! takes a part for the whole. And every refusal is a reply with its own code and text, a recipient can be refused, and too
//! long a message is refused by SIZE before it is sent. (Postfix has its access controls off in this form: it takes any
//! recipient, and bounces later.) A refusal keeps its class; if any recipient is refused, nothing is sent, and the whole
//! message is refused, transiently if any refusal is transient. 250 only after the program's own 250 to the end of data; then
//! it has the `timeout` to end by itself. One that does not greet, breaks the protocol, ends early, dies by a signal or
//! exceeds a limit is transient, and the log has what it wrote to standard error.
//!
//! **form oi** is for commands without `-bs` (nullmailer, msmtp). It is called as `sendmail -oi -oep -f SENDER --
//! RECIPIENT...`, with the message on standard input, lines ended by LF; the null reverse-path is `<>`. Exit status 0 after
//! everything was read is the only 250. 65, 67 and 68 (sysexits.h: data, user, host) and 100 are permanent refusals, and the
//! first line that it printed is what the client reads. All else is transient: 64, 77 and 78 mean a fault in the
//! configuration, and mail waits. (Postfix says 0 or 75 for mail that it could read; what it then finds out it tells the
//! sender by a bounce. Exim's 1 and 2 are transient here.) Standard input has no mark of its end, so the program is
//! never given the beginning of a message whose rest might not come, as when we are killed: what is longer than 4096 octets is in a file
//! without a name in `spool_dir` before the program starts, and that file is its standard input. Exim gets `-oep`, so that it
//! tells us of errors instead of mailing the sender about them.
//!
//! A caller that the MTA does not trust gets a `Sender:` or `X-Authentication-Warning:` field; Exim makes it the sender, too
//! (`trusted_users`). For Exim `queue/exim-bsmtp` can tell who the client is. After a time limit the message may have been
//! queued: a duplicate is possible, a loss is not. 8BITMIME is offered; BINARYMIME is not, nor is DSN. Not in qpsmtpd.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::client::Client;
use super::{IfDown, Paths, Queue, QueueError, Seconds, line, program};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::{Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/sendmail", crate::manual!("sendmail.rs"), build);

/// How the command is given a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// In a dialog (`-bs`).
    #[default]
    Bs,
    /// The envelope as arguments, the message alone on its standard input (`-oi -f`).
    Oi,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    command: Option<String>,
    form: Form,
    timeout: Seconds<60>,
    deadline: Seconds<300>,
    if_down: IfDown,
    smtputf8: bool,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(command) = settings.take_odd() {
        settings.set("command", command);
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let options: Options = settings.read()?;
    let command = options.command.as_deref().unwrap_or("/usr/sbin/sendmail");
    let command = world.config.resolve(command).map_err(|error| origin.error(error.to_string()).of_plugin(&name))?;
    let queue = Sendmail {
        world: world.clone(),
        command,
        form: options.form,
        pace: options.timeout.get(),
        deadline: options.deadline.get(),
        smtputf8: options.smtputf8,
    };
    Ok(line(queue, options.if_down))
}

struct Sendmail {
    world: World,
    command: PathBuf,
    form: Form,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for Sendmail {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        let faults = program::check(&self.command, "install an MTA that has it, or name it on the line");
        if self.form == Form::Oi || !faults.is_empty() {
            return faults;
        }
        let mend = "; `form oi` is for a command that does not speak SMTP with -bs";
        self.dialog().check().into_iter().map(|fault| fault + mend).collect()
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        match self.form {
            Form::Bs => self.dialog().queue(session, envelope, message),
            Form::Oi => self.deliver_by_arguments(envelope, message),
        }
    }
}

impl Sendmail {
    fn dialog(&self) -> Client {
        let mut job = Job::new(&self.command);
        job.arguments = vec!["-bs".into()];
        job.pace = self.pace;
        Client::of_program(&self.world, "sendmail", job, self.deadline)
    }

    fn deliver_by_arguments(&self, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let paths = Paths::of(envelope)?;
        let sender = if paths.sender.is_empty() { "<>".to_owned() } else { paths.sender };
        let mut job = Job::new(&self.command);
        job.arguments = ["-oi", "-oep", "-f"].map(Into::into).into();
        job.arguments.extend([sender.into(), "--".into()]);
        job.arguments.extend(paths.recipients.into_iter().map(Into::into));
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::from_child(&[1, 2])];
        job.pace = self.pace;
        let ended = self.world.within(self.deadline, || program::run_on(&self.world, job, message))?;
        match program::refusal(&ended) {
            None => Ok(Receipt { id: None, text: format!("queued pid {}", ended.id) }),
            Some(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::ErrorKind;
    use std::rc::Rc;

    use super::*;
    use crate::hook::Severity;
    use crate::queue::trial;
    use crate::world::{Canned, FakeProcess};

    #[test]
    fn it_is_called_as_every_mta_wants_it() {
        for (line, reverse, program, sender) in
            [("form oi", "<>", "/usr/sbin/sendmail", "<>"), ("/s form oi", "<-oQ@c.example>", "/s", "-oQ@c.example")]
        {
            let dir = tempfile::tempdir().unwrap();
            let mut world = trial::world(dir.path());
            let process = Rc::new(FakeProcess::default().answer(Canned::default()));
            world.process = process.clone();
            let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
            let envelope = trial::envelope(reverse, &["<\"a,b\"@here.example>", "<-x@here.example>"]);
            let came = trial::deliver(&mut *plugin, &envelope, "Subject: x\r\n\r\n.\r\n").unwrap();
            assert_eq!(came.text, "queued pid 4000");
            let ran = process.ran().pop().unwrap();
            assert_eq!(ran.job.program.to_str(), Some(program));
            assert_eq!(
                ran.job.arguments,
                ["-oi", "-oep", "-f", sender, "--", "\"a,b\"@here.example", "-x@here.example"]
            );
            assert_eq!(ran.written[0], b"Subject: x\n\n.\n");
        }
    }

    #[test]
    fn the_dialog() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let says = "220 a\r\n250-a\r\n250 SIZE 9\r\n";
        let process = FakeProcess::default().answer(Canned { output: says.into(), ..Canned::default() });
        let process = Rc::new(process.answer(Canned { cannot_start: Some(ErrorKind::NotFound), ..Canned::default() }));
        world.process = process.clone();
        let mut plugin = trial::build(&ENTRY, "/s if_down next", &world).unwrap();
        let envelope = trial::envelope("<>", &["<x@here.example>"]);
        let (denial, _) = trial::deliver(&mut *plugin, &envelope, "Subject: x\r\n\r\n").unwrap_err();
        assert_eq!((denial.severity, denial.enhanced), (Severity::Permanent, Some((3, 4))), "{denial:?}");
        let ran = process.ran().pop().unwrap();
        assert_eq!((ran.job.arguments, ran.closed[0]), (vec!["-bs".into()], true));
        assert_eq!(String::from_utf8_lossy(&ran.written[0]), "EHLO mx.example\r\nRSET\r\nQUIT\r\n");
        let ruling = trial::rule(&mut *plugin, &envelope, "");
        assert!(matches!(ruling.verdict, crate::hook::Verdict::Skip), "{ruling:?}");
        assert!(ruling.evidence.join(" ").contains("/s: "), "{ruling:?}");
    }
}
