//! What becomes of a mail when the hand-over to a backend fails at any point: the maildir's file operations one by one,
//! kills at every system call, trouble with directories and room, and the time limits of qmail-queue.
//!
//! Adds to `faults.rs` and `kills.rs`: several copies of one message, and what the disk was told in which order.
//! With `POSTERN_TESTS_FULL=1` every call of every scenario is tried, else a sample; each test prints its line of the table.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::client::{Client, Log};
use common::play::{End, Outcome, Play};
use common::replies::{self, Reply};
use common::room::Room;
use common::{store, workers};

/// Where the maildirs of every room are, below its configuration directory.
const STORE: &str = "config/mails";

/// Local-parts of the recipients, where there are several.
const SEVERAL: [&str; 3] = ["x", "y", "z"];

/// One way of using a backend.
struct Scenario {
    name: &'static str,
    /// The queue line.
    line: &'static str,
    recipients: &'static [&'static str],
    /// Lines of 64 octets in the message.
    lines: usize,
    /// Whether the maildirs are there already.
    warm: bool,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "maildir, new", line: "queue/maildir mails", recipients: &["x"], lines: 1, warm: false },
    Scenario { name: "maildir", line: "queue/maildir mails", recipients: &["x"], lines: 1, warm: true },
    Scenario { name: "maildir, 256 KiB", line: "queue/maildir mails", recipients: &["x"], lines: 4096, warm: true },
    Scenario {
        name: "3 maildirs, new",
        line: "queue/maildir mails %d/%l",
        recipients: &SEVERAL,
        lines: 1,
        warm: false,
    },
    Scenario { name: "3 maildirs", line: "queue/maildir mails %d/%l", recipients: &SEVERAL, lines: 1, warm: true },
    Scenario {
        name: "qmail-queue",
        line: "queue/qmail-queue ../bin/qmail-queue",
        recipients: &SEVERAL,
        lines: 1,
        warm: true,
    },
    Scenario {
        name: "qmail-queue, 256 KiB",
        line: "queue/qmail-queue ../bin/qmail-queue",
        recipients: &["x"],
        lines: 4096,
        warm: true,
    },
];

/// `store %d/%l` with three recipients, nothing there yet: the most system calls.
const HARDEST: &Scenario = &SCENARIOS[3];

impl Scenario {
    fn room(&self) -> Room {
        let room = Room::new(&format!("rcpt_ok\n{}\n", self.line));
        // So that a long message waits in a file.
        room.config("size_threshold", "65536\n");
        if self.warm && !self.queues() {
            for maildir in self.maildirs(&room) {
                ["new", "cur", "tmp"].iter().for_each(|part| fs::create_dir_all(maildir.join(part)).unwrap());
            }
        }
        room
    }

    fn queues(&self) -> bool {
        self.line.contains("qmail-queue")
    }

    fn maildirs(&self, room: &Room) -> Vec<PathBuf> {
        let store = room.path(STORE);
        if !self.line.contains('%') {
            return vec![store];
        }
        self.recipients.iter().map(|name| store.join("here.example").join(name)).collect()
    }

    /// Copies that an accepted message makes.
    fn copies(&self, room: &Room) -> usize {
        if self.queues() { 1 } else { self.maildirs(room).len() }
    }

    /// The copies that are there.
    fn stored(&self, room: &Room) -> Vec<Vec<u8>> {
        if self.queues() {
            return store::queued(room).into_iter().map(|queued| queued.message).collect();
        }
        self.maildirs(room).iter().flat_map(|maildir| store::delivered(maildir)).collect()
    }

    fn session(&self) -> Vec<u8> {
        session(self.recipients, self.lines)
    }

    fn whole(&self) -> Vec<u8> {
        content(self.lines).replace("\r\n", "\n").into_bytes()
    }
}

fn content(lines: usize) -> String {
    format!("Subject: faults\r\n\r\n{}", format!("{:-<62}\r\n", "line").repeat(lines))
}

