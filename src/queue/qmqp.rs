//! Hands mail to a QMQP server: qmail's qmail-qmqpd, Postfix's qmqpd, mailfront's qmqpfront.
//!
//! ```text
//! queue/qmqp 192.0.2.25
//! queue/qmqp 192.0.2.25,[2001:db8::25]:1628,/run/qmqp.socket timeout 20
//! ```
//! - `host` (first word; required): the servers, by comma, asked in this order: an address, `address:port`, or the path of a
//!   unix socket. The port is 628. Names are not looked up, as in qmail's `control/qmqpservers`.
//! - `timeout`: seconds that a step may go on without progress, connecting included; 60.
//! - `deadline`: seconds for the whole hand-over; 300.
//! - `if_down`: `next` asks the next queue line when no server had the whole message; `defer`.
//! - `smtputf8`: 1 if the servers carry internationalised mail (RFC 6531); 0. EHLO offers SMTPUTF8 only then.
//!
//! The message goes with LF line ends and its length first, so a cut one is never taken. A server that cannot be reached, or breaks
//! off before it had the whole message, is passed over for the next one. `K` is the only 250, also if the rest of that answer
//! does not come. `D` is permanent (554) and `Z` transient (451), with the server's text. If no answer comes after
//! the whole message went, the server may have queued it: 451, no other server is asked, and a duplicate is possible.
//!
//! QMQP knows no refusal of single recipients: a server's `D` is for all of them. Postfix's says `D` also to clients that
//! `qmqpd_authorized_clients` does not name; `postern check` tells before mail is refused for it.
//! 8BITMIME is offered; BINARYMIME is not, for lines end in LF, nor DSN. Not in qpsmtpd.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{IfDown, Queue, QueueError, Seconds, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, LineEnds, Message};
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::world::{Address, Stream, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/qmqp", crate::manual!("qmqp.rs"), build);

/// cr.yp.to/proto/qmqp.html
const PORT: u16 = 628;

/// What is read of an answer, its length included.
const ANSWER_OCTETS_MAX: u64 = 1024;

/// What of it the client is told.
const TEXT_OCTETS_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    host: Vec<String>,
    #[serde(default)]
    timeout: Seconds<60>,
    #[serde(default)]
    deadline: Seconds<300>,
    #[serde(default)]
    if_down: IfDown,
    #[serde(default)]
    smtputf8: bool,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(host) = settings.take_odd() {
        settings.set("host", host);
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let options: Options = settings.read()?;
    let servers: Result<Vec<_>, _> = options.host.iter().map(|host| server(host)).collect();
    let servers = servers.map_err(|text| origin.error(text).of_plugin(&name))?;
    if servers.is_empty() {
        return Err(origin.error("no server: queue/qmqp HOST").of_plugin(&name));
    }
    let queue = Qmqp {
        world: world.clone(),
        servers,
        pace: options.timeout.get(),
        deadline: options.deadline.get(),
        smtputf8: options.smtputf8,
    };
    Ok(line(queue, options.if_down))
}

/// Where a server is, and how it is shown.
fn server(host: &str) -> Result<(Address, String), String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = if host.starts_with('/') {
        Address::Unix(PathBuf::from(host))
    } else if let Ok(ip) = bare.parse::<IpAddr>() {
        Address::Tcp(SocketAddr::new(ip, PORT))
    } else if let Ok(address) = host.parse::<SocketAddr>() {
        Address::Tcp(address)
    } else {
        return Err(format!("{host}: not an address, address:port or path of a socket (names are not looked up)"));
    };
    Ok((address, host.to_owned()))
}

struct Qmqp {
    world: World,
    servers: Vec<(Address, String)>,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

impl Queue for Qmqp {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        self.servers
            .iter()
            .filter_map(|(address, shown)| self.fault(address).map(|why| format!("{shown}: {why}")))
            .collect()
    }

    fn deliver(&mut self, _: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let trouble =
            |error: io::Error| QueueError::transient(unable("temporary problem"), error.to_string()).untouched();
        let octets = octets(message).map_err(trouble)?;
        let tail = tail(envelope);
        let whole = format!("{octets}:").len() as u64 + octets + tail.len() as u64;
        let head = format!("{whole}:{octets}:");
        self.world.within(self.deadline, || self.ask_all(message, &head, &tail))
    }
}

impl Qmqp {
    /// Asks the servers in their order until one answers, or may have the message.
    fn ask_all(&self, message: &Message, head: &str, tail: &[u8]) -> Result<Receipt, QueueError> {
        let mut evidence = Vec::new();
        let mut late = false;
        for (address, shown) in &self.servers {
            match self.ask(address, message, head, tail) {
                Ok(answer) => return judge(&answer, shown),
                Err(Broken { at, error, whole: false }) => {
                    late |= error.kind() == ErrorKind::TimedOut;
                    evidence.push(format!("{shown}: {at}: {error}"));
                }
                Err(Broken { at, error, whole: true }) => {
                    evidence.push(format!("{shown}: {at}: {error}; it may have the message"));
                    let error = QueueError::transient(unable("no answer from the mail server"), evidence.join("; "));
                    return Err(error.code(4, 2));
                }
            }
        }
        let what = if late { "connection to mail server timed out" } else { "connection to mail server failed" };
        Err(QueueError::transient(unable(what), evidence.join("; ")).code(4, 1).untouched())
    }

