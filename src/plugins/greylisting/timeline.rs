//! What is remembered of a sender, and what becomes of it when it comes: new, black, then white.

use std::fmt;
use std::str::FromStr;

/// One entry, stored as qpsmtpd does: `time:new:black:white`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Seconds since 1970: when it first came, and from when it is white, when it came last.
    pub(super) time: u64,
    /// How often it was new.
    new: u64,
    /// How often it came too early.
    black: u64,
    /// How often it was let through; from 1 on it is white.
    white: u64,
}

/// The settings, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) black_s: u64,
    pub(super) white_s: u64,
}

/// How it stands with a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Not seen before, or forgotten since.
    New { black_s: u64 },
    /// Comes too early.
    Black { age_s: u64, left_s: u64 },
    /// Has come again in time, and is white from now on.
    Again { age_s: u64 },
    /// White, and seen before that long.
    White { age_s: u64 },
}

impl Seen {
    /// What becomes of an entry at a visit.
    pub(super) fn come(old: Option<Self>, now: u64, times: Times) -> (Self, Stand) {
        let old = old.unwrap_or_default();
        // A clock that was ahead must not keep anybody waiting: what lies in the future was just now.
        let time = old.time.min(now);
        let age_s = now - time;
        if age_s >= times.white_s || old == Self::default() {
            let new = Self { time: now, new: old.new.saturating_add(1), black: 0, white: 0 };
            return (new, Stand::New { black_s: times.black_s });
        }
        if old.white > 0 {
            return (Self { time: now, white: old.white.saturating_add(1), ..old }, Stand::White { age_s });
        }
        if age_s < times.black_s {
            let left_s = times.black_s - age_s;
            return (Self { time, black: old.black.saturating_add(1), ..old }, Stand::Black { age_s, left_s });
        }
        (Self { time: now, white: 1, ..old }, Stand::Again { age_s })
    }
}

impl Stand {
    /// Whether it is to be denied.
    pub(super) fn is_grey(self) -> bool {
        matches!(self, Self::New { .. } | Self::Black { .. })
    }
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { black_s } => write!(f, "not seen before, denied for {black_s} s"),
            Self::Black { age_s, left_s } => write!(f, "first seen {age_s} s ago, denied for {left_s} s more"),
            Self::Again { age_s } => write!(f, "first seen {age_s} s ago, white from now on"),
            Self::White { age_s } => write!(f, "white, last seen {age_s} s ago"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.time, self.new, self.black, self.white)
    }
}

impl FromStr for Seen {
    type Err = ();

    /// qpsmtpd's times may have a fraction.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |word: &str| word.parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| number as u64);
        let numbers: Option<Vec<u64>> = text.split(':').map(number).collect();
        match numbers.as_deref() {
            Some(&[time, new, black, white]) => Ok(Self { time, new, black, white }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { black_s: 3000, white_s: 36 * 86_400 };
    const START: u64 = 1_893_456_000;
    const MIN: u64 = 60;
    const DAY: u64 = 86_400;

    #[test]
    fn what_becomes_of_an_entry() {
        // The entry, its time from START on; the visit's time; the entry then; whether it is denied.
        let table = [
            (None, 0, "0:1:0:0", true),
            (Some("0:1:0:0"), 0, "0:1:1:0", true),
            (Some("0:1:4:0"), 49 * MIN, "0:1:5:0", true),
            (Some("0:1:4:0"), 50 * MIN - 1, "0:1:5:0", true),
            (Some("0:1:5:0"), 50 * MIN, "3000:1:5:1", false),
            (Some("0:1:5:0"), 51 * MIN, "3060:1:5:1", false),
            (Some("0:1:5:0"), 36 * DAY - 1, "3110399:1:5:1", false),
            (Some("0:1:5:0"), 36 * DAY, "3110400:2:0:0", true),
            // White, and each visit begins its time anew.
            (Some("3060:1:5:1"), 52 * MIN, "3120:1:5:2", false),
            (Some("3060:1:5:7"), 3060 + 36 * DAY - 1, "3113459:1:5:8", false),
            (Some("3060:1:5:7"), 3060 + 36 * DAY, "3113460:2:0:0", true),
            // The clock was ahead.
            (Some("9000:1:0:0"), 0, "0:1:1:0", true),
            (Some("9000:1:0:1"), 0, "0:1:0:2", false),
        ];
        let shift = |text: &str, by: i64| {
            let seen: Seen = text.parse().unwrap();
            Seen { time: seen.time.checked_add_signed(by).unwrap(), ..seen }
        };
        for (old, at, new, denied) in table {
            let by = START.cast_signed();
            let (seen, stand) = Seen::come(old.map(|old| shift(old, by)), START + at, TIMES);
            let seen = Seen { time: seen.time - START, ..seen };
            assert_eq!((seen.to_string().as_str(), stand.is_grey()), (new, denied), "{old:?} at {at}: {stand}");
        }
    }

    #[test]
    fn entries_are_read_as_qpsmtpd_left_them() {
        let table = [
            ("1800000000:1:2:3", Some("1800000000:1:2:3")),
            ("1800000000.5:1:0:0", Some("1800000000:1:0:0")),
            ("1800000000:1:0", None),
            ("1800000000:1:0:0:0", None),
            ("-1:1:0:0", None),
            ("NaN:1:0:0", None),
            ("", None),
            ("x:1:0:0", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Seen>().ok().map(|seen| seen.to_string()).as_deref(), expected, "{text}");
        }
        // As large as it gets, and no overflow.
        let huge: Seen = "1e300:1e300:1e300:1e300".parse().unwrap();
        assert!(!Seen::come(Some(huge), START, TIMES).1.is_grey());
    }
}
