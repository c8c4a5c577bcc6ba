//! Refuses mail from certain senders to certain recipients: a list of pairs.
//!
//! ```text
//! badmailfromto
//! ```
//! No arguments. List it before `rcpt_ok`, which ends the asking.
//!
//! File `badmailfromto`, a sender and a recipient a line, with blanks between them:
//!
//! ```text
//! pest@far.example    pat@here.example
//! @far.example        kim@here.example        every sender of a domain (not of domains below it)
//! @far.example        @quiet.example          and every recipient of one
//! <>                  list@here.example       the null sender, that of bounces
//! ```
//! Upper and lower case are the same, and so are both forms of an international domain. Further words are not looked at. The refusal
//! is at RCPT: `550 5.7.1 mail to <pat@here.example> not accepted here`.
//!
//! Not asked: about clients that may relay, and whitelisted clients, senders and recipients.
//!
//! Old name: `check_badmailfromto`.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error: the recipient is deferred.
//! `postern check` names each line.
//!
//! Differs from qpsmtpd, where only a tab may stand between the two, only the sender can be a whole domain, and a line that cannot be
//! understood is silently nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;

use serde::Deserialize;

use super::shared::{address_list, place};
use crate::config::{ConfigDir, ConfigError, Settings};
use crate::hook::{Answer, Denial, Entry, Hook, Plugin, Rcpt, Ruling};
use crate::smtp::address::Mailbox;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_badmailfromto"],
    spares_immune: true,
    ..Entry::plugin("badmailfromto", &[Hook::Rcpt], crate::manual!("badmailfromto.rs"), build).without_settings()
};

const NULL: &str = "<>";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(BadMailFromTo { world: world.clone(), pairs: None }))
}

struct BadMailFromTo {
    world: World,
    /// Read at the first RCPT.
    pairs: Option<Pairs>,
}

/// Sender and recipient -> the first line that names both: "badmailfromto line 3: ...". By hash, so a long list costs its reading and
/// nothing more; the list is the administrator's, so no secret key is needed against collisions.
type Pairs = HashMap<(Box<str>, Box<str>), Box<str>, BuildHasherDefault<DefaultHasher>>;

