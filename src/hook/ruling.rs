//! What a plugin says: a verdict, what is to change if it stands, and on what evidence. All of it values, so that the
//! chain applies them after a clean return and a panic leaves nothing half-changed.

use super::known::{ClientNames, ClientPlace, ClientSystem, Override};
use crate::mail::Edit;
use crate::smtp::address::ForwardPath;

/// What one plugin says about one event.
#[derive(Debug)]
pub struct Ruling {
    /// The decision.
    pub verdict: Verdict,
    /// What is to change if the verdict stands.
    pub changes: Vec<Change>,
    /// What the verdict rests on, for the record: "rcpthosts line 3: here.example".
    pub evidence: Vec<String>,
}

/// The decision itself.
#[derive(Debug)]
pub enum Verdict {
    /// No opinion (qpsmtpd: DECLINED).
    Decline,
    /// Does not apply here, for the reason in the evidence. As `Decline`; the record says "skip".
    Skip,
    /// Yes, and ask nobody else (qpsmtpd: OK).
    Accept,
    /// At rcpt: the recipient is good, but go on asking.
    Vouch,
    /// No (qpsmtpd: DENY, DENYSOFT, and both with _DISCONNECT).
    Deny(Denial),
    /// At vrfy, noop, help, quit, unrecognized_command: this text (qpsmtpd: DONE).
    Answer(String),
    /// At queue: the message is held durably, or was discarded on purpose. The only way to a 250.
    Queued(Receipt),
}

/// Proof of a hand-over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The backend's own name for the message, where it tells one.
    pub id: Option<String>,
    /// Text for the 250 and the record: "stored in the maildir".
    pub text: String,
}

/// A refusal. A plugin gives text, never a basic reply code: that follows from hook, severity and `then`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// 5yz or 4yz.
    pub severity: Severity,
    /// The text that the client sees.
    pub text: String,
    /// Subject and detail of the enhanced status code (RFC 3463); `None`: the hook's own.
    pub enhanced: Option<(u16, u16)>,
    /// Whether the session goes on.
    pub then: Then,
}

impl Denial {
    /// A permanent refusal; the session goes on.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self { severity: Severity::Permanent, text: text.into(), enhanced: None, then: Then::Continue }
    }

    /// A transient refusal; the session goes on.
    pub fn transient(text: impl Into<String>) -> Self {
        Self { severity: Severity::Transient, ..Self::permanent(text) }
    }

    /// The same, with subject and detail of its enhanced status code.
    #[must_use]
    pub fn code(mut self, subject: u16, detail: u16) -> Self {
        self.enhanced = Some((subject, detail));
        self
    }

    /// The same, and the connection is closed.
    #[must_use]
    pub fn disconnect(mut self) -> Self {
        self.then = Then::Disconnect;
        self
    }
}

/// RFC 5321 §4.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 5yz: do not try again.
    Permanent,
    /// 4yz: try again later.
    Transient,
}

/// What follows a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The session goes on.
    Continue,
    /// The connection is closed.
    Disconnect,
}

/// What is to change. Each hook takes its own kinds (see `facts`); one that it does not take is the plugin's trouble.
#[derive(Debug)]
pub enum Change {
    /// connect: this client may relay, for this reason.
    GrantRelaying(String),
    /// connect: never mind who said that it may.
    RevokeRelaying,
    /// Any hook: this client is remembered as naughty, to be refused so by the plugin `naughty`; the first counts.
    MarkNaughty(Denial),
    /// Any hook: adds to the session's karma.
    AdjustKarma(i32),
    /// Any hook: what earlier sessions made of this client.
    NoteKarmaHistory(i64),
    /// Any hook: immune to the plugins that spare whitelisted clients, for this reason.
    Whitelist(String),
    /// helo, ehlo: the same for the plugins asked after this one at this hook, and nothing else.
    WhitelistHello(String),
    /// mail: the same for this transaction.
    WhitelistSender(String),
    /// rcpt: the same for this recipient.
    WhitelistRecipient(String),
    /// Any hook: the client's names in the DNS.
    NoteNames(ClientNames),
    /// Any hook: where the client is.
    NotePlace(ClientPlace),
    /// Any hook: what the client runs on.
    NoteSystem(ClientSystem),
    /// connect: another setting of a plugin, for this session.
    Configure(Override),
    /// connect, data: the client spoke before its turn.
    NoteEarlyTalker,
    /// ehlo: a further keyword.
    AddKeyword(String),
    /// *_parse, *_pre, received_line: the text instead.
    Rewrite(String),
    /// rcpt: where this recipient's mail goes instead. Targets are not asked about again.
    Retarget(Vec<ForwardPath>),
    /// rcpt: an option of this recipient for other plugins to read.
    SetOption(String, String),
    /// data_post_headers, data_post, queue_pre: an edit of the message.
    Edit(Edit),
}

/// A plugin could not do its work. `on_error` says what that leads to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

impl Trouble {
    /// Trouble with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::config::ConfigError> for Trouble {
    fn from(error: crate::config::ConfigError) -> Self {
        Self(error.to_string())
    }
}

impl Ruling {
    fn of(verdict: Verdict) -> Self {
        Self { verdict, changes: Vec::new(), evidence: Vec::new() }
    }

    /// No opinion.
    pub fn decline() -> Self {
        Self::of(Verdict::Decline)
    }

    /// Does not apply, and why.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::of(Verdict::Skip).because(reason)
    }

    /// Yes, and ask nobody else.
    pub fn accept() -> Self {
        Self::of(Verdict::Accept)
    }

    /// At rcpt: good, but go on asking.
    pub fn vouch() -> Self {
        Self::of(Verdict::Vouch)
    }

    /// No.
    pub fn deny(denial: Denial) -> Self {
        Self::of(Verdict::Deny(denial))
    }

    /// This text.
    pub fn answer(text: impl Into<String>) -> Self {
        Self::of(Verdict::Answer(text.into()))
    }

    /// Held durably.
    pub fn queued(receipt: Receipt) -> Self {
        Self::of(Verdict::Queued(receipt))
    }

    /// Adds evidence.
    #[must_use]
    pub fn because(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// Adds a change.
    #[must_use]
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }
}