fn session(recipients: &[&str], lines: usize) -> Vec<u8> {
    let paths: String = recipients.iter().map(|name| format!("RCPT TO:<{name}@here.example>\r\n")).collect();
    let before = format!("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n{paths}DATA\r\n");
    format!("{before}{}.\r\nQUIT\r\n", content(lines)).into_bytes()
}

fn full() -> bool {
    std::env::var_os("POSTERN_TESTS_FULL").is_some_and(|value| value != "0")
}

/// The reply that decided about the only message. What a killed program says last may be cut short.
fn verdict(outcome: &Outcome) -> Option<Reply> {
    let end = outcome.output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let replies = replies::of(&outcome.output[..end]);
    replies::verdicts(&replies).into_iter().flatten().next().cloned()
}

/// The verdict of a run that was not killed.
fn decided(outcome: &Outcome) -> Reply {
    verdict(outcome).unwrap_or_else(|| panic!("nothing decided: {outcome:?}"))
}

// ---- counting

/// One line of the table.
#[derive(Default)]
struct Tally {
    tried: usize,
    killed: usize,
    accepted: usize,
    lost: usize,
    half: usize,
    hangs: usize,
    /// Refused, and yet a copy is there: a duplicate after the next try.
    repeated: usize,
}

impl Tally {
    fn count(&mut self, fault: &str, scenario: &Scenario, room: &Room, outcome: &Outcome) {
        let (stored, whole) = (scenario.stored(room), scenario.whole());
        let accepted = verdict(outcome).is_some_and(|reply| reply.class() == 2);
        let half = stored.iter().filter(|message| !message.ends_with(&whole)).count();
        let lost = accepted && stored.len() < scenario.copies(room);
        let hang = outcome.end == End::Overtime || !outcome.released;
        if half > 0 || lost || hang {
            eprintln!(
                "{}, {fault}: accepted {accepted}, stored {}, half {half}, hang {hang}",
                scenario.name,
                stored.len()
            );
            eprintln!("{}", outcome.log);
        }
        assert!(stored.len() <= scenario.copies(room), "{}, {fault}: stored twice", scenario.name);
        self.tried += 1;
        self.killed += usize::from(outcome.end == End::Signal(9));
        self.accepted += usize::from(accepted);
        self.lost += usize::from(lost);
        self.half += half;
        self.hangs += usize::from(hang);
        self.repeated += usize::from(!accepted && !stored.is_empty());
    }

    fn print(&self, fault: &str, scenario: &str) {
        let Tally { tried, killed, accepted, lost, half, hangs, repeated } = self;
        eprintln!(
            "| {fault:<22} | {scenario:<20} | tried {tried:>4} | killed {killed:>4} | accepted {accepted:>4} | \
             acknowledged but lost {lost} | half visible {half} | hangs {hangs} | may be doubled {repeated:>3} |"
        );
        assert!(*tried > 0 && lost + half + hangs == 0, "{fault}, {scenario}");
    }
}

// ---- system calls

/// One system call of a run, as strace wrote it.
struct Call {
    name: String,
    /// The how manieth of this name.
    number: usize,
    text: String,
}

impl Call {
    /// Whether it is about the place where the mail is stored.
    fn stores(&self) -> bool {
        self.text.contains(&format!("/{STORE}"))
    }
}

