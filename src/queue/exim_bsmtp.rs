//! Hands mail to Exim, one message a process: as batched SMTP (`exim -bS`), or in a dialog (`exim -bs`).
//!
//! ```text
//! queue/exim-bsmtp
//! queue/exim-bsmtp exim_path /usr/sbin/exim4 form bs client 1
//! ```
//! - `exim_path` (also as a lone first word; `/usr/sbin/rsmtp`, Exim's name for batches, with `form bs` `/usr/sbin/exim`): the
//!   program, not called through a shell. A relative path starts at the configuration directory.
//! - `form`: `batch` (`-bS`) or `bs` (`-bs`, SMTP on the program's standard input and output); `batch`.
//! - `client`: 1 tells Exim who the client is: address (`-oMa`), name (`-oMs`), our address (`-oMi`), and in `form bs` what it
//!   calls itself; 0. Exim's log, Received field and ACLs then see the real client.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300. The program is killed after either.
//! - `if_down`: `next` asks the next queue line when Exim cannot be started, or surely took nothing; `defer`.
//! - `smtputf8`: 1 if it carries internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! The user that serves must be trusted by Exim: one of its `trusted_users`, its own user, or root. From any other user it
//! takes mail, but makes that user its sender and does not look at what `client` says, in both forms, and without a word.
//!
//! **Which form.** `bs` is the better one where it fits: every refusal is a reply with its own code and text (with `batch`
//! Exim prints 550 also where an ACL defers), recipients are judged by Exim's `acl_smtp_rcpt` before anything is taken,
//! instead of being bounced after, too long a message is refused by SIZE, and the reply holds Exim's message id. But then
//! Exim's SMTP policy rules: with `client 1` its ACL must let the clients relay that may relay here, or it refuses their
//! mail; with `client 0` the mail comes from no host (`hosts = :`), as any local SMTP. `batch` is the default because it is
//! what a qpsmtpd line means, and passes none of these ACLs.
//!
//! **form bs.** A refusal of MAIL, RCPT, DATA or the end of data keeps its class and its text; if any recipient is refused,
//! nothing is sent, and the whole message is refused, transiently if any refusal is transient. 250 only after Exim's own 250
//! to the end of data; then it has the `timeout` to end by itself. One that does not greet, breaks the protocol, ends early,
//! dies by a signal or exceeds a limit is transient, and the log has what it wrote to standard error. Authentication is not
//! told (`-oMaa`), nor the protocol, which Exim makes of the dialog itself. Do not deliver in the foreground (`-odi`): a slow
//! delivery would be killed at the limit, and tried again.
//!
//! **form batch.** Exit status 0 and no error is the only 250. Otherwise the code that Exim prints decides: 5yz is permanent
//! and 4yz transient, with Exim's text; without a code it is transient, as are a death by signal and a time limit. Exim's ACL
//! for RCPT does not see this mail, only `acl_not_smtp` does; so what it would refuse there is bounced instead: judge
//! recipients here. Where `acl_not_smtp` defers, Exim (4.96) prints 550 as for a denial, and so does the client see it: let
//! it deny, or accept. Cut mail is none: a batch without its last dot is void. Every line that begins with a dot gets
//! another, those of the header too.
//!
//! After a time limit the message may have been queued: a duplicate is possible, a loss is not. A bare CR, which Exim would
//! take for a line's end, is refused (554 5.6.0) where the session lets one through.
//!
//! 8BITMIME is offered; BINARYMIME and DSN are not.
//!
//! Differs from qpsmtpd: `form bs`; 4yz stays 4yz (it made 552 of all), no temporary file, no shell, header lines are
//! stuffed.

