//! A postern with a plugin of one's own: the whole program. Build it, and launch it instead of `postern`.
//!
//! ```text
//! cargo build --release --example own_plugin
//! ```
//! Its `config/plugins` may then hold the line `own/no_mondays text Not_on_Mondays`.

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use postern::config::{ConfigError, Settings};
use postern::hook::{Answer, Connect, Denial, Entry, Hook, Plugin, Ruling};
use postern::world::World;
use serde::Deserialize;

const NO_MONDAYS: &Entry = &Entry::plugin("own/no_mondays", &[Hook::Connect], postern::manual!("own_plugin.rs"), build);

/// What the plugin's line, or `plugins.d/own/no_mondays.toml`, may set.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OwnSettings {
    /// What the client reads.
    text: String,
}

impl Default for OwnSettings {
    fn default() -> Self {
        Self { text: String::from("We do not take mail on Mondays") }
    }
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(NoMondays { settings: settings.read()?, world: world.clone() }))
}

struct NoMondays {
    settings: OwnSettings,
    world: World,
}

impl Plugin for NoMondays {
    fn connect(&mut self, _at: &Connect<'_>) -> Answer {
        let seconds = self.world.clock.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Day 0 of the Unix calendar was a Thursday.
        if (seconds / 86_400) % 7 != 4 {
            return Ok(Ruling::decline());
        }
        Ok(Ruling::deny(Denial::transient(self.settings.text.clone())).because("it is Monday (UTC)"))
    }
}

fn main() -> ExitCode {
    postern::cli::run(&[NO_MONDAYS])
}
