//! What every backend must do, with its real far end, in three tables: mail arrives as it came, with its envelope, queue id and
//! log; what EHLO offers is carried and the rest refused; a refusal of the far end is the client's; a line that is down is
//! passed over once.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "contract/cases.rs"]
mod cases;
mod common;
#[path = "contract/far.rs"]
mod far;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use cases::Case;
use common::handover;
use common::play::{Outcome, Play};
use common::replies::{self, Reply};
use common::room::Room;
use common::{store, workers};
use far::{Far, Servers};

/// How a reply's queue id is proved.
#[derive(Clone, Copy)]
enum Id {
    /// The far end tells none.
    Untold,
    /// It stands in Postfix's log, of this message.
    Postfix,
    /// It stands in Dovecot's log.
    Dovecot,
    /// It is the program's process id, after this word.
    Process,
    /// It is the file's name.
    File,
    /// It is the name of postdrop's file; cleanup gives another one later. Proved where nothing takes it away.
    Maildrop,
}

/// One row.
struct Backend {
    name: &'static str,
    /// Its line of the chain, without `queue/`; `{ROOM}` is the room.
    line: String,
    far: Far,
    /// Its envelope may have addresses as they are, without the quotes of SMTP.
    raw: bool,
    id: Id,
    /// What EHLO must offer of 8BITMIME, BINARYMIME, SMTPUTF8 and DSN.
    offers: &'static str,
    /// A line whose far end is not there.
    absent: Option<String>,
    refusals: Vec<Refusal>,
}

/// What a far end did, and what the client must see.
struct Refusal {
    did: &'static str,
    sender: &'static str,
    recipients: &'static str,
    subject: &'static str,
    octets: usize,
    /// Another line than the backend's.
    line: Option<String>,
    /// Of the stand-in for qmail-queue.
    fault: &'static str,
    code: u16,
    text: &'static str,
}

const fn refusal(did: &'static str, code: u16, text: &'static str) -> Refusal {
    Refusal {
        did,
        sender: "a@client.example",
        recipients: "x@here.example",
        subject: "good",
        octets: 0,
        line: None,
        fault: "",
        code,
        text,
    }
}

impl Refusal {
    fn to(mut self, recipients: &'static str) -> Self {
        self.recipients = recipients;
        self
    }

    fn from(mut self, sender: &'static str) -> Self {
        self.sender = sender;
        self
    }

    fn subject(mut self, subject: &'static str) -> Self {
        self.subject = subject;
        self
    }

    /// A message over every far end's limit.
    fn large(mut self) -> Self {
        self.octets = 3_500_000;
        self
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.line = Some(line.into());
        self
    }

    fn fault(mut self, fault: &'static str) -> Self {
        self.fault = fault;
        self
    }
}

/// Thirty, more than Postfix's smtpd bears of commands that it must refuse.
const MANY: &str = "thirty";

fn tag(at: usize) -> String {
    format!("b{at}z")
}

