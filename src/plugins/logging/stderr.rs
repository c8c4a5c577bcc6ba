//! Writes log lines to standard error, for launchers that keep a log of it (supervise and multilog, systemd).
//!
//! ```text
//! logging/stderr [LEVEL]
//! logging/stderr loglevel LOGINFO
//! ```
//! In `config/logging`. A line is `PID TEXT`, as qpsmtpd's; with `log_format` json it is the JSON object alone. With no logger
//! at all lines go to standard error anyway, without the PID.
//!
//! - `loglevel`: the least grave level that is written, 0 to 7 or LOGDEBUG, LOGINFO, ... (LOGWARN); also as the only word. Lines
//!   of the decision record are written whatever it is.
//!
//! Under inetd and xinetd standard error is the client. Nothing is ever written there: all lines fall back to syslog then, as
//! they do when nobody reads the pipe or it is full.
//!
//! `logging/warn` is an old name.

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin, Trouble};
use crate::log::{self, Level, Line};
use crate::record::LINE_OCTETS_MAX;
use crate::smtp::escape::safe;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry { aliases: &["logging/warn"], ..super::logger("logging/stderr", crate::manual!("stderr.rs"), build) };

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    loglevel: Level,
}

impl Default for Options {
    fn default() -> Self {
        Self { loglevel: Level::Warning }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(level) = settings.take_odd() {
        settings.set("loglevel", level);
    }
    let Options { loglevel } = settings.read()?;
    Ok(Box::new(Stderr { loglevel, pid: world.host.pid(), write: log::write_stderr }))
}

struct Stderr {
    loglevel: Level,
    pid: u32,
    write: fn(&str) -> Result<(), String>,
}

impl Plugin for Stderr {
    fn logging(&mut self, line: &Line<'_>) -> Result<(), Trouble> {
        if line.json {
            return (self.write)(line.text).map_err(Trouble::new);
        }
        (self.write)(&safe(&format!("{} {}", self.pid, line.text), LINE_OCTETS_MAX - 1)).map_err(Trouble::new)
    }

    fn loglevel(&self) -> Level {
        self.loglevel
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;

    #[test]
    fn the_level_is_the_only_word_or_named() {
        let (world, _dir) = trial::world();
        let rows = [
            ("logging/stderr", Some(Level::Warning)),
            ("logging/warn LOGDEBUG", Some(Level::Debug)),
            ("logging/warn 3", Some(Level::Error)),
            ("logging/stderr loglevel LOGINFO", Some(Level::Info)),
            ("logging/stderr loglevel", None),
            ("logging/stderr 9", None),
            ("logging/stderr 3 loglevel 4", None),
        ];
        for (line, level) in rows {
            assert_eq!(trial::build(&ENTRY, line, "", &world).ok().map(|plugin| plugin.loglevel()), level, "{line}");
        }
    }

    #[test]
    fn a_line_has_the_process_before_it_unless_it_is_json() {
        fn expect(text: &str) -> Result<(), String> {
            match text {
                "7 text" | "{}" => Ok(()),
                long if long.len() == LINE_OCTETS_MAX - 1 => Ok(()),
                other => Err(other.to_owned()),
            }
        }
        let mut plugin = Stderr { loglevel: Level::Warning, pid: 7, write: expect };
        for line in [
            Line::text(Level::Error, "text"),
            Line { json: true, ..Line::text(Level::Error, "{}") },
            Line::text(Level::Error, &"x".repeat(5000)),
        ] {
            plugin.logging(&line).unwrap();
        }
        assert!(plugin.logging(&Line::text(Level::Error, "other")).is_err(), "what cannot be written falls back");
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("logging/stderr").read().unwrap();
        assert_eq!(shipped, Options::default());
    }
}
