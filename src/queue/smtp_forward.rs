//! Hands mail to another SMTP server, the next hop.
//!
//! ```text
//! queue/smtp-forward 127.0.0.1 10025
//! queue/smtp-forward mail.example
//! queue/smtp-forward 2001:db8::25 25 xclient
//! queue/smtp-forward [2001:db8::25]:2525,backup.example timeout 120 deadline 600
//! queue/smtp-forward /run/smtp.socket
//! ```
//! - `host` (first word; may be a list with commas, and as `host NAME` be repeated): where to, in this order. A name, an
//!   address, either with `:PORT` (an IPv6 address then in brackets), or the path of a Unix socket.
//! - `port` (second word; 25): of the hosts that name none.
//! - `xclient` (the word alone, or 0 or 1; 0): tell the next hop who the client is, by XCLIENT, as if it were connected itself.
//!   A next hop that does not offer it then gets no mail (451), for it would judge us in place of the client.
//! - `xforward` (1): tell it for its log, by XFORWARD, where it offers that and `xclient` is not set.
//! - `helo` (our name, `me`): what we call ourselves.
//! - `timeout` (60): seconds for every single step: looking a name up, connecting, a reply, a write.
//! - `deadline` (300): seconds for the whole hand-over.
//! - `if_down`: `next` asks the next queue line where it is sure that nothing was handed over; `defer`.
//! - `ask_recipients` (0): ask the next hop about every recipient at RCPT (below).
//! - `chunking` (1): send content by BDAT where the next hop offers CHUNKING; 0: by DATA always.
//! - `binarymime` (0): offer BINARYMIME to clients. Set 1 only if the next hop offers it (Postfix, Exim and OpenSMTPD do not).
//! - `smtputf8` (1): offer SMTPUTF8 to clients. Set 0 if the next hop does not take it.
//! - `dsn` (0): offer DSN to clients. Set 1 only if the next hop offers it.
//!
//! Names are looked up by the system's resolver (`/etc/hosts`, DNS addresses; no MX). It cannot be interrupted: when its time is
//! over it is left alone, and the hand-over goes on without it. Of one name at most 8 addresses are tried.
//!
//! EHLO is said, and HELO after a permanent refusal of it. PIPELINING, SIZE, 8BITMIME, BINARYMIME, CHUNKING, SMTPUTF8 and DSN are
//! used as the next hop offers them; 8BITMIME is offered to clients always. What it cannot carry is refused, permanently (the table
//! below). What can go without loses the parameter.
//!
//! Content goes by BDAT in chunks of 64 KiB, up to 8 ahead of their replies where PIPELINING is offered; the last one is sent only
//! when all others were accepted. After a refused chunk nothing more is sent but RSET and QUIT. Where both are possible it is BDAT,
//! because nothing of the message has to change on its way (no dots are stuffed; a last line without an end needs none, and Postfix
//! and Exim then end it themselves, where with DATA we must), because no octets of it can be mistaken for its end, and because it
//! costs one round trip less. Postfix 3.7, Exim 4.96 and Dovecot 2.3 were seen to store the same octets either way; OpenSMTPD 6.8
//! has DATA alone. Set `chunking 0` for a next hop whose BDAT is faulty.
//! A bare CR or LF is never sent, unless the client declared BODY=BINARYMIME.
//!
//! A refusal keeps its class and its text:
//!
//! | what happens | the client | elsewhere? |
//! |---|---|---|
//! | the host has no address, cannot be reached, or is too slow | 451 4.4.1, 4.4.2 | yes |
//! | the greeting or EHLO is refused, even with 5yz | 451 4.5.0 | yes |
//! | garbage, an unasked-for reply, XCLIENT wanted and not offered or refused | 451 4.5.0 | yes |
//! | 421, or the connection lost, before the end of the message was sent | 451 | yes |
//! | the same after that, or no reply in time, or garbage for one | 451, a duplicate is possible | no |
//! | MAIL, DATA or a chunk refused 5yz | 554 and its text | no |
//! | MAIL, DATA or a chunk refused 4yz | 451 and its text | no |
//! | any recipient refused: nothing is sent | 554 or, if one of the refusals is 4yz, 451; the text of one refused | no |
//! | the message refused after its end | 554 or 451 and its text | no |
//! | the message is longer than the SIZE offered | 554 5.3.4 | no |
//! | NOTIFY=SUCCESS, DSN not offered | 554 5.3.3 | no |
//! | BODY=8BITMIME and 8-bit octets, 8BITMIME not offered | 554 5.6.3 | no |
//! | BODY=BINARYMIME, BINARYMIME or CHUNKING not offered, or `chunking 0` | 554 5.6.3 | no |
//! | an address or a header needs SMTPUTF8, which is not offered | 554 5.6.7, 5.6.9 | no |
//! | a bare CR or LF, not declared binary | 554 5.6.0 | no |
//!
//! One recipient that is refused stops the message for all. So have recipients judged before: by a chain that vouches only for those
//! that exist, or by `ask_recipients`.
//!
//! `ask_recipients 1`: when the plugins have accepted a recipient, and only then, the next hop is asked, in a connection of its own:
//! MAIL with the real sender, and RCPT (XCLIENT and XFORWARD as configured); then RSET and QUIT. One connection serves a whole
//! transaction, and it is over before the message is sent. Where in the chain the queue line stands does not matter: a plugin that
//! accepts (rcpt_ok) ends the asking of plugins, not this.
//!
//! | the next hop, when asked | the client's RCPT |
//! |---|---|
//! | takes the recipient, 2yz | as the plugins say. That vouches for nobody: it may trust us as a relay |
//! | refuses it, 5yz | 550 and its text |
//! | refuses it, 4yz | 450 and its text |
//! | refuses MAIL, 5yz or 4yz | 550 or 450 and its text, every recipient of the transaction |
//! | cannot be reached or asked, breaks the protocol, 421, is lost, is too slow | as the plugins say: the hand-over will tell |
//!
//! The postmaster of a domain of ours is taken whatever the next hop says. A question takes at most `timeout` for all hosts
//! together, never more than 120 seconds, and after one that got no answer no more are asked in the transaction. A next hop that
//! hangs up after it had answered (Postfix does, after 20 refusals: `smtpd_hard_error_limit`) is connected to anew. Several
//! queue lines are asked one after another, until one refuses.
//!
//! The next host is tried when one cannot be found or reached, does not greet, breaks the protocol, says 421 or is lost, all that
//! before the end of the message was sent. A refusal of the message stands. 250 is said only after the next hop's own 250 to the
//! end of the message; goodbye does not matter. If the time is over or the connection lost between the two, the next hop may
//! have the message: the client is told to come again, so a duplicate is possible, a loss is not. A next hop that works long on
//! a message (filters) needs a longer `timeout`. The record shows its queue id, where its reply tells one.
//!
//! Postfix as the next hop: `xclient` needs `smtpd_authorized_xclient_hosts` there, `xforward` `smtpd_authorized_xforward_hosts`.
//! With `inet_protocols = ipv4` it answers 501 to an XCLIENT that names an IPv6 client, and such a client's mail is deferred (451): set
//! `inet_protocols = all` there (it need not listen on IPv6: `inet_interfaces` and master.cf say where), or listen on IPv4 only here.
//! It offers DSN, so `dsn 1` holds unless `smtpd_discard_ehlo_keywords` takes it away.
//!
//! Differs from qpsmtpd: refusals keep their class, several hosts, IPv6 addresses and sockets, extensions, time limits, XFORWARD;
//! with `xclient` a next hop without XCLIENT gets nothing. STARTTLS and AUTH to the next hop are not there yet.