/// The twelve.
fn backends(servers: &Servers) -> Vec<Backend> {
    let (postfix, dovecot) = (&servers.postfix, &servers.dovecot);
    let etc = postfix.path("etc").display().to_string();
    let stored = Far::Store(postfix.path("stored"));
    let local = |port: u16| format!("127.0.0.1:{port}");
    let closed = local(servers.closed_qmqp_port);
    let row = |name, line: String, far: Far, offers, id| Backend {
        name,
        line,
        far,
        raw: false,
        id,
        offers,
        absent: None,
        refusals: Vec::new(),
    };
    let socket = postfix.socket().display().to_string();
    let tell = "postfix-queue";
    let cleanup = || {
        vec![
            refusal("header_checks: REJECT", 554, "5.7.1 no bad ones").subject("bad"),
            refusal("REJECT with control octets", 554, "5.7.1 no ?[31mred").subject("evil"),
            refusal("message_size_limit", 554, "5.3.4 message file too big").large(),
            refusal("recipient unknown: cleanup does not ask", 250, "2.0.0 queued").to("no@here.example"),
        ]
    };
    vec![
        row("discard", "discard".into(), Far::Nothing, "8BITMIME BINARYMIME SMTPUTF8 DSN", Id::Untold),
        Backend {
            raw: true,
            absent: Some("maildir /dev/null/mail".into()),
            refusals: vec![
                refusal("directory is none", 451, "4.3.0 ").line("maildir /dev/null/mail"),
                refusal("the message loops", 554, "5.4.6 ")
                    .line("maildir {ROOM}/mail %u")
                    .subject("x\r\nDelivered-To: x@here.example"),
            ],
            ..row("maildir", "maildir {ROOM}/mail".into(), Far::Maildirs(PathBuf::new()), "8BITMIME SMTPUTF8", Id::File)
        },
        Backend {
            raw: true,
            absent: Some("qmail-queue {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("exit 11: address too long", 554, "5.").fault("exit=11"),
                refusal("exit 31: permanent", 554, "5.3.0 ").fault("exit=31"),
                refusal("exit 53: write error", 451, "4.3.0 ").fault("exit=53"),
                refusal("exit 71: refused for now", 451, "4.3.0 ").fault("exit=71"),
                refusal("exit 82, D text with control octets", 554, "5.").fault("text=4:82:Dno \x1b[31mred\x07 ones"),
                refusal("exit 82, Z text", 451, "4.").fault("text=6:82:Zlater"),
                refusal("exit 115: address too long", 554, "5.").fault("exit=115"),
                refusal("killed", 451, "4.3.0 ").fault("kill-end="),
            ],
            ..row(
                "qmail-queue",
                "qmail-queue {ROOM}/bin/qmail-queue smtputf8 1".into(),
                Far::Qmail,
                "8BITMIME SMTPUTF8",
                Id::Process,
            )
        },
        Backend {
            absent: Some(format!("{tell} /nonexistent/cleanup")),
            refusals: cleanup(),
            ..row(
                "postfix-queue (unix)",
                format!("{tell} {socket}"),
                stored.clone(),
                "8BITMIME SMTPUTF8 DSN",
                Id::Postfix,
            )
        },
        Backend {
            absent: Some(format!("{tell} 127.0.0.1:1")),
            ..row(
                "postfix-queue (TCP)",
                format!("{tell} {}", local(postfix.cleanup_port)),
                stored.clone(),
                "8BITMIME SMTPUTF8 DSN",
                Id::Postfix,
            )
        },
        Backend {
            absent: Some("postdrop /nonexistent/postdrop".into()),
            refusals: vec![
                refusal("message_size_limit", 554, "5.3.4 ").large(),
                refusal("header_checks: pickup bounces it", 250, "2.0.0 queued").subject("bad"),
                refusal("no configuration there", 451, "4.3.0 ").line("postdrop /usr/sbin/postdrop -c /nonexistent"),
            ],
            ..row(
                "postdrop",
                format!("postdrop /usr/sbin/postdrop -c {etc}"),
                stored.clone(),
                "8BITMIME SMTPUTF8 DSN",
                Id::Maildrop,
            )
        },
        Backend {
            absent: Some("smtp-forward 127.0.0.1:1".into()),
            refusals: vec![
                refusal("recipient refused, 550", 554, "5.1.1 <no@here.example>: ").to("no@here.example"),
                refusal("recipient refused, 450", 451, "4.2.1 <later@here.example>: ").to("later@here.example"),
                refusal("one of two refused", 554, "5.1.1 <no@here.example>: ").to("x@here.example no@here.example"),
                refusal("sender refused, 550", 554, "5.7.1 ").from("bad@client.example"),
                refusal("sender refused, then it hangs up", 554, "5.7.1 ").from("bad@client.example").to(MANY),
                refusal("over its SIZE", 554, "5.3.4 ").large(),
                refusal("header_checks: REJECT", 554, "5.7.1 no bad ones").subject("bad"),
                refusal("REJECT with control octets", 554, "5.7.1 no ").subject("evil"),
            ],
            ..row(
                "smtp-forward",
                format!("smtp-forward {} dsn 1", local(postfix.smtp_port)),
                stored.clone(),
                "8BITMIME SMTPUTF8 DSN",
                Id::Postfix,
            )
        },
        Backend {
            raw: true,
            absent: Some("lmtp /nonexistent/lmtp".into()),
            refusals: vec![
                refusal("recipient unknown", 554, "5.1.1 <no@here.example> ").to("no@here.example"),
                refusal("one of two unknown", 554, "5.1.1 <no@here.example> ").to("b7zx@here.example no@here.example"),
                refusal("over quota", 554, "5.2.2 <full@here.example> ").to("full@here.example"),
                refusal("one of two over quota", 451, "4.2.2 <full@here.example> ")
                    .to("b7zx@here.example full@here.example"),
                refusal("cannot open the mailbox", 451, "4.").to("broken@here.example"),
            ],
            ..row(
                "lmtp",
                format!("lmtp {} smtputf8 0", dovecot.path("lmtp").display()),
                Far::Dovecot(dovecot.path("mail")),
                "8BITMIME",
                Id::Dovecot,
            )
        },
        Backend {
            absent: Some("exim-bsmtp {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("ACL denies the recipient", 554, "5.3.0 ").to("no@here.example"),
                refusal("ACL denies the sender", 554, "5.3.0 ").from("bad@client.example"),
                refusal("ACL denies the content", 554, "5.3.0 ").subject("bad"),
                refusal("deny with control octets", 554, "5.3.0 ").subject("evil"),
                refusal("message_size_limit", 554, "5.").large(),
            ],
            ..row(
                "exim-bsmtp",
                "exim-bsmtp {ROOM}/bin/exim client 1".into(),
                Far::Batches(servers.exim.path("stored")),
                "8BITMIME",
                Id::Untold,
            )
        },
        Backend {
            absent: Some("sendmail {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("message_size_limit: exit 69", 451, "4.3.0 ").large(),
                refusal("header_checks: pickup bounces it", 250, "2.0.0 queued").subject("bad"),
                refusal("no configuration there: exit 75", 451, "4.3.0 ").line("sendmail {ROOM}/bin/lost form oi"),
            ],
            ..row(
                "sendmail oi (Postfix)",
                "sendmail {ROOM}/bin/sendmail form oi smtputf8 1".into(),
                stored.clone(),
                "8BITMIME SMTPUTF8",
                Id::Untold,
            )
        },
        Backend {
            absent: Some("sendmail {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("ACL denies the content: exit 1", 451, "4.3.0 ").subject("bad"),
                refusal("message_size_limit: exit 1", 451, "4.3.0 ").large(),
            ],
            ..row(
                "sendmail oi (Exim)",
                "sendmail {ROOM}/bin/exim form oi".into(),
                Far::Batches(servers.exim.path("stored")),
                "8BITMIME",
                Id::Untold,
            )
        },
        Backend {
            absent: Some("sendmail {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("over its SIZE", 554, "5.3.4 ").large(),
                refusal("header_checks: pickup bounces it", 250, "2.0.0 queued").subject("bad"),
                refusal("no configuration there", 451, "4.4.2 ").line("sendmail {ROOM}/bin/lost"),
            ],
            ..row(
                "sendmail (Postfix)",
                "sendmail {ROOM}/bin/sendmail smtputf8 1".into(),
                stored.clone(),
                "8BITMIME SMTPUTF8",
                Id::Untold,
            )
        },
        Backend {
            absent: Some("sendmail {ROOM}/bin/none".into()),
            refusals: vec![
                refusal("ACL denies the content", 554, "5.3.0 no bad ones").subject("bad"),
                refusal("over its SIZE", 554, "5.3.4 ").large(),
            ],
            ..row(
                "sendmail (Exim)",
                "sendmail {ROOM}/bin/exim".into(),
                Far::Batches(servers.exim.path("stored")),
                "8BITMIME",
                Id::Untold,
            )
        },
        Backend {
            absent: Some("qmqp 127.0.0.1:1".into()),
            refusals: vec![
                refusal("D: header_checks", 554, "5.").subject("bad"),
                refusal("D: control octets", 554, "5.").subject("evil"),
                refusal("D: message_size_limit", 554, "5.").large(),
                refusal("D: client not authorized", 554, "5.").line(format!("qmqp {closed}")),
            ],
            ..row("qmqp", format!("qmqp {}", local(postfix.qmqp_port)), stored, "8BITMIME", Id::Postfix)
        },
        Backend {
            absent: Some("pipe {ROOM}/bin/none".into()),
            refusals: [
                ("exit 65, says why", 554, "5.6.0 it says no ?[31mred", 65),
                ("exit 67", 554, "5.1.1 it says no", 67),
                ("exit 68", 554, "5.1.2 it says no", 68),
                ("exit 75", 451, "4.3.0 Unable", 75),
                ("exit 77: a fault of ours", 451, "4.3.0 Unable", 77),
                ("exit 100", 554, "5.3.0 it says no", 100),
            ]
            .into_iter()
            .map(|(did, code, text, exit)| refusal(did, code, text).line(format!("pipe {{ROOM}}/bin/exit {exit}")))
            .collect(),
            ..row(
                "pipe",
                "pipe smtputf8 1 {ROOM}/bin/store -- {ROOM}/stored {sender} {recipients}".into(),
                Far::Store(PathBuf::new()),
                "8BITMIME SMTPUTF8",
                Id::Process,
            )
        },
    ]
}

