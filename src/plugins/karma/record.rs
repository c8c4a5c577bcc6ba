//! What is remembered of a client, as text and back: `penalty_start:naughty:nice:connects:why`. The first four fields are
//! qpsmtpd's own, so that its database can be brought over; the fifth is ours, and tells in words why the last session counted.

use std::fmt;

use crate::smtp::escape::safe;

const DAY_S: i64 = 86_400;
/// Octets of the words.
const WHY_OCTETS_MAX: usize = 500;
/// Days that a hopeless client gets beyond `penalty_days`.
const BONUS_DAYS_MAX: i64 = 30;
/// From this history down, a client without one nice session is hopeless.
const HOPELESS: i64 = -6;

/// A client's earlier sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When the penalty began, in seconds since 1970; 0: never. May be to come, which makes the penalty longer.
    pub(super) penalty_start: i64,
    pub(super) naughty: i64,
    pub(super) nice: i64,
    /// Sessions that were written down.
    pub(super) connects: i64,
    /// Why the last of them was.
    pub(super) why: String,
}

impl Record {
    /// Reads one. A field that is missing or empty is 0; `None` if it is no record.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(5, ':');
        let mut number = || match fields.next() {
            None | Some("") => Some(0),
            Some(digits) => digits.parse::<i64>().ok().filter(|number| *number >= 0),
        };
        let (penalty_start, naughty, nice, connects) = (number()?, number()?, number()?, number()?);
        Some(Self { penalty_start, naughty, nice, connects, why: fields.next().unwrap_or_default().to_owned() })
    }

    /// Nice sessions less naughty ones.
    pub(super) fn history(&self) -> i64 {
        self.nice.saturating_sub(self.naughty)
    }

    /// Days until the penalty is over, if there is one.
    pub(super) fn days_left(&self, now: i64, penalty_days: f64) -> Option<f64> {
        let old = now.saturating_sub(self.penalty_start) as f64 / DAY_S as f64;
        Some(penalty_days - old).filter(|left| self.penalty_start != 0 && *left > 0.0)
    }

    /// Counts a naughty session. Tells whether the penalty begins with it, or begins anew.
    pub(super) fn count_naughty(&mut self, now: i64, negative: i64, why: &str) -> bool {
        self.naughty = self.naughty.saturating_add(1);
        self.note(why);
        let history = self.history();
        let boxed = history <= -negative;
        if boxed {
            let bonus = if self.nice == 0 && history <= HOPELESS { (-history).min(BONUS_DAYS_MAX) } else { 0 };
            self.penalty_start = now.saturating_add(bonus * DAY_S);
        }
        boxed
    }

    /// Counts a nice session.
    pub(super) fn count_nice(&mut self, why: &str) {
        self.nice = self.nice.saturating_add(1);
        self.note(why);
    }

    fn note(&mut self, why: &str) {
        self.connects = self.connects.saturating_add(1);
        self.why = safe(why, WHY_OCTETS_MAX);
    }

    /// The record in words: "history -2: 3 naughty, 1 nice, 5 counted; last: badmailfrom -1".
    pub(super) fn in_words(&self) -> String {
        let last = if self.why.is_empty() { String::new() } else { format!("; last: {}", self.why) };
        let Self { naughty, nice, connects, .. } = self;
        format!("history {:+}: {naughty} naughty, {nice} nice, {connects} counted{last}", self.history())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { penalty_start, naughty, nice, connects, why } = self;
        write!(out, "{penalty_start}:{naughty}:{nice}:{connects}")?;
        if why.is_empty() { Ok(()) } else { write!(out, ":{why}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_qpsmtpds_own_too() {
        let record = |penalty_start, naughty, nice, connects, why: &str| {
            Some(Record { penalty_start, naughty, nice, connects, why: why.to_owned() })
        };
        let table = [
            ("1000:3:1:9", record(1000, 3, 1, 9, "")),
            ("0:0:2:2:whitelist +5: x", record(0, 0, 2, 2, "whitelist +5: x")),
            ("", record(0, 0, 0, 0, "")),
            (":1", record(0, 1, 0, 0, "")),
            ("1000", record(1000, 0, 0, 0, "")),
            ("x:1:2:3", None),
            ("0:-1:2:3", None),
            ("0:1:2:3.5", None),
            ("99999999999999999999:0:0:0", None),
        ];
        for (text, expected) in table {
            let found = Record::parse(text);
            assert_eq!(found, expected, "{text:?}");
            if let Some(found) = found {
                assert_eq!(Record::parse(&found.to_string()), Some(found), "{text:?}");
            }
        }
    }

    #[test]
    fn negative_says_when_the_penalty_begins() {
        // The manual's own examples, before the session: naughty, nice, negative; whether it begins.
        for (naughty, nice, negative, boxed) in
            [(0, 0, 1, true), (0, 1, 1, false), (1, 1, 2, false), (2, 1, 2, true), (2, 0, 3, true), (1, 0, 3, false)]
        {
            let mut record = Record { naughty, nice, ..Record::default() };
            assert_eq!(record.count_naughty(500, negative, "x"), boxed, "{naughty} {nice} {negative}");
            let expected = if boxed { 500 } else { 0 };
            assert_eq!((record.naughty, record.connects, record.penalty_start), (naughty + 1, 1, expected));
        }
    }

    #[test]
    fn who_is_never_nice_stays_longer_but_not_for_ever() {
        for (naughty, nice, days) in [(4, 0, 0), (5, 0, 6), (5, 1, 0), (28, 0, 29), (400, 0, 30), (i64::MAX, 0, 30)] {
            let mut record = Record { naughty, nice, ..Record::default() };
            record.count_naughty(0, 1, "x");
            assert_eq!(record.penalty_start, days * DAY_S, "{naughty} {nice}");
        }
    }

    #[test]
    fn a_penalty_ends() {
        let record = Record { penalty_start: 10 * DAY_S, ..Record::default() };
        let left = |now, days| record.days_left(now, days).map(|left| format!("{left:.2}"));
        assert_eq!(left(10 * DAY_S, 1.0).as_deref(), Some("1.00"));
        assert_eq!(left(10 * DAY_S + DAY_S / 2, 1.0).as_deref(), Some("0.50"));
        assert_eq!(left(11 * DAY_S - 1, 1.0).as_deref(), Some("0.00"));
        assert_eq!(left(11 * DAY_S, 1.0), None);
        // Longer: it begins only then.
        assert_eq!(left(8 * DAY_S, 1.0).as_deref(), Some("3.00"));
        assert_eq!(Record::default().days_left(0, 1.0), None);
    }
}