use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::client::Client;
use super::program::Ended;
use super::{IfDown, Paths, Queue, QueueError, Seconds, line, program};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::launch::Connection;
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::smtp::find::find;
use crate::world::{Exit, Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/exim-bsmtp", crate::manual!("exim_bsmtp.rs"), build);

/// What the client is told of Exim's text.
const TEXT_OCTETS_MAX: usize = 255;

/// How Exim is given a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// As a batch, which it reads to its end (`-bS`).
    #[default]
    Batch,
    /// In a dialog (`-bs`).
    Bs,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    exim_path: Option<String>,
    form: Form,
    client: bool,
    timeout: Seconds<60>,
    deadline: Seconds<300>,
    if_down: IfDown,
    smtputf8: bool,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(path) = settings.take_odd() {
        settings.set("exim_path", path);
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let options: Options = settings.read()?;
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let usual = if options.form == Form::Bs { "/usr/sbin/exim" } else { "/usr/sbin/rsmtp" };
    let exim = world.config.resolve(options.exim_path.as_deref().unwrap_or(usual));
    let exim = exim.map_err(|error| fault(error.to_string()))?;
    if options.form == Form::Bs && exim.file_name().is_some_and(|name| name == "rsmtp") {
        return Err(fault("form bs: under the name rsmtp Exim reads a batch; name exim or exim4".to_owned()));
    }
    let queue = EximBsmtp {
        world: world.clone(),
        exim,
        form: options.form,
        client: options.client,
        pace: options.timeout.get(),
        deadline: options.deadline.get(),
        smtputf8: options.smtputf8,
    };
    Ok(line(queue, options.if_down))
}

struct EximBsmtp {
    world: World,
    exim: PathBuf,
    form: Form,
    client: bool,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl EximBsmtp {
    /// Exim in this form, told of this client.
    fn job(&self, client: Option<&Connection>) -> Job {
        let mut job = Job::new(&self.exim);
        job.arguments = vec![if self.form == Form::Bs { "-bs" } else { "-bS" }.into()];
        job.arguments.extend(client.map(about).unwrap_or_default().into_iter().map(Into::into));
        job.pace = self.pace;
        job
    }

    /// To talk with.
    fn dialog(&self, client: Option<&Connection>) -> Client {
        Client::of_program(&self.world, "exim-bsmtp", self.job(client), self.deadline)
    }

    fn deliver_batch(&self, mut job: Job, me: &str, paths: &Paths, message: &Message) -> Result<Receipt, QueueError> {
        // Its prose on descriptor 2 says the same once more, and may hold octets that a log must not.
        job.pipes = vec![Pipe::to_child(&[0]), Pipe::from_child(&[1, 2])];
        let mut bare_cr = false;
        let ended = self.world.within(self.deadline, || {
            program::run(&self.world, &job, |exim| batch(exim, me, paths, message, &mut bare_cr))
        });
        if bare_cr {
            let error = QueueError::permanent("a message with a bare CR cannot be handed over", "");
            return Err(error.code(6, 0));
        }
        let ended = ended?;
        match refusal(&ended) {
            None => Ok(Receipt { id: None, text: format!("queued pid {}", ended.id) }),
            Some(error) => Err(QueueError { evidence: ended.evidence(), ..error }),
        }
    }
}

impl Queue for EximBsmtp {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        let faults = program::check(&self.exim, "name Exim's program with exim_path (Debian: /usr/sbin/exim4)");
        if self.form == Form::Bs && faults.is_empty() { self.dialog(None).check() } else { faults }
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let told = self.client.then_some(&session.connection);
        if self.form == Form::Batch {
            return self.deliver_batch(self.job(told), &session.me, &Paths::of(envelope)?, message);
        }
        let mut exim = self.dialog(told);
        exim.helo = self.client.then(|| hello(session)).flatten();
        exim.queue(session, envelope, message)
    }
}

/// What the client called itself, where Exim takes that for a name; what it does not take is a lasting 501.
fn hello(session: &Session) -> Option<String> {
    let name = session.hello.as_ref()?.name.text();
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-.".contains(&octet);
    (!name.is_empty() && name.bytes().all(fits)).then(|| name.to_owned())
}

/// Exim's options for what is known of the client.
fn about(client: &Connection) -> Vec<String> {
    let Some(ip) = client.remote_ip else { return Vec::new() };
    let form = |ip: IpAddr, port: Option<u16>| port.map_or_else(|| ip.to_string(), |port| format!("[{ip}]:{port}"));
    let mut options = vec!["-oMa".to_owned(), form(ip, client.remote_port)];
    if let Some(host) = client.remote_host.as_ref().filter(|host| !host.starts_with('-')) {
        options.extend(["-oMs".to_owned(), host.clone()]);
    }
    if let Some(ip) = client.local_ip {
        options.extend(["-oMi".to_owned(), form(ip, client.local_port)]);
    }
    options
}

/// The whole batch. `bare_cr` tells why it broke off.
fn batch(out: &mut dyn Write, me: &str, paths: &Paths, message: &Message, bare_cr: &mut bool) -> io::Result<()> {
    let mut head = format!("HELO {me}\nMAIL FROM:<{}>\n", paths.sender);
    paths.recipients.iter().for_each(|path| head.push_str(&format!("RCPT TO:<{path}>\n")));
    head.push_str("DATA\n");
    let mut stuffer = Stuffer { out: io::BufWriter::with_capacity(64 * 1024, out), at_start: true, bare_cr };
    let sent = (|| {
        stuffer.out.write_all(head.as_bytes())?;
        message.write_to(&mut stuffer, LineEnds::Lf)?;
        if !stuffer.at_start {
            stuffer.out.write_all(b"\n")?;
        }
        stuffer.out.write_all(b".\nQUIT\n")?;
        stuffer.out.flush()
    })();
    // It must not try again when it is dropped.
    let _ = stuffer.out.into_parts();
    sent
}

/// Doubles the dot at the beginning of a line.
struct Stuffer<'a, W: Write> {
    out: io::BufWriter<W>,
    at_start: bool,
    bare_cr: &'a mut bool,
}

