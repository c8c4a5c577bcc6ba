//! Queues and clients that fail. Whatever happens: no 250 without the message whole, no half message, no hang.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::client::{Client, Log};
use common::play::{End, Outcome, Play};
use common::replies;
use common::room::Room;
use common::{store, workers};

const BEFORE: &str = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n";
const HEADER: &str = "From: a@client.example\r\nSubject: faults\r\n\r\n";

/// A whole session with one message of this many lines of 64 octets.
fn session(lines: usize) -> String {
    format!("{BEFORE}{}.\r\nQUIT\r\n", content(lines))
}

fn content(lines: usize) -> String {
    format!("{HEADER}{}", format!("{:-<62}\r\n", "line").repeat(lines))
}

/// Larger than the pipe to a child (64 KiB), so that a child that does not read is noticed.
const LARGE: usize = 4000;

/// The class of the reply that decided about the only message.
fn class(outcome: &Outcome) -> u16 {
    let replies = replies::of(&outcome.output);
    let verdicts = replies::verdicts(&replies);
    let [Some(verdict)] = verdicts[..] else { panic!("not one message decided: {replies:?}\nlog: {}", outcome.log) };
    verdict.class()
}

/// Counts that the tests print, and what must hold after every fault.
#[derive(Default)]
struct Tally {
    faults: usize,
    accepted: usize,
    lost: usize,
    half: usize,
    hangs: usize,
}

impl Tally {
    /// Takes one run in: `stored` are the messages found, `whole` is what each must end with.
    fn count(&mut self, name: &str, outcome: &Outcome, stored: &[Vec<u8>], whole: &[u8]) {
        self.faults += 1;
        let replies = replies::of(&outcome.output);
        let accepted = replies::verdicts(&replies).into_iter().flatten().filter(|reply| reply.class() == 2).count();
        let half = stored.iter().filter(|message| !message.ends_with(whole)).count();
        let hang = outcome.end == End::Overtime || !outcome.released;
        let lost = accepted.saturating_sub(stored.len());
        if lost + half > 0 || hang {
            eprintln!("{name}: lost {lost}, half {half}, hang {hang}, {replies:?}\n{}", outcome.log);
        }
        self.accepted += accepted;
        self.lost += lost;
        self.half += half;
        self.hangs += usize::from(hang);
    }

    fn verify(&self, what: &str) {
        let Tally { faults, accepted, lost, half, hangs } = self;
        eprintln!(
            "{what}: faults tried {faults}, mails accepted {accepted}, mails lost {lost}, half mails visible {half}, \
             hangs {hangs}"
        );
        assert!(*faults > 0 && *lost + *half + *hangs == 0, "{what}");
    }
}

fn messages(room: &Room) -> Vec<Vec<u8>> {
    store::queued(room).into_iter().map(|queued| queued.message).collect()
}

fn as_stored(content: &str) -> Vec<u8> {
    content.replace("\r\n", "\n").into_bytes()
}

/// facts: 11 to 40 and 115 are permanent, every other exit status but 0 is transient.
#[test]
fn every_exit_status_of_qmail_queue() {
    let codes: Vec<i32> = (0..=255).collect();
    let outcomes = workers::each(&codes, |code| {
        let room = Room::with_queue();
        // 0 without the fault: really queued.
        let fault = if *code == 0 { String::new() } else { format!("exit={code}") };
        let outcome = Play::new(&room).fault(&fault).run(session(1).as_bytes());
        let stored = messages(&room);
        (outcome, stored)
    });
    let mut tally = Tally::default();
    for (code, (outcome, stored)) in codes.iter().zip(&outcomes) {
        let expected = match code {
            0 => 2,
            11..=40 | 115 => 5,
            _ => 4,
        };
        assert_eq!(class(outcome), expected, "exit {code}: {}", String::from_utf8_lossy(&outcome.output));
        tally.count(&format!("exit {code}"), outcome, stored, &as_stored(&content(1)));
    }
    tally.verify("exit status of qmail-queue");
}

