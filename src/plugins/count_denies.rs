//! Hangs up on a client that has been refused too often.
//!
//! ```text
//! count_denies
//! count_denies 4
//! ```
//! - `denies_max` (refusals in one session, at least 1; 4), or the first word: when plugins have refused so much, the
//!   next MAIL, RCPT or DATA gets `550 5.7.0 Closing connection. 4 denied commands.` (554 at DATA) and the connection
//!   is closed.
//!
//! List it first in `config/plugins`, so that it is asked before the plugins whose refusals it counts. What counts is a
//! plugin's word; refusals that `observe` withholds, faults of ours, and commands out of order or with a wrong syntax
//! do not (the core has `errors_max` for these).
//!
//! This is the plugin that qpsmtpd's tutorial writes.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Data, Denial, Entry, Hook, Mail, Plugin, Rcpt, Refusal, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "count_denies",
    &[Hook::Mail, Hook::Rcpt, Hook::Data, Hook::Deny],
    crate::manual!("count_denies.rs"),
    build,
);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Refusals in one session after which the next command of the envelope closes the connection.
    denies_max: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { denies_max: const { NonZeroU32::new(4).unwrap() } }
    }
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(count) = given.take_odd() {
        given.set("denies_max", count);
    }
    let settings: Settings = given.read()?;
    Ok(Box::new(CountDenies { max: settings.denies_max.get(), denies: 0 }))
}

struct CountDenies {
    max: u32,
    /// Refusals so far. One process serves one session, so a field will do.
    denies: u32,
}

impl CountDenies {
    fn rule(&self) -> Answer {
        if self.denies < self.max {
            return Ok(Ruling::decline());
        }
        let denial = Denial::permanent(format!("Closing connection. {} denied commands.", self.denies));
        let evidence = format!("{} refusals, denies_max {}", self.denies, self.max);
        Ok(Ruling::deny(denial.code(7, 0).disconnect()).because(evidence))
    }
}

impl Plugin for CountDenies {
    fn mail(&mut self, _at: &Mail<'_>) -> Answer {
        self.rule()
    }

    fn rcpt(&mut self, _at: &Rcpt<'_>) -> Answer {
        self.rule()
    }

    fn data(&mut self, _at: &Data<'_>) -> Answer {
        self.rule()
    }

    fn deny(&mut self, _refusal: &Refusal<'_>) {
        self.denies += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Then, Verdict};
    use crate::smtp::address::ReversePath;
    use crate::smtp::parameters::MailParameters;

    #[test]
    fn the_next_command_after_the_limit_closes() {
        let (world, _dir) = fixture::world(&[]);
        let mut plugin = fixture::build(&ENTRY, "count_denies denies_max 2", &world).unwrap();
        let mut session = fixture::session(None);
        let closes = [false, false, true, true];
        for (denies, closes) in closes.into_iter().enumerate() {
            let (reverse_path, parameters) = (&ReversePath::Null, &MailParameters::default());
            let ruling = plugin.mail(&Mail { session: &mut session, reverse_path, parameters }).unwrap();
            let closed = matches!(ruling.verdict, Verdict::Deny(denial) if denial.then == Then::Disconnect);
            assert_eq!(closed, closes, "after {denies}");
            let denial = &Denial::permanent("no");
            plugin.deny(&Refusal { session: &session, hook: Hook::Mail, plugin: "badmailfrom", denial });
        }
    }

    #[test]
    fn no_limit_at_all_is_no_setting() {
        let (world, _dir) = fixture::world(&[]);
        for line in ["count_denies denies_max 0", "count_denies 0", "count_denies max 4"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("count_denies").read::<Settings>().unwrap(), Settings::default());
    }
}
