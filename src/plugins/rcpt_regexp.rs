//! Accepts or refuses recipients by patterns and addresses: the first line that matches says which.
//!
//! ```text
//! rcpt_regexp
//! ```
//! No arguments. File `rcpt_regexp`: a pattern between slashes or an address, what becomes of it, and the text that the client gets:
//!
//! ```text
//! info@here.example              DENY      Nobody reads that
//! /^user\d+@here\.example$/      OK
//! /^sales-.*@/                   DENYSOFT  The shop is shut, come back tomorrow
//! /^.*@here\.example$/           DECLINED
//! ```
//! - OK: the recipient is accepted, and no rcpt plugin listed after this one is asked: nor `rcpt_ok`, so a pattern must end with a
//!   domain of ours (`@here\.example$`), or this is an open relay.
//! - DECLINED: no opinion; the plugins listed after it rule.
//! - DENY, DENYSOFT: `550 5.1.1`, `450 4.1.1`. DENY_DISCONNECT (or DENYHARD) and DENYSOFT_DISCONNECT close the connection as well.
//!   Without a text: `mail to <a@b> not accepted here`.
//!
//! Upper and lower case are the same, and so are both forms of an international domain. A pattern matches anywhere in the address
//! unless it is anchored, and holds no blank (write `\s`). `<postmaster>` without a domain is in no line.
//!
//! Asked about everybody, relaying and whitelisted clients too.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error: the recipient is deferred.
//! Patterns are regular expressions without Perl's look-around, back-references and `\p`; `postern check` names each line that
//! cannot be used.
//!
//! Differs from qpsmtpd, where a pattern with a capital letter never matches, and a line that cannot be understood is passed over.

use std::ops::ControlFlow;

use serde::Deserialize;

use super::shared::address_list::{self, Pattern};
use super::shared::code::{self, Code};
use super::shared::place;
use crate::config::{ConfigDir, ConfigError, Settings};
use crate::hook::{Answer, Entry, Hook, Plugin, Rcpt, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    vouches: true,
    ..Entry::plugin("rcpt_regexp", &[Hook::Rcpt], crate::manual!("rcpt_regexp.rs"), build).without_settings()
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(RcptRegexp { world: world.clone(), lines: None }))
}

struct RcptRegexp {
    world: World,
    /// Read at the first RCPT.
    lines: Option<Vec<Line>>,
}

struct Line {
    test: Test,
    code: Code,
    text: Box<str>,
    /// "rcpt_regexp line 3: /^x/".
    evidence: Box<str>,
}

enum Test {
    /// In small letters, the domain in A-labels.
    Address(Box<str>),
    Pattern(Pattern),
}

