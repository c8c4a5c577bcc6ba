//! Catches clients that speak before their turn: before the greeting, or between DATA and 354.
//!
//! ```text
//! earlytalker
//! earlytalker wait 2 reject_type temp check-at CONNECT check-at DATA
//! ```
//! A program that sends without waiting for replies is hardly a mail server. RFC 5321 §4.3.1 makes the client wait for
//! the greeting, and RFC 2920 §3.1 lets nothing follow DATA.
//!
//! - `wait` (seconds, parts of one too, 0 to 60; 1): how long the client is listened to. 0 looks only at what is there
//!   already. A wait longer than the line's `budget` (30 s) ends with that.
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty`
//!   plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm).
//! - `defer_reject` (0 or 1; 0): a client that spoke before the greeting is greeted, and refused at MAIL. It can be
//!   named by its HELO in the record then.
//! - `check_at` (CONNECT, DATA; CONNECT), as often as wanted: when to listen. Chunks of BDAT come without being asked
//!   for and are never early.
//! - `action` (deny, denysoft, log), the old form: deny is `reject 1`, denysoft `reject 1 reject_type temp`, log
//!   `reject 0`.
//!
//! Replies: `554 5.7.1 Connecting host started transmitting before SMTP greeting` (421 for temp, 550 or 450 at MAIL),
//! and `554 5.7.1 Connecting host started transmitting before 354`. After the second the connection is always closed,
//! for the content that has been sent cannot be told from commands. What the client said is not used.
//!
//! Not asked: about clients that may relay or are whitelisted. List it after `relay`, or they wait too. At connect, a client is
//! not listened to either whose history is above 5 (plugin `karma`, wherever that stands).
//!
//! A dialog that is piped in has no turns, so everything in it is early; of a file, only what follows DATA.
//!
//! Old name: `check_earlytalker`, whose refusals are temporary unless `action` or `reject_type` says otherwise.
//!
//! Differs from qpsmtpd in hearing, at DATA, also what came in the same packet as DATA.

use std::time::Duration;

use serde::Deserialize;

use super::shared::called;
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Data, Entry, Hook, Mail, Plugin, Reject, RejectType, Ruling, Verdict};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_earlytalker"],
    spares_immune: true,
    ..Entry::plugin("earlytalker", &[Hook::Connect, Hook::Mail, Hook::Data], crate::manual!("earlytalker.rs"), build)
};

/// RFC 5321 §4.5.3.2.1 gives the client 5 minutes for the greeting; real ones have less.
const WAIT_MAX_S: f64 = 60.0;
/// Nice sessions less naughty ones: above this a client does not wait for its greeting.
const HISTORY_SPARED: i64 = 5;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Seconds.
    wait: f64,
    reject: Option<Reject>,
    reject_type: Option<RejectType>,
    defer_reject: bool,
    check_at: Vec<When>,
    action: Option<Action>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { wait: 1.0, reject: None, reject_type: None, defer_reject: false, check_at: Vec::new(), action: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum When {
    #[serde(rename = "CONNECT", alias = "connect")]
    Connect,
    #[serde(rename = "DATA", alias = "data")]
    Data,
}

/// qpsmtpd's before 0.90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Deny,
    DenySoft,
    Log,
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let soft = called(&given, "check_earlytalker");
    given.repeatable("check_at");
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    if !(0.0..=WAIT_MAX_S).contains(&settings.wait) {
        let fault = format!("wait {} is not between 0 and {WAIT_MAX_S} seconds", settings.wait);
        return Err(origin.error(fault).of_plugin(ENTRY.name));
    }
    Ok(Box::new(EarlyTalker::new(&settings, soft)))
}

#[derive(Debug, PartialEq)]
struct EarlyTalker {
    wait: Duration,
    reject: Reject,
    reject_type: RejectType,
    defer: bool,
    at_connect: bool,
    at_data: bool,
    /// Heard at connect, still to be refused at MAIL.
    heard: bool,
}

impl EarlyTalker {
    /// `soft`: what the old name meant where nothing else is said.
    fn new(settings: &Settings, soft: bool) -> Self {
        let by_action = match settings.action {
            None => (Reject::Refuse, if soft { RejectType::Temp } else { RejectType::Perm }),
            Some(Action::Deny) => (Reject::Refuse, RejectType::Perm),
            Some(Action::DenySoft) => (Reject::Refuse, RejectType::Temp),
            Some(Action::Log) => (Reject::Tolerate, RejectType::Perm),
        };
        Self {
            wait: Duration::from_secs_f64(settings.wait),
            reject: settings.reject.unwrap_or(by_action.0),
            reject_type: settings.reject_type.unwrap_or(by_action.1),
            defer: settings.defer_reject,
            at_connect: settings.check_at.is_empty() || settings.check_at.contains(&When::Connect),
            at_data: settings.check_at.contains(&When::Data),
            heard: false,
        }
    }

    fn refuse(&self, before: &str) -> Ruling {
        let text = format!("Connecting host started transmitting before {before}");
        self.reject.rule(self.reject_type.denial(text).code(7, 1))
    }
}

/// What everybody may know of the client from now on.
fn noted(ruling: Ruling) -> Ruling {
    ruling.change(Change::NoteEarlyTalker).change(Change::AdjustKarma(-1))
}

impl Plugin for EarlyTalker {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let history = at.session.karma_history.filter(|history| *history > HISTORY_SPARED);
        if let Some(history) = history.filter(|_| self.at_connect) {
            return Ok(Ruling::skip(format!("karma history {history:+}")));
        }
        if !self.at_connect || !at.line.client_speaks_within(self.wait) {
            return Ok(Ruling::decline());
        }
        if self.defer {
            self.heard = true;
            return Ok(noted(Ruling::decline()).because("spoke before the greeting: to be refused at MAIL"));
        }
        Ok(noted(self.refuse("SMTP greeting")))
    }

    fn mail(&mut self, _at: &Mail<'_>) -> Answer {
        Ok(if self.heard { self.refuse("SMTP greeting") } else { Ruling::decline() })
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        if !self.at_data || !at.line.client_speaks_within(self.wait) {
            return Ok(Ruling::decline());
        }
        let mut ruling = self.refuse("354");
        if let Verdict::Deny(denial) = &mut ruling.verdict {
            denial.then = crate::hook::Then::Disconnect;
        }
        Ok(noted(ruling))
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::facts::Listen;
    use crate::hook::{Severity, Then};
    use crate::mail::Transaction;
    use crate::smtp::address::ReversePath;
    use crate::smtp::parameters::MailParameters;

    /// A client that begins to speak after so many milliseconds.
    struct Speaks(u64);
    impl Listen for Speaks {
        fn client_speaks_within(&self, wait: Duration) -> bool {
            Duration::from_millis(self.0) <= wait
        }
    }

    /// What becomes of an early client at connect, MAIL and DATA: the code that a refusal has in the session's table,
    /// or "".
    fn fate(line: &str, after_ms: u64) -> [String; 3] {
        let (world, _dir) = fixture::world(&[]);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut session = fixture::session(Some("192.0.2.1"));
        let speaks = Speaks(after_ms);
        let connect = plugin.connect(&Connect { session: &mut session, line: &speaks }).unwrap();
        let (reverse_path, parameters) = (&ReversePath::Null, &MailParameters::default());
        let mail = plugin.mail(&Mail { session: &mut session, reverse_path, parameters }).unwrap();
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let data = plugin.data(&Data { session: &mut session, transaction: &transaction, line: &speaks }).unwrap();
        [connect, mail, data].map(|ruling| match ruling.verdict {
            Verdict::Deny(denial) => {
                let severity = if denial.severity == Severity::Permanent { "perm" } else { "temp" };
                let then = if denial.then == Then::Disconnect { " close" } else { "" };
                format!("{severity}{then}")
            }
            _ if ruling.changes.iter().any(|change| matches!(change, Change::MarkNaughty(_))) => "naughty".into(),
            _ if ruling.changes.iter().any(|change| matches!(change, Change::NoteEarlyTalker)) => "noted".into(),
            _ => String::new(),
        })
    }

    #[test]
    fn the_settings_say_when_and_how_it_is_refused() {
        let table = [
            ("earlytalker", 0, ["perm", "", ""]),
            ("earlytalker", 1000, ["perm", "", ""]),
            ("earlytalker", 1001, ["", "", ""]),
            ("earlytalker wait 0", 1, ["", "", ""]),
            ("earlytalker wait 0.5", 500, ["perm", "", ""]),
            ("earlytalker reject 0", 0, ["noted", "", ""]),
            ("earlytalker reject naughty", 0, ["naughty", "", ""]),
            ("earlytalker reject_type temp", 0, ["temp", "", ""]),
            ("earlytalker defer-reject 1", 0, ["noted", "perm", ""]),
            ("earlytalker defer-reject 1 reject_type temp_disconnect", 0, ["noted", "temp close", ""]),
            ("earlytalker check-at DATA", 0, ["", "", "perm close"]),
            ("earlytalker check-at DATA reject_type temp", 0, ["", "", "temp close"]),
            ("earlytalker check-at DATA reject 0", 0, ["", "", "noted"]),
            ("earlytalker check-at CONNECT check-at DATA", 0, ["perm", "", "perm close"]),
            ("earlytalker check_at connect,data", 0, ["perm", "", "perm close"]),
            // The old forms; Debian ships the first.
            ("check_earlytalker action log", 0, ["noted", "", ""]),
            ("check_earlytalker", 0, ["temp", "", ""]),
            ("check_earlytalker action deny", 0, ["perm", "", ""]),
            ("check_earlytalker wait 2 action denysoft defer-reject 1", 2000, ["noted", "temp", ""]),
            ("check_earlytalker:1 reject_type perm", 0, ["perm", "", ""]),
            ("earlytalker action log reject 1", 0, ["perm", "", ""]),
        ];
        for (line, after_ms, fates) in table {
            assert_eq!(fate(line, after_ms), fates, "{line}, after {after_ms} ms");
        }
    }

    #[test]
    fn who_has_a_good_history_does_not_wait_for_the_greeting() {
        /// What a client gets that speaks at once.
        struct NotAsked;
        impl Listen for NotAsked {
            fn client_speaks_within(&self, _wait: Duration) -> bool {
                panic!("listened to")
            }
        }
        let (world, _dir) = fixture::world(&[]);
        let mut session = fixture::session(Some("192.0.2.1"));
        let mut early = |history, line: &dyn Listen| {
            let mut plugin = fixture::build(&ENTRY, "earlytalker", &world).unwrap();
            session.karma_history = history;
            plugin.connect(&Connect { session: &mut session, line }).unwrap().verdict
        };
        for history in [None, Some(-6), Some(0), Some(5)] {
            assert!(matches!(early(history, &Speaks(0)), Verdict::Deny(_)), "{history:?}");
        }
        assert!(matches!(early(Some(6), &NotAsked), Verdict::Skip));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let (world, _dir) = fixture::world(&[]);
        for words in
            ["wait -1", "wait 61", "wait NaN", "wait soon", "check-at HELO", "action shout", "reject_type maybe"]
        {
            assert!(fixture::build(&ENTRY, &format!("earlytalker {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        let shipped: Settings = fixture::shipped("earlytalker").read().unwrap();
        assert_eq!(EarlyTalker::new(&shipped, false), EarlyTalker::new(&Settings::default(), false));
    }
}