/// Every system call of a run without a fault. It must be accepted.
fn calls(strace: &Path, room: &Room, input: &[u8]) -> Vec<Call> {
    let trace = room.path("log/trace");
    let words = [strace.as_os_str(), "-qq".as_ref(), "-y".as_ref(), "-o".as_ref(), trace.as_os_str()];
    let outcome = Play::new(room).under(words).run(input);
    assert_eq!(decided(&outcome).class(), 2, "the run without a fault: {outcome:?}");
    let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
    let mut seen = BTreeMap::<String, usize>::new();
    let named = text.lines().filter_map(|line| Some((line.split_once('(')?.0, line)));
    let ours = named.filter(|(name, _)| name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_'));
    // Waits: how many there are depends on how busy the machine is, and they change nothing.
    ours.filter(|(name, _)| !["ioctl", "ppoll", "poll"].contains(name))
        .map(|(name, line)| {
            let number = seen.entry(name.to_owned()).or_default();
            *number += 1;
            Call { name: name.to_owned(), number: *number, text: line.to_owned() }
        })
        .collect()
}

/// A run in which strace does something at one call.
fn with_fault(strace: &Path, room: &Room, input: &[u8], call: &Call, what: &str) -> Outcome {
    let inject = format!("inject={}:{what}:when={}", call.name, call.number);
    let quiet = ["-qq", "-o", "/dev/null", "-e"].map(std::ffi::OsStr::new);
    let words = [strace.as_os_str()].into_iter().chain(quiet).chain([inject.as_ref()]);
    Play::new(room).under(words).run(input)
}

/// The sample: everything from the hand-over on, and every seventh call before it.
fn sample(mut calls: Vec<Call>, scenario: &Scenario) -> Vec<Call> {
    if full() || std::ptr::eq(scenario, HARDEST) {
        return calls;
    }
    let begins = |call: &Call| call.stores() || call.name == "pipe2";
    let from = calls.iter().position(begins).unwrap_or(calls.len());
    let mut at = 0;
    calls.retain(|_| {
        at += 1;
        if at <= from { at % 7 == 0 } else { at % 3 == 0 }
    });
    calls
}

#[test]
fn killed_at_every_system_call() {
    let Some(strace) = common::require("strace") else { return };
    for scenario in SCENARIOS {
        let calls = sample(calls(&strace, &scenario.room(), &scenario.session()), scenario);
        let runs = workers::each(&calls, |call| {
            let room = scenario.room();
            let outcome = with_fault(&strace, &room, &scenario.session(), call, "signal=KILL");
            if scenario.queues() {
                // The stand-in may still be at work on what it was given whole.
                std::thread::sleep(Duration::from_millis(200));
            }
            (room, outcome)
        });
        let mut tally = Tally::default();
        for (call, (room, outcome)) in calls.iter().zip(&runs) {
            tally.count(&format!("killed at {} {}", call.name, call.number), scenario, room, outcome);
        }
        tally.print("kill -9", scenario.name);
        // Numbers of calls can shift by one or two from run to run.
        assert!(tally.killed * 10 >= tally.tried * 9, "{}: few were killed", scenario.name);
    }
}

/// Errors that a disk, a quota, a mount or a limit gives. (EINTR is no fault: it is tried again.)
const ERRORS: [&str; 7] = ["ENOSPC", "EIO", "EDQUOT", "EACCES", "EROFS", "EMFILE", "ESTALE"];

/// Every call that touches the store fails once with each error: all copies or none, 451, 4.3.1 where there is no room.
#[test]
fn every_call_of_the_hand_over_fails_once() {
    let Some(strace) = common::require("strace") else { return };
    for scenario in SCENARIOS.iter().filter(|scenario| !scenario.queues()) {
        let mut calls = calls(&strace, &scenario.room(), &scenario.session());
        // Whether a call succeeded is seen in what it gave; a close that fails comes after a sync, and means nothing.
        calls.retain(|call| call.stores() && !call.text.contains("= -1") && !["close", "fcntl"].contains(&&*call.name));
        let errors = if full() || std::ptr::eq(scenario, HARDEST) { &ERRORS[..] } else { &ERRORS[..2] };
        let cases: Vec<(&Call, &str)> =
            calls.iter().flat_map(|call| errors.iter().map(move |error| (call, *error))).collect();
        let runs = workers::each(&cases, |(call, error)| {
            let room = scenario.room();
            let outcome = with_fault(&strace, &room, &scenario.session(), call, &format!("error={error}"));
            (room, outcome)
        });
        let mut tally = Tally::default();
        let mut refused = 0;
        for ((call, error), (room, outcome)) in cases.iter().zip(&runs) {
            let fault = format!("{error} at {} {}", call.name, call.number);
            tally.count(&fault, scenario, room, outcome);
            let reply = decided(outcome);
            // A name in tmp that stays is no reason to refuse.
            let harmless = call.name == "unlink";
            let stored = scenario.stored(room).len();
            match reply.class() {
                2 => assert!(harmless, "{}, {fault}: {reply:?}", scenario.name),
                _ => {
                    refused += 1;
                    let room_left = !["ENOSPC", "EDQUOT"].contains(error);
                    let begin = if room_left { "4.3.0 the message cannot be stored" } else { "4.3.1 no room" };
                    assert_eq!(reply.code, 451, "{}, {fault}", scenario.name);
                    assert!(reply.lines[0].starts_with(begin), "{}, {fault}: {reply:?}", scenario.name);
                    assert_eq!(stored, 0, "{}, {fault}: some copies stay", scenario.name);
                    assert!(
                        outcome.log.contains(&format!("/{STORE}")),
                        "{fault}: the log names no path: {}",
                        outcome.log
                    );
                }
            }
            if call.name != "unlink" {
                let left: Vec<PathBuf> =
                    scenario.maildirs(room).iter().flat_map(|maildir| store::names(&maildir.join("tmp"))).collect();
                assert!(left.is_empty(), "{}, {fault}: left in tmp: {left:?}", scenario.name);
            }
        }
        assert!(refused * 2 > cases.len(), "{}: few errors were noticed", scenario.name);
        tally.print("one call fails", scenario.name);
    }
}

/// Files are synced before the first is linked, directories after the last link, and then the client is told.
#[test]
fn the_disk_has_it_before_the_client_is_told() {
    let Some(strace) = common::require("strace") else { return };
    for scenario in SCENARIOS.iter().filter(|scenario| !scenario.queues()) {
        let room = scenario.room();
        let calls = calls(&strace, &room, &scenario.session());
        let places = |name: &str, part: &str| -> Vec<usize> {
            // The room itself is below /tmp.
            let inside = |call: &Call| call.text.split(&format!("/{STORE}")).skip(1).any(|rest| rest.contains(part));
            let wanted = |call: &Call| call.name == name && inside(call);
            calls.iter().enumerate().filter(|(_, call)| wanted(call)).map(|(at, _)| at).collect()
        };
        let told = calls.iter().position(|call| call.text.contains("\"250 2.0.0 queued as")).unwrap();
        let copies = scenario.copies(&room);
        let (written, synced) = (places("write", "/tmp/"), places("fsync", "/tmp/"));
        let linked: Vec<usize> = places("linkat", "/new/");
        let dirs_synced = places("fsync", "/new>");
        assert!(written.len() >= copies, "{}", scenario.name);
        assert_eq!((synced.len(), linked.len(), dirs_synced.len()), (copies, copies, copies), "{}", scenario.name);
        let ordered = written.iter().min() < synced.iter().min()
            && written.iter().max() < synced.iter().max()
            && synced.iter().max() < linked.iter().min()
            && linked.iter().max() < dirs_synced.iter().min()
            && dirs_synced.iter().all(|&at| at < told);
        let shown: Vec<&str> = calls.iter().filter(|call| call.stores()).map(|call| &*call.text).collect();
        assert!(ordered, "{}:\n{}", scenario.name, shown.join("\n"));
        // Each directory that was made is synced into the one above it.
        for (at, call) in
            calls.iter().enumerate().filter(|(_, call)| call.name == "mkdir" && call.text.ends_with("= 0"))
        {
            let made = Path::new(call.text.split('"').nth(1).unwrap());
            let above = format!("{}>", made.parent().unwrap().display());
            let synced = calls[at..told].iter().any(|call| call.name == "fsync" && call.text.contains(&above));
            assert!(synced, "{}: {} is not synced", scenario.name, call.text);
        }
    }
    eprintln!("| order of sync, link, sync and 250 as documented, in {} scenarios |", SCENARIOS.len() - 2);
}

/// The envelope is written only after the message's pipe was closed, and 250 only after status 0.
#[test]
fn qmail_queue_has_said_yes_before_the_client_is_told() {
    let Some(strace) = common::require("strace") else { return };
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.queues()) {
        let calls = calls(&strace, &scenario.room(), &scenario.session());
        let find = |what: &dyn Fn(&Call) -> bool| calls.iter().position(what);
        let envelope = find(&|call| call.name == "write" && call.text.contains("\"Fa@client.example\\0")).unwrap();
        let pipe = |call: &Call| {
            call.text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(pipe, _)| pipe.to_owned())
        };
        let message =
            calls.iter().find(|call| call.name == "write" && call.text.contains("Received: from")).and_then(pipe);
        let message = message.unwrap();
        assert!(message.starts_with("pipe:"), "{message}");
        let closed = calls.iter().rposition(|call| call.name == "close" && call.text.contains(&message)).unwrap();
        let waited = find(&|call| call.name == "wait4" && call.text.contains("WEXITSTATUS(s) == 0")).unwrap();
        let told = find(&|call| call.text.contains("\"250 2.0.0 queued qp")).unwrap();
        assert!(closed < envelope && envelope < waited && waited < told, "{closed} {envelope} {waited} {told}");
    }
}

