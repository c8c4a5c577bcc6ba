//! Plays every `tests/dialogs/TOPIC/CASE.smtp` and compares what came of it with the files beside it.
//!
//! `CASE.reply`: standard output. `CASE.queued`: what the stand-in for qmail-queue was given, and what stands in
//! maildirs; no file where nothing may be queued. `CASE.env`: variables, `NAME=VALUE` a line. `CASE.args`: arguments, one a line. `CASE.status`: the exit
//! status, where it is not 0. The topic's `config/` is copied to a temporary directory first, so relative paths lead
//! there. `BLESS=1` rewrites the expectations: read that diff as you would code.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::normal::{difference, normal, readable};
use common::play::{End, Outcome, Play};
use common::room::Room;
use common::{store, workers};

#[test]
fn every_dialog_gives_what_is_written_beside_it() {
    let cases = cases(&common::tests().join("dialogs"));
    assert!(!cases.is_empty(), "no dialog found");
    let faults: Vec<String> = workers::each(&cases, |case| check(case)).into_iter().flatten().collect();
    assert!(faults.is_empty(), "{} of {} dialogs differ\n\n{}", faults.len(), cases.len(), faults.join("\n"));
}

/// Every `.smtp` file, sorted, one level down.
fn cases(dialogs: &Path) -> Vec<PathBuf> {
    let files = store::names(dialogs).into_iter().flat_map(|topic| store::names(&topic));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "smtp")).collect()
}

/// What is wrong with one case; `None` if nothing is.
fn check(case: &Path) -> Option<String> {
    let room = Room::bare();
    let config = case.parent().unwrap().join("config");
    if !config.is_dir() {
        return Some(format!("{}: no config/ beside it\n", case.display()));
    }
    room.copy_config(&config);
    let mut play = Play::new(&room).variable("QMAILQUEUE", room.stand_in());
    for line in text(&case.with_extension("env")).lines() {
        let (name, value) = line.split_once('=').expect("CASE.env has lines NAME=VALUE");
        play = play.variable(name, value);
    }
    for word in text(&case.with_extension("args")).lines() {
        play = play.argument(word);
    }
    let outcome = play.run(&fs::read(case).unwrap());

    let mut faults = broken_promises(&room, &outcome);
    let status = match outcome.end {
        End::Code(0) => String::new(),
        End::Code(code) => format!("{code}\n"),
        // No file can expect this: a dialog that is killed or hangs is always wrong.
        ended => {
            faults.push_str(&format!("  ended with {ended:?}\n"));
            String::new()
        }
    };
    faults += &compare(&case.with_extension("reply"), &normal(&outcome.output, &outcome.log));
    faults += &compare(&case.with_extension("queued"), &normal(&arrived(&room), &outcome.log));
    faults += &compare(&case.with_extension("status"), status.as_bytes());
    (!faults.is_empty()).then(|| format!("{}\n{faults}  log:\n{}", case.display(), outcome.log))
}

/// What no dialog may do, whatever its files say.
fn broken_promises(room: &Room, outcome: &Outcome) -> String {
    let mut faults = String::new();
    for path in room.left_behind() {
        faults.push_str(&format!("  left behind: {}\n", path.display()));
    }
    for breach in store::breaches(room) {
        faults.push_str(&format!("  qmail-queue's protocol broken: {breach}"));
    }
    if outcome.log.contains("panicked at") {
        faults.push_str("  a panic\n");
    }
    if !outcome.released {
        faults.push_str("  something outlived it and holds the client's descriptor\n");
    }
    faults
}

/// Compares a file's content with what was found; no file is the same as an empty one.
fn compare(file: &Path, found: &[u8]) -> String {
    let expected = fs::read(file).unwrap_or_default();
    if expected == found {
        return String::new();
    }
    if std::env::var_os("BLESS").is_none() {
        let name = file.file_name().unwrap().to_string_lossy();
        // The other files are text already.
        let show = |octets: &[u8]| match file.extension() {
            Some(kind) if kind == "reply" => readable(octets),
            _ => String::from_utf8_lossy(octets).into_owned(),
        };
        return format!("  {name}:\n{}", difference(&show(&expected), &show(found)));
    }
    if found.is_empty() {
        fs::remove_file(file).unwrap();
    } else {
        fs::write(file, found).unwrap();
    }
    String::new()
}

/// Everything that arrived anywhere, as text: a headline, then what it holds, each line after two blanks.
fn arrived(room: &Room) -> Vec<u8> {
    let mut all = String::new();
    let mut part = |headline: String, octets: &[u8]| {
        all.push_str(&headline);
        all.push('\n');
        readable(octets).lines().for_each(|line| all.push_str(&format!("  {line}\n")));
    };
    for (at, queued) in store::queued(room).iter().enumerate() {
        part(format!("message {}", at + 1), &queued.message);
        // One record a line, so that a change of one recipient is a change of one line.
        let records = queued.envelope.split_inclusive(|&octet| octet == 0);
        let records: Vec<u8> = records
            .flat_map(|record| {
                [
                    record, b"
",
                ]
                .concat()
            })
            .collect();
        part(format!("envelope {}", at + 1), &records);
    }
    for dir in store::maildirs(room.root()) {
        let mut messages = store::maildir(&dir);
        messages.sort();
        let name = dir.strip_prefix(room.root()).unwrap().display();
        messages.iter().for_each(|message| part(format!("maildir {name}"), message));
    }
    all.into_bytes()
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