/// A room with this line; everything that any line names is in it.
fn room(servers: &Servers, line: &str) -> Room {
    let room = Room::new(&format!("rcpt_ok\nqueue/{line}\n"));
    room.config("rcpthosts", "here.example\n[192.0.2.25]\n");
    room.config("nul", "accept\n");
    room.config("databytes", "5000000\n");
    let etc = servers.postfix.path("etc").display().to_string();
    handover::script(&room, "exim", &servers.exim.program());
    handover::script(&room, "sendmail", &format!("#!/bin/sh\nMAIL_CONFIG={etc} exec /usr/sbin/sendmail \"$@\"\n"));
    handover::script(&room, "lost", "#!/bin/sh\nMAIL_CONFIG=/nonexistent exec /usr/sbin/sendmail \"$@\"\n");
    handover::script(&room, "exit", "#!/bin/sh\ncat >/dev/null\nprintf 'it says no \\033[31mred\\007\\n'\nexit $1\n");
    far::storing_program(&room);
    std::fs::create_dir(room.path("stored")).unwrap();
    room
}

/// The replies of a run whose commands have these numbers of replies; nothing in replies or log may be raw.
fn replies_of(outcome: &Outcome) -> Vec<Reply> {
    let odd = outcome.log.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(odd, None, "the log has raw octets: {}", outcome.log);
    replies::of(&outcome.output)
}

