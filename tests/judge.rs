//! mailfront, an independent caller of qmail-queue, as judge: the same dialog must give the same message and envelope.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use common::play::Play;
use common::replies;
use common::room::Room;
use common::store::{self, Queued};

/// What mailfront queues and says for a dialog.
fn mailfront(program: &Path, dialog: &str, fault: &str) -> (Vec<Queued>, Vec<u8>) {
    let room = Room::bare();
    let input = room.path("input");
    fs::write(&input, dialog).unwrap();
    let output = Command::new(program)
        .args(["smtp", "qmail", "accept"])
        .env_clear()
        .envs(room.environment())
        .env("QMAILQUEUE", room.stand_in())
        .env("QMAILHOME", room.root())
        .env("RELAYCLIENT", "")
        .env("POSTERN_TEST_QUEUE_FAULT", fault)
        .stdin(File::open(&input).unwrap())
        .output()
        .unwrap();
    (store::queued(&room), output.stdout)
}

fn ours(dialog: &str, fault: &str) -> (Vec<Queued>, Vec<u8>) {
    let room = Room::with_queue();
    let outcome = Play::new(&room).fault(fault).run(dialog.as_bytes());
    assert!(store::breaches(&room).is_empty(), "{:?}", store::breaches(&room));
    (store::queued(&room), outcome.output)
}

/// A whole session with this sender, these recipients and this content.
fn dialog(sender: &str, recipients: &[&str], content: &str) -> String {
    let recipients: String = recipients.iter().map(|path| format!("RCPT TO:<{path}>\r\n")).collect();
    format!("EHLO c.example\r\nMAIL FROM:<{sender}>\r\n{recipients}DATA\r\n{content}.\r\nQUIT\r\n")
}

#[test]
fn the_same_octets_reach_qmail_queue() {
    let Some(program) = common::require("mailfront") else {
        return;
    };
    let text = "Subject: x\r\n\r\n";
    let table: &[(&str, String)] = &[
        ("null sender", dialog("", &["x@here.example"], text)),
        ("plain", dialog("a@b.example", &["x@here.example"], &format!("{text}one\r\ntwo\r\n"))),
        ("two recipients", dialog("a@b.example", &["x@here.example", "y@here.example"], text)),
        ("dots", dialog("a@b.example", &["x@here.example"], &format!("{text}..\r\n...\r\n.x\r\nx.\r\n"))),
        ("empty", dialog("a@b.example", &["x@here.example"], "")),
        ("only a body", dialog("a@b.example", &["x@here.example"], "\r\nbody\r\n")),
        ("no header", dialog("a@b.example", &["x@here.example"], "one\r\ntwo: x\r\nthree\r\n")),
        ("quoted", dialog("\"a b\"@b.example", &["\"x\\@y\"@here.example"], text)),
        ("8 bit", dialog("a@b.example", &["x@here.example"], &format!("{text}\u{e9}\r\n"))),
        ("a long line", dialog("a@b.example", &["x@here.example"], &format!("{text}{}\r\n", "z".repeat(990)))),
    ];
    for (name, dialog) in table {
        let (theirs, their_output) = mailfront(&program, dialog, "");
        let (ours, our_output) = ours(dialog, "");
        assert_eq!(theirs.len(), 1, "{name}: the judge queued nothing: {}", String::from_utf8_lossy(&their_output));
        assert_eq!(ours.len(), 1, "{name}: {}", String::from_utf8_lossy(&our_output));
        assert_eq!(
            ours[0].envelope.escape_ascii().to_string(),
            theirs[0].envelope.escape_ascii().to_string(),
            "{name}"
        );
        // Both put trace fields in front; the judge's are one Received field or none.
        let sent = without_received(&theirs[0].message);
        store::trace_before(&ours[0].message, sent);
    }
}

/// The message after its first field, if that is a Received field.
fn without_received(message: &[u8]) -> &[u8] {
    if !message.starts_with(b"Received:") {
        return message;
    }
    let end = message.windows(2).position(|two| two[0] == b'\n' && !b" \t".contains(&two[1]));
    end.map_or(&[], |at| &message[at + 1..])
}

#[test]
fn the_same_class_of_reply_for_every_exit_status_of_the_table() {
    let Some(program) = common::require("mailfront") else {
        return;
    };
    let dialog = dialog("a@b.example", &["x@here.example"], "Subject: x\r\n\r\nx\r\n");
    for code in [11, 31, 32, 40, 51, 52, 53, 54, 55, 56, 61, 62, 63, 64, 65, 66, 71, 72, 73, 74, 81, 91, 120] {
        let fault = format!("exit={code}");
        let class = |output: &[u8]| {
            let replies = replies::of(output);
            replies::verdicts(&replies)[0].map(|reply| reply.class())
        };
        let (theirs, ours) = (class(&mailfront(&program, &dialog, &fault).1), class(&ours(&dialog, &fault).1));
        assert_eq!(ours, theirs, "exit {code}");
    }
}
