//! Logs little of mail that is accepted and much of mail that is not: lines wait until their fate is known.
//!
//! ```text
//! logging/adaptive [accept LEVEL] [reject LEVEL] [prefix C]
//! logging/adaptive accept LOGINFO reject LOGDEBUG
//! ```
//! In `config/logging`. Writes to standard error, or to syslog where that is the client: `PID TEXT`, and `PID C TEXT` for what
//! belongs to an accepted message, so that multilog can tell them apart (`'-*' '+*` *'`).
//!
//! - `accept`: the least grave level that is written of an accepted message (LOGERROR).
//! - `reject`: the same of everything else (LOGWARN). `loglevel` means the same, as in other loggers.
//! - `prefix`: what marks an accepted message's lines (a backquote), 1 to 8 characters. JSON lines stay unmarked.
//!
//! Lines are kept until the decision record says what becomes of them: `queued` writes them at the level `accept`, `refused` at
//! the level `reject`; so does the end of the connection, or at `accept` if the last word was an accepted message. At most 1,000
//! lines and 262,144 octets are kept; the oldest go first, and are counted. Errors and graver lines are written at once, unmarked,
//! lest they be lost with the process. Lines of the record are always written.
//!
//! Differs from qpsmtpd: there lines up to `reject` were written at once, and again, marked, once the message was accepted.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin, Trouble};
use crate::log::{Fallback, Level, Line, compose};
use crate::record::LINE_OCTETS_MAX;
use crate::smtp::escape::{is_unsafe, safe};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::logger("logging/adaptive", crate::manual!("adaptive.rs"), build);

/// Lines that wait.
const LINES_MAX: usize = 1000;
/// Octets of their texts.
const OCTETS_MAX: usize = 256 * 1024;
/// Characters of a prefix.
const PREFIX_MAX: usize = 8;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    accept: Level,
    reject: Level,
    prefix: Prefix,
}

impl Default for Options {
    fn default() -> Self {
        Self { accept: Level::Error, reject: Level::Warning, prefix: Prefix("`".to_owned()) }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if (1..=PREFIX_MAX).contains(&text.chars().count()) && !text.chars().any(is_unsafe) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no prefix: 1 to {PREFIX_MAX} printable characters"))
        }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    settings.rename("loglevel", "reject");
    let options = settings.read()?;
    let out = Fallback::new(crate::log::stderr_usable());
    Ok(Box::new(Adaptive { kept: Kept::new(options, world.host.pid()), out }))
}

struct Adaptive {
    kept: Kept,
    out: Fallback,
}

impl Plugin for Adaptive {
    fn logging(&mut self, line: &Line<'_>) -> Result<(), Trouble> {
        for (level, text) in self.kept.take(line) {
            // It is a fallback itself: whoever did not take it there would not take it again.
            self.out.write(&Line::text(level, &text));
        }
        Ok(())
    }

    fn loglevel(&self) -> Level {
        self.kept.options.accept.max(self.kept.options.reject)
    }
}

/// The lines that wait for their fate.
struct Kept {
    options: Options,
    pid: u32,
    lines: VecDeque<(Level, bool, String)>,
    octets: usize,
    /// Lines that there was no room for.
    dropped: u32,
    /// The last word was that a message is accepted.
    accepted: bool,
}

/// Lines to be written now.
type Due = Vec<(Level, String)>;

impl Kept {
    fn new(options: Options, pid: u32) -> Self {
        Self { options, pid, lines: VecDeque::new(), octets: 0, dropped: 0, accepted: false }
    }

    /// Takes a line, and gives those whose fate is known now.
    fn take(&mut self, line: &Line<'_>) -> Due {
        let Some(entry) = line.entry else {
            if line.level <= Level::Error {
                return vec![(line.level, self.shown(line.text, line.json, false))];
            }
            self.keep(line);
            return Due::new();
        };
        let mut due = match entry.event() {
            "queued" => self.decide(true),
            "refused" => self.decide(false),
            "connection" => self.decide(self.accepted),
            _ => Due::new(),
        };
        due.push((line.level, self.shown(line.text, line.json, entry.event() == "queued")));
        due
    }

    fn keep(&mut self, line: &Line<'_>) {
        if line.level > self.options.accept.max(self.options.reject) {
            return;
        }
        self.octets += line.text.len();
        self.lines.push_back((line.level, line.json, line.text.to_owned()));
        while self.lines.len() > LINES_MAX || self.octets > OCTETS_MAX {
            let Some((_, _, text)) = self.lines.pop_front() else { break };
            self.octets -= text.len();
            self.dropped += 1;
        }
    }

    /// What waited belongs to an accepted message, or not.
    fn decide(&mut self, accepted: bool) -> Due {
        self.accepted = accepted;
        let level = if accepted { self.options.accept } else { self.options.reject };
        let lines = std::mem::take(&mut self.lines);
        self.octets = 0;
        let mut due = Due::new();
        let json = lines.back().is_some_and(|(_, json, _)| *json);
        if std::mem::take(&mut self.dropped) > 0 && lines.iter().any(|(at, ..)| *at <= level) {
            let text = compose(json, "", Level::Warning, "logging/adaptive: older lines were not kept");
            due.push((Level::Warning, self.shown(&text, json, accepted)));
        }
        let wanted = lines.into_iter().filter(|(at, ..)| *at <= level);
        due.extend(wanted.map(|(at, json, text)| (at, self.shown(&text, json, accepted))));
        due
    }