    fn connect(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        let mut stream = self.world.within(self.pace, || self.world.net.connect(address))?;
        stream.set_pace(self.pace);
        Ok(stream)
    }

    /// One hand-over: what the server answered.
    fn ask(&self, address: &Address, message: &Message, head: &str, tail: &[u8]) -> Result<Answer, Broken> {
        let broken = |at, whole| move |error| Broken { at, error, whole };
        let mut stream = self.connect(address).map_err(broken("connect", false))?;
        if let Err(error) = send(&mut *stream, message, head, tail) {
            // It may have said why before it closed.
            if error.kind() != ErrorKind::TimedOut
                && let Ok(answer) = answer(&mut *stream)
                && answer.kind != b'K'
            {
                return Ok(answer);
            }
            return Err(Broken { at: "while the message was sent", error, whole: false });
        }
        answer(&mut *stream).map_err(broken("before its answer", true))
    }

    /// What is wrong with a server, without giving it anything.
    fn fault(&self, address: &Address) -> Option<String> {
        let told = self.world.within(self.pace, || {
            let mut stream = self.connect(address)?;
            stream.finish()?;
            // One that takes mail from us waits, and sees that there is none.
            Ok::<_, io::Error>(answer(&mut *stream).ok())
        });
        match told {
            Err(error) => Some(format!("{error}; is a QMQP server running there?")),
            Ok(Some(Answer { kind: b'D', text })) => Some(format!("it says \"{text}\"; let this machine use it")),
            Ok(_) => None,
        }
    }
}

/// Why there is no answer; `whole`: after everything was sent.
struct Broken {
    at: &'static str,
    error: io::Error,
    whole: bool,
}

/// The octets of the message with LF line ends.
fn octets(message: &Message) -> io::Result<u64> {
    struct Count(u64);
    impl Write for Count {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0 += octets.len() as u64;
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    message.write_to(&mut count, LineEnds::Lf).map(|()| count.0)
}

/// What follows the message: its comma, sender and recipients in qmail's bare form.
fn tail(envelope: &Envelope) -> Vec<u8> {
    let mut tail = b",".to_vec();
    let forward = envelope.forward_paths().into_iter().map(|path| path.address());
    for address in [envelope.reverse_path().address()].into_iter().chain(forward) {
        tail.extend_from_slice(format!("{}:{address},", address.len()).as_bytes());
    }
    tail
}

/// Sends everything. The last comma goes last, so an error means that the server has not all of it.
fn send(stream: &mut dyn Stream, message: &Message, head: &str, tail: &[u8]) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(64 * 1024, stream);
    let sent = (|| {
        out.write_all(head.as_bytes())?;
        message.write_to(&mut out, LineEnds::Lf)?;
        out.write_all(tail)?;
        out.write_all(b",")?;
        out.flush()
    })();
    // It must not try again when it is dropped.
    let _ = out.into_parts();
    sent
}

/// A server's answer.
struct Answer {
    kind: u8,
    text: String,
}

/// Reads an answer: a netstring that begins with K, Z or D. What comes after that octet may be missing.
fn answer(stream: &mut dyn Stream) -> io::Result<Answer> {
    let mut read = Vec::new();
    let mut broken = None;
    let mut buffer = [0; 256];
    while (read.len() as u64) < ANSWER_OCTETS_MAX && !complete(&read) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let said = parse(&read).map(|(_, said)| said).and_then(|said| said.split_first());
    match said {
        Some((&kind @ (b'K' | b'Z' | b'D'), text)) => {
            Ok(Answer { kind, text: safe(String::from_utf8_lossy(text).trim(), TEXT_OCTETS_MAX) })
        }
        _ => Err(broken.unwrap_or_else(|| {
            let what = if read.is_empty() { "closed".to_owned() } else { safe(&String::from_utf8_lossy(&read), 80) };
            io::Error::new(ErrorKind::InvalidData, what)
        })),
    }
}

/// The length that a netstring says, and what is there of its content.
fn parse(read: &[u8]) -> Option<(usize, &[u8])> {
    let colon = read.iter().position(|&octet| octet == b':')?;
    let digits = std::str::from_utf8(&read[..colon]).ok()?;
    let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let length: usize = digits.parse().ok().filter(|length| plain && *length > 0)?;
    let rest = &read[colon + 1..];
    Some((length, &rest[..length.min(rest.len())]))
}

/// Whether nothing more need be read.
fn complete(read: &[u8]) -> bool {
    match parse(read) {
        Some((length, content)) => content.len() == length,
        // Not a netstring any more.
        None => read.contains(&b':') || read.first().is_some_and(|octet| !octet.is_ascii_digit()),
    }
}

