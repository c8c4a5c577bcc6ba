//! queue/lmtp against a real Dovecot, and against an agent that fails in every way.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
mod next_hop;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::play::{Outcome, Play};
use common::replies::{self, Reply};
use common::room::Room;
use common::workers;
use next_hop::{Fault, Real, StandIn, WELL, Ways};

const SMALL: &str = "Subject: x\r\n\r\none\r\n";

fn session(recipients: &[&str], content: &str) -> Vec<u8> {
    let paths: String = recipients.iter().map(|name| format!("RCPT TO:<{name}@here.example>\r\n")).collect();
    format!("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n{paths}DATA\r\n{content}.\r\nQUIT\r\n").into_bytes()
}

fn room(line: &str) -> Room {
    Room::new(&format!("rcpt_ok\nqueue/lmtp {line}\n"))
}

fn decided(outcome: &Outcome) -> Reply {
    let replies = replies::of(&outcome.output);
    replies::verdicts(&replies)
        .into_iter()
        .flatten()
        .next()
        .cloned()
        .unwrap_or_else(|| panic!("nothing decided: {outcome:?}"))
}

/// What an agent says to LHLO.
fn hello(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"LHLO c.example\r\nQUIT\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// By socket and by port: delivered whole to each; what it refuses, and what the client is told.
#[test]
fn dovecot() {
    let Some(dovecot) = Real::dovecot() else { return };
    let long = "x".repeat(998);
    let odd = format!("Subject: odd\r\n\r\n..one\r\n...\r\n\u{e4}\u{f6} 8-bit\r\n{long}\r\n..last\r\n");
    let whole = odd.replace("\r\n.", "\n").replace("\r\n", "\n");
    let socket = dovecot.dir.path().join("lmtp").to_str().unwrap().to_owned();
    let port = format!("127.0.0.1 {}", dovecot.port);
    // So all but the first row go by BDAT.
    assert!(hello(dovecot.port).contains("CHUNKING"), "{}", hello(dovecot.port));
    let by_data = format!("{socket} chunking 0");
    let table: [(&str, &str, &[&str], &str, u16, &str, usize); 8] = [
        ("two, by DATA", &by_data, &["x", "y"], &odd, 250, "2.0.0 delivered to 2", 2),
        ("one, by socket", &socket, &["x"], &odd, 250, "2.0.0 delivered: ", 1),
        ("one, by port", &port, &["y"], &odd, 250, "2.0.0 delivered: ", 1),
        ("two", &socket, &["x", "y"], &odd, 250, "2.0.0 delivered to 2", 2),
        ("nobody of that name", &socket, &["no"], &odd, 554, "5.1.1 <no@here.example> ", 0),
        ("one of two unknown", &socket, &["x", "no"], &odd, 554, "5.1.1 <no@here.example> ", 0),
        ("over quota", &socket, &["full"], &odd, 554, "5.2.2 <full@here.example> ", 0),
        ("one of two over quota", &socket, &["x", "full"], &odd, 451, "4.2.2 <full@here.example> ", 1),
    ];
    let mut arrived = 0;
    for (what, line, recipients, content, code, text, stored) in table {
        let room = room(line);
        let outcome = Play::new(&room).run(&session(recipients, content));
        let reply = decided(&outcome);
        eprintln!("| Dovecot: {what:<22} | {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, code, "{what}: {reply:?} {} {}", outcome.log, dovecot.log());
        assert!(reply.lines[0].starts_with(text), "{what}: {reply:?} {}", outcome.log);
        arrived += stored;
        let mail = dovecot.mail(arrived);
        assert_eq!(mail.len(), arrived, "{what}: {}", dovecot.log());
        assert!(mail.iter().all(|mail| mail.ends_with(whole.as_bytes())), "{what}");
    }
}

/// By RCPT: those whom it does not know are refused there; those over quota too.
#[test]
fn dovecot_is_asked_about_recipients() {
    let Some(dovecot) = Real::dovecot() else { return };
    let room = room(&format!("{} ask_recipients 1", dovecot.dir.path().join("lmtp").display()));
    let outcome = Play::new(&room).run(&session(&["x", "no", "full", "y"], SMALL));
    let replies = replies::of(&outcome.output);
    let codes: Vec<u16> = replies[3..7].iter().map(|reply| reply.code).collect();
    for reply in &replies[3..7] {
        eprintln!("| Dovecot asked | {} {} |", reply.code, reply.lines[0]);
    }
    assert_eq!((codes[0], codes[1], codes[3]), (250, 550, 250), "{outcome:?} {}", dovecot.log());
    assert!(replies[4].lines[0].starts_with("5.1.1 <no@here.example> "), "{outcome:?}");
    // Who is over quota is refused there or after the message, as this Dovecot has it.
    let both = codes[2] != 250;
    assert_eq!(decided(&outcome).code, if both { 250 } else { 451 }, "{outcome:?}");
    assert_eq!(dovecot.mail(2).len(), 2, "{}", dovecot.log());
}

#[test]
fn an_agent_that_fails() {
    let faults = [
        Fault::Closes,
        Fault::Says("nonsense\r\n"),
        Fault::Says("250 one for two\r\n"),
        Fault::Says("250 ok\r\n550 5.2.2 full\r\n"),
        Fault::Says("421 4.3.2 bye\r\n"),
        Fault::Stalls,
        Fault::Dribbles,
    ];
    let steps = ["greeting", "DATA", "content", "end"];
    let all: Vec<(&'static str, Fault)> =
        steps.iter().flat_map(|step| faults.iter().map(|fault| (*step, fault.clone()))).collect();
    let rows = workers::each(&all, |(step, fault)| {
        let agent = StandIn::start(true, step, Some(fault.clone()));
        let room = room(&format!("127.0.0.1 {} timeout 1 deadline 2", agent.port));
        let began = Instant::now();
        let outcome = Play::new(&room).run(&session(&["x", "y"], SMALL));
        (decided(&outcome), began.elapsed(), outcome.log)
    });
    for ((step, fault), (reply, time, log)) in all.iter().zip(rows) {
        eprintln!("| {step:<8} | {fault:<50?} | {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, 451, "{step} {fault:?}: {reply:?} {log}");
        assert!(time < Duration::from_secs(8), "{step} {fault:?}: {time:?}");
    }
}

/// By BDAT, one reply for every chunk but the last, and one for each recipient to that.
#[test]
fn chunks() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789 0123456789 0123456789\r\n".repeat(4500));
    let table = [
        ("well", None, 250),
        ("first", Some(Fault::Says("552 5.2.2 full\r\n")), 554),
        ("first", Some(Fault::Closes), 451),
        ("middle", Some(Fault::Says("452 4.2.2 full\r\n")), 451),
        ("middle", Some(Fault::Says("250 one\r\n250 and another\r\n")), 451),
        ("last", Some(Fault::Says("250 one for two\r\n")), 451),
        ("last", Some(Fault::Says("250 ok\r\n550 5.2.2 full\r\n")), 451),
        ("last", Some(Fault::Says("550 5.2.2 full\r\n550 5.2.2 full\r\n")), 554),
        ("last", Some(Fault::Closes), 451),
        ("last", Some(Fault::Stalls), 451),
    ];
    let rows = workers::each(&table, |(step, fault, _)| {
        let agent = StandIn::with(Ways { lmtp: true, chunking: true, step, fault: fault.clone(), ..WELL });
        let room = room(&format!("127.0.0.1 {} timeout 1 deadline 2", agent.port));
        let outcome = Play::new(&room).run(&session(&["x", "y"], &content));
        (decided(&outcome), agent.taken(), outcome.log)
    });
    for ((step, fault, code), (reply, taken, log)) in table.iter().zip(rows) {
        eprintln!("| BDAT {step:<8} | {fault:<50?} | {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, *code, "{step} {fault:?}: {reply:?} {log}");
        assert!(taken.iter().all(|message| message.ends_with(content.as_bytes())), "{step} {fault:?}");
        assert_eq!(taken.len(), usize::from(matches!(*step, "well" | "last")), "{step} {fault:?}: {log}");
    }
}

#[test]
fn an_agent_that_is_absent_and_one_that_is_well() {
    let outcome = Play::new(&room("/nonexistent/lmtp")).run(&session(&["x"], SMALL));
    let reply = decided(&outcome);
    assert!(reply.code == 451 && reply.lines[0].starts_with("4.4.1 "), "{reply:?}");
    let agent = StandIn::start(true, "QUIT", Some(Fault::Closes));
    let outcome = Play::new(&room(&format!("127.0.0.1:{}", agent.port))).run(&session(&["x", "y"], SMALL));
    assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
    assert!(agent.taken().len() == 1 && agent.taken()[0].ends_with(SMALL.as_bytes()));
}
