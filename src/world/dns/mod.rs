//! Questions to the DNS: many at once, under one deadline; and questions asked before their answers are wanted.
//!
//! Only the DNS: no hosts file, no search list, and every name is absolute. "There is no such name", "there is none of that
//! kind", "nobody could say" and "nobody said in time" are four different answers, and each plugin says what each leads to.

mod answer;
mod fake;
mod name;
mod real;
mod wire;
mod zone;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use fake::FakeDns;
pub use name::{DnsName, NameError};
pub use real::{QUESTIONS_MAX, RealDns};

use crate::smtp::escape::safe;

/// The DNS.
pub trait Dns {
    /// Asks all of these at once, and waits until each is answered, or the deadline or the limit of one call has come (those
    /// left are [`Answer::Late`]; so are they if we are asked to end meanwhile). The answers are in the order of the
    /// questions. A question that was asked before in this session is not asked again, but for one still without an answer,
    /// which is waited for again.
    fn ask(&self, questions: &[Question]) -> Vec<Answer>;
    /// Sends these and does not wait: whoever asks the same later gets the answer that has come meanwhile.
    fn begin(&self, questions: &[Question]);

    /// For `postern check`: each server that does not answer, and why.
    fn check(&self) -> Vec<String> {
        Vec::new()
    }

    /// Asks one.
    fn ask_one(&self, question: &Question) -> Answer {
        self.ask(std::slice::from_ref(question)).pop().unwrap_or(Answer::Late)
    }
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // Their names are those of the DNS.
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Ptr,
    Txt,
    Ns,
    Soa,
}

impl Kind {
    const ALL: [(&str, Self); 7] = [
        ("A", Self::A),
        ("AAAA", Self::Aaaa),
        ("MX", Self::Mx),
        ("PTR", Self::Ptr),
        ("TXT", Self::Txt),
        ("NS", Self::Ns),
        ("SOA", Self::Soa),
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        out.write_str(name)
    }
}

/// A question: a name, and which records of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The name.
    pub name: DnsName,
    /// The kind of record.
    pub kind: Kind,
}

impl Question {
    /// For the records of this kind.
    pub fn new(name: DnsName, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// For the name of an address.
    pub fn reverse(ip: IpAddr) -> Self {
        Self::new(DnsName::arpa(ip), Kind::Ptr)
    }

    /// For the addresses of a name, of the same family as this one.
    pub fn forward(name: DnsName, like: IpAddr) -> Self {
        Self::new(name, if like.to_canonical().is_ipv4() { Kind::A } else { Kind::Aaaa })
    }
}

impl fmt::Display for Question {
    /// `1.2.0.192.in-addr.arpa PTR`
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.name, self.kind)
    }
}

/// A record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A mail exchanger. One whose name is the root says that there is none (RFC 7505).
    Mx {
        /// The least is tried first.
        preference: u16,
        /// Its name.
        exchange: DnsName,
    },
    /// The name of an address.
    Ptr(DnsName),
    /// Text: its strings one after the other, any octets at all.
    Txt(Vec<u8>),
    /// A name server.
    Ns(DnsName),
    /// The start of a zone: its first server and its serial number.
    Soa {
        /// The zone's first server.
        primary: DnsName,
        /// The number of the zone's version.
        serial: u32,
    },
}

impl Record {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Mx { .. } => Kind::Mx,
            Self::Ptr(_) => Kind::Ptr,
            Self::Txt(_) => Kind::Txt,
            Self::Ns(_) => Kind::Ns,
            Self::Soa { .. } => Kind::Soa,
        }
    }
}

impl fmt::Display for Record {
    /// Safe in a line of a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TEXT_OCTETS_MAX: usize = 200;
        match self {
            Self::A(ip) => write!(out, "{ip}"),
            Self::Aaaa(ip) => write!(out, "{ip}"),
            Self::Mx { preference, exchange } => write!(out, "{preference} {exchange}"),
            Self::Ptr(name) | Self::Ns(name) => write!(out, "{name}"),
            Self::Txt(octets) => write!(out, "{:?}", safe(&String::from_utf8_lossy(octets), TEXT_OCTETS_MAX)),
            Self::Soa { primary, serial } => write!(out, "{primary} {serial}"),
        }
    }
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These records, at least one and at most 100, all of the kind asked for.
    Found(Vec<Record>),
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// The name has no record of that kind.
    NoData,
    /// No answer that could be believed: SERVFAIL, REFUSED, a server that does not know, nonsense; or servers that refuse to be
    /// asked, or let their time pass.
    Failed {
        /// What was wrong, in words that are safe in a log.
        why: String,
    },
    /// No answer in the time of the call, or before the deadline.
    Late,
}

impl Answer {
    /// The records; none unless found.
    pub fn records(&self) -> &[Record] {
        match self {
            Self::Found(records) => records,
            _ => &[],
        }
    }

    /// The addresses among the records.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records().iter().filter_map(|record| match record {
            Record::A(ip) => Some(IpAddr::V4(*ip)),
            Record::Aaaa(ip) => Some(IpAddr::V6(*ip)),
            _ => None,
        })
    }

    /// Whether the DNS did not say yes or no: [`Answer::Failed`] or [`Answer::Late`].
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Late)
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into() }
    }
}

impl fmt::Display for Answer {
    /// As evidence: `127.0.0.2, 127.0.0.4`, `no such name`. Safe in a line of a log, at most about 5 records of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        match self {
            Self::Found(records) => {
                for (index, record) in records.iter().take(SHOWN).enumerate() {
                    write!(out, "{}{record}", if index > 0 { ", " } else { "" })?;
                }
                match records.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(out, " and {more} more"),
                }
            }
            Self::NoSuchName => out.write_str("no such name"),
            Self::NoData => out.write_str("no such record"),
            Self::Failed { why } => write!(out, "failed: {why}"),
            Self::Late => out.write_str("no answer in time"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_evidence() {
        let name = |text: &str| DnsName::new(text).unwrap();
        let many = (1..=7).map(|last| Record::A(Ipv4Addr::new(127, 0, 0, last))).collect();
        #[rustfmt::skip]
        let table = [
            (Answer::Found(vec![Record::A(Ipv4Addr::new(127, 0, 0, 2)), Record::Ptr(name("a.example"))]), "127.0.0.2, a.example"),
            (Answer::Found(many), "127.0.0.1, 127.0.0.2, 127.0.0.3, 127.0.0.4, 127.0.0.5 and 2 more"),
            (Answer::Found(vec![Record::Txt(b"a\r\n\"b\xff".to_vec())]), "\"a??\\\"b\u{fffd}\""),
            (Answer::Found(vec![Record::Mx { preference: 0, exchange: DnsName::root() }]), "0 ."),
            (Answer::NoSuchName, "no such name"),
            (Answer::NoData, "no such record"),
            (Answer::failed("SERVFAIL"), "failed: SERVFAIL"),
            (Answer::Late, "no answer in time"),
        ];
        for (answer, text) in table {
            assert_eq!(answer.to_string(), text);
        }
        assert_eq!(Question::reverse("192.0.2.1".parse().unwrap()).to_string(), "1.2.0.192.in-addr.arpa PTR");
        assert_eq!(Question::forward(name("a.example"), "::1".parse().unwrap()).to_string(), "a.example AAAA");
        assert_eq!(Question::forward(name("a.example"), "::ffff:1.2.3.4".parse().unwrap()).kind, Kind::A);
    }
}
