//! Hands mail to Postfix's cleanup service by its socket; Postfix's log and milters see the real client.
//!
//! ```text
//! queue/postfix-queue
//! queue/postfix-queue /var/spool/postfix/public/cleanup
//! queue/postfix-queue FLAG_MAP_OK FLAG_FILTER
//! queue/postfix-queue 127.0.0.1:10026 timeout 30 deadline 120
//! ```
//! The sockets are, in this order: `$POSTFIXQUEUE` of our own environment, those of the file `cleanup_sockets` (one a line), the one on
//! the line, `/var/spool/postfix/public/cleanup`. Several are tried in order, as long as none has been given anything. Each is a path,
//! or `address:port` of an `inet` cleanup service of master.cf (`[::1]:10026`; names are not looked up, except `localhost`).
//! The directory of the usual one is open to group `postdrop` only: run postern with that group (`SupplementaryGroups=postdrop` of a
//! systemd unit; `groups = yes` in xinetd, and the user in the group), or as root.
//!
//! - `socket`: the socket, if it is not given by position.
//! - `flags`: what cleanup does, by name, parted by blanks; on the line they stand by themselves. FILTER (header_checks,
//!   body_checks), MAP_OK (virtual_alias_maps, canonical_maps, masquerading), BCC_OK (always_bcc and its like), MILTER
//!   (non_smtpd_milters), HOLD, DISCARD, BOUNCE (what is refused is bounced instead: think twice), FILTER_ALL (FILTER, MILTER),
//!   MASK_EXTERNAL (FILTER, MILTER, BCC_OK, MAP_OK), MASK_INTERNAL (MAP_OK), MASK_EXTRA (HOLD, DISCARD), NONE; each may begin with FLAG_ or
//!   CLEANUP_FLAG_. MASK_EXTERNAL, as Postfix's smtpd does.
//! - `timeout`: seconds that a step may go on without progress; 60.
//! - `deadline`: seconds for the whole hand-over; 300.
//! - `if_down`: `next` asks the next queue line where it is sure that nothing was handed over; `defer`.
//! - `smtputf8`: 0 if this Postfix carries no internationalised mail (before 3.0, or `smtputf8_enable = no`); 1.
//!
//! 8BITMIME, SMTPUTF8 and DSN are offered; BINARYMIME is not, for content goes line by line.
//!
//! Postfix is told the client's address, port, name (as the launcher gives it: let it be a verified one, `tcpserver -p`), HELO name and
//! protocol, for its log, for milters of `non_smtpd_milters` and for XFORWARD.
//!
//! 250 `queued as ID` only once cleanup has said that it holds the message; ID is the queue id in Postfix's log. Refusals are
//! passed on with cleanup's own text: too many hops, too big, content rejected (554), all else 451. If the answer does not come the
//! message may have been queued all the same: the client tries again, so a duplicate is possible, a loss is not. A message
//! without any Received field is refused by Postfix since 3.0 (451): a plugin that drops ours stops the mail.
//!
//! Differs from qpsmtpd: flags that nobody named are those of smtpd, not none (FLAG_NONE is qpsmtpd's); an unknown flag is a fault;
//! the client's attributes and DSN parameters are passed on; there are time limits. `queue/postfix_queue` is the same plugin.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;

use super::postfix::attributes::Attributes;
use super::postfix::records::{self, Content, attribute, record};
use super::postfix::status;
use super::{IfDown, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, LineEnds, Message, trace};
use crate::smtp::extension::Capabilities;
use crate::world::{Address, Stream, World};

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/postfix-queue", crate::manual!("postfix_queue.rs"), build);

/// Where Postfix has it.
const SOCKET: &str = "/var/spool/postfix/public/cleanup";

/// What its greeting says since Postfix 3.6.
const PROTOCOL: &str = "cleanup_protocol";

/// Seconds that either limit may have: the chain ends a hand-over after an hour.
const LIMIT_S_MAX: u64 = 3600;

