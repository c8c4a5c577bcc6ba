//! Makes a naughty client wait before each reply.
//!
//! ```text
//! tarpit
//! tarpit delay 10 total 120 karma -2
//! ```
//! - `delay` (1 to 60; 5): seconds before each reply to HELO, EHLO, MAIL, RCPT, DATA, NOOP, VRFY and unknown commands.
//! - `total` (60): seconds in one session; then it is answered at once again, since each waiting client keeps a process here.
//!   The core's `session_seconds` ends the session in any case.
//! - `karma` (not set): a client whose karma in this session is at most this waits too.
//!
//! Naughty is whom a plugin with `reject naughty` found so, whose refusal waits for a recipient (`delay_deny`), and who spoke
//! before its turn (`earlytalker`). Relaying and whitelisted clients never wait. Nothing is refused.
//!
//! A wait ends at once when we are told to end (SIGTERM), and at the end of this line's `budget` (30 s).

use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Command, Data, Entry, Hello, Hook, Mail, Plugin, Rcpt, Ruling, Session};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    spares_immune: true,
    ..Entry::plugin(
        "tarpit",
        &[
            Hook::Helo,
            Hook::Ehlo,
            Hook::Mail,
            Hook::Rcpt,
            Hook::Data,
            Hook::Noop,
            Hook::Vrfy,
            Hook::UnrecognizedCommand,
        ],
        crate::manual!("tarpit.rs"),
        build,
    )
};

/// Longest wait before one reply, in seconds. Clients give up after five minutes (RFC 5321 §4.5.3.2), and not sooner.
const DELAY_MAX: u64 = 60;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Seconds before each reply.
    delay: u64,
    /// Seconds in one session.
    total: u64,
    /// Karma of this session at and below which a client waits.
    karma: Option<i32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delay: 5, total: 60, karma: None }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    if !(1..=DELAY_MAX).contains(&settings.delay) {
        let fault = format!("{}: from 1 to {DELAY_MAX} seconds", settings.delay);
        return Err(origin.error(fault).of_plugin("tarpit").of_key("delay"));
    }
    Ok(Box::new(Tarpit { world: world.clone(), settings, waited: Duration::ZERO }))
}

struct Tarpit {
    world: World,
    settings: Settings,
    /// In this session, so far.
    waited: Duration,
}

impl Tarpit {
    fn rule(&mut self, session: &Session) -> Answer {
        let Some(reason) = self.reason(session) else { return Ok(Ruling::decline()) };
        let left = Duration::from_secs(self.settings.total).saturating_sub(self.waited);
        let wait = Duration::from_secs(self.settings.delay).min(left);
        if wait.is_zero() {
            return Ok(Ruling::skip(format!("{reason}, and has waited {} s", self.settings.total)));
        }
        self.world.clock.sleep(wait);
        self.waited += wait;
        Ok(Ruling::decline().because(format!("{reason}: made to wait {} s", wait.as_secs())))
    }

    fn reason(&self, session: &Session) -> Option<String> {
        if let Some(naughty) = &session.naughty {
            return Some(format!("found naughty by {}", naughty.by));
        }
        if let Some(delayed) = &session.delayed {
            return Some(format!("refused by {}", delayed.by));
        }
        if session.early_talker {
            return Some(String::from("spoke before its turn"));
        }
        let low = self.settings.karma.is_some_and(|low| session.karma <= low);
        low.then(|| format!("karma {}", session.karma))
    }
}

impl Plugin for Tarpit {
    fn helo(&mut self, at: &Hello<'_>) -> Answer {
        self.rule(at.session)
    }

    fn ehlo(&mut self, at: &Hello<'_>) -> Answer {
        self.rule(at.session)
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        self.rule(at.session)
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        self.rule(at.session)
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        self.rule(at.session)
    }

    fn noop(&mut self, at: &Command<'_>) -> Answer {
        self.rule(at.session)
    }

    fn vrfy(&mut self, at: &Command<'_>) -> Answer {
        self.rule(at.session)
    }

    fn unrecognized_command(&mut self, at: &Command<'_>) -> Answer {
        self.rule(at.session)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Denial, Naughty};

    fn tarpit(line: &str, world: &World) -> Tarpit {
        Tarpit { world: world.clone(), settings: fixture::settings(line).read().unwrap(), waited: Duration::ZERO }
    }

    #[test]
    fn a_naughty_client_waits_until_the_total_is_used_up() {
        let (world, _dir) = fixture::world(&[]);
        let mut plugin = tarpit("tarpit delay 4 total 10", &world);
        let mut session = fixture::session(None);
        let mut waited = |session: &Session| {
            let before = world.clock.instant();
            plugin.rule(session).unwrap();
            (world.clock.instant() - before).as_secs()
        };
        assert_eq!(waited(&session), 0);
        session.naughty = Some(Naughty { denial: Denial::permanent("x"), by: "dnsbl".into() });
        let waits: Vec<u64> = (0..5).map(|_| waited(&session)).collect();
        assert_eq!(waits, [4, 4, 2, 0, 0]);
    }

    #[test]
    fn who_waits() {
        let (world, _dir) = fixture::world(&[]);
        let plugin = tarpit("tarpit karma -2", &world);
        let mut session = fixture::session(None);
        for (karma, waits) in [(0, false), (-1, false), (-2, true), (-3, true)] {
            session.karma = karma;
            assert_eq!(plugin.reason(&session).is_some(), waits, "{karma}");
        }
        session.karma = 5;
        session.early_talker = true;
        assert!(plugin.reason(&session).is_some());
        assert!(fixture::build(&ENTRY, "tarpit delay 0", &world).is_err());
        assert!(fixture::build(&ENTRY, "tarpit delay 61", &world).is_err());
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        let shipped = fixture::shipped("tarpit").read::<Settings>().unwrap();
        assert_eq!(shipped, Settings { karma: Some(-5), ..Settings::default() });
    }
}
