//! Hangs up on a client that sends too many commands that are none, as an HTTP proxy does that is being abused.
//!
//! ```text
//! count_unrecognized_commands
//! count_unrecognized_commands 4
//! ```
//! - `unrecognized_max` (commands in one session, at least 1; 4), or the first word: the unrecognized command at which
//!   the connection is closed, with `500 5.5.2 Closing connection, 4 unrecognized commands. Perhaps you should read RFC
//!   5321?`.
//!
//! List it after plugins that have commands of their own, for these must be asked first. Lines that are no text at all
//! are the core's business (`errors_max`).
//!
//! Differs from qpsmtpd, whose reply code is 521.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Command, Denial, Entry, Hook, Plugin, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "count_unrecognized_commands",
    &[Hook::UnrecognizedCommand],
    crate::manual!("count_unrecognized_commands.rs"),
    build,
);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Unrecognized commands in one session, the last of which closes the connection.
    unrecognized_max: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { unrecognized_max: const { NonZeroU32::new(4).unwrap() } }
    }
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(count) = given.take_odd() {
        given.set("unrecognized_max", count);
    }
    let settings: Settings = given.read()?;
    Ok(Box::new(CountUnrecognized { max: settings.unrecognized_max.get(), count: 0 }))
}

struct CountUnrecognized {
    max: u32,
    /// So far. One process serves one session, so a field will do.
    count: u32,
}

impl Plugin for CountUnrecognized {
    fn unrecognized_command(&mut self, at: &Command<'_>) -> Answer {
        self.count += 1;
        let evidence = format!("{:?} is number {} of {}", at.verb, self.count, self.max);
        if self.count < self.max {
            return Ok(Ruling::decline().because(evidence));
        }
        let text =
            format!("Closing connection, {} unrecognized commands. Perhaps you should read RFC 5321?", self.count);
        Ok(Ruling::deny(Denial::permanent(text).disconnect()).because(evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;

    #[test]
    fn the_line_says_at_which_command_it_ends() {
        let (world, _dir) = fixture::world(&[]);
        let table = [
            ("count_unrecognized_commands", Some(4)),
            ("count_unrecognized_commands 1", Some(1)),
            ("count_unrecognized_commands unrecognized_max 2", Some(2)),
            ("count_unrecognized_commands 0", None),
            ("count_unrecognized_commands many", None),
            ("count_unrecognized_commands -1", None),
            ("count_unrecognized_commands 3 unrecognized_max 3", None),
        ];
        for (line, end) in table {
            let Ok(mut plugin) = fixture::build(&ENTRY, line, &world) else {
                assert_eq!(end, None, "{line}");
                continue;
            };
            let mut ask = || {
                let session = &mut fixture::session(None);
                plugin.unrecognized_command(&Command { session, verb: "GET", argument: "/" }).unwrap().verdict
            };
            let ended = (1..10).find(|_| matches!(ask(), Verdict::Deny(_)));
            assert_eq!(ended, end, "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("count_unrecognized_commands").read::<Settings>().unwrap(), Settings::default());
    }
}
