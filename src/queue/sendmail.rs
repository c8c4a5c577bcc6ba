//! Hands mail to the `sendmail` command of any MTA: Postfix, Exim, sendmail, OpenSMTPD, nullmailer, msmtp.
//!
//! ```text
//! queue/sendmail
//! queue/sendmail /usr/lib/sendmail timeout 120 deadline 600
//! ```
//! It is called as `sendmail -oi -oep -f SENDER -- RECIPIENT...`, with the message on standard input, lines ended by LF; the
//! null reverse-path is `<>`. Nothing goes through a shell, and no address becomes an option.
//!
//! - `command` (first word; `/usr/sbin/sendmail`): the program; a relative path starts at the configuration directory.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either.
//! - `if_down`: `next` asks the next queue line when the program cannot be started; `defer`.
//! - `smtputf8`: 1 if the MTA carries internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! Exit status 0 after everything was read is the only 250. 65, 67 and 68 (sysexits.h: data, user, host) and 100 are permanent
//! refusals, and the first line that it printed is what the client reads. All else is transient: 64, 77 and 78 mean a fault in
//! the configuration, and mail waits. (Postfix says 0 or 75 for mail that it could read; what it then finds out it tells
//! the sender by a bounce. Exim's 1 and 2 are transient here: `queue/exim-bsmtp` learns more.)
//!
//! A caller that the MTA does not trust gets a `Sender:` or `X-Authentication-Warning:` field (Exim: `trusted_users`). Exim gets
//! `-oep`, so that it tells us of errors instead of mailing the sender about them.
//! Standard input has no mark of its end, so the program is never given the beginning of a message whose rest might not come, as when
//! we are killed: what is longer than 4096 octets is in a file without a name in `spool_dir` before the program starts, and that
//! file is its standard input.
//! After a time limit the message may have been queued: a duplicate is possible, a loss is not.
//!
//! 8BITMIME is offered; BINARYMIME is not, for lines end in LF, nor is DSN. Not in qpsmtpd.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{IfDown, Paths, Queue, QueueError, Seconds, line, program, within};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::{Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/sendmail", include_str!("sendmail.rs"), build);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    command: Option<String>,
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
        pace: options.timeout.get(),
        deadline: options.deadline.get(),
        smtputf8: options.smtputf8,
    };
    Ok(line(queue, options.if_down))
}

struct Sendmail {
    world: World,
    command: PathBuf,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for Sendmail {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        program::check(&self.command, "install an MTA that has it, or name it on the line")
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let paths = Paths::of(envelope)?;
        let sender = if paths.sender.is_empty() { "<>".to_owned() } else { paths.sender };
        let mut job = Job::new(&self.command);
        job.arguments = ["-oi", "-oep", "-f"].map(Into::into).into();
        job.arguments.extend([sender.into(), "--".into()]);
        job.arguments.extend(paths.recipients.into_iter().map(Into::into));
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::from_child(&[1, 2])];
        job.pace = self.pace;
        let ended = within(&self.world, self.deadline, || program::run_on(&self.world, job, message))?;
        match program::refusal(&ended) {
            None => Ok(Receipt { id: None, text: format!("queued pid {}", ended.id) }),
            Some(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::queue::trial;
    use crate::world::{Canned, FakeProcess};

    #[test]
    fn it_is_called_as_every_mta_wants_it() {
        for (line, reverse, program, sender) in
            [("", "<>", "/usr/sbin/sendmail", "<>"), ("/s", "<-oQ@c.example>", "/s", "-oQ@c.example")]
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
}
