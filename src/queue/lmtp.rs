//! Hands mail to a delivery agent that speaks LMTP (RFC 2033), such as Dovecot's.
//!
//! ```text
//! queue/lmtp /run/dovecot/lmtp
//! queue/lmtp 127.0.0.1 24
//! queue/lmtp [::1]:2424,backup.example:2424 timeout 120
//! ```
//! - `host` (first word; may be a list with commas, and as `host NAME` be repeated): where to, in this order. The path of a
//!   Unix socket, or a name or address, either with `:PORT` (an IPv6 address then in brackets).
//! - `port` (second word; 24): of the hosts that name none. Port 25 is refused: no LMTP may be there (RFC 2033 §5).
//! - `helo` (our name, `me`): what we call ourselves.
//! - `timeout` (60): seconds for every single step: looking a name up, connecting, a reply, a write.
//! - `deadline` (300): seconds for the whole hand-over.
//! - `if_down`: `next` asks the next queue line where it is sure that nothing was handed over; `defer`.
//! - `ask_recipients` (0): ask the agent about every recipient at RCPT, as with queue/smtp-forward.
//! - `chunking` (1): send content by BDAT where the agent offers CHUNKING (Dovecot does); 0: by DATA always.
//! - `binarymime` (0): offer BINARYMIME to clients. Set 1 only if the agent offers it.
//! - `smtputf8` (1): offer SMTPUTF8 to clients. Set 0 if the agent does not take it.
//! - `dsn` (0): offer DSN to clients. Set 1 only if the agent offers it.
//!
//! Before the message is sent all is as with queue/smtp-forward (see its manual): hosts in order, what the agent cannot carry is
//! refused, a refused recipient refuses the whole message, and then nothing is sent.
//!
//! After the message the agent replies once for every recipient, and our client gets one reply for all:
//!
//! | the agent | the client |
//! |---|---|
//! | has delivered to all | 250 |
//! | refuses all, permanently | 554, the first one's text |
//! | anything else | 451, the text of a refused recipient, transient before permanent |
//!
//! So no recipient is lost and no failure is hidden, but where some were delivered and others not, the client comes again with
//! all of them: those who have the message get it twice, and once more at every further try. Nothing else is possible with one
//! reply for all; a limit of one recipient a message, where clients accept that, avoids it. The same holds if the connection is
//! lost or the time over after the message was sent. The log names who was refused.
//!
//! 8BITMIME is offered always. qpsmtpd has no such plugin.

use super::client::reply::Reply;
use super::client::{self, Asker, Client, Protocol};
use super::{Opinion, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt, Severity};
use crate::mail::{Envelope, Message, Recipient, Transaction};
use crate::smtp::escape::safe;
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::asking_entry("queue/lmtp", crate::manual!("lmtp.rs"), build);

/// Any private mail system.
const PORT: u16 = 24;

/// Refused recipients that the log names.
const NAMED_MAX: usize = 5;

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    client::positional(&mut settings);
    let at_smtp = settings.error("LMTP must not be spoken on port 25 (RFC 2033)");
    let (client, options) = client::read(settings, world, Protocol::Lmtp, PORT)?;
    if client.places.iter().any(|place| matches!(place, client::place::Place::Host(_, 25))) {
        return Err(at_smtp);
    }
    let asker = options.ask_recipients.then(Asker::default);
    Ok(line(Lmtp { client, offers: options.capabilities(), asker }, options.if_down))
}

struct Lmtp {
    client: Client,
    offers: Capabilities,
    /// Only where recipients are to be asked about.
    asker: Option<Asker>,
}

impl Queue for Lmtp {
    fn offers(&self) -> Capabilities {
        self.offers
    }

    fn check(&mut self) -> Vec<String> {
        self.client.check()
    }

    fn asks_recipients(&self) -> bool {
        self.asker.is_some()
    }

    fn recipient(&mut self, session: &Session, transaction: &Transaction, recipient: &Recipient) -> Opinion {
        match &mut self.asker {
            Some(asker) => asker.ask(&self.client, session, transaction, recipient),
            None => Opinion::None(String::new()),
        }
    }

    fn forget(&mut self) {
        self.asker.iter_mut().for_each(Asker::forget);
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        // One connection at a time.
        self.forget();
        let replies = self.client.deliver(session, envelope, message)?;
        let paths: Vec<String> = envelope.forward_paths().iter().map(ToString::to_string).collect();
        conclude(&paths, &replies)
    }
}

/// One result of the replies to all recipients, in their order.
fn conclude(paths: &[String], replies: &[Reply]) -> Result<Receipt, QueueError> {
    let refused: Vec<(&String, &Reply)> = paths.iter().zip(replies).filter(|(_, reply)| reply.class() != 2).collect();
    if replies.len() != paths.len() {
        return Err(QueueError::transient("Unable to queue message", "not every recipient has its reply"));
    }
    let Some((path, reply)) = refused.iter().find(|(_, reply)| reply.class() == 4).or(refused.first()) else {
        let text = replies.first().map(Reply::text).unwrap_or_default();
        let text =
            if replies.len() > 1 { format!("delivered to {}", replies.len()) } else { format!("delivered: {text}") };
        return Ok(Receipt { id: None, text });
    };
    let mut error = client::final_refusal(reply);
    // Most name it themselves.
    if !error.text.contains(path.as_str()) {
        error.text = format!("{}: {}", safe(path, 260), error.text);
    }
    let delivered = replies.len() - refused.len();
    if delivered > 0 || refused.iter().any(|(_, reply)| reply.class() != 5) {
        error.severity = Severity::Transient;
    }
    let named: Vec<String> = refused.iter().take(NAMED_MAX).map(|(path, reply)| format!("{path}: {reply}")).collect();
    error.evidence = format!("delivered to {delivered} of {}; {}", replies.len(), named.join("; "));
    Err(error)
}

#[cfg(test)]
#[path = "lmtp_tests.rs"]
mod tests;
