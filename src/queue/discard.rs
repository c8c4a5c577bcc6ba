//! Takes every message and throws it away: a black hole, for tests of senders and for addresses that must accept.
//!
//! ```text
//! queue/discard
//! ```
//! The 250 is a recorded lie on purpose: the record says "discarded". No arguments, not even `if_down`: it is never down.

use serde::Deserialize;

use super::{IfDown, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/discard", crate::manual!("discard.rs"), build).without_settings();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(line(Discard, IfDown::Defer))
}

struct Discard;

impl Queue for Discard {
    fn offers(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn check(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn deliver(&mut self, _: &Session, _: &Envelope, _: &Message) -> Result<Receipt, QueueError> {
        Ok(Receipt { id: None, text: String::from("accepted and discarded") })
    }
}