// ---- trouble with directories

/// How a maildir may be found, and what that leads to.
type Trouble = (&'static str, fn(&Path), u16, &'static str);

const TROUBLES: &[Trouble] = &[
    ("nothing there", |dir| fs::remove_dir_all(dir).unwrap(), 250, ""),
    ("no tmp", |dir| fs::remove_dir(dir.join("tmp")).unwrap(), 250, ""),
    ("no new", |dir| fs::remove_dir(dir.join("new")).unwrap(), 250, ""),
    ("no cur", |dir| fs::remove_dir(dir.join("cur")).unwrap(), 250, ""),
    ("a link to another directory", |dir| replace(dir, |dir| symlink(".", dir).unwrap()), 250, ""),
    ("no rights", |dir| mode(dir, 0o000), 451, "create"),
    (
        "read only, no tmp",
        |dir| {
            fs::remove_dir(dir.join("tmp")).unwrap();
            mode(dir, 0o500)
        },
        451,
        "mkdir",
    ),
    ("tmp read only", |dir| mode(&dir.join("tmp"), 0o500), 451, "create"),
    ("new read only", |dir| mode(&dir.join("new"), 0o500), 451, "link"),
    ("new not readable, so that it cannot be synced", |dir| mode(&dir.join("new"), 0o300), 451, "sync"),
    ("new is a file", |dir| replace(&dir.join("new"), |new| fs::write(new, "").unwrap()), 451, "link"),
    ("new is a dangling link", |dir| replace(&dir.join("new"), |new| symlink("nowhere", new).unwrap()), 451, "link"),
    ("tmp is a file", |dir| replace(&dir.join("tmp"), |tmp| fs::write(tmp, "").unwrap()), 451, "create"),
    ("all is a file", |dir| replace(dir, |dir| fs::write(dir, "").unwrap()), 451, "create"),
];

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn replace(path: &Path, by: impl Fn(&Path)) {
    fs::remove_dir_all(path).unwrap();
    by(path);
}

