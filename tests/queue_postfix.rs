//! `queue/postfix-queue` against a real Postfix, and against stand-ins that fail at every step: what is acknowledged arrives, as
//! it came, and what is refused is told in Postfix's words.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::play::{End, Outcome, Play};
use common::postfix::Postfix;
use common::replies::{self, Reply};
use common::room::Room;
use common::workers;

/// The line of the chain for a socket.
fn room(socket: &Path, more: &str) -> Room {
    let room = Room::new(&format!("rcpt_ok\nqueue/postfix-queue {} {more}\n", socket.display()));
    // So that a long message waits in a file.
    room.config("size_threshold", "65536\n");
    room
}

fn session(recipients: &[&str], content: &[u8]) -> Vec<u8> {
    let paths: String = recipients.iter().map(|path| format!("RCPT TO:<{path}>\r\n")).collect();
    let head = format!("EHLO helo.example\r\nMAIL FROM:<a@sender.example> BODY=8BITMIME\r\n{paths}");
    let chunk = format!("BDAT {} LAST\r\n", content.len());
    [head.as_bytes(), chunk.as_bytes(), content, b"QUIT\r\n"].concat()
}

/// A session of a client that the launcher knows.
fn play<'a>(room: &'a Room) -> Play<'a> {
    Play::new(room)
        .variable("TCPREMOTEIP", "192.0.2.7")
        .variable("TCPREMOTEPORT", "4711")
        .variable("TCPREMOTEHOST", "client.example")
        .variable("TCPLOCALIP", "192.0.2.25")
        .variable("TCPLOCALPORT", "25")
}

/// The reply that decided. What a killed program says last may be cut short.
fn verdict(outcome: &Outcome) -> Option<Reply> {
    let end = outcome.output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let replies = replies::of(&outcome.output[..end]);
    let last = replies.iter().rfind(|reply| reply.code != 221);
    let taken = replies.iter().filter(|reply| reply.lines[0].contains("recipient ok")).count();
    let before = replies.iter().rposition(|reply| reply.lines[0].contains("recipient ok"));
    (taken > 0 && before.is_some_and(|before| replies.len() > before + 1)).then(|| last.cloned()).flatten()
}

fn decided(outcome: &Outcome) -> Reply {
    verdict(outcome).unwrap_or_else(|| panic!("nothing decided: {outcome:?}"))
}