    fn shown(&self, text: &str, json: bool, accepted: bool) -> String {
        match (json, accepted) {
            (true, _) => text.to_owned(),
            (false, true) => safe(&format!("{} {} {text}", self.pid, self.options.prefix.0), LINE_OCTETS_MAX - 1),
            (false, false) => safe(&format!("{} {text}", self.pid), LINE_OCTETS_MAX - 1),
        }
    }
}

/// A session that ends without a word (the record has not said `connection`) takes its lines along, but for these.
impl Drop for Adaptive {
    fn drop(&mut self) {
        for (level, text) in self.kept.decide(false) {
            self.out.write(&Line::text(level, &text));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;
    use crate::record;

    fn kept(accept: Level, reject: Level) -> Kept {
        Kept::new(Options { accept, reject, ..Options::default() }, 7)
    }

    /// Plays events (a level's line, or an event of the record) and gives what was written, by lines.
    fn play(kept: &mut Kept, events: &[&str]) -> Vec<String> {
        let mut written = Vec::new();
        for event in events {
            let due = match event.parse::<Level>() {
                Ok(level) => kept.take(&Line::text(level, event)),
                Err(_) => {
                    let event: &'static str = event.to_string().leak();
                    let entry = record::Entry::new(event, "abc");
                    kept.take(&Line { entry: Some(&entry), ..Line::text(Level::Info, event) })
                }
            };
            written.extend(due.into_iter().map(|(_, text)| text));
        }
        written
    }

    #[test]
    fn lines_wait_until_their_fate_is_known() {
        use Level::{Debug, Error, Info, Warning};
        let rows: [(Level, Level, &[&str], &[&str]); 8] = [
            (Error, Warning, &["warn"], &[]),
            (Error, Warning, &["warn", "info", "queued"], &["7 ` queued"]),
            (Error, Warning, &["warn", "info", "refused"], &["7 warn", "7 refused"]),
            (Error, Debug, &["debug", "queued", "debug", "connection"], &["7 ` queued", "7 connection"]),
            (Error, Debug, &["debug", "connection"], &["7 debug", "7 connection"]),
            (Info, Debug, &["info", "debug", "queued"], &["7 ` info", "7 ` queued"]),
            (Info, Debug, &["info", "withheld", "debug", "refused"], &["7 withheld", "7 info", "7 debug", "7 refused"]),
            // An error does not wait.
            (Error, Warning, &["error", "queued"], &["7 error", "7 ` queued"]),
        ];
        for (accept, reject, events, written) in rows {
            assert_eq!(play(&mut kept(accept, reject), events), written, "{events:?}");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_dropped_is_told() {
        let mut kept = kept(Level::Error, Level::Debug);
        for _ in 0..LINES_MAX + 5 {
            kept.take(&Line::text(Level::Debug, "debug"));
        }
        assert_eq!((kept.lines.len(), kept.dropped), (LINES_MAX, 5));
        let written = play(&mut kept, &["refused"]);
        assert_eq!((written.len(), &*written[0]), (LINES_MAX + 2, "7 logging/adaptive: older lines were not kept"));
        for _ in 0..100 {
            kept.take(&Line::text(Level::Debug, &"x".repeat(4000)));
        }
        assert!(kept.octets <= OCTETS_MAX && kept.octets > OCTETS_MAX - 4000);
        kept.take(&Line::text(Level::Debug, &"x".repeat(OCTETS_MAX + 1)));
        assert_eq!((kept.octets, kept.lines.len()), (0, 0));
    }

    #[test]
    fn json_is_left_as_it_is() {
        let mut kept = kept(Level::Debug, Level::Debug);
        kept.take(&Line { json: true, ..Line::text(Level::Debug, "{}") });
        assert_eq!(play(&mut kept, &["queued"])[0], "{}");
    }

    #[test]
    fn settings_are_qpsmtpds() {
        let (world, _dir) = trial::world();
        let rows = [
            ("logging/adaptive", Some(Level::Warning)),
            ("logging/adaptive accept 6 reject LOGDEBUG prefix +", Some(Level::Debug)),
            ("logging/adaptive accept LOGINFO", Some(Level::Info)),
            ("logging/adaptive loglevel LOGNOTICE", Some(Level::Notice)),
            ("logging/adaptive reject 5 loglevel 5", None),
            ("logging/adaptive prefix 123456789", None),
            ("logging/adaptive accept", None),
            ("logging/adaptive minlevel 5", None),
        ];
        for (line, level) in rows {
            assert_eq!(trial::build(&ENTRY, line, "", &world).ok().map(|plugin| plugin.loglevel()), level, "{line}");
        }
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("logging/adaptive").read().unwrap();
        assert_eq!(shipped, Options::default());
    }
}
