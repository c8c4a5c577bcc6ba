//! Where log lines go. `tracing` events, and lines of the decision record, become `Line`s for the sinks that
//! `config/logging` names; with none, or when one fails, they fall back (`fallback`). Never to the client, and a log that
//! blocks or fails never stops mail.

mod fallback;

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::str::FromStr;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};

use crate::record::LINE_OCTETS_MAX;
use crate::smtp::escape::safe;

pub use fallback::{Fallback, connect, syslog, write_stderr};

/// The tracing target of the decision record's lines: written whatever the level is.
pub const RECORD: &str = "record";

/// Severity as syslog numbers it; qpsmtpd's LOGRADAR is 0 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Emergency = 0,
    Alert = 1,
    Critical = 2,
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Level {
    const ALL: [(Level, &'static str, &'static str); 8] = [
        (Level::Emergency, "EMERG", "RADAR"),
        (Level::Alert, "ALERT", "ALERT"),
        (Level::Critical, "CRIT", "CRITICAL"),
        (Level::Error, "ERROR", "ERR"),
        (Level::Warning, "WARN", "WARNING"),
        (Level::Notice, "NOTICE", "NOTICE"),
        (Level::Info, "INFO", "INFO"),
        (Level::Debug, "DEBUG", "DEBUG"),
    ];

    /// The level of a number; above 7 is 7.
    pub fn from_number(number: u8) -> Self {
        Self::ALL[usize::from(number.min(7))].0
    }

    /// The name, as qpsmtpd writes it without its LOG.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl FromStr for Level {
    type Err = String;

    /// A number 0 to 7, or a name: `LOGINFO`, `info`.
    fn from_str(word: &str) -> Result<Self, String> {
        if let Some((level, ..)) = word.parse::<usize>().ok().and_then(|number| Self::ALL.get(number)) {
            return Ok(*level);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("LOG").unwrap_or(&upper);
        let found = Self::ALL.iter().find(|(_, first, second)| name == *first || name == *second);
        found.map(|(level, ..)| *level).ok_or_else(|| format!("\"{word}\" is not a log level (0 to 7, or LOGDEBUG, ...)"))
    }
}

impl<'de> serde::Deserialize<'de> for Level {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl serde::de::Visitor<'_> for Word {
            type Value = Level;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a log level: 0 to 7, or LOGDEBUG, LOGINFO, LOGNOTICE, LOGWARN, LOGERROR, LOGCRIT, ...")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Level, E> {
                word.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Level, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// One line for the sinks.
pub struct Line<'a> {
    /// How grave.
    pub level: Level,
    /// The text: one line, control characters already made safe.
    pub text: &'a str,
    /// Whether it is a line of the decision record.
    pub record: bool,
}

/// Takes a line; an error makes the line fall back.
pub type Sink = Box<dyn FnMut(&Line<'_>) -> Result<(), String>>;

struct Log {
    sinks: Vec<Sink>,
    fallback: Fallback,
    level: Level,
}

thread_local! {
    /// One process serves one session in one thread.
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
    static PREFIX: RefCell<String> = const { RefCell::new(String::new()) };
    static MUTE: Cell<bool> = const { Cell::new(false) };
}

/// Begins logging: everything at `level` or graver, to the fallback until `attach` names sinks.
pub fn begin(level: Level, stderr_is_ours: bool) {
    let fallback = Fallback::new(stderr_is_ours);
    LOG.with(|log| *log.borrow_mut() = Some(Log { sinks: Vec::new(), fallback, level }));
    // A second call finds one set: tests in one process.
    let _ = tracing::subscriber::set_global_default(ToSinks.with_subscriber(Ground));
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Names the sinks, and the level below which lines are dropped before they reach any.
pub fn attach(level: Level, sinks: Vec<Sink>) {
    LOG.with(|log| {
        if let Some(log) = log.borrow_mut().as_mut() {
            log.level = level;
            log.sinks = sinks;
        }
    });
}

/// What every line of ours but the record's begins with: the session's id.
pub fn prefix(text: &str) {
    PREFIX.with(|prefix| *prefix.borrow_mut() = text.to_owned());
}

/// Lines go nowhere from now on (`postern try` shows the decisions itself).
pub fn mute() {
    MUTE.with(|mute| mute.set(true));
}

fn write(line: &Line<'_>) {
    LOG.with(|log| {
        // A sink that logs itself would find the log borrowed: that line is dropped.
        let Ok(mut log) = log.try_borrow_mut() else { return };
        let Some(log) = log.as_mut() else { return };
        if (line.level > log.level && !line.record) || MUTE.with(Cell::get) {
            return;
        }
        if log.sinks.is_empty() {
            log.fallback.write(line);
        }
        for sink in &mut log.sinks {
            if let Err(error) = sink(line) {
                log.fallback.write(&Line { level: Level::Error, text: &error, record: false });
                log.fallback.write(line);
            }
        }
    });
}

/// Takes tracing's events. No registry of spans stands behind it: nobody here opens one, and it would cost more than the
/// rest of a short session.
struct ToSinks;

impl<S: Subscriber> Layer<S> for ToSinks {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        if metadata.target() == RECORD {
            return write(&Line { level, text: &text, record: true });
        }
        let text = PREFIX.with(|prefix| format!("{}{text}", prefix.borrow()));
        let text = safe(&text, LINE_OCTETS_MAX - 64);
        write(&Line { level, text: &text, record: false });
    }
}

/// The event's message and nothing else: sinks add time and process as they need.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Below the layer: a subscriber that takes every event and does nothing with it.
struct Ground;

impl Subscriber for Ground {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::DEBUG
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_qpsmtpd_writes_them() {
        let rows = [
            ("7", Some(Level::Debug)),
            ("0", Some(Level::Emergency)),
            ("LOGINFO", Some(Level::Info)),
            ("logwarn", Some(Level::Warning)),
            ("LOGRADAR", Some(Level::Emergency)),
            ("error", Some(Level::Error)),
            ("8", None),
            ("-1", None),
            ("", None),
            ("LOG", None),
        ];
        for (word, level) in rows {
            assert_eq!(word.parse::<Level>().ok(), level, "{word}");
        }
    }
}
