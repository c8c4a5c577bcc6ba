//! Sessions that no honest client has: each ends in time, without a panic, and says nothing but SMTP.
//!
//! `tests/corpus/` holds sessions as exact octets. Large ones are made here.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::Duration;

use common::play::{End, Play};
use common::replies;
use common::room::Room;
use common::{store, workers};

/// What may be queued at most in one session, so that a session which floods is noticed.
const QUEUED_MAX: usize = 20;

fn check(name: &str, session: &[u8]) {
    let room = Room::with_queue();
    let outcome = Play::new(&room).limit(Duration::from_secs(30)).run(session);
    let said = String::from_utf8_lossy(&outcome.output);
    assert_eq!(outcome.end, End::Code(0), "{name}: {said}\n{}", outcome.log);
    assert!(outcome.released, "{name}: something holds the client's descriptor");
    assert!(!outcome.log.contains("panicked at"), "{name}: {}", outcome.log);
    let replies = replies::parse(&outcome.output).unwrap_or_else(|why| panic!("{name}: {why}\n{said}"));
    assert!([220, 421, 554].contains(&replies[0].code), "{name}: {:?}", replies[0]);
    assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new(), "{name}");
    assert!(store::breaches(&room).is_empty(), "{name}: {:?}", store::breaches(&room));
    let accepted = replies::verdicts(&replies).into_iter().flatten().filter(|reply| reply.class() == 2).count();
    let queued = store::queued(&room);
    // BDAT has no 354, so there may be more than those.
    assert!(queued.len() >= accepted && queued.len() <= QUEUED_MAX, "{name}: {}", queued.len());
    // The log is made of lines; nothing from outside may forge one or steer a terminal.
    let odd = outcome.log.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(odd, None, "{name}: a control character in the log");
}

#[test]
fn every_session_of_the_corpus() {
    let files = store::names(&common::tests().join("corpus"));
    let files: Vec<_> = files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "smtp")).collect();
    assert!(!files.is_empty(), "the corpus is empty");
    workers::each(&files, |file| check(&file.display().to_string(), &fs::read(file).unwrap()));
}

#[test]
fn sessions_too_large_for_a_file() {
    let hello = "EHLO client.example\r\n";
    let open = "EHLO client.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@here.example>\r\n";
    let recipients: String = (0..20_000).map(|n| format!("RCPT TO:<user{n}@here.example>\r\n")).collect();
    let fields: String = (0..50_000).map(|n| format!("X-Field-{n}: x\r\n")).collect();
    let table: &[(&str, Vec<u8>)] = &[
        ("a line without end", vec![b'A'; 8 << 20]),
        ("a line of NUL", vec![0; 1 << 20]),
        ("only line feeds", vec![b'\n'; 1 << 20]),
        ("only carriage returns", vec![b'\r'; 1 << 20]),
        ("a long line, then a command", [vec![b'x'; 1 << 20], b"\r\nQUIT\r\n".to_vec()].concat()),
        ("every octet", (0..4096).map(|n| (n % 256) as u8).collect()),
        ("100,000 NOOP", format!("{hello}{}QUIT\r\n", "NOOP\r\n".repeat(100_000)).into_bytes()),
        ("100,000 RSET", format!("{hello}{}QUIT\r\n", "RSET\r\n".repeat(100_000)).into_bytes()),
        ("100,000 EHLO", format!("{}QUIT\r\n", hello.repeat(100_000)).into_bytes()),
        ("100,000 nonsense", format!("{hello}{}", "XYZZY\r\n".repeat(100_000)).into_bytes()),
        (
            "20,000 recipients",
            format!("{hello}MAIL FROM:<a@b.example>\r\n{recipients}DATA\r\nx\r\n.\r\nQUIT\r\n").into_bytes(),
        ),
        ("50,000 fields", format!("{open}DATA\r\n{fields}\r\n.\r\nQUIT\r\n").into_bytes()),
        ("one field of 4 MiB", format!("{open}DATA\r\nX: {}\r\n.\r\nQUIT\r\n", "y".repeat(4 << 20)).into_bytes()),
        ("a body line of 4 MiB", format!("{open}DATA\r\n\r\n{}\r\n.\r\nQUIT\r\n", "y".repeat(4 << 20)).into_bytes()),
        ("a million empty lines", format!("{open}DATA\r\n{}.\r\nQUIT\r\n", "\r\n".repeat(1 << 20)).into_bytes()),
        ("a million dots", format!("{open}DATA\r\n{}\r\n.\r\nQUIT\r\n", "..\r\n".repeat(1 << 20)).into_bytes()),
        (
            "10,000 chunks of one octet",
            format!("{open}{}BDAT 0 LAST\r\nQUIT\r\n", "BDAT 1\r\nx".repeat(10_000)).into_bytes(),
        ),
    ];
    workers::each(table, |(name, session)| check(name, session));
}
