//! queue/smtp-forward against a real Postfix and against a next hop that fails in every way.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
mod next_hop;

use std::time::{Duration, Instant};

use common::play::{Outcome, Play};
use common::replies::{self, Reply};
use common::room::Room;
use common::workers;
use next_hop::{Fault, Real, StandIn};

/// Dots, no header, 8-bit, a line of 998 octets: as sent, dots not yet stuffed.
fn odd_content() -> Vec<u8> {
    let long = "x".repeat(998);
    [b".leading dot, no header\r\n..two\r\n.\r\n\r\n\xe4\xf6 8-bit\r\n", long.as_bytes(), b"\r\n.last\r\n"].concat()
}

fn stuffed(content: &[u8]) -> Vec<u8> {
    content
        .split_inclusive(|octet| *octet == b'\n')
        .flat_map(|line| [if line.starts_with(b".") { &b"."[..] } else { b"" }, line].concat())
        .collect()
}

fn session(recipients: &[&str], content: &[u8]) -> Vec<u8> {
    let paths: String = recipients.iter().map(|name| format!("RCPT TO:<{name}@here.example>\r\n")).collect();
    let before = format!("EHLO client.example\r\nMAIL FROM:<a@client.example> BODY=8BITMIME\r\n{paths}DATA\r\n");
    [before.as_bytes(), &stuffed(content), b".\r\nQUIT\r\n"].concat()
}

