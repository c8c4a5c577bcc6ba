//! The stand-in for qmail-queue judged by the rules of the real one, and by a real caller: mailfront.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;

use common::room::Room;
use common::{replies, store};

/// Calls it as a client does: the whole message, then the envelope. Exit code, or 128 + signal.
fn call(room: &Room, fault: &str, message: &[u8], envelope: &[u8]) -> i32 {
    let (message_end, mut to_message) = std::io::pipe().unwrap();
    let (envelope_end, mut to_envelope) = std::io::pipe().unwrap();
    let mut child = Command::new(room.stand_in())
        .env_clear()
        .envs(room.environment())
        .env("POSTERN_TEST_QUEUE_FAULT", fault)
        .stdin(message_end)
        .stdout(envelope_end)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A broken pipe is a program that ended early: its status tells.
    let send = |pipe: &mut PipeWriter, octets: &[u8]| drop(pipe.write_all(octets));
    thread::scope(|scope| {
        scope.spawn(move || {
            send(&mut to_message, message);
            drop(to_message);
            send(&mut to_envelope, envelope);
        });
    });
    let status = child.wait().unwrap();
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

#[test]
fn it_keeps_the_real_rules_and_is_stricter_where_a_client_must_be() {
    let long = |octets: usize| [b"Fa@b\0T", "x".repeat(octets).as_bytes(), b"\0\0"].concat();
    let table: &[(&str, Vec<u8>, i32)] = &[
        ("nothing", b"".into(), 54),
        ("only the sender's letter", b"F".into(), 54),
        ("a sender without NUL", b"Fa@b".into(), 54),
        ("no final NUL", b"Fa@b\0Tc@d\0".into(), 54),
        ("another letter than F", b"Xa@b\0Tc@d\0\0".into(), 91),
        ("another letter than T", b"Fa@b\0Xc@d\0\0".into(), 91),
        ("longest address", long(1002), 0),
        ("one octet over", long(1003), 11),
        ("null sender", b"F\0Tc@d\0\0".into(), 0),
        ("two recipients", b"Fa@b\0Tc@d\0Te@f\0\0".into(), 0),
        ("stricter: no recipient", b"Fa@b\0\0".into(), 91),
        ("stricter: an empty recipient", b"Fa@b\0T\0\0".into(), 91),
        ("stricter: more after the end", b"Fa@b\0Tc@d\0\0x".into(), 91),
        ("stricter: a line end in an address", b"Fa@b\0Tc@d\n\0\0".into(), 91),
    ];
    for (name, envelope, code) in table {
        let room = Room::bare();
        assert_eq!(call(&room, "", b"x: y\n\nz\n", envelope), *code, "{name}");
        let queued = store::queued(&room);
        assert_eq!(queued.len(), usize::from(*code == 0), "{name}");
        assert_eq!(store::breaches(&room).len(), usize::from(*code != 0), "{name}");
        if let Some(queued) = queued.first() {
            assert_eq!(queued.message, b"x: y\n\nz\n", "{name}");
            assert_eq!(&queued.envelope, envelope, "{name}");
        }
    }
}

#[test]
fn it_numbers_what_it_is_given_and_notes_what_is_odd() {
    let room = Room::bare();
    assert_eq!(call(&room, "", b"one\n", b"F\0Tx@y\0\0"), 0);
    assert_eq!(call(&room, "", b"two\r\n", b"Fa@b\0Tc@d\0Te@f\0\0"), 0);
    let queued = store::queued(&room);
    assert_eq!(queued.len(), 2);
    assert_eq!((queued[0].sender(), queued[0].recipients()), (String::new(), vec!["x@y".to_owned()]));
    assert_eq!((queued[1].sender(), queued[1].recipients().len()), ("a@b".to_owned(), 2));
    assert_eq!(queued[0].notes, None);
    assert_eq!(queued[1].notes.as_deref(), Some("CR in the message\n"));
    assert!(queued[0].facts.contains("variable TZ=UTC\n"), "{}", queued[0].facts);
}

#[test]
fn each_fault_is_what_it_says() {
    let whole = vec![b'x'; 200_000];
    let table: &[(&str, i32, usize)] = &[
        ("exit=53", 53, 0),
        ("exit-early=71", 71, 0),
        ("exit-part=0", 0, 0),
        ("exit-message=0", 0, 0),
        ("close=0", 0, 0),
        ("kill-before", 137, 0),
        ("kill-message", 137, 0),
        ("kill-end", 137, 0),
        ("late=10", 0, 1),
        ("slow=1", 0, 1),
        ("text=2:82:Dno", 82, 0),
        ("flood=2:88", 88, 0),
        ("child", 0, 1),
    ];
    for (fault, code, stored) in table {
        let room = Room::bare();
        assert_eq!(call(&room, fault, &whole, b"Fa@b\0Tc@d\0\0"), *code, "{fault}");
        assert_eq!(store::queued(&room).len(), *stored, "{fault}");
        if *stored == 1 {
            assert!(store::queued(&room)[0].message == whole, "{fault}");
        }
    }
}

#[test]
fn a_real_caller_gets_on_with_it() {
    let Some(mailfront) = common::require("mailfront") else {
        return;
    };
    for (fault, class, stored) in [("", 2, 1), ("exit=31", 5, 0), ("exit=53", 4, 0), ("kill-end", 4, 0)] {
        let room = Room::bare();
        let input = room.path("input");
        let dialog = "HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx: y\r\n\r\n..z\r\n.\r\nQUIT\r\n";
        fs::write(&input, dialog).unwrap();
        let output = Command::new(&mailfront)
            .args(["smtp", "qmail", "accept"])
            .env_clear()
            .envs(room.environment())
            .envs([("QMAILQUEUE", room.stand_in().as_os_str()), ("RELAYCLIENT", "".as_ref())])
            .env("POSTERN_TEST_QUEUE_FAULT", fault)
            .env("QMAILHOME", room.root())
            .stdin(fs::File::open(&input).unwrap())
            .output()
            .unwrap();
        let replies = replies::of(&output.stdout);
        let verdicts = replies::verdicts(&replies);
        assert_eq!(verdicts.iter().flatten().map(|reply| reply.class()).collect::<Vec<_>>(), [class], "{replies:?}");
        let queued = store::queued(&room);
        assert_eq!(queued.len(), stored, "{fault}");
        if let Some(queued) = queued.first() {
            assert_eq!(queued.envelope, b"Fa@b\0Tc@d\0\0");
            assert!(queued.message.ends_with(b"x: y\n\n.z\n"), "{}", queued.message.escape_ascii());
        }
    }
}
