//! Why a setting does not fit its field: what serde says on the way, with keys and places added.

use std::fmt;

use serde::de;

use super::error::{ConfigError, Fault, Origin};
use super::nearest::nearest;
use super::value::Member;

/// Why a value does not fit. The place is added on the way up, by the innermost that knows it.
#[derive(Debug)]
pub(super) struct Misfit {
    fault: Box<Fault>,
    origin: Option<Origin>,
    /// Keys that lead to it, innermost first.
    keys: Vec<String>,
    /// A field of the struct was left out.
    pub(super) missing: bool,
}

impl Misfit {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault: Box::new(fault), origin: None, keys: Vec::new(), missing: false }
    }

    /// The same, in this member.
    pub(super) fn in_member(mut self, member: &Member) -> Self {
        self.origin.get_or_insert_with(|| member.origin.clone());
        self.keys.push(member.key.clone());
        self
    }

    /// The outermost key that leads to it.
    pub(super) fn outermost(&self) -> Option<&str> {
        self.keys.last().map(String::as_str)
    }

    pub(super) fn into_error(self, plugin: &str, otherwise: &Origin) -> ConfigError {
        // The text of this fault names the innermost key itself.
        let named = usize::from(matches!(*self.fault, Fault::UnknownSetting { .. }));
        let keys: Vec<String> = self.keys.into_iter().skip(named).rev().collect();
        let error = self.origin.as_ref().unwrap_or(otherwise).error(*self.fault).of_plugin(plugin);
        if keys.is_empty() { error } else { error.of_key(&keys.join(".")) }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Fault::Other(text.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Bool(yes) => yes.to_string(),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(number) => number.to_string(),
            de::Unexpected::Str(text) => text.to_owned(),
            other => return Self::custom(format!("this is {other}, and not {}", plain(&expected.to_string()))),
        };
        Self::new(Fault::bad_value(&found, plain(&expected.to_string())))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: true, ..Self::new(Fault::NoSetting(field.to_owned())) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Fault::Other(format!("the setting {field:?} is given under two names")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(unknown(field, expected))
    }
}

/// What serde expects, in words for those who do not write Rust.
fn plain(expected: &str) -> &str {
    let is_number = |name: &str| name.starts_with(['u', 'i']) && name[1..].bytes().all(|octet| octet.is_ascii_digit());
    match expected.strip_prefix("a nonzero ") {
        Some(name) if name.starts_with('i') => "a whole number other than 0",
        Some(_) => "a whole number of at least 1",
        None if expected.len() > 1 && is_number(expected) => "a whole number",
        None => expected,
    }
}

pub(super) fn unknown(key: &str, known: &'static [&'static str]) -> Fault {
    let nearest = nearest(key, known.iter().copied()).map(str::to_owned);
    Fault::UnknownSetting { key: key.to_owned(), nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_is_rust() {
        let rows = [
            ("a nonzero u32", "a whole number of at least 1"),
            ("a nonzero i8", "a whole number other than 0"),
            ("u16", "a whole number"),
            ("i128", "a whole number"),
            ("i", "i"),
            ("u", "u"),
            ("", ""),
            ("utmost", "utmost"),
            ("0, 1 or \"naughty\"", "0, 1 or \"naughty\""),
        ];
        for (expected, words) in rows {
            assert_eq!(plain(expected), words, "{expected}");
        }
    }
}
