//! Lists whose lines would let in more, or less, than was meant: `rcpthosts` and `relayclients`.

use std::net::IpAddr;

use crate::config::{ChainLine, Entry};
use crate::setup::{Found, Setup};
use crate::smtp::address::Domain;

use super::{Findings, Grade};

/// Top-level names that nobody can register, so that all below them may be one's own (RFC 2606, RFC 6762, RFC 9476, ICANN's
/// `internal`, and those that are used so in fact).
const PRIVATE: [&str; 12] = [
    "alt",
    "arpa",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "test",
];

/// Networks with a shorter prefix hold more than any organisation has.
const PREFIX_MIN: (u8, u8) = (8, 16);

/// Checks both lists; of a line that its plugin cannot understand that is told already.
pub(super) fn check(setup: &Setup, findings: &mut Findings) {
    ours(setup, findings);
    for (name, judge) in [("rcpthosts", host as Judge), ("relayclients", network)] {
        for entry in setup.dir.survey(name).entries {
            if !findings.tells(&entry.file, entry.line) {
                judge(&entry, findings);
            }
        }
    }
}

/// Whether rcpt_ok has any domain but our own name.
fn ours(setup: &Setup, findings: &mut Findings) {
    let rcpt_ok = |line: &ChainLine| matches!(setup.find(&line.name), Found::Entry(entry) if entry.name == "rcpt_ok");
    let survey = setup.dir.survey("rcpthosts");
    let any = !survey.entries.is_empty() || !survey.faults.is_empty() || setup.dir.exists("morercpthosts.cdb");
    if any || !setup.lines.iter().any(rcpt_ok) {
        return;
    }
    let (what, me) = (if survey.files.is_empty() { "not there" } else { "empty" }, &setup.core.me);
    let text = format!("{what}: only mail for `me` {me} is taken");
    findings.file(Grade::Warning, &setup.dir.path().join("rcpthosts"), 0, text);
}

type Judge = fn(&Entry, &mut Findings);

/// A line of rcpthosts: a domain, or `.suffix`.
fn host(entry: &Entry, findings: &mut Findings) {
    let (suffix, name) = match entry.text.strip_prefix('.') {
        Some(name) => (true, name),
        None => (false, entry.text.as_str()),
    };
    let mut find = |grade, text: String| findings.file(grade, &entry.file, entry.line, text);
    if name.is_empty() || name == "*" {
        return find(
            Grade::Error,
            format!("{:?} means every domain there is: an open relay, if anything took it so", entry.text),
        );
    }
    let Ok(domain) = Domain::parse(name) else {
        return find(Grade::Warning, format!("{:?} is no domain: no recipient is in it", entry.text));
    };
    let label = domain.ascii();
    if suffix && !label.contains('.') && !PRIVATE.contains(&label) {
        find(Grade::Error, format!("every domain below {label} would be taken for ours: an open relay"));
    }
}

/// A line of relayclients: an address, the beginning of one, or a network.
fn network(entry: &Entry, findings: &mut Findings) {
    let Some((address, bits)) = entry.text.split_once('/') else {
        return;
    };
    let (Ok(address), Ok(bits)) = (address.trim().parse::<IpAddr>(), bits.trim().parse::<u8>()) else {
        return;
    };
    let least = if address.is_ipv4() { PREFIX_MIN.0 } else { PREFIX_MIN.1 };
    let mut find = |grade, text: String| findings.file(grade, &entry.file, entry.line, text);
    if bits == 0 {
        find(Grade::Error, "every client there is may relay: an open relay".to_owned());
    } else if bits < least {
        find(Grade::Warning, format!("a very large network may relay (shorter than /{least})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::rc::Rc;

    fn graded(check: Judge, text: &str) -> Option<Grade> {
        let file: Rc<Path> = Path::new("list").into();
        let mut findings = Findings::default();
        check(&Entry { text: text.to_owned(), file, line: 1 }, &mut findings);
        assert!(findings.0.len() < 2, "{text}");
        findings.0.first().map(|finding| finding.grade)
    }

    #[test]
    fn hosts() {
        let rows = [
            (".", Some(Grade::Error)),
            ("*", Some(Grade::Error)),
            (".*", Some(Grade::Error)),
            (".com", Some(Grade::Error)),
            (".COM", Some(Grade::Error)),
            (".xn--p1ai", Some(Grade::Error)),
            (".lan", None),
            (".Internal", None),
            ("com", None),
            ("here.example", None),
            (".here.example", None),
            ("here.example # ours", Some(Grade::Warning)),
            ("a@here.example", Some(Grade::Warning)),
            ("*.here.example", Some(Grade::Warning)),
            ("m\u{fc}nchen.example", None),
        ];
        for (text, grade) in rows {
            assert_eq!(graded(host, text), grade, "{text}");
        }
    }

    #[test]
    fn networks() {
        let rows = [
            ("0.0.0.0/0", Some(Grade::Error)),
            ("192.0.2.0/0", Some(Grade::Error)),
            ("::/0", Some(Grade::Error)),
            ("0.0.0.0/1", Some(Grade::Warning)),
            ("::/15", Some(Grade::Warning)),
            ("10.0.0.0/8", None),
            ("2001:db8::/32", None),
            ("192.0.2.", None),
            ("192.0.2.1", None),
            ("192.0.2.0/x", None),
        ];
        for (text, grade) in rows {
            assert_eq!(graded(network, text), grade, "{text}");
        }
    }
}
