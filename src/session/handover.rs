//! From the content's last octet to its one reply: judged, our trace fields, data_post, queue.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use super::receive::{Receiving, is_binary};
use super::replies;
use super::state::{State, go};
use super::{Ended, Session, Step};
use crate::config::{BareNewline, Nul};
use crate::hook::facts::{self, Queued};
use crate::hook::{Chain, Content, Hook, Outcome, Receipt, Refused, Severity};
use crate::mail::trace::{self, Received};
use crate::mail::{Envelope, Message};
use crate::smtp::reply::Reply;
use crate::smtp::survey::Findings;

impl Session<'_> {
    /// The content is whole: judge it, hand it over, answer.
    pub(super) fn conclude(&mut self, mut receiving: Receiving) -> Step {
        let found = std::mem::take(&mut receiving.survey).finish();
        if !receiving.header_seen && receiving.refusal.is_none() {
            // No empty line: all of it is header, or it has none.
            self.header_complete(&mut receiving, found.octets);
        }
        self.finish_normalising(&mut receiving);
        if let Some(reply) = receiving.refusal.take().or_else(|| self.content_fault(&receiving.envelope, &found)) {
            return self.conclude_refused(&receiving, reply);
        }
        let Receiving { envelope, spool, .. } = receiving;
        let header_max = usize::try_from(self.core.header_octets_max).unwrap_or(usize::MAX);
        let mut message = Message::new(spool, header_max);
        self.chain.limit_content_time(true);
        let judged = self.hand_over(&envelope, &mut message);
        self.chain.limit_content_time(false);
        let about = envelope.reverse_path().to_string();
        let (step, receipt) = match judged {
            Ok((receipt, plugin)) => {
                self.facts.accepted += 1;
                let reply = replies::queued(&receipt, &self.facts.id);
                self.report_message(&envelope, &message, &receipt, &plugin, &reply);
                (go(reply, State::Greeted), Some(receipt))
            }
            Err(Some(refused)) => (self.denied(&refused, &about, State::Greeted), None),
            Err(None) => {
                let reply = replies::nobody_queued(&self.facts.id);
                self.report_limit("queue", &about, &reply);
                (go(reply, State::Greeted), None)
            }
        };
        self.after_content(step, &envelope, receipt.as_ref())
    }

    /// A CR at the very end was bare.
    fn finish_normalising(&mut self, receiving: &mut Receiving) {
        let Some(normaliser) = receiving.normaliser.take() else { return };
        let mut rest = Vec::new();
        normaliser.finish(&mut rest);
        if receiving.refusal.is_none() && receiving.spool.write(&rest).is_err() {
            receiving.refusal = Some(replies::spool_trouble(false, &self.facts.id));
        }
    }

    /// queue_post comes after the reply, so the reply leaves first where somebody waits for that hook.
    fn after_content(&mut self, step: Step, envelope: &Envelope, receipt: Option<&Receipt>) -> Step {
        if !self.chain.wants(Hook::QueuePost) {
            self.reset_transaction();
            return step;
        }
        let Step::Go(reply, state) = step else { return step };
        self.errors += u32::from(reply.code >= 500);
        self.say("", &reply);
        let sent = self.flush();
        self.chain.queue_post(&Queued { session: &self.facts, envelope, receipt });
        self.reset_transaction();
        match sent {
            Ok(()) => Step::Silent(state),
            Err(fault) => Step::Fault(fault),
        }
    }

    /// Refused by a limit or for its content.
    pub(super) fn conclude_refused(&mut self, receiving: &Receiving, reply: Reply) -> Step {
        if !receiving.reported {
            self.report_limit("data", &receiving.envelope.reverse_path().to_string(), &reply);
        }
        self.reset_transaction();
        if receiving.hang_up { Step::Close(reply, Ended::Refused) } else { go(reply, State::Greeted) }
    }

    /// What RFC 5321 §2.3.8 and the settings refuse. Told after the real end of data. Binary content has no lines (RFC 3030 §3),
    /// and is admitted only where every queue line carries it.
    fn content_fault(&self, envelope: &Envelope, found: &Findings) -> Option<Reply> {
        if is_binary(envelope) {
            return None;
        }
        let id = &self.facts.id;
        if self.core.bare_newline == BareNewline::Refuse {
            if found.bare_lf {
                return Some(replies::bare_newline("LF", id));
            }
            if found.bare_cr {
                return Some(replies::bare_newline("CR", id));
            }
        }
        (found.nul && self.core.nul == Nul::Refuse).then(|| replies::nul(id))
    }

    /// data_post_headers, our trace fields, data_post, queue_pre, queue. `Err(None)`: no backend took it.
    fn hand_over(&mut self, envelope: &Envelope, message: &mut Message) -> Result<(Receipt, Rc<str>), Option<Refused>> {
        self.ask_content(Chain::data_post_headers, envelope, message)?;
        let field = self.received_field(envelope)?;
        if let Err(error) = message.prepend(&field) {
            // Only a plugin's own field can be wrong.
            tracing::error!("received_line: error, {error}");
            return Err(None);
        }
        self.ask_content(Chain::data_post, envelope, message)?;
        self.ask_content(Chain::queue_pre, envelope, message)?;
        match self.chain.queue(&mut Content { session: &mut self.facts, envelope, message }) {
            Outcome::Queued(receipt, plugin) => Ok((receipt, plugin)),
            Outcome::Denied(refused) => Err(Some(refused)),
            // An accepting plugin holds nothing: only a receipt makes 250.
            Outcome::Undecided | Outcome::Accepted | Outcome::Answered(_) => Err(None),
        }
    }

    fn ask_content(
        &mut self,
        ask: fn(&mut Chain, &mut Content<'_>) -> Outcome,
        envelope: &Envelope,
        message: &mut Message,
    ) -> Result<(), Option<Refused>> {
        match ask(&mut self.chain, &mut Content { session: &mut self.facts, envelope, message }) {
            Outcome::Denied(refused) => Err(Some(refused)),
            Outcome::Undecided | Outcome::Accepted | Outcome::Answered(_) | Outcome::Queued(..) => Ok(()),
        }
    }

    /// Our Received field (RFC 5321 §4.4), as a plugin may replace it.
    fn received_field(&mut self, envelope: &Envelope) -> Result<String, Option<Refused>> {
        let id = format!("{}.{}", self.facts.id, self.facts.transactions);
        let hello = self.facts.hello.as_ref();
        let only = match envelope.recipients() {
            [recipient] => {
                Some(recipient.asked.mailbox().map_or_else(|| recipient.asked.address(), ToString::to_string))
            }
            _ => None,
        };
        let connection = &self.facts.connection;
        let since = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut field = trace::received(&Received {
            hello: hello.map_or("unknown", |hello| hello.name.text()),
            remote_host: connection.remote_host.as_deref(),
            remote_ip: connection.remote_ip,
            remote_info: connection.remote_info.as_deref(),
            by: &self.facts.me,
            protocol: trace::protocol(
                hello.is_some_and(|hello| hello.extended),
                envelope.parameters().smtputf8,
                false,
                false,
            ),
            id: &id,
            recipient: only.as_deref(),
            unix_s: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            utc_offset_s: self.world.clock.utc_offset_s(),
        });
        let mut at = facts::ReceivedLine { session: &mut self.facts, envelope, field: &mut field };
        match self.chain.received_line(&mut at) {
            Outcome::Denied(refused) if refused.denial.severity == Severity::Transient => Err(Some(refused)),
            _ => Ok(field),
        }
    }
}