/// One way of failing, the size of the message in lines, the classes that the reply may have.
const CHILD_FAULTS: &[(&str, usize, &[u16])] = &[
    // A small message and the envelope lie in the pipes, written without an error: that nobody read them must show.
    ("exit-early=0", 1, &[4]),
    ("exit-part=0", 1, &[4]),
    ("exit-message=0", 1, &[4]),
    ("close=0", 1, &[4]),
    ("exit-early=0", LARGE, &[4]),
    ("exit-early=31", 1, &[5]),
    ("exit-early=71", LARGE, &[4]),
    ("exit-part=0", LARGE, &[4]),
    ("exit-part=53", LARGE, &[4]),
    ("exit-message=53", 1, &[4]),
    ("exit-message=31", LARGE, &[5]),
    ("close=0", LARGE, &[4]),
    ("close=31", LARGE, &[5]),
    ("kill-before", 1, &[4]),
    ("kill-before", LARGE, &[4]),
    ("kill-message", LARGE, &[4]),
    ("kill-end", 1, &[4]),
    ("hang-before", 1, &[4]),
    ("hang-before", LARGE, &[4]),
    ("hang-message", 1, &[4]),
    ("hang-message", LARGE, &[4]),
    ("hang-end", 1, &[4]),
    ("slow=1", 200, &[2]),
    ("late=500", 1, &[2]),
    // Slower than the time limit, and stored all the same: a duplicate is possible, a loss is not.
    ("late=8000", 1, &[4]),
    ("text=4:82:Dnot here", 1, &[5]),
    ("text=6:82:Dnot here", 1, &[5]),
    ("text=4:82:Znot now", 1, &[4]),
    ("text=6:82:Znot now", 1, &[4]),
    ("text=4:88:Dnot here", 1, &[5]),
    ("text=4:82:", 1, &[4]),
    ("text=6:82:D", 1, &[4]),
    ("text=6:82:Xneither letter", 1, &[4]),
    ("text=4:53:Dtext with another code", 1, &[4]),
    ("flood=4:82", 1, &[5]),
    // It succeeded, and a grandchild keeps every pipe open.
    ("child", 1, &[2, 4]),
];

#[test]
fn every_other_failure_of_qmail_queue() {
    let outcomes = workers::each(CHILD_FAULTS, |(fault, lines, _)| {
        let room = Room::with_queue().impatient(2, 4);
        let outcome = Play::new(&room).fault(fault).run(session(*lines).as_bytes());
        // A child that hangs is ended by us, not left to itself.
        let left = store::hanging(&room).filter(|id| Path::new(&format!("/proc/{id}/cwd")).exists());
        assert_eq!(left, None, "{fault}: the child is still there");
        (outcome, messages(&room))
    });
    let mut tally = Tally::default();
    for ((fault, lines, expected), (outcome, stored)) in CHILD_FAULTS.iter().zip(&outcomes) {
        let class = class(outcome);
        assert!(expected.contains(&class), "{fault}, {lines} lines: {}", String::from_utf8_lossy(&outcome.output));
        if *fault == "child" {
            // The grandchild is the queue's own affair; that it holds descriptor 2 or 4 must not keep the client.
            assert!(outcome.elapsed < Duration::from_secs(5), "kept for {:?}", outcome.elapsed);
        }
        tally.count(fault, outcome, stored, &as_stored(&content(*lines)));
    }
    tally.verify("other failures of qmail-queue");
}

/// The text of a custom error reaches the client as one clean reply with the class that its letter says.
#[test]
fn a_custom_error_text_is_passed_on_and_made_safe() {
    for (text, expected) in [("Dwe are closed", "we are closed"), ("Za\r\n250 ok\r\n", "250 ok")] {
        let room = Room::with_queue();
        let outcome = Play::new(&room).fault(&format!("text=6:82:{text}")).run(session(1).as_bytes());
        let replies = replies::of(&outcome.output);
        let said = replies::verdicts(&replies)[0].unwrap();
        assert_eq!(said.class(), if text.starts_with('D') { 5 } else { 4 });
        assert!(said.lines.concat().contains(expected), "{said:?}");
    }
}

#[test]
fn a_queue_that_cannot_be_run() {
    let table =
        [("{ROOM}/bin/nothing", "missing"), ("{ROOM}/config/me", "not executable"), ("{ROOM}/bin", "a directory")];
    for (program, name) in table {
        let room = Room::new(&format!("rcpt_ok\nqueue/qmail-queue {program}\n"));
        let outcome = Play::new(&room).run(session(1).as_bytes());
        let replies = replies::of(&outcome.output);
        // It may be noticed before the greeting or at the hand-over; accepted is what it must not be.
        let refused = replies[0].code == 421 || class(&outcome) == 4;
        assert!(refused && outcome.end != End::Overtime, "{name}: {replies:?}");
    }
}

