//! MAIL and RCPT: the envelope comes together. Decide first, change the transaction after.

use super::replies;
use super::state::{State, go};
use super::{Session, Step};
use crate::hook::{Chain, Hook, Mail, Outcome, Rcpt};
use crate::mail::{Recipient, Transaction};
use crate::smtp::address::{Domain, ForwardPath, Mailbox};
use crate::smtp::command::SyntaxError;
use crate::smtp::parameters::{self, MailArgument, RcptArgument};

impl Session<'_> {
    pub(super) fn mail(&mut self, mut text: String) -> Step {
        if let Some(refused) = self.correct(Hook::MailParse, Chain::mail_parse, &mut text) {
            return self.denied(&refused, &text, State::Greeted);
        }
        if let Some(refused) = self.correct_path(Hook::MailPre, Chain::mail_pre, &mut text) {
            return self.denied(&refused, &text, State::Greeted);
        }
        let MailArgument { reverse_path, parameters } = match parameters::mail_argument(&text) {
            Ok(argument) => argument,
            Err(error) => return go(error, State::Greeted),
        };
        if let Err(error) = self.offer().admits_mail(&parameters) {
            return go(error, State::Greeted);
        }
        if !parameters.smtputf8 && reverse_path.needs_smtputf8() {
            return go(SyntaxError::smtputf8_needed(), State::Greeted);
        }
        if let (Some(size), Some(size_max)) = (parameters.size, self.size_max)
            && size > size_max
        {
            let reply = replies::too_big(size_max, &self.facts.id);
            self.report_limit("mail", &reverse_path.to_string(), &reply);
            return go(reply, State::Greeted);
        }
        let mut at = Mail { session: &mut self.facts, reverse_path: &reverse_path, parameters: &parameters };
        match self.chain.mail(&mut at) {
            Outcome::Denied(refused) => {
                let step = self.denied(&refused, &reverse_path.to_string(), State::Greeted);
                self.facts.clear_transaction();
                step
            }
            Outcome::Undecided | Outcome::Accepted | Outcome::Answered(_) | Outcome::Queued(..) => {
                self.facts.transactions += 1;
                go(replies::sender_ok(), State::Mail(Transaction::new(reverse_path, parameters)))
            }
        }
    }

    pub(super) fn rcpt(&mut self, mut open: Transaction, mut text: String) -> Step {
        if open.recipients.len() >= self.core.recipients_max {
            open.refused += 1;
            return go(replies::too_many_recipients(), State::Mail(open));
        }
        if let Some(refused) = self.correct(Hook::RcptParse, Chain::rcpt_parse, &mut text) {
            open.refused += 1;
            return self.denied(&refused, &text, State::Mail(open));
        }
        if let Some(refused) = self.correct_path(Hook::RcptPre, Chain::rcpt_pre, &mut text) {
            open.refused += 1;
            return self.denied(&refused, &text, State::Mail(open));
        }
        let RcptArgument { forward_path, parameters } = match parameters::rcpt_argument(&text) {
            Ok(argument) => argument,
            Err(error) => {
                open.refused += 1;
                return go(error, State::Mail(open));
            }
        };
        if let Err(error) = self.offer().admits_rcpt(&parameters) {
            open.refused += 1;
            return go(error, State::Mail(open));
        }
        if !open.parameters.smtputf8 && forward_path.needs_smtputf8() {
            open.refused += 1;
            return go(SyntaxError::smtputf8_needed(), State::Mail(open));
        }
        self.judge_recipient(open, Recipient::new(forward_path, parameters))
    }

    fn judge_recipient(&mut self, mut open: Transaction, mut recipient: Recipient) -> Step {
        let postmaster = self.is_own_postmaster(&recipient.asked);
        // A backend wants a domain: the bare postmaster is ours.
        if let ForwardPath::Postmaster(_) = &recipient.asked
            && let Some(ours) = self.own_postmaster()
        {
            recipient.targets = vec![ours];
        }
        let about = recipient.asked.to_string();
        let mut at = Rcpt { session: &mut self.facts, transaction: &open, recipient: &mut recipient };
        match self.chain.rcpt(&mut at) {
            // RFC 5321 §4.5.1: mail to the postmaster of a domain of ours is always taken.
            Outcome::Denied(_) | Outcome::Undecided if postmaster => {}
            Outcome::Accepted | Outcome::Answered(_) | Outcome::Queued(..) => {}
            Outcome::Denied(refused) => {
                open.refused += 1;
                return self.denied(&refused, &about, State::Mail(open));
            }
            Outcome::Undecided => {
                open.refused += 1;
                let reply = replies::nobody_vouched(&about, &self.facts.id);
                self.report_limit("rcpt", &about, &reply);
                return go(reply, State::Mail(open));
            }
        }
        open.recipients.push(recipient);
        go(replies::recipient_ok(), State::Mail(open))
    }

    /// Asks at mail_pre or rcpt_pre: the path's text alone, parameters cut off.
    fn correct_path(
        &mut self,
        hook: Hook,
        ask: fn(&mut Chain, &mut crate::hook::Text<'_>) -> Outcome,
        text: &mut String,
    ) -> Option<crate::hook::Refused> {
        if !self.chain.wants(hook) {
            return None;
        }
        // Without FROM: or TO: the parser will say so.
        let (path, _) = parameters::path_text(text)?;
        let start = path.as_ptr() as usize - text.as_ptr() as usize;
        let span = start..start + path.len();
        let mut corrected = path.to_owned();
        let refused = self.correct(hook, ask, &mut corrected);
        text.replace_range(span, &corrected);
        refused
    }

    /// `None`: our own name is no domain.
    fn own_postmaster(&self) -> Option<ForwardPath> {
        let mailbox = Mailbox::parse(&format!("postmaster@{}", self.facts.me)).ok()?;
        Some(ForwardPath::Mailbox(mailbox))
    }

    /// Whether this is the postmaster, bare or of a domain that is ours: `me`, or one that rcpthosts lists by name.
    fn is_own_postmaster(&self, path: &ForwardPath) -> bool {
        let mailbox = match path {
            ForwardPath::Postmaster(_) => return true,
            ForwardPath::Mailbox(mailbox) => mailbox,
        };
        if !mailbox.local_part().eq_ignore_ascii_case("postmaster") {
            return false;
        }
        let domain = mailbox.domain().ascii();
        let same = |name: &str| Domain::parse(name).is_ok_and(|name| name.ascii() == domain);
        if same(&self.facts.me) {
            return true;
        }
        // A list that cannot be read is rcpt_ok's trouble to tell; here it only makes nothing ours.
        let config = &self.world.config;
        let listed = self.own_domains.get_or_init(|| config.list("rcpthosts").unwrap_or_default());
        listed.iter().any(|entry| same(&entry.text))
    }
}
