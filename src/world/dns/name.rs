//! Names that are asked about, and names in answers: checked once, absolute, in lower case.

use std::fmt;
use std::net::IpAddr;

use crate::smtp::domain::DomainName;

/// Octets of a name as text, without a dot at its end (RFC 1035 §3.1 allows 255 on the wire).
const NAME_OCTETS_MAX: usize = 253;
/// Octets of a label (RFC 1035 §2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// An absolute name: labels of printable ASCII, joined by dots, in lower case, without a dot at the end; the root is `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No label at all, or an empty one.
    #[error("a name with an empty label")]
    Empty,
    /// Longer than a name may be.
    #[error("a name of more than {NAME_OCTETS_MAX} octets")]
    Long,
    /// A part that is longer than it may be.
    #[error("a label of more than {LABEL_OCTETS_MAX} octets")]
    LongLabel,
    /// A space, a control character, `\`, or what IDNA does not allow.
    #[error("a character that a name cannot have")]
    Character,
}

impl DnsName {
    /// From text, with or without a dot at the end. Any octet of printable ASCII but `\` may stand in a label; other letters
    /// become A-labels.
    ///
    /// # Errors
    /// It is no name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if !text.is_ascii() {
            let domain = DomainName::parse(text).map_err(|_| NameError::Character)?;
            return Self::checked(domain.ascii().split('.').map(str::as_bytes));
        }
        Self::checked(text.split('.').map(str::as_bytes))
    }

    /// The root, as in a null MX (RFC 7505).
    pub fn root() -> Self {
        Self(".".to_owned())
    }

    /// The name at which the name of an address is asked for: `1.2.0.192.in-addr.arpa` (RFC 1035 §3.5, RFC 3596 §2.5).
    pub fn arpa(ip: IpAddr) -> Self {
        let zone = if ip.to_canonical().is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
        Self(format!("{}.{zone}", reversed(ip)))
    }

    /// The name at which a zone lists an address (RFC 5782 §2.1 and §2.4): its octets, or for IPv6 its nibbles, backwards,
    /// before the zone. An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is taken as IPv4.
    ///
    /// # Errors
    /// It would be too long.
    pub fn listed(ip: IpAddr, zone: &Self) -> Result<Self, NameError> {
        Self(reversed(ip)).within(zone)
    }

    /// This name below another: `a.example` within `dbl.test` is `a.example.dbl.test` (RFC 5782 §2.5).
    ///
    /// # Errors
    /// It would be too long.
    pub fn within(&self, zone: &Self) -> Result<Self, NameError> {
        let joined = match (self.is_root(), zone.is_root()) {
            (_, true) => self.0.clone(),
            (true, _) => zone.0.clone(),
            _ => format!("{}.{}", self.0, zone.0),
        };
        if joined.len() > NAME_OCTETS_MAX { Err(NameError::Long) } else { Ok(Self(joined)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// The labels, from the left; the root has none.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }

    /// From labels, as they came.
    pub(super) fn checked<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut text = String::new();
        for (index, label) in labels.enumerate() {
            match label.len() {
                0 => return Err(NameError::Empty),
                1..=LABEL_OCTETS_MAX => {}
                _ => return Err(NameError::LongLabel),
            }
            if index > 0 {
                text.push('.');
            }
            // A dot inside a label would read as two labels; a backslash would have to be quoted to be told from a quote.
            if label.iter().any(|octet| !octet.is_ascii_graphic() || matches!(octet, b'.' | b'\\')) {
                return Err(NameError::Character);
            }
            text.extend(label.iter().map(|octet| char::from(octet.to_ascii_lowercase())));
            if text.len() > NAME_OCTETS_MAX {
                return Err(NameError::Long);
            }
        }
        if text.is_empty() { Err(NameError::Empty) } else { Ok(Self(text)) }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// `1.2.0.192`, or 32 nibbles.
fn reversed(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn name(text: &str) -> DnsName {
        DnsName::new(text).unwrap()
    }

    #[test]
    fn texts() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        #[rustfmt::skip]
        let table = [
            ("", Err(NameError::Empty)),
            (".", Err(NameError::Empty)),
            ("..", Err(NameError::Empty)),
            (".a", Err(NameError::Empty)),
            ("a..b", Err(NameError::Empty)),
            ("a.example..", Err(NameError::Empty)),
            ("A.Example", Ok("a.example")),
            ("a.example.", Ok("a.example")),
            ("_dmarc.a.example", Ok("_dmarc.a.example")),
            ("0/25.2.0.192.in-addr.arpa", Ok("0/25.2.0.192.in-addr.arpa")),
            ("a b", Err(NameError::Character)),
            ("a\\.b", Err(NameError::Character)),
            ("a\r\nb", Err(NameError::Character)),
            ("a\u{7f}b", Err(NameError::Character)),
            ("a\0b", Err(NameError::Character)),
            ("Bücher.example", Ok("xn--bcher-kva.example")),
            ("b\u{202e}.example", Err(NameError::Character)),
            (&longest, Ok(&longest)),
            (&format!("x{longest}"), Err(NameError::LongLabel)),
            (&format!("{longest}x"), Err(NameError::Long)),
            (&format!("{longest}."), Ok(&longest)),
        ];
        for (text, want) in table {
            assert_eq!(DnsName::new(text).as_ref().map(DnsName::as_str).map_err(|error| *error), want, "{text:?}");
        }
    }

    #[test]
    fn names_of_addresses() {
        let zone = name("zen.test");
        #[rustfmt::skip]
        let table = [
            ("192.0.2.1", "1.2.0.192", "in-addr.arpa"),
            ("::ffff:192.0.2.1", "1.2.0.192", "in-addr.arpa"),
            ("2001:db8::abcd", "d.c.b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2", "ip6.arpa"),
        ];
        for (ip, backwards, arpa) in table {
            let ip = ip.parse().unwrap();
            assert_eq!(DnsName::arpa(ip).as_str(), format!("{backwards}.{arpa}"));
            assert_eq!(DnsName::listed(ip, &zone).unwrap().as_str(), format!("{backwards}.zen.test"));
        }
    }

    #[test]
    fn names_within_names() {
        let zone = name(&["x".repeat(60).as_str(); 4].join("."));
        assert_eq!(name("A.example").within(&name("dbl.test")).unwrap().as_str(), "a.example.dbl.test");
        assert_eq!(name("a").within(&DnsName::root()).unwrap().as_str(), "a");
        assert_eq!(DnsName::root().within(&zone).unwrap(), zone);
        assert_eq!(name("123456789").within(&zone).unwrap().as_str().len(), 253);
        assert_eq!(name("1234567890").within(&zone), Err(NameError::Long));
        assert_eq!(DnsName::listed("::1".parse().unwrap(), &zone), Err(NameError::Long));
        assert_eq!(DnsName::root().labels().count(), 0);
    }

    proptest! {
        #[test]
        fn a_reversed_address_reads_back(four: [u8; 4], sixteen: [u8; 16]) {
            let zone = name("zone.test");
            let text = DnsName::listed(Ipv4Addr::from(four).into(), &zone).unwrap();
            let mut read: Vec<u8> = text.labels().take(4).map(|label| label.parse().unwrap()).collect();
            read.reverse();
            prop_assert_eq!(read, four);
            prop_assert!(text.as_str().ends_with(".zone.test"));

            let ip = Ipv6Addr::from(sixteen);
            prop_assume!(ip.to_ipv4_mapped().is_none());
            let text = DnsName::arpa(ip.into());
            let nibbles: String = text.labels().take(32).collect();
            let number: String = nibbles.chars().rev().collect();
            prop_assert_eq!(u128::from_str_radix(&number, 16).unwrap(), u128::from(ip));
            prop_assert!(text.as_str().ends_with(".ip6.arpa"));
            prop_assert_eq!(DnsName::new(text.as_str()).unwrap(), text);
        }

        #[test]
        fn whatever_the_labels_are_a_name_is_printable_and_bounded(labels: Vec<Vec<u8>>) {
            if let Ok(found) = DnsName::checked(labels.iter().map(Vec::as_slice)) {
                prop_assert!(found.as_str().len() <= 253 && found.as_str().bytes().all(|octet| octet.is_ascii_graphic()));
                prop_assert_eq!(found.labels().count(), labels.len());
                prop_assert_eq!(DnsName::new(found.as_str()).unwrap(), found);
            }
        }
    }
}
