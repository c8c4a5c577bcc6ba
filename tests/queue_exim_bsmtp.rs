//! `queue/exim-bsmtp` against Exim, unpacked from Debian's package, and against programs that misbehave.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::handover;
use common::mta::{self, Exim};
use common::play::{End, Play};
use common::room::Room;

fn room() -> Room {
    Room::new("rcpt_ok\nqueue/exim-bsmtp exim_path ../bin/exim timeout 2 deadline 4\n")
}

fn real(settings: &str, acl: &str) -> Option<(Room, Exim)> {
    let exim = Exim::unpack(settings, acl)?;
    let room = Room::new("rcpt_ok\nqueue/exim-bsmtp ../bin/exim client 1\n");
    handover::script(&room, "exim", &exim.program());
    Some((room, exim))
}

#[test]
fn what_arrives_at_exim_is_what_was_sent() {
    let Some((room, exim)) = real("", "  accept") else { return };
    mta::byte_for_byte("exim", &room, &exim.inbox(), &|| exim.log());
}

#[test]
fn what_exim_refuses_is_refused() {
    let table = [
        ("accept", "", "  accept", 250),
        ("acl_not_smtp denies", "", "  deny message = not wanted here", 550),
        // Exim itself says 550 here, which cannot be told from a denial.
        ("acl_not_smtp defers", "", "  defer message = not now", 550),
        ("message_size_limit", "message_size_limit = 1K", "  accept", 552),
        ("no such transport in its configuration", "no_such_option = 1", "  accept", 451),
    ];
    for (name, settings, acl, code) in table {
        let Some((room, exim)) = real(settings, acl) else { return };
        let message = [&b"Subject: x\r\n\r\n"[..], &b"a line of some length\r\n".repeat(200)].concat();
        let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &message));
        let reply = handover::decided("exim", name, &outcome);
        assert_eq!(reply.class(), code / 100, "{name}: {} {}", outcome.log, exim.log());
        let there = common::store::delivered(&exim.inbox()).len();
        assert_eq!(there, usize::from(code == 250), "{name}");
    }
}

/// Exim's own policy, for what comes by SMTP.
const SMTP: &str = "acl_smtp_rcpt = acl_rcpt\nacl_smtp_data = acl_data\n\
                    log_selector = +incoming_port +incoming_interface\nmessage_size_limit = 400K";
const POLICY: &str = "  accept\nacl_rcpt:\n  deny message = 5.1.1 nobody of that name\n    local_parts = no\n  \
    defer message = 4.2.1 come later\n    local_parts = later\n  deny message = this host is not wanted\n    \
    hosts = 203.0.113.66\n  drop message = go away\n    local_parts = drop\n  accept\nacl_data:\n  \
    deny message = 5.7.1 a bad subject\n    condition = ${if match{$h_subject:}{bad}}\n  defer message = not now\n    \
    condition = ${if match{$h_subject:}{wait}}\n  accept\n";

fn dialog(settings: &str) -> Option<(Room, Exim)> {
    let (_, exim) = real(SMTP, POLICY)?;
    let room = Room::new(&format!("rcpt_ok\nqueue/exim-bsmtp ../bin/exim form bs {settings}\n"));
    handover::script(&room, "exim", &exim.program());
    Some((room, exim))
}

fn from_our_client<'a>(room: &'a Room, ip: &str) -> Play<'a> {
    Play::new(room)
        .variable("PROTO", "TCP")
        .variable("TCPREMOTEIP", ip)
        .variable("TCPREMOTEPORT", "4711")
        .variable("TCPREMOTEHOST", "host.client.example")
        .variable("TCPLOCALIP", "203.0.113.1")
        .variable("TCPLOCALPORT", "25")
}

#[test]
fn what_arrives_at_exim_by_a_dialog_is_what_was_sent() {
    let Some((room, exim)) = dialog("client 1") else { return };
    mta::byte_for_byte("exim -bs", &room, &exim.inbox(), &|| exim.log());
}

#[test]
fn what_exim_refuses_in_a_dialog_keeps_its_code() {
    let Some((room, exim)) = dialog("client 1") else { return };
    let big = "a line of some length\r\n".repeat(30_000);
    let table = [
        ("takes it", "192.0.2.7", "x", "Subject: x", "", 250, "2.0.0 queued as "),
        ("RCPT 550 5.1.1", "192.0.2.7", "no", "Subject: x", "", 554, "5.1.1 <no@here.example>: nobody of that name"),
        ("RCPT 451 4.2.1", "192.0.2.7", "later", "Subject: x", "", 451, "4.2.1 <later@here.example>: come later"),
        ("RCPT 550, by the client's address", "203.0.113.66", "x", "Subject: x", "", 554, "this host is not wanted"),
        ("RCPT 550 and hangs up", "192.0.2.7", "drop", "Subject: x", "", 554, "go away"),
        ("end of data 550 5.7.1", "192.0.2.7", "x", "Subject: bad", "", 554, "5.7.1 a bad subject"),
        ("end of data 451", "192.0.2.7", "x", "Subject: wait", "", 451, "not now"),
        ("SIZE is less", "192.0.2.7", "x", "Subject: x", &big, 554, "5.3.4"),
    ];
    for (name, ip, recipient, subject, body, code, text) in table {
        let before = common::store::delivered(&exim.inbox()).len();
        let message = format!("{subject}\r\n\r\n{body}");
        let recipient = format!("{recipient}@here.example");
        let outcome =
            from_our_client(&room, ip).run(&handover::session("a@client.example", &recipient, message.as_bytes()));
        let reply = handover::decided("exim -bs", name, &outcome);
        let same = (reply.code, reply.lines[0].contains(text)) == (code, true);
        assert!(same && outcome.end == End::Code(0), "{name}: {reply:?} {} {}", outcome.log, exim.log());
        let arrived = common::store::delivered(&exim.inbox()).len() - before;
        assert_eq!(arrived, usize::from(code == 250), "{name}");
    }
}