/// cleanup_user.h.
const FLAGS: &[(&str, u32)] = &[
    ("NONE", 0),
    ("BOUNCE", 1),
    ("FILTER", 2),
    ("HOLD", 4),
    ("DISCARD", 8),
    ("BCC_OK", 16),
    ("MAP_OK", 32),
    ("MILTER", 64),
    ("FILTER_ALL", 66),
    ("MASK_EXTERNAL", 114),
    ("MASK_INTERNAL", 32),
    ("MASK_EXTRA", 12),
];
/// The reason may be a whole reply. It changes nothing else.
const SMTP_REPLY: u32 = 128;
/// The client said SMTPUTF8.
const SMTPUTF8: u32 = 256;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    socket: Option<String>,
    flags: String,
    timeout: u64,
    deadline: u64,
    smtputf8: bool,
    if_down: IfDown,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            socket: None,
            flags: "MASK_EXTERNAL".into(),
            timeout: 60,
            deadline: 300,
            smtputf8: true,
            if_down: IfDown::Defer,
        }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let (flags, mut words): (Vec<String>, Vec<String>) = settings
        .take_words()
        .into_iter()
        .partition(|word| word.starts_with("FLAG_") || word.starts_with("CLEANUP_FLAG_"));
    if words.first().is_some_and(|word| word.contains(['/', ':'])) {
        settings.set("socket", words.remove(0));
    }
    if !flags.is_empty() {
        settings.set("flags", flags.join(" "));
    }
    if words.len() % 2 == 1 {
        return Err(
            settings.error(format!("{}: neither a socket, nor a flag, nor a key with a value", words.join(" ")))
        );
    }
    words.chunks(2).for_each(|pair| settings.set(&pair[0], &*pair[1]));
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    for (key, limit_s) in [("timeout", options.timeout), ("deadline", options.deadline)] {
        if !(1..=LIMIT_S_MAX).contains(&limit_s) {
            return Err(fault(format!("{key} {limit_s}: from 1 to {LIMIT_S_MAX} seconds")));
        }
    }
    let flags = options.flags.split_whitespace().try_fold(0, |sum, word| Some(sum | flag(word)?));
    let flags = flags.ok_or_else(|| fault(format!("{}: not all of these are flags of cleanup", options.flags)))?;
    let mut sockets = Vec::new();
    if let Some(socket) = world.host.variable("POSTFIXQUEUE") {
        sockets.extend(
            addresses(&socket.to_string_lossy(), world).map_err(|text| fault(format!("POSTFIXQUEUE: {text}")))?,
        );
    } else {
        for entry in world.config.list("cleanup_sockets")? {
            sockets.extend(addresses(&entry.text, world).map_err(|text| entry.error(text))?);
        }
    }
    if sockets.is_empty() {
        sockets = addresses(options.socket.as_deref().unwrap_or(SOCKET), world).map_err(fault)?;
    }
    Ok(line(
        PostfixQueue {
            world: world.clone(),
            sockets,
            flags: flags | SMTP_REPLY,
            pace: Duration::from_secs(options.timeout),
            deadline: Duration::from_secs(options.deadline),
            smtputf8: options.smtputf8,
        },
        options.if_down,
    ))
}

fn flag(word: &str) -> Option<u32> {
    let word = word.strip_prefix("CLEANUP_").unwrap_or(word);
    let word = word.strip_prefix("FLAG_").unwrap_or(word);
    FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bits)| *bits)
}

/// The addresses that a word means: `localhost` is two.
fn addresses(word: &str, world: &World) -> Result<Vec<Address>, String> {
    let word = word.trim();
    if word.contains('/') {
        let path = world.config.resolve(word).map_err(|error| error.to_string())?;
        return Ok(vec![Address::Unix(path)]);
    }
    let wrong =
        || format!("{word}: write a path, or an address and a port, as 127.0.0.1:10026 (names are not looked up)");
    if let Some(port) = word.strip_prefix("localhost:") {
        let here = ["127.0.0.1", "[::1]"].map(|ip| format!("{ip}:{port}").parse());
        return here.into_iter().map(|address| address.map(Address::Tcp).map_err(|_| wrong())).collect();
    }
    word.parse().map(|address| vec![Address::Tcp(address)]).map_err(|_| wrong())
}

