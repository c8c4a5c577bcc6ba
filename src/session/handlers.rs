//! The commands beside the envelope's: one short function each, which asks the chain and returns a `Step`.

use super::replies;
use super::state::{State, go};
use super::{Ended, Session, Step};
use crate::hook::facts::{self, Greeting};
use crate::hook::{Chain, Hook, Outcome, Refused, Then};
use crate::smtp::command;
use crate::smtp::extension::{Offer, keywords};
use crate::smtp::reply::{Enhanced, Reply};

/// What HELP says when no plugin answers.
const HELP: &str = "commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 5321, 3030)";

impl Session<'_> {
    /// A refusal becomes a reply, and a line of the record.
    pub(super) fn refuse(&mut self, refused: &Refused, about: &str) -> Reply {
        let (code, enhanced) = replies::codes(refused.hook, &refused.denial);
        let reply = Reply::new(code, Some(enhanced), replies::with_id(&refused.denial.text, &self.facts.id));
        self.facts.refusals += 1;
        self.report_refusal(refused, about, &reply);
        reply
    }

    /// A refusal by a plugin: its reply, and this state unless it disconnects.
    pub(super) fn denied(&mut self, refused: &Refused, about: &str, state: State) -> Step {
        let reply = self.refuse(refused, about);
        match refused.denial.then {
            Then::Continue => Step::Go(reply, state),
            Then::Disconnect => Step::Close(reply, Ended::Refused),
        }
    }

    /// Asks at one of the hooks that may correct a text. `Some`: refused.
    pub(super) fn correct(
        &mut self,
        hook: Hook,
        ask: fn(&mut Chain, &mut facts::Text<'_>) -> Outcome,
        text: &mut String,
    ) -> Option<Refused> {
        if !self.chain.wants(hook) {
            return None;
        }
        match ask(&mut self.chain, &mut facts::Text { session: &mut self.facts, text }) {
            Outcome::Denied(refused) => Some(refused),
            Outcome::Undecided | Outcome::Accepted | Outcome::Answered(_) | Outcome::Queued(..) => None,
        }
    }

    /// HELO and EHLO. Both may be repeated, and reset (RFC 5321 §4.1.4); a refused one changes nothing.
    pub(super) fn hello(&mut self, state: State, mut text: String, extended: bool) -> Step {
        let corrected = if extended {
            self.correct(Hook::EhloParse, Chain::ehlo_parse, &mut text)
        } else {
            self.correct(Hook::HeloParse, Chain::helo_parse, &mut text)
        };
        if let Some(refused) = corrected {
            return self.denied(&refused, &text, state);
        }
        let name = match command::hello_argument(&text) {
            Ok(name) => name,
            Err(error) => return go(error, state),
        };
        let mut added = Vec::new();
        self.facts.hello_whitelisted = None;
        let mut at = facts::Hello { session: &mut self.facts, hello: &name, keywords: &mut added };
        let outcome = if extended { self.chain.ehlo(&mut at) } else { self.chain.helo(&mut at) };
        if let Outcome::Denied(refused) = outcome {
            return self.denied(&refused, &text, state);
        }
        if matches!(state, State::Mail(_) | State::Chunks(_)) {
            self.reset_transaction();
        }
        self.facts.hello = Some(Greeting { name, extended });
        let mut reply = Reply::new(250, None, self.facts.me.as_str());
        if extended {
            for keyword in keywords(&self.offer()).into_iter().chain(added) {
                reply = reply.line(keyword);
            }
        }
        Step::Go(reply, State::Greeted)
    }

    /// What EHLO offers: no more than every queue line can carry.
    pub(super) fn offer(&self) -> Offer {
        Offer {
            capabilities: self.chain.capabilities(),
            size_max: self.size_max,
            recipients_max: u32::try_from(self.core.recipients_max).ok(),
            chunking: true,
        }
    }

    pub(super) fn reset(&mut self) -> Step {
        self.reset_transaction();
        go(replies::ok(), State::Greeted)
    }

    pub(super) fn quit(&mut self) -> Step {
        let mut at = facts::Quit { session: &mut self.facts };
        let text = match self.chain.quit(&mut at) {
            Outcome::Answered(text) => text,
            Outcome::Undecided | Outcome::Accepted | Outcome::Denied(_) | Outcome::Queued(..) => {
                format!("{} closing connection", self.facts.me)
            }
        };
        Step::Close(replies::bye(&text), Ended::Quit)
    }

    /// NOOP is 250 whatever a plugin says, unless it hangs up.
    pub(super) fn noop(&mut self, state: State, text: &str) -> Step {
        let mut at = facts::Command { session: &mut self.facts, verb: "NOOP", argument: text };
        match self.chain.noop(&mut at) {
            Outcome::Denied(refused) if refused.denial.then == Then::Disconnect => self.denied(&refused, text, state),
            Outcome::Answered(text) => go(Reply::new(250, Some(Enhanced(2, 0, 0)), text), state),
            Outcome::Denied(_) | Outcome::Undecided | Outcome::Accepted | Outcome::Queued(..) => {
                go(replies::ok(), state)
            }
        }
    }

    pub(super) fn vrfy(&mut self, state: State, text: &str) -> Step {
        let mut at = facts::Command { session: &mut self.facts, verb: "VRFY", argument: text };
        match self.chain.vrfy(&mut at) {
            Outcome::Denied(refused) => self.denied(&refused, text, state),
            Outcome::Answered(text) => go(Reply::new(250, Some(Enhanced(2, 1, 5)), text), state),
            Outcome::Accepted => go(Reply::new(250, Some(Enhanced(2, 1, 5)), "user ok"), state),
            Outcome::Undecided | Outcome::Queued(..) => go(replies::cannot_vrfy(), state),
        }
    }

    pub(super) fn help(&mut self, state: State, text: &str) -> Step {
        let mut at = facts::Command { session: &mut self.facts, verb: "HELP", argument: text };
        match self.chain.help(&mut at) {
            Outcome::Denied(refused) => self.denied(&refused, text, state),
            Outcome::Answered(text) => go(Reply::new(214, Some(Enhanced(2, 0, 0)), text), state),
            Outcome::Undecided | Outcome::Accepted | Outcome::Queued(..) => {
                go(Reply::new(214, Some(Enhanced(2, 0, 0)), HELP), state)
            }
        }
    }

    pub(super) fn unrecognized(&mut self, state: State, verb: &str, rest: &str) -> Step {
        let mut at = facts::Command { session: &mut self.facts, verb, argument: rest };
        match self.chain.unrecognized_command(&mut at) {
            Outcome::Denied(refused) => self.denied(&refused, verb, state),
            Outcome::Answered(text) => go(Reply::new(250, Some(Enhanced(2, 0, 0)), text), state),
            Outcome::Undecided | Outcome::Accepted | Outcome::Queued(..) => go(replies::unrecognized(), state),
        }
    }
}
