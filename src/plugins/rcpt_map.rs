//! Says which recipients of one domain exist: by a list of its addresses, and a word for all others.
//!
//! ```text
//! rcpt_map domain here.example file map.here
//! rcpt_map:1 domain there.example file map.there default DENY=There_is_no_such_user.
//! ```
//! - `domain` (a domain; no default, it must be given): about others it has no opinion. `rcpt_map:1`, `rcpt_map:2`, ... are for
//!   further domains, each with its own list.
//! - `file` (a path, relative ones from the configuration directory; no default, it must be given): the list.
//! - `default` (CODE or CODE=TEXT; DENY=No_such_user.): what becomes of recipients of the domain that are not in the list. `_` in the
//!   text stands for a blank.
//!
//! The list: an address, what becomes of it, and the text that the client gets:
//!
//! ```text
//! pat@here.example        OK
//! info@here.example       DENY      Nobody reads that
//! shop@here.example       DENYSOFT  The shop is shut, come back tomorrow
//! lists@here.example      DECLINED
//! ```
//! - OK: the recipient is accepted, and no rcpt plugin listed after this one is asked: list those that may yet refuse it, such as
//!   `badrcptto`, before.
//! - DECLINED: no opinion; the plugins listed after it rule.
//! - DENY, DENYSOFT: `550 5.1.1`, `450 4.1.1`. DENY_DISCONNECT (or DENYHARD) and DENYSOFT_DISCONNECT close the connection as well.
//!   Without a text: `mail to <a@b> not accepted here`.
//!
//! Upper and lower case are the same, and so are both forms of an international domain. If an address stands twice, the last line
//! counts. Addresses of other domains may stand there too, for another instance.
//!
//! Asked about everybody, relaying and whitelisted clients too; the postmaster of a domain of ours is taken in any case.
//!
//! Errors: a list that is not there or cannot be read, and a line that cannot be understood, are this plugin's error: recipients of
//! the domain are deferred. `postern check` names each line. The list is read at the first recipient of the domain, at the cost of its
//! length: tens of thousands of addresses are better in `aliases`, of which `postern compile` makes a map.
//!
//! Differs from qpsmtpd, where all instances share one list, and a line with two blanks or a tab in it is misread.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;

use serde::Deserialize;

use super::shared::code::{self, Code};
use super::shared::{address_list, place};
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Entry, Hook, Plugin, Rcpt, Ruling};
use crate::smtp::address::Domain;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry { vouches: true, ..Entry::plugin("rcpt_map", &[Hook::Rcpt], crate::manual!("rcpt_map.rs"), build) };

const DEFAULT: &str = "DENY=No_such_user.";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    domain: String,
    file: String,
    #[serde(default = "shipped_default")]
    default: String,
}

fn shipped_default() -> String {
    DEFAULT.to_owned()
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let (origin, name) = (given.origin().clone(), given.plugin().to_owned());
    let settings: Settings = given.read()?;
    let wrong = |key: &str, fault: String| ConfigError::new(fault).or_at(&origin).of_plugin(&name).of_key(key);
    let domain = Domain::parse(&settings.domain);
    let domain = domain.map_err(|error| wrong("domain", format!("{:?}: {error}", settings.domain)))?;
    let (code, text) = settings.default.split_once('=').unwrap_or((&settings.default, ""));
    let default = Value {
        code: Code::parse(code).map_err(|fault| wrong("default", fault))?,
        text: text.replace('_', " ").into(),
        line: 0,
    };
    // Whether it is a path at all.
    world.config.resolve(&settings.file).map_err(|error| error.or_at(&origin).of_plugin(&name).of_key("file"))?;
    Ok(Box::new(RcptMap {
        domain: domain.ascii().to_owned(),
        file: settings.file,
        default,
        world: world.clone(),
        map: None,
    }))
}

struct RcptMap {
    /// In A-labels.
    domain: String,
    file: String,
    default: Value,
    world: World,
    /// Read at the first recipient of the domain.
    map: Option<Addresses>,
}

/// What becomes of an address.
struct Value {
    code: Code,
    text: Box<str>,
    line: usize,
}

/// Address -> what becomes of it. The list is the administrator's, so no secret key is needed against collisions.
type Addresses = HashMap<Box<str>, Value, BuildHasherDefault<DefaultHasher>>;