use super::client::{self, Asker, Client, Protocol};
use super::{Opinion, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message, Recipient, Transaction};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::asking_entry("queue/smtp-forward", crate::manual!("smtp_forward.rs"), build);

/// RFC 5321 §4.5.4.2.
const PORT: u16 = 25;

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    client::positional(&mut settings);
    // qpsmtpd's third word stands alone; everything else is pairs.
    let alone = settings.words().len() % 2 == 1 && settings.words().first().is_some_and(|word| word == "xclient");
    let xclient = match alone {
        true => settings.take_first().is_some(),
        false => settings.take::<bool>("xclient")?.is_some_and(|(wanted, _)| wanted),
    };
    let xforward = settings.take::<bool>("xforward")?.is_none_or(|(wanted, _)| wanted);
    let (mut client, options) = client::read(settings, world, Protocol::Smtp, PORT)?;
    (client.xclient, client.xforward) = (xclient, xforward);
    let asker = options.ask_recipients.then(Asker::default);
    Ok(line(SmtpForward { client, offers: options.capabilities(), asker }, options.if_down))
}

struct SmtpForward {
    client: Client,
    offers: Capabilities,
    /// Only where recipients are to be asked about.
    asker: Option<Asker>,
}

impl Queue for SmtpForward {
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
        self.client.queue(session, envelope, message)
    }
}

#[cfg(test)]
#[path = "smtp_forward_tests.rs"]
mod tests;