impl Plugin for RcptRegexp {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let asked = &at.recipient.asked;
        let Some(mailbox) = asked.mailbox() else { return Ok(Ruling::decline()) };
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => none.insert(read(&self.world.config)?),
        };
        if lines.is_empty() {
            return Ok(Ruling::decline());
        }
        let forms = address_list::forms(mailbox);
        let matching = |line: &&Line| match &line.test {
            Test::Address(address) => **address == forms.0,
            Test::Pattern(pattern) => pattern.matches_any(&forms),
        };
        let Some(line) = lines.iter().find(matching) else { return Ok(Ruling::decline()) };
        let text = match &*line.text {
            "" => format!("mail to {asked} not accepted here"),
            text => text.to_owned(),
        };
        let ruling = match (line.code.denial(text), line.code) {
            (Some(denial), _) => Ruling::deny(denial.code(1, 1)),
            (None, Code::Accept) => Ruling::accept(),
            (None, _) => Ruling::decline(),
        };
        Ok(ruling.because(&*line.evidence))
    }

    fn check(&mut self) -> Vec<String> {
        match read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads the list. The error holds every fault.
fn read(config: &ConfigDir) -> Result<Vec<Line>, ConfigError> {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    config.each("rcpt_regexp", &mut |text, file, line| {
        match parse(text) {
            Ok((whom, test, code, text)) => {
                let evidence = format!("{}: {whom}", place(file, line)).into();
                lines.push(Line { test, code, text: text.into(), evidence });
            }
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(lines), Err)
}

fn parse(text: &str) -> Result<(&str, Test, Code, &str), String> {
    let (whom, code, text) = code::line(text)?;
    let is_pattern = whom.len() > 2 && whom.starts_with('/') && (whom.ends_with('/') || whom.ends_with("/i"));
    let test = if is_pattern {
        Test::Pattern(Pattern::parse(whom)?)
    } else {
        let address = address_list::name(whom).filter(|address| !address.starts_with('@'));
        Test::Address(address.ok_or_else(|| format!("{whom:?} is no address and no /pattern/"))?)
    };
    Ok((whom, test, code, text))
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    fn rule(list: &str, recipient: &str) -> Answer {
        let (world, _dir) = fixture::world(&[("rcpt_regexp", list)]);
        let mut plugin = fixture::build(&ENTRY, "rcpt_regexp", &world).unwrap();
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let session = &mut fixture::session(None);
        plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient })
    }

    /// The verdict in a word, the text of a denial, and the line.
    fn word(ruling: Ruling) -> (String, String) {
        let word = match ruling.verdict {
            Verdict::Decline => String::from("decline"),
            Verdict::Accept => String::from("accept"),
            Verdict::Deny(denial) => format!("{:?} {:?} {}", denial.severity, denial.then, denial.text),
            other => panic!("{other:?}"),
        };
        (word, ruling.evidence.join("; "))
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let list = "me@here.example OK Accepting mail\n/^user\\d+\\@here\\.example$/ OK\ninfo@here.example DENY User not found.\n\
                    /^unused\\@.*/ DENY_DISCONNECT\n/^Later-/i DENYSOFT  come back\n/@BÜCHER\\./ DENY we read\n\
                    me@here.example DENY never\n/a+b/ DENY two\na+b@xn--bcher-kva.here.example DENY three\n\
                    /nobody/ DENYSOFT_DISCONNECT x\n/.*/ DECLINED\n";
        let table = [
            ("<postmaster>", "decline", ""),
            ("<ME@here.example>", "accept", "rcpt_regexp line 1: me@here.example"),
            ("<user12@Here.example>", "accept", "rcpt_regexp line 2: /^user\\d+\\@here\\.example$/"),
            ("<user12@here.example.far.example>", "decline", "rcpt_regexp line 11: /.*/"),
            ("<xuser12@here.example>", "decline", "rcpt_regexp line 11: /.*/"),
            ("<info@here.example>", "Permanent Continue User not found.", "rcpt_regexp line 3: info@here.example"),
            (
                "<unused@x.example>",
                "Permanent Disconnect mail to <unused@x.example> not accepted here",
                "rcpt_regexp line 4: /^unused\\@.*/",
            ),
            ("<LATER-x@here.example>", "Transient Continue come back", "rcpt_regexp line 5: /^Later-/i"),
            ("<a@bücher.example>", "Permanent Continue we read", "rcpt_regexp line 6: /@BÜCHER\\./"),
            ("<aab@here.example>", "Permanent Continue two", "rcpt_regexp line 8: /a+b/"),
            (
                "<A+B@bücher.here.example>",
                "Permanent Continue three",
                "rcpt_regexp line 9: a+b@xn--bcher-kva.here.example",
            ),
            ("<nobody@here.example>", "Transient Disconnect x", "rcpt_regexp line 10: /nobody/"),
        ];
        for (recipient, verdict, line) in table {
            // The 6th line is for domains that begin so.
            let list =
                if recipient.contains("bücher.here") { list.replace("/@BÜCHER\\./", "/^$/") } else { list.into() };
            let found = word(rule(&list, recipient).unwrap());
            assert_eq!(found, (verdict.to_owned(), line.to_owned()), "{recipient}");
        }
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let list = "here.example DENY\n/(?=a)/ DENY\n/^a DENY\n// OK\n@here.example OK\n/a/ MAYBE\n/a/\n/a/ OK\n\
                    /(((a{100}){100}){100})/ DENY\n";
        let trouble = rule(list, "<a@here.example>").unwrap_err();
        assert!(trouble.0.contains("rcpt_regexp line 1: "), "{trouble}");
        let (world, _dir) = fixture::world(&[("rcpt_regexp", list)]);
        let faults = fixture::build(&ENTRY, "rcpt_regexp", &world).unwrap().check();
        assert_eq!(faults.len(), 8, "{faults:?}");
        for (line, fault) in [1, 2, 3, 4, 5, 6, 7, 9].into_iter().zip(faults) {
            assert!(fault.contains(&format!("rcpt_regexp line {line}: ")), "{fault}");
        }
        let (world, _dir) = fixture::world(&[]);
        assert_eq!(fixture::build(&ENTRY, "rcpt_regexp", &world).unwrap().check(), [""; 0]);
        assert!(fixture::build(&ENTRY, "rcpt_regexp reject 1", &world).is_err());
    }
}
