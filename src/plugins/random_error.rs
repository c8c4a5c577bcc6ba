//! Fails at random, to try out whether senders, and those who run them, can live with that. Never for a server in use.
//!
//! ```text
//! random_error
//! random_error percent 10
//! ```
//! - `percent` (0 to 100; 1), or the first word: how often a plugin at each of connect, HELO, EHLO, MAIL, RCPT, DATA and the
//!   end of data says no. Of these two in five are transient and three permanent; of each, two in five close the connection.
//!
//! The client gets `random failure`; the record shows the number that was drawn.

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Connect, Content, Data, Denial, Entry, Hello, Hook, Mail, Plugin, Rcpt, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "random_error",
    &[Hook::Connect, Hook::Helo, Hook::Ehlo, Hook::Mail, Hook::Rcpt, Hook::Data, Hook::DataPost],
    crate::manual!("random_error.rs"),
    build,
);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// How often, in a hundred.
    percent: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { percent: 1.0 }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(percent) = given.take_odd() {
        given.set("percent", percent);
    }
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    if !(0.0..=100.0).contains(&settings.percent) {
        let fault = format!("{}: from 0 to 100", settings.percent);
        return Err(origin.error(fault).of_plugin("random_error").of_key("percent"));
    }
    Ok(Box::new(RandomError { world: world.clone(), percent: settings.percent }))
}

struct RandomError {
    world: World,
    percent: f64,
}

impl RandomError {
    /// A number from 0 up to and without 100.
    fn draw(&self) -> f64 {
        let mut octets = [0; 4];
        self.world.random.fill(&mut octets);
        f64::from(u32::from_le_bytes(octets)) / (f64::from(u32::MAX) + 1.0) * 100.0
    }

    fn rule(&self) -> Answer {
        let drawn = self.draw();
        if drawn >= self.percent {
            return Ok(Ruling::decline());
        }
        let fifth = |number: f64| (number / 20.0) as u32;
        let (kind, end) = (fifth(self.draw()), fifth(self.draw()));
        let text = "random failure";
        let denial = if kind < 2 { Denial::transient(text) } else { Denial::permanent(text) };
        let denial = if end < 2 { denial.disconnect() } else { denial };
        Ok(Ruling::deny(denial).because(format!("drew {drawn:.2}, percent {}", self.percent)))
    }
}

impl Plugin for RandomError {
    fn connect(&mut self, _at: &Connect<'_>) -> Answer {
        self.rule()
    }

    fn helo(&mut self, _at: &Hello<'_>) -> Answer {
        self.rule()
    }

    fn ehlo(&mut self, _at: &Hello<'_>) -> Answer {
        self.rule()
    }

    fn mail(&mut self, _at: &Mail<'_>) -> Answer {
        self.rule()
    }

    fn rcpt(&mut self, _at: &Rcpt<'_>) -> Answer {
        self.rule()
    }

    fn data(&mut self, _at: &Data<'_>) -> Answer {
        self.rule()
    }

    fn data_post(&mut self, _at: &Content<'_>) -> Answer {
        self.rule()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Severity, Then, Verdict};
    use crate::world::RealRandom;

    #[test]
    fn as_often_as_it_should_and_in_every_way() {
        let (mut world, _dir) = fixture::world(&[]);
        world.random = Rc::new(RealRandom);
        let plugin = RandomError { world, percent: 50.0 };
        let mut denied = Vec::new();
        for _ in 0..4000 {
            if let Verdict::Deny(denial) = plugin.rule().unwrap().verdict {
                denied.push((denial.severity == Severity::Transient, denial.then == Then::Disconnect));
            }
        }
        // Twelve standard deviations to each side.
        assert!((1620..2380).contains(&denied.len()), "{}", denied.len());
        for kind in [(false, false), (false, true), (true, false), (true, true)] {
            assert!(denied.iter().filter(|found| **found == kind).count() > 100, "{kind:?}");
        }
    }

    #[test]
    fn never_and_always() {
        let (world, _dir) = fixture::world(&[]);
        for (percent, refuses) in [(0.0, false), (100.0, true)] {
            let plugin = RandomError { world: world.clone(), percent };
            for _ in 0..300 {
                assert_eq!(matches!(plugin.rule().unwrap().verdict, Verdict::Deny(_)), refuses);
            }
        }
        for line in ["random_error 101", "random_error percent -1", "random_error percent x"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
        fixture::build(&ENTRY, "random_error 5", &world).unwrap();
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("random_error").read::<Settings>().unwrap(), Settings::default());
    }
}