impl Plugin for BadMailFromTo {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let asked = &at.recipient.asked;
        let Some(recipient) = asked.mailbox() else { return Ok(Ruling::decline()) };
        let pairs = match &mut self.pairs {
            Some(pairs) => pairs,
            none => none.insert(read(&self.world.config)?),
        };
        if pairs.is_empty() {
            return Ok(Ruling::decline());
        }
        let senders = at.transaction.reverse_path.mailbox().map_or_else(|| vec![NULL.into()], keys);
        let recipients = keys(recipient);
        let all = senders.iter().flat_map(|from| recipients.iter().map(|to| (from.clone(), to.clone())));
        let Some(line) = all.into_iter().find_map(|pair| pairs.get(&pair)) else { return Ok(Ruling::decline()) };
        let denial = Denial::permanent(format!("mail to {asked} not accepted here")).code(7, 1);
        Ok(Ruling::deny(denial).because(&**line))
    }

    fn check(&mut self) -> Vec<String> {
        match read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

/// What an address may be listed as.
fn keys(mailbox: &Mailbox) -> Vec<Box<str>> {
    let (address, _) = address_list::forms(mailbox);
    vec![address.into(), format!("@{}", mailbox.domain().ascii()).into()]
}

/// Reads the list. The error holds every fault.
fn read(config: &ConfigDir) -> Result<Pairs, ConfigError> {
    let (mut pairs, mut faults) = (Pairs::default(), Vec::new());
    config.each("badmailfromto", &mut |text, file, line| {
        match pair(text) {
            Ok(pair) => {
                pairs.entry(pair).or_insert_with(|| format!("{}: {text}", place(file, line)).into());
            }
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(pairs), Err)
}

fn pair(text: &str) -> Result<(Box<str>, Box<str>), String> {
    let mut words = text.split_ascii_whitespace();
    let (Some(from), Some(to)) = (words.next(), words.next()) else {
        return Err(format!("{text:?} stands alone: write a sender and a recipient"));
    };
    let name = |word: &str| address_list::name(word).ok_or_else(|| format!("{word:?} is no address and no @domain"));
    let from = if from == NULL { NULL.into() } else { name(from)? };
    Ok((from, name(to)?))
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    fn rule(list: &str, sender: &str, recipient: &str) -> Answer {
        let (world, _dir) = fixture::world(&[("badmailfromto", list)]);
        let mut plugin = fixture::build(&ENTRY, "check_badmailfromto", &world).unwrap();
        let transaction = Transaction::new(ReversePath::parse(sender).unwrap(), MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let session = &mut fixture::session(None);
        plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient })
    }

    #[test]
    fn one_line_against_one_pair() {
        let table = [
            // qpsmtpd's table, with the tab that it wants, and case.
            ("matt@test.net\tuser@here.example", "<matt@test.net>", "<user@here.example>", true),
            ("matt@test.net\tuser@here.example", "<matt@test.com>", "<user@here.example>", false),
            ("matt@test.net\tuser@here.example", "<matt@test.net>", "<other@here.example>", false),
            ("@test.net\tuser@here.example", "<matt@test.net>", "<user@here.example>", true),
            ("@test.not\tuser@here.example", "<matt@test.net>", "<user@here.example>", false),
            ("MATT@Test.NET\tUser@HERE.example", "<maTT@test.net>", "<user@here.EXAMPLE>", true),
            ("matt@test.net    user@here.example  why", "<matt@test.net>", "<user@here.example>", true),
            ("@test.net user@here.example", "<matt@sub.test.net>", "<user@here.example>", false),
            ("@test.net @here.example", "<matt@test.net>", "<user@here.example>", true),
            ("matt@test.net @here.example", "<matt@test.net>", "<user@a.here.example>", false),
            ("<> user@here.example", "<>", "<user@here.example>", true),
            ("<> user@here.example", "<a@b.example>", "<user@here.example>", false),
            ("@test.net user@here.example", "<>", "<user@here.example>", false),
            ("@bücher.example @xn--bcher-kva.example", "<a@xn--bcher-kva.example>", "<b@Bücher.example>", true),
            ("a+b@test.net user@here.example", "<a+b@test.net>", "<user@here.example>", true),
            ("@test.net postmaster@mx.example", "<a@test.net>", "<postmaster>", false),
        ];
        for (list, sender, recipient, refused) in table {
            let ruling = rule(list, sender, recipient).unwrap();
            let text = match ruling.verdict {
                Verdict::Deny(denial) => Some(denial.text),
                _ => None,
            };
            let expected = refused.then(|| format!("mail to {recipient} not accepted here"));
            assert_eq!(text, expected, "{list}: {sender} {recipient}");
            assert_eq!(ruling.evidence, refused.then(|| format!("badmailfromto line 1: {list}")).as_slice());
        }
    }

    #[test]
    fn a_list_that_cannot_be_used_is_trouble_and_no_empty_list() {
        let list =
            "a@b.example\nfar.example x@here.example\na@b.example here.example\n\n<> <>\n@b.example x@here.example\n";
        let trouble = rule(list, "<a@b.example>", "<x@here.example>").unwrap_err();
        assert!(trouble.0.contains("badmailfromto line 1: "), "{trouble}");
        let (world, _dir) = fixture::world(&[("badmailfromto", list)]);
        let faults = fixture::build(&ENTRY, "badmailfromto", &world).unwrap().check();
        assert_eq!(faults.len(), 4, "{faults:?}");
        for (line, fault) in [1, 2, 3, 5].into_iter().zip(faults) {
            assert!(fault.contains(&format!("badmailfromto line {line}: ")), "{fault}");
        }
        let (world, _dir) = fixture::world(&[]);
        assert_eq!(fixture::build(&ENTRY, "badmailfromto", &world).unwrap().check(), [""; 0]);
        assert!(fixture::build(&ENTRY, "badmailfromto reject 1", &world).is_err());
    }
}