fn shown(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(address) => address.to_string(),
    }
}

struct PostfixQueue {
    world: World,
    sockets: Vec<Address>,
    flags: u32,
    pace: Duration,
    deadline: Duration,
    smtputf8: bool,
}

/// A cleanup that has greeted, and waits for the message.
struct Ready {
    stream: Box<dyn Stream>,
    /// For the log.
    who: String,
    id: String,
}

impl Queue for PostfixQueue {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: true }
    }

    fn check(&mut self) -> Vec<String> {
        // A cleanup that is left without a message forgets the whole thing.
        let fault = |socket: &Address| {
            let error = self.world.within(self.pace.min(self.deadline), || self.greeted(socket)).err()?;
            Some(format!("{}: {}", shown(socket), remedy(socket, &error)))
        };
        self.sockets.iter().filter_map(fault).collect()
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let records = self.envelope_records(session, envelope)?;
        let flags = if envelope.parameters().smtputf8 { self.flags | SMTPUTF8 } else { self.flags };
        self.world.within(self.deadline, || hand_over(self.ready()?, flags, records, message))
    }
}

impl PostfixQueue {
    /// The first cleanup that greets. Nothing has been given to the others.
    fn ready(&self) -> Result<Ready, QueueError> {
        let mut faults = Vec::new();
        let mut late = false;
        for socket in &self.sockets {
            match self.greeted(socket) {
                Ok(ready) => return Ok(ready),
                Err(error) => {
                    late |= error.kind() == ErrorKind::TimedOut;
                    faults.push(format!("{}: {}", shown(socket), remedy(socket, &error)));
                }
            }
        }
        let what = if late { "timeout" } else { "Postfix's cleanup cannot be reached" };
        // No record was sent yet.
        Err(QueueError::transient(unable(what), faults.join("; ")).code(4, if late { 2 } else { 1 }).untouched())
    }

    fn greeted(&self, socket: &Address) -> io::Result<Ready> {
        // A connect has no pace of its own.
        let mut stream = self.world.within(self.pace.min(self.deadline), || self.world.net.connect(socket))?;
        stream.set_pace(self.pace);
        let greeting = Attributes::read(&mut *stream)?;
        let id = greeting.queue_id(PROTOCOL).map_err(|text| io::Error::new(ErrorKind::InvalidData, text))?;
        Ok(Ready { stream, who: format!("{} {id}", shown(socket)), id })
    }

    /// In smtpd's order, with one exception.
    fn envelope_records(&self, session: &Session, envelope: &Envelope) -> Result<Vec<u8>, QueueError> {
        let mut out = Vec::new();
        let since = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        record(&mut out, b'T', format!("{} {}", since.as_secs(), since.subsec_micros()).as_bytes());
        records::before_sender(&mut out, envelope.parameters());
        // smtpd tells of the client after the sender; but cleanup presents the client to its milters when it sees the sender.
        client(&mut out, session);
        records::sender(&mut out, envelope)?;
        records::recipients(&mut out, envelope)?;
        Ok(out)
    }
}

