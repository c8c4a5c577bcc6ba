//! Whether a sender who asks for a notice of success gets one: through the program into a real Postfix, whose notice must bear
//! ENVID and ORCPT; and a notice of failure, with as much of the message as RET says.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
mod next_hop;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::play::Play;
use common::postfix::Postfix;
use common::room::Room;
use common::{replies, store};
use next_hop::{Real, StandIn, WELL, Ways};

/// What is asked for each message, and what its sender is told: the word, and whether the body comes back (RET is about failures
/// alone, RFC 3461 §4.3).
const MESSAGES: [(&str, &str, &str, &str, Option<(&str, bool)>); 6] = [
    ("one", "HDRS", "SUCCESS,FAILURE", "x@here.example", Some(("delivered", false))),
    ("two", "FULL", "SUCCESS", "x@here.example", Some(("delivered", false))),
    ("three", "FULL", "FAILURE,DELAY", "x@here.example", None),
    ("four", "FULL", "SUCCESS,FAILURE", "gone@far.example", Some(("failed", true))),
    ("five", "HDRS", "FAILURE", "gone@far.example", Some(("failed", false))),
    ("six", "FULL", "NEVER", "gone@far.example", None),
];

fn input() -> Vec<u8> {
    let all: String = MESSAGES
        .iter()
        .map(|(mark, ret, notify, to, _)| {
            format!(
                "MAIL FROM:<sender@here.example> RET={ret} ENVID=Q+2BQ-{mark}\r\n\
                 RCPT TO:<{to}> NOTIFY={notify} ORCPT=rfc822;first-{mark}+2Bthen@old.example\r\n\
                 DATA\r\nSubject: {mark}\r\n\r\nbody of {mark}\r\n.\r\n"
            )
        })
        .collect();
    format!("EHLO client.example\r\n{all}QUIT\r\n").into_bytes()
}

/// Everything in a maildir, once there is as much as that.
fn mail(inbox: &Path, count: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(20);
    while store::delivered(inbox).len() < count && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    store::delivered(inbox).iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect()
}

fn notices_arrive(backend: &str, line: &str, inbox: &Path, log: &dyn Fn() -> String) {
    let room = Room::new(&format!("rcpt_ok\n{line}\n"));
    // Taken, and then undeliverable.
    room.config("rcpthosts", "here.example\nfar.example\n");
    let outcome = Play::new(&room).run(&input());
    let accepted = replies::verdicts(&replies::of(&outcome.output))
        .into_iter()
        .flatten()
        .filter(|reply| reply.code == 250)
        .count();
    assert_eq!(accepted, 6, "{outcome:?}");
    // Three are delivered, four notices come.
    let all = mail(inbox, 7);
    let notices: Vec<&String> = all.iter().filter(|mail| mail.contains("report-type=delivery-status")).collect();
    assert_eq!((all.len(), notices.len()), (7, 4), "{backend}: {all:?} {}", log());
    for (mark, ret, notify, to, wanted) in MESSAGES {
        let envelope = format!("\nOriginal-Envelope-Id: Q+Q-{mark}\n");
        let found: Vec<_> = notices.iter().filter(|mail| mail.contains(&envelope)).collect();
        let shown = wanted.map_or("no notice", |(action, _)| action);
        eprintln!(
            "| {backend:<13} | RET={ret} NOTIFY={notify:<15} ENVID=Q+2BQ-{mark:<5} | {shown:<9} | notices {} |",
            found.len()
        );
        assert_eq!(found.len(), usize::from(wanted.is_some()), "{backend}: {mark}: {notices:?}");
        let (Some((action, whole)), [notice]) = (wanted, &found[..]) else { continue };
        for line in [
            format!("Original-Recipient: rfc822;first-{mark}+then@old.example"),
            format!("Final-Recipient: rfc822; {to}"),
            format!("Action: {action}"),
            "To: sender@here.example".to_owned(),
        ] {
            assert!(notice.contains(&format!("\n{line}\n")), "{backend}: {line}: {notice}");
        }
        assert_eq!(notice.contains(&format!("\nbody of {mark}\n")), whole, "{backend}: {notice}");
    }
}

#[test]
fn by_smtp_forward() {
    // It takes mail that it then cannot deliver, as others do.
    let Some(postfix) = Real::postfix("smtpd_reject_unlisted_recipient = no\n") else { return };
    let line = format!("queue/smtp-forward 127.0.0.1 {} dsn 1", postfix.port);
    notices_arrive("smtp-forward", &line, &postfix.dir.path().join("mail/inbox"), &|| postfix.log());
}

#[test]
fn by_postfix_queue() {
    let Some(postfix) = Postfix::start("") else { return };
    let line = format!("queue/postfix-queue {}", postfix.socket().display());
    notices_arrive("postfix-queue", &line, &postfix.path("mail/inbox"), &|| postfix.log());
}

#[test]
fn by_postdrop() {
    let Some(postfix) = Postfix::start("") else { return };
    let line = format!("queue/postdrop /usr/sbin/postdrop -c {}", postfix.path("etc").display());
    notices_arrive("postdrop", &line, &postfix.path("mail/inbox"), &|| postfix.log());
}

/// `dsn 1` without ground: who asks for a notice of success is refused, for nobody would send one.
#[test]
fn no_notice_is_promised_that_nobody_sends() {
    let hop = StandIn::with(Ways { chunking: true, ..WELL });
    let room = Room::new(&format!("rcpt_ok\nqueue/smtp-forward 127.0.0.1:{} dsn 1\n", hop.port));
    let outcome = Play::new(&room).run(&input());
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    assert_eq!(text.matches("554 5.3.3 ").count(), 2, "{text}");
    // The third; the other three are not for us.
    assert_eq!(hop.taken().len(), 1, "{text}");
    // And without it: not offered, refused at MAIL.
    let outcome = Play::new(&Room::new(&format!("rcpt_ok\nqueue/smtp-forward 127.0.0.1:{}\n", hop.port))).run(&input());
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    assert!(!text.contains("DSN\r\n") && text.contains("555 5.5.4 RET and ENVID"), "{text}");
}