impl Plugin for RcptMap {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let asked = &at.recipient.asked;
        let Some(mailbox) = asked.mailbox().filter(|mailbox| mailbox.domain().ascii() == self.domain) else {
            return Ok(Ruling::decline());
        };
        let map = match &mut self.map {
            Some(map) => map,
            none => none.insert(read(&self.world.config, &self.file)?),
        };
        let (address, _) = address_list::forms(mailbox);
        let path = std::path::Path::new(&self.file);
        let (value, evidence) = match map.get(address.as_str()) {
            Some(value) => (value, format!("{}: {address}", place(path, value.line))),
            None => (&self.default, format!("{} has no {address}", self.file)),
        };
        let text = match &*value.text {
            "" => format!("mail to {asked} not accepted here"),
            text => text.to_owned(),
        };
        let ruling = match (value.code.denial(text), value.code) {
            (Some(denial), _) => Ruling::deny(denial.code(1, 1)),
            (None, Code::Accept) => Ruling::accept(),
            (None, _) => Ruling::decline(),
        };
        Ok(ruling.because(evidence))
    }

    fn check(&mut self) -> Vec<String> {
        match read(&self.world.config, &self.file) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads a list. The error holds every fault.
fn read(config: &ConfigDir, name: &str) -> Result<Addresses, ConfigError> {
    let (mut map, mut faults) = (Addresses::default(), Vec::new());
    let found = config.each(name, &mut |text, file, line| {
        match parse(text) {
            Ok((address, code, text)) => {
                map.insert(address, Value { code, text: text.into(), line });
            }
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    if !found {
        let fault = "there is no such file, and it says which recipients exist";
        return Err(ConfigError::at(&config.path().join(name), 0, fault));
    }
    ConfigError::from_many(faults).map_or(Ok(map), Err)
}

fn parse(text: &str) -> Result<(Box<str>, Code, &str), String> {
    let (word, code, text) = code::line(text)?;
    let address = address_list::name(word).filter(|address| !address.starts_with('@'));
    Ok((address.ok_or_else(|| format!("{word:?} is no address"))?, code, text))
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Trouble, Verdict};
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    const LINE: &str = "rcpt_map domain Here.example file map";

    /// The verdict in words, the text of a denial, and the evidence.
    fn rule(line: &str, files: &[(&str, &str)], recipient: &str) -> Result<String, Trouble> {
        let (world, _dir) = fixture::world(files);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let session = &mut fixture::session(None);
        let ruling = plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient })?;
        let word = match ruling.verdict {
            Verdict::Decline => String::from("decline"),
            Verdict::Accept => String::from("accept"),
            Verdict::Deny(denial) => format!("{:?} {:?} {}", denial.severity, denial.then, denial.text),
            other => panic!("{other:?}"),
        };
        Ok(format!("{word} [{}]", ruling.evidence.join("; ")))
    }

    #[test]
    fn the_list_says_what_becomes_of_an_address() {
        let map = "me@here.example OK\nYou@HERE.example  OK  fine\ninfo@here.example DENY User  not found\n\
                   shop@here.example\tDENYSOFT\nlists@here.example DECLINED\nx@far.example OK\n\
                   info@here.example DENYHARD moved\n";
        let table = [
            ("<postmaster>", "decline []"),
            ("<Me@HERE.example>", "accept [map line 1: me@here.example]"),
            ("<you@here.example>", "accept [map line 2: you@here.example]"),
            ("<info@here.example>", "Permanent Disconnect moved [map line 7: info@here.example]"),
            (
                "<shop@here.example>",
                "Transient Continue mail to <shop@here.example> not accepted here [map line 4: shop@here.example]",
            ),
            ("<lists@here.example>", "decline [map line 5: lists@here.example]"),
            ("<nobody@here.example>", "Permanent Continue No such user. [map has no nobody@here.example]"),
            ("<\"me \"@here.example>", "Permanent Continue No such user. [map has no me @here.example]"),
            // Other domains are none of its business, whatever the list says.
            ("<x@far.example>", "decline []"),
            ("<me@sub.here.example>", "decline []"),
        ];
        for (recipient, expected) in table {
            assert_eq!(rule(LINE, &[("map", map)], recipient).unwrap(), expected, "{recipient}");
        }
    }

    #[test]
    fn the_default_is_a_code_and_perhaps_a_text() {
        let table = [
            ("DENY=Not_here._Sorry=no", "Permanent Continue Not here. Sorry=no"),
            ("denysoft", "Transient Continue mail to <a@here.example> not accepted here"),
            ("DECLINED", "decline"),
            ("OK", "accept"),
        ];
        for (default, expected) in table {
            let line = format!("rcpt_map:2 domain here.example file map default {default}");
            let found = rule(&line, &[("map", "")], "<a@here.example>").unwrap();
            assert_eq!(found, format!("{expected} [map has no a@here.example]"));
        }
    }

    #[test]
    fn each_form_of_an_international_domain_is_the_same() {
        for (domain, listed) in
            [("bücher.example", "a@xn--bcher-kva.example"), ("XN--bcher-kva.example", "A@Bücher.example")]
        {
            let (line, map) = (format!("rcpt_map domain {domain} file map"), format!("{listed} OK\n"));
            for asked in ["<a@bücher.EXAMPLE>", "<a@xn--bcher-kva.example>"] {
                let found = rule(&line, &[("map", &map)], asked).unwrap();
                assert_eq!(found, "accept [map line 1: a@xn--bcher-kva.example]");
            }
        }
    }

    #[test]
    fn settings_that_do_not_fit_and_lists_that_cannot_be_used() {
        let (world, _dir) = fixture::world(&[]);
        let wrong = [
            ("rcpt_map", "domain"),
            ("rcpt_map domain here.example", "file"),
            ("rcpt_map domain a..b file map", "domain"),
            ("rcpt_map domain here.example file ~/map", "file"),
            ("rcpt_map domain here.example file map default NO", "default"),
        ];
        for (line, key) in wrong {
            let error = fixture::build(&ENTRY, line, &world).err().expect(line).to_string();
            assert!(error.contains("config/plugins line 1") && error.contains(key), "{line}: {error}");
        }
        let trouble = rule(LINE, &[], "<a@here.example>").unwrap_err();
        assert!(trouble.0.contains("there is no such file"), "{trouble}");
        assert_eq!(rule(LINE, &[], "<a@far.example>").unwrap(), "decline []");
        let map = "@here.example OK\na@here.example\npostmaster OK\na@here.example MAYBE x\n";
        let trouble = rule(LINE, &[("map", map)], "<a@here.example>").unwrap_err();
        assert!(trouble.0.contains("map line 1: "), "{trouble}");
        let (world, _dir) = fixture::world(&[("lists/map", map)]);
        let line = "rcpt_map domain here.example file lists/map";
        let faults = fixture::build(&ENTRY, line, &world).unwrap().check();
        assert_eq!(faults.len(), 4, "{faults:?}");
        for (line, fault) in (1..).zip(faults) {
            assert!(fault.contains(&format!("map line {line}: ")), "{fault}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("rcpt_map").read::<Settings>().unwrap().default, DEFAULT);
    }
}