/// Who the client is: for Postfix's log and XFORWARD (`log_...`, addresses as in mail), and for milters.
fn client(out: &mut Vec<u8>, session: &Session) {
    let connection = &session.connection;
    let unknown = || "unknown".to_owned();
    let name = connection.remote_host.clone().unwrap_or_else(unknown);
    let ip = connection.remote_ip.map_or_else(unknown, |ip| ip.to_string());
    let port = connection.remote_port.map_or_else(unknown, |port| port.to_string());
    let logged_ip = match connection.remote_ip {
        Some(IpAddr::V6(ip)) => format!("IPv6:{ip}"),
        _ => ip.clone(),
    };
    let hello = session.hello.as_ref();
    let helo = hello.map_or("", |hello| hello.name.text());
    let protocol = trace::protocol(hello.is_some_and(|hello| hello.extended), false, false, false);
    // AF_INET, AF_INET6 and AF_UNSPEC of Linux.
    let kind = match connection.remote_ip {
        Some(IpAddr::V4(_)) => "2",
        Some(IpAddr::V6(_)) => "10",
        None => "0",
    };
    let local_ip = connection.local_ip.map(|ip| ip.to_string()).unwrap_or_default();
    let local_port = connection.local_port.map(|port| port.to_string()).unwrap_or_default();
    let origin = match connection.remote_port {
        Some(port) => format!("{name}[{ip}]:{port}"),
        None => format!("{name}[{ip}]"),
    };
    for (name, value) in [
        ("log_client_name", &*name),
        ("log_client_address", &logged_ip),
        ("log_client_port", &port),
        ("log_message_origin", &origin),
        ("log_helo_name", helo),
        ("log_protocol_name", protocol),
        ("client_name", &name),
        ("reverse_client_name", &name),
        ("client_address", &ip),
        ("client_port", &port),
        ("server_address", &local_ip),
        ("server_port", &local_port),
        ("helo_name", helo),
        ("protocol_name", protocol),
        ("client_address_type", kind),
    ] {
        attribute(out, name, value);
    }
}

/// Gives it everything, and hears what came of it.
fn hand_over(ready: Ready, flags: u32, records: Vec<u8>, message: &Message) -> Result<Receipt, QueueError> {
    let Ready { mut stream, who, id } = ready;
    let given = give(&mut *stream, flags, records, message);
    let whole = given.is_ok();
    if let Err(Stopped { error, ours: true }) = &given {
        // The end was not sent, so nothing is queued.
        return Err(QueueError::transient(
            unable("temporary problem"),
            format!("{who}: while the spool was read: {error}"),
        ));
    }
    let told = match given {
        Err(Stopped { error, .. }) if error.kind() == ErrorKind::TimedOut => Err(error),
        // One that hangs up may have said why.
        Ok(()) | Err(_) => Attributes::read(&mut *stream),
    };
    let list = told.map_err(|error| lost(&who, whole, &error))?;
    let Some(status) = list.status() else {
        return Err(lost(&who, whole, &io::Error::new(ErrorKind::UnexpectedEof, "it hung up without a status")));
    };
    match status::refusal(status, list.get("reason").unwrap_or_default()) {
        None if whole => Ok(Receipt { id: Some(id), text: "queued".to_owned() }),
        None => Err(lost(&who, whole, &io::Error::other("it said yes before the message's end"))),
        Some(mut error) => {
            error.evidence = format!("{who}: status {status}");
            Err(error)
        }
    }
}

/// Why not everything was written.
struct Stopped {
    error: io::Error,
    ours: bool,
}

fn give(stream: &mut dyn Stream, flags: u32, records: Vec<u8>, message: &Message) -> Result<(), Stopped> {
    let mut send = |octets: &[u8]| stream.write_all(octets);
    send(format!("flags\0{flags}\0\0").as_bytes()).map_err(|error| Stopped { error, ours: false })?;
    let mut content = Content::new(records, &mut send);
    if let Err(error) = message.write_to(&mut content, LineEnds::Lf) {
        return Err(Stopped { error, ours: !content.failed });
    }
    content.finish().map_err(|error| Stopped { error, ours: false })
}

/// No answer. It is not known what became of a message that was given whole.
fn lost(who: &str, whole: bool, error: &io::Error) -> QueueError {
    let what = if error.kind() == ErrorKind::TimedOut { "timeout" } else { "Postfix's cleanup broke off" };
    let doubt = if whole { "; it may have been queued" } else { "" };
    QueueError::transient(unable(what), format!("{who}: {error}{doubt}")).code(4, 2)
}