/// Words that take from root what makes rights of files not matter; none for anybody else.
fn without_power() -> Option<Vec<PathBuf>> {
    if !nix::unistd::geteuid().is_root() {
        return Some(Vec::new());
    }
    let setpriv = common::require("setpriv")?;
    Some(vec![setpriv, "--bounding-set".into(), "-dac_override,-dac_read_search".into()])
}

#[test]
fn directories_that_are_missing_or_in_the_way() {
    let Some(words) = without_power() else { return };
    let mut refused = 0;
    for (scenario, spoilt) in [(&SCENARIOS[1], 0), (&SCENARIOS[4], 1)] {
        for (name, spoil, code, step) in TROUBLES {
            let room = scenario.room();
            let maildir = scenario.maildirs(&room)[spoilt].clone();
            spoil(&maildir);
            let outcome = Play::new(&room).under(&words).run(&scenario.session());
            // Rights back, to look and to clean up.
            for dir in [maildir.clone(), maildir.join("tmp"), maildir.join("new")] {
                if dir.is_dir() {
                    mode(&dir, 0o700);
                }
            }
            let name = format!("{}, {name}", scenario.name);
            assert_eq!(decided(&outcome).code, *code, "{name}: {}", outcome.log);
            let stored = scenario.maildirs(&room).iter().map(|maildir| store::maildir(maildir).len()).sum::<usize>();
            assert_eq!(stored, if *code == 250 { scenario.copies(&room) } else { 0 }, "{name}");
            // The step that failed, and where, for whoever has to mend it.
            let told = step.is_empty() || outcome.log.contains(&format!("{step} {}", maildir.display()));
            assert!(told, "{name}: {}", outcome.log);
            refused += usize::from(*code != 250);
        }
    }
    eprintln!(
        "| directories missing or in the way: tried {}, refused {refused}, lost 0, half visible 0 |",
        2 * TROUBLES.len()
    );
}