fn queue_id(reply: &Reply) -> String {
    assert_eq!(reply.code, 250, "{reply:?}");
    reply.lines[0].strip_prefix("2.0.0 queued as ").unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn what_is_accepted_arrives_as_it_came() {
    let Some(postfix) = Postfix::start("") else { return };
    let long = format!("Subject: long\r\n\r\n{}\r\n{}\r\n.\r\n", "x".repeat(900), "y".repeat(998));
    let large = format!("Subject: large\r\n\r\n{}", format!("{:-<62}\r\n", "line").repeat(40_000));
    let table: &[(&str, &[u8])] = &[
        ("plain", b"Subject: plain\r\n\r\nbody\r\n"),
        ("dots", b"Subject: dots\r\n\r\n.\r\n..\r\n.one\r\n\r\n.\r\n"),
        ("From lines", b"Subject: from\r\n\r\nFrom here\r\n>From there\r\n"),
        ("eight bits", b"Subject: bits\r\n\r\n\xe4\xff\x80\x01\r\n\r\n\r\n"),
        ("no header", b"only a body, no header\r\n\r\nsecond\r\n"),
        ("folded", b"Subject: folded\r\n\tsecond\r\nX-Empty:\r\n\r\n\r\n"),
        ("long lines", long.as_bytes()),
        ("large", large.as_bytes()),
    ];
    let unix = room(&postfix.socket(), "");
    let tcp = room(Path::new(&format!("127.0.0.1:{}", postfix.cleanup_port)), "");
    for (at, (name, content)) in table.iter().enumerate() {
        for (room, form) in [(&unix, "unix"), (&tcp, "tcp")] {
            let recipient = format!("{form}{at}@here.example");
            let outcome = play(room).run(&session(&[&recipient], content));
            let id = queue_id(&decided(&outcome));
            let mail = postfix.mail(&format!("Delivered-To: {recipient}"));
            let expected = String::from_utf8_lossy(content).replace("\r\n", "\n");
            let text = String::from_utf8_lossy(&mail);
            let (head, rest) = text.split_once("\n\tby mx.example (postern)").unwrap();
            assert!(head.contains("Received: from helo.example (client.example [192.0.2.7])"), "{name}: {head}");
            // Our field is above, as is an empty line where the message had no header.
            let (_, below) = rest.split_once(" +0000\n").unwrap();
            assert_eq!(below.strip_prefix('\n').filter(|_| *name == "no header").unwrap_or(below), expected, "{name}");
            let octets: Vec<u8> = content.iter().copied().filter(|octet| *octet != b'\r').collect();
            assert!(mail.ends_with(&octets), "{name}: octet for octet");
            assert!(postfix.log().contains(&format!("{id}: from=<a@sender.example>")), "{name}: {id} is in the log");
        }
    }
    // One message, several recipients; an address that needs quotes is one address.
    let outcome =
        play(&unix).run(&session(&["m1@here.example", "m2@here.example", "\"q q\"@here.example"], b"X: y\r\n\r\n"));
    queue_id(&decided(&outcome));
    for recipient in ["m1@here.example", "m2@here.example", "\"q q\"@here.example"] {
        postfix.mail(&format!("X-Original-To: {recipient}\n"));
    }
    eprintln!("| accepted and equal at the far end: {} messages over 2 kinds of socket |", table.len());
}

#[test]
fn postfix_refuses_in_its_own_words_and_knows_the_client() {
    let rules = "/^Subject: refuse-me/ REJECT content no\n/^Subject: hold-me/ DISCARD\n";
    let Some(postfix) = Postfix::start(
        "header_checks = regexp:{DIR}/etc/header_checks\nmessage_size_limit = 100000\nhopcount_limit = 20\n\
         virtual_alias_maps = inline:{{alias@here.example=real@here.example}}",
    ) else {
        return;
    };
    std::fs::write(postfix.path("etc/header_checks"), rules).unwrap();
    let unix = room(&postfix.socket(), "");
    let hops = format!("{}Subject: hops\r\n\r\n", "Received: from a by b; x\r\n".repeat(30));
    let big = format!("Subject: big\r\n\r\n{}", "0123456789\r\n".repeat(20_000));
    let table: &[(&str, &str, u16, &str)] = &[
        ("header check", "Subject: refuse-me\r\n\r\n", 554, "5.7.1 content no"),
        ("too many hops", &hops, 554, "5.4.0 too many hops"),
        ("too big", &big, 554, "5.3.4 message file too big"),
        ("nothing", "Subject: good\r\n\r\n", 250, "2.0.0 queued as"),
    ];
    for (did, content, code, text) in table {
        let outcome = play(&unix).run(&session(&["x@here.example"], content.as_bytes()));
        let reply = decided(&outcome);
        eprintln!("| cleanup: {did:<14} | client: {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, *code, "{did}: {reply:?}\n{}", postfix.log());
        assert!(reply.lines[0].starts_with(text), "{did}: {reply:?}");
    }
    let log = postfix.log();
    let seen = "from client.example[192.0.2.7]:4711; from=<a@sender.example> to=<x@here.example> proto=ESMTP helo=<helo.example>";
    let plain = seen.replace(":4711", "");
    assert!(log.contains(seen) || log.contains(&plain), "the reject line names the client:\n{log}");
    // Flags: what smtpd has, unless the line says otherwise.
    let bare = room(&postfix.socket(), "FLAG_NONE");
    assert_eq!(decided(&play(&bare).run(&session(&["n@here.example"], b"Subject: refuse-me\r\n\r\n"))).code, 250);
    queue_id(&decided(&play(&unix).run(&session(&["alias@here.example"], b"Subject: mapped\r\n\r\n"))));
    let mapped = postfix.mail("Subject: mapped");
    assert!(String::from_utf8_lossy(&mapped).contains("Delivered-To: real@here.example"));
}

/// A milter that refuses by what it is told of the client: reads packets, answers those that want an answer.
fn milter(listener: UnixListener, told: std::sync::mpsc::Sender<String>) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let answer = |stream: &mut UnixStream, octets: &[u8]| {
            let _ = stream.write_all(&[&(octets.len() as u32).to_be_bytes(), octets].concat());
        };
        let mut head = [0; 4];
        let mut recipient = String::new();
        while stream.read_exact(&mut head).is_ok() {
            let mut packet = vec![0; u32::from_be_bytes(head) as usize];
            stream.read_exact(&mut packet).unwrap();
            let text = packet[1..].escape_ascii().to_string();
            match packet[0] {
                b'O' => answer(&mut stream, &[b"O".as_slice(), &[0, 0, 0, 6], &[0; 8]].concat()),
                b'D' | b'Q' | b'A' => {}
                b'C' | b'H' => {
                    told.send(format!("{} {text}", char::from(packet[0]))).unwrap();
                    answer(&mut stream, b"c");
                }
                b'R' => {
                    recipient = text;
                    answer(&mut stream, b"c");
                }
                // At the end of the message: a recipient cannot be refused any more.
                b'E' if recipient.contains("never@") => answer(&mut stream, b"y550 5.7.9 the milter says no\0"),
                b'E' if recipient.contains("later@") => answer(&mut stream, b"y451 4.7.9 the milter says later\0"),
                _ => answer(&mut stream, b"c"),
            }
        }
    }
}

