//! The program is killed at every system call, and the disk is full: a 250 is never said for what is not there whole.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::play::{End, Outcome, Play};
use common::replies;
use common::room::Room;
use common::{store, workers};

const BODY: &str = "Subject: kills\r\n\r\nfirst line\r\n..second line\r\nthird line\r\n";
const STORED: &[u8] = b"Subject: kills\n\nfirst line\n.second line\nthird line\n";

fn session() -> Vec<u8> {
    format!(
        "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n{BODY}.\r\nQUIT\r\n"
    )
    .into_bytes()
}

/// Whether the client was told that its message is accepted. What a killed program says last may be cut short.
fn accepted(output: &[u8]) -> bool {
    let end = output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let replies = replies::of(&output[..end]);
    replies::verdicts(&replies).into_iter().flatten().any(|reply| reply.class() == 2)
}

/// Each system call of one whole session in order: its name, and the how manieth of that name it is.
fn system_calls(strace: &Path, room: &Room) -> Vec<(String, usize)> {
    let trace = room.path("log/trace");
    let words = [strace.as_os_str(), "-qq".as_ref(), "-o".as_ref(), trace.as_os_str()];
    let outcome = Play::new(room).under(words).run(&session());
    assert!(accepted(&outcome.output), "the run without a fault: {outcome:?}");
    let mut seen = BTreeMap::<String, usize>::new();
    let text = fs::read_to_string(&trace).unwrap();
    let names = text.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name);
    let ours = names
        .filter(|name| !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_'));
    // Waits: how many there are depends on how busy the machine is, and they change nothing.
    ours.filter(|name| !["ioctl", "ppoll", "poll"].contains(name))
        .map(|name| {
            let count = seen.entry(name.to_owned()).or_default();
            *count += 1;
            (name.to_owned(), *count)
        })
        .collect()
}

/// Kills at each system call; `stored` reads what the backend then holds.
fn kill_everywhere(what: &str, make: impl Fn() -> Room + Sync, stored: impl Fn(&Room) -> Vec<Vec<u8>> + Sync) {
    let Some(strace) = common::require("strace") else {
        return;
    };
    let calls = system_calls(&strace, &make());
    let outcomes = workers::each(&calls, |(name, number)| {
        let room = make();
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let words =
            [strace.as_os_str(), "-qq".as_ref(), "-o".as_ref(), "/dev/null".as_ref(), "-e".as_ref(), inject.as_ref()];
        let outcome = Play::new(&room).under(words).run(&session());
        (outcome, stored(&room))
    });
    let (mut killed, mut lost, mut half, mut hangs) = (0, 0, 0, 0);
    for ((name, number), (outcome, stored)) in calls.iter().zip(&outcomes) {
        killed += usize::from(outcome.end == End::Signal(9));
        let bad = stored.iter().filter(|message| !message.ends_with(STORED)).count();
        let gone = usize::from(accepted(&outcome.output) && stored.is_empty());
        let hang = usize::from(outcome.end == End::Overtime);
        if bad + gone + hang > 0 || stored.len() > 1 {
            eprintln!("killed at {name} {number}: half {bad}, lost {gone}, hang {hang}, stored {}", stored.len());
        }
        assert!(stored.len() <= 1, "killed at {name} {number}: stored twice");
        (half, lost, hangs) = (half + bad, lost + gone, hangs + hang);
    }
    eprintln!(
        "{what}: faults tried {}, killed {killed}, mails lost {lost}, half mails visible {half}, hangs {hangs}",
        calls.len()
    );
    // The numbers of a call can shift by one or two from run to run, but most must have met their mark.
    assert!(killed * 10 >= calls.len() * 9, "only {killed} of {} were killed", calls.len());
    assert_eq!((lost, half, hangs), (0, 0, 0));
}

#[test]
fn killed_at_every_system_call_before_a_maildir() {
    kill_everywhere("maildir", Room::with_maildir, |room| store::delivered(&room.path("mail")));
}

