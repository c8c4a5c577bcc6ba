//! Takes log lines and writes none, those of the decision record neither.
//!
//! ```text
//! logging/devnull
//! ```
//! In `config/logging`, for a service that is to leave no trace: with no logger at all, lines go to standard error or syslog.
//! `loglevel` is accepted, and without effect.

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin};
use crate::log::Level;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::logger("logging/devnull", crate::manual!("devnull.rs"), build);

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Accepted, and without effect.
    #[allow(dead_code)]
    loglevel: Option<Level>,
}

fn build(settings: Settings, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    settings.read::<Options>()?;
    Ok(Box::new(Devnull))
}

struct Devnull;

impl Plugin for Devnull {
    fn loglevel(&self) -> Level {
        // What nobody wants is not even made into text.
        Level::Emergency
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;
    use crate::log::Line;

    #[test]
    fn every_line_is_taken() {
        let (world, _dir) = trial::world();
        for line in ["logging/devnull", "logging/devnull loglevel LOGDEBUG"] {
            let taken = trial::build(&ENTRY, line, "", &world)
                .map(|mut plugin| plugin.logging(&Line::text(Level::Emergency, "text")).is_ok());
            assert!(taken.is_ok_and(|taken| taken), "{line}");
        }
        assert!(trial::build(&ENTRY, "logging/devnull x", "", &world).is_err());
    }

    #[test]
    fn the_shipped_settings_can_be_read() {
        let shipped: Options = fixture::shipped("logging/devnull").read().unwrap();
        assert_eq!(shipped.loglevel, Some(Level::Warning));
    }
}
