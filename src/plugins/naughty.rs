//! Refuses clients that other plugins found bad and left to it (`reject naughty`).
//!
//! ```text
//! naughty
//! naughty reject data
//! ```
//! - `reject` (connect, helo, mail, rcpt, data or data_post; rcpt): from where on such a client is refused. The later, the more
//!   the record tells about what it wanted. A client that is found bad only after that is refused at the next of them.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect): how. Not set: as the plugin that found the client bad would have
//!   refused it, and the connection is closed.
//!
//! The client gets the text of the plugin that found it bad; the record shows both.
//!
//! List it after the plugins that say `reject naughty`; a plugin listed later is heard at the next hook. Relaying and
//! whitelisted clients are spared. So are messages to the postmaster of a domain of ours, or to `abuse`, with no other recipient, where
//! `reject` is data or data_post (RFC 5321 §4.5.1, RFC 2142); at rcpt the postmaster is let through in any case.
//!
//! Differs from qpsmtpd, where an unknown word at `reject` switches the refusal off, whitelisted clients are refused, and one
//! recipient `postmaster` makes any client good again.

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{
    Answer, Connect, Content, Data, Denial, Entry, Hello, Hook, Mail, Plugin, Rcpt, RejectType, Ruling, Session,
};
use crate::mail::Recipient;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    spares_immune: true,
    ..Entry::plugin(
        "naughty",
        &[Hook::Connect, Hook::Helo, Hook::Ehlo, Hook::Mail, Hook::Rcpt, Hook::Data, Hook::DataPost],
        crate::manual!("naughty.rs"),
        build,
    )
};

/// Local-parts whose mail a content refusal for the client's sake does not stop.
const SPARED: [&str; 2] = ["postmaster", "abuse"];

/// From where on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum From {
    Connect,
    #[serde(alias = "ehlo")]
    Helo,
    Mail,
    #[default]
    Rcpt,
    Data,
    DataPost,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// From where on such a client is refused.
    reject: From,
    /// How; `None`: as the plugin would that found it bad, and the connection is closed.
    reject_type: Option<RejectType>,
}

fn build(given: Given, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Naughty(given.read()?)))
}

struct Naughty(Settings);

impl Naughty {
    fn rule(&self, at: From, session: &Session) -> Answer {
        let Some(naughty) = session.naughty.as_ref().filter(|_| at >= self.0.reject) else {
            return Ok(Ruling::decline());
        };
        let denial = match self.0.reject_type {
            Some(kind) => Denial { enhanced: naughty.denial.enhanced, ..kind.denial(naughty.denial.text.clone()) },
            None => naughty.denial.clone().disconnect(),
        };
        Ok(Ruling::deny(denial).because(format!("found naughty by {}", naughty.by)))
    }

    fn rule_on_message(&self, at: From, session: &Session, recipients: &[Recipient]) -> Answer {
        let spared = |recipient: &Recipient| {
            let local_part = recipient.asked.mailbox().map_or("postmaster", |mailbox| mailbox.local_part());
            SPARED.iter().any(|spared| local_part.eq_ignore_ascii_case(spared))
        };
        if session.naughty.is_some() && recipients.iter().all(spared) {
            return Ok(Ruling::skip("for the postmaster or abuse alone"));
        }
        self.rule(at, session)
    }
}

impl Plugin for Naughty {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        self.rule(From::Connect, at.session)
    }

    fn helo(&mut self, at: &Hello<'_>) -> Answer {
        self.rule(From::Helo, at.session)
    }

    fn ehlo(&mut self, at: &Hello<'_>) -> Answer {
        self.rule(From::Helo, at.session)
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        self.rule(From::Mail, at.session)
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        self.rule(From::Rcpt, at.session)
    }

    fn data(&mut self, at: &Data<'_>) -> Answer {
        self.rule_on_message(From::Data, at.session, &at.transaction.recipients)
    }

    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        self.rule_on_message(From::DataPost, at.session, at.envelope.recipients())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Naughty as Found, Severity, Then, Verdict};
    use crate::mail::Transaction;
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    fn session(denial: Denial) -> Session {
        let mut session = fixture::session(Some("192.0.2.9"));
        session.naughty = Some(Found { denial, by: "dnsbl".into() });
        session
    }

    fn verdict(answer: Answer) -> Option<Denial> {
        match answer.unwrap().verdict {
            Verdict::Deny(denial) => Some(denial),
            _ => None,
        }
    }

    #[test]
    fn from_its_hook_on_and_not_before() {
        let (world, _dir) = fixture::world(&[]);
        let steps = ["connect", "helo", "mail", "rcpt", "data", "data_post"];
        let order = [From::Connect, From::Helo, From::Mail, From::Rcpt, From::Data, From::DataPost];
        let bad = session(Denial::permanent("listed").code(7, 1));
        for (from, word) in steps.iter().enumerate() {
            for (at, step) in order.into_iter().enumerate() {
                let line = format!("naughty reject {word}");
                let plugin = Naughty(fixture::settings(&line).read().unwrap());
                assert_eq!(verdict(plugin.rule(step, &bad)).is_some(), at >= from, "{word} at {step:?}");
                assert!(verdict(plugin.rule(step, &fixture::session(None))).is_none());
            }
        }
        assert!(fixture::build(&ENTRY, "naughty reject hook_queue_post", &world).is_err());
    }

    #[test]
    fn as_the_other_plugin_would_unless_told_otherwise() {
        let rule = |line: &str, denial: Denial| {
            verdict(Naughty(fixture::settings(line).read().unwrap()).rule(From::Rcpt, &session(denial))).unwrap()
        };
        let soft = Denial::transient("later").code(7, 7);
        let found = rule("naughty", soft.clone());
        assert_eq!((found.severity, found.then, found.enhanced), (Severity::Transient, Then::Disconnect, Some((7, 7))));
        let found = rule("naughty reject_type perm", soft);
        assert_eq!((found.severity, found.then, found.enhanced), (Severity::Permanent, Then::Continue, Some((7, 7))));
        assert_eq!(found.text, "later");
    }

    #[test]
    fn mail_to_the_postmaster_alone_is_let_through() {
        let table = [
            (&["<postmaster>"][..], false),
            (&["<Abuse@here.example>"], false),
            (&["<abuse@x.example>", "<a@x.example>"], true),
        ];
        for (recipients, refused) in table {
            let mut transaction = Transaction::new(ReversePath::Null, MailParameters::default());
            let recipient = |text: &&str| Recipient::new(ForwardPath::parse(text).unwrap(), RcptParameters::default());
            transaction.recipients = recipients.iter().map(recipient).collect();
            let plugin = Naughty(Settings { reject: From::Data, reject_type: None });
            let bad = session(Denial::permanent("listed"));
            let answer = plugin.rule_on_message(From::Data, &bad, &transaction.recipients);
            assert_eq!(verdict(answer).is_some(), refused, "{recipients:?}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        let shipped = fixture::shipped("naughty").read::<Settings>().unwrap();
        assert_eq!(shipped, Settings { reject_type: Some(RejectType::Disconnect), ..Settings::default() });
    }
}
