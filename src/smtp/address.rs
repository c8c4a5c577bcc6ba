//! Paths, mailboxes and domains (RFC 5321 §4.1.2 and §4.1.3, with UTF-8 by RFC 6531).
//!
//! In: text, the whole of which must fit the grammar: whoever puts an address into a file name, a pattern or another
//! protocol relies on that. Out: parts, with the local-part unquoted. Who may send from or to them is the plugins' matter.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a local-part as written (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 §4.5.3.1.2), both as written and in A-labels.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of a path with its brackets and source route (RFC 5321 §4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;
/// Octets of a label in A-label form (RFC 1035 §2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `<...>`.
    #[error("an address stands in angle brackets")]
    Brackets,
    /// `<>` where a recipient is wanted.
    #[error("<> is not a recipient")]
    Null,
    /// The path is over [`PATH_OCTETS_MAX`].
    #[error("the path is too long")]
    PathTooLong,
    /// `@a,@b:` is not well-formed.
    #[error("the source route is malformed")]
    SourceRoute,
    /// Neither a dot-string nor a quoted string.
    #[error("the local-part is malformed")]
    LocalPart,
    /// The local-part is over [`LOCAL_PART_OCTETS_MAX`].
    #[error("the local-part is too long")]
    LocalPartTooLong,
    /// No `@`.
    #[error("the address has no domain")]
    NoDomain,
    /// Not labels joined by dots.
    #[error("the domain is malformed")]
    Domain,
    /// The domain is over [`DOMAIN_OCTETS_MAX`], or a label over 63 octets.
    #[error("the domain is too long")]
    DomainTooLong,
    /// Not a domain by IDNA (RFC 5890).
    #[error("the internationalized domain is not valid")]
    Idna,
    /// `[...]` without an IP address in it.
    #[error("the address literal is malformed")]
    Literal,
    /// `[tag:...]` with a tag other than IPv6. None is registered.
    #[error("this kind of address literal is not known")]
    GeneralLiteral,
}

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
            text.bytes()
                .any(|octet| octet.is_ascii_uppercase())
                .then(|| text.to_ascii_lowercase())
        };
        check_labels(ascii.as_deref().unwrap_or(text))?;
        Ok(Self {
            written: text.to_owned(),
            ascii: ascii.filter(|ascii| ascii != text),
        })
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
    let is_a_label = |label: &str| {
        label
            .as_bytes()
            .get(..4)
            .is_some_and(|front| front.eq_ignore_ascii_case(b"xn--"))
    };
    !text.is_ascii() || text.split('.').any(is_a_label)
}

/// RFC 6531 §3.2. The mapping of UTS 46 can turn other characters into dots or none, so the labels are counted again.
fn idna_ascii(text: &str) -> Result<String, AddressError> {
    let ascii = idna::domain_to_ascii(text).map_err(|_| AddressError::Idna)?;
    let labels = |domain: &str| domain.split('.').count();
    if labels(&ascii) == labels(text) {
        Ok(ascii)
    } else {
        Err(AddressError::Idna)
    }
}

/// RFC 5321 §4.1.2: `Domain = sub-domain *("." sub-domain)`, `sub-domain = Let-dig [Ldh-str]`.
fn check_labels(ascii: &str) -> Result<(), AddressError> {
    if ascii.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    for label in ascii.split('.') {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        if label.is_empty()
            || !label.bytes().all(fits)
            || label.starts_with('-')
            || label.ends_with('-')
        {
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
        let inside = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or(AddressError::Literal)?;
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
        Ok(Self {
            ip,
            written: text.to_owned(),
            ascii,
        })
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }
}

/// `[2001:db8::1]` is an IPv6 address without its tag; `[tag:text]` may be a General-address-literal.
fn other_literal(tag: &str, rest: &str) -> AddressError {
    let is_tag = !tag.is_empty()
        && tag
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_untagged = format!("{tag}:{rest}").parse::<Ipv6Addr>().is_ok();
    if is_tag && !is_untagged {
        AddressError::GeneralLiteral
    } else {
        AddressError::Literal
    }
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

/// `local-part@domain`. Two are equal if their local-parts are, octet for octet, and their domains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local_part: String,
    domain: Domain,
}

impl Mailbox {
    /// A mailbox in its SMTP form, the local-part quoted where needed, without brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local_part, written_octets, domain) = if text.starts_with('"') {
            split_quoted(text)?
        } else {
            split_dot_string(text)?
        };
        if written_octets > LOCAL_PART_OCTETS_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        let domain = Domain::parse(domain)?;
        if text.len() > PATH_OCTETS_MAX - "<>".len() {
            return Err(AddressError::PathTooLong);
        }
        Ok(Self { local_part, domain })
    }

    /// The local-part, unquoted: it may hold blanks, quotes, `@`, `/`, and be empty (`""@domain`). No control characters.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// `local-part@domain` with the local-part unquoted and the domain as written: qmail's form. The last `@` is the border.
    pub fn address(&self) -> String {
        format!("{}@{}", self.local_part, self.domain)
    }

    /// Whether it can only be sent where SMTPUTF8 is offered (RFC 6531). One with an ASCII local-part could be sent elsewhere
    /// with its domain in A-labels.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local_part.is_ascii() || !self.domain.as_written().is_ascii()
    }
}

