//! Lists in the DNS (RFC 5782): what a zone's answer means.
//!
//! A list says "listed" by an address of 127.0.0.0/8. Zones that died say other things, to everybody.

use std::net::Ipv4Addr;

use crate::smtp::escape::safe;
use crate::world::Answer;
use crate::world::dns::Record;

/// Octets of a list's text that a client gets to see.
const TEXT_OCTETS_MAX: usize = 400;

/// What a zone says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Said {
    /// Listed: these answers, sorted, and the text beside them if it was asked for.
    Listed(Vec<Ipv4Addr>, Option<String>),
    /// Not listed.
    Unlisted,
    /// An answer that lists nobody, or of a zone that lists everybody; and why it is none.
    Void(String),
    /// The DNS could not say, or not in time.
    Unknown(String),
}

/// What an answer means.
pub(in super::super) fn judge(answer: &Answer) -> Said {
    match answer {
        Answer::NoSuchName | Answer::NoData => return Said::Unlisted,
        Answer::Failed { .. } | Answer::Late => return Said::Unknown(answer.to_string()),
        Answer::Found(_) => {}
    }
    let mut codes: Vec<Ipv4Addr> = loopback(answer).collect();
    codes.sort_unstable();
    if let Some(error) = codes.iter().find(|code| code.octets()[1..3] == [255, 255]) {
        return Said::Void(format!("{error} says that the list does not answer our resolver"));
    }
    codes.retain(|code| *code != Ipv4Addr::LOCALHOST);
    match codes.is_empty() {
        true => Said::Void(format!("{answer} is no answer of a list")),
        false => Said::Listed(codes, None),
    }
}

/// The answers in 127.0.0.0/8: others are not a list's.
fn loopback(answer: &Answer) -> impl Iterator<Item = Ipv4Addr> {
    answer.records().iter().filter_map(|record| match record {
        Record::A(ip) if ip.is_loopback() => Some(*ip),
        _ => None,
    })
}

/// The first text in the order of the alphabet, for the DNS gives them in any order.
pub(in super::super) fn first_text(answer: &Answer) -> Option<String> {
    let texts = answer.records().iter().filter_map(|record| match record {
        Record::Txt(octets) => Some(safe(String::from_utf8_lossy(octets).trim(), TEXT_OCTETS_MAX)),
        _ => None,
    });
    texts.filter(|text| !text.is_empty()).min()
}

/// The codes as evidence: "127.0.0.2, 127.0.0.4".
pub(in super::super) fn shown(codes: &[Ipv4Addr]) -> String {
    codes.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::dns::Kind;
    use crate::world::{Dns, DnsName, FakeDns, Question};

    #[test]
    fn what_lists_and_what_does_not() {
        let table = [
            (&["127.0.0.2"][..], Some("127.0.0.2")),
            (&["127.0.0.11", "127.0.0.4"], Some("127.0.0.4, 127.0.0.11")),
            (&["127.1.0.0"], Some("127.1.0.0")),
            (&["127.0.0.1"], None),
            (&["127.0.0.1", "127.0.0.2"], Some("127.0.0.2")),
            (&["127.255.255.254"], None),
            (&["127.255.255.255", "127.0.0.2"], None),
            // A page for lost visitors.
            (&["203.0.113.80"], None),
            (&["127.0.0.2", "203.0.113.80"], Some("127.0.0.2")),
            (&["0.0.0.0"], None),
        ];
        for (addresses, codes) in table {
            let dns = FakeDns::default().a("x.test", addresses);
            match (judge(&dns.ask_one(&Question::new(DnsName::new("x.test").unwrap(), Kind::A))), codes) {
                (Said::Listed(found, None), Some(codes)) => assert_eq!(shown(&found), codes),
                (Said::Void(_), None) => {}
                (said, _) => panic!("{addresses:?}: {said:?}"),
            }
        }
    }

    #[test]
    fn no_and_no_answer_are_two_things() {
        assert_eq!(judge(&Answer::NoSuchName), Said::Unlisted);
        assert_eq!(judge(&Answer::NoData), Said::Unlisted);
        assert_eq!(judge(&Answer::Late), Said::Unknown("no answer in time".into()));
        assert_eq!(judge(&Answer::Failed { why: "SERVFAIL".into() }), Said::Unknown("failed: SERVFAIL".into()));
    }

    #[test]
    fn the_text_beside_a_listing() {
        let text = |texts: &[&str]| {
            let dns = FakeDns::default().txt("x.test", texts);
            first_text(&dns.ask_one(&Question::new(DnsName::new("x.test").unwrap(), Kind::Txt)))
        };
        assert_eq!(text(&["see b", " see a "]).as_deref(), Some("see a"));
        assert_eq!(text(&["  ", "two\r\n250 lines"]).as_deref(), Some("two??250 lines"));
        assert_eq!(text(&["  "]), None);
    }
}
