//! `postern check` with a queue line whose far end is amiss: one line each, which says what is wrong, where, and how to mend it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread;

use common::handover;
use common::play::{End, Play};
use common::room::Room;

fn mode(room: &Room, name: &str, bits: u32) {
    fs::set_permissions(room.path(name), fs::Permissions::from_mode(bits)).unwrap();
}

/// A port where this is said to everybody.
fn speaks(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        listener.incoming().map_while(Result::ok).for_each(|mut client| drop(client.write_all(text.as_bytes())))
    });
    port
}

/// As nobody, because root may do everything.
#[test]
fn what_is_amiss_is_told_with_how_to_mend_it() {
    let Some(setpriv) = common::require("setpriv") else { return };
    if !common::require_root() {
        return;
    }
    let smtp = speaks("220 mx.example ESMTP\r\n500 what?\r\n");
    let ssh = speaks("SSH-2.0-OpenSSH_9.2\r\n");
    let table: Vec<(&str, String, &[&str])> = vec![
        ("cleanup: no socket", "postfix-queue {ROOM}/none".into(), &["{ROOM}/none", "No such file", "start Postfix"]),
        (
            "cleanup: socket without rights",
            "postfix-queue {ROOM}/socket".into(),
            &["{ROOM}/socket", "Permission denied", "group postdrop"],
        ),
        ("cleanup: closed port", "postfix-queue 127.0.0.1:1".into(), &["127.0.0.1:1", "Connection refused"]),
        (
            "postdrop: not setgid",
            "postdrop {ROOM}/bin/postdrop".into(),
            &["{ROOM}/bin/postdrop", "not setgid", "postfix set-permissions"],
        ),
        (
            "postdrop: not there",
            "postdrop /nonexistent/postdrop".into(),
            &["/nonexistent/postdrop", "No such file", "install Postfix"],
        ),
        (
            "maildir: unwritable",
            "maildir {ROOM}/closed".into(),
            &["{ROOM}/closed", "cannot be written to by nobody", "give it to the user"],
        ),
        (
            "maildir: cannot be made",
            "maildir {ROOM}/closed/new/mail".into(),
            &["{ROOM}/closed", "nobody", "make the directory"],
        ),
        (
            "smtp-forward: closed port",
            "smtp-forward 127.0.0.1:1".into(),
            &["127.0.0.1:1", "Connection refused", "does a server listen there"],
        ),
        (
            "smtp-forward: no such name",
            "smtp-forward no.such.invalid".into(),
            &["no.such.invalid", "no address", "mend the name"],
        ),
        (
            "smtp-forward: no SMTP there",
            format!("smtp-forward 127.0.0.1:{ssh}"),
            &["SSH-2.0", "speaks no SMTP", "name the port"],
        ),
        ("lmtp: speaks SMTP only", format!("lmtp 127.0.0.1:{smtp}"), &["LHLO", "speaks no LMTP", "queue/smtp-forward"]),
        (
            "lmtp: socket without rights",
            "lmtp {ROOM}/socket".into(),
            &["{ROOM}/socket", "Permission denied", "let the user that serves in"],
        ),
        ("lmtp: no socket", "lmtp {ROOM}/none".into(), &["{ROOM}/none", "No such file", "does a server listen there"]),
        ("qmqp: closed port", "qmqp 127.0.0.1:1".into(), &["127.0.0.1:1", "Connection refused"]),
        (
            "qmail-queue: not executable",
            "qmail-queue {ROOM}/bin/plain".into(),
            &["{ROOM}/bin/plain", "not executable (mode 0644)", "chmod"],
        ),
        (
            "qmail-queue: not there",
            "qmail-queue /nonexistent/qq".into(),
            &["/nonexistent/qq", "No such file", "name the program"],
        ),
        (
            "exim-bsmtp: not there",
            "exim-bsmtp /nonexistent/exim".into(),
            &["/nonexistent/exim", "No such file", "exim_path"],
        ),
        (
            "sendmail: not executable",
            "sendmail {ROOM}/bin/plain".into(),
            &["{ROOM}/bin/plain", "not executable (mode 0644)", "chmod"],
        ),
        (
            "pipe: not there",
            "pipe /nonexistent/take".into(),
            &["/nonexistent/take", "No such file", "by its whole path"],
        ),
    ];
    let mut wrong = Vec::new();
    eprintln!("| what is amiss | what check says |");
    for (what, line, words) in table {
        let room = Room::new(&format!("rcpt_ok\nqueue/{line}\n"));
        room.open_to_all();
        for name in ["postdrop", "plain"] {
            handover::script(&room, name, "#!/bin/sh\n");
        }
        mode(&room, "bin/plain", 0o644);
        for name in ["closed", "closed/new", "closed/cur", "closed/tmp"] {
            fs::create_dir(room.path(name)).unwrap();
            mode(&room, name, if name == "closed/new" { 0o755 } else { 0o777 });
        }
        let _socket = UnixListener::bind(room.path("socket")).unwrap();
        mode(&room, "socket", 0o600);
        let own = room.own_binary();
        let room = room.running(own);
        let nobody =
            [setpriv.as_os_str(), "--reuid=65534".as_ref(), "--regid=65534".as_ref(), "--clear-groups".as_ref()];
        let outcome = Play::new(&room).under(nobody).argument("check").run(b"");
        let said = String::from_utf8_lossy(&outcome.output).into_owned() + &outcome.log;
        let root = room.root().to_str().unwrap();
        // The line of the fault, with the file and line of the configuration.
        let name = format!("queue/{}", line.split(' ').next().unwrap_or_default());
        let told: Vec<&str> = said.lines().filter(|line| line.contains(&name) && line.contains("plugins")).collect();
        let shown = said.replace(root, "ROOM");
        eprintln!("| {what:<31} | {} |", told.join(" // ").replace(root, "ROOM"));
        let lacks = words
            .iter()
            .map(|word| word.replace("{ROOM}", root))
            .find(|word| !told.iter().any(|line| line.contains(word)));
        if lacks.is_some() || told.len() != 1 || outcome.end == End::Code(0) {
            wrong.push(format!("{what}: lacks {lacks:?}, {} lines, {:?}: {shown}", told.len(), outcome.end));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