#[test]
fn a_milter_of_postfix_sees_the_real_client() {
    let Some(postfix) = Postfix::start("non_smtpd_milters = unix:{DIR}/milter\n") else { return };
    let listener = UnixListener::bind(postfix.path("milter")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(postfix.path("milter"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    thread::spawn(move || milter(listener, sender));
    let room = room(&postfix.socket(), "");
    for (recipient, code, text) in [
        ("good@here.example", 250, "2.0.0 queued as"),
        ("never@here.example", 554, "5.7.9 the milter says no"),
        ("later@here.example", 451, "4.7.9 the milter says later"),
    ] {
        let outcome = play(&room).run(&session(&[recipient], b"Subject: milter\r\n\r\n"));
        let reply = decided(&outcome);
        eprintln!("| milter: {recipient:<19} | client: {} {} |", reply.code, reply.lines[0]);
        assert_eq!(reply.code, code, "{reply:?}\n{}", postfix.log());
        assert!(reply.lines[0].starts_with(text), "{reply:?}");
    }
    let told: Vec<String> = told.try_iter().collect();
    assert!(told[0].starts_with("C client.example\\x004") && told[0].contains("192.0.2.7"), "{told:?}");
    assert!(told.iter().any(|one| one.starts_with("H helo.example")), "{told:?}");
}

/// Not Postfix: accepts one connection, and does this with it.
type StandIn = fn(&mut UnixStream);

const GREETING: &[u8] = b"protocol\0cleanup_protocol\0queue_id\0ABC1\0\0";
const OLD_GREETING: &[u8] = b"queue_id\0ABC1\0\0";
const STORED: &[u8] = b"status\x000\0reason\0\0\0";

fn say(client: &mut UnixStream, octets: &[u8]) {
    let _ = client.write_all(octets);
}

/// Reads to the last record, `X E`.
fn read_all(client: &mut UnixStream) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 65536]);
    while !seen.ends_with(b"X\0E\0") {
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
    }
}

fn hang(client: &mut UnixStream) {
    client.set_read_timeout(None).unwrap();
    let mut buffer = [0; 1];
    thread::sleep(Duration::from_secs(6));
    let _ = client.read(&mut buffer);
}

