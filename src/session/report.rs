//! The session's lines of the decision record: one per refusal, one per message before its 250, one per connection.

use super::{Ended, Session};
use crate::hook::{Receipt, Refused};
use crate::log;
use crate::mail::{Envelope, Message};
use crate::record::Entry;
use crate::smtp::reply::Reply;

/// Decisions kept for the message's line; more are not told there.
const TOLD_MAX: usize = 64;
/// Recipients named in the message's line.
const RECIPIENTS_TOLD_MAX: usize = 10;

impl Session<'_> {
    /// Takes the chain's decisions: all of them for the witness of this step, and those that the message's line will tell.
    pub(super) fn collect_decisions(&mut self) {
        for decision in self.chain.take_decisions() {
            if decision.withheld {
                log::record(&self.entry("withheld").with("decision", decision.to_string()));
            }
            if decision.speaks() && self.told.len() < TOLD_MAX {
                self.told.push(decision.clone());
            }
            self.decisions.push(decision);
        }
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
            .with("about", about)
            .with("reply", summary(reply));
        log::record(&entry);
    }

    /// The core refused.
    pub(super) fn report_limit(&self, hook: &str, about: &str, reply: &Reply) {
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
        let recipients: Vec<_> = envelope
            .recipients()
            .iter()
            .take(RECIPIENTS_TOLD_MAX)
            .map(|recipient| recipient.asked.to_string())
            .collect();
        let told: Vec<_> = self.told.iter().map(ToString::to_string).collect();
        let message_id = message.header().ok().and_then(|header| header.text("Message-ID"));
        let entry = self
            .entry("queued")
            .with("by", plugin)
            .with("queue_id", receipt.id.clone().unwrap_or_default())
            .with("from", envelope.reverse_path().to_string())
            .with("to", recipients.join(","))
            .with("recipients", envelope.recipients().len().to_string())
            .with("octets", message.octets().to_string())
            .with("message_id", message_id.unwrap_or_default())
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

/// Code, enhanced code and first line of a reply.
fn summary(reply: &Reply) -> String {
    let first = reply.lines.first().map_or("", String::as_str);
    match reply.enhanced {
        Some(enhanced) => format!("{} {enhanced} {first}", reply.code),
        None => format!("{} {first}", reply.code),
    }
}