/// Exim believes what it is told of the client only from whom it trusts.
#[test]
fn exim_knows_the_real_client_where_we_are_trusted() {
    let powers = "+chown,+fowner,+dac_override,+setuid,+setgid";
    let table = [
        ("root", "--reuid=0 --regid=0 --clear-groups".to_owned(), true),
        ("Exim's user", "--reuid=65534 --regid=65534 --clear-groups".to_owned(), true),
        // One that may store into this spool, and is not trusted.
        (
            "another user",
            format!("--reuid=1 --regid=65534 --clear-groups --inh-caps {powers} --ambient-caps {powers}"),
            false,
        ),
    ];
    for (who, words, trusted) in table {
        let Some((room, exim)) = dialog("client 1") else { return };
        exim.open_to_all();
        // Where it logs when it may not write its log.
        let complaints = room.path("log/complaints");
        let as_nobody = "--reuid=65534 --regid=65534 --clear-groups";
        let program = exim.program();
        assert!(program.contains(as_nobody));
        handover::script(
            &room,
            "exim",
            &program
                .replace(as_nobody, &words)
                .replace(" sh \"$@\"\n", &format!(" sh \"$@\" 2>>{}\n", complaints.display())),
        );
        let outcome = from_our_client(&room, "192.0.2.7").run(&handover::session(
            "a@client.example",
            "x@here.example",
            b"Subject: x\r\n\r\nx\r\n",
        ));
        let reply = handover::decided("exim -bs", &format!("called by {who}"), &outcome);
        assert_eq!(reply.code, 250, "{who}: {}", outcome.log);
        let log = exim.log() + &std::fs::read_to_string(&complaints).unwrap();
        let told = "<= a@client.example H=host.client.example (client.example) [192.0.2.7]:4711 I=[203.0.113.1]:25";
        assert_eq!(log.contains(told), trusted, "{who}: {log}");
        assert_eq!(log.contains("P=local-esmtp"), !trusted, "{who}: {log}");
        eprintln!("| exim -bs | {who:<12} | {} |", log.lines().find(|line| line.contains("<=")).unwrap_or_default());
        if trusted {
            let mail = String::from_utf8_lossy(&mta::next(&exim.inbox(), &|| exim.log())).into_owned();
            let received = mail.split_once("Received:").unwrap().1;
            assert!(
                received.trim_start().starts_with("from host.client.example\n\t([192.0.2.7]:4711 helo=client.example"),
                "{mail}"
            );
            let id = reply.lines[0].split(" as ").nth(1).unwrap().split(' ').next().unwrap();
            assert!(log.contains(&format!("{id} <= ")), "{reply:?} {log}");
        }
    }
}

#[test]
fn programs_that_misbehave() {
    let table = [
        ("says nothing, exit 0 unread", "exit 0", 451),
        ("closes its input", "exec <&-; sleep 0.2; exit 1", 451),
        ("garbage", "cat >/dev/null; printf '\\377\\000 550\\n99999 x\\n'; exit 2", 451),
        ("4yz", "cat >/dev/null; echo '421 too busy'; exit 2", 451),
        ("5yz", "cat >/dev/null; echo '550 no'; exit 2", 554),
        ("killed", "cat >/dev/null; kill -9 $$", 451),
        ("a flood of output", "cat >/dev/null; yes | head -c 3000000; exit 2", 451),
        ("stalls at once", "exec sleep 60", 451),
        ("stalls at its end", "cat >/dev/null; exec sleep 60", 451),
        ("slow beyond the deadline", "while :; do echo x; sleep 0.2; done", 451),
        ("not there", "", 451),
    ];
    for (name, text, code) in table {
        let room = room();
        if !text.is_empty() {
            handover::script(&room, "exim", &format!("#!/bin/sh\n{text}\n"));
        }
        let big = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(50_000)].concat();
        let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &big));
        let reply = handover::decided("exim", name, &outcome);
        assert_eq!((reply.code, outcome.end), (code, End::Code(0)), "{name}: {}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(8), "{name}: {:?}", outcome.elapsed);
    }
}