/// What it does; the reply's code, and words of it.
const STAND_INS: &[(&str, StandIn, u16, &str)] = &[
    ("hangs up at once", |_| {}, 451, "4.4.1"),
    ("never greets", hang, 451, "4.4.2 Unable to queue message: timeout"),
    ("greets with garbage", |client| say(client, b"\0\xff\xfe\0\0\0"), 451, "4.4.1"),
    ("greets without end", |client| (0..99).for_each(|_| say(client, &[b'x'; 4096])), 451, "4.4.1"),
    ("is an SMTP server", |client| say(client, b"220 mx.example ESMTP\r\n"), 451, "4.4.1"),
    ("greets and hangs up", |client| say(client, GREETING), 451, "4.4.2"),
    (
        "hangs up in the message",
        |client| {
            say(client, GREETING);
            let _ = client.read(&mut [0; 100]);
        },
        451,
        "4.4.2",
    ),
    (
        "reads nothing",
        |client| {
            say(client, GREETING);
            hang(client);
        },
        451,
        "4.4.2 Unable to queue message: timeout",
    ),
    (
        "hangs up after the message",
        |client| {
            say(client, GREETING);
            read_all(client);
        },
        451,
        "4.4.2",
    ),
    (
        "never answers",
        |client| {
            say(client, GREETING);
            read_all(client);
            hang(client);
        },
        451,
        "4.4.2 Unable to queue message: timeout",
    ),
    (
        "answers garbage",
        |client| {
            say(client, GREETING);
            read_all(client);
            say(client, b"\xff\0status\0ok\0\0");
        },
        451,
        "4.4.2",
    ),
    (
        "says yes before the end",
        |client| {
            say(client, GREETING);
            let _ = client.read(&mut [0; 100]);
            say(client, STORED);
        },
        451,
        "4.4.2",
    ),
    (
        "says no before the end",
        |client| {
            say(client, GREETING);
            let _ = client.read(&mut [0; 100]);
            say(client, b"status\x002\0reason\0\0\0");
            read_all(client);
        },
        451,
        "queue file write error",
    ),
    (
        "says yes with its greeting",
        |client| {
            say(client, &[GREETING, STORED].concat());
            read_all(client);
        },
        451,
        "4.4.1",
    ),
    (
        "drips for ever",
        |client| {
            (0..80).for_each(|_| {
                say(client, b"x");
                thread::sleep(Duration::from_millis(100));
            })
        },
        451,
        "4.4.2 Unable to queue message: timeout",
    ),
    (
        "is of Postfix before 3.6",
        |client| {
            say(client, OLD_GREETING);
            read_all(client);
            say(client, STORED);
        },
        250,
        "2.0.0 queued as ABC1",
    ),
    (
        "is slow",
        |client| {
            thread::sleep(Duration::from_millis(400));
            say(client, &GREETING[..20]);
            thread::sleep(Duration::from_millis(400));
            say(client, &GREETING[20..]);
            read_all(client);
            for octet in STORED {
                say(client, &[*octet]);
                thread::sleep(Duration::from_millis(20));
            }
        },
        250,
        "2.0.0 queued as ABC1",
    ),
    (
        "says yes and never goodbye",
        |client| {
            say(client, GREETING);
            read_all(client);
            say(client, b"status\x000\0");
            hang(client);
        },
        250,
        "2.0.0 queued as ABC1",
    ),
];

#[test]
fn stand_ins_that_fail_at_each_step() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(60_000));
    let runs = workers::each(STAND_INS, |(_, act, ..)| {
        let dir = tempfile::Builder::new().prefix("pt-").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(dir.path().join("c")).unwrap();
        let room = room(&dir.path().join("c"), "timeout 1 deadline 3");
        let act = *act;
        let stand_in = thread::spawn(move || act(&mut listener.accept().unwrap().0));
        let outcome = play(&room).run(&session(&["x@here.example"], content.as_bytes()));
        stand_in.join().unwrap();
        outcome
    });
    for ((does, _, code, text), outcome) in STAND_INS.iter().zip(&runs) {
        let reply = decided(outcome);
        eprintln!(
            "| {does:<26} | client: {} {} | {:.1} s |",
            reply.code,
            reply.lines[0],
            outcome.elapsed.as_secs_f32()
        );
        assert_eq!(reply.code, *code, "{does}: {}", outcome.log);
        assert!(reply.lines[0].contains(text), "{does}: {reply:?}\n{}", outcome.log);
        assert!(outcome.end == End::Code(0) && outcome.elapsed < Duration::from_secs(5), "{does}: {outcome:?}");
        assert!(outcome.log.contains("postfix-queue"), "{does}: the log names the backend: {}", outcome.log);
    }
}

/// `check` names the fault and queues nothing.
#[test]
fn check_tries_the_socket() {
    let dir = tempfile::Builder::new().prefix("pt-").tempdir_in("/tmp").unwrap();
    drop(UnixListener::bind(dir.path().join("dead")).unwrap());
    for (name, fault) in [("dead", "nobody listens"), ("none", "start Postfix, or name its socket")] {
        let room = room(&dir.path().join(name), "");
        let outcome = Play::new(&room).argument("check").run(b"");
        let said = String::from_utf8_lossy(&outcome.output).into_owned() + &outcome.log;
        assert!(said.contains(fault), "{name}: {said}");
    }
    let Some(postfix) = Postfix::start("") else { return };
    let room = room(&postfix.socket(), "");
    let outcome = Play::new(&room).argument("check").run(b"");
    let said = String::from_utf8_lossy(&outcome.output).into_owned() + &outcome.log;
    assert_eq!(outcome.end, End::Code(0), "{said}");
    postfix.idle();
    assert!(!postfix.log().contains("from=<"), "{}", postfix.log());
}
