//! Refuses bounces that are none: with more than one recipient, or with a Return-Path of their own.
//!
//! ```text
//! bogus_bounce reject 1
//! bogus_bounce denysoft
//! ```
//! A bounce has no sender (`MAIL FROM:<>`) and goes to whom the message came from, one recipient (RFC 5321 §4.5.5, RFC 3834 §3.3).
//! Judged at the end of data:
//!
//! - Recipients are counted as the client named them and we took them, each address once; what aliases make of one does not
//!   count. Other than one: `554 5.7.1 this bounce message does not have 1 recipient`.
//! - A `Return-Path` field that is not `<>` says that somebody did send it: `554 5.7.1 a bounce return path must be empty (RFC 3834)`.
//!
//! - `reject` (0, 1 or naughty; 0): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm).
//! - A first word alone, the old form: `log` is `reject 0`, `deny` is `reject 1`, `denysoft` is `reject 1 reject_type temp`.
//!
//! In each case the client's karma goes down by 1.
//!
//! Not asked: about clients that may relay or are whitelisted, nor if all recipients are.
//!
//! Errors: a header that cannot be read.
//!
//! Old name: `check_bogus_bounce`.
//!
//! Differs from qpsmtpd, which counts one recipient whatever there are, so that nothing is found, and where `deny` and `denysoft` refuse
//! nothing.

use std::collections::HashSet;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Content, Entry, Hook, Plugin, Reject, RejectType, Ruling, Trouble};
use crate::mail::header::unfolded;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_bogus_bounce"],
    spares_immune: true,
    ..Entry::plugin("bogus_bounce", &[Hook::DataPost], crate::manual!("bogus_bounce.rs"), build)
};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reject: Reject::Tolerate, reject_type: RejectType::Perm }
    }
}

fn build(mut given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    match given.take_odd().as_deref() {
        None => {}
        Some("log") => given.set("reject", "0"),
        Some("deny") => given.set("reject", "1"),
        Some("denysoft") => {
            given.set("reject", "1");
            given.set("reject_type", "temp");
        }
        Some(word) => return Err(given.error(format!("{word:?} is not one of log, deny, denysoft"))),
    }
    Ok(Box::new(BogusBounce(given.read()?)))
}

struct BogusBounce(Settings);

impl BogusBounce {
    fn refuse(&self, text: &str, evidence: String) -> Answer {
        let ruling = self.0.reject.rule(self.0.reject_type.denial(text).code(7, 1));
        Ok(ruling.change(Change::AdjustKarma(-1)).because(evidence))
    }
}

