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
//! - `smtputf8` (1): offer SMTPUTF8 to clients. Set 0 if the next hop does not take it.
//! - `dsn` (0): offer DSN to clients. Set 1 only if the next hop offers it.
//!
//! Names are looked up by the system's resolver (`/etc/hosts`, DNS addresses; no MX). It cannot be interrupted: when its time is
//! over it is left alone, and the hand-over goes on without it. Of one name at most 8 addresses are tried.
//!
//! EHLO is said, and HELO after a permanent refusal of it. PIPELINING, SIZE, 8BITMIME, SMTPUTF8 and DSN are used as the next hop
//! offers them. What it cannot carry is refused, permanently: a message that is longer than its SIZE (5.3.4), 8-bit content that
//! the client declared (5.6.3), addresses (5.6.7) or a header (5.6.9) that need SMTPUTF8, NOTIFY=SUCCESS (5.3.3). What can go
//! without loses the parameter. 8BITMIME is offered to clients always, BINARYMIME never; content goes by DATA, not by BDAT.
//! A message whose last line has no end gets one.
//!
//! A refusal keeps its class and its text: permanent is 554, transient 451. So with a refusal of the greeting or of EHLO,
//! garbage, a lost connection and a time limit: always 451. If the next hop refuses any recipient, nothing is sent at all (RSET),
//! and the whole message is refused with the text of a refused recipient; transiently if any refusal was transient. Have
//! recipients judged before (a chain that vouches only for those that exist), or such a message stops for all its recipients.
//!
//! The next host is tried when one cannot be found or reached, does not greet, breaks the protocol, says 421 or is lost, all that
//! before the end of the message was sent. A refusal of the message stands. 250 is said only after the next hop's own 250 to the
//! end of the message; goodbye does not matter. If the time is over or the connection lost between the two, the next hop may
//! have the message: the client is told to come again, so a duplicate is possible, a loss is not. A next hop that works long on
//! a message (filters) needs a longer `timeout`. The record shows its queue id, where its reply tells one.
//!
//! Differs from qpsmtpd: refusals keep their class, several hosts, IPv6 addresses and sockets, extensions, time limits, XFORWARD;
//! with `xclient` a next hop without XCLIENT gets nothing. STARTTLS and AUTH to the next hop are not there yet.

use super::client::{self, Client, Protocol};
use super::{Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::{Envelope, Message};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/smtp-forward", include_str!("smtp_forward.rs"), build);

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
    Ok(line(SmtpForward { client, smtputf8: options.smtputf8, dsn: options.dsn }, options.if_down))
}

struct SmtpForward {
    client: Client,
    smtputf8: bool,
    dsn: bool,
}

impl Queue for SmtpForward {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: self.smtputf8, dsn: self.dsn }
    }

    fn check(&mut self) -> Vec<String> {
        self.client.check()
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        self.client.queue(session, envelope, message)
    }
}

#[cfg(test)]
#[path = "smtp_forward_tests.rs"]
mod tests;
