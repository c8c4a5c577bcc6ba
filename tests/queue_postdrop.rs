//! `queue/postdrop` against a real Postfix, as root and as nobody, and against stand-ins that fail at every step.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use common::play::{End, Outcome, Play};
use common::postfix::Postfix;
use common::replies::{self, Reply};
use common::room::Room;
use common::workers;

fn session(recipients: &[&str], content: &[u8]) -> Vec<u8> {
    let paths: String = recipients.iter().map(|path| format!("RCPT TO:<{path}>\r\n")).collect();
    let head = format!("EHLO helo.example\r\nMAIL FROM:<a@sender.example> BODY=8BITMIME\r\n{paths}");
    let chunk = format!("BDAT {} LAST\r\n", content.len());
    [head.as_bytes(), chunk.as_bytes(), content, b"QUIT\r\n"].concat()
}

/// The reply after RCPT's. What a killed program says last may be cut short.
fn verdict(outcome: &Outcome) -> Option<Reply> {
    let end = outcome.output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let replies = replies::of(&outcome.output[..end]);
    let before = replies.iter().rposition(|reply| reply.lines[0].contains("recipient ok"))?;
    replies.get(before + 1).cloned()
}

fn decided(outcome: &Outcome) -> Reply {
    verdict(outcome).unwrap_or_else(|| panic!("nothing decided: {outcome:?}"))
}

/// A room whose mail goes to this Postfix.
fn room(postfix: &Postfix) -> Room {
    let room = Room::new(&format!("rcpt_ok\nqueue/postdrop /usr/sbin/postdrop -c {}\n", postfix.path("etc").display()));
    room.config("size_threshold", "65536\n");
    room
}

fn lf(content: &[u8]) -> Vec<u8> {
    content.iter().copied().filter(|octet| *octet != b'\r').collect()
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
        ("long lines", long.as_bytes()),
        ("large", large.as_bytes()),
    ];
    let room = room(&postfix);
    for (at, (name, content)) in table.iter().enumerate() {
        let recipient = format!("u{at}@here.example");
        let outcome = Play::new(&room).run(&session(&[&recipient], content));
        let reply = decided(&outcome);
        assert!(reply.lines[0].starts_with("2.0.0 queued as "), "{name}: {reply:?} {}", outcome.log);
        let mail = postfix.mail(&format!("Delivered-To: {recipient}\n"));
        assert!(mail.ends_with(&lf(content)), "{name}");
        let text = String::from_utf8_lossy(&mail).into_owned();
        let (_, below) = text.split_once("by mx.example (postern)").unwrap();
        let (_, below) = below.split_once(" +0000\n").unwrap();
        let expected = String::from_utf8_lossy(&lf(content)).into_owned();
        let below = if *name == "no header" { below.strip_prefix('\n').unwrap() } else { below };
        assert_eq!(below, expected, "{name}");
    }
    let outcome = Play::new(&room).run(&session(&["m1@here.example", "\"q q\"@here.example"], b"X: y\r\n\r\n"));
    assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
    for recipient in ["m1@here.example", "\"q q\"@here.example"] {
        postfix.mail(&format!("X-Original-To: {recipient}\n"));
    }
    let outcome = Play::new(&room).argument("check").run(b"");
    assert_eq!(outcome.end, End::Code(0), "{}{}", String::from_utf8_lossy(&outcome.output), outcome.log);
    postfix.idle();
    eprintln!("| postdrop: accepted and equal at the far end: {} messages |", table.len());
}

#[test]
fn too_big_is_permanent() {
    let Some(postfix) = Postfix::start("message_size_limit = 100000\n") else { return };
    let outcome =
        Play::new(&room(&postfix)).run(&session(&["x@here.example"], "0123456789\r\n".repeat(20_000).as_bytes()));
    let reply = decided(&outcome);
    assert!(reply.code == 554 && reply.lines[0].starts_with("5.3.4 message file too big"), "{reply:?}");
}