impl Plugin for BogusBounce {
    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        if at.envelope.reverse_path().mailbox().is_some() {
            return Ok(Ruling::decline());
        }
        let named: HashSet<String> =
            at.envelope.recipients().iter().map(|recipient| recipient.asked.address().to_lowercase()).collect();
        if named.len() != 1 {
            let evidence = format!("a null sender and {} recipients", named.len());
            return self.refuse("this bounce message does not have 1 recipient", evidence);
        }
        let header = at.message.header().map_err(|error| Trouble::new(error.to_string()))?;
        let mut paths = header.get("Return-Path").map(|value| unfolded(value).trim().to_owned());
        match paths.find(|path| path != "<>") {
            Some(path) => self.refuse("a bounce return path must be empty (RFC 3834)", format!("Return-Path: {path}")),
            None => Ok(Ruling::decline()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Severity, Then, Verdict};
    use crate::mail::{Envelope, Message, Recipient, Spool, SpoolPlace, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};

    fn rule(line: &str, sender: &str, recipients: &[&str], content: &str) -> Ruling {
        let (world, _dir) = fixture::world(&[]);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut transaction = Transaction::new(ReversePath::parse(sender).unwrap(), Default::default());
        let recipient = |text: &&str| Recipient::new(ForwardPath::parse(text).unwrap(), Default::default());
        transaction.recipients = recipients.iter().map(recipient).collect();
        // An alias that leads to many is one recipient.
        let many = ["<y@here.example>", "<z@here.example>"].map(|text| ForwardPath::parse(text).unwrap());
        transaction.recipients[0].targets.extend(many);
        let envelope = Envelope::try_from(transaction).unwrap();
        let mut spool = Spool::new(SpoolPlace { threshold: 1 << 20, dir: "/nonexistent".into() });
        spool.write(content.as_bytes()).unwrap();
        let mut message = Message::new(spool, 1 << 16);
        let session = &mut fixture::session(Some("192.0.2.1"));
        plugin.data_post(&Content { session, envelope: &envelope, message: &mut message }).unwrap()
    }

    fn text(ruling: Ruling) -> String {
        match ruling.verdict {
            Verdict::Deny(denial) => denial.text,
            _ => String::new(),
        }
    }

    #[test]
    fn a_bounce_has_one_recipient_and_no_return_path() {
        const MANY: &str = "this bounce message does not have 1 recipient";
        const PATH: &str = "a bounce return path must be empty (RFC 3834)";
        let one = &["<a@here.example>"][..];
        let table = [
            ("<>", one, "\r\n", ""),
            ("<>", &["<a@here.example>", "<b@here.example>"], "\r\n", MANY),
            ("<>", &["<a@here.example>", "<A@HERE.example>"], "\r\n", ""),
            ("<>", &["<postmaster>"], "\r\n", ""),
            ("<x@far.example>", &["<a@here.example>", "<b@here.example>"], "Return-Path: <y@z>\r\n\r\n", ""),
            ("<>", one, "Return-Path: <>\r\n\r\n", ""),
            ("<>", one, "return-path:\t<> \r\n\r\n", ""),
            ("<>", one, "Return-Path: <x@far.example>\r\n\r\n", PATH),
            ("<>", one, "Return-Path: <>\r\nReturn-Path:\r\n <x@far.example>\r\n\r\n", PATH),
            ("<>", one, "Return-Path:\r\n\r\n", PATH),
        ];
        for (sender, recipients, content, expected) in table {
            let ruling = rule("bogus_bounce reject 1", sender, recipients, content);
            let karma = ruling.changes.iter().any(|change| matches!(change, Change::AdjustKarma(-1)));
            assert_eq!(karma, !expected.is_empty());
            assert_eq!(text(ruling), expected, "{sender} {recipients:?} {content:?}");
        }
    }

    #[test]
    fn the_line_says_how() {
        let fate = |line: &str| {
            let ruling = rule(line, "<>", &["<a@b>", "<c@d>"], "\r\n");
            match ruling.verdict {
                Verdict::Deny(denial) if denial.then == Then::Disconnect => "close",
                Verdict::Deny(denial) if denial.severity == Severity::Permanent => "perm",
                Verdict::Deny(_) => "temp",
                _ if ruling.changes.iter().any(|change| matches!(change, Change::MarkNaughty(_))) => "naughty",
                _ => "noted",
            }
        };
        let table = [
            ("bogus_bounce", "noted"),
            ("check_bogus_bounce", "noted"),
            ("bogus_bounce log", "noted"),
            ("check_bogus_bounce deny", "perm"),
            ("bogus_bounce denysoft", "temp"),
            ("bogus_bounce reject 1", "perm"),
            ("bogus_bounce reject 1 reject_type temp", "temp"),
            ("bogus_bounce reject 1 reject_type disconnect", "close"),
            ("bogus_bounce reject naughty", "naughty"),
        ];
        for (line, expected) in table {
            assert_eq!(fate(line), expected, "{line}");
        }
        let (world, _dir) = fixture::world(&[]);
        for line in ["bogus_bounce shout", "bogus_bounce deny reject 1", "bogus_bounce reject_type maybe"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("bogus_bounce").read::<Settings>().unwrap(), Settings::default());
    }
}