/// What is the matter with a socket, and how to mend it.
fn remedy(socket: &Address, error: &io::Error) -> String {
    let unix = matches!(socket, Address::Unix(_));
    match error.kind() {
        ErrorKind::NotFound => {
            format!("{error}; start Postfix, or name its socket on the line (postconf queue_directory)")
        }
        ErrorKind::PermissionDenied if unix => {
            // A named user of `check` has its groups; what a launcher leaves of them shows only when it serves.
            format!(
                "{error}; run postern with group postdrop (xinetd: groups = yes); if it has it: postfix set-permissions"
            )
        }
        ErrorKind::ConnectionRefused if unix => format!("{error}; start Postfix: nobody listens there"),
        ErrorKind::ConnectionRefused => format!("{error}; master.cf needs an inet service there that runs cleanup"),
        ErrorKind::TimedOut => "no greeting in time; is Postfix overloaded, or is this another service?".to_owned(),
        _ => format!("{error}; is this Postfix's cleanup?"),
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
    use crate::hook::facts::Greeting;
    use crate::hook::{Denial, Severity};
    use crate::launch::{Connection, Launcher};
    use crate::mail::{Recipient, Transaction};
    use crate::queue::postfix::records::split;
    use crate::queue::trial;
    use crate::smtp::command::hello_argument;
    use crate::smtp::parameters::{mail_argument, rcpt_argument};
    use crate::world::{FakeHost, FakeNet};

    const CONTENT: &str = "Subject: x\r\n\r\n.one\r\n";
    const GREETING: &str = "protocol\0cleanup_protocol\0queue_id\0ABC1\0\0";

    fn socket() -> Address {
        Address::Unix("/c".into())
    }

    /// One message against a cleanup that says this: what came of it, and what was given.
    fn run(says: &str) -> (Result<Receipt, (Denial, String)>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let net = Rc::new(FakeNet::default().answer(socket(), Ok(says.as_bytes().to_vec())));
        world.net = net.clone();
        let mut plugin = trial::build(&ENTRY, "/c FLAG_FILTER FLAG_HOLD timeout 7", &world).unwrap();
        let envelope =
            trial::envelope("<\"a b\"@c.example>", &["<x@here.example>", "<postmaster>", "<x@here.example>"]);
        let came = trial::deliver(&mut *plugin, &envelope, CONTENT);
        assert_eq!(world.deadline.get(), None, "the deadline is put back");
        (came, net.said().pop().map(|said| said.octets).unwrap_or_default())
    }

    fn text(records: &[(char, Vec<u8>)]) -> Vec<String> {
        records.iter().map(|(kind, data)| format!("{kind} {}", data.escape_ascii())).collect()
    }

    #[test]
    fn it_is_given_flags_envelope_and_content() {
        let (came, given) = run(GREETING);
        assert!(came.is_err());
        let records = given.strip_prefix(b"flags\x00134\0\0").unwrap();
        let records = text(&split(records));
        assert!(records[0].starts_with("T "), "{records:?}");
        let without_client: Vec<&str> = records[1..]
            .iter()
            .map(|record| &**record)
            .filter(|record| !record.contains("client") && !record.contains("log_"))
            .collect();
        assert_eq!(
            without_client,
            [
                "A rewrite_context=remote",
                "A protocol_name=SMTP",
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

    /// The attributes of a client.
    fn client_of(connection: Connection, hello: Option<(&str, bool)>) -> Vec<String> {
        let mut session = Session::new("ID".into(), "mx.example".into(), connection);
        session.hello = hello.map(|(name, extended)| Greeting { name: hello_argument(name).unwrap(), extended });
        let mut out = Vec::new();
        client(&mut out, &session);
        text(&split(&out)).iter().map(|record| record[2..].to_owned()).collect()
    }

    #[test]
    fn the_client_is_told_of() {
        let known = Connection {
            remote_ip: Some("2001:db8::1".parse().unwrap()),
            remote_port: Some(4711),
            remote_host: Some("client.example".into()),
            local_ip: Some("2001:db8::25".parse().unwrap()),
            local_port: Some(25),
            ..Connection::unknown(Launcher::Ucspi)
        };
        assert_eq!(
            client_of(known.clone(), Some(("helo.example", true))),
            [
                "log_client_name=client.example",
                "log_client_address=IPv6:2001:db8::1",
                "log_client_port=4711",
                "log_message_origin=client.example[2001:db8::1]:4711",
                "log_helo_name=helo.example",
                "log_protocol_name=ESMTP",
                "client_name=client.example",
                "reverse_client_name=client.example",
                "client_address=2001:db8::1",
                "client_port=4711",
                "server_address=2001:db8::25",
                "server_port=25",
                "helo_name=helo.example",
                "protocol_name=ESMTP",
                "client_address_type=10",
            ]
        );
        let of_v4 = client_of(Connection { remote_ip: Some([192, 0, 2, 1].into()), ..known }, None);
        assert!(
            of_v4.contains(&"log_client_address=192.0.2.1".into()) && of_v4.contains(&"client_address_type=2".into())
        );
        assert!(of_v4.contains(&"protocol_name=SMTP".into()) && !of_v4.iter().any(|one| one.contains("helo")));
        let unknown = client_of(Connection::unknown(Launcher::Pipe), None);
        assert!(unknown.contains(&"log_message_origin=unknown[unknown]".into()), "{unknown:?}");
    }

    #[test]
    fn parameters_are_passed_on() {
        let mail = mail_argument("FROM:<> RET=HDRS ENVID=a+2Bb BODY=8BITMIME SMTPUTF8").unwrap();
        let mut open = Transaction::new(mail.reverse_path, mail.parameters);
        for argument in [
            "TO:<x@here.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Br@x.example",
            "TO:<\"a b\"@here.example> NOTIFY=NEVER",
            "TO:<\u{e4}@here.example> NOTIFY=FAILURE",
        ] {
            let rcpt = rcpt_argument(argument).unwrap();
            open.recipients.push(Recipient::new(rcpt.forward_path, rcpt.parameters));
        }
        let envelope = Envelope::try_from(open).unwrap();
        let mut out = Vec::new();
        records::before_sender(&mut out, envelope.parameters());
        records::sender(&mut out, &envelope).unwrap();
        records::recipients(&mut out, &envelope).unwrap();
        assert_eq!(
            text(&split(&out)),
            [
                "A rewrite_context=remote",
                "A envelope_id=a+b",
                "A ret_flags=2",
                "S ",
                "A encoding=8bit",
                "A notify_flags=10",
                "A dsn_orig_rcpt=rfc822;o+r@x.example",
                "R x@here.example",
                "A notify_flags=1",
                "A dsn_orig_rcpt=rfc822;\\\"a b\\\"@here.example",
                "R a b@here.example",
                "A notify_flags=4",
                "A dsn_orig_rcpt=utf-8;\\xc3\\xa4@here.example",
                "R \\xc3\\xa4@here.example",
            ]
        );
    }

    #[test]
    fn what_cleanup_may_answer() {
        // A fake cleanup says all at once, so greeting and status would be read together: only what the greeting lacks is tried.
        let table = [
            ("", Severity::Transient, (4, 1), "cannot be reached"),
            ("garbage", Severity::Transient, (4, 1), "cannot be reached"),
            ("220 mx ESMTP\r\n", Severity::Transient, (4, 1), "cannot be reached"),
            ("protocol\0postdrop_protocol\0queue_id\0A\0\0", Severity::Transient, (4, 1), "cannot be reached"),
            (GREETING, Severity::Transient, (4, 2), "broke off"),
        ];
        for (says, severity, enhanced, text) in table {
            let (denial, _) = run(says).0.unwrap_err();
            assert_eq!((denial.severity, denial.enhanced), (severity, Some(enhanced)), "{says:?}");
            assert!(denial.text.contains(text), "{says:?}: {denial:?}");
        }
    }

    #[test]
    fn the_sockets_are_the_environments_the_files_or_the_lines() {
        let unix = |path: &str| Address::Unix(path.into());
        let tcp = |address: &str| Address::Tcp(address.parse().unwrap());
        let table = [
            ("", "", "", vec![unix(SOCKET)]),
            ("FLAG_NONE", "", "", vec![unix(SOCKET)]),
            ("/l", "", "", vec![unix("/l")]),
            ("socket /l", "", "", vec![unix("/l")]),
            ("/l", "/f\n127.0.0.1:26\n", "", vec![unix("/f"), tcp("127.0.0.1:26")]),
            ("/l", "/f\n", "/e", vec![unix("/e")]),
            ("[::1]:26", "", "", vec![tcp("[::1]:26")]),
            ("", "", "localhost:26", vec![tcp("127.0.0.1:26"), tcp("[::1]:26")]),
        ];
        for (line, file, variable, expected) in table {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("cleanup_sockets"), file).unwrap();
            let mut world = trial::world(dir.path());
            world.host = Rc::new(FakeHost::default().set("POSTFIXQUEUE", variable));
            // Each is tried in order; the last one greets.
            let net = FakeNet::default().answer(expected.last().unwrap().clone(), Ok(GREETING.into()));
            let net = Rc::new(
                expected[..expected.len() - 1].iter().fold(net, |net, one| net.answer(one.clone(), Ok(Vec::new()))),
            );
            world.net = net.clone();
            let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
            let (denial, _) =
                trial::deliver(&mut *plugin, &trial::envelope("<>", &["<x@here.example>"]), CONTENT).unwrap_err();
            assert!(denial.text.contains("broke off"), "{line}: {denial:?}");
            let asked: Vec<Address> = net.said().into_iter().map(|said| said.to).collect();
            assert_eq!(asked, expected, "{line}");
        }
    }

    #[test]
    fn lines_that_make_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        for (line, fault) in [
            ("/c timeout 0", "timeout 0"),
            ("/c deadline 3601", "deadline 3601"),
            ("/c timeuot 5", "timeout"),
            ("FLAG_MAPS", "flags of cleanup"),
            ("flags MAP", "flags of cleanup"),
            ("cleanup", "neither a socket"),
            ("/c /d", "neither a socket"),
            ("mx.example:25", "not looked up"),
            ("127.0.0.1:", "127.0.0.1:10026"),
            ("localhost:x", "127.0.0.1:10026"),
        ] {
            let error = trial::build(&ENTRY, line, &world).err().unwrap();
            assert!(error.contains(fault) && error.contains("plugins line 1"), "{line}: {error}");
        }
        let offers = |line| trial::build(&ENTRY, line, &world).unwrap().offers().unwrap();
        let offered = offers("");
        assert_eq!((offered.eight_bit, offered.binary, offered.smtputf8, offered.dsn), (true, false, true, true));
        assert!(!offers("smtputf8 0").smtputf8);
    }

    #[test]
    fn flags_by_name() {
        for (word, bits) in [
            ("FLAG_NONE", Some(0)),
            ("FLAG_MASK_EXTERNAL", Some(114)),
            ("CLEANUP_FLAG_HOLD", Some(4)),
            ("BCC_OK", Some(16)),
            ("FLAG_", None),
            ("flag_hold", None),
        ] {
            assert_eq!(flag(word), bits, "{word}");
        }
    }

    #[test]
    fn check_says_what_to_mend() {
        let dir = tempfile::tempdir().unwrap();
        let table = [
            (Ok(GREETING.to_owned()), ""),
            (Ok(String::new()), "is this Postfix's cleanup?"),
            (Ok("220 mx\r\n".to_owned()), "is this Postfix's cleanup?"),
            (Err(ErrorKind::NotFound), "start Postfix, or name its socket"),
            (Err(ErrorKind::PermissionDenied), "group postdrop"),
            (Err(ErrorKind::ConnectionRefused), "nobody listens"),
            (Err(ErrorKind::TimedOut), "no greeting in time"),
        ];
        for (answer, fault) in table {
            let mut world = trial::world(dir.path());
            let answer = answer.map(String::into_bytes).map_err(io::Error::from);
            let net = Rc::new(FakeNet::default().answer(socket(), answer));
            world.net = net.clone();
            let faults = trial::build(&ENTRY, "/c", &world).unwrap().check();
            assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{fault}: {faults:?}");
            assert!(faults.concat().contains(fault), "{fault}: {faults:?}");
            assert!(net.said().iter().all(|said| said.octets.is_empty()), "nothing is queued");
        }
    }
}
