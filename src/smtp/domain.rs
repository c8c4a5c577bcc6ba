//! Domains: names and address literals (RFC 5321 §4.1.2 and §4.1.3, internationalized names RFC 6531 §3.2).
//!
//! In: text, the whole of which must fit the grammar. Out: the text, and its one form for comparing and for DNS. Whether
//! a domain exists is asked by plugins.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::AddressError;

/// Octets of a domain (RFC 5321 §4.5.3.1.2), both as written and in A-labels.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of a label in A-label form (RFC 1035 §2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// A domain name. Two are equal if their A-labels are.
#[derive(Debug, Clone)]
pub struct DomainName {
    written: String,
    /// If that differs from `written`.
    ascii: Option<String>,
}

impl DomainName {
    /// Labels joined by dots. A single label will do; a dot at the end will not. `_` is taken for a letter, although
    /// RFC 5321 does not: it is seen in the wild (all other servers take it).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > DOMAIN_OCTETS_MAX {
            return Err(AddressError::DomainTooLong);
        }
        let ascii = if needs_idna(text) {
            Some(idna_ascii(text)?)
        } else {
            text.bytes().any(|octet| octet.is_ascii_uppercase()).then(|| text.to_ascii_lowercase())
        };
        check_labels(ascii.as_deref().unwrap_or(text))?;
        Ok(Self { written: text.to_owned(), ascii: ascii.filter(|ascii| ascii != text) })
    }

    /// In lower-case A-labels, for comparing and for DNS.
    pub fn ascii(&self) -> &str {
        self.ascii.as_deref().unwrap_or(&self.written)
    }

    /// As the client wrote it.
    pub fn as_written(&self) -> &str {
        &self.written
    }
}

impl PartialEq for DomainName {
    fn eq(&self, other: &Self) -> bool {
        self.ascii() == other.ascii()
    }
}

impl Eq for DomainName {}

impl Hash for DomainName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ascii().hash(state);
    }
}

/// IDNA's tables are only asked about names that are not plain ASCII, or say that they are A-labels.
fn needs_idna(text: &str) -> bool {
    let is_a_label = |label: &str| label.as_bytes().get(..4).is_some_and(|front| front.eq_ignore_ascii_case(b"xn--"));
    !text.is_ascii() || text.split('.').any(is_a_label)
}

/// RFC 6531 §3.2. The mapping of UTS 46 can turn other characters into dots or none, so the labels are counted again.
fn idna_ascii(text: &str) -> Result<String, AddressError> {
    let ascii = idna::domain_to_ascii(text).map_err(|_| AddressError::Idna)?;
    let labels = |domain: &str| domain.split('.').count();
    if labels(&ascii) == labels(text) { Ok(ascii) } else { Err(AddressError::Idna) }
}

/// RFC 5321 §4.1.2: `Domain = sub-domain *("." sub-domain)`, `sub-domain = Let-dig [Ldh-str]`.
fn check_labels(ascii: &str) -> Result<(), AddressError> {
    if ascii.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    for label in ascii.split('.') {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        if label.is_empty() || !label.bytes().all(fits) || label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Domain);
        }
        if label.len() > LABEL_OCTETS_MAX {
            return Err(AddressError::DomainTooLong);
        }
    }
    Ok(())
}

/// An address literal (RFC 5321 §4.1.3). Two are equal if their addresses are.
#[derive(Debug, Clone)]
pub struct DomainLiteral {
    ip: IpAddr,
    written: String,
    ascii: String,
}

