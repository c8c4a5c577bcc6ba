//! Reads what arrived: at the stand-in for qmail-queue, and in maildirs.

use std::fs;
use std::path::{Path, PathBuf};

use super::normal::{difference, readable};
use super::room::Room;

/// One message that the stand-in took.
#[derive(Debug)]
pub struct Queued {
    pub message: Vec<u8>,
    /// As given: `Fsender\0Trecipient\0\0`.
    pub envelope: Vec<u8>,
    /// How the program was called: its text says in which form.
    pub facts: String,
    /// What was odd about it.
    pub notes: Option<String>,
}

impl Queued {
    pub fn sender(&self) -> String {
        self.records().next().map(|record| record[1..].to_owned()).unwrap_or_default()
    }

    pub fn recipients(&self) -> Vec<String> {
        self.records().skip(1).map(|record| record[1..].to_owned()).collect()
    }

    fn records(&self) -> impl Iterator<Item = String> {
        let records = self.envelope.split(|&octet| octet == 0).take_while(|record| !record.is_empty());
        records.map(|record| String::from_utf8_lossy(record).into_owned())
    }
}

/// What the room's stand-in took, in order.
pub fn queued(room: &Room) -> Vec<Queued> {
    let file = |number: usize, kind: &str| fs::read(room.path("queue").join(format!("{number}.{kind}")));
    (1..)
        .map_while(|number| {
            Some(Queued {
                // Written last: without it nothing is queued.
                envelope: file(number, "envelope").ok()?,
                message: file(number, "message").unwrap(),
                facts: String::from_utf8_lossy(&file(number, "facts").unwrap()).into_owned(),
                notes: file(number, "notes").ok().map(|text| String::from_utf8_lossy(&text).into_owned()),
            })
        })
        .collect()
}

/// What the stand-in refused as breaking the protocol. Not one run may cause any.
pub fn breaches(room: &Room) -> Vec<String> {
    let notes = names(&room.path("queue")).into_iter().filter(|path| path.to_string_lossy().contains("/refused."));
    notes.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The process id of a stand-in that was told to hang, once it does.
pub fn hanging(room: &Room) -> Option<u32> {
    fs::read_to_string(room.path("queue/hanging")).ok()?.trim().parse().ok()
}

/// The messages in a maildir's `new`; none may be left in `tmp`, whole or half.
pub fn maildir(dir: &Path) -> Vec<Vec<u8>> {
    let unfinished = names(&dir.join("tmp"));
    assert!(unfinished.is_empty(), "left in tmp: {unfinished:?}");
    delivered(dir)
}

/// As [`maildir`], where a killed program may leave something in `tmp`.
pub fn delivered(dir: &Path) -> Vec<Vec<u8>> {
    names(&dir.join("new")).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Every maildir under `dir`, itself included, sorted.
pub fn maildirs(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        names(dir).iter().filter(|path| path.is_dir()).flat_map(|path| maildirs(path)).collect();
    if dir.join("new").is_dir() {
        found.push(dir.to_owned());
    }
    found.sort();
    found
}

/// Paths in a directory, sorted; none if there is no such directory.
pub fn names(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Whether the first line is a header field.
fn begins_with_field(message: &[u8]) -> bool {
    let name = message.iter().take_while(|octet| octet.is_ascii_graphic() && **octet != b':').count();
    name > 0 && message.get(name) == Some(&b':')
}

/// The trace fields that were put before `sent` (LF line ends); a panic if anything else was, or `sent` is not whole.
pub fn trace_before<'a>(stored: &'a [u8], sent: &[u8]) -> &'a str {
    let Some(trace) = stored.strip_suffix(sent) else {
        panic!("what is stored is not what was sent:\n{}", difference(&readable(sent), &readable(stored)));
    };
    let mut trace = std::str::from_utf8(trace).unwrap();
    // A message without a header is all body: an empty line keeps its first line from being taken for one of our fields.
    if !begins_with_field(sent) {
        trace = trace.strip_suffix("\n").unwrap_or(trace);
    }
    const TRACE: [&str; 4] = ["Received:", "Return-Path:", "Delivered-To:", "Authentication-Results:"];
    for line in trace.lines() {
        let known = line.starts_with(['\t', ' ']) || TRACE.iter().any(|name| line.starts_with(name));
        assert!(known, "not a trace field: {line:?}");
    }
    trace
}