/// How the child is called: nothing is inherited but its own descriptors, and the environment whole.
#[test]
fn how_qmail_queue_is_called() {
    let room = Room::with_queue();
    let (mut client, mut served) = Client::serve_with(&room, Log::Client, &[("RELAYCLIENT", "")]);
    client.send(session(1).as_bytes());
    client.rest();
    assert_eq!(served.end(Duration::from_secs(10)), End::Code(0));
    let queued = store::queued(&room);
    assert_eq!(queued.len(), 1, "{}", client.transcript());
    assert_eq!(queued[0].notes, None);
    let facts = &queued[0].facts;
    assert_eq!(facts.lines().filter(|line| line.starts_with("argument ")).count(), 1, "{facts}");
    assert!(facts.contains("variable RELAYCLIENT=\n") && facts.contains("blocked 0000000000000000\n"), "{facts}");
    for line in facts.lines().filter_map(|line| line.strip_prefix("descriptor ")) {
        let (number, leads_to) = line.split_once(' ').unwrap();
        // What whoever runs the tests leaves open to all is no fault of the program.
        if std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|own| own == Path::new(leads_to)) {
            continue;
        }
        assert!(["0", "1", "2", "4", "6"].contains(&number), "descriptor {line} was inherited");
        assert!(!leads_to.starts_with("socket:"), "descriptor {line} is the client");
    }
}

/// The input ends after every octet of a session, first with the replies still read, then with nobody there.
#[test]
fn the_client_goes_after_every_octet() {
    let whole = session(2);
    let end_of_data = whole.find("\r\n.\r\n").unwrap() + 5;
    let cuts: Vec<usize> = (0..=whole.len()).collect();
    let outcomes = workers::each(&cuts, |&cut| {
        let room = Room::with_queue();
        let outcome = Play::new(&room).run(&whole.as_bytes()[..cut]);
        assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new(), "cut at {cut}");
        (outcome, messages(&room))
    });
    let mut tally = Tally::default();
    for (cut, (outcome, stored)) in cuts.iter().zip(&outcomes) {
        assert_eq!(stored.len(), usize::from(*cut >= end_of_data), "cut at {cut}: {}", outcome.log);
        tally.count(&format!("cut at {cut}"), outcome, stored, &as_stored(&content(2)));
    }
    assert_eq!(tally.accepted, whole.len() - end_of_data + 1, "each whole message was accepted");
    tally.verify("input ends after every octet");
}

/// The same with chunks: only LAST with all its octets makes a message.
#[test]
fn the_client_goes_within_a_chunk() {
    let body = content(1);
    let (first, second) = body.split_at(30);
    let before = BEFORE.strip_suffix("DATA\r\n").unwrap();
    let chunks = format!("BDAT {}\r\n{first}BDAT {} LAST\r\n{second}", first.len(), second.len());
    let whole = format!("{before}{chunks}QUIT\r\n");
    let end_of_data = before.len() + chunks.len();
    let cuts: Vec<usize> = (before.len()..=whole.len()).collect();
    let stored = workers::each(&cuts, |&cut| {
        let room = Room::with_queue();
        let outcome = Play::new(&room).run(&whole.as_bytes()[..cut]);
        assert_ne!(outcome.end, End::Overtime, "cut at {cut}");
        messages(&room)
    });
    for (cut, stored) in cuts.iter().zip(stored) {
        assert_eq!(stored.len(), usize::from(*cut >= end_of_data), "cut at {cut}");
        assert!(stored.iter().all(|message| message.ends_with(&as_stored(&body))), "cut at {cut}");
    }
}

/// The client is gone in both directions, at every place between two lines: no hang, nothing half.
#[test]
fn the_connection_breaks_between_lines() {
    let whole = session(LARGE / 10);
    let mut cuts: Vec<usize> = whole.match_indices("\r\n").map(|(at, _)| at + 2).step_by(20).collect();
    cuts.push(whole.len());
    // Unbroken, it is queued: else the rest would prove nothing.
    let room = Room::with_queue();
    let (mut client, _served) = Client::serve(&room, Log::Client);
    client.send(whole.as_bytes());
    client.rest();
    assert_eq!(messages(&room).len(), 1);

    let mut broken = 0;
    for cut in cuts {
        let room = Room::with_queue();
        let (mut client, mut served) = Client::serve(&room, Log::Client);
        client.send(&whole.as_bytes()[..cut]);
        drop(client);
        let end = served.end(Duration::from_secs(20));
        assert!(matches!(end, End::Code(_)), "cut at {cut}: {end:?}");
        let stored = messages(&room);
        assert!(stored.iter().all(|message| message.ends_with(&as_stored(&content(LARGE / 10)))), "cut at {cut}");
        assert!(cut >= whole.len() - 6 || stored.is_empty(), "cut at {cut}: queued without its end");
        assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new(), "cut at {cut}");
        broken += 1;
    }
    eprintln!("connections broken {broken}, half mails visible 0, hangs 0");
}
