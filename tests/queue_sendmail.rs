//! `queue/sendmail` against Postfix's and Exim's sendmail, and against programs that misbehave.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::handover;
use common::mta::{self, Exim, Postfix};
use common::play::{End, Play};
use common::room::Room;

#[test]
fn what_arrives_at_postfix_is_what_was_sent() {
    let Some(postfix) = Postfix::start("message_size_limit = 400000") else { return };
    let room = Room::new("rcpt_ok\nqueue/sendmail ../bin/sendmail\n");
    let etc = postfix.etc();
    handover::script(
        &room,
        "sendmail",
        &format!("#!/bin/sh\nMAIL_CONFIG={} exec /usr/sbin/sendmail \"$@\"\n", etc.display()),
    );
    mta::byte_for_byte("sendmail", &room, &postfix.inbox(), &|| postfix.log());
    let big = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(100_000)].concat();
    let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &big));
    assert_eq!(
        handover::decided("sendmail", "Postfix: over message_size_limit", &outcome).class(),
        4,
        "{}",
        outcome.log
    );
}

#[test]
fn what_arrives_at_exim_is_what_was_sent() {
    let Some(exim) = Exim::unpack("", "  accept") else { return };
    let room = Room::new("rcpt_ok\nqueue/sendmail ../bin/sendmail\n");
    handover::script(&room, "sendmail", &exim.program());
    mta::byte_for_byte("sendmail", &room, &exim.inbox(), &|| exim.log());
}

#[test]
fn programs_that_misbehave() {
    for backend in ["sendmail", "pipe"] {
        let table = [
            ("exit 0 unread", "exit 0", 451),
            ("closes its input", "exec <&-; sleep 0.2; exit 0", 451),
            ("EX_USAGE", "cat >/dev/null; exit 64", 451),
            ("EX_DATAERR, with a text", "cat >/dev/null; echo no such thing >&2; exit 65", 554),
            ("EX_NOUSER", "cat >/dev/null; exit 67", 554),
            ("EX_NOHOST", "cat >/dev/null; exit 68", 554),
            ("EX_TEMPFAIL", "cat >/dev/null; exit 75", 451),
            ("EX_NOPERM", "cat >/dev/null; exit 77", 451),
            ("killed", "cat >/dev/null; kill -9 $$", 451),
            ("a flood of output", "cat >/dev/null; yes | head -c 3000000; exit 75", 451),
            ("stalls at once", "exec sleep 60", 451),
            ("stalls at its end", "cat >/dev/null; exec sleep 60", 451),
            ("slow beyond the deadline", "while :; do echo x; sleep 0.2; done", 451),
            ("not there", "", 451),
        ];
        for (name, text, code) in table {
            let line = match backend {
                "pipe" => "queue/pipe timeout 2 deadline 4 ../bin/take",
                _ => "queue/sendmail ../bin/take timeout 2 deadline 4",
            };
            let room = Room::new(&format!("rcpt_ok\n{line}\n"));
            if !text.is_empty() {
                handover::script(&room, "take", &format!("#!/bin/sh\n{text}\n"));
            }
            let big = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(50_000)].concat();
            let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &big));
            let reply = handover::decided(backend, name, &outcome);
            let same = reply.code == code || code == 554 && reply.class() == 5;
            assert!(same && outcome.end == End::Code(0), "{name}: {reply:?} {}", outcome.log);
            assert!(outcome.elapsed < Duration::from_secs(8), "{name}: {:?}", outcome.elapsed);
        }
    }
}
