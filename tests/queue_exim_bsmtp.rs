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