fn room(line: &str) -> Room {
    Room::new(&format!("rcpt_ok\nqueue/smtp-forward {line}\n"))
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

#[test]
fn postfix_has_it_byte_for_byte() {
    let Some(postfix) = Real::postfix("smtpd_authorized_xforward_hosts = 127.0.0.0/8\n") else { return };
    let room = room(&format!("127.0.0.1 {}", postfix.port));
    let content = odd_content();
    let outcome = Play::new(&room)
        .variable("TCPREMOTEIP", "203.0.113.7")
        .variable("PROTO", "TCP")
        .run(&session(&["x"], &content));
    let reply = decided(&outcome);
    assert_eq!(reply.code, 250, "{reply:?} {}", outcome.log);
    let mail = postfix.mail(1);
    let wanted = String::from_utf8_lossy(&content).replace("\r\n", "\n");
    assert_eq!(mail.len(), 1, "{}", postfix.log());
    let found = String::from_utf8_lossy(&mail[0]);
    assert!(found.ends_with(&format!("\n\n{wanted}")), "{found}");
    assert!(found.contains("\nReceived: from client.example"), "{found}");
    // The queue id of its log, and the real client in it.
    let id = reply.lines[0].split(" as ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let line =
        postfix.log().lines().find(|line| line.contains(&format!("{id}: client="))).unwrap_or_default().to_owned();
    assert!(line.contains("orig_client=unknown[203.0.113.7]"), "{reply:?} {}", postfix.log());
}

#[test]
fn postfix_sees_our_client_by_xclient() {
    let options = "smtpd_authorized_xclient_hosts = 127.0.0.0/8\nsmtpd_client_restrictions = check_client_access inline:{203.0.113.9=REJECT}\n";
    let Some(postfix) = Real::postfix(options) else { return };
    let room = room(&format!("127.0.0.1 {} xclient", postfix.port));
    let play = |ip: &str| {
        let outcome = Play::new(&room)
            .variable("TCPREMOTEIP", ip)
            .variable("PROTO", "TCP")
            .run(&session(&["x"], b"Subject: x\r\n\r\nx\r\n"));
        (decided(&outcome), outcome.log)
    };
    let (reply, log) = play("203.0.113.7");
    assert_eq!(reply.code, 250, "{reply:?} {log}");
    let (reply, log) = play("2001:db8::7");
    assert_eq!(reply.code, 250, "{reply:?} {log}");
    let (reply, log) = play("203.0.113.9");
    assert_eq!((reply.code, reply.lines[0].contains("Client host rejected")), (554, true), "{reply:?} {log}");
    let mail = postfix.mail(2);
    let all: String = mail.iter().map(|mail| String::from_utf8_lossy(mail)).collect();
    assert_eq!(mail.len(), 2);
    assert!(
        all.contains("[203.0.113.7])\n\tby hop.example") && all.contains("IPv6:2001:db8::7])\n\tby hop.example"),
        "{all}"
    );
}

/// What Postfix refuses, and what the client is told.
#[test]
fn what_postfix_refuses() {
    let Some(postfix) =
        Real::postfix("message_size_limit = 5000\nheader_checks = regexp:{{/^Subject: bad/ REJECT no bad ones}}\n")
    else {
        return;
    };
    let large = format!("Subject: x\r\n\r\n{}", "y\r\n".repeat(3000));
    let table: [(&str, &[&str], &str, u16, &str); 6] = [
        ("all well", &["x"], "Subject: x\r\n\r\nx\r\n", 250, "2.0.0 queued as "),
        ("an unknown recipient", &["no"], "Subject: x\r\n\r\nx\r\n", 554, "5.1.1 <no@here.example>: "),
        ("one of two unknown", &["x", "no"], "Subject: x\r\n\r\nx\r\n", 554, "5.1.1 <no@here.example>: "),
        (
            "one unknown, one busy",
            &["x", "no", "later"],
            "Subject: x\r\n\r\nx\r\n",
            451,
            "4.2.1 <later@here.example>: ",
        ),
        ("too big", &["x"], &large, 554, "5.3.4 "),
        ("its header", &["x"], "Subject: bad\r\n\r\nx\r\n", 554, "5.7.1 no bad ones"),
    ];
    for (what, recipients, content, code, text) in table {
        let room = room(&format!("localhost:{}", postfix.port));
        let outcome = Play::new(&room).run(&session(recipients, content.as_bytes()));
        let reply = decided(&outcome);
        eprintln!("| Postfix: {what:<22} | {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, code, "{what}: {reply:?} {}", outcome.log);
        assert!(reply.lines[0].starts_with(text), "{what}: {reply:?} {}", outcome.log);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(postfix.mail(1).len(), 1, "only the first is there");
}

const SMALL: &[u8] = b"Subject: x\r\n\r\none\r\n.two\r\n";
const STEPS: [&str; 7] = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "end"];

/// Every fault at every step: 451 within the limit, and never a 250.
#[test]
fn a_next_hop_that_fails() {
    let faults = [
        Fault::Closes,
        Fault::Says("nonsense\r\n"),
        Fault::Says("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
        Fault::Says("421 4.3.2 bye\r\n"),
        Fault::Stalls,
        Fault::Dribbles,
    ];
    let all: Vec<(&'static str, Fault)> =
        STEPS.iter().flat_map(|step| faults.iter().map(|fault| (*step, fault.clone()))).collect();
    let rows = workers::each(&all, |(step, fault)| {
        let hop = StandIn::start(false, step, Some(fault.clone()));
        let room = room(&format!("127.0.0.1:{} timeout 1 deadline 2", hop.port));
        let began = Instant::now();
        let outcome = Play::new(&room).run(&session(&["x"], SMALL));
        (hop.taken().len(), decided(&outcome), began.elapsed(), outcome.log)
    });
    for ((step, fault), (taken, reply, time, log)) in all.iter().zip(rows) {
        eprintln!("| {step:<8} | {fault:<60?} | {} {} |", reply.code, reply.lines[0]);
        // 250 after 354 is its word, and the first one counts.
        let well = matches!(*step, "content" | "end") && matches!(fault, Fault::Says(text) if text.starts_with("250"));
        assert_eq!(reply.code, if well { 250 } else { 451 }, "{step} {fault:?}: {reply:?} {log}");
        assert_eq!(taken > 0, *step == "end", "{step} {fault:?}: {log}");
        assert!(time < Duration::from_secs(8), "{step} {fault:?}: {time:?}");
    }
}

#[test]
fn nobody_there_and_slow_ones() {
    let outcome = Play::new(&room(&format!("127.0.0.1:{}", next_hop::free_port()))).run(&session(&["x"], SMALL));
    let reply = decided(&outcome);
    assert!(reply.code == 451 && reply.lines[0].starts_with("4.4.1 "), "{reply:?}");
    // Slow, but within its time; a goodbye that fails changes nothing; the second host where the first is down.
    for (step, fault) in
        [("end", Fault::Waits(Duration::from_millis(700))), ("QUIT", Fault::Closes), ("QUIT", Fault::Stalls)]
    {
        let hop = StandIn::start(false, step, Some(fault));
        let line = format!("127.0.0.1:{},127.0.0.1:{} timeout 2", next_hop::free_port(), hop.port);
        let outcome = Play::new(&room(&line)).run(&session(&["x"], SMALL));
        let reply = decided(&outcome);
        assert!(reply.code == 250 && reply.lines[0].contains("queued as STANDIN"), "{step}: {reply:?} {}", outcome.log);
        assert!(hop.taken()[0].ends_with(SMALL), "{step}");
    }
}

/// A message that does not fit into memory, at constant memory, unchanged.
#[test]
fn a_long_message() {
    let hop = StandIn::start(false, "", None);
    let room = room(&format!("127.0.0.1:{}", hop.port));
    room.config("size_threshold", "65536\n");
    let content = format!("Subject: long\r\n\r\n{}", ".a line with a dot\r\n..\r\nand one without\r\n".repeat(100_000));
    let outcome = Play::new(&room).run(&session(&["x"], content.as_bytes()));
    assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
    assert!(hop.taken()[0].ends_with(content.as_bytes()));
}
