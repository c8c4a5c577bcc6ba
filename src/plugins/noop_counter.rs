//! Hangs up on a client that says NOOP again and again.
//!
//! ```text
//! noop_counter
//! noop_counter 3
//! ```
//! - `noops_max` (at least 1; 3), or the first word: how many NOOP a client may say one after the other. The next is answered
//!   with `550 5.5.0 Stop wasting my time, too many consecutive NOOPs`, and the connection is closed.
//!
//! Counted anew after EHLO, HELO, MAIL, RCPT, DATA, VRFY and HELP. RSET does not count anew: it is a NOOP by another name.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Command, Data, Denial, Entry, Hello, Hook, Mail, Plugin, Rcpt, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "noop_counter",
    &[Hook::Noop, Hook::Helo, Hook::Ehlo, Hook::Mail, Hook::Rcpt, Hook::Data, Hook::Vrfy, Hook::Help],
    crate::manual!("noop_counter.rs"),
    build,
);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// NOOP commands that may follow one another.
    noops_max: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { noops_max: const { NonZeroU32::new(3).unwrap() } }
    }
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(count) = given.take_odd() {
        given.set("noops_max", count);
    }
    let settings: Settings = given.read()?;
    Ok(Box::new(NoopCounter { max: settings.noops_max.get(), noops: 0 }))
}

struct NoopCounter {
    max: u32,
    /// One after the other, so far.
    noops: u32,
}

impl NoopCounter {
    fn anew(&mut self) -> Answer {
        self.noops = 0;
        Ok(Ruling::decline())
    }
}

impl Plugin for NoopCounter {
    fn noop(&mut self, _at: &Command<'_>) -> Answer {
        self.noops += 1;
        if self.noops <= self.max {
            return Ok(Ruling::decline());
        }
        let denial = Denial::permanent("Stop wasting my time, too many consecutive NOOPs").code(5, 0).disconnect();
        Ok(Ruling::deny(denial).because(format!("{} NOOPs, noops_max {}", self.noops, self.max)))
    }

    fn helo(&mut self, _at: &Hello<'_>) -> Answer {
        self.anew()
    }

    fn ehlo(&mut self, _at: &Hello<'_>) -> Answer {
        self.anew()
    }

    fn mail(&mut self, _at: &Mail<'_>) -> Answer {
        self.anew()
    }

    fn rcpt(&mut self, _at: &Rcpt<'_>) -> Answer {
        self.anew()
    }

    fn data(&mut self, _at: &Data<'_>) -> Answer {
        self.anew()
    }

    fn vrfy(&mut self, _at: &Command<'_>) -> Answer {
        self.anew()
    }

    fn help(&mut self, _at: &Command<'_>) -> Answer {
        self.anew()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;

    #[test]
    fn no_limit_at_all_is_no_setting() {
        let (world, _dir) = fixture::world(&[]);
        for line in ["noop_counter 0", "noop_counter noops_max 0", "noop_counter max 4", "noop_counter -1"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("noop_counter").read::<Settings>().unwrap(), Settings::default());
    }
}