/// As nobody, who is let into the maildrop by the program's setgid bit alone. The machine's own configuration is covered up
/// for it, and for it only.
#[test]
fn any_user_may_hand_over() {
    let Some(postfix) = Postfix::start("") else { return };
    let (Some(unshare), Some(_)) = (common::require("unshare"), common::require("setpriv")) else { return };
    let room = Room::new("rcpt_ok\nqueue/postdrop\n");
    room.open_to_all();
    let own = room.own_binary();
    let room = room.running(own);
    let script = "mount --bind \"$1\" /etc/postfix; shift; \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups $more \"$@\"";
    let words = |more: &str| -> Vec<PathBuf> {
        let script = format!("more={more}; {script}");
        vec![unshare.clone(), "-m".into(), "sh".into(), "-ec".into(), script.into(), "sh".into(), postfix.path("etc")]
    };
    let content = b"Subject: x\r\n\r\nmine\r\n";
    let outcome = Play::new(&room).under(words("")).run(&session(&["nobody@here.example"], content));
    assert_eq!(decided(&outcome).code, 250, "{}", outcome.log);
    postfix.mail("Delivered-To: nobody@here.example\n");
    assert!(postfix.log().contains("uid=65534 from=<a@sender.example>"), "{}", postfix.log());

    // Without the setgid bit postdrop waits for a maildrop that it may write to, for ever.
    room.config("plugins", "rcpt_ok\nqueue/postdrop timeout 1 deadline 5\n");
    let outcome = Play::new(&room).under(words("--no-new-privs")).run(&session(&["never@here.example"], content));
    let reply = decided(&outcome);
    assert!(reply.code == 451 && reply.lines[0].contains("postdrop: timeout"), "{reply:?}\n{}", outcome.log);
    assert!(outcome.log.contains("can it write to the maildrop?"), "{}", outcome.log);
    let outcome = Play::new(&room).under(words("--no-new-privs")).argument("check").run(b"");
    let said = String::from_utf8_lossy(&outcome.output).into_owned() + &outcome.log;
    assert!(said.contains("NoNewPrivileges"), "{said}");

    // The cleanup socket is for group postdrop only, and check says so.
    room.config("plugins", &format!("rcpt_ok\nqueue/postfix-queue {}\n", postfix.socket().display()));
    let outcome = Play::new(&room).under(words("")).argument("check").run(b"");
    let said = String::from_utf8_lossy(&outcome.output).into_owned() + &outcome.log;
    assert!(said.contains("run postern with group postdrop"), "{said}");
}

/// What it does, as a shell script; the reply's code, and words of it. It has `$G` to greet and `$S` to say yes.
const STAND_INS: &[(&str, &str, u16, &str)] = &[
    ("ends at once", "exit 0", 451, "4.3.0 Unable to queue message: postdrop failed"),
    ("reads all and is silent", "cat >/dev/null", 451, "postdrop failed"),
    ("greets and ends", "printf \"$G\"", 451, "postdrop failed"),
    ("greets, reads, ends with 0", "printf \"$G\"; cat >/dev/null", 451, "postdrop failed"),
    ("says yes unread", "printf \"$G$S\"", 451, "postdrop failed"),
    ("garbage", "cat >/dev/null; head -c 100000 /dev/zero", 451, "postdrop failed"),
    ("garbage for ever", "cat >/dev/null; cat /dev/zero", 451, "postdrop"),
    ("reads nothing", "exec sleep 20", 451, "4.4.2 Unable to queue message: postdrop: timeout"),
    ("never answers", "printf \"$G\"; cat >/dev/null; exec sleep 20", 451, "4.4.2"),
    ("dies by a signal", "printf \"$G\"; cat >/dev/null; kill -9 $$", 451, "postdrop failed"),
    ("yes without greeting", "cat >/dev/null; printf \"$S\"", 451, "postdrop failed"),
    ("yes, and status 1", "printf \"$G\"; cat >/dev/null; printf \"$S\"; exit 1", 250, "queued as ABC1"),
    ("yes, and never ends", "printf \"$G\"; cat >/dev/null; printf \"$S\"; exec sleep 20", 250, "queued as ABC1"),
    ("before Postfix 3.6", "printf \"$O\"; cat >/dev/null; printf \"$S\"", 250, "queued as ABC1"),
];

const SCRIPT: &str = "#!/bin/sh
G='protocol\\0postdrop_protocol\\0queue_id\\0ABC1\\0\\0'
O='queue_id\\0ABC1\\0\\0'
S='status\\0000\\0reason\\0\\0\\0'
";

#[test]
fn stand_ins_that_fail_at_each_step() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(60_000));
    let rooms: Vec<Room> = STAND_INS
        .iter()
        .map(|(_, script, ..)| {
            let room = Room::new("rcpt_ok\nqueue/postdrop ../bin/drop timeout 1 deadline 3\n");
            fs::write(room.path("bin/drop"), format!("{SCRIPT}{script}\n")).unwrap();
            fs::set_permissions(room.path("bin/drop"), fs::Permissions::from_mode(0o755)).unwrap();
            room
        })
        .collect();
    let runs = workers::each(&rooms, |room| Play::new(room).run(&session(&["x@here.example"], content.as_bytes())));
    for ((does, _, code, text), outcome) in STAND_INS.iter().zip(&runs) {
        let reply = decided(outcome);
        eprintln!(
            "| {does:<26} | client: {} {} | {:.1} s |",
            reply.code,
            reply.lines[0],
            outcome.elapsed.as_secs_f32()
        );
        assert!(reply.code == *code && reply.lines[0].contains(text), "{does}: {reply:?}\n{}", outcome.log);
        assert!(outcome.end == End::Code(0) && outcome.elapsed < Duration::from_secs(6), "{does}: {outcome:?}");
    }
}
