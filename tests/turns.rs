//! Who speaks when: groups of commands, waits and their limits, signals, clients that go, closes that lose nothing.
//!
//! Over a real socket, taking turns; what a whole session says is the dialogs' matter.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use common::client::{Client, Log, Served};
use common::play::End;
use common::room::Room;
use common::{replies, store, workers};
use nix::sys::signal::Signal;

const TO_RCPT: &str = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<x@here.example>\r\n";
const CONTENT: &str = "Subject: turns\r\n\r\nx\r\n";
/// Ends within this: no wait, only a slow machine.
const SOON: Duration = Duration::from_secs(10);

/// A room whose messages wait in files, so that one could be left behind.
fn room() -> Room {
    let room = Room::with_maildir();
    room.config("size_threshold", "0\n");
    room
}

/// The same, with a plugin that notes the end of the connection in the log.
fn watched_room() -> Room {
    let room = room().running(common::example("faulty"));
    room.config("plugins", "faulty at disconnect how note\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    room
}

fn messages(room: &Room) -> usize {
    store::maildir(&room.path("mail")).len()
}

/// The program has ended by itself, has left nothing, and has told its plugins and the record so.
fn ended_well(room: &Room, served: &mut Served, what: &str) -> String {
    assert_eq!(served.end(SOON), End::Code(0), "{what}");
    assert_eq!(room.left_behind(), Vec::<PathBuf>::new(), "{what}");
    let log = fs::read_to_string(room.path("log/stderr")).unwrap();
    assert!(!log.contains("panicked at"), "{what}: {log}");
    for told in ["] connection ", "] faulty: told of disconnect"] {
        assert_eq!(log.lines().filter(|line| line.contains(told)).count(), 1, "{what}: {log}");
    }
    log
}

#[test]
fn a_group_of_commands_is_answered_in_one_write() {
    let Some(strace) = common::require("strace") else { return };
    let room = room();
    let trace = room.path("log/trace");
    let words = ["-qq", "-s", "4096", "-e", "trace=sendto,sendmsg,write,writev", "-o"];
    let under: Vec<_> =
        [strace.as_os_str()].into_iter().chain(words.map(AsRef::as_ref)).chain([trace.as_os_str()]).collect();
    let (mut client, mut served) = Client::serve_under(&room, Log::File, &[], &under);
    client.expect(220);
    let offers = client.command("EHLO client.example", 250).lines.len();
    client.send(
        b"MAIL FROM:<a@client.example>\r\nRCPT TO:<x@here.example>\r\nRCPT TO:<y@far.example>\r\nNOOP\r\nDATA\r\n",
    );
    for code in [250, 250, 550, 250, 354] {
        client.expect(code);
    }
    client.send(format!("{CONTENT}.\r\nMAIL FROM:<>\r\nRSET\r\nHELP\r\nQUIT\r\n").as_bytes());
    for code in [250, 250, 250, 214, 221] {
        client.expect(code);
    }
    client.closed();
    assert_eq!(served.end(SOON), End::Code(0));
    let trace = fs::read_to_string(&trace).unwrap();
    let said: Vec<usize> = trace
        .lines()
        .filter(|line| ["sendto(1,", "sendmsg(1,", "write(1,", "writev(1,"].iter().any(|call| line.starts_with(call)))
        .map(|line| line.matches(r"\r\n").count())
        .collect();
    // Lines in the greeting, in EHLO's reply, in the two groups'.
    assert_eq!(said, [1, offers, 5, 5], "{trace}");
}

/// What is sent, and the codes that must come although more is expected from the client.
const BEFORE_WAITING: &[(&str, &[u16])] = &[
    ("NOOP\r\nNOO", &[250]),
    ("NOOP\r\nRSET\r\nQUIT", &[250, 250]),
    ("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n", &[250, 250, 250, 354]),
    ("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nDATA\r\na: b\r\n.\r", &[250, 250, 250, 354]),
    ("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nBDAT 9 LAST\r\n", &[250, 250, 250]),
    ("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<x@here.example>\r\nBDAT 9\r\nhalf", &[250, 250, 250]),
    // Chunks that are only swallowed.
    ("NOOP\r\nBDAT 9\r\n", &[250]),
    ("EHLO a\r\nMAIL FROM:<>\r\nBDAT 9 LAST\r\nhalf", &[250, 250]),
];

#[test]
fn replies_leave_before_the_client_is_waited_for() {
    for (sent, codes) in BEFORE_WAITING {
        let room = watched_room();
        let (mut client, mut served) = Client::serve(&room, Log::File);
        client.expect(220);
        client.send(sent.as_bytes());
        for code in *codes {
            client.expect(*code);
        }
        client.silence(Duration::from_millis(30));
        drop(client);
        ended_well(&room, &mut served, sent);
        assert_eq!(messages(&room), 0, "{sent:?}");
    }
}

/// How a client uses its time.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Says no more.
    Silent,
    /// Sends this again and again, with 100 ms between.
    Drips(&'static str),
    /// Sends this again and again, as fast as it can.
    Floods(&'static str),
}

/// Settings, what is sent first, how it goes on.
const TIMES: &[(&[(&str, &str)], &str, Pace)] = &[
    (&[("timeout", "1")], "", Pace::Silent),
    (&[("timeout", "1")], TO_RCPT, Pace::Silent),
    (&[("timeoutsmtpd", "1")], TO_RCPT, Pace::Silent),
    // The limit is for a whole command, not for an octet.
    (&[("timeout", "1")], "EHLO ", Pace::Drips("x")),
    (&[("timeout", "1")], "DATA\r\n", Pace::Silent),
    (&[("timeout", "1")], "DATA\r\nSubject: half\r\n", Pace::Silent),
    (&[("timeout", "1")], "BDAT 100 LAST\r\nhalf", Pace::Silent),
    (&[("timeout", "1")], "BDAT 4\r\nhalf", Pace::Silent),
    (&[("timeout", "1"), ("databytes", "10")], "DATA\r\nSubject: refused already\r\n", Pace::Silent),
    (&[("message_seconds", "1")], "DATA\r\n", Pace::Drips("a line\r\n")),
    (&[("message_seconds", "1")], "BDAT 1000000\r\n", Pace::Drips("octets")),
    (&[("session_seconds", "1")], "", Pace::Silent),
    (&[("session_seconds", "1")], "", Pace::Drips("NOOP\r\n")),
    (&[("session_seconds", "1")], "DATA\r\n", Pace::Drips("a line\r\n")),
    (&[("session_seconds", "1")], "BDAT 1000000 LAST\r\n", Pace::Drips("octets")),
    // Always something to read: a limit that only a wait could reach would never be.
    (&[("session_seconds", "1"), ("commands_max", "1000000000")], "", Pace::Floods("NOOP\r\n")),
    (
        &[("message_seconds", "1")],
        "DATA\r\n",
        Pace::Floods("a line that goes on and on and on and on and on and on\r\n"),
    ),
    (
        &[("message_seconds", "1")],
        "BDAT 1000000000000 LAST\r\n",
        Pace::Floods("octets and more octets and more octets"),
    ),
];

#[test]
fn whoever_takes_too_long_is_told_so() {
    workers::each(TIMES, |(settings, first, pace)| {
        let what = format!("{settings:?} {first:?} {pace:?}");
        let room = watched_room();
        for (name, value) in *settings {
            room.config(name, value);
        }
        let (mut client, mut served) = Client::serve(&room, Log::File);
        let begun = Instant::now();
        client.expect(220);
        let content = first.starts_with("DATA") || first.starts_with("BDAT");
        client.send(format!("{}{first}", if content { TO_RCPT } else { "" }).as_bytes());
        let said = match pace {
            Pace::Silent => client.rest(),
            Pace::Drips(octets) => client.goes_on(octets.as_bytes(), Duration::from_millis(100), SOON),
            Pace::Floods(octets) => client.goes_on(&octets.repeat(2000).into_bytes(), Duration::ZERO, SOON),
        };
        let took = begun.elapsed();
        let said = replies::of(&said);
        let last = said.last().unwrap();
        assert_eq!((last.code, &last.lines[0][..6]), (421, "4.4.2 "), "{what}: {last:?}");
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "{what}: after {took:?}");
        drop(client);
        let log = ended_well(&room, &mut served, &what);
        assert!(log.contains("end=timedout"), "{what}: {log}");
        assert_eq!(messages(&room), 0, "{what}");
    });
}

/// What has been sent when the signal comes, and whether content is in the spool then.
const SIGNALLED: &[(&str, bool)] = &[
    ("", false),
    ("EHLO cli", false),
    (TO_RCPT, false),
    ("DATA\r\n", false),
    ("DATA\r\nSubject: half\r\n", true),
    ("BDAT 4\r\nhalf", true),
    ("BDAT 100 LAST\r\nhalf", true),
];

#[test]
fn a_signal_ends_it_with_a_word() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        workers::each(SIGNALLED, |(first, spooled)| {
            let what = format!("{signal} after {first:?}");
            let room = watched_room();
            let (mut client, mut served) = Client::serve(&room, Log::File);
            client.expect(220);
            if first.starts_with("DATA") || first.starts_with("BDAT") {
                client.send(TO_RCPT.as_bytes());
            }
            client.send(first.as_bytes());
            if *spooled {
                served.spools(&room.path("spool"));
            } else {
                thread::sleep(Duration::from_millis(30));
            }
            let begun = Instant::now();
            served.signal(signal);
            let said = replies::of(&client.rest());
            let last = said.last().unwrap();
            assert_eq!((last.code, &last.lines[0][..6]), (421, "4.3.2 "), "{what}: {last:?}");
            drop(client);
            let log = ended_well(&room, &mut served, &what);
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
            assert!(log.contains("end=terminated"), "{what}: {log}");
            assert_eq!(messages(&room), 0, "{what}");
        });
    }
}