/// What one backend made of the contract.
struct Result {
    row: String,
    refusals: Vec<String>,
    problems: Vec<String>,
}

/// The client that the launcher names.
fn play(room: &Room) -> Play<'_> {
    Play::new(room)
        .variable("TCPREMOTEIP", "192.0.2.7")
        .variable("TCPREMOTEHOST", "client.example")
        .limit(Duration::from_secs(60))
}

fn try_backend(servers: &Servers, backend: &Backend, tag: &str) -> Result {
    let mut problems = Vec::new();
    let room = room(servers, &backend.line);
    let far = match &backend.far {
        Far::Store(dir) if dir.as_os_str().is_empty() => Far::Store(room.path("stored")),
        Far::Maildirs(dir) if dir.as_os_str().is_empty() => Far::Maildirs(room.path("mail")),
        far => far.clone(),
    };
    let arrived = arrivals(servers, backend, &room, &far, tag, &mut problems);
    let offers = capabilities(backend, &room, &far, tag, &mut problems);
    let passed =
        backend.absent.as_ref().map_or("never down".to_owned(), |absent| passed_on(servers, absent, &mut problems));
    let refusals = refusals(servers, backend, &mut problems);
    let row = format!("| {:<20} | {arrived} | {offers} | {passed} |", backend.name);
    Result { row, refusals, problems: problems.into_iter().map(|text| format!("{}: {text}", backend.name)).collect() }
}

