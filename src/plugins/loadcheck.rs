//! Turns clients away while this machine has too much to do.
//!
//! ```text
//! loadcheck
//! loadcheck max_load 7
//! ```
//! - `max_load` (processes that run or wait to, over the last minute; 7): above it, `421 4.3.2 Server load too high,
//!   please try again later.` instead of the greeting.
//! - `loadavg_file` (a path, relative ones from the configuration directory; /proc/loadavg): what is read; the first
//!   number in it counts, or with NetBSD's `/kern/loadavg` the first divided by the fourth.
//! - `cache_time`, `uptime`: taken for old configurations, without effect. A process serves one connection and looks
//!   once, and no program is run for it.
//!
//! Asked about everybody; list it first.
//!
//! Errors: a file that cannot be read or understood is this plugin's error; unless the line says `on_error defer`, mail
//! is taken then as if the load were low.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Connect, Denial, Entry, Hook, OnError, Plugin, Ruling, Trouble};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    on_error: OnError::Decline,
    ..Entry::plugin("loadcheck", &[Hook::Connect], crate::manual!("loadcheck.rs"), build)
};

/// Octets that are read of the file: one short line.
const OCTETS_MAX: u64 = 256;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    max_load: f64,
    loadavg_file: String,
    #[serde(rename = "cache_time")]
    _cache_time: u64,
    #[serde(rename = "uptime")]
    _uptime: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_load: 7.0, loadavg_file: "/proc/loadavg".into(), _cache_time: 10, _uptime: String::new() }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let wrong = |error: ConfigError| error.or_at(&origin).of_plugin(ENTRY.name);
    if settings.max_load < 0.0 {
        return Err(wrong(ConfigError::new("max_load below 0 would turn everybody away")));
    }
    let file = world.config.resolve(&settings.loadavg_file).map_err(wrong)?;
    Ok(Box::new(LoadCheck { max: settings.max_load, file }))
}

struct LoadCheck {
    max: f64,
    file: PathBuf,
}

impl LoadCheck {
    fn load(&self) -> Result<f64, Trouble> {
        let wrong = |what: String| Trouble::new(format!("{}: {what}", self.file.display()));
        let mut text = String::new();
        let file = File::open(&self.file).map_err(|error| wrong(error.to_string()))?;
        file.take(OCTETS_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        load(&text).ok_or_else(|| wrong(format!("no load in {text:?}")))
    }
}

impl Plugin for LoadCheck {
    fn connect(&mut self, _at: &Connect<'_>) -> Answer {
        let load = self.load()?;
        if load <= self.max {
            return Ok(Ruling::decline());
        }
        let denial = Denial::transient("Server load too high, please try again later.").code(3, 2);
        Ok(Ruling::deny(denial).because(format!("load {load}, max_load {}", self.max)))
    }

    fn check(&mut self) -> Vec<String> {
        self.load().err().map(|trouble| trouble.0).into_iter().collect()
    }
}

/// The load over the last minute: Linux writes `0.20 0.18 0.12 1/80 11206`, NetBSD `410 368 245 2048`, fixed-point
/// numbers and their scale.
fn load(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let first: f64 = words.next()?.parse().ok()?;
    let scale = words.nth(2).and_then(|word| word.parse().ok()).filter(|scale| *scale > 0.0).unwrap_or(1.0);
    (first.is_finite() && first >= 0.0).then_some(first / scale)
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;

    #[test]
    fn what_the_file_says() {
        let table = [
            ("", None),
            ("\n", None),
            ("load", None),
            ("NaN 0 0", None),
            ("inf 0 0", None),
            ("-1 0 0", None),
            ("0.00 0.01 0.05 1/80 11206\n", Some(0.0)),
            ("7.01 0.18 0.12 3/80 11206\n", Some(7.01)),
            ("12", Some(12.0)),
            ("4096 368 245 2048\n", Some(2.0)),
            ("1 1 1 0", Some(1.0)),
        ];
        for (text, expected) in table {
            assert_eq!(load(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_file_may_be_missing_and_the_settings_may_be_old() {
        let (world, _dir) = fixture::world(&[("high", "8.5 1 1 1/2 3\n")]);
        let table = [
            ("loadcheck max_load 8 loadavg_file high", 0),
            ("loadcheck cache_time 30 uptime /usr/bin/uptime loadavg_file high", 0),
            ("loadcheck loadavg_file nowhere", 1),
        ];
        for (line, faults) in table {
            let mut plugin = fixture::build(&ENTRY, line, &world).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(plugin.check().len(), faults, "{line}");
        }
        for words in ["max_load -1", "max_load high", "loadavg_file ~/load"] {
            assert!(fixture::build(&ENTRY, &format!("loadcheck {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("loadcheck").read::<Settings>().unwrap(), Settings::default());
    }
}
