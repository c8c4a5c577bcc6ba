//! Queue backends: what takes the mail. Each is a `Queue`; `line` makes a link of the chain of it.
//!
//! A `Receipt` means that the message is held durably: it is the only way to a 250. Every error is transient unless the
//! backend surely said permanent.
//!
//! Several queue lines: they are asked in their order, and the first that takes the message has it. A line that refuses it
//! decides, unless all of this is true: the refusal is transient, its error is [`untouched`](QueueError::untouched), and the
//! line says `if_down next` (default `defer`). Then the next line is asked; if there is none, the client is told to come
//! again. A hand-over that broke off where it may have happened (no answer came, the program was killed) is never passed on,
//! whatever the line says: both backends would then hold the message, and the recipient would have it twice. What is left
//! of that risk is the same as without a second line: after 451 the client comes again. With `next` a message may also
//! overtake others that wait for the first backend, and what is offered to clients is what all the lines can carry.

mod client;
pub mod discard;
pub mod exim_bsmtp;
pub mod lmtp;
pub mod maildir;
pub mod pipe;
pub mod postdrop;
mod postfix;
pub mod postfix_queue;
mod program;
pub mod qmail_queue;
pub mod qmqp;
pub mod sendmail;
pub mod smtp_forward;
#[cfg(test)]
mod trial;

use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Answer, Content, Denial, End, Entry, Hook, Kind, Plugin, Rcpt, Receipt, Ruling, Severity};
use crate::mail::{Envelope, Message, Recipient, Transaction};
use crate::smtp::address::ForwardPath;
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// Every backend, by the name of its line.
pub const ENTRIES: &[&Entry] = &[
    &discard::ENTRY,
    &exim_bsmtp::ENTRY,
    &lmtp::ENTRY,
    &maildir::ENTRY,
    &pipe::ENTRY,
    &postdrop::ENTRY,
    &postfix_queue::ENTRY,
    &qmail_queue::ENTRY,
    &qmqp::ENTRY,
    &sendmail::ENTRY,
    &smtp_forward::ENTRY,
];

/// The hooks of every queue line.
pub const HOOKS: &[Hook] = &[Hook::Queue];

/// The hooks of a backend that can be asked about recipients.
pub const HOOKS_ASKING: &[Hook] = &[Hook::Rcpt, Hook::Queue, Hook::ResetTransaction, Hook::Disconnect];

type Build = fn(Settings, &World) -> Result<Box<dyn Plugin>, ConfigError>;

/// The catalogue's entry of a backend.
const fn entry(name: &'static str, head: &'static str, build: Build) -> Entry {
    Entry { kind: Kind::Queue, ..Entry::plugin(name, HOOKS, head, build) }
}

/// The same of one that can be asked about recipients.
const fn asking_entry(name: &'static str, head: &'static str, build: Build) -> Entry {
    Entry { hooks: HOOKS_ASKING, ..entry(name, head, build) }
}

/// One backend.
pub trait Queue {
    /// What it can carry, told without connecting anywhere.
    fn offers(&self) -> Capabilities;

    /// Whether what it stands on is there: one line per fault, with how to mend it. Queues nothing.
    fn check(&mut self) -> Vec<String>;

    /// Whether it wants to be asked about recipients, told without connecting anywhere.
    fn asks_recipients(&self) -> bool {
        false
    }

    /// What it thinks of a recipient that the plugins have accepted. `forget` follows, sooner or later.
    fn recipient(&mut self, _: &Session, _: &Transaction, _: &Recipient) -> Opinion {
        Opinion::None(String::new())
    }

    /// The transaction about which it was asked is over.
    fn forget(&mut self) {}

    /// Hands the message over.
    ///
    /// # Errors
    /// Nothing is queued, or that it was cannot be known.
    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError>;
}

/// What a backend thinks of a recipient.
#[derive(Debug)]
pub enum Opinion {
    /// Nothing, for this reason: the hand-over will tell.
    None(String),
    /// It would take mail for it, in these words. That vouches for nobody: it may trust us as a relay.
    Takes(String),
    /// It would not.
    Refuses(QueueError),
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
    /// Whether it is sure that nothing was handed over. Only then may another backend be asked.
    pub untouched: bool,
}

