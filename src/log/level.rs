//! How grave a line is, in syslog's numbers and qpsmtpd's words.

use std::fmt;
use std::str::FromStr;

/// Severity as syslog numbers it (RFC 5424 §6.2.1); qpsmtpd's LOGRADAR is 0 too.
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

    /// A number 0 to 7, or a name: `LOGINFO`, `info`, syslog's `LOG_INFO`.
    fn from_str(word: &str) -> Result<Self, String> {
        if let Some((level, ..)) = word.parse::<usize>().ok().and_then(|number| Self::ALL.get(number)) {
            return Ok(*level);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("LOG").map_or(&*upper, |name| name.strip_prefix('_').unwrap_or(name));
        let found = Self::ALL.iter().find(|(_, first, second)| name == *first || name == *second);
        found
            .map(|(level, ..)| *level)
            .ok_or_else(|| format!("\"{word}\" is not a log level (0 to 7, or LOGDEBUG, ...)"))
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
        // Text is asked for, so that a word stays a word: a TOML number comes as text, too.
        deserializer.deserialize_str(Word)
    }
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
            ("LOG_ERR", Some(Level::Error)),
            ("LOG_", None),
            ("_INFO", None),
            ("8", None),
            ("-1", None),
            ("", None),
            ("LOG", None),
        ];
        for (word, level) in rows {
            assert_eq!(word.parse::<Level>().ok(), level, "{word}");
        }
    }

    #[test]
    fn a_level_has_its_own_number_and_name() {
        for number in 0..8 {
            let level = Level::from_number(number);
            assert_eq!(level as u8, number);
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!(Level::from_number(200), Level::Debug);
    }
}