/// Sends every case in one session, and looks for each at the far end.
fn arrivals(
    servers: &Servers,
    backend: &Backend,
    room: &Room,
    far: &Far,
    tag: &str,
    problems: &mut Vec<String>,
) -> String {
    let cases = cases::all(tag);
    let mut input = b"EHLO client.example\r\n".to_vec();
    cases.iter().for_each(|case| input.extend(case.session()));
    input.extend_from_slice(b"QUIT\r\n");
    let outcome = play(room).run(&input);
    let replies = replies_of(&outcome);
    let mut at = 2;
    let mut nul = "carried".to_owned();
    let mut accepted: Vec<(&Case, &Reply)> = Vec::new();
    for case in &cases {
        at += case.replies();
        let Some(reply) = replies.get(at - 1) else {
            problems.push(format!("no reply to {}: {:?} {}", case.name, replies.last(), outcome.log));
            return String::new();
        };
        if reply.code == 250 {
            accepted.push((case, reply));
        } else if case.name == "NUL" && reply.class() == 5 {
            nul = format!("refused: {} {}", reply.code, reply.lines[0].split(' ').next().unwrap_or_default());
        } else {
            problems.push(format!("{}: {} {:?}", case.name, reply.code, reply.lines));
        }
    }
    if matches!(far, Far::Nothing) {
        return format!(
            "{} of {} taken, kept nowhere | | | {nul} | {}",
            accepted.len(),
            cases.len(),
            ids(servers, backend, room, &outcome, &accepted, problems)
        );
    }
    let (mut added, mut open) = (Vec::new(), "kept as it is");
    let mut left = wait(far, room, tag, accepted.len());
    let count = left.len();
    let mut equal = 0;
    for (case, _) in &accepted {
        let found = left.iter().position(|one| {
            cases::whole(&one.content, &case.content).is_some()
                && same(&one.sender, &case.sender, backend.raw)
                && one.recipients.len() == case.recipients.len()
        });
        let Some(found) = found else {
            problems.push(format!("{}: not there as it came", case.name));
            continue;
        };
        let one = left.remove(found);
        let (fields, ended) = cases::whole(&one.content, &case.content).unwrap_or_default();
        let there = |path: &String| one.recipients.iter().any(|told| same(told, path, backend.raw));
        if !case.recipients.iter().all(there) {
            problems.push(format!("{}: recipients {:?}, not {:?}", case.name, one.recipients, case.recipients));
        }
        added.extend(fields);
        if ended {
            open = "one is added";
        }
        equal += 1;
    }
    for one in left.iter().take(3) {
        let content = String::from_utf8_lossy(&one.content).chars().take(1500).collect::<String>();
        problems.push(format!("there, and not sent: <{}> {:?}\n{content}", one.sender, &one.recipients[..1]));
    }
    if count != accepted.len() {
        problems.push(format!("{} accepted, {count} there\n{}", accepted.len(), outcome.log));
    }
    added.retain(|field| !["received", "return-path", "delivered-to"].contains(&&**field));
    added.sort();
    added.dedup();
    let ids = ids(servers, backend, room, &outcome, &accepted, problems);
    format!("{equal} of {} equal | {} | {open} | {nul} | {ids}", cases.len(), added.join(" "))
}

/// Whether a far end has the address that was sent; where `raw`, it may be without the quotes of SMTP.
fn same(told: &str, sent: &str, raw: bool) -> bool {
    told == sent || raw && told == sent.replace('"', "")
}

