//! xtext and ORCPT (RFC 3461 §4, internationalized RFC 6533 §3): text coded so that it can stand in a parameter's value.
//!
//! In: values as written. Out: what they mean, and back, for a backend that passes them on.

use std::fmt::{self, Write as _};

use super::address::is_atext;

/// Octets of ORCPT in xtext with its type (RFC 3461 §4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;

/// ORCPT: the recipient that the sender named first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Orcpt {
    /// The address's kind, as written: mostly `rfc822`, or `utf-8` (RFC 6533).
    pub addr_type: String,
    /// The address, decoded. No control characters; ASCII unless the type is `utf-8`.
    pub address: String,
}

impl Orcpt {
    /// RFC 3461 §4.2: `addr-type ";" xtext`.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (addr_type, encoded) = value.split_once(';')?;
        let is_atom = !addr_type.is_empty() && addr_type.is_ascii() && addr_type.chars().all(is_atext);
        let decoded = from_xtext(encoded)?;
        let address = if Self::is_utf8(addr_type) {
            from_unitext(&decoded).filter(|address| !address.contains(char::is_control))?
        } else {
            Some(decoded).filter(|address| is_printable_ascii(address))?
        };
        (is_atom && !address.is_empty()).then(|| Self { addr_type: addr_type.to_owned(), address })
    }

    fn is_utf8(addr_type: &str) -> bool {
        addr_type.eq_ignore_ascii_case("utf-8")
    }
}

impl fmt::Display for Orcpt {
    /// As a parameter's value, encoded, in ASCII.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.addr_type)?;
        if !Self::is_utf8(&self.addr_type) {
            return f.write_str(&xtext(&self.address));
        }
        for character in self.address.chars() {
            // RFC 6533 §3: utf-8-addr-xtext.
            if character.is_ascii_graphic() && !matches!(character, '+' | '=' | '\\') {
                f.write_char(character)?;
            } else {
                write!(f, "\\x{{{:X}}}", character as u32)?;
            }
        }
        Ok(())
    }
}

/// Encodes by RFC 3461 §4: `+` and two hexadecimal digits for what may not stand in a parameter's value.
pub fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            _ => out.push_str(&format!("+{octet:02X}")),
        }
    }
    out
}

/// Decodes xtext. Digits may be in either case, although RFC 3461 writes capitals. What is not ASCII stays (RFC 6533).
pub(super) fn from_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet == b'+' {
            let high = char::from(octets.next()?).to_digit(16)?;
            let low = char::from(octets.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(octet);
        }
    }
    String::from_utf8(out).ok()
}

/// Decodes `\x{...}` (RFC 6533 §3: EmbeddedUnicodeChar).
fn from_unitext(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        let (digits, further) = after.strip_prefix("x{")?.split_once('}')?;
        if !(2..=6).contains(&digits.len()) || !digits.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        out.push_str(before);
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = further;
    }
    out.push_str(rest);
    Some(out)
}

pub(super) fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_xtext() {
        let table = [
            ("", Some("")),
            ("abc", Some("abc")),
            ("+2B+3D+20", Some("+= ")),
            ("a+2bb", Some("a+b")),
            ("+", None),
            ("+2", None),
            ("+2G", None),
            ("++2B", None),
            ("+-1", None),
            ("+C3+A4", Some("ä")),
            ("+C3", None),
            ("+ä", None),
        ];
        for (text, wanted) in table {
            assert_eq!(from_xtext(text).as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn reads_orcpt() {
        let table = [
            ("", None),
            ("rfc822", None),
            ("rfc822;", None),
            (";a@b", None),
            ("rfc822;a@b", Some(("rfc822", "a@b"))),
            ("RFC822;a+2Bc@b", Some(("RFC822", "a+c@b"))),
            ("x400;C=;a", Some(("x400", "C=;a"))),
            ("rfc 822;a", None),
            ("rf\u{e4};a", None),
            ("rfc822;a+00b", None),
            ("rfc822;a+0D+0Ab", None),
            ("rfc822;a+7F", None),
            ("rfc822;a+", None),
            ("rfc822;+C3+A4@b", None),
            ("rfc822;ä@b", None),
            // RFC 6533: raw, embedded, or both.
            ("utf-8;ä@b", Some(("utf-8", "ä@b"))),
            ("UTF-8;\\x{E4}\\x{2B}@b", Some(("UTF-8", "ä+@b"))),
            ("utf-8;a\\x{10FFFF}", Some(("utf-8", "a\u{10ffff}"))),
            ("utf-8;a\\x{110000}", None),
            ("utf-8;a\\x{D800}", None),
            ("utf-8;a\\x{0A}", None),
            ("utf-8;a\\x{85}", None),
            ("utf-8;a\\x{}", None),
            ("utf-8;a\\x{+41}", None),
            ("utf-8;a\\x{41", None),
            ("utf-8;a\\", None),
        ];
        for (value, wanted) in table {
            let orcpt = Orcpt::parse(value);
            let got = orcpt.as_ref().map(|orcpt| (orcpt.addr_type.as_str(), orcpt.address.as_str()));
            assert_eq!(got, wanted, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn comes_back(text: String) {
            prop_assert_eq!(from_xtext(&xtext(&text)), Some(text));
        }

        #[test]
        fn orcpt_comes_back(utf8: bool, address in "\\PC{1,20}") {
            let addr_type = if utf8 { "utf-8" } else { "rfc822" }.to_owned();
            let orcpt = Orcpt { addr_type, address };
            let written = orcpt.to_string();
            prop_assert!(written.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='));
            let wanted = (utf8 || orcpt.address.is_ascii()).then_some(orcpt);
            prop_assert_eq!(Orcpt::parse(&written), wanted);
        }

        #[test]
        fn takes_any_text(value: String) {
            let _ = Orcpt::parse(&value);
            let _ = Orcpt::parse(&format!("utf-8;{value}"));
        }
    }
}
