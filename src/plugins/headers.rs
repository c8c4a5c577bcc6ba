//! Refuses a message that lacks a header field, has one twice that may be there once, or comes from another time.
//!
//! ```text
//! headers
//! headers require From,Date past 15 future 2 reject_type temp
//! check_basicheaders 5
//! ```
//! - `require` (names with commas between; From): fields that must be there and not empty. From and Date are what RFC
//!   5322 §3.6 asks for; Date is not required because honest programs leave it out.
//! - `past`, `future` (days; 0, not looked at): how old, and how far ahead, the Date may be. A Date that cannot be
//!   understood passes.
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty`
//!   plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm).
//! - `days`, or a first word alone: the old form of `past` and `future` in one.
//!
//! Once only (RFC 5322 §3.6): Date, From, Sender, Reply-To, To, Cc, Bcc, Message-ID, In-Reply-To, References, Subject.
//!
//! The first fault is told after the end of data, all of them are evidence: `554 5.6.0` with `You must send some data
//! first`, `Headers are missing`, `We require a valid From header`, `Only one Subject header allowed. See RFC 5322,
//! Section 3.6`, `The Date header is too far in the past` (or `future`).
//!
//! Not asked: about clients that may relay or are whitelisted.
//!
//! Old name: `check_basicheaders`, which requires From and Date.
//!
//! Differs from qpsmtpd, which answers `552 901` to a missing or doubled field.

use std::time::UNIX_EPOCH;

use serde::Deserialize;

use super::shared::called;
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Content, Entry, Hook, Plugin, Reject, RejectType, Ruling, Trouble};
use crate::mail::Header;
use crate::mail::header::unfolded;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_basicheaders"],
    spares_immune: true,
    ..Entry::plugin("headers", &[Hook::DataPostHeaders], crate::manual!("headers.rs"), build)
};

const ONCE: [&str; 11] =
    ["Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject"];
const DAY_S: i64 = 24 * 60 * 60;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    require: Option<Vec<String>>,
    /// Days.
    past: Option<u32>,
    /// Days.
    future: Option<u32>,
    /// Days, for both.
    days: u32,
    reject: Reject,
    reject_type: RejectType,
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(days) = given.take_odd() {
        given.set("days", days);
    }
    let old = called(&given, "check_basicheaders");
    let settings: Settings = given.read()?;
    Ok(Box::new(Headers::new(settings, old, world)))
}

struct Headers {
    require: Vec<String>,
    /// Days; 0: not looked at.
    past: u32,
    future: u32,
    reject: Reject,
    reject_type: RejectType,
    world: World,
}

impl Headers {
    fn new(settings: Settings, old: bool, world: &World) -> Self {
        let usual = || if old { vec!["From".into(), "Date".into()] } else { vec!["From".into()] };
        Self {
            require: settings.require.unwrap_or_else(usual),
            past: settings.past.unwrap_or(settings.days),
            future: settings.future.unwrap_or(settings.days),
            reject: settings.reject,
            reject_type: settings.reject_type,
            world: world.clone(),
        }
    }

    /// All that is wrong with a header: what the client is told, and on what evidence.
    fn faults(&self, header: &Header) -> Vec<(String, String)> {
        if header.entries().next().is_none() {
            return vec![("Headers are missing".into(), "no header at all".into())];
        }
        let mut faults = Vec::new();
        for name in &self.require {
            if header.get(name).all(|value| value.trim_ascii().is_empty()) {
                faults.push((format!("We require a valid {name} header"), format!("no {name}, or an empty one")));
            }
        }
        for name in ONCE {
            let count = header.count(name);
            if count > 1 {
                let text = format!("Only one {name} header allowed. See RFC 5322, Section 3.6");
                faults.push((text, format!("{count} {name} fields")));
            }
        }
        faults.extend(self.wrong_time(header));
        faults
    }

    fn wrong_time(&self, header: &Header) -> Option<(String, String)> {
        if self.past == 0 && self.future == 0 {
            return None;
        }
        let text = unfolded(header.get("Date").next()?);
        let sent = unix_time(&text)?;
        let since = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = i64::try_from(since.as_secs()).unwrap_or(i64::MAX) - sent;
        let beyond = |days: u32, by: i64| days > 0 && by > i64::from(days) * DAY_S;
        let (when, limit) = if beyond(self.past, age) {
            ("past", self.past)
        } else if beyond(self.future, -age) {
            ("future", self.future)
        } else {
            return None;
        };
        let days = age.abs() / DAY_S;
        Some((
            format!("The Date header is too far in the {when}"),
            format!("Date {text} is {days} days away, {when} {limit}"),
        ))
    }
}

impl Plugin for Headers {
    fn data_post_headers(&mut self, at: &Content<'_>) -> Answer {
        let faults = if at.message.octets() == 0 {
            vec![("You must send some data first".into(), "no octet".into())]
        } else {
            self.faults(at.message.header().map_err(|error| Trouble::new(error.to_string()))?)
        };
        let Some((text, _)) = faults.first() else { return Ok(Ruling::decline()) };
        let mut ruling = self.reject.rule(self.reject_type.denial(text).code(6, 0));
        for (_, evidence) in &faults {
            ruling = ruling.change(Change::AdjustKarma(-1)).because(evidence);
        }
        Ok(ruling)
    }
}

