//! Entries as lines of JSON: `{"space":"greylisting","key":"192.0.2.1","value":"...","expires_ms":1893456000000}`. Octets that
//! are no text stand as hexadecimal digits in `key_hex` and `value_hex`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Desk, Failure, qpsmtpd};
use crate::cli::print::{harmless, trouble};
use crate::world::store::{Item, Key, StoreError, Value};

/// Octets of one line: the longest entry, every octet escaped.
const LINE_OCTETS_MAX: u64 = 128 << 10;
/// Faults that are told one by one.
const FAULTS_TOLD: u64 = 20;

/// An entry as a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    space: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    expires_ms: u64,
}

impl Line {
    pub(super) fn of(item: &Item) -> Self {
        let (key, key_hex) = text_or_hex(item.key.octets());
        let (value, value_hex) = text_or_hex(item.value.octets());
        let expires = item.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
        Self { space: item.key.space().to_owned(), key, key_hex, value, value_hex, expires_ms }
    }

    fn item(self) -> Result<Item, String> {
        if !Key::is_space(&self.space) {
            return Err(format!("{:?} is no space", self.space));
        }
        let key = octets(self.key, self.key_hex, "key")?;
        let value = octets(self.value, self.value_hex, "value")?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_millis(self.expires_ms)).ok_or("expires_ms is no date")?;
        Ok(Item { key: Key::new(&self.space, key), value: value.into(), expires })
    }
}

fn text_or_hex(octets: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(octets) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(octets.iter().map(|octet| format!("{octet:02x}")).collect())),
    }
}

fn octets(text: Option<String>, hex: Option<String>, name: &str) -> Result<Vec<u8>, String> {
    match (text, hex) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(hex)) => unhex(hex.as_bytes()).ok_or(format!("{name}_hex is not hexadecimal")),
        _ => Err(format!("one of {name} and {name}_hex must be there")),
    }
}

/// Pairs of hexadecimal digits.
pub(super) fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    digits.chunks(2).map(pair).collect()
}

/// What becomes of the lines.
#[derive(Default)]
struct Tally {
    stored: u64,
    there: u64,
    ended: u64,
    faults: u64,
}

/// Stores what a file holds.
pub(super) fn import(
    desk: &Desk<'_>,
    file: &Path,
    overwrite: bool,
    database: Option<qpsmtpd::Database>,
) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::Wrong(format!("{}: {error}", file.display()));
    let source: Box<dyn Read> = match file == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(unreadable)?),
    };
    let (mut source, mut tally) = (BufReader::new(source), Tally::default());
    let mut dump = database.map(|database| qpsmtpd::Dump::new(database, desk.now));
    for number in 1.. {
        let mut line = Vec::new();
        if source.by_ref().take(LINE_OCTETS_MAX).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            break;
        }
        let whole = line.pop_if(|octet| *octet == b'\n').is_some() || (line.len() as u64) < LINE_OCTETS_MAX;
        let item = match &mut dump {
            _ if !whole => return Err(Failure::Wrong(format!("{} line {number}: too long", file.display()))),
            Some(dump) => dump.line(&line),
            None if line.trim_ascii().is_empty() => Ok(None),
            None => serde_json::from_slice(&line)
                .map_err(|error| error.to_string())
                .and_then(|line: Line| line.item())
                .map(Some),
        };
        match item {
            Ok(None) => {}
            Ok(Some(item)) if item.expires <= desk.now => tally.ended += 1,
            Ok(Some(item)) => match store(desk, &item, overwrite) {
                Ok(true) => tally.stored += 1,
                Ok(false) => tally.there += 1,
                Err(StoreError::TooLong(octets)) => tally.fault(file, number, &format!("a value of {octets} octets")),
                Err(error) => return Err(error.into()),
            },
            Err(why) => tally.fault(file, number, &why),
        }
    }
    if let Some(why) = dump.and_then(|dump| dump.end()) {
        tally.fault(file, 0, why);
    }
    tally.tell(desk)
}

fn store(desk: &Desk<'_>, item: &Item, overwrite: bool) -> Result<bool, StoreError> {
    let value: &Value = &item.value;
    match overwrite {
        true => desk.store.put(&item.key, value, item.expires).map(|()| true),
        false => desk.store.compare_and_set(&item.key, None, value, item.expires),
    }
}

impl Tally {
    fn fault(&mut self, file: &Path, line: u64, why: &str) {
        self.faults += 1;
        if self.faults <= FAULTS_TOLD {
            let line = if line > 0 { format!(" line {line}") } else { String::new() };
            trouble(&harmless(&format!("{}{line}: {why}", file.display())));
        } else if self.faults == FAULTS_TOLD + 1 {
            trouble("... and more");
        }
    }

    fn tell(&self, desk: &Desk<'_>) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Told {
            event: &'static str,
            stored: u64,
            already_there: u64,
            ended: u64,
            faults: u64,
        }
        let Self { stored, there, ended, faults } = *self;
        if desk.json {
            desk.screen.json(&Told { event: "imported", stored, already_there: there, ended, faults });
        } else {
            desk.screen.line(format!("{stored} stored, {there} were there already, {ended} had ended"));
        }
        match faults {
            0 => Ok(()),
            1 => Err(Failure::Wrong("1 line could not be understood".to_owned())),
            _ => Err(Failure::Wrong(format!("{faults} lines could not be understood"))),
        }
    }
}