/// What has been sent when the client is gone, and whether content is in the spool then.
const GONE: &[(&str, bool)] = &[
    ("", false),
    ("EHLO cli", false),
    ("EHLO client.example\r\n", false),
    (TO_RCPT, false),
    ("DATA\r\n", false),
    ("DATA\r\nSubject: half\r\n\r\n.", true),
    ("BDAT 4\r\nhalf", true),
    ("BDAT 100 LAST\r\nhalf", true),
    ("BDAT 4\r\nhalfRSET\r\nBDAT 100 LAST\r\nhalf", false),
    ("XYZZY\r\n", false),
];

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    // Reset, or closed in order.
    for reset in [true, false] {
        workers::each(GONE, |(first, spooled)| {
            let what = format!("gone after {first:?}, reset {reset}");
            let room = watched_room();
            let (mut client, mut served) = Client::serve(&room, Log::File);
            client.expect(220);
            if first.starts_with("DATA") || first.starts_with("BDAT") {
                client.send(TO_RCPT.as_bytes());
            }
            client.send(first.as_bytes());
            if *spooled {
                served.spools(&room.path("spool"));
            } else {
                thread::sleep(Duration::from_millis(30));
            }
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            let log = ended_well(&room, &mut served, &what);
            assert!(log.contains("end=lost") || log.contains("end=endofinput"), "{what}: {log}");
            assert_eq!(messages(&room), 0, "{what}");
        });
    }
}

