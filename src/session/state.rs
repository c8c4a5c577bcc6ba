//! Where the session stands, and the table of (state, command). RFC 5321 §4.1.4: order is checked before any plugin is asked.

use super::receive::Receiving;
use super::replies::{self, out_of_order};
use super::{Session, Step};
use crate::mail::Transaction;
use crate::smtp::command::Command;

/// Each state holds what is known in it and no more.
pub(super) enum State {
    /// Refused at connect with 554: only QUIT is left.
    Refused,
    /// After 220.
    Connected,
    /// After HELO or EHLO.
    Greeted,
    /// After MAIL.
    Mail(Transaction),
    /// After a BDAT that was not the last (RFC 3030).
    Chunks(Box<Receiving>),
}

/// A reply and the state that goes with it.
pub(super) fn go(reply: impl Into<crate::smtp::reply::Reply>, state: State) -> Step {
    Step::Go(reply.into(), state)
}

impl Session<'_> {
    /// One command. Every pair of state and command has its row, so there is no `_ =>` for both.
    pub(super) fn step(&mut self, state: State, command: Command) -> Step {
        use {Command as C, State as S};
        match (state, command) {
            (_, C::Quit) => self.quit(),
            (S::Refused, C::Bdat { octets, .. }) => self.swallow(octets, replies::not_welcome(), S::Refused),
            (S::Refused, _) => go(replies::not_welcome(), S::Refused),

            (state, C::Noop(text)) => self.noop(state, &text),
            (state, C::Vrfy(text)) => self.vrfy(state, &text),
            (state, C::Expn(_)) => go(replies::not_implemented("EXPN"), state),
            (state, C::Help(text)) => self.help(state, &text),
            (state, C::Unrecognized { verb, rest }) => self.unrecognized(state, &verb, &rest),
            // A refused EHLO leaves the state as it was, so the handler is given it.
            (state, C::Helo(text)) => self.hello(state, text, false),
            (state, C::Ehlo(text)) => self.hello(state, text, true),

            (S::Connected, C::Rset) => go(replies::ok(), S::Connected),
            (S::Greeted | S::Mail(_) | S::Chunks(_), C::Rset) => self.reset(),

            (S::Greeted, C::Mail(text)) => self.mail(text),
            (S::Mail(open), C::Rcpt(text)) => self.rcpt(open, text),
            (S::Mail(open), C::Data) => self.data(open),
            (S::Mail(open), C::Bdat { octets, last }) => self.first_chunk(open, octets, last),
            (S::Chunks(receiving), C::Bdat { octets, last }) => self.chunk(*receiving, octets, last),

            (state @ S::Connected, C::Mail(_) | C::Rcpt(_) | C::Data) => out_of_order("EHLO first", state),
            (state @ S::Greeted, C::Rcpt(_) | C::Data) => out_of_order("MAIL first", state),
            (state @ S::Mail(_), C::Mail(_)) => out_of_order("one MAIL at a time", state),
            (state @ S::Chunks(_), C::Mail(_) | C::Rcpt(_) | C::Data) => out_of_order("BDAT or RSET first", state),
            // The chunk is on its way already and must not be taken for commands.
            (state @ (S::Connected | S::Greeted), C::Bdat { octets, .. }) => {
                self.swallow(octets, replies::sequence("MAIL and RCPT first"), state)
            }
        }
    }
}
