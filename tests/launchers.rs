//! Real launchers and real clients: what arrives is what was sent, plus the trace fields.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::client::Client;
use common::launch::{Launcher, Server};
use common::room::Room;
use common::store::{self, Queued};

const TEXT: &str = "From: a@client.example\nTo: x@here.example\nSubject: through a launcher\n\n\
                    first\n.dot\n..dots\n\nlast\n";

/// Each launcher that can be used here.
fn with_each(test: impl Fn(Launcher)) {
    Launcher::ALL.into_iter().filter(|launcher| launcher.available()).for_each(test);
}

/// Sends the file `sent` of the room with swaks.
fn swaks(server: &Server, room: &Room, recipients: &str, more: &[&str]) {
    let Some(swaks) = common::require("swaks") else {
        return;
    };
    let to = format!("127.0.0.1:{}", server.port);
    let output = Command::new(swaks)
        .args(["--server", &to, "--helo", "client.example", "-f", "a@client.example", "-t", recipients])
        .args(more)
        .arg("--data")
        .arg(format!("@{}", room.path("sent").display()))
        .env_clear()
        .envs(room.environment())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "swaks {more:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The one message that the stand-in was given.
fn only(room: &Room) -> Queued {
    let mut queued = store::queued(room);
    assert!(store::breaches(room).is_empty(), "{:?}", store::breaches(room));
    assert_eq!(queued.len(), 1);
    queued.remove(0)
}

#[test]
fn swaks_delivers_to_qmail_queue() {
    if common::require("swaks").is_none() {
        return;
    }
    with_each(|launcher| {
        for (recipients, more) in [
            ("x@here.example", &[][..]),
            ("x@here.example,y@here.example", &[]),
            ("x@here.example,y@here.example", &["--pipeline"]),
        ] {
            let room = Room::with_queue();
            fs::write(room.path("sent"), TEXT).unwrap();
            let server = launcher.start(&room, &[]);
            swaks(&server, &room, recipients, more);
            let queued = only(&room);
            assert_eq!(queued.sender(), "a@client.example", "{launcher:?}");
            assert_eq!(queued.recipients().join(","), recipients, "{launcher:?}");
            // swaks ends the data with a line end of its own.
            let trace = store::trace_before(&queued.message, format!("{TEXT}\n").as_bytes());
            assert!(trace.contains("127.0.0.1"), "{launcher:?}: the client's address is not in {trace}");
            assert_eq!(trace.contains("for <"), !recipients.contains(','), "{launcher:?}: {trace}");
        }
    });
}

#[test]
fn swaks_delivers_eight_bit_to_a_maildir() {
    if common::require("swaks").is_none() {
        return;
    }
    with_each(|launcher| {
        let room = Room::with_maildir();
        let text = "Subject: \u{e9}\n\nna\u{ef}ve \u{2603}\n";
        fs::write(room.path("sent"), text).unwrap();
        let server = launcher.start(&room, &[]);
        swaks(&server, &room, "x@here.example", &[]);
        let stored = store::maildir(&room.path("mail"));
        assert_eq!(stored.len(), 1, "{launcher:?}");
        store::trace_before(&stored[0], format!("{text}\n").as_bytes());
    });
}

#[test]
fn smtp_source_delivers_many_at_once() {
    let Some(source) = common::require("smtp-source") else {
        return;
    };
    with_each(|launcher| {
        let room = Room::with_maildir();
        let server = launcher.start(&room, &[]);
        let output = Command::new(&source)
            .args(["-s", "4", "-m", "24", "-l", "5000", "-f", "a@client.example", "-t", "x@here.example"])
            .arg(format!("inet:127.0.0.1:{}", server.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{launcher:?}: {}", String::from_utf8_lossy(&output.stderr));
        let stored = store::maildir(&room.path("mail"));
        assert_eq!(stored.len(), 24, "{launcher:?}");
        assert!(stored.iter().all(|message| message.len() >= 5000), "{launcher:?}");
    });
}

/// Chunks, and an address that is not ASCII, which none of the other clients sends.
#[test]
fn chunks_and_internationalised_mail() {
    with_each(|launcher| {
        let room = Room::with_maildir();
        let server = launcher.start(&room, &[]);
        let mut client = Client::connect(server.port);
        client.expect(220);
        let offered = client.command("EHLO client.example", 250).lines;
        for keyword in ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"] {
            assert!(offered.iter().any(|line| line == keyword), "{launcher:?}: no {keyword} in {offered:?}");
        }
        client.command("MAIL FROM:<r\u{e9}mi@client.example> BODY=8BITMIME SMTPUTF8", 250);
        client.command("RCPT TO:<\u{fc}ser@here.example>", 250);
        let body = "Subject: \u{e9}\r\n\r\n.\r\n..\r\nend";
        let (first, last) = body.as_bytes().split_at(10);
        client.send(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat());
        client.expect(250);
        client.send(&[format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat());
        client.expect(250);
        client.command("QUIT", 221);
        client.closed();
        let stored = store::maildir(&room.path("mail"));
        assert_eq!(stored.len(), 1, "{launcher:?}");
        let text = String::from_utf8(stored[0].clone()).unwrap();
        assert!(text.contains("with UTF8SMTP") || text.contains("with UTF8ESMTP"), "{launcher:?}: {text}");
        // A chunk's dots are content, and its last line need not end.
        let sent = body.replace("\r\n", "\n");
        assert!(text.trim_end_matches('\n').ends_with(&sent), "{launcher:?}: {text}");
    });
}

/// What the launcher's rules say is heard: relaying, and a limit on the size.
#[test]
fn variables_of_the_launcher_are_heard() {
    with_each(|launcher| {
        let room = Room::new("relay\nrcpt_ok\nqueue/qmail-queue {ROOM}/bin/qmail-queue\n");
        let server = launcher.start(&room, &[("RELAYCLIENT", ""), ("DATABYTES", "2000")]);
        let mut client = Client::connect(server.port);
        client.expect(220);
        let offered = client.command("EHLO client.example", 250).lines;
        assert!(offered.iter().any(|line| line == "SIZE 2000"), "{launcher:?}: {offered:?}");
        client.command("MAIL FROM:<a@client.example>", 250);
        client.command("RCPT TO:<far@elsewhere.example>", 250);
        client.command("QUIT", 221);
        client.closed();
    });
    with_each(|launcher| {
        let room = Room::new("relay\nrcpt_ok\nqueue/qmail-queue {ROOM}/bin/qmail-queue\n");
        let server = launcher.start(&room, &[]);
        let mut client = Client::connect(server.port);
        client.open("a@client.example", &["x@here.example"]);
        client.command("RCPT TO:<far@elsewhere.example>", 550);
        client.command("QUIT", 221);
        client.closed();
    });
}

/// A configuration that is broken: SMTP on the wire, the reason in the log alone, and mail waits.
#[test]
fn a_broken_configuration_says_421_and_no_more() {
    with_each(|launcher| {
        let room = Room::new("rcpt_ok\nno_such_plugin\nqueue/qmail-queue {ROOM}/bin/qmail-queue\n");
        let server = launcher.start(&room, &[]);
        let mut client = Client::connect(server.port);
        let reply = client.expect(421);
        assert!(!reply.lines.concat().contains("no_such_plugin"), "{launcher:?}: {reply:?}");
        client.closed();
    });
}
