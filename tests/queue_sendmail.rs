//! `queue/sendmail` against Postfix's and Exim's sendmail, and against programs that misbehave.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::handover;
use common::mta::{self, Exim, Postfix};
use common::play::{End, Play};
use common::room::Room;
use common::workers;

#[test]
fn what_arrives_at_postfix_is_what_was_sent() {
    let Some(postfix) = Postfix::start("message_size_limit = 400000") else { return };
    // What `-oi` says of too long a message is exit status 75.
    for (form, too_long) in [("bs", 5), ("oi", 4)] {
        let room = Room::new(&format!("rcpt_ok\nqueue/sendmail ../bin/sendmail form {form}\n"));
        let etc = postfix.etc();
        handover::script(
            &room,
            "sendmail",
            &format!("#!/bin/sh\nMAIL_CONFIG={} exec /usr/sbin/sendmail \"$@\"\n", etc.display()),
        );
        let name = format!("sendmail {form}");
        mta::byte_for_byte(&name, &room, &postfix.inbox(), &|| postfix.log());
        let big = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(100_000)].concat();
        let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &big));
        let reply = handover::decided(&name, "Postfix: over message_size_limit", &outcome);
        assert_eq!(reply.class(), too_long, "{}", outcome.log);
        // Its marks come again in the other form.
        let _ = std::fs::remove_dir_all(postfix.inbox().join("new"));
        std::fs::create_dir(postfix.inbox().join("new")).unwrap();
        assert!(
            std::process::Command::new("chown")
                .arg("nobody:nogroup")
                .arg(postfix.inbox().join("new"))
                .status()
                .unwrap()
                .success()
        );
    }
}