impl fmt::Display for Mailbox {
    /// The SMTP form, without brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local_part) {
            return write!(f, "{}@{}", self.local_part, self.domain);
        }
        let escaped = self.local_part.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"@{}", self.domain)
    }
}

/// Local-part, the octets that it took, and the text after the `@`.
type LocalPart<'a> = (String, usize, &'a str);

fn split_dot_string(text: &str) -> Result<LocalPart<'_>, AddressError> {
    let (local_part, domain) = text.split_once('@').ok_or(AddressError::NoDomain)?;
    if !is_dot_string(local_part) {
        return Err(AddressError::LocalPart);
    }
    Ok((local_part.to_owned(), local_part.len(), domain))
}

/// RFC 5321 §4.1.2: `Dot-string = Atom *("." Atom)`; UTF-8 counts as atext by RFC 6531 §3.3.
fn is_dot_string(text: &str) -> bool {
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

pub(super) fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(character)
        || is_utf8_text(character)
}

/// UTF8-non-ascii without the C1 controls, which RFC 6531 lets through.
fn is_utf8_text(character: char) -> bool {
    !character.is_ascii() && !character.is_control()
}

/// RFC 5321 §4.1.2: `Quoted-string = DQUOTE *QcontentSMTP DQUOTE`.
fn split_quoted(text: &str) -> Result<LocalPart<'_>, AddressError> {
    let mut local_part = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let written_octets = at + 1;
                let rest = &text[written_octets..];
                let domain = rest.strip_prefix('@').ok_or(match rest {
                    "" => AddressError::NoDomain,
                    _ => AddressError::LocalPart,
                })?;
                return Ok((local_part, written_octets, domain));
            }
            // quoted-pairSMTP: only printable ASCII may be escaped.
            '\\' => match characters.next() {
                Some((_, escaped @ ' '..='~')) => local_part.push(escaped),
                _ => return Err(AddressError::LocalPart),
            },
            ' '..='~' => local_part.push(character),
            _ if is_utf8_text(character) => local_part.push(character),
            _ => return Err(AddressError::LocalPart),
        }
    }
    Err(AddressError::LocalPart)
}

/// The argument of MAIL (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nobody wants to hear of a failure.
    Null,
    /// `<local-part@domain>`.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// A path with its brackets. A source route is dropped (RFC 5321 §4.1.1.3, appendix C).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match inside_brackets(text)? {
            "" => Ok(Self::Null),
            inside => Mailbox::parse(without_route(inside)?).map(Self::Mailbox),
        }
    }

    /// The mailbox, if it is not null.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// [`Mailbox::address`], or nothing.
    pub fn address(&self) -> String {
        self.mailbox().map_or(String::new(), Mailbox::address)
    }

    /// See [`Mailbox::needs_smtputf8`].
    pub fn needs_smtputf8(&self) -> bool {
        self.mailbox().is_some_and(Mailbox::needs_smtputf8)
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// The argument of RCPT (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in any case (RFC 5321 §4.5.1). The word as written.
    Postmaster(String),
    /// `<local-part@domain>`.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// A path with its brackets. A source route is dropped (RFC 5321 §4.1.1.3, appendix C).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match inside_brackets(text)? {
            "" => Err(AddressError::Null),
            word if word.eq_ignore_ascii_case("postmaster") => {
                Ok(Self::Postmaster(word.to_owned()))
            }
            inside => Mailbox::parse(without_route(inside)?).map(Self::Mailbox),
        }
    }

    /// The mailbox, if it has a domain.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Postmaster(_) => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }

    /// [`Mailbox::address`], or the word.
    pub fn address(&self) -> String {
        match self {
            Self::Postmaster(word) => word.clone(),
            Self::Mailbox(mailbox) => mailbox.address(),
        }
    }

    /// See [`Mailbox::needs_smtputf8`].
    pub fn needs_smtputf8(&self) -> bool {
        self.mailbox().is_some_and(Mailbox::needs_smtputf8)
    }
}

impl PartialEq for ForwardPath {
    fn eq(&self, other: &Self) -> bool {
        self.mailbox() == other.mailbox()
    }
}

impl Eq for ForwardPath {}

impl Hash for ForwardPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mailbox().hash(state);
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster(word) => write!(f, "<{word}>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

fn inside_brackets(text: &str) -> Result<&str, AddressError> {
    if text.len() > PATH_OCTETS_MAX {
        return Err(AddressError::PathTooLong);
    }
    text.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .ok_or(AddressError::Brackets)
}

/// Drops `@a,@b:`. RFC 5321 §4.1.2: `A-d-l = At-domain *("," At-domain)`, `At-domain = "@" Domain`.
fn without_route(inside: &str) -> Result<&str, AddressError> {
    if !inside.starts_with('@') {
        return Ok(inside);
    }
    let (route, mailbox) = inside.split_once(':').ok_or(AddressError::SourceRoute)?;
    for stop in route.split(',') {
        let domain = stop.strip_prefix('@').ok_or(AddressError::SourceRoute)?;
        DomainName::parse(domain).map_err(|_| AddressError::SourceRoute)?;
    }
    Ok(mailbox)
}