/// Seconds since 1970 of a date as RFC 5322 §3.3 and §4.3 write it. `None`: it is none.
fn unix_time(text: &str) -> Option<i64> {
    let date = mail_parser::DateTime::parse_rfc822(text)?;
    date.is_valid().then(|| date.to_timestamp())
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;

    fn plugin(line: &str) -> Headers {
        let mut given = fixture::settings(line);
        if let Some(days) = given.take_odd() {
            given.set("days", days);
        }
        let old = called(&given, "check_basicheaders");
        let (world, _dir) = fixture::world(&[]);
        Headers::new(given.read().unwrap(), old, &world)
    }

    /// What the client would be told about this header.
    fn told(line: &str, header: &str) -> Vec<String> {
        let header = Header::new(header.replace('\n', "\r\n").into_bytes());
        plugin(line).faults(&header).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn fields_that_are_missing_and_fields_that_are_too_many() {
        let table: [(&str, &str, &[&str]); 12] = [
            ("headers", "", &["Headers are missing"]),
            ("headers", "Subject: x\n", &["We require a valid From header"]),
            ("headers", "From:\n", &["We require a valid From header"]),
            ("headers", "From: \n \t\n", &["We require a valid From header"]),
            ("headers", "this is no field\nFrom: a\n", &[]),
            ("headers", "from: a\n", &[]),
            ("headers", "From: a\nFROM : b\n", &["Only one From header allowed. See RFC 5322, Section 3.6"]),
            ("headers", "From:\nFrom: b\n", &["Only one From header allowed. See RFC 5322, Section 3.6"]),
            ("headers", "From: a\nReceived: a\nReceived: b\nComments: a\nComments: b\n", &[]),
            (
                "headers require From,Date,List-Id",
                "Message-Id: a\nMESSAGE-ID: b\n",
                &[
                    "We require a valid From header",
                    "We require a valid Date header",
                    "We require a valid List-Id header",
                    "Only one Message-ID header allowed. See RFC 5322, Section 3.6",
                ],
            ),
            ("check_basicheaders", "From: a\n", &["We require a valid Date header"]),
            ("check_basicheaders require From", "From: a\n", &[]),
        ];
        for (line, header, texts) in table {
            assert_eq!(told(line, header), texts, "{line}: {header:?}");
        }
    }

    #[test]
    fn dates_are_held_against_the_clock() {
        const PAST: &str = "The Date header is too far in the past";
        const FUTURE: &str = "The Date header is too far in the future";
        // It is 2030-01-01 00:00:00 UTC.
        let table = [
            ("headers past 3", "Sat, 29 Dec 2029 00:00:00 +0000", None),
            ("headers past 3", "Fri, 28 Dec 2029 23:59:59 +0000", Some(PAST)),
            ("headers past 3", "Sat, 29 Dec 2029 00:59:59 +0100", Some(PAST)),
            ("headers past 3", "Fri, 28 Dec 2029 19:00:00 EST (old form)", None),
            ("headers past 3", "28 Dec 29 23:59:59 GMT", Some(PAST)),
            ("headers past 3", "Mon, 1 Jan 2040 00:00:00 +0000", None),
            ("headers future 3", "Fri, 04 Jan 2030 00:00:00 +0000", None),
            ("headers future 3", "Fri, 04 Jan 2030 00:00:01 +0000", Some(FUTURE)),
            ("headers future 3", "Fri, 04 Jan 2030 00:00:00 -0001", Some(FUTURE)),
            ("headers future 3", "Mon, 1 Jan 1990 00:00:00 +0000", None),
            ("headers 5", "Thu, 27 Dec 2029\n\t00:00:00 +0000", None),
            ("headers 5", "Thu, 26 Dec 2029 23:59:59 +0000", Some(PAST)),
            ("headers days 5 past 0", "Thu, 20 Dec 2029 23:59:59 +0000", None),
            ("headers", "Mon, 1 Jan 1990 00:00:00 +0000", None),
            ("headers past 0 future 0", "Mon, 1 Jan 1990 00:00:00 +0000", None),
            // Not understood, so not judged.
            ("headers 5", "", None),
            ("headers 5", "yesterday", None),
            ("headers 5", "Mon, 32 Jan 1990 25:61:61 +9999", None),
            ("headers 5", "Mon, 1 March 1990 00:00:00 +0000", None),
        ];
        for (line, date, text) in table {
            let found = told(line, &format!("From: a\nDate: {date}\n"));
            assert_eq!(found.first().map(String::as_str), text, "{line}: {date}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_date_is_too_odd(text: String) {
            let _ = unix_time(&text);
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        let (world, _dir) = fixture::world(&[]);
        let shipped = Headers::new(fixture::shipped("headers").read().unwrap(), false, &world);
        let usual = Headers::new(Settings::default(), false, &world);
        let values =
            |headers: Headers| (headers.require, headers.past, headers.future, headers.reject, headers.reject_type);
        assert_eq!(values(shipped), values(usual));
    }
}