#[test]
fn what_arrives_at_exim_is_what_was_sent() {
    let Some(exim) = Exim::unpack("acl_smtp_rcpt = accept hosts = :", "  accept") else { return };
    for form in ["bs", "oi"] {
        let room = Room::new(&format!("rcpt_ok\nqueue/sendmail ../bin/sendmail form {form}\n"));
        handover::script(&room, "sendmail", &exim.program());
        mta::byte_for_byte(&format!("Exim {form}"), &room, &exim.inbox(), &|| exim.log());
    }
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
                _ => "queue/sendmail ../bin/take form oi timeout 2 deadline 4",
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

/// A program that speaks SMTP: `GREET`, ... are what it does at each step, which is to answer well unless the case says otherwise.
fn speaker(step: &str, instead: &str) -> String {
    let act = |name: &str, well: &str| if name == step { instead.to_owned() } else { well.to_owned() };
    format!(
        "#!/bin/bash\n{}\nwhile IFS= read -r line; do case $line in\n\
         EHLO*) {} ;;\nMAIL*) {} ;;\nRCPT*) {} ;;\n\
         DATA*) {}\n while IFS= read -r line; do case $line in\n  .?) break ;; *halfway*) {} ;; esac; done\n {}\n {} ;;\n\
         QUIT*) {} ;;\nRSET*) echo 250 reset ;;\nesac; done\n",
        act("greeting", "echo '220 here'"),
        act("EHLO", "printf '250-here\\r\\n250 8BITMIME\\r\\n'"),
        act("MAIL", "echo 250 ok"),
        act("RCPT", "echo 250 ok"),
        act("DATA", "echo 354 go"),
        act("content", ":"),
        act("before its 250", ":"),
        if step == "after its 250" { format!("echo 250 kept; {instead}") } else { act("end", "echo 250 kept") },
        act("QUIT", "echo 221 bye; exit 0"),
    )
}

#[test]
fn speakers_that_misbehave() {
    let table = [
        ("", "", 250),
        ("greeting", "exit 0", 451),
        ("greeting", "echo no such option >&2; exit 64", 451),
        ("greeting", "kill -9 $$", 451),
        ("greeting", "echo hello there", 451),
        ("greeting", "echo 554 not today", 451),
        ("greeting", "head -c 300000 /dev/zero", 451),
        ("greeting", "yes 220-x", 451),
        ("greeting", "exec sleep 60", 451),
        ("greeting", "exec sleep 60 >&-", 451),
        ("greeting", "while :; do printf x; sleep 0.2; done", 451),
        ("greeting", "(yes | head -c 3000000) >&2; echo '220 it complains'", 250),
        ("EHLO", "exit 1", 451),
        ("EHLO", "echo 421 busy", 451),
        ("EHLO", "exec sleep 60", 451),
        ("MAIL", "exit 1", 451),
        ("MAIL", "kill -9 $$", 451),
        ("MAIL", "echo 550 5.7.1 not from you", 554),
        ("MAIL", "echo 452 4.3.1 full", 451),
        ("MAIL", "exec sleep 60", 451),
        ("RCPT", "echo 550 5.1.1 who", 554),
        ("RCPT", "echo 450 4.2.1 busy", 451),
        ("RCPT", "echo 250 ok; echo 250 and one more", 451),
        ("RCPT", "exit 1", 451),
        ("DATA", "exit 1", 451),
        ("DATA", "echo 554 no", 554),
        ("DATA", "echo 250 what", 451),
        ("DATA", "exec sleep 60", 451),
        ("content", "exit 0", 451),
        ("content", "kill -9 $$", 451),
        ("content", "exec sleep 60", 451),
        ("content", "exec <&-; sleep 60", 451),
        ("before its 250", "exit 0", 451),
        ("before its 250", "kill -9 $$", 451),
        ("before its 250", "exec sleep 60", 451),
        ("end", "echo 550 5.6.0 ugly", 554),
        ("end", "echo 451 later", 451),
        ("end", "echo 354 more", 451),
        ("end", "printf 250", 451),
        ("end", "sleep 1; echo 250 at last", 250),
        ("after its 250", "kill -9 $$", 250),
        ("after its 250", "exit 75", 250),
        ("after its 250", "exec sleep 60", 250),
        ("QUIT", "exec sleep 60", 250),
        ("QUIT", "yes", 250),
        ("not there", "", 451),
    ];
    let message =
        [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(20_000), b"halfway\r\n", &b"a line\r\n".repeat(20_000)];
    let input = handover::session("a@client.example", "x@here.example", &message.concat());
    let cases: Vec<_> = table
        .iter()
        .flat_map(|case| ["sendmail", "exim-bsmtp"].map(|backend| (backend, *case)))
        // One tries them all, the other where its own code is in play.
        .filter(|(backend, (step, ..))| {
            *backend == "sendmail" || matches!(*step, "" | "before its 250" | "after its 250")
        })
        .collect();
    let played = workers::each(&cases, |(backend, (step, instead, _))| {
        let room = Room::new(&format!("rcpt_ok\nqueue/{backend} ../bin/speak form bs timeout 2 deadline 5\n"));
        if *step != "not there" {
            handover::script(&room, "speak", &speaker(step, instead));
        }
        Play::new(&room).run(&input)
    });
    for ((backend, (step, instead, code)), outcome) in cases.iter().zip(played) {
        let row = if step.is_empty() { "answers well".to_owned() } else { format!("{step}: {instead}") };
        let reply = handover::decided(backend, &row, &outcome);
        assert_eq!((reply.code, outcome.end), (*code, End::Code(0)), "{row}: {reply:?} {}", outcome.log);
        assert!(*code != 451 || outcome.log.contains("bin/speak") || *step == "end", "{row}: {}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(20), "{row}: {:?}", outcome.elapsed);
    }
}

/// Half a message is none: killed while it writes one that is longer than its pipe holds. The other form shows that it would
/// be seen here.
#[test]
fn check_tries_the_dialog() {
    for (text, told) in [
        ("#!/bin/sh\necho '220 a'; read a; echo '250 a'; read b; exit 0\n", None),
        ("#!/bin/sh\necho it knows no -bs >&2; exit 64\n", Some("exit status 64; it knows no -bs; `form oi`")),
        ("#!/bin/sh\necho '421 busy'\n", Some("421 busy")),
    ] {
        let room = Room::new("rcpt_ok\nqueue/sendmail ../bin/speak\n");
        handover::script(&room, "speak", text);
        let outcome = std::process::Command::new(room.program())
            .args(["--config".as_ref(), room.path("config").as_os_str(), "check".as_ref()])
            .output()
            .unwrap();
        let said = [outcome.stdout, outcome.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(outcome.status.code() == Some(100), told.is_some(), "{said}");
        assert!(told.is_none_or(|told| said.contains(told)), "{said}");
    }
}
