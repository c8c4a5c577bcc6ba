//! The list `badhelo`: names, and patterns, which a `!` before them turns round.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;

use super::super::shared::address_list::Pattern;
use super::super::shared::place;
use crate::config::{ConfigDir, ConfigError};
use crate::smtp::address::Domain;
use crate::smtp::command::Hello;

/// What makes a line a pattern (as in qpsmtpd).
const PATTERN_MARKS: &[char] = &['{', '}', '[', ']', '(', ')', '^', '$', '|', '*', '+', '?', '\\', '!'];

/// The list as read.
#[derive(Default)]
pub(super) struct BadHelo {
    /// As evidence: "badhelo line 3: aol.com".
    lines: Vec<Box<str>>,
    /// A name -> its line. The list is the administrator's, so no secret key is needed against collisions.
    names: HashMap<Box<str>, usize, BuildHasherDefault<DefaultHasher>>,
    patterns: Vec<(usize, Test)>,
}

/// A pattern, and whether it means the names that it does not match.
struct Test {
    pattern: Pattern,
    negated: bool,
}

impl BadHelo {
    /// Reads the file. The error holds every fault.
    pub(super) fn read(config: &ConfigDir) -> Result<Self, ConfigError> {
        let (mut list, mut faults) = (Self::default(), Vec::new());
        config.each("badhelo", &mut |text, file, line| {
            match list.add(text) {
                Ok(()) => list.lines.push(format!("{}: {text}", place(file, line)).into()),
                Err(fault) => faults.push(ConfigError::at(file, line, fault)),
            }
            ControlFlow::Continue(())
        })?;
        ConfigError::from_many(faults).map_or(Ok(list), Err)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let at = self.lines.len();
        // Before the patterns: `[192.0.2.1]` as a pattern would match every name with one of these digits in it.
        if let Ok(domain) = Domain::parse(text) {
            self.names.entry(domain.ascii().into()).or_insert(at);
            return Ok(());
        }
        if !text.contains(PATTERN_MARKS) {
            return Err(format!("{text:?} is no name, and does not look like a pattern"));
        }
        let (word, negated) = text.strip_prefix('!').map_or((text, false), |word| (word, true));
        if word.is_empty() {
            return Err(format!("{text:?} lacks the pattern that no good name is without"));
        }
        self.patterns.push((at, Test { pattern: Pattern::parse(word)?, negated }));
        Ok(())
    }

    /// The first line that means this name.
    pub(super) fn find(&self, hello: &Hello) -> Option<&str> {
        if self.lines.is_empty() {
            return None;
        }
        let written = hello.text().to_lowercase();
        // A dot at the end, which an absolute name in the DNS may have, shall not lead past the list.
        let written = written.strip_suffix('.').unwrap_or(&written);
        let ascii = hello.domain().map_or(written, Domain::ascii);
        let named = self.names.get(ascii).copied();
        let matches = |test: &Test| {
            let found = test.pattern.matches(ascii) || ascii != written && test.pattern.matches(written);
            found != test.negated
        };
        let before = self.patterns.iter().take_while(|(at, _)| named.is_none_or(|named| *at < named));
        let at = before.into_iter().find(|(_, test)| matches(test)).map(|(at, _)| *at).or(named)?;
        self.lines.get(at).map(|line| &**line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shared::fixture;
    use super::*;
    use crate::smtp::command::hello_argument;

    fn find(list: &str, name: &str) -> Option<String> {
        let (world, _dir) = fixture::world(&[("badhelo", list)]);
        let list = BadHelo::read(&world.config).unwrap_or_else(|error| panic!("{list}: {error}"));
        list.find(&hello_argument(name).unwrap()).map(str::to_owned)
    }

    #[test]
    fn one_line_against_one_name() {
        let table = [
            // qpsmtpd's own table.
            ("yahoo.com", "yahoo.com", true),
            ("yahoo.com", "example.com", false),
            (r"ya.oo\.com$", "yahoo.com", true),
            (r"ya.oo\.com$", "yoda.com", false),
            (r"!\.", "host-only", true),
            (r"!\.", "host.example", false),
            // Upper and lower case, both forms of a name, a dot at the end.
            ("Yahoo.COM", "yAHoo.com", true),
            (r"^YA.OO\.", "yahoo.com", true),
            ("yahoo.com", "yahoo.com.", true),
            ("bücher.example", "XN--bcher-kva.example", true),
            ("xn--bcher-kva.example", "Bücher.example", true),
            ("^bücher", "BÜCHER.example", true),
            ("!^bücher", "bücher.example", false),
            ("!^xn--", "bücher.example", false),
            // A name is no suffix, and no pattern.
            ("yahoo.com", "mail.yahoo.com", false),
            ("yahoo.com", "yahooxcom", false),
            (r"\.yahoo\.com$", "mail.yahoo.com", true),
            // Not a set of characters.
            ("[192.0.2.1]", "[192.0.2.1]", true),
            ("[192.0.2.1]", "host1.example", false),
            ("[IPv6:2001:DB8:0::1]", "[ipv6:2001:db8::1]", true),
            ("192.0.2.1", "192.0.2.1", true),
            // What is no domain at all.
            ("^_+$", "___", true),
            ("!^[a-z0-9.-]+$", "a{b}c", true),
            ("!localhost", "mx.example", true),
            ("!localhost", "localhost.example", false),
        ];
        for (line, name, bad) in table {
            assert_eq!(find(line, name).is_some(), bad, "{line} against {name}");
        }
    }

    #[test]
    fn the_first_line_counts_whatever_its_kind() {
        let list = "# ours\na.example\n^b\\.\nb.example\n!example\n";
        let table = [
            ("a.example", Some(r"badhelo line 2: a.example")),
            ("b.example", Some(r"badhelo line 3: ^b\.")),
            ("c.test", Some("badhelo line 5: !example")),
            ("c.example", None),
        ];
        for (name, line) in table {
            assert_eq!(find(list, name).as_deref(), line, "{name}");
        }
        assert_eq!(find("", "a.example"), None);
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let wrong = [".example", "a b", "a..b", "!", "*.example", "(?!a)b", r"(a)\1", "((a{100}){100}){100}"];
        let (world, _dir) = fixture::world(&[("badhelo", &wrong.join("\n"))]);
        let error = BadHelo::read(&world.config).err().expect("all are wrong");
        let faults: Vec<String> = error.all().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), wrong.len(), "{faults:#?}");
        for (at, fault) in faults.iter().enumerate() {
            assert!(fault.contains(&format!("badhelo line {}: ", at + 1)), "{fault}");
        }
    }
}