impl QueueError {
    /// A transient failure: 451 4.3.0.
    pub fn transient(text: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self {
            severity: Severity::Transient,
            text: text.into(),
            enhanced: (3, 0),
            evidence: evidence.into(),
            untouched: false,
        }
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

    /// The same, where it is sure that nothing was handed over.
    #[must_use]
    pub fn untouched(mut self) -> Self {
        self.untouched = true;
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

/// The paths of an envelope in their SMTP form without brackets, as command lines and batches want them.
struct Paths {
    /// Empty for `<>`.
    sender: String,
    recipients: Vec<String>,
}

impl Paths {
    /// # Errors
    /// An address holds a character that could end it; none that was parsed does.
    fn of(envelope: &Envelope) -> Result<Self, QueueError> {
        let sender = envelope.reverse_path().mailbox().map_or(String::new(), ToString::to_string);
        let form = |path: &ForwardPath| path.mailbox().map_or_else(|| path.address(), ToString::to_string);
        let recipients: Vec<String> = envelope.forward_paths().into_iter().map(form).collect();
        let odd = recipients.iter().chain([&sender]).find(|address| address.contains(['\0', '\r', '\n']));
        if let Some(odd) = odd {
            let error = QueueError::permanent("an address cannot be handed over", safe(odd, 80));
            return Err(error.code(1, 3).untouched());
        }
        Ok(Self { sender, recipients })
    }
}

/// What a line does when its backend is surely without the message (the rule stands above).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfDown {
    /// The client is told to come again.
    #[default]
    Defer,
    /// The next queue line is asked.
    Next,
}

/// Seconds of a time limit that are `DEFAULT` unless set: `timeout` is `Seconds<60>`, `deadline` is `Seconds<300>`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u64")]
struct Seconds<const DEFAULT: u64>(u64);

/// The chain ends a hand-over after an hour.
const LIMIT_S_MAX: u64 = 3600;

impl<const DEFAULT: u64> TryFrom<u64> for Seconds<DEFAULT> {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        let fits = (1..=LIMIT_S_MAX).contains(&seconds);
        if fits { Ok(Self(seconds)) } else { Err(format!("{seconds}: from 1 to {LIMIT_S_MAX} seconds")) }
    }
}

impl<const DEFAULT: u64> Default for Seconds<DEFAULT> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: u64> Seconds<DEFAULT> {
    fn get(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// A backend as a line of the chain. Asked about a recipient, it refuses or has no opinion; it never vouches.
pub fn line(queue: impl Queue + 'static, if_down: IfDown) -> Box<dyn Plugin> {
    Box::new(Line { queue, if_down })
}

struct Line<Q> {
    queue: Q,
    if_down: IfDown,
}

impl<Q: Queue> Plugin for Line<Q> {
    fn wants(&self, hook: Hook) -> bool {
        hook == Hook::Queue || self.queue.asks_recipients()
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        Ok(match self.queue.recipient(at.session, at.transaction, at.recipient) {
            Opinion::None(why) => Ruling::skip(if why.is_empty() { "no opinion".to_owned() } else { why }),
            Opinion::Takes(words) => Ruling::decline().because(words),
            Opinion::Refuses(error) => error.into(),
        })
    }

    fn reset_transaction(&mut self, _at: &End<'_>) {
        self.queue.forget();
    }

    fn disconnect(&mut self, _at: &End<'_>) {
        self.queue.forget();
    }

    fn queue(&mut self, at: &Content<'_>) -> Answer {
        Ok(match self.queue.deliver(at.session, at.envelope, at.message) {
            Ok(receipt) => Ruling::queued(receipt),
            Err(error) if self.passes_on(&error) => {
                let down = Ruling::skip(format!("{}: the next queue is asked", error.text));
                if error.evidence.is_empty() { down } else { down.because(error.evidence) }
            }
            Err(error) => error.into(),
        })
    }

    fn offers(&self) -> Option<Capabilities> {
        Some(self.queue.offers())
    }

    fn check(&mut self) -> Vec<String> {
        self.queue.check()
    }
}

impl<Q> Line<Q> {
    fn passes_on(&self, error: &QueueError) -> bool {
        self.if_down == IfDown::Next && error.untouched && error.severity == Severity::Transient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::{Denial, Verdict};

    /// A backend that is always down in one way.
    struct Down(Severity, bool);

    impl Queue for Down {
        fn offers(&self) -> Capabilities {
            Capabilities::ALL
        }

        fn check(&mut self) -> Vec<String> {
            Vec::new()
        }

        fn deliver(&mut self, _: &Session, _: &Envelope, _: &Message) -> Result<Receipt, QueueError> {
            let error = QueueError { severity: self.0, ..QueueError::transient("down", "why") };
            Err(if self.1 { error.untouched() } else { error })
        }
    }

    #[test]
    fn only_an_untouched_transient_failure_is_passed_on_and_only_if_the_line_says_so() {
        let envelope = trial::envelope("<>", &["<x@here.example>"]);
        for if_down in [IfDown::Defer, IfDown::Next] {
            for severity in [Severity::Transient, Severity::Permanent] {
                for untouched in [false, true] {
                    let mut plugin = line(Down(severity, untouched), if_down);
                    let ruling = trial::rule(&mut *plugin, &envelope, "");
                    let evidence = ruling.evidence.join("; ");
                    let passed = if_down == IfDown::Next && severity == Severity::Transient && untouched;
                    match ruling.verdict {
                        Verdict::Skip => assert!(passed && evidence == "down: the next queue is asked; why"),
                        Verdict::Deny(Denial { severity: found, .. }) => assert!(!passed && found == severity),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}
