//! The session's lines of the decision record: one per refusal, one per message before its 250, one per connection.

use super::{Ended, Session};
use crate::hook::policy::TOLERATED;
use crate::hook::{Receipt, Refused};
use crate::log;
use crate::mail::{Envelope, Message};
use crate::record::{Decision, Entry};
use crate::smtp::reply::Reply;

/// Decisions kept for the message's line; more are not told there.
const TOLD_MAX: usize = 64;
/// Octets of recipients named in the message's line; of the others the number is told.
const RECIPIENTS_OCTETS_MAX: usize = 1200;

impl Session<'_> {
    /// Takes the chain's decisions: all of them for the witness of this step, and those that the message's line will tell.
    pub(super) fn collect_decisions(&mut self) {
        for decision in self.chain.take_decisions() {
            if decision.withheld.is_some() {
                log::record(&self.entry("withheld").with("decision", decision.to_string()));
            }
            if decision.evidence.iter().any(|evidence| evidence.starts_with(TOLERATED)) {
                log::record(&self.entry("tolerated").with("decision", decision.to_string()));
            }
            if decision.speaks() {
                self.note(&decision);
            }
            self.decisions.push(decision);
        }
    }

    /// Keeps a decision for the message's line. One that was taken before, of another recipient, is counted.
    fn note(&mut self, decision: &Decision) {
        if let Some((_, times)) = self.told.iter_mut().find(|(told, _)| told.same(decision)) {
            *times += 1;
        } else if self.told.len() < TOLD_MAX {
            self.told.push((decision.clone(), 1));
        }
    }

    /// The core refused a command for its syntax, its order or a limit.
    pub(super) fn report_error(&mut self, said: &str, reply: &Reply) {
        log::record(&self.entry("error").with("said", said).with("reply", summary(reply)));
    }

    /// Content that began to come did not come to its end.
    pub(super) fn report_unfinished(&self, envelope: &Envelope, octets: u64) {
        let entry = self.entry("unfinished").with("from", envelope.reverse_path().to_string());
        log::record(&entry.with("to", recipients(envelope)).with("octets", octets.to_string()));
    }

    /// A plugin refused.
    pub(super) fn report_refusal(&self, refused: &Refused, about: &str, reply: &Reply) {
        let word = if refused.trouble { "error" } else { "fail" };
        let entry = self
            .entry("refused")
            .with("hook", refused.hook.name())
            .with("plugin", &*refused.plugin)
            .with("result", format!("{}: {word}, {}", refused.plugin, refused.denial.text))
            .with("line", &*refused.origin)
            .with("evidence", refused.evidence.join("; "))
            .with("took", format!("{}us", refused.took.as_micros()))
            .with("karma", self.facts.karma_in_words())
            .with("about", about)
            .with("reply", summary(reply));
        log::record(&entry);
    }

    /// The core refused.
    pub(super) fn report_limit(&mut self, hook: &str, about: &str, reply: &Reply) {
        self.facts.refusals += 1;
        let entry = self.entry("refused").with("hook", hook).with("about", about).with("reply", summary(reply));
        log::record(&entry);
    }

    /// A message is held; its 250 is about to leave.
    pub(super) fn report_message(
        &mut self,
        envelope: &Envelope,
        message: &Message,
        receipt: &Receipt,
        plugin: &str,
        reply: &Reply,
    ) {
        self.collect_decisions();
        let times = |times: &u32| if *times > 1 { format!(" x{times}") } else { String::new() };
        let told: Vec<_> = self.told.iter().map(|(decision, count)| format!("{decision}{}", times(count))).collect();
        let message_id = message.header().ok().and_then(|header| header.text("Message-ID"));
        let entry = self
            .entry("queued")
            .with("by", plugin)
            .with("queue_id", receipt.id.clone().unwrap_or_default())
            .with("from", envelope.reverse_path().to_string())
            .with("to", recipients(envelope))
            .with("recipients", envelope.recipients().len().to_string())
            .with("octets", message.octets().to_string())
            .with("message_id", message_id.unwrap_or_default())
            .with("karma", self.facts.karma_in_words())
            .with("reply", summary(reply))
            .with("decisions", told.join("; "));
        log::record(&entry);
    }

    /// The session is over.
    pub(super) fn report_connection(&mut self, ended: Ended) {
        let took = self.world.clock.instant() - self.begun;
        let hello = self.facts.hello.as_ref().map(|hello| hello.name.text().to_owned());
        let entry = self
            .entry("connection")
            .with("hello", hello.unwrap_or_default())
            .with("launcher", self.facts.connection.launcher.name())
            .with("relaying", self.facts.relaying.clone().unwrap_or_default())
            .with("commands", self.commands.to_string())
            .with("errors", self.errors.to_string())
            .with("refused", self.facts.refusals.to_string())
            .with("queued", self.facts.accepted.to_string())
            .with("karma", self.facts.karma_in_words())
            .with("ms", took.as_millis().to_string())
            .with("end", format!("{ended:?}").to_lowercase());
        log::record(&entry);
    }

    fn entry(&self, event: &'static str) -> Entry {
        let connection = &self.facts.connection;
        let client = connection.remote_ip.map(|ip| ip.to_string());
        Entry::new(event, &self.facts.id)
            .with("client", client.unwrap_or_default())
            .with("host", connection.remote_host.clone().unwrap_or_default())
    }
}

/// The recipients as the client named them, as many as fit.
fn recipients(envelope: &Envelope) -> String {
    let mut text = String::new();
    for (index, recipient) in envelope.recipients().iter().enumerate() {
        let name = recipient.asked.to_string();
        if text.len() + name.len() > RECIPIENTS_OCTETS_MAX {
            return format!("{text} and {} more", envelope.recipients().len() - index);
        }
        if index > 0 {
            text.push(',');
        }
        text.push_str(&name);
    }
    text
}

/// Code, enhanced code and first line of a reply.
fn summary(reply: &Reply) -> String {
    let first = reply.lines.first().map_or("", String::as_str);
    match reply.enhanced {
        Some(enhanced) => format!("{} {enhanced} {first}", reply.code),
        None => format!("{} {first}", reply.code),
    }
}
