//! Paths and mailboxes (RFC 5321 §4.1.2, with UTF-8 by RFC 6531). Their domains are read by domain.rs.
//!
//! In: text, the whole of which must fit the grammar: whoever puts an address into a file name, a pattern or another
//! protocol relies on that. Out: parts, with the local-part unquoted. Who may send from or to them is the plugins' matter.

use std::fmt;
use std::hash::{Hash, Hasher};

pub use super::domain::{DOMAIN_OCTETS_MAX, Domain, DomainLiteral, DomainName};

/// Octets of a local-part as written: what the path's limit leaves beside `<`, `@d` and `>`. RFC 5321 §4.5.3.1.1 names 64 as the
/// least that everybody must take; longer ones are common (VERP, SRS, confirmations of mailing lists).
pub const LOCAL_PART_OCTETS_MAX: usize = 252;
/// Octets of a path with its brackets and source route (RFC 5321 §4.5.3.1.3).
pub const PATH_OCTETS_MAX: usize = 256;

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

/// `local-part@domain`. Two are equal if their local-parts are, octet for octet, and their domains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local_part: String,
    domain: Domain,
}

impl Mailbox {
    /// A mailbox in its SMTP form, the local-part quoted where needed, without brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local_part, written_octets, domain) =
            if text.starts_with('"') { split_quoted(text)? } else { split_dot_string(text)? };
        if written_octets > LOCAL_PART_OCTETS_MAX {
            return Err(AddressError::LocalPartTooLong);
        }
        let domain = Domain::parse(domain)?;
        if text.len() > PATH_OCTETS_MAX - "<>".len() {
            return Err(AddressError::PathTooLong);
        }
        Ok(Self { local_part, domain })
    }

    /// A mailbox from its parts, the local-part unquoted.
    pub fn from_parts(local_part: &str, domain: &str) -> Result<Self, AddressError> {
        let quoted: String = local_part
            .chars()
            .flat_map(|letter| (letter == '"' || letter == '\\').then_some('\\').into_iter().chain([letter]))
            .collect();
        Self::parse(&format!("\"{quoted}\"@{domain}"))
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
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

pub(super) fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(character) || is_utf8_text(character)
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
            word if word.eq_ignore_ascii_case("postmaster") => Ok(Self::Postmaster(word.to_owned())),
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
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).ok_or(AddressError::Brackets)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::domain::DomainName;
    use proptest::prelude::*;

    /// A domain of just so many octets.
    fn domain_of(octets: usize) -> String {
        let label = "d".repeat(60);
        let mut domain = vec![label; 5].join(".");
        domain.truncate(octets);
        assert!(domain.len() == octets && !domain.ends_with('.'));
        domain
    }

    #[test]
    fn reads_mailboxes() {
        use AddressError as E;
        // Text, then local-part unquoted and the SMTP form.
        type Row = (&'static str, Result<(&'static str, &'static str), AddressError>);
        let table: &[Row] = &[
            ("", Err(E::NoDomain)),
            ("a", Err(E::NoDomain)),
            ("@", Err(E::LocalPart)),
            ("@b", Err(E::LocalPart)),
            ("a@", Err(E::Domain)),
            ("a@b", Ok(("a", "a@b"))),
            ("A.b+c=d@B.Example", Ok(("A.b+c=d", "A.b+c=d@B.Example"))),
            ("!#$%&'*+-/=?^_`{|}~@b", Ok(("!#$%&'*+-/=?^_`{|}~", "!#$%&'*+-/=?^_`{|}~@b"))),
            // What qpsmtpd let through: only the front of the local-part was looked at.
            ("a b@x", Err(E::LocalPart)),
            ("a..b@x", Err(E::LocalPart)),
            (".a@x", Err(E::LocalPart)),
            ("a.@x", Err(E::LocalPart)),
            ("a@b@x", Err(E::Domain)),
            ("a;id@x", Err(E::LocalPart)),
            ("a$(id)@x", Err(E::LocalPart)),
            ("a\tb@x", Err(E::LocalPart)),
            ("a\\@b@x", Err(E::LocalPart)),
            ("<a@b>", Err(E::LocalPart)),
            ("a(c)@x", Err(E::LocalPart)),
            ("a,b@x", Err(E::LocalPart)),
            ("a:b@x", Err(E::LocalPart)),
            ("a\0b@x", Err(E::LocalPart)),
            ("a\r\nb@x", Err(E::LocalPart)),
            ("a\u{7f}@x", Err(E::LocalPart)),
            ("a\u{85}@x", Err(E::LocalPart)),
            (" a@x", Err(E::LocalPart)),
            ("a @x", Err(E::LocalPart)),
            ("a@x ", Err(E::Domain)),
            ("a@ x", Err(E::Domain)),
            ("a@x\n", Err(E::Domain)),
            ("#@[]", Err(E::Literal)),
            // Quoted strings.
            (r#""a b"@x"#, Ok(("a b", r#""a b"@x"#))),
            (r#""a\ b"@x"#, Ok(("a b", r#""a b"@x"#))),
            (r#""a\"\\b"@x"#, Ok((r#"a"\b"#, r#""a\"\\b"@x"#))),
            (r#""a\b"@x"#, Ok(("ab", "ab@x"))),
            (r#""a@b"@x"#, Ok(("a@b", r#""a@b"@x"#))),
            (r#""a..b"@x"#, Ok(("a..b", r#""a..b"@x"#))),
            (r#"""@x"#, Ok(("", r#"""@x"#))),
            (r#"" "@x"#, Ok((" ", r#"" "@x"#))),
            (
                r#""musa_ibrah@caramail.comandrea.luger"@wifo.ac.at"#,
                Ok(("musa_ibrah@caramail.comandrea.luger", r#""musa_ibrah@caramail.comandrea.luger"@wifo.ac.at"#)),
            ),
            (r#"""#, Err(E::LocalPart)),
            (r#""a@x"#, Err(E::LocalPart)),
            (r#""a""#, Err(E::NoDomain)),
            (r#""a"b@x"#, Err(E::LocalPart)),
            (r#""a".b@x"#, Err(E::LocalPart)),
            (r#"b."a"@x"#, Err(E::LocalPart)),
            (r#""a"" b"@x"#, Err(E::LocalPart)),
            (r#""a\"@x"#, Err(E::LocalPart)),
            (r#""a\"#, Err(E::LocalPart)),
            ("\"a\tb\"@x", Err(E::LocalPart)),
            ("\"a\\\tb\"@x", Err(E::LocalPart)),
            ("\"a\\ä\"@x", Err(E::LocalPart)),
            ("\"a\r\"@x", Err(E::LocalPart)),
            ("\"a\\\0\"@x", Err(E::LocalPart)),
            ("\"a\u{9f}\"@x", Err(E::LocalPart)),
            // UTF-8.
            ("ä.用户@x", Ok(("ä.用户", "ä.用户@x"))),
            ("\"ä b\"@x", Ok(("ä b", "\"ä b\"@x"))),
            ("a@bücher.example", Ok(("a", "a@bücher.example"))),
            ("a@[192.0.2.1]", Ok(("a", "a@[192.0.2.1]"))),
            ("a@[999.0.2.1]", Err(E::Literal)),
        ];
        for (text, wanted) in table {
            let mailbox = Mailbox::parse(text);
            let got = mailbox.as_ref().map(|mailbox| (mailbox.local_part(), mailbox.to_string()));
            let wanted = wanted.as_ref().map(|(local_part, form)| (*local_part, (*form).to_owned()));
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn tells_its_forms() {
        let mailbox = Mailbox::parse(r#""a b"@Ex.Example"#).unwrap();
        assert_eq!(mailbox.address(), "a b@Ex.Example");
        assert_eq!(mailbox.domain().ascii(), "ex.example");
        assert_eq!(mailbox, Mailbox::parse(r#""a\ b"@eX.example"#).unwrap());
        assert_ne!(mailbox, Mailbox::parse(r#""A b"@ex.example"#).unwrap());
        for (text, wanted) in [("a@b", false), ("ä@b", true), ("a@ä.b", true), ("a@xn--4ca.b", false)] {
            assert_eq!(Mailbox::parse(text).unwrap().needs_smtputf8(), wanted, "{text}");
        }
    }

    #[test]
    fn keeps_the_limits() {
        use AddressError as E;
        let outcome = |result: Result<Mailbox, E>| result.err();
        for (octets, wanted) in [(251, None), (252, None), (253, Some(E::LocalPartTooLong))] {
            assert_eq!(outcome(Mailbox::parse(&format!("{}@b", "a".repeat(octets)))), wanted, "{octets}");
            // The quotes count.
            let quoted = format!("\"{}\"@b", " ".repeat(octets - 2));
            assert_eq!(outcome(Mailbox::parse(&quoted)), wanted, "{octets} quoted");
            // Octets, not characters.
            let wide = format!("{}{}@b", "ä".repeat(31), "a".repeat(octets - 62));
            assert_eq!(outcome(Mailbox::parse(&wide)), wanted, "{octets} wide");
        }
        for (octets, wanted) in [(255, None), (256, None), (257, Some(E::PathTooLong))] {
            let mailbox = format!("{}@{}", "a".repeat(20), domain_of(octets - 23));
            assert_eq!(outcome(Mailbox::parse(&mailbox)), wanted, "{octets}");
            let path = format!("<{mailbox}>");
            assert_eq!(path.len(), octets);
            assert_eq!(ForwardPath::parse(&path).err(), wanted, "{octets}");
            assert_eq!(ReversePath::parse(&path).err(), wanted, "{octets}");
            // The source route counts.
            let path = format!("<@{}:a@b>", domain_of(octets - 7));
            assert_eq!(path.len(), octets);
            assert_eq!(ForwardPath::parse(&path).err(), wanted, "{octets} with a route");
        }
    }

    #[test]
    fn reads_paths() {
        use AddressError as E;
        // Text, then what it is as a reverse-path and as a forward-path.
        type Written = Result<&'static str, AddressError>;
        let table: &[(&str, Written, Written)] = &[
            ("", Err(E::Brackets), Err(E::Brackets)),
            ("<", Err(E::Brackets), Err(E::Brackets)),
            (">", Err(E::Brackets), Err(E::Brackets)),
            ("a@b", Err(E::Brackets), Err(E::Brackets)),
            ("<a@b", Err(E::Brackets), Err(E::Brackets)),
            ("a@b>", Err(E::Brackets), Err(E::Brackets)),
            (" <a@b>", Err(E::Brackets), Err(E::Brackets)),
            ("x <a@b>", Err(E::Brackets), Err(E::Brackets)),
            ("<<a@b>>", Err(E::LocalPart), Err(E::LocalPart)),
            ("<a@b><c@d>", Err(E::Domain), Err(E::Domain)),
            ("<>", Ok("<>"), Err(E::Null)),
            ("< >", Err(E::NoDomain), Err(E::NoDomain)),
            ("<a@b>", Ok("<a@b>"), Ok("<a@b>")),
            ("<postmaster>", Err(E::NoDomain), Ok("<postmaster>")),
            ("<PostMaster>", Err(E::NoDomain), Ok("<PostMaster>")),
            ("<postmaster@>", Err(E::Domain), Err(E::Domain)),
            ("<postmasters>", Err(E::NoDomain), Err(E::NoDomain)),
            ("<\"postmaster\">", Err(E::NoDomain), Err(E::NoDomain)),
            ("<abuse>", Err(E::NoDomain), Err(E::NoDomain)),
            ("<#@[]>", Err(E::Literal), Err(E::Literal)),
            ("<@x:a@b>", Ok("<a@b>"), Ok("<a@b>")),
            ("<@x.example,@y_z:\"a:b\"@[IPv6:::1]>", Ok("<\"a:b\"@[IPv6:::1]>"), Ok("<\"a:b\"@[IPv6:::1]>")),
            ("<@x>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@x,:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@x,y:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@x, @y:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@x@y:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@-x:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@[192.0.2.1]:a@b>", Err(E::SourceRoute), Err(E::SourceRoute)),
            ("<@x:>", Err(E::NoDomain), Err(E::NoDomain)),
            ("<@x:@y:a@b>", Err(E::LocalPart), Err(E::LocalPart)),
            ("<@x:postmaster>", Err(E::NoDomain), Err(E::NoDomain)),
        ];
        for (text, reverse, forward) in table {
            let written = |path: &dyn fmt::Display| path.to_string();
            let got = ReversePath::parse(text).map(|path| written(&path));
            assert_eq!(got.as_deref(), reverse.as_ref().map(|path| *path), "reverse: {text:?}");
            let got = ForwardPath::parse(text).map(|path| written(&path));
            assert_eq!(got.as_deref(), forward.as_ref().map(|path| *path), "forward: {text:?}");
        }
    }

    #[test]
    fn compares_paths() {
        let path = |text: &str| ForwardPath::parse(text).unwrap();
        assert_eq!(path("<Postmaster>"), path("<postMASTER>"));
        assert_ne!(path("<postmaster>"), path("<postmaster@b>"));
        assert_eq!(path("<a@B>"), path("<@x:a@b>"));
        assert_ne!(path("<A@b>"), path("<a@b>"));
        assert_eq!(
            (path("<Postmaster>").address(), path("<\"a b\"@C>").address()),
            ("Postmaster".into(), "a b@C".into())
        );
        assert_eq!(ReversePath::Null.address(), "");
        assert_eq!(ReversePath::parse("<a@b>").unwrap().address(), "a@b");
    }

    proptest! {
        #[test]
        fn what_is_read_can_be_written_and_read(
            text in prop_oneof![
                any::<String>(),
                r#"[a-z.+]{1,6}@[a-zA-Z.-]{1,8}"#,
                r#""([ -~ä]|\\[ -~]){0,20}"@[a-z]{1,3}(\.[a-z]{1,3}){0,2}"#,
            ],
        ) {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                let written = mailbox.to_string();
                prop_assert!(written.len() <= text.len());
                prop_assert!(!written.contains(char::is_control));
                prop_assert_eq!(Mailbox::parse(&written), Ok(mailbox.clone()));
                let path = format!("<{written}>");
                prop_assert_eq!(ReversePath::parse(&path).map(|path| path.to_string()), Ok(path.clone()));
                // The unquoted form can be taken apart at its last `@`.
                let address = mailbox.address();
                let (local_part, domain) = address.rsplit_once('@').unwrap();
                prop_assert_eq!((local_part, domain), (mailbox.local_part(), mailbox.domain().as_written()));
            }
        }

        #[test]
        fn takes_any_text(text: String) {
            let _ = (Mailbox::parse(&text), ForwardPath::parse(&text), ReversePath::parse(&text), DomainName::parse(&text));
            let path = format!("<{text}>");
            let _ = (ForwardPath::parse(&path), ReversePath::parse(&path));
        }

        #[test]
        fn every_mailbox_of_the_grammar_is_read(
            local_part in r#"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,9}(\.[a-zé]{1,9}){0,2}|"([ !#-\[\]-~é]|\\[ -~]){0,14}""#,
            // No `--`, which may look like an A-label, and no leading zeros: these are judged by more than the grammar.
            domain in r"[A-Za-z0-9]{1,5}(-[a-z0-9]{1,4}){0,3}(\.[a-z]{1,9}){0,3}|\[(25[0-5]|1?[1-9]?[0-9])(\.[1-9][0-9]?){3}\]",
        ) {
            let text = format!("{local_part}@{domain}");
            prop_assert!(Mailbox::parse(&text).is_ok(), "{}", text);
        }
    }
}