impl<W: Write> Write for Stuffer<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // With LF line ends any CR is a bare one.
        if find(b'\r', octets).is_some() {
            *self.bare_cr = true;
            return Err(ErrorKind::InvalidData.into());
        }
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            if self.at_start && line.starts_with(b".") {
                self.out.write_all(b".")?;
            }
            self.out.write_all(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What an end means; `None`: queued.
fn refusal(ended: &Ended) -> Option<QueueError> {
    let code = ended.output.lines().find_map(error_code);
    let error = match (ended.exit, code) {
        (Exit::Code(0), None) if ended.whole => return None,
        (Exit::Code(_), Some((b'5', text))) => QueueError::permanent(text, ""),
        (Exit::Code(_), Some((_, text))) => QueueError::transient(text, ""),
        (Exit::Code(_), None) => QueueError::transient("Unable to queue message: temporary problem", ""),
        (Exit::Signal(_), _) => QueueError::transient("Unable to queue message: crashed", ""),
    };
    // 2: no message of the batch was accepted.
    Some(if ended.exit == Exit::Code(2) { error.untouched() } else { error })
}

/// The first digit and the text of a line `NNN text` that is an error.
fn error_code(line: &str) -> Option<(u8, String)> {
    let (code, text) = line.trim_end().split_once([' ', '-']).unwrap_or((line.trim_end(), ""));
    let class = *code.as_bytes().first()?;
    let number = code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit()) && matches!(class, b'4' | b'5');
    let text = if text.is_empty() { "Unable to queue message" } else { text };
    number.then(|| (class, safe(text, TEXT_OCTETS_MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::hook::{Denial, Severity};
    use crate::launch::Launcher;
    use crate::queue::trial;
    use crate::world::{Canned, FakeProcess, Ran};

    fn run(line: &str, content: &str, canned: Canned) -> (Result<Receipt, (Denial, String)>, Ran) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let process = Rc::new(FakeProcess::default().answer(canned));
        world.process = process.clone();
        let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
        let envelope = trial::envelope("<>", &["<\"a b\"@here.example>", "<postmaster>"]);
        let came = trial::deliver(&mut *plugin, &envelope, content);
        (came, process.ran().pop().unwrap())
    }

    #[test]
    fn the_batch() {
        const HEAD: &str =
            "HELO mx.example\nMAIL FROM:<>\nRCPT TO:<\"a b\"@here.example>\nRCPT TO:<postmaster>\nDATA\n";
        for (content, stuffed) in [
            ("", ""),
            (".\r\n", "..\n"),
            (".A: b\r\n\r\n..\r\n.\r\nx.\r\n", "..A: b\n\n...\n..\nx.\n"),
            ("A: b\r\n\r\nno end", "A: b\n\nno end\n"),
            ("A: b\r\n\r\nx\n.\r\n", "A: b\n\nx\n..\n"),
        ] {
            for line in ["/x", "exim_path /x client 1"] {
                let (came, ran) = run(line, content, Canned::default());
                assert_eq!(came.unwrap().text, "queued pid 4000");
                assert_eq!(String::from_utf8_lossy(&ran.written[0]), format!("{HEAD}{stuffed}.\nQUIT\n"));
                assert_eq!((ran.job.arguments, ran.job.program), (vec!["-bS".into()], "/x".into()));
            }
        }
        let (came, ran) = run("/x", "A: b\r\n\r\nx\r.\r\ny\r\n", Canned::default());
        assert_eq!(came.unwrap_err().0.severity, Severity::Permanent);
        assert!(ran.killed && !ran.written[0].ends_with(b"\n.\nQUIT\n"));
    }

    #[test]
    fn the_dialog() {
        let says = "220 exim\n250 exim\n250 OK\n250 a\n450 4.2.1 busy\n250 reset\n221 bye\n";
        let canned = Canned { output: says.into(), prose: b"LOG: a\x1bb\n".into(), ..Canned::default() };
        let (came, ran) = run("/x form bs client 1", "A: b\r\n", canned);
        let (denial, evidence) = came.unwrap_err();
        assert_eq!((denial.severity, denial.enhanced), (Severity::Transient, Some((2, 1))), "{denial:?}");
        assert!(evidence.starts_with("/x: RCPT TO:<postmaster>: 450") && evidence.ends_with("LOG: a?b"), "{evidence}");
        assert_eq!((ran.job.arguments, ran.waited), (vec!["-bs".into()], true));
        let wanted = "EHLO mx.example\r\nMAIL FROM:<>\r\nRCPT TO:<\"a b\"@here.example>\r\nRCPT TO:<postmaster>\r\nRSET\r\nQUIT\r\n";
        assert_eq!(String::from_utf8_lossy(&ran.written[0]), wanted);

        let says = "220 e\r\n250 e\r\n250\r\n250\r\n250\r\n354 go\r\n250 OK id=1xUPH6-00027K-1z\r\n";
        let canned = Canned { output: says.into(), exit: Ok(Exit::Signal(9)), ..Canned::default() };
        let (came, ran) = run("/x form bs", ".A: b\r\n", canned);
        assert_eq!(came.unwrap().id.as_deref(), Some("1xUPH6-00027K-1z"), "its goodbye does not matter");
        assert!(ran.written[0].ends_with(b"DATA\r\n..A: b\r\n.\r\nQUIT\r\n"));
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        let error = trial::build(&ENTRY, "/usr/sbin/rsmtp form bs", &world).map(drop).unwrap_err();
        assert!(error.contains("name exim or exim4"), "{error}");
    }

    #[test]
    fn what_exim_may_be_told_of_its_name() {
        let mut session = Session::new("ID".into(), "mx.example".into(), Connection::unknown(Launcher::Ucspi));
        assert_eq!(hello(&session), None);
        for (said, told) in [("c-1.example", true), ("[192.0.2.1]", false), ("a_b", false), ("\u{e4}.example", false)] {
            let name = crate::smtp::command::hello_argument(said).unwrap();
            session.hello = Some(crate::hook::facts::Greeting { name, extended: true });
            assert_eq!(hello(&session).is_some(), told, "{said}");
        }
    }

    #[test]
    fn what_exim_is_told_of_the_client() {
        let mut client = Connection::unknown(Launcher::Ucspi);
        assert!(about(&client).is_empty());
        client.remote_ip = "2001:db8::1".parse().ok();
        assert_eq!(about(&client), ["-oMa", "2001:db8::1"]);
        (client.remote_port, client.remote_host) = (Some(25), Some("c.example".into()));
        client.local_ip = "192.0.2.1".parse().ok();
        assert_eq!(about(&client), ["-oMa", "[2001:db8::1]:25", "-oMs", "c.example", "-oMi", "192.0.2.1"]);
    }

    #[test]
    fn its_answers() {
        let table: &[(i32, &str, bool, Option<(Severity, &str, bool)>)] = &[
            (0, "", true, None),
            (0, "LOG: a banner\n", true, None),
            (0, "", false, Some((Severity::Transient, "temporary", false))),
            (0, "451 later\n", true, Some((Severity::Transient, "later", false))),
            (2, "550 no\nTransaction started in line 2\n", true, Some((Severity::Permanent, "no", true))),
            (2, "451-later\n", false, Some((Severity::Transient, "later", true))),
            (2, "552\n", false, Some((Severity::Permanent, "Unable", true))),
            (1, "421 Lost incoming connection\n", true, Some((Severity::Transient, "Lost", false))),
            (1, "5500 odd\n55 odd\n250 ok\n", true, Some((Severity::Transient, "temporary", false))),
        ];
        for &(code, output, whole, expected) in table {
            let ended = Ended { exit: Exit::Code(code), whole, output: output.into(), who: String::new(), id: 1 };
            let found = refusal(&ended);
            assert_eq!(found.is_none(), expected.is_none(), "{code} {output}");
            if let (Some(error), Some((severity, text, untouched))) = (found, expected) {
                assert!(
                    error.severity == severity && error.text.starts_with(text) || error.text.contains(text),
                    "{error:?}"
                );
                assert_eq!((error.severity, error.untouched), (severity, untouched), "{code} {output}");
            }
        }
    }
}