/// Words that run the program in a mount namespace of its own after `script`, whose `$1` is `dir`.
fn mounted(script: &str, dir: &Path) -> Option<Vec<PathBuf>> {
    let unshare = common::require("unshare")?;
    let user = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    let can = Command::new(&unshare).args([user, "mount", "-t", "tmpfs", "none", "/mnt"]).status().unwrap();
    if !can.success() {
        common::skip("no file system can be mounted here");
        return None;
    }
    let script = format!("{script}\nshift; \"$@\"; s=$?; find \"$dir\" -type f > found; exit $s");
    Some(vec![
        unshare,
        user.into(),
        "sh".into(),
        "-ec".into(),
        format!("dir=$1; {script}").into(),
        "sh".into(),
        dir.into(),
    ])
}

/// What stood below the mounted directory at the end.
fn found(room: &Room) -> Vec<String> {
    fs::read_to_string(room.path("found")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn tmp_and_new_on_two_file_systems() {
    let scenario = &SCENARIOS[1];
    let room = scenario.room();
    let Some(words) = mounted("mount -t tmpfs none \"$dir/new\"", &room.path(STORE)) else { return };
    let outcome = Play::new(&room).under(words).run(&scenario.session());
    let reply = decided(&outcome);
    assert_eq!((reply.code, found(&room)), (451, Vec::new()), "{}", outcome.log);
    assert!(outcome.log.contains("link ") && outcome.log.contains("cross-device"), "{}", outcome.log);
}

/// Room for two of three copies: none stays. Then a smaller message, for which there is room again.
#[test]
fn a_disk_that_is_full_before_the_last_copy() {
    let room = HARDEST.room();
    let make = "mkdir -p \"$dir\"; mount -t tmpfs -o size=256k,mode=700 none \"$dir\"";
    let Some(words) = mounted(make, &room.path(STORE)) else { return };
    let large = session(&SEVERAL, 1500);
    let both = [large.strip_suffix(b"QUIT\r\n").unwrap(), &HARDEST.session()].concat();
    let outcome = Play::new(&room).under(words).run(&both);
    let replies = replies::of(&outcome.output);
    let verdicts = replies::verdicts(&replies);
    let codes: Vec<u16> = verdicts.iter().flatten().map(|reply| reply.code).collect();
    assert_eq!(codes, [451, 250], "{}", outcome.log);
    assert!(verdicts[0].unwrap().lines[0].starts_with("4.3.1 no room"), "{replies:?}");
    let found = found(&room);
    assert_eq!((found.len(), found.iter().filter(|path| path.contains("/new/")).count()), (3, 3), "{found:?}");
    eprintln!("| disk full before the third of three copies: lost 0, half visible 0, copies left 0 |");
}

/// Many processes at once, on maildirs that none of them finds there.
#[test]
fn many_processes_store_at_once() {
    let room = HARDEST.room();
    let turns: Vec<usize> = (0..if full() { 400 } else { 60 }).collect();
    let accepted = workers::each(&turns, |_| decided(&Play::new(&room).run(&HARDEST.session())).code);
    assert!(accepted.iter().all(|code| *code == 250));
    let mut names = BTreeSet::new();
    for maildir in HARDEST.maildirs(&room) {
        let messages = store::maildir(&maildir);
        assert!(messages.iter().all(|message| message.ends_with(&HARDEST.whole())));
        assert_eq!(messages.len(), turns.len());
        names.extend(store::names(&maildir.join("new")).iter().map(|path| path.file_name().unwrap().to_owned()));
    }
    assert_eq!(names.len(), turns.len() * SEVERAL.len(), "every name is given once");
}

// ---- qmail-queue's time, and its end

/// It reads all the time, and would take minutes: progress does not help against the deadline.
#[test]
fn a_reader_that_is_too_slow_for_the_whole() {
    let room = Room::with_queue().impatient(5, 2);
    let begun = Instant::now();
    let outcome = Play::new(&room).fault("slow=50").run(&session(&["x"], 4096));
    let reply = decided(&outcome);
    assert_eq!((reply.code, store::queued(&room).len()), (451, 0), "{}", outcome.log);
    assert!(reply.lines[0].contains("timeout") && outcome.log.contains("killed"), "{}", outcome.log);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A stop of the service while qmail-queue works: the hand-over is finished and its result told.
#[test]
fn told_to_end_while_the_message_is_handed_over() {
    let room = Room::with_queue();
    let fault = [("POSTERN_TEST_QUEUE_FAULT", "late=1000")];
    let (mut client, mut served) = Client::serve_with(&room, Log::File, &fault);
    let input = session(&["x"], 1);
    client.send(input.strip_suffix(b"QUIT\r\n").unwrap());
    // Stored, and not yet told.
    let until = Instant::now() + Duration::from_secs(10);
    while store::queued(&room).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    served.signal(nix::sys::signal::Signal::SIGTERM);
    let said = client.rest();
    let replies = replies::of(&said);
    let verdict = replies::verdicts(&replies)[0].unwrap();
    assert_eq!(verdict.code, 250, "{replies:?}");
    assert_eq!(replies.last().unwrap().code, 421, "{replies:?}");
    assert_ne!(served.end(Duration::from_secs(10)), End::Overtime);
    assert_eq!(store::queued(&room).len(), 1);
}

/// A file without the right to be run, one that is no program, and a directory are transient trouble, told without a hang.
#[test]
fn a_program_that_cannot_be_run() {
    let table: [(&str, fn(&Path), &str); 4] = [
        ("missing", |_| {}, "No such file"),
        ("not executable", |path| fs::write(path, "#!/bin/sh\n").unwrap(), "ermission denied"),
        ("a directory", |path| fs::create_dir(path).unwrap(), "ermission denied"),
        (
            "no program",
            |path| {
                fs::write(path, "\x7fELF and no more").unwrap();
                mode(path, 0o755)
            },
            "xec format",
        ),
    ];
    for (name, make, why) in table {
        let room = Room::new("rcpt_ok\nqueue/qmail-queue ../bin/odd\n");
        make(&room.path("bin/odd"));
        let outcome = Play::new(&room).run(&session(&["x"], 1));
        let reply = decided(&outcome);
        assert_eq!(reply.code, 451, "{name}: {reply:?}");
        assert!(outcome.log.contains("bin/odd") && outcome.log.contains(why), "{name}: {}", outcome.log);
    }
}
