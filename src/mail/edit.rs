//! What may be changed in a message: whole fields, and text after the body.
//!
//! In: an edit that a plugin asked for by name. Out: the header's octets with that one change, all others as they
//! were. Values are checked here, so that nothing a plugin copies from outside can begin a field of its own.

use std::ops::Range;

use super::header::{Header, HeaderError, LINE_OCTETS_MAX, is_ftext};

/// One change of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A field on top of all others.
    PrependField {
        /// RFC 5322 §3.6.8.
        name: String,
        /// Without the line end; may hold folding (CRLF and a blank).
        value: String,
    },
    /// A field after all others.
    AppendField {
        /// RFC 5322 §3.6.8.
        name: String,
        /// As in `PrependField`.
        value: String,
    },
    /// Drops a field, with its continuation lines.
    RemoveField {
        /// In any case.
        name: String,
        /// Which of the fields of this name, counted from 0 from the top; none: all of them, if any.
        nth: Option<usize>,
    },
    /// Gives a field another value; its name stays as it is spelt there.
    ReplaceField {
        /// In any case.
        name: String,
        /// Which of the fields of this name, counted from 0 from the top.
        nth: usize,
        /// As in `PrependField`.
        value: String,
    },
    /// Text after the body, if the body can take it; see `append.rs`. Its lines end in LF or CRLF.
    AppendText(String),
}