impl DomainLiteral {
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`, with numbers in their range.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(AddressError::Literal)?;
        let (ip, ascii) = match inside.split_once(':') {
            None => {
                let ip: Ipv4Addr = inside.parse().map_err(|_| AddressError::Literal)?;
                (IpAddr::from(ip), format!("[{ip}]"))
            }
            Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6") => {
                let ip: Ipv6Addr = rest.parse().map_err(|_| AddressError::Literal)?;
                (IpAddr::from(ip), format!("[IPv6:{ip}]"))
            }
            Some((tag, rest)) => return Err(other_literal(tag, rest)),
        };
        Ok(Self { ip, written: text.to_owned(), ascii })
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

/// `[2001:db8::1]` is an IPv6 address without its tag; `[tag:text]` may be a General-address-literal.
fn other_literal(tag: &str, rest: &str) -> AddressError {
    let is_tag = !tag.is_empty() && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_untagged = format!("{tag}:{rest}").parse::<Ipv6Addr>().is_ok();
    if is_tag && !is_untagged { AddressError::GeneralLiteral } else { AddressError::Literal }
}

impl PartialEq for DomainLiteral {
    fn eq(&self, other: &Self) -> bool {
        self.ip == other.ip
    }
}

impl Eq for DomainLiteral {}

impl Hash for DomainLiteral {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ip.hash(state);
    }
}

/// What stands after the `@`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Domain {
    /// A name.
    Name(DomainName),
    /// An IP address in brackets.
    Literal(DomainLiteral),
}

impl Domain {
    /// A name or an address literal.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            return DomainLiteral::parse(text).map(Self::Literal);
        }
        DomainName::parse(text).map(Self::Name)
    }

    /// For comparing: a name in lower-case A-labels, a literal in its shortest form.
    pub fn ascii(&self) -> &str {
        match self {
            Self::Name(name) => name.ascii(),
            Self::Literal(literal) => &literal.ascii,
        }
    }

    /// As the client wrote it.
    pub fn as_written(&self) -> &str {
        match self {
            Self::Name(name) => &name.written,
            Self::Literal(literal) => &literal.written,
        }
    }

    /// The address of a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Literal(literal) => Some(literal.ip),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_written())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_names() {
        use AddressError as E;
        let label = |octets: usize| "x".repeat(octets);
        // Names of 254, 255 and 256 octets, with labels of at most 63.
        let name = |octets: usize| format!("{0}.{0}.{0}.{1}", label(63), label(octets - 192));
        let table: Vec<(String, Result<String, E>)> = vec![
            ("".into(), Err(E::Domain)),
            (".".into(), Err(E::Domain)),
            ("a.".into(), Err(E::Domain)),
            (".a".into(), Err(E::Domain)),
            ("a..b".into(), Err(E::Domain)),
            ("localhost".into(), Ok("localhost".into())),
            ("MX.Example".into(), Ok("mx.example".into())),
            ("1.2.3.4".into(), Ok("1.2.3.4".into())),
            ("a_b._c.example".into(), Ok("a_b._c.example".into())),
            ("-a.example".into(), Err(E::Domain)),
            ("a-.example".into(), Err(E::Domain)),
            ("a--b.example".into(), Ok("a--b.example".into())),
            ("a b".into(), Err(E::Domain)),
            ("a\tb".into(), Err(E::Domain)),
            ("a\0b".into(), Err(E::Domain)),
            ("ex!ample.com".into(), Err(E::Domain)),
            ("a@b".into(), Err(E::Domain)),
            ("a/b".into(), Err(E::Domain)),
            ("a[b".into(), Err(E::Domain)),
            (label(62), Ok(label(62))),
            (label(63), Ok(label(63))),
            (label(64), Err(E::DomainTooLong)),
            (name(254), Ok(name(254))),
            (name(255), Ok(name(255))),
            (name(256), Err(E::DomainTooLong)),
            // IDNA.
            ("Bücher.example".into(), Ok("xn--bcher-kva.example".into())),
            ("XN--bcher-KVA.Example".into(), Ok("xn--bcher-kva.example".into())),
            ("例え.テスト".into(), Ok("xn--r8jz45g.xn--zckzah".into())),
            ("xn--".into(), Err(E::Idna)),
            ("xn--a.example".into(), Err(E::Idna)),
            ("xn--\u{e4}.example".into(), Err(E::Idna)),
            ("a\u{85}.example".into(), Err(E::Idna)),
            ("a\u{202e}.example".into(), Err(E::Idna)),
            ("\u{ad}.example".into(), Err(E::Domain)),
            // Characters that IDNA maps to `.`, `@`, `/`, blank.
            ("a\u{3002}example".into(), Err(E::Idna)),
            ("a\u{ff20}example".into(), Err(E::Domain)),
            ("\u{2100}.example".into(), Err(E::Domain)),
            ("a\u{3000}b".into(), Err(E::Domain)),
            // Short as written, too long in A-labels.
            ("ä".repeat(31), Ok("xn--".to_owned() + &idna::punycode::encode_str(&"ä".repeat(31)).unwrap())),
            ("ä".repeat(60), Err(E::DomainTooLong)),
        ];
        for (text, wanted) in table {
            let got = DomainName::parse(&text).map(|name| name.ascii().to_owned());
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn reads_literals() {
        use AddressError as E;
        let table: &[(&str, Result<&str, E>)] = &[
            ("[]", Err(E::Literal)),
            ("[", Err(E::Literal)),
            ("[192.0.2.1", Err(E::Literal)),
            ("[192.0.2.1]x", Err(E::Literal)),
            ("[[192.0.2.1]]", Err(E::Literal)),
            ("[0.0.0.0]", Ok("[0.0.0.0]")),
            ("[255.255.255.255]", Ok("[255.255.255.255]")),
            ("[256.0.0.1]", Err(E::Literal)),
            ("[999.1.1.1]", Err(E::Literal)),
            ("[1.2.3]", Err(E::Literal)),
            ("[1.2.3.4.5]", Err(E::Literal)),
            ("[1.2.3.04]", Err(E::Literal)),
            ("[ 1.2.3.4]", Err(E::Literal)),
            ("[1.2.3.4 ]", Err(E::Literal)),
            ("[example]", Err(E::Literal)),
            ("[IPv6:::]", Ok("[IPv6:::]")),
            ("[ipv6:2001:DB8:0::1]", Ok("[IPv6:2001:db8::1]")),
            ("[IPv6:::ffff:192.0.2.1]", Ok("[IPv6:::ffff:192.0.2.1]")),
            ("[IPv6:1:2:3:4:5:6:7:8]", Ok("[IPv6:1:2:3:4:5:6:7:8]")),
            ("[IPv6:1:2:3:4:5:6:7]", Err(E::Literal)),
            ("[IPv6:1:2:3:4:5:6:7:8:9]", Err(E::Literal)),
            ("[IPv6:1::2::3]", Err(E::Literal)),
            ("[IPv6:12345::]", Err(E::Literal)),
            ("[IPv6:fe80::1%eth0]", Err(E::Literal)),
            ("[IPv6:192.0.2.1]", Err(E::Literal)),
            ("[IPv6:]", Err(E::Literal)),
            ("[IPv6: ::1]", Err(E::Literal)),
            ("[2001:db8::1]", Err(E::Literal)),
            ("[::1]", Err(E::Literal)),
            ("[x400:c=de]", Err(E::GeneralLiteral)),
            ("[x y:z]", Err(E::Literal)),
        ];
        for (text, wanted) in table {
            let domain = Domain::parse(text);
            assert_eq!(domain.as_ref().map(Domain::ascii), wanted.as_ref().map(|ascii| *ascii), "{text:?}");
            assert!(
                domain.is_err() || domain.is_ok_and(|domain| domain.as_written() == *text && domain.ip().is_some())
            );
        }
    }

    #[test]
    fn compares_what_is_meant() {
        let table = [
            ("a.example", "A.EXAMPLE", true),
            ("a.example", "b.example", false),
            ("bücher.example", "xn--BCHER-kva.example", true),
            ("BÜCHER.example", "bücher.example", true),
            ("[IPv6:2001:db8:0:0::1]", "[ipv6:2001:DB8::1]", true),
            ("[192.0.2.1]", "192.0.2.1", false),
            ("[192.0.2.1]", "[192.0.2.2]", false),
        ];
        for (one, other, wanted) in table {
            let [one, other] = [one, other].map(|text| Domain::parse(text).unwrap());
            assert_eq!(one == other, wanted, "{one} {other}");
            let hash = |domain: &Domain| {
                std::hash::BuildHasher::hash_one(
                    &std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
                    domain,
                )
            };
            assert_eq!(hash(&one) == hash(&other), wanted, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_text(text in prop_oneof![any::<String>(), r"\[?(IPv6:)?[0-9a-fA-F:.]{0,20}\]?", r"(xn--)?[a-zA-Zäß.\u{ad}\u{200d}-]{0,20}"]) {
            if let Ok(domain) = Domain::parse(&text) {
                prop_assert_eq!(domain.as_written(), &text);
                let ascii = domain.ascii();
                prop_assert!(ascii.is_ascii() && ascii.len() <= DOMAIN_OCTETS_MAX);
                // What is told for comparing is itself a domain, and the same one.
                prop_assert_eq!(Domain::parse(ascii), Ok(domain.clone()));
            }
        }
    }
}
