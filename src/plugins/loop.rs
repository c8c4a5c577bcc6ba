//! Refuses a message that has passed through too many servers: it goes in a circle.
//!
//! ```text
//! loop
//! loop 100
//! ```
//! - `hops_max` (fields, at least 1; 100), or the first word: a message with so many Received and Delivered-To fields,
//!   counted together, gets `554 5.4.6 Too many hops` after its end.
//!
//! Our own Received field is not counted; what arrived is (RFC 5321 §6.3, which asks for at least 100).
//!
//! Old name: `check_loop`.
//!
//! Differs from qpsmtpd, which counts its own Received field too, so that its limit is one lower than it says.

use std::num::NonZeroU32;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Content, Denial, Entry, Hook, Plugin, Ruling, Trouble};
use crate::mail::Header;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_loop"],
    ..Entry::plugin("loop", &[Hook::DataPostHeaders], crate::manual!("loop.rs"), build)
};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Trace fields, the last of which is too many.
    hops_max: NonZeroU32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hops_max: const { NonZeroU32::new(100).unwrap() } }
    }
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(count) = given.take_odd() {
        given.set("hops_max", count);
    }
    let settings: Settings = given.read()?;
    Ok(Box::new(Loop { max: settings.hops_max.get() as usize }))
}

struct Loop {
    max: usize,
}

impl Plugin for Loop {
    fn data_post_headers(&mut self, at: &Content<'_>) -> Answer {
        let header = at.message.header().map_err(|error| Trouble::new(error.to_string()))?;
        let hops = hops(header);
        if hops < self.max {
            return Ok(Ruling::decline());
        }
        let evidence = format!("{hops} Received and Delivered-To fields, hops_max {}", self.max);
        Ok(Ruling::deny(Denial::permanent("Too many hops").code(4, 6)).because(evidence))
    }
}

fn hops(header: &Header) -> usize {
    header.count("Received") + header.count("Delivered-To")
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;

    #[test]
    fn fields_count_and_nothing_that_looks_like_one() {
        let table = [
            ("", 0),
            ("Received: a\r\n", 1),
            ("received : a\r\nDELIVERED-TO: b\r\n", 2),
            ("Received: a\r\n\tReceived: folded\r\nX-Received: b\r\nReceived-SPF: c\r\nReceived\r\n", 1),
        ];
        for (text, count) in table {
            assert_eq!(hops(&Header::new(text.as_bytes().to_vec())), count, "{text:?}");
        }
    }

    #[test]
    fn the_limit_is_a_number_from_one_on() {
        let (world, _dir) = fixture::world(&[]);
        let table =
            [("loop", true), ("check_loop 50", true), ("loop hops_max 1", true), ("loop 0", false), ("loop x", false)];
        for (line, good) in table {
            assert_eq!(fixture::build(&ENTRY, line, &world).is_ok(), good, "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("loop").read::<Settings>().unwrap(), Settings::default());
    }
}
