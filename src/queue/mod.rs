//! Queue backends: what takes the mail. Each is a `Queue`; `line` makes a link of the chain of it.
//!
//! A `Receipt` means that the message is held durably: it is the only way to a 250. Every error is transient unless the
//! backend surely said permanent.

pub mod discard;
pub mod maildir;
pub mod postdrop;
mod postfix;
pub mod postfix_queue;
pub mod qmail_queue;
#[cfg(test)]
mod trial;

use std::time::Duration;

use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Answer, Content, Denial, Entry, Hook, Kind, Plugin, Receipt, Ruling, Severity};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// Every backend, by the name of its line.
pub const ENTRIES: &[&Entry] =
    &[&discard::ENTRY, &maildir::ENTRY, &postdrop::ENTRY, &postfix_queue::ENTRY, &qmail_queue::ENTRY];

/// The hooks of every queue line.
pub const HOOKS: &[Hook] = &[Hook::Queue];

type Build = fn(Settings, &World) -> Result<Box<dyn Plugin>, ConfigError>;

/// The catalogue's entry of a backend.
const fn entry(name: &'static str, source: &'static str, build: Build) -> Entry {
    Entry { kind: Kind::Queue, ..Entry::plugin(name, HOOKS, source, build) }
}

/// One backend.
pub trait Queue {
    /// What it can carry, told without connecting anywhere.
    fn offers(&self) -> Capabilities;

    /// Whether what it stands on is there: one line per fault, with how to mend it. Queues nothing.
    fn check(&mut self) -> Vec<String>;

    /// Hands the message over.
    ///
    /// # Errors
    /// Nothing is queued, or that it was cannot be known.
    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError>;
}

/// Why a message was not queued.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct QueueError {
    /// Transient unless the backend surely said permanent.
    pub severity: Severity,
    /// What the client is told.
    pub text: String,
    /// Subject and detail of the enhanced status code.
    pub enhanced: (u16, u16),
    /// What the log is told beside; may be empty.
    pub evidence: String,
}

impl QueueError {
    /// A transient failure: 451 4.3.0.
    pub fn transient(text: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { severity: Severity::Transient, text: text.into(), enhanced: (3, 0), evidence: evidence.into() }
    }

    /// A permanent one: 554 5.3.0.
    pub fn permanent(text: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { severity: Severity::Permanent, ..Self::transient(text, evidence) }
    }

    /// The same with subject and detail of its enhanced status code.
    #[must_use]
    pub fn code(mut self, subject: u16, detail: u16) -> Self {
        self.enhanced = (subject, detail);
        self
    }
}

impl From<QueueError> for Ruling {
    fn from(error: QueueError) -> Self {
        let (subject, detail) = error.enhanced;
        let denial = match error.severity {
            Severity::Permanent => Denial::permanent(error.text),
            Severity::Transient => Denial::transient(error.text),
        };
        let ruling = Ruling::deny(denial.code(subject, detail));
        if error.evidence.is_empty() { ruling } else { ruling.because(error.evidence) }
    }
}

/// Runs a hand-over with at most this time for the whole of it: the world's calls stop there.
fn within<T>(world: &World, time: Duration, hand_over: impl FnOnce() -> T) -> T {
    let own = world.clock.instant() + time;
    let before = world.deadline.get();
    world.deadline.replace(Some(before.map_or(own, |before| before.min(own))));
    let done = hand_over();
    world.deadline.replace(before);
    done
}

/// A backend as a line of the chain.
pub fn line(queue: impl Queue + 'static) -> Box<dyn Plugin> {
    Box::new(Line(queue))
}

struct Line<Q>(Q);

impl<Q: Queue> Plugin for Line<Q> {
    fn queue(&mut self, at: &Content<'_>) -> Answer {
        Ok(match self.0.deliver(at.session, at.envelope, at.message) {
            Ok(receipt) => Ruling::queued(receipt),
            Err(error) => error.into(),
        })
    }

    fn offers(&self) -> Option<Capabilities> {
        Some(self.0.offers())
    }

    fn check(&mut self) -> Vec<String> {
        self.0.check()
    }
}
