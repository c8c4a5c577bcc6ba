//! Refuses recipients that a list names, by address, domain or pattern: closed addresses, bang paths, the percent hack.
//!
//! ```text
//! badrcptto
//! ```
//! No arguments. List it before `rcpt_ok`, which ends the asking.
//!
//! Files: `badrcptto`, then `badrcptto_patterns`, in which every line is a pattern. A line, and the text that the
//! client sees:
//!
//! ```text
//! closed@here.example                  an address
//! @closed.example  We have moved       every address of a domain (not of domains below it), and a reason
//! !                No bang paths here  a pattern, if there is one of / ^ $ * + ! % ? \ in it
//! ```
//! Upper and lower case are the same everywhere, and so are both forms of an international domain. A pattern matches
//! anywhere in the address unless it is anchored; one that is also an address (`user+tag@here.example`) matches that
//! address too. The first line that matches counts. With a reason: `550 5.7.1` and the reason; without: `550 5.1.1 mail
//! to <a@b> not accepted here`.
//!
//! Asked about everybody: this list beats a whitelist, and holds for clients that may relay too, as in qpsmtpd 1.01.
//! Only the postmaster of a domain of ours beats it (RFC 5321 §4.5.1), wherever it is listed.
//!
//! Old names: `check_badrcptto`, `check_badrcptto_patterns`.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error: the recipient is
//! deferred. Patterns are regular expressions without Perl's look-around, back-references and `\p`; `postern check`
//! names each line that cannot be used.
//!
//! Differs from qpsmtpd, where patterns are put into small letters (`\S` becomes `\s`), an address with `+` in it is
//! not found, the reason is dropped, the refusal tells the client what the list says, and a line without `@` is
//! silently nothing.

use serde::Deserialize;

use super::shared::address_list::{AddressList, Lines};
use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Change, Denial, Entry, Hook, Plugin, Rcpt, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_badrcptto", "check_badrcptto_patterns"],
    ..Entry::plugin("badrcptto", &[Hook::Rcpt], crate::manual!("badrcptto.rs"), build).without_settings()
};

const FILES: &[(&str, Lines)] = &[("badrcptto", Lines::Mixed), ("badrcptto_patterns", Lines::Patterns)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(BadRcptTo { world: world.clone(), list: None }))
}

struct BadRcptTo {
    world: World,
    /// Read at the first RCPT.
    list: Option<AddressList>,
}

impl Plugin for BadRcptTo {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let asked = &at.recipient.asked;
        let Some(mailbox) = asked.mailbox() else { return Ok(Ruling::decline()) };
        let list = match &mut self.list {
            Some(list) => list,
            none => none.insert(AddressList::read(&self.world.config, FILES)?),
        };
        let Some(line) = list.find(mailbox) else { return Ok(Ruling::decline()) };
        let denial = match line.reason.as_deref() {
            Some(reason) => Denial::permanent(reason).code(7, 1),
            None => Denial::permanent(format!("mail to {asked} not accepted here")).code(1, 1),
        };
        Ok(Ruling::deny(denial).change(Change::AdjustKarma(-2)).because(line.evidence()))
    }

    fn notes(&self) -> Vec<String> {
        AddressList::notes(&self.world.config, FILES)
    }

    fn check(&mut self) -> Vec<String> {
        match AddressList::read(&self.world.config, FILES) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    fn rule(list: &str, patterns: &str, recipient: &str) -> Answer {
        let (world, _dir) = fixture::world(&[("badrcptto", list), ("badrcptto_patterns", patterns)]);
        let mut plugin = fixture::build(&ENTRY, "badrcptto", &world).unwrap();
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let session = &mut fixture::session(None);
        plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient })
    }

    #[test]
    fn a_listed_recipient_is_refused_with_its_reason() {
        let list = "closed@here.example\n@moved.example We have moved\n";
        let patterns =
            "!       Sorry, bang paths not accepted here\n@.*@    Sorry, multiple at signs not accepted here\n";
        let table = [
            ("<postmaster>", None),
            ("<open@here.example>", None),
            ("<Closed@HERE.example>", Some(("mail to <Closed@HERE.example> not accepted here", (1, 1)))),
            ("<x@moved.example>", Some(("We have moved", (7, 1)))),
            ("<far!x@here.example>", Some(("Sorry, bang paths not accepted here", (7, 1)))),
            ("<\"a@b\"@here.example>", Some(("Sorry, multiple at signs not accepted here", (7, 1)))),
        ];
        for (recipient, expected) in table {
            let denial = match rule(list, patterns, recipient).unwrap().verdict {
                Verdict::Deny(denial) => Some(denial),
                _ => None,
            };
            let found = denial.as_ref().map(|denial| (denial.text.as_str(), denial.enhanced.unwrap()));
            assert_eq!(found, expected, "{recipient}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_used_is_trouble_and_no_empty_list() {
        let trouble = rule("here.example\n", "", "<a@here.example>").unwrap_err();
        assert!(trouble.0.contains("badrcptto line 1"), "{trouble}");
    }
}