fn wait(far: &Far, room: &Room, tag: &str, count: usize) -> Vec<far::Stored> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let taken = far.taken(room, tag);
        let recipients: usize = taken.iter().map(|one| one.recipients.len()).sum();
        // All the copies of the one for a hundred, too.
        if taken.len() >= count && recipients >= count + 99 || Instant::now() > until {
            return taken;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Every reply's queue id is the far end's, and every message's line in the log names backend, id and recipients.
fn ids(
    servers: &Servers,
    backend: &Backend,
    room: &Room,
    outcome: &Outcome,
    accepted: &[(&Case, &Reply)],
    problems: &mut Vec<String>,
) -> String {
    let name = backend.line.split(' ').next().unwrap_or_default();
    let mark = format!(" by=queue/{name} ");
    let queued = |line: &&str| line.contains("] queued ") && line.contains(&mark);
    let lines: Vec<&str> = outcome.log.lines().filter(queued).collect();
    if lines.len() != accepted.len() {
        problems.push(format!("{} lines with {mark:?} in the log: {}", lines.len(), outcome.log));
        return String::new();
    }
    let mut proved = 0;
    for ((case, reply), line) in accepted.iter().zip(lines) {
        let text = &reply.lines[0];
        let wanted =
            [format!("recipients={}", case.recipients.len()), format!("reply=\"250 {}\"", text.replace('"', "\\\""))];
        let path = case.recipients[0].replace('"', "\\\"");
        if let Some(missing) = wanted.iter().find(|word| !line.contains(*word)) {
            problems.push(format!("{}: the log's line lacks {missing:?}: {line}", case.name));
        }
        if !line.contains(&path) && !line.contains(&case.recipients[0]) {
            problems.push(format!("{}: the log's line lacks {path}: {line}", case.name));
        }
        let told =
            text.split_whitespace().skip_while(|word| !["as", "pid", "qp"].contains(word)).nth(1).unwrap_or_default();
        let right = match backend.id {
            Id::Untold => continue,
            Id::Postfix => servers.postfix.log().contains(&format!(" {told}: ")),
            Id::Dovecot => {
                let session = text.split_whitespace().nth_back(2).unwrap_or_default();
                servers.dovecot.log().contains(session)
            }
            Id::Process => {
                let facts = store::queued(room).iter().any(|one| one.facts.contains(&format!("pid {told}\n")));
                facts || room.path("stored").join(format!("mail.{told}")).exists()
            }
            Id::Maildrop => !told.is_empty(),
            Id::File => room.path("mail/new").join(told).exists(),
        };
        if told.is_empty() && !matches!(backend.id, Id::Dovecot) || !right {
            problems.push(format!("{}: no such queue id at the far end: {text}", case.name));
        }
        proved += 1;
    }
    match backend.id {
        Id::Untold => "tells none".to_owned(),
        Id::Maildrop => in_the_maildrop(servers, problems),
        _ => format!("{proved} of {} the same", accepted.len()),
    }
}

/// postdrop where no Postfix runs: the file stays.
fn in_the_maildrop(servers: &Servers, problems: &mut Vec<String>) -> String {
    let room = room(servers, &format!("postdrop /usr/sbin/postdrop -c {}", servers.idle_etc().display()));
    let input = handover::session("a@client.example", "x@here.example", b"Subject: idle\r\n\r\nx\r\n");
    let outcome = play(&room).run(&input);
    let text = handover::verdict(&outcome).map(|reply| reply.lines.concat()).unwrap_or_default();
    let told = text.split_whitespace().skip_while(|word| *word != "as").nth(1).unwrap_or_default();
    if told.is_empty() || !servers.postfix.path("idle/maildrop").join(told).exists() {
        problems.push(format!("no {told:?} in the maildrop: {text} {}", outcome.log));
    }
    "the maildrop's".to_owned()
}

/// What EHLO offers is carried, and what it does not offer is refused before data.
fn capabilities(backend: &Backend, room: &Room, far: &Far, tag: &str, problems: &mut Vec<String>) -> String {
    let ehlo = replies_of(&play(room).run(b"EHLO client.example\r\nQUIT\r\n"));
    let has = |word: &str| ehlo[1].lines.iter().any(|line| line.split(' ').next() == Some(word));
    let offered: Vec<&str> =
        ["8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN"].into_iter().filter(|word| has(word)).collect();
    if offered.join(" ") != backend.offers || !has("SIZE") || !has("CHUNKING") {
        problems.push(format!("offers {offered:?}, not {:?}: {:?}", backend.offers, ehlo[1]));
    }
    let mut refused = Vec::new();
    let mut refuse = |what: &str, before: &str, command: &str, codes: &[(u16, &str)]| {
        let input = format!("EHLO client.example\r\n{before}{command}\r\nQUIT\r\n");
        let replies = replies_of(&play(room).run(input.as_bytes()));
        let reply = &replies[replies.len() - 2];
        let enhanced = reply.lines[0].split(' ').next().unwrap_or_default().to_owned();
        if !codes.contains(&(reply.code, &*enhanced)) {
            problems.push(format!("{command}: {} {}", reply.code, reply.lines[0]));
        }
        refused.push(format!("{what} {} {enhanced}", reply.code));
    };
    let mail = "MAIL FROM:<a@client.example>";
    refuse("too long", "", &format!("{mail} SIZE=9999999"), &[(552, "5.3.4")]);
    if !has("BINARYMIME") {
        refuse("binary", "", &format!("{mail} BODY=BINARYMIME"), &[(555, "5.5.4")]);
    }
    if !has("SMTPUTF8") {
        refuse("SMTPUTF8", "", &format!("{mail} SMTPUTF8"), &[(555, "5.5.4")]);
        refuse("UTF-8 sender", "", "MAIL FROM:<\u{e4}@client.example>", &[(550, "5.6.7"), (553, "5.6.7")]);
        let rcpt = format!("RCPT TO:<{tag}\u{e4}@here.example>");
        refuse("UTF-8 recipient", &format!("{mail}\r\n"), &rcpt, &[(550, "5.6.7"), (553, "5.6.7")]);
    }
    if !has("DSN") {
        refuse("RET", "", &format!("{mail} RET=HDRS"), &[(555, "5.5.4")]);
        let rcpt = format!("RCPT TO:<{tag}x@here.example> NOTIFY=NEVER");
        refuse("NOTIFY", &format!("{mail}\r\n"), &rcpt, &[(555, "5.5.4")]);
    }
    if has("BINARYMIME") {
        let input = format!(
            "EHLO c.example\r\n{mail} BODY=BINARYMIME\r\nRCPT TO:<{tag}x@here.example>\r\nBDAT 3 LAST\r\n\n\0\rQUIT\r\n"
        );
        expect_250(room, input.as_bytes(), 4, "BINARYMIME", problems);
    }
    if has("SMTPUTF8") {
        let sender = format!("p\u{e4}ul{tag}@client.example");
        let recipient = format!("{tag}\u{fc}n\u{ef}@here.example");
        let content = "Subject: gr\u{fc}\u{df}e \u{1f600}\r\n\r\n\u{e4}\r\n".to_owned();
        let case = Case {
            name: "SMTPUTF8",
            sender: sender.clone(),
            recipients: vec![recipient.clone()],
            content: content.clone().into_bytes(),
            parameters: " BODY=8BITMIME SMTPUTF8",
            chunk: false,
        };
        let input = [b"EHLO c.example\r\n", &case.session()[..], b"QUIT\r\n"].concat();
        expect_250(room, &input, 5, "SMTPUTF8", problems);
        arrives(far, room, tag, &sender, &recipient, |one| cases::whole(one, content.as_bytes()).is_some(), problems);
    }
    if has("DSN") {
        // The proof is the notice that the far end sends.
        let input = format!(
            "EHLO c.example\r\nMAIL FROM:<{tag}dsn@client.example> RET=HDRS ENVID=QQ314159\r\n\
             RCPT TO:<{tag}x@here.example> NOTIFY=SUCCESS ORCPT=rfc822;orig@else.example\r\nDATA\r\nSubject: dsn\r\n\r\nx\r\n.\r\nQUIT\r\n"
        );
        expect_250(room, input.as_bytes(), 5, "DSN", problems);
        let notice = |content: &[u8]| {
            let text = String::from_utf8_lossy(content);
            ["Original-Envelope-Id: QQ314159", "Original-Recipient: rfc822;orig@else.example", "text/rfc822-headers"]
                .iter()
                .all(|word| text.contains(word))
        };
        arrives(far, room, tag, "", &format!("{tag}dsn@client.example"), notice, problems);
    }
    format!("{} | {}", offered.join(" "), refused.join(", "))
}

fn expect_250(room: &Room, input: &[u8], at: usize, what: &str, problems: &mut Vec<String>) {
    let outcome = play(room).run(input);
    let replies = replies_of(&outcome);
    let reply = replies.get(at).or(replies.last());
    if reply.is_none_or(|reply| reply.code != 250) {
        problems.push(format!("{what}: {replies:?} {}", outcome.log));
    }
}

fn arrives(
    far: &Far,
    room: &Room,
    tag: &str,
    sender: &str,
    recipient: &str,
    right: impl Fn(&[u8]) -> bool,
    problems: &mut Vec<String>,
) {
    if matches!(far, Far::Nothing) {
        return;
    }
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let found = far.taken(room, tag);
        if found.iter().any(|one| one.sender == sender && one.recipients == [recipient] && right(&one.content)) {
            return;
        }
        if Instant::now() > until {
            let seen: Vec<_> = found.iter().map(|one| (&one.sender, &one.recipients)).collect();
            return problems.push(format!("<{sender}> to {recipient} does not arrive; there: {seen:?}"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A line that is down and says so, and a maildir: that has the message, once.
fn passed_on(servers: &Servers, absent: &str, problems: &mut Vec<String>) -> String {
    let (backend, rest) = absent.split_once(' ').unwrap();
    // Of pipe, keys stand first.
    let line = if backend == "pipe" { format!("pipe if_down next {rest}") } else { format!("{absent} if_down next") };
    let line = if backend == "postdrop" { format!("postdrop {rest} if_down next") } else { line };
    let room = room(servers, &format!("{line}\nqueue/maildir {{ROOM}}/second"));
    let input = handover::session("a@client.example", "x@here.example", b"Subject: second\r\n\r\nx\r\n");
    let outcome = play(&room).run(&input);
    replies_of(&outcome);
    let there = store::maildir(&room.path("second")).len();
    let told = outcome.log.contains("the next queue is asked") && outcome.log.contains(" by=queue/maildir ");
    let code = handover::verdict(&outcome).map_or(0, |reply| reply.code);
    if (code, there, told) != (250, 1, true) {
        problems.push(format!("{line}: {code}, {there} in the second: {}", outcome.log));
    }
    // And without if_down the client comes again.
    room.config("plugins", &format!("rcpt_ok\nqueue/{absent}\nqueue/maildir {{ROOM}}/second\n"));
    let outcome = play(&room).run(&input);
    let code = handover::verdict(&outcome).map_or(0, |reply| reply.code);
    if code != 451 || store::maildir(&room.path("second")).len() != 1 {
        problems.push(format!("{absent}: {code} without if_down: {}", outcome.log));
    }
    format!("next: {there} there; defer: {code}")
}

/// The rows of the second table.
fn refusals(servers: &Servers, backend: &Backend, problems: &mut Vec<String>) -> Vec<String> {
    let absent = backend.absent.iter().map(|line| refusal("absent", 451, "4.").line(line));
    let name = backend.name;
    let mut rows = Vec::new();
    for wanted in backend.refusals.iter().chain(&absent.collect::<Vec<_>>()) {
        let room = room(servers, wanted.line.as_ref().unwrap_or(&backend.line));
        let many: Vec<String> = (0..30).map(|at| format!("m{at}@here.example")).collect();
        let recipients = wanted.recipients.replace(MANY, &many.join(" "));
        let paths: String = recipients.split(' ').map(|path| format!("RCPT TO:<{path}>\r\n")).collect();
        let filling = "0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(wanted.octets / 63);
        let input = format!(
            "EHLO client.example\r\nMAIL FROM:<{}>\r\n{paths}DATA\r\nSubject: {}\r\n\r\n{filling}.\r\nQUIT\r\n",
            wanted.sender, wanted.subject
        );
        let outcome = play(&room).fault(wanted.fault).run(input.as_bytes());
        replies_of(&outcome);
        let Some(reply) = handover::verdict(&outcome) else {
            problems.push(format!("{}: nothing decided: {}", wanted.did, outcome.log));
            continue;
        };
        let text = &reply.lines[0];
        let text = text.rsplit_once(" (").map_or(text.as_str(), |(text, _)| text);
        rows.push(format!("| {name:<20} | {:<40} | {} {text} |", wanted.did, reply.code));
        if reply.code != wanted.code || !text.starts_with(wanted.text) {
            problems.push(format!(
                "{}: {} {text}, not {} {}\n{}",
                wanted.did, reply.code, wanted.code, wanted.text, outcome.log
            ));
        }
        if reply.code != 250 && !outcome.log.contains("queue/") {
            problems.push(format!("{}: the log does not name the backend: {}", wanted.did, outcome.log));
        }
    }
    rows
}

#[test]
fn the_contract() {
    let users = cases::all(&tag(7))
        .into_iter()
        .flat_map(|case| case.recipients)
        .map(|path| path.replace('"', ""))
        .collect::<Vec<_>>();
    let Some(servers) = Servers::start(&users) else { return };
    let backends: Vec<(usize, Backend)> = backends(&servers).into_iter().enumerate().collect();
    assert_eq!(backends[7].1.name, "lmtp", "whose users are made for tag 7");
    let results = workers::each(&backends, |(at, backend)| try_backend(&servers, backend, &tag(*at)));
    eprintln!(
        "| backend | messages | fields added by the far end | a last line end | NUL | queue id | offered and carried | not offered and refused | down |"
    );
    results.iter().for_each(|result| eprintln!("{}", result.row));
    eprintln!("\n| backend | what the far end did | what the client saw |");
    results.iter().flat_map(|result| &result.refusals).for_each(|row| eprintln!("{row}"));
    let problems: Vec<&String> = results.iter().flat_map(|result| &result.problems).collect();
    for problem in &problems {
        eprintln!("*** {problem}");
    }
    assert!(problems.is_empty(), "{} problems", problems.len());
}
