//! Dates in log lines and in the names of log files, by the letters of strftime(3), in English.
//!
//! In: a format, a moment, an offset from UTC. Out: text. A letter that is not in the table is an error when the format is
//! read, not a surprise in the log. Zone names (`%Z`) are not to be had from an offset: `%z` says it in digits.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Octets of a format.
const FORMAT_OCTETS_MAX: usize = 1024;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The letters that are understood.
const LETTERS: &str = "aAbBhcCdDeFHIjmMnpRsStTuwyYz%";

/// A moment as the letters see it: local time, and the offset.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    unix_s: i64,
    offset_s: i64,
}

impl Moment {
    /// This date, in a place so many seconds ahead of UTC.
    pub fn new(date: SystemTime, utc_offset_s: i32) -> Self {
        let unix_s = match date.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX / 2),
        };
        Self { unix_s, offset_s: i64::from(utc_offset_s) }
    }

    /// The moment as JSON lines have it (RFC 3339): `2030-01-01T01:00:00+01:00`.
    pub fn rfc3339(self) -> String {
        let zone = self.zone();
        let (hours, minutes) = zone.split_at(3);
        format!("{}{hours}:{minutes}", self.text("%FT%T"))
    }

    /// The moment by the letters of a format; other characters stay. An unknown letter stays, too: [`check`] finds it.
    pub fn text(self, format: &str) -> String {
        self.text_with(format, None)
    }

    /// The same, with a letter of the caller's own and what stands for it.
    pub fn text_with(self, format: &str, own: Option<(char, &str)>) -> String {
        let mut out = String::with_capacity(format.len() + 16);
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            match characters.next() {
                Some(letter) if own.is_some_and(|(known, _)| known == letter) => out.extend(own.map(|(_, text)| text)),
                Some(letter) if LETTERS.contains(letter) => self.letter(letter, &mut out),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }

    fn letter(self, letter: char, out: &mut String) {
        let local = self.unix_s.saturating_add(self.offset_s);
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let weekday = (days + 4).rem_euclid(7);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let (day_name, month_name) = (DAYS[weekday as usize], MONTHS[month as usize - 1]);
        // Writing to a string does not fail.
        let _ = match letter {
            'a' => write!(out, "{}", &day_name[..3]),
            'A' => write!(out, "{day_name}"),
            'b' | 'h' => write!(out, "{}", &month_name[..3]),
            'B' => write!(out, "{month_name}"),
            'c' => write!(out, "{}", self.text("%a %b %e %T %Y")),
            'C' => write!(out, "{:02}", year.div_euclid(100)),
            'd' => write!(out, "{day:02}"),
            'D' => write!(out, "{}", self.text("%m/%d/%y")),
            'e' => write!(out, "{day:2}"),
            'F' => write!(out, "{year}-{month:02}-{day:02}"),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{twelve:02}"),
            'j' => write!(out, "{:03}", days - days_of(year) + 1),
            'm' => write!(out, "{month:02}"),
            'M' => write!(out, "{minute:02}"),
            'n' => write!(out, " "),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            's' => write!(out, "{}", self.unix_s),
            'S' => write!(out, "{second:02}"),
            't' => write!(out, " "),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'u' => write!(out, "{}", if weekday == 0 { 7 } else { weekday }),
            'w' => write!(out, "{weekday}"),
            'y' => write!(out, "{:02}", year.rem_euclid(100)),
            'Y' => write!(out, "{year}"),
            'z' => write!(out, "{}", self.zone()),
            _ => write!(out, "%"),
        };
    }

    fn zone(self) -> String {
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        let minutes = self.offset_s.abs() / 60;
        format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

/// Whether a format can be used; the error says what cannot be understood in it. `more`: letters that the caller sets in
/// itself. A line end (`%n`) or tab (`%t`) would make two lines of one, so they become blanks.
pub fn check(format: &str, more: &str) -> Result<(), String> {
    if format.len() > FORMAT_OCTETS_MAX {
        return Err(format!("a date format has at most {FORMAT_OCTETS_MAX} octets"));
    }
    if format.chars().any(crate::smtp::escape::is_unsafe) {
        return Err("a date format cannot hold control characters".to_owned());
    }
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        match characters.next() {
            Some(letter) if LETTERS.contains(letter) || more.contains(letter) => {}
            Some('Z') => return Err(format!("{format:?}: %Z, a zone's name, is not known here; %z gives it as +0100")),
            Some(letter) => return Err(format!("{format:?}: there is no %{letter} (known: {LETTERS}{more})")),
            None => return Err(format!("{format:?} ends in a %; a percent sign is %%")),
        }
    }
    Ok(())
}

/// Days since 1970-01-01 of a year's first day (proleptic Gregorian calendar).
fn days_of(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

/// Year, month and day of a number of days since 1970-01-01, by Howard Hinnant's algorithm.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;
    use std::time::Duration;

    fn at(unix_s: u64, offset_s: i32) -> Moment {
        Moment::new(UNIX_EPOCH + Duration::from_secs(unix_s), offset_s)
    }

    #[test]
    fn the_letters_mean_what_strftime_says() {
        let rows = [
            (0, 0, "", ""),
            (0, 0, "%%", "%"),
            (0, 0, "%", "%"),
            (0, 0, "%Q", "%Q"),
            (0, 0, "é%Yé", "é1970é"),
            (0, 0, "a%nb%tc", "a b c"),
            (0, 0, "%a %b %d %T %Y", "Thu Jan 01 00:00:00 1970"),
            (0, -1, "%F %T %z", "1969-12-31 23:59:59 -0000"),
            (0, -34_200, "%F %T %z", "1969-12-31 14:30:00 -0930"),
            (1_893_456_000, 3600, "%F %T %z", "2030-01-01 01:00:00 +0100"),
            (951_782_400, 0, "%F %j", "2000-02-29 060"),
            (978_220_799, 0, "%F %j %u %w", "2000-12-30 365 6 6"),
            (978_307_199, 0, "%F %j %u %w", "2000-12-31 366 7 0"),
            (4_107_542_400, 0, "%F %j", "2100-03-01 060"),
            (43_200, 0, "%I %p", "12 PM"),
            (86_399, 0, "%I:%M:%S %p %R", "11:59:59 PM 23:59"),
            (0, 0, "%e|%C|%y|%D|%c|%h", " 1|19|70|01/01/70|Thu Jan  1 00:00:00 1970|Jan"),
            (5, 3600, "%s", "5"),
            (0, 0, "%Y%m%d.%i", "19700101.%i"),
        ];
        for (unix_s, offset_s, format, text) in rows {
            assert_eq!(at(unix_s, offset_s).text(format), text, "{format} at {unix_s}");
        }
        assert_eq!(at(0, 0).text_with("%Y%%i%i", Some(('i', "%Y"))), "1970%i%Y");
        assert_eq!(at(1_893_456_000, -1800).rfc3339(), "2029-12-31T23:30:00-00:30");
    }

    /// An independent judge: date(1) of the machine, over a wide table of moments.
    #[test]
    fn date_1_agrees() {
        const FORMAT: &str = "%a %A %b %B %h %C %d %D %e %F %H %I %j %m %M %p %R %s %S %T %u %w %y %Y %z %%";
        for step in 0..40_u64 {
            let unix_s = step * 109_876_543;
            let run = Command::new("date")
                .env("LC_ALL", "C")
                .args(["-u", "-d", &format!("@{unix_s}"), &format!("+{FORMAT}")])
                .output();
            let Ok(run) = run else { return };
            if !run.status.success() {
                return;
            }
            assert_eq!(at(unix_s, 0).text(FORMAT), String::from_utf8_lossy(&run.stdout).trim_end());
        }
    }

    #[test]
    fn an_unknown_letter_is_named_when_the_format_is_read() {
        let rows = [
            ("%Q", "", Some("there is no %Q")),
            ("%Z", "", Some("%z gives it")),
            ("100%", "", Some("ends in a %")),
            ("%i", "", Some("there is no %i")),
            ("%i", "i", None),
            ("a\nb", "", Some("control")),
            ("", "", None),
            ("%%Q", "", None),
        ];
        for (format, more, fault) in rows {
            match (check(format, more), fault) {
                (Ok(()), None) => {}
                (Err(said), Some(fault)) => assert!(said.contains(fault), "{format}: {said}"),
                (said, _) => panic!("{format}: {said:?}"),
            }
        }
        assert!(check(&"x".repeat(FORMAT_OCTETS_MAX + 1), "").is_err());
    }

    proptest! {
        #[test]
        fn any_date_and_format_gives_one_line(unix_s: u32, offset_s in -90_000..90_000_i32, format in "[%a-zA-Z ]{0,20}") {
            let text = at(u64::from(unix_s) * 7, offset_s).text(&format);
            prop_assert!(!text.contains('\n'));
        }
    }
}
