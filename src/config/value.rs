//! Words and TOML values -> what a struct's field asks for.
//!
//! A word from a plugin's line is text; whether `1` means a number, a truth or a name is the field's to say. So this is a
//! serde deserializer that looks at what is asked for. TOML values go the same way: `reject = 1` and `reject = true` fill the
//! same field, as `reject 1` does on the line. Where nothing is asked for (untagged enums, `flatten`), a word stays text.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};

use super::error::{Fault, Origin};
use super::misfit::{Misfit, unknown};
use super::nearest::nearest;

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    /// A word of a line, or a TOML string or date.
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
    List(Vec<Given>),
    Table(Vec<Member>),
}

impl Given {
    /// Removes the member of that key from a table. Tells whether there was one.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Self::Table(members) = self else {
            return false;
        };
        let before = members.len();
        members.retain(|member| member.key != key);
        members.len() < before
    }
}

/// A key and its value, and where they stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) value: Given,
    pub(super) origin: Origin,
}

/// Whether two keys are the same: `defer-reject` and `defer_reject` are.
pub(super) fn same_key(a: &str, b: &str) -> bool {
    super::chain_file::same_name(a, b)
}

/// One value, to be read as whatever is asked for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a>(pub(super) &'a Given);

impl<'a> Source<'a> {
    /// The value as text, if it is a single one.
    fn text(self, expected: &str) -> Result<Cow<'a, str>, Misfit> {
        match self.0 {
            Given::Text(text) => Ok(Cow::Borrowed(text)),
            Given::Bool(truth) => Ok(Cow::Owned(truth.to_string())),
            Given::Integer(number) => Ok(Cow::Owned(number.to_string())),
            Given::Float(number) => Ok(Cow::Owned(number.to_string())),
            Given::List(_) => Err(Misfit::new(Fault::Other(format!("this is a list, and not {expected}")))),
            Given::Table(_) => Err(Misfit::new(Fault::Other(format!("this is a table, and not {expected}")))),
        }
    }

    fn number<T: TryFrom<i128>>(self, least: impl fmt::Display, most: impl fmt::Display) -> Result<T, Misfit> {
        const EXPECTED: &str = "a whole number";
        let text = self.text(EXPECTED)?;
        let number: i128 = text.parse().map_err(|_| Misfit::new(Fault::bad_value(text.as_ref(), EXPECTED)))?;
        T::try_from(number).map_err(|_| {
            // The other bound is far away, and only says how wide the field is.
            let bound = if number < 0 { format!("at least {least}") } else { format!("at most {most}") };
            Misfit::new(Fault::bad_value(text.as_ref(), format!("{EXPECTED} of {bound}")))
        })
    }

    fn float(self) -> Result<f64, Misfit> {
        const EXPECTED: &str = "a number";
        let text = self.text(EXPECTED)?;
        match text.parse::<f64>() {
            // A threshold of NaN would hold nothing.
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(Misfit::new(Fault::bad_value(text.as_ref(), EXPECTED))),
        }
    }

    fn truth(self) -> Result<bool, Misfit> {
        const EXPECTED: &str = "yes or no (1 or 0, true or false, on or off)";
        let text = self.text(EXPECTED)?;
        truth(&text).ok_or_else(|| Misfit::new(Fault::bad_value(text.as_ref(), EXPECTED)))
    }
}

