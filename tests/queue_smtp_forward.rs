//! queue/smtp-forward against a real Postfix and against a next hop that fails in every way.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
mod next_hop;

use std::time::{Duration, Instant};

use common::play::{Outcome, Play};
use common::replies::{self, Reply};
use common::room::Room;
use common::workers;
use common::{handover, mta};
use next_hop::{Fault, Real, StandIn, WELL, Ways};

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

/// The reply before 221.
fn before_goodbye(outcome: &Outcome) -> Reply {
    let replies = replies::of(&outcome.output);
    replies[replies.len() - 2].clone()
}

/// One message by BDAT.
fn bdat(body: &str, content: &[u8]) -> Vec<u8> {
    let before = format!("EHLO c.example\r\nMAIL FROM:<a@c.example> BODY={body}\r\nRCPT TO:<x@here.example>\r\n");
    [before.as_bytes(), format!("BDAT {} LAST\r\n", content.len()).as_bytes(), content, b"QUIT\r\n"].concat()
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

/// 150 KiB: two whole chunks and a part of one.
fn three_chunks() -> Vec<u8> {
    [&b"Subject: chunks\r\n\r\n"[..], &b".0123456789 0123456789 01234567\r\n".repeat(4700)].concat()
}

/// Every fault at every chunk: 250 only by the reply to the last, a refusal keeps its class, and is followed by RSET.
#[test]
fn a_next_hop_that_fails_at_a_chunk() {
    let faults = [
        (Fault::Closes, 451),
        (Fault::Says("nonsense\r\n"), 451),
        (Fault::Says("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"), 451),
        (Fault::Says("354 go on\r\n"), 451),
        (Fault::Says("421 4.3.2 bye\r\n"), 451),
        (Fault::Says("452 4.3.1 full\r\n"), 451),
        (Fault::Says("552 5.3.4 too big\r\n"), 554),
        (Fault::Says("503 5.5.1 what?\r\n"), 554),
        (Fault::Stalls, 451),
        (Fault::Dribbles, 451),
        (Fault::Waits(Duration::from_millis(300)), 250),
    ];
    let steps = ["first", "middle", "last"];
    let all: Vec<(&'static str, Fault, u16)> =
        steps.iter().flat_map(|step| faults.iter().map(|(fault, code)| (*step, fault.clone(), *code))).collect();
    let content = three_chunks();
    let rows = workers::each(&all, |(step, fault, _)| {
        let hop = StandIn::with(Ways { chunking: true, step, fault: Some(fault.clone()), ..WELL });
        let spare = StandIn::with(WELL);
        let room = room(&format!("127.0.0.1:{},127.0.0.1:{} timeout 1 deadline 2", hop.port, spare.port));
        let began = Instant::now();
        let outcome = Play::new(&room).run(&session(&["x"], &content));
        let refused = matches!(fault, Fault::Says(text) if text.starts_with('5') || text.starts_with("45"));
        let said = if refused { hop.said("QUIT") } else { Vec::new() };
        (hop.taken(), spare.taken(), decided(&outcome), began.elapsed(), said, outcome.log)
    });
    for ((step, fault, code), (taken, spare, reply, time, said, log)) in all.iter().zip(rows) {
        eprintln!("| {step:<8} | {fault:<60?} | {} {} | spare {} |", reply.code, reply.lines[0], spare.len());
        let first_word = *step == "last" && matches!(fault, Fault::Says(text) if text.starts_with("250"));
        // The next host is asked where the message's end was not sent and nobody refused it.
        let refusal = matches!(fault, Fault::Says(text) if text.starts_with('5') || text.starts_with("45"));
        let goes_on = *step != "last" && !refusal && *code != 250;
        // What stalls takes the time of the whole hand-over, or leaves some for the next host.
        let slow = matches!(fault, Fault::Stalls | Fault::Dribbles);
        if !slow || !goes_on {
            assert_eq!(
                reply.code,
                if first_word || goes_on { 250 } else { *code },
                "{step} {fault:?}: {reply:?} {log}"
            );
            assert_eq!(spare.len(), usize::from(goes_on), "{step} {fault:?}: {log}");
        }
        assert_eq!(reply.code == 250, spare.len() == 1 || *code == 250 || first_word, "{step} {fault:?}: {log}");
        assert!(taken.iter().chain(&spare).all(|message| message.ends_with(&content)), "{step} {fault:?}: changed");
        assert_eq!(!taken.is_empty(), *step == "last" || *code == 250, "{step} {fault:?}: {log}");
        if refusal && *step != "last" {
            assert_eq!(said[said.len() - 2..], ["RSET", "QUIT"], "{step} {fault:?}");
        }
        assert!(time < Duration::from_secs(8), "{step} {fault:?}: {time:?}");
    }
}

/// Declared binary, any octets go through, in any size around that of a chunk; told not to, or not offered, nothing does.
#[test]
fn binary_content() {
    let binary = |size: usize| -> Vec<u8> {
        b"Subject: b\r\n\r\n\n\r\0\r\n.\r\n\xff".iter().copied().cycle().take(size).collect()
    };
    // What we put on top makes the exact size of a chunk hard to hit, so a range of sizes goes over it.
    for size in [30, 65_000, 65_536, 131_072, 200_001] {
        let hop = StandIn::with(Ways { chunking: true, ..WELL });
        let outcome =
            Play::new(&room(&format!("127.0.0.1:{} binarymime 1", hop.port))).run(&bdat("BINARYMIME", &binary(size)));
        assert_eq!(before_goodbye(&outcome).code, 250, "{}", outcome.log);
        assert!(hop.taken()[0].ends_with(&binary(size)), "{size}");
        assert!(hop.said("QUIT").iter().any(|line| line.contains("BODY=BINARYMIME")));
    }
    let hop = StandIn::with(WELL);
    let outcome =
        Play::new(&room(&format!("127.0.0.1:{} binarymime 1", hop.port))).run(&bdat("BINARYMIME", &binary(30)));
    let reply = before_goodbye(&outcome);
    assert!(reply.code == 554 && reply.lines[0].starts_with("5.6.3 "), "{reply:?} {}", outcome.log);
    // Not offered unless the line says so: refused at MAIL.
    let hop = StandIn::with(Ways { chunking: true, ..WELL });
    let outcome = Play::new(&room(&format!("127.0.0.1:{}", hop.port))).run(&bdat("BINARYMIME", &binary(30)));
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    assert!(text.contains("555 5.5.4 BODY") && !text.contains("BINARYMIME\r\n"), "{text}");
    // Text whose last line has no end stays without one.
    let hop = StandIn::with(Ways { chunking: true, ..WELL });
    let outcome =
        Play::new(&room(&format!("127.0.0.1:{}", hop.port))).run(&bdat("8BITMIME", b"Subject: x\r\n\r\n.no end"));
    assert_eq!(before_goodbye(&outcome).code, 250, "{}", outcome.log);
    assert!(hop.taken()[0].ends_with(b"\r\n.no end"));
}

/// The replies to RCPT: the recipients with these names, then one that is not ours.
fn asked(room: &Room, names: &[&str]) -> (Vec<Reply>, Outcome) {
    let paths: String = names.iter().map(|name| format!("RCPT TO:<{name}@here.example>\r\n")).collect();
    let input = format!(
        "EHLO c.example\r\nMAIL FROM:<a@c.example>\r\n{paths}RCPT TO:<x@far.example>\r\nRSET\r\nMAIL FROM:<b@c.example>\r\n\
         RCPT TO:<x@here.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
    );
    let outcome = Play::new(room).run(input.as_bytes());
    let replies = replies::of(&outcome.output);
    (replies[3..4 + names.len()].to_vec(), outcome)
}

fn codes(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.code).collect()
}

#[test]
fn postfix_is_asked_about_recipients() {
    let Some(postfix) = Real::postfix("smtpd_authorized_xforward_hosts = 127.0.0.0/8\n") else { return };
    for order in ["rcpt_ok\n{Q}\n", "{Q}\nrcpt_ok\n"] {
        let line = format!("queue/smtp-forward 127.0.0.1 {} ask_recipients 1", postfix.port);
        let room = Room::new(&order.replace("{Q}", &line));
        let (replies, outcome) = asked(&room, &["x", "no", "later", "y"]);
        for reply in &replies {
            eprintln!("| Postfix asked | {} {} |", reply.code, reply.lines[0]);
        }
        assert_eq!(codes(&replies), [250, 550, 450, 250, 550], "{order}: {replies:?} {}", outcome.log);
        assert!(replies[1].lines[0].starts_with("5.1.1 <no@here.example>: Recipient address rejected"), "{replies:?}");
        assert!(
            replies[2].lines[0].starts_with("4.2.1 <later@here.example>: Recipient address rejected"),
            "{replies:?}"
        );
        assert!(replies[4].lines[0].contains("relaying denied"), "{replies:?}");
        // The one that was sent after that.
        assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
    }
    assert_eq!(postfix.mail(2).len(), 2);
    // Every question's connection said goodbye.
    assert!(!postfix.log().contains("lost connection after RCPT"), "{}", postfix.log());
}

#[test]
fn a_next_hop_is_asked_about_recipients() {
    let line =
        |hop: &StandIn| format!("queue/smtp-forward 127.0.0.1:{} timeout 1 deadline 2 ask_recipients 1", hop.port);
    // What it would take vouches for nobody.
    let hop = StandIn::with(WELL);
    let (replies, outcome) = asked(&Room::new(&line(&hop)), &["x"]);
    assert_eq!(codes(&replies), [450, 450], "{}", outcome.log);
    assert!(hop.said("").is_empty(), "nobody vouched, so nobody is asked");
    // One connection a transaction, none for what is refused anyway, and it is over before the message is sent.
    let (replies, outcome) = asked(&Room::new(&format!("rcpt_ok\n{}", line(&hop))), &["x", "no", "later", "y"]);
    assert_eq!(codes(&replies), [250, 550, 450, 250, 550], "{}", outcome.log);
    let said = hop.said("QUIT");
    let ask = |sender: &str, names: &[&str]| {
        let names = names.iter().map(|name| format!("RCPT TO:<{name}@here.example>"));
        let begin = ["EHLO mx.example".to_owned(), format!("MAIL FROM:<{sender}@c.example>")];
        begin.into_iter().chain(names).collect::<Vec<_>>()
    };
    let end = || ["RSET".to_owned(), "QUIT".to_owned()];
    let first = [ask("a", &["x", "no", "later", "y"]), end().to_vec(), ask("b", &["x"]), end().to_vec()].concat();
    assert_eq!(said[..first.len()], first, "{said:?}");
    assert_eq!(said[first.len()..], [ask("b", &["x"]), vec!["DATA".to_owned(), "QUIT".to_owned()]].concat());
    // One that hangs up after two refusals is asked anew.
    let hop = StandIn::with(Ways { refusals_max: 2, ..WELL });
    let (replies, outcome) =
        asked(&Room::new(&format!("rcpt_ok\n{}", line(&hop))), &["no1", "no2", "no3", "no4", "no5", "x"]);
    assert_eq!(codes(&replies), [550, 550, 550, 550, 550, 250, 550], "{}", outcome.log);
    // Trouble is no opinion, and costs its time once.
    let faults =
        [Fault::Closes, Fault::Says("nonsense\r\n"), Fault::Says("421 bye\r\n"), Fault::Stalls, Fault::Dribbles];
    let all: Vec<(&'static str, Fault)> = ["greeting", "EHLO", "MAIL", "RCPT"]
        .iter()
        .flat_map(|step| faults.iter().map(|fault| (*step, fault.clone())))
        .collect();
    let rows = workers::each(&all, |(step, fault)| {
        let hop = StandIn::start(false, step, Some(fault.clone()));
        asked(&Room::new(&format!("rcpt_ok\n{}", line(&hop))), &["x", "y", "z"])
    });
    for ((step, fault), (replies, outcome)) in all.iter().zip(rows) {
        assert_eq!(codes(&replies), [250, 250, 250, 550], "{step} {fault:?}: {}", outcome.log);
        assert_eq!(decided(&outcome).code, 451, "{step} {fault:?}: {}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(10), "{step} {fault:?}: {:?}", outcome.elapsed);
    }
}

/// Everything that a careless hand-over changes, to each real server, by DATA and where it is offered by BDAT.
fn byte_for_byte(server: &str, lines: &[&str], recipient: &str, mut next: impl FnMut() -> Vec<u8>) {
    let big = [&b"Subject: large\r\n\r\n"[..], &b".0123456789\r\n..\r\n".repeat(12_000)].concat();
    let further = [("large", big), ("998 octets and dots", odd_content())];
    for line in lines {
        for (what, message) in handover::messages().into_iter().chain(further.clone()) {
            let outcome = Play::new(&room(line)).run(&handover::session("a@client.example", recipient, &message));
            let reply = handover::decided("smtp-forward", &format!("{server}: {what}"), &outcome);
            assert_eq!(reply.code, 250, "{server} {line}: {what}: {}", outcome.log);
            let stored = next();
            assert!(handover::is_whole(&stored, &message), "{line}: {what}: {}", String::from_utf8_lossy(&stored));
        }
    }
}

#[test]
fn postfix_has_everything_byte_for_byte() {
    let Some(postfix) = Real::postfix("") else { return };
    let line = format!("127.0.0.1 {}", postfix.port);
    let next = || mta::next(&postfix.dir.path().join("mail/inbox"), &|| postfix.log());
    byte_for_byte("Postfix", &[&line, &format!("{line} chunking 0")], "x@here.example", next);
    // Which of the two it was, by its own count.
    let log = postfix.log();
    assert!(log.matches(" bdat=").count() == 8 && log.contains(" bdat=5 ") && log.contains(" data=1 "), "{log}");
    // Text whose last line has no end: Postfix ends it, whoever sends it how.
    let outcome = Play::new(&room(&line)).run(&bdat("8BITMIME", b"Subject: x\r\n\r\n.no end"));
    assert_eq!(before_goodbye(&outcome).code, 250, "{}", outcome.log);
    assert!(next().ends_with(b"\n\n.no end\n"));
}

/// Exim offers CHUNKING too.
#[test]
fn exim() {
    let Some(files) = mta::Exim::unpack(next_hop::EXIM.0, next_hop::EXIM.1) else { return };
    let server = Real::exim(&files);
    let line = format!("127.0.0.1:{}", server.port);
    let next = || mta::next(&files.inbox(), &|| files.log() + &server.output());
    let small = "Subject: x\r\n\r\nx\r\n";
    let large = format!("Subject: x\r\n\r\n{}", "y\r\n".repeat(400_000));
    let table: [(&str, &[&str], &str, u16, &str); 7] = [
        ("all well", &["x"], small, 250, "2.0.0 queued as "),
        ("an unknown recipient", &["no"], small, 554, "5.3.0 <no@here.example>: nobody"),
        ("one of two unknown", &["x", "no"], small, 554, "5.3.0 <no@here.example>: nobody"),
        ("one unknown, one busy", &["x", "no", "later"], small, 451, "4.3.0 <later@here.example>: busy"),
        ("too big", &["x"], &large, 554, "5.3.4 "),
        ("its header", &["x"], "Subject: bad\r\n\r\nx\r\n", 554, "5.3.0 no bad ones"),
        ("well again", &["x"], small, 250, "2.0.0 queued as "),
    ];
    for (what, recipients, content, code, text) in table {
        for further in ["", " chunking 0"] {
            let outcome = Play::new(&room(&format!("{line}{further}"))).run(&session(recipients, content.as_bytes()));
            let reply = decided(&outcome);
            eprintln!("| Exim{further}: {what:<22} | {} {} |", reply.code, reply.lines[0]);
            assert_eq!(reply.code, code, "{what}: {reply:?} {} {}", outcome.log, files.log());
            assert!(reply.lines[0].starts_with(text), "{what}: {reply:?} {}", outcome.log);
            if code == 250 {
                assert!(String::from_utf8_lossy(&next()).ends_with("\n\nx\n"));
            }
        }
    }
    byte_for_byte("Exim", &[&line, &format!("{line} chunking 0")], "x@here.example", next);
    // K in its log is BDAT.
    let log = files.log();
    assert_eq!((log.matches(" K S=").count(), log.matches(" P=esmtp S=").count()), (10, 10), "{log}");
    let outcome = Play::new(&room(&line)).run(&bdat("8BITMIME", b"Subject: x\r\n\r\n.no end"));
    assert_eq!(before_goodbye(&outcome).code, 250, "{}", outcome.log);
    let stored = String::from_utf8(next()).unwrap();
    assert!(stored.trim_end_matches('\n').ends_with("\n\n.no end"), "{stored}");
    eprintln!("| Exim: no end | {:?} |", &stored[stored.len() - 10..]);
    let (replies, outcome) =
        asked(&Room::new(&format!("rcpt_ok\nqueue/smtp-forward {line} ask_recipients 1\n")), &["x", "no", "later"]);
    assert_eq!(codes(&replies), [250, 550, 450, 550], "{}", outcome.log);
}

#[test]
fn opensmtpd() {
    let Some(server) = Real::opensmtpd(true) else { return };
    let line = format!("127.0.0.1:{}", server.port);
    let large = format!("Subject: x\r\n\r\n{}", "y\r\n".repeat(3000));
    let small = "Subject: x\r\n\r\nx\r\n";
    let next = || mta::next(&server.dir.path().join("mail"), &|| server.output());
    let table: [(&str, &[&str], &str, u16, &str); 4] = [
        ("all well", &["u"], small, 250, "2.0.0 queued as "),
        ("an unknown recipient", &["no"], small, 554, "5.3.0 Invalid recipient: <no@here.example>"),
        ("one of two unknown", &["u", "no"], small, 554, "5.3.0 Invalid recipient: <no@here.example>"),
        ("too big", &["u"], &large, 554, "5.3.4 "),
    ];
    for (what, recipients, content, code, text) in table {
        let outcome = Play::new(&room(&line)).run(&session(recipients, content.as_bytes()));
        let reply = decided(&outcome);
        eprintln!("| OpenSMTPD: {what:<22} | {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, code, "{what}: {reply:?} {} {}", outcome.log, server.output());
        assert!(reply.lines[0].starts_with(text), "{what}: {reply:?} {}", outcome.log);
        if code == 250 {
            assert!(String::from_utf8_lossy(&next()).ends_with("\n\nx\n"));
        }
    }
    let (replies, outcome) =
        asked(&Room::new(&format!("rcpt_ok\nqueue/smtp-forward {line} ask_recipients 1\n")), &["u", "no"]);
    assert_eq!(codes(&replies), [250, 550, 550], "{}", outcome.log);
    let Some(server) = Real::opensmtpd(false) else { return };
    let next = || mta::next(&server.dir.path().join("mail"), &|| server.output());
    byte_for_byte("OpenSMTPD", &[&format!("127.0.0.1:{}", server.port)], "u@here.example", next);
}

/// By IPv6, by Unix socket, and by the next host where the first is dead; with and without a recipient question before.
#[test]
fn every_way_to_a_next_hop() {
    let Ok(v6) = StandIn::at("[::1]:0", WELL) else { return common::skip("there is no IPv6 here") };
    let sockets = tempfile::Builder::new().prefix("ph-").tempdir_in("/tmp").unwrap();
    let path = sockets.path().join("smtp");
    let unix = StandIn::on_socket(&path, Ways { chunking: true, ..WELL });
    let (v6_port, path, dead) = (v6.port, path.to_str().unwrap().to_owned(), next_hop::free_port());
    let gone = sockets.path().join("gone").to_str().unwrap().to_owned();
    let table = [
        (format!("[::1]:{v6_port}"), &v6),
        (format!("[::1] {v6_port}"), &v6),
        (format!("::1 {v6_port}"), &v6),
        (path.clone(), &unix),
        (format!("127.0.0.1:{dead},[::1]:{v6_port},{path}"), &v6),
        (format!("[::1]:{dead},{path}"), &unix),
        (format!("{gone},{path}"), &unix),
        (format!("{gone},[::1]:{dead} host 127.0.0.1:{dead} host [::1]:{v6_port}"), &v6),
    ];
    for further in ["", " ask_recipients 1"] {
        for (line, hop) in &table {
            let before = (v6.taken().len(), unix.taken().len());
            let outcome = Play::new(&room(&format!("{line}{further}"))).run(&session(&["x"], SMALL));
            let reply = decided(&outcome);
            eprintln!("| {line}{further} | {} {} |", reply.code, reply.lines[0]);
            assert_eq!(reply.code, 250, "{line}{further}: {}", outcome.log);
            assert!(hop.taken().last().unwrap().ends_with(SMALL), "{line}{further}");
            let after = (v6.taken().len(), unix.taken().len());
            assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "{line}{further}: once, and to one");
            assert!((after.0 > before.0) == (hop.port != 0), "{line}{further}: to the right one");
        }
    }
}

/// A real Postfix that listens on IPv6 alone, and knows the client by XCLIENT.
#[test]
fn postfix_by_ipv6() {
    if StandIn::at("[::1]:0", WELL).is_err() {
        return common::skip("there is no IPv6 here");
    }
    let options = "smtpd_authorized_xclient_hosts = [::1]/128\nmynetworks = 127.0.0.0/8, [::1]/128\n";
    let Some(postfix) = Real::postfix_on("[::1]", options) else { return };
    for (line, further) in [("[::1]", ""), ("::1", " xclient"), ("127.0.0.1 host [::1]", " xclient ask_recipients 1")] {
        let (host, rest) = line.split_once(' ').unwrap_or((line, ""));
        let room = room(&format!("{host} {}{further} {rest}", postfix.port));
        let outcome = Play::new(&room)
            .variable("TCPREMOTEIP", "2001:db8::7")
            .variable("PROTO", "TCP")
            .run(&session(&["x"], &odd_content()));
        assert_eq!(decided(&outcome).code, 250, "{line}{further}: {} {}", outcome.log, postfix.log());
        let mail = mta::next(&postfix.dir.path().join("mail/inbox"), &|| postfix.log());
        assert!(handover::is_whole(&mail, &odd_content()), "{}", String::from_utf8_lossy(&mail));
    }
    assert!(postfix.log().contains("client=unknown[2001:db8::7]"), "{}", postfix.log());
}

/// As the manual says: a Postfix without IPv6 does not take an IPv6 client by XCLIENT.
#[test]
fn postfix_without_ipv6_and_an_ipv6_client() {
    let options = "smtpd_authorized_xclient_hosts = 127.0.0.0/8\ninet_protocols = ipv4\n";
    let Some(postfix) = Real::postfix(options) else { return };
    for (ip, code) in [("203.0.113.7", 250), ("2001:db8::7", 451)] {
        let outcome = Play::new(&room(&format!("127.0.0.1 {} xclient", postfix.port)))
            .variable("TCPREMOTEIP", ip)
            .variable("PROTO", "TCP")
            .run(&session(&["x"], SMALL));
        assert_eq!(decided(&outcome).code, code, "{ip}: {} {}", outcome.log, postfix.log());
        assert_eq!(outcome.log.contains("XCLIENT: 501"), code == 451, "{ip}: {}", outcome.log);
    }
}

/// A message that does not fit into memory, at constant memory, unchanged.
#[test]
fn a_long_message() {
    let content = format!("Subject: long\r\n\r\n{}", ".a line with a dot\r\n..\r\nand one without\r\n".repeat(100_000));
    for (chunking, setting) in [(false, 1), (true, 0), (true, 1)] {
        let hop = StandIn::with(Ways { chunking, ..WELL });
        let room = room(&format!("127.0.0.1:{} chunking {setting}", hop.port));
        room.config("size_threshold", "65536\n");
        let outcome = Play::new(&room).run(&session(&["x"], content.as_bytes()));
        assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
        assert!(hop.taken()[0].ends_with(content.as_bytes()));
        let chunks = hop.said("QUIT").iter().filter(|line| line.starts_with("BDAT ")).count();
        assert_eq!(chunks > 60, chunking && setting == 1, "{chunks} chunks");
    }
}

#[test]
fn killed_in_the_hand_over() {
    next_hop::killed_in_the_hand_over("queue/smtp-forward", &session(&["x", "y"], SMALL), SMALL);
}
