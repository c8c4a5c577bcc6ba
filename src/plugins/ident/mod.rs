//! Plugins that find out about a client what it does not say itself, and note it in the session and in the message.

pub mod geoip;
#[cfg(test)]
mod mmdb;
pub mod p0f;

use crate::hook::{Answer, Change, Content, Ruling, Trouble};
use crate::mail::Edit;

/// Header fields of ours: what others wrote under these names is taken out, and what we know comes on top.
fn note_in_header(at: &Content<'_>, fields: &[(&str, Option<String>)]) -> Answer {
    let header = at.message.header().map_err(|error| Trouble::new(error.to_string()))?;
    let mut ruling = Ruling::decline();
    for (name, _) in fields.iter().filter(|(name, _)| header.count(name) > 0) {
        let remove = Edit::RemoveField { name: (*name).to_owned(), nth: None };
        ruling = ruling.change(Change::Edit(remove)).because(format!("{name} of others removed"));
    }
    // The last to be put on top stands first.
    for (name, value) in fields.iter().rev() {
        if let Some(value) = value {
            let field = Edit::PrependField { name: (*name).to_owned(), value: in_header(value) };
            ruling = ruling.change(Change::Edit(field));
        }
    }
    Ok(ruling)
}

/// A value that any message may carry: what is not ASCII as an encoded word (RFC 2047), for the client may not have said
/// SMTPUTF8.
fn in_header(value: &str) -> String {
    /// RFC 2047 §2: 75 octets, less `=?utf-8?q?` and `?=`.
    const ENCODED_OCTETS_MAX: usize = 63;
    if value.is_ascii() {
        return value.to_owned();
    }
    let mut encoded = String::new();
    for character in value.chars() {
        let mut octets = [0; 4];
        let word: String = match character {
            ' ' => "_".to_owned(),
            'A'..='Z' | 'a'..='z' | '0'..='9' => character.to_string(),
            _ => character.encode_utf8(&mut octets).bytes().map(|octet| format!("={octet:02X}")).collect(),
        };
        if encoded.len() + word.len() > ENCODED_OCTETS_MAX {
            break;
        }
        encoded.push_str(&word);
    }
    format!("=?utf-8?q?{encoded}?=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_encoded_and_never_too_long() {
        let table = [
            ("", ""),
            ("New York", "New York"),
            ("Köln", "=?utf-8?q?K=C3=B6ln?="),
            ("ö_ x", "=?utf-8?q?=C3=B6=5F_x?="),
        ];
        for (value, expected) in table {
            assert_eq!(in_header(value), expected);
        }
        assert!(in_header(&"ö".repeat(99)).len() <= 75);
    }
}