/// `1 yes true on` and `0 no false off`, in any case.
pub(super) fn truth(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["1", "yes", "true", "on"]) {
        Some(true)
    } else if is_one_of(["0", "no", "false", "off"]) {
        Some(false)
    } else {
        None
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            visitor.$visit(self.number::<$type>($type::MIN, $type::MAX)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Given::Text(text) => visitor.visit_str(text),
            Given::Bool(truth) => visitor.visit_bool(*truth),
            Given::Integer(number) => visitor.visit_i64(*number),
            Given::Float(number) => visitor.visit_f64(*number),
            Given::List(_) => self.deserialize_seq(visitor),
            Given::Table(_) => self.deserialize_map(visitor),
        }
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8      deserialize_u8 visit_u8 u8
        deserialize_i16 visit_i16 i16   deserialize_u16 visit_u16 u16
        deserialize_i32 visit_i32 i32   deserialize_u32 visit_u32 u32
        deserialize_i64 visit_i64 i64   deserialize_u64 visit_u64 u64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_bool(self.truth()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(&self.text("a word")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        const EXPECTED: &str = "one character";
        let text = self.text(EXPECTED)?;
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => visitor.visit_char(letter),
            _ => Err(Misfit::new(Fault::bad_value(text.as_ref(), EXPECTED))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let expected = || format!("one of {}", variants.join(", "));
        let text = self.text("a word")?;
        let same = |variant: &&&str| same_key(&variant.to_ascii_lowercase(), &text.to_ascii_lowercase());
        let Some(variant) = variants.iter().find(same) else {
            let nearest = nearest(&text, variants.iter().copied()).map(str::to_owned);
            return Err(Misfit::new(Fault::BadValue { text: text.into_owned(), expected: expected(), nearest }));
        };
        let variant: StrDeserializer<'_, Misfit> = (*variant).into_deserializer();
        visitor.visit_enum(variant)
    }

    /// A list, or a word with commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let mut items = Vec::new();
        match self.0 {
            Given::List(list) => items.extend(list.iter().map(Cow::Borrowed)),
            Given::Table(_) => return Err(Misfit::new("this is a table, and not a list".into())),
            _ => {
                let text = self.text("a list")?;
                let parts = text.split(',').map(str::trim_ascii).filter(|part| !part.is_empty());
                items.extend(parts.map(|part| Cow::Owned(Given::Text(part.to_owned()))));
            }
        }
        let mut items = SeqDeserializer::new(items.iter().map(|item| Source(item)));
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    /// A table whose keys are data (domains, say): they keep their spelling.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_map(Members { members: self.members()?.iter(), known: None, current: None })
    }

    /// A table whose keys are settings. Refuses unknown ones, even if the struct does not.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let members = self.members()?;
        if let Some(member) = members.iter().find(|member| known_as(known, &member.key).is_none()) {
            return Err(Misfit::new(unknown(&member.key, known)).in_member(member));
        }
        visitor.visit_map(Members { members: members.iter(), known: Some(known), current: None })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Given::Table(members) if members.is_empty() => visitor.visit_unit(),
            _ => self.deserialize_struct("", &[], visitor),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf identifier }
}

impl<'a> Source<'a> {
    fn members(self) -> Result<&'a [Member], Misfit> {
        match self.0 {
            Given::Table(members) => Ok(members),
            other => Err(Misfit::new(Fault::bad_value(
                Source(other).text("a table of settings").unwrap_or("a list".into()),
                "a table of settings",
            ))),
        }
    }
}

impl<'de> IntoDeserializer<'de, Misfit> for Source<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The struct's own spelling of a key.
fn known_as(known: &'static [&'static str], key: &str) -> Option<&'static str> {
    known.iter().copied().find(|name| same_key(name, key))
}

/// Walks a table for serde.
struct Members<'a> {
    members: std::slice::Iter<'a, Member>,
    /// The keys of the struct that is being filled, if it is one.
    known: Option<&'static [&'static str]>,
    current: Option<&'a Member>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        self.current = self.members.next();
        let Some(member) = self.current else {
            return Ok(None);
        };
        let key = self.known.and_then(|known| known_as(known, &member.key)).unwrap_or(&member.key);
        let key: StrDeserializer<'_, Misfit> = key.into_deserializer();
        seed.deserialize(key).map(Some).map_err(|misfit| misfit.in_member(member))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        // serde asks for a value only after its key.
        let member = self.current.ok_or_else(|| Misfit::new("a value without a key".into()))?;
        seed.deserialize(Source(&member.value)).map_err(|misfit| misfit.in_member(member))
    }
}