fn judge(answer: &Answer, shown: &str) -> Result<Receipt, QueueError> {
    let text = |default: &str| if answer.text.is_empty() { unable(default) } else { answer.text.clone() };
    let evidence = format!("{shown}: {} {}", char::from(answer.kind), answer.text);
    match answer.kind {
        b'K' => {
            // Postfix: "ok: queued as ID".
            let id = answer.text.split_once("queued as ").map(|(_, id)| id.to_owned());
            let id = id.filter(|id| !id.is_empty() && id.bytes().all(|octet| octet.is_ascii_alphanumeric()));
            Ok(Receipt { id, text: "queued".to_owned() })
        }
        b'D' => Err(QueueError::permanent(text("mail server permanently rejected message"), evidence)),
        _ => Err(QueueError::transient(text("mail server temporarily rejected message"), evidence).untouched()),
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
    use crate::hook::{Severity, Verdict};
    use crate::queue::trial;
    use crate::world::FakeNet;

    const CONTENT: &str = "Subject: x\r\n\r\n.one\r\n";

    fn address(last: u8) -> Address {
        Address::Tcp(SocketAddr::from(([192, 0, 2, last], PORT)))
    }

    /// The verdict, with evidence, and what was sent to which server.
    fn run(line: &str, net: FakeNet) -> (crate::hook::Ruling, Vec<(Address, Vec<u8>)>) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let net = Rc::new(net);
        world.net = net.clone();
        let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
        let ruling =
            trial::rule(&mut *plugin, &trial::envelope("<>", &["<\"a b\"@here.example>", "<postmaster>"]), CONTENT);
        (ruling, net.said().into_iter().map(|said| (said.to, said.octets)).collect())
    }

    #[test]
    fn it_is_one_netstring() {
        let net = FakeNet::default().answer(address(2), Ok(b"22:Kok: queued as 4ABCdef,".to_vec()));
        let (ruling, said) = run("192.0.2.1,192.0.2.2", net);
        let Verdict::Queued(receipt) = ruling.verdict else { panic!("{ruling:?}") };
        assert_eq!(receipt, Receipt { id: Some("4ABCdef".into()), text: "queued".into() });
        let inner = "17:Subject: x\n\n.one\n,0:,16:a b@here.example,10:postmaster,";
        assert_eq!(said, [(address(2), format!("{}:{inner},", inner.len()).into_bytes())]);
    }

    #[test]
    fn every_answer() {
        let table: &[(&[u8], Option<(Severity, &str)>)] = &[
            (b"1:K,", None),
            (b"3:Kok", None),
            (b"100:K", None),
            (b"3:K\r\n,", None),
            (b"4:Dno!,", Some((Severity::Permanent, "no!"))),
            (b"1:D,", Some((Severity::Permanent, "permanently rejected"))),
            (b"6:Zlater,", Some((Severity::Transient, "later"))),
            (b"", Some((Severity::Transient, "no answer"))),
            (b"3:", Some((Severity::Transient, "no answer"))),
            (b"K", Some((Severity::Transient, "no answer"))),
            (b"0:,K", Some((Severity::Transient, "no answer"))),
            (b"-1:K,", Some((Severity::Transient, "no answer"))),
            (b"1:X,", Some((Severity::Transient, "no answer"))),
            (b"250 ok\r\n", Some((Severity::Transient, "no answer"))),
        ];
        for (octets, expected) in table {
            let shown = octets.escape_ascii();
            let (ruling, _) = run("192.0.2.1", FakeNet::default().answer(address(1), Ok(octets.to_vec())));
            match (ruling.verdict, expected) {
                (Verdict::Queued(_), None) => {}
                (Verdict::Deny(denial), Some((severity, text))) => {
                    assert!(denial.severity == *severity && denial.text.contains(text), "{shown}: {denial:?}");
                }
                (other, _) => panic!("{shown}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_queue_is_asked_only_when_no_server_can_have_it() {
        let refusing = FakeNet::default;
        for (net, passed) in [
            (refusing(), true),
            (refusing().answer(address(1), Ok(b"6:Zlater,".to_vec())), true),
            (refusing().answer(address(1), Ok(Vec::new())).answer(address(2), Ok(b"1:K,".to_vec())), false),
        ] {
            let (ruling, _) = run("192.0.2.1,192.0.2.2 if_down next", net);
            assert_eq!(matches!(ruling.verdict, Verdict::Skip), passed, "{ruling:?}");
        }
    }

    #[test]
    fn lines_and_check() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        for line in ["mx.example", "192.0.2.1:x", ""] {
            assert!(trial::build(&ENTRY, line, &world).is_err(), "{line}");
        }
        let refuses = b"17:DNot authorized..,".to_vec();
        world.net = Rc::new(FakeNet::default().answer(address(2), Ok(refuses)).answer(address(3), Ok(Vec::new())));
        let faults = trial::build(&ENTRY, "192.0.2.1,192.0.2.2,192.0.2.3", &world).unwrap().check();
        assert!(
            faults.len() == 2 && faults[0].contains("running") && faults[1].contains("Not authorized"),
            "{faults:?}"
        );
    }
}