/// Why an edit was not made. The message is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The name is none of RFC 5322 §3.6.8.
    #[error("{0:?} is no field name")]
    Name(String),
    /// The value or text holds what it must not.
    #[error("{name}: the value holds {what}")]
    Value {
        /// The field, or `text`.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No such field is there.
    #[error("there is no field {name} number {nth}")]
    Missing {
        /// The field.
        name: String,
        /// Counted from 0.
        nth: usize,
    },
    /// The text cannot be appended to this message without harm.
    #[error("text is not appended: {0}")]
    Declined(&'static str),
    /// The header cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// A whole field, CRLF at its end. A line of over 998 octets is folded at a blank (RFC 5322 §2.1.1).
///
/// Non-ASCII text is passed on: whether the message may carry it (RFC 6532) is for who asks for the edit.
pub fn field(name: &str, value: &str) -> Result<String, EditError> {
    if name.is_empty() || !name.bytes().all(is_ftext) {
        return Err(EditError::Name(name.chars().take(80).collect()));
    }
    let wrong = |what| EditError::Value { name: name.to_owned(), what };
    let mut text = String::with_capacity(name.len() + value.len() + 4);
    for (number, line) in value.split("\r\n").enumerate() {
        if line.contains(['\r', '\n', '\0']) {
            return Err(wrong("a line end or a NUL"));
        }
        let line = line.trim_end_matches([' ', '\t']);
        let blank = line.starts_with([' ', '\t']);
        match number {
            0 if blank || line.is_empty() => fold(&format!("{name}:{line}"), &mut text),
            0 => fold(&format!("{name}: {line}"), &mut text),
            _ if blank => fold(line, &mut text),
            _ => return Err(wrong("a line end or a NUL")),
        }
        .ok_or_else(|| wrong("a word that is longer than a line"))?;
    }
    Ok(text)
}

/// Writes one line, in as many as it needs. None: there is no blank to fold at.
fn fold(line: &str, out: &mut String) -> Option<()> {
    let mut rest = line;
    while rest.len() > LINE_OCTETS_MAX {
        // A line of blanks alone would not be folding, so something must stand before the blank.
        let word = rest.find(|character| !matches!(character, ' ' | '\t'))?;
        let fold = rest.as_bytes()[..=LINE_OCTETS_MAX].iter().rposition(|octet| matches!(octet, b' ' | b'\t'))?;
        if fold <= word {
            return None;
        }
        out.push_str(&rest[..fold]);
        out.push_str("\r\n");
        rest = &rest[fold..];
    }
    out.push_str(rest);
    out.push_str("\r\n");
    Some(())
}

pub(super) fn with_field_at_end(header: &Header, field: &str) -> Vec<u8> {
    let mut octets = header.octets().to_vec();
    end_line(&mut octets);
    octets.extend_from_slice(field.as_bytes());
    octets
}

/// Ends the last line, which the sender may have left open (BDAT need not end in CRLF).
pub(super) fn end_line(octets: &mut Vec<u8>) {
    if octets.last().is_some_and(|&last| last != b'\n') {
        octets.extend_from_slice(b"\r\n");
    }
}

pub(super) fn without_field(header: &Header, name: &str, nth: Option<usize>) -> Result<Vec<u8>, EditError> {
    let drop: Vec<Range<usize>> = match nth {
        None => header.places(name).collect(),
        Some(nth) => vec![place(header, name, nth)?],
    };
    let mut octets = Vec::with_capacity(header.octets().len());
    let mut start = 0;
    for range in drop {
        octets.extend_from_slice(&header.octets()[start..range.start]);
        start = range.end;
    }
    octets.extend_from_slice(&header.octets()[start..]);
    Ok(octets)
}

pub(super) fn with_value(header: &Header, name: &str, nth: usize, value: &str) -> Result<Vec<u8>, EditError> {
    let whole = place(header, name, nth)?;
    let spelt = String::from_utf8_lossy(&header.octets()[whole.start..whole.start + name.len()]);
    let field = field(&spelt, value)?;
    let (before, after) = (&header.octets()[..whole.start], &header.octets()[whole.end..]);
    Ok([before, field.as_bytes(), after].concat())
}

fn place(header: &Header, name: &str, nth: usize) -> Result<Range<usize>, EditError> {
    header.places(name).nth(nth).ok_or_else(|| EditError::Missing { name: name.to_owned(), nth })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::header::unfolded;

    #[test]
    fn fields() {
        for (name, value, expected) in [
            ("X", "", Some("X:\r\n")),
            ("X-Y", "a b", Some("X-Y: a b\r\n")),
            ("X", " a", Some("X: a\r\n")),
            ("X", "\ta  ", Some("X:\ta\r\n")),
            ("X", "a\r\n b\r\n\tc", Some("X: a\r\n b\r\n\tc\r\n")),
            ("X", "\r\n b", Some("X:\r\n b\r\n")),
            ("X", "gr\u{fc}n", Some("X: gr\u{fc}n\r\n")),
            ("X", "a\r\nb", None),
            ("X", "a\r\nEvil: b", None),
            ("X", "a\nb", None),
            ("X", "a\n b", None),
            ("X", "a\r b", None),
            ("X", "a\0", None),
            ("X", "a\r\n", None),
            ("X", "a\r\n\r\n b", None),
            // Folding of blanks alone looks like the end of the header to some readers.
            ("X", "a\r\n \r\n b", None),
            ("X", "a\r\n ", None),
            ("", "a", None),
            ("X:", "a", None),
            ("X Y", "a", None),
            ("X\r\nY", "a", None),
            ("\u{dc}", "a", None),
        ] {
            assert_eq!(field(name, value).ok().as_deref(), expected, "{name:?} {value:?}");
        }
    }

    #[test]
    fn long_lines_are_folded_at_a_blank() {
        let word = "w".repeat(LINE_OCTETS_MAX - 3);
        // `X: ` and the word are just a line; one octet more is none.
        assert_eq!(field("X", &word).unwrap().len(), LINE_OCTETS_MAX + 2);
        assert_eq!(field("X", &format!("{word}ww")).unwrap(), format!("X:\r\n {word}ww\r\n"));
        assert!(matches!(field("X", &format!("{word}www")), Err(EditError::Value { .. })));
        assert_eq!(field("X", &format!("{word} b")).unwrap(), format!("X: {word}\r\n b\r\n"));
        assert_eq!(field("X", &format!("a {word}")).unwrap(), format!("X: a\r\n {word}\r\n"));
        // Blanks alone are no line.
        let blanks = " ".repeat(LINE_OCTETS_MAX + 1);
        assert!(field("X", &format!("a\r\n{blanks}b")).is_err());
        assert_eq!(field("X", &format!("a{blanks}")).unwrap(), "X: a\r\n");
    }

    proptest! {
        #[test]
        fn a_field_is_one_field(name in "[!-9;-~]{1,5}", value in "[ab \r\n\t:\\x00\u{e4}]{0,12}", times in 1usize..200) {
            let value = value.repeat(times);
            if let Ok(text) = field(&name, &value) {
                let header = Header::new(text.clone().into_bytes());
                prop_assert_eq!(header.entries().count(), 1);
                prop_assert_eq!(header.count(&name), 1);
                prop_assert!(text.ends_with("\r\n"));
                prop_assert!(text.split("\r\n").all(|line| line.len() <= LINE_OCTETS_MAX));
                // The words are those of the value.
                let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
                let read = unfolded(header.get(&name).next().unwrap());
                prop_assert_eq!(words(&read), words(&value));
            } else {
                let flat = value.len() <= 900 && !value.contains(['\r', '\n', '\0']);
                prop_assert!(!flat);
            }
        }
    }
}
