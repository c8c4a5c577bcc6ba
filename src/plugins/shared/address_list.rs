//! Lists of addresses with a reason each, as `badmailfrom` and `badrcptto` write them.
//!
//! ```text
//! someone@far.example            an address
//! @far.example  Go away          every address of a domain (not of domains below it), and a reason
//! ^list-.*@.*\.far\.example$     a pattern, if there is one of / ^ $ * + ! % ? \ in it
//! ```
//! Upper and lower case are the same everywhere, and so are both forms of an international domain. The first line that
//! matches counts. Addresses are found by hash, so a long list costs its reading and nothing more; patterns are tried
//! one by one.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use regex_lite::{Regex, RegexBuilder};

use super::network::Network;
use super::place;
use crate::config::{ConfigDir, ConfigError};
use crate::smtp::address::{Domain, Mailbox};

/// Octets of a compiled pattern. `(a{1000}){1000}` must not take the memory of the host.
const PATTERN_OCTETS_MAX: usize = 1 << 20;
/// What makes a word a pattern (as in qpsmtpd).
const PATTERN_MARKS: &[char] = &['/', '^', '$', '*', '+', '!', '%', '?', '\\'];
/// What means something in a pattern. Without any it is a piece of text.
const META: &[char] = &['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// What a file's lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Lines {
    /// Addresses, domains, and patterns where a word looks like one.
    Mixed,
    /// Patterns only (the `_patterns` files of old).
    Patterns,
    /// Addresses, domains with or without an `@`, and networks for address literals (the whitelists). No patterns.
    Names,
}

/// Several files as one list.
pub(in super::super) struct AddressList {
    lines: Vec<Line>,
    /// Address or `@domain` -> its line. The lists are the administrator's, so no secret key is needed against
    /// collisions.
    names: HashMap<Box<str>, usize, BuildHasherDefault<DefaultHasher>>,
    patterns: Vec<(usize, Pattern)>,
    /// Each with its line.
    networks: Vec<(usize, Network)>,
}

/// One line of a list.
pub(in super::super) struct Line {
    text: Box<str>,
    /// What it says to the client, if it does.
    pub(in super::super) reason: Option<Box<str>>,
    file: Rc<Path>,
    line: usize,
}

impl Line {
    /// As evidence names it: "badmailfrom line 3: @far.example".
    pub(in super::super) fn evidence(&self) -> String {
        format!("{}: {}", place(&self.file, self.line), self.text)
    }
}

/// One pattern.
pub(in super::super) enum Pattern {
    /// Occurs somewhere; in small letters.
    Text(Box<str>),
    Regex(Regex),
}

impl Pattern {
    /// Reads `/pattern/`, with or without its slashes.
    pub(in super::super) fn parse(word: &str) -> Result<Self, String> {
        // rcpt_regexp and others write /.../, and people do so everywhere. In qpsmtpd such a line never matches.
        let inside = word.strip_prefix('/').and_then(|rest| rest.strip_suffix("/i").or(rest.strip_suffix('/')));
        let pattern = inside.filter(|inside| !inside.is_empty()).unwrap_or(word);
        if !pattern.contains(META) {
            return Ok(Self::Text(pattern.to_lowercase().into()));
        }
        // regex-lite knows the case of ASCII letters only. The others mean nothing in a pattern, so small ones can stand for them.
        let small =
            |letter: char| if letter.is_ascii() { String::from(letter) } else { letter.to_lowercase().to_string() };
        let folded: String = pattern.chars().map(small).collect();
        // Linear in the text's length, whatever the pattern: no client can make a match slow.
        let built = RegexBuilder::new(&folded).case_insensitive(true).size_limit(PATTERN_OCTETS_MAX).build();
        built.map(Self::Regex).map_err(|error| format!("{word:?} is not a pattern that can be used here: {error}"))
    }

    /// Whether it is found in an address. `forms`: see [`forms`].
    pub(in super::super) fn matches_any(&self, (ascii, written): &(String, Option<String>)) -> bool {
        self.matches(ascii) || written.as_ref().is_some_and(|written| self.matches(written))
    }

    /// `text` is in small letters.
    pub(in super::super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Text(piece) => text.contains(&**piece),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl AddressList {
    /// For `check`: what long lists cost.
    pub(in super::super) fn notes(config: &ConfigDir, files: &[(&str, Lines)]) -> Vec<String> {
        let note = |(name, _): &(&str, Lines)| {
            let lines = super::long(config, name)?;
            Some(format!(
                "{name} has {lines} lines, which every connection that comes so far reads anew and holds in memory; there is no map for it"
            ))
        };
        files.iter().filter_map(note).collect()
    }

    /// Reads the files. The error holds every fault.
    pub(in super::super) fn read(config: &ConfigDir, files: &[(&str, Lines)]) -> Result<Self, ConfigError> {
        let mut list =
            Self { lines: Vec::new(), names: HashMap::default(), patterns: Vec::new(), networks: Vec::new() };
        let mut faults = Vec::new();
        for (name, kind) in files {
            config.each(name, &mut |text, file, line| {
                if let Err(fault) = list.add(text, file, line, *kind) {
                    faults.push(ConfigError::at(file, line, fault));
                }
                ControlFlow::Continue(())
            })?;
        }
        ConfigError::from_many(faults).map_or(Ok(list), Err)
    }

    fn add(&mut self, text: &str, file: &Rc<Path>, line: usize, kind: Lines) -> Result<(), String> {
        let (word, reason) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let at = self.lines.len();
        let name = name(word).or_else(|| if kind == Lines::Names { name(&format!("@{word}")) } else { None });
        if let (Lines::Names, None) = (kind, &name) {
            let network = word.contains('/').then(|| Network::parse(word)).and_then(Result::ok);
            let network = network.ok_or_else(|| format!("{word:?} is no address, no domain and no network"))?;
            self.networks.push((at, network));
        } else if kind == Lines::Patterns || kind == Lines::Mixed && word.contains(PATTERN_MARKS) {
            self.patterns.push((at, Pattern::parse(word)?));
            // `user+tag@far.example` is a pattern that does not match what it looks like: it shall do that as well.
            if let Some(name) = name.filter(|name| !name.starts_with('@')) {
                self.names.entry(name).or_insert(at);
            }
        } else {
            let name =
                name.ok_or_else(|| format!("{word:?} is no address, no @domain, and does not look like a pattern"))?;
            self.names.entry(name).or_insert(at);
        }
        let reason = reason.trim_ascii();
        let reason = (!reason.is_empty()).then(|| reason.into());
        self.lines.push(Line { text: word.into(), reason, file: Rc::clone(file), line });
        Ok(())
    }

    /// The first line that matches.
    pub(in super::super) fn find(&self, mailbox: &Mailbox) -> Option<&Line> {
        let forms = forms(mailbox);
        let named = self.names.get(forms.0.as_str()).copied();
        let named = named.into_iter().chain(self.domain(mailbox.domain())).min();
        let before = self.patterns.iter().take_while(|(at, _)| named.is_none_or(|named| *at < named));
        let mut matching = before.filter(|(_, pattern)| pattern.matches_any(&forms));
        let at = matching.next().map(|(at, _)| *at).or(named)?;
        self.lines.get(at)
    }

    /// The first line that names this domain as a whole.
    pub(in super::super) fn find_domain(&self, domain: &Domain) -> Option<&Line> {
        self.lines.get(self.domain(domain)?)
    }

    fn domain(&self, domain: &Domain) -> Option<usize> {
        let named = self.names.get(format!("@{}", domain.ascii()).as_str()).copied();
        let inside = |ip| self.networks.iter().find(|(_, network)| network.contains(ip)).map(|(at, _)| *at);
        named.into_iter().chain(domain.ip().and_then(inside)).min()
    }
}

/// An address as a pattern may have been written for it: in small letters with the domain in A-labels, and with the domain's own
/// letters where these are others.
pub(in super::super) fn forms(mailbox: &Mailbox) -> (String, Option<String>) {
    let (local_part, domain) = (mailbox.local_part().to_lowercase(), mailbox.domain());
    let written = domain.as_written();
    let other = (!written.is_ascii()).then(|| format!("{local_part}@{}", written.to_lowercase()));
    (format!("{local_part}@{}", domain.ascii()), other)
}

/// An address or `@domain` in the form for comparing: small letters, the domain in A-labels. `None`: it is neither.
pub(in super::super) fn name(word: &str) -> Option<Box<str>> {
    let (local_part, domain) = word.rsplit_once('@')?;
    // qmail writes local-parts without their quotes, so nothing is asked of them here.
    let domain = Domain::parse(domain).ok()?;
    Some(format!("{}@{}", local_part.to_lowercase(), domain.ascii()).into())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    const FILES: &[(&str, Lines)] = &[("bad", Lines::Mixed), ("bad_patterns", Lines::Patterns)];

    fn list(bad: &str, patterns: &str) -> Result<AddressList, ConfigError> {
        let (world, _dir) = fixture::world(&[("bad", bad), ("bad_patterns", patterns)]);
        AddressList::read(&world.config, FILES)
    }

    fn found(list: &AddressList, address: &str) -> Option<String> {
        list.find(&Mailbox::parse(address).unwrap()).map(Line::evidence)
    }

    #[test]
    fn one_line_against_one_address() {
        let table = [
            // qpsmtpd's own table.
            ("matt@test.net", "matt@test.net", true),
            ("matt@test.com", "matt@test.net", false),
            ("@test.net", "matt@test.net", true),
            ("@test.not", "matt@test.net", false),
            ("test.net$", "matt@test.net", true),
            ("test.not$", "matt@test.net", false),
            // Upper and lower case, in either.
            ("MATT@Test.NET", "matt@test.net", true),
            ("@TEST.net", "Matt@tesT.net", true),
            ("^MATT@", "matt@test.net", true),
            ("^matt@", "MATT@test.net", true),
            // qpsmtpd puts this one in small letters and so turns it round.
            (r"^\S+@test\.net$", "matt@test.net", true),
            (r"^\D+@", "matt1@test.net", false),
            // A domain is no suffix.
            ("@test.net", "matt@sub.test.net", false),
            ("@test.net", "matt@atest.net", false),
            // International domains.
            ("@xn--bcher-kva.example", "a@bücher.example", true),
            ("@BÜCHER.example", "a@xn--bcher-kva.example", true),
            ("a@bücher.example", "A@Bücher.example", true),
            ("^.*@bücher", "a@BÜCHER.example", true),
            ("^.*@BÜCHER", "a@bücher.example", true),
            ("^.*@xn--bcher-kva", "a@bücher.example", true),
            ("@[192.0.2.1]", "a@[192.0.2.1]", true),
            ("@[ipv6:2001:DB8:0::1]", "a@[IPv6:2001:db8::1]", true),
            // The sample's patterns.
            ("!", "far!user@here.example", true),
            ("!", "user@here.example", false),
            ("%", "user%far@here.example", true),
            ("@.*@", "\"a@b\"@here.example", true),
            ("@.*@", "a@b.example", false),
            // What looks like an address is one, too.
            ("user+tag@far.example", "user+tag@far.example", true),
            ("user+tag@far.example", "usertag@far.example", true),
            ("a*b@far.example", "a*b@far.example", true),
            ("%ab@far.example", "c%ab@far.example", true),
            // With slashes, as in other lists.
            (r"/^a.*@far\.example$/", "abc@far.example", true),
            (r"/^A.*@far\.example$/i", "abc@far.example", true),
            ("/", "a/b@far.example", true),
            ("//", "ab@far.example", false),
            (r"\@far\.example$", "ab@far.example", true),
            // Quotes are not part of an address.
            ("a.@far.example", "\"a.\"@far.example", true),
        ];
        for (line, address, matches) in table {
            let list = list(line, "").unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(found(&list, address).is_some(), matches, "{line} against {address}");
        }
    }

    #[test]
    fn the_first_line_counts_whatever_its_kind() {
        let list =
            list("@a.example one\n^b@\tcaught  by two\nb@a.example\nb@c.example\n# x\n\n^.*@e\\.", "plain\n").unwrap();
        let table = [
            ("b@a.example", Some("bad line 1: @a.example")),
            ("b@c.example", Some("bad line 2: ^b@")),
            ("x@e.example", Some("bad line 7: ^.*@e\\.")),
            ("explained@f.example", Some("bad_patterns line 1: plain")),
            ("x@f.example", None),
        ];
        for (address, line) in table {
            assert_eq!(found(&list, address).as_deref(), line, "{address}");
        }
        let reasons: Vec<_> = list.lines.iter().map(|line| line.reason.as_deref()).collect();
        assert_eq!(reasons, [Some("one"), Some("caught  by two"), None, None, None, None]);
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let wrong = [
            "far.example",
            "@",
            "a@",
            "@a..b",
            "postmaster",
            "(?!a)^b",
            r"^(a)\1$",
            r"^\p{L}",
            "^(a",
            "*a",
            "^[z-a]",
            "^(((a{100}){100}){100})",
        ];
        let error = list(&wrong.join("\n"), "((\n").err().expect("all are wrong");
        let faults: Vec<_> = error.all().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), wrong.len() + 1, "{faults:#?}");
        for (at, word) in wrong.iter().enumerate() {
            let named = format!("bad line {}: {word:?} is no", at + 1);
            assert!(faults[at].contains(&named), "{} should hold {named}", faults[at]);
        }
        assert!(faults.last().is_some_and(|last| last.contains("bad_patterns line 1")), "{faults:?}");
    }

    #[test]
    fn names_are_addresses_domains_and_networks_and_no_patterns() {
        let list = "a+b@one.example\ntwo.example its own\n@three.example\n[192.0.2.1]\n198.51.100.0/24\n2001:db8::/32\n!@x.example\n";
        let (world, _dir) = fixture::world(&[("bad", list)]);
        let list = AddressList::read(&world.config, &[("bad", Lines::Names)]).unwrap();
        let table = [
            ("A+B@One.example", Some("bad line 1: a+b@one.example")),
            ("ab@one.example", None),
            ("x@TWO.example", Some("bad line 2: two.example")),
            ("x@sub.two.example", None),
            ("x@three.example", Some("bad line 3: @three.example")),
            ("x@[192.0.2.1]", Some("bad line 4: [192.0.2.1]")),
            ("x@[198.51.100.255]", Some("bad line 5: 198.51.100.0/24")),
            ("x@[198.51.101.0]", None),
            ("x@[IPv6:2001:db8::1]", Some("bad line 6: 2001:db8::/32")),
            ("far!y@x.example", None),
        ];
        for (address, line) in table {
            assert_eq!(found(&list, address).as_deref(), line, "{address}");
        }
        let domain = |name| list.find_domain(&Domain::parse(name).unwrap()).map(Line::evidence);
        assert_eq!(domain("Two.Example").as_deref(), Some("bad line 2: two.example"));
        assert_eq!(domain("one.example"), None);
        for wrong in ["@", "a@", "a..b", "192.0.2.0/33", "^x$", "a b/"] {
            let (world, _dir) = fixture::world(&[("bad", wrong)]);
            let read = AddressList::read(&world.config, &[("bad", Lines::Names)]);
            assert_eq!(read.is_err(), wrong != "a b/", "{wrong}");
        }
    }

    #[test]
    fn no_files_are_an_empty_list() {
        let (world, _dir) = fixture::world(&[]);
        let list = AddressList::read(&world.config, FILES).unwrap();
        assert_eq!(found(&list, "a@b.example"), None);
    }
}
