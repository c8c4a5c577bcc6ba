//! Refuses senders that a list names, by address, domain or pattern.
//!
//! ```text
//! badmailfrom
//! badmailfrom reject naughty
//! ```
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty`
//!   plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm).
//!
//! Files: `badmailfrom`, then `badmailfrom_patterns`, in which every line is a pattern. A line, and the text that the
//! client sees:
//!
//! ```text
//! someone@far.example            an address
//! @far.example  Go away          every address of a domain (not of domains below it), and a reason
//! ^list-.*@.*\.far\.example$     a pattern, if there is one of / ^ $ * + ! % ? \ in it
//! ```
//! Upper and lower case are the same everywhere, and so are both forms of an international domain. A pattern matches
//! anywhere in the address unless it is anchored; one that is also an address (`user+tag@far.example`) matches that
//! address too. The first line that matches counts. Without a reason: `550 5.7.1 Your envelope sender is in my
//! badmailfrom list`.
//!
//! Not asked: about clients that may relay or are whitelisted. The null reverse-path `<>` is in no list.
//!
//! Old names: `check_badmailfrom`, `check_badmailfrom_patterns`. (The first refused at RCPT; now it is at MAIL.)
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error: the sender is
//! deferred. Patterns are regular expressions without Perl's look-around, back-references and `\p`; `postern check`
//! names each line that cannot be used.
//!
//! Differs from qpsmtpd, where a pattern with a capital letter never matches, an address with `+` in it is not found,
//! and a line without `@` is silently nothing.

use serde::Deserialize;

use super::shared::address_list::{AddressList, Lines};
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Entry, Hook, Mail, Plugin, Reject, RejectType, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_badmailfrom", "check_badmailfrom_patterns"],
    spares_immune: true,
    ..Entry::plugin("badmailfrom", &[Hook::Mail], crate::manual!("badmailfrom.rs"), build)
};

const FILES: &[(&str, Lines)] = &[("badmailfrom", Lines::Mixed), ("badmailfrom_patterns", Lines::Patterns)];

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(BadMailFrom { settings: given.read()?, world: world.clone(), list: None }))
}

struct BadMailFrom {
    settings: Settings,
    world: World,
    /// Read at the first MAIL.
    list: Option<AddressList>,
}

impl Plugin for BadMailFrom {
    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        let Some(mailbox) = at.reverse_path.mailbox() else { return Ok(Ruling::decline()) };
        let list = match &mut self.list {
            Some(list) => list,
            none => none.insert(AddressList::read(&self.world.config, FILES)?),
        };
        let Some(line) = list.find(mailbox) else { return Ok(Ruling::decline()) };
        let text = line.reason.as_deref().unwrap_or("Your envelope sender is in my badmailfrom list");
        let ruling = self.settings.reject.rule(self.settings.reject_type.denial(text).code(7, 1));
        Ok(ruling.change(Change::AdjustKarma(-1)).because(line.evidence()))
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
    use crate::hook::{Then, Verdict};
    use crate::smtp::address::ReversePath;
    use crate::smtp::parameters::MailParameters;

    /// The ruling on one sender by this line of the chain and this list.
    fn rule(line: &str, list: &str, sender: &str) -> Answer {
        let (world, _dir) = fixture::world(&[("badmailfrom", list), ("badmailfrom_patterns", "^bulk")]);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let (path, parameters) = (ReversePath::parse(sender).unwrap(), MailParameters::default());
        plugin.mail(&Mail { session: &mut fixture::session(None), reverse_path: &path, parameters: &parameters })
    }

    #[test]
    fn a_listed_sender_is_refused_with_its_reason() {
        let list = "@far.example Go away, please\nbad@near.example\n";
        let table = [
            ("<>", None),
            ("<good@near.example>", None),
            ("<x@far.example>", Some("Go away, please")),
            ("<bad@near.example>", Some("Your envelope sender is in my badmailfrom list")),
            ("<bulk@near.example>", Some("Your envelope sender is in my badmailfrom list")),
        ];
        for (sender, text) in table {
            let denied = match rule("badmailfrom", list, sender).unwrap().verdict {
                Verdict::Deny(denial) => Some(denial.text),
                _ => None,
            };
            assert_eq!(denied.as_deref(), text, "{sender}");
        }
    }

    #[test]
    fn the_settings_say_what_a_match_leads_to() {
        let ruling = rule("badmailfrom reject naughty", "@far.example x", "<a@far.example>").unwrap();
        assert!(matches!(ruling.verdict, Verdict::Decline));
        assert!(
            matches!(&ruling.changes[..], [Change::MarkNaughty(denial), Change::AdjustKarma(-1)] if denial.text == "x")
        );
        let ruling = rule("badmailfrom reject 0", "@far.example", "<a@far.example>").unwrap();
        assert!(matches!(ruling.verdict, Verdict::Decline));
        assert!(ruling.evidence.iter().any(|evidence| evidence == "badmailfrom line 1: @far.example"), "{ruling:?}");
        let ruling = rule("check_badmailfrom reject_type disconnect", "@far.example", "<a@far.example>").unwrap();
        assert!(matches!(ruling.verdict, Verdict::Deny(denial) if denial.then == Then::Disconnect));
    }

    #[test]
    fn a_list_that_cannot_be_used_is_trouble_and_no_empty_list() {
        let trouble = rule("badmailfrom", "@far.example\n^(?=a)\n", "<a@far.example>").unwrap_err();
        assert!(trouble.0.contains("badmailfrom line 2"), "{trouble}");
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("badmailfrom").read::<Settings>().unwrap(), Settings::default());
    }
}