#[test]
fn killed_at_every_system_call_before_qmail_queue() {
    kill_everywhere("qmail-queue", Room::with_queue, |room| {
        // The stand-in may still be at work on what it was given whole.
        std::thread::sleep(std::time::Duration::from_millis(150));
        store::queued(room).into_iter().map(|queued| queued.message).collect()
    });
}

/// Every write to the maildir's or the spool's files fails in turn, as a full disk makes it.
#[test]
fn every_file_operation_fails_once() {
    let Some(strace) = common::require("strace") else {
        return;
    };
    let calls = system_calls(&strace, &Room::with_maildir());
    const FILES: [&str; 11] =
        ["openat", "open", "write", "writev", "pwrite64", "fsync", "fdatasync", "link", "linkat", "rename", "close"];
    let calls: Vec<_> = calls.into_iter().filter(|(name, _)| FILES.contains(&name.as_str())).collect();
    assert!(!calls.is_empty());
    let results = workers::each(&calls, |(name, number)| {
        let room = Room::with_maildir();
        let inject = format!("inject={name}:error=ENOSPC:when={number}");
        let words =
            [strace.as_os_str(), "-qq".as_ref(), "-o".as_ref(), "/dev/null".as_ref(), "-e".as_ref(), inject.as_ref()];
        let outcome = Play::new(&room).under(words).run(&session());
        (outcome, store::delivered(&room.path("mail")))
    });
    for ((name, number), (outcome, stored)) in calls.iter().zip(&results) {
        let name = format!("{name} {number} fails: {:?}", String::from_utf8_lossy(&outcome.output));
        assert_ne!(outcome.end, End::Overtime, "{name}");
        assert!(stored.iter().all(|message| message.ends_with(STORED)), "{name}: half a mail");
        assert!(!accepted(&outcome.output) || stored.len() == 1, "{name}: lost");
    }
    eprintln!("file operations failed {}, mails lost 0, half mails visible 0, hangs 0", results.len());
}

/// Runs with `dir` of the room on a file system of 256 KiB, and copies what it then holds to `seen`.
fn on_a_small_disk(room: &Room, dir: &str, input: &[u8]) -> Option<Outcome> {
    let unshare = common::require("unshare")?;
    let user = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    if !Command::new(&unshare).args([user, "mount", "-t", "tmpfs", "none", "/mnt"]).status().unwrap().success() {
        common::skip("no file system can be mounted here");
        return None;
    }
    let script =
        r#"mount -t tmpfs -o size=256k none "$1" && dir=$1 && shift && "$@"; s=$?; cp -R "$dir" seen; exit $s"#;
    let dir = room.path(dir);
    let words = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), "sh".as_ref(), dir.as_os_str()];
    Some(Play::new(room).under([unshare.as_os_str(), user.as_ref()].into_iter().chain(words)).run(input))
}

#[test]
fn a_full_disk() {
    let body = format!("Subject: full\r\n\r\n{}", format!("{:x<62}\r\n", "").repeat(16 * 1024));
    let before = "EHLO c.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\n";
    let input = format!("{before}{body}.\r\nQUIT\r\n");
    for (dir, make) in [("spool", Room::with_queue as fn() -> Room), ("mail", Room::with_maildir)] {
        let room = make();
        room.config("size_threshold", "10000\n");
        let Some(outcome) = on_a_small_disk(&room, dir, input.as_bytes()) else {
            return;
        };
        let replies = replies::of(&outcome.output);
        let verdict = replies::verdicts(&replies)[0].unwrap_or_else(|| panic!("{dir}: no reply: {replies:?}"));
        // The whole content is taken in before the reply, and QUIT is understood after it.
        assert_eq!((verdict.class(), replies.last().unwrap().code), (4, 221), "{dir} full: {replies:?}");
        assert_eq!(dir == "spool", verdict.code == 452, "{dir} full: {verdict:?}");
        let seen = room.path("seen");
        let files = store::maildirs(&seen).iter().flat_map(|dir| store::maildir(dir)).count();
        let others = store::names(&seen).into_iter().filter(|path| path.is_file()).count();
        assert_eq!((files, others, store::queued(&room).len()), (0, 0, 0), "{dir} full: something was left");
    }
}
