//! Logs how long each connection took.
//!
//! ```text
//! connection_time
//! connection_time LOGNOTICE
//! ```
//! - `loglevel` (0 to 7 or LOGDEBUG, LOGINFO, ...; LOGINFO), or the only word: the level of the line, `connection_time: 1.234 s.`
//!
//! The time is that from the first hook to the last, what plugins do after the client has gone (`disconnect`) included. Without this
//! plugin the record's line of every connection has its time up to the last reply in it (`ms=1234`).
//!
//! List it first: what plugins before it do at `pre_connection` does not count. A process that is killed leaves no line.

use std::time::Instant;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Connect, End, Entry, Hook, Plugin, Ruling};
use crate::log::{self, Level};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "connection_time",
    &[Hook::PreConnection, Hook::PostConnection],
    crate::manual!("connection_time.rs"),
    build,
);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    loglevel: Level,
}

impl Default for Settings {
    fn default() -> Self {
        Self { loglevel: Level::Info }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(level) = given.take_odd() {
        given.set("loglevel", level);
    }
    let Settings { loglevel } = given.read()?;
    let begun = world.clock.instant();
    Ok(Box::new(ConnectionTime { level: loglevel, begun, world: world.clone() }))
}

struct ConnectionTime {
    level: Level,
    begun: Instant,
    world: World,
}

impl ConnectionTime {
    fn line(&self) -> String {
        let took = self.world.clock.instant().saturating_duration_since(self.begun);
        format!("connection_time: {:.3} s.", took.as_secs_f64())
    }
}

impl Plugin for ConnectionTime {
    fn pre_connection(&mut self, _at: &Connect<'_>) -> Answer {
        self.begun = self.world.clock.instant();
        Ok(Ruling::decline())
    }

    // A line of its own, for there is no ruling after the last reply that could carry it, and it is all that is asked of this plugin.
    fn post_connection(&mut self, _at: &End<'_>) {
        if log::wants(self.level) {
            log::write_event(self.level, &self.line());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::facts::Listen;
    use crate::world::ManualClock;

    struct Silence;
    impl Listen for Silence {
        fn client_speaks_within(&self, _: Duration) -> bool {
            false
        }
    }

    #[test]
    fn the_time_from_the_first_hook_on() {
        let (mut world, _dir) = fixture::world(&[]);
        let clock = Rc::new(ManualClock::default());
        world.clock = Rc::clone(&clock) as Rc<_>;
        let begun = world.clock.instant();
        let mut plugin = ConnectionTime { level: Level::Info, begun, world };
        clock.advance(Duration::from_secs(9));
        plugin.pre_connection(&Connect { session: &mut fixture::session(None), line: &Silence }).unwrap();
        assert_eq!(plugin.line(), "connection_time: 0.000 s.");
        clock.advance(Duration::from_micros(1_234_567));
        assert_eq!(plugin.line(), "connection_time: 1.235 s.");
    }

    #[test]
    fn the_level_is_a_key_or_the_only_word() {
        let (world, _dir) = fixture::world(&[]);
        for line in ["connection_time", "connection_time 5", "connection-time loglevel LOGDEBUG"] {
            fixture::build(&ENTRY, line, &world).unwrap();
        }
        for line in ["connection_time LOUD", "connection_time 8", "connection_time level 3"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("connection_time").read::<Settings>().unwrap(), Settings::default());
    }
}