/// The message was whole, and nobody waits for the reply: it may be stored, and then once.
#[test]
fn a_client_that_is_gone_after_the_final_dot() {
    for reset in [true, false] {
        let room = watched_room();
        let (mut client, mut served) = Client::serve(&room, Log::File);
        client.open("a@client.example", &["x@here.example"]);
        client.command("DATA", 354);
        client.send(format!("{CONTENT}.\r\n").as_bytes());
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        ended_well(&room, &mut served, "after the final dot");
        let stored = store::maildir(&room.path("mail"));
        assert!(stored.len() <= 1 && stored.iter().all(|message| message.ends_with(b"\n\nx\n")), "{stored:?}");
        assert!(reset || stored.len() == 1, "a close in order takes nothing back");
    }
}

/// Input that has ended is no lost client: each command gets its reply.
#[test]
fn a_client_that_only_listens_is_answered_to_the_end() {
    let room = watched_room();
    let (mut client, mut served) = Client::serve(&room, Log::File);
    client.send(format!("{TO_RCPT}DATA\r\n{CONTENT}.\r\nNOOP\r\n").as_bytes());
    client.finish();
    let codes: Vec<u16> = replies::of(&client.rest()).iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [220, 250, 250, 250, 354, 250, 250]);
    let log = ended_well(&room, &mut served, "half closed");
    assert!(log.contains("end=endofinput"), "{log}");
    assert_eq!(messages(&room), 1);
}

/// A megabyte that nobody will read must not cost the last reply: settings, the chain, what is sent first, its last reply.
const FLOODED: &[(&[(&str, &str)], &str, &str, u16)] = &[
    (&[("errors_max", "3")], "", "XYZZY\r\n", 421),
    (&[("commands_max", "3")], "", "NOOP\r\n", 421),
    (&[], "BDAT x\r\n", "more", 501),
    (&[], "BDAT 18446744073709551615\r\n", "more", 503),
    (&[], "QUIT\r\n", "more", 221),
    (&[("faulty", "deny")], "", "NOOP\r\n", 421),
    (&[("faulty", "deny")], "NOOP\r\nQUIT\r\n", "NOOP\r\n", 221),
    (&[("faulty", "error")], "", "NOOP\r\n", 421),
    (&[("plugins", "no_such_plugin\n")], "", "NOOP\r\n", 421),
];

#[test]
fn what_is_still_coming_takes_no_reply_with_it() {
    workers::each(FLOODED, |(settings, first, then, code)| {
        let what = format!("{settings:?} {first:?}");
        let mut room = room();
        for (name, value) in *settings {
            if *name == "faulty" {
                room = room.running(common::example("faulty"));
                room.config(
                    "plugins",
                    &format!("faulty at connect how {value}\nrcpt_ok\nqueue/maildir {{ROOM}}/mail\n"),
                );
            } else {
                room.config(name, value);
            }
        }
        let (mut client, mut served) = Client::serve(&room, Log::File);
        // All of it before a word is read.
        client.send(format!("{first}{}", then.repeat(1_000_000 / then.len())).as_bytes());
        let said = replies::of(&client.rest());
        assert_eq!(said.last().unwrap().code, *code, "{what}: {said:?}");
        let greeting = said[0].code;
        match settings {
            [("faulty", "deny")] => {
                assert_eq!(greeting, 554, "{what}: {said:?}");
                let middle = &said[1..said.len() - 1];
                assert!(!middle.is_empty() && middle.len() <= 10, "{what}: {said:?}");
                assert!(middle.iter().all(|reply| reply.code == 503), "{what}: {said:?}");
            }
            [("faulty", _) | ("plugins", _)] => assert_eq!((greeting, said.len()), (421, 1), "{what}: {said:?}"),
            _ => assert_eq!(greeting, 220, "{what}: {said:?}"),
        }
        client.finish();
        assert!(matches!(served.end(SOON), End::Code(0 | 100)), "{what}");
        assert!(!client.was_reset(), "{what}");
    });
}
