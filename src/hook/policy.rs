//! `reject` and `reject_type` in the form that most of qpsmtpd's plugins share, for those plugins' settings.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::ruling::{Change, Denial, Ruling, Severity, Then};

/// How the evidence begins where a plugin found a refusal justified, and was told not to refuse.
pub const TOLERATED: &str = "tolerated: ";

/// `reject 1` refuses, `reject 0` only notes, `reject naughty` remembers the client for the naughty plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reject {
    /// Refuse.
    #[default]
    Refuse,
    /// Note it in the record.
    Tolerate,
    /// Remember the client as naughty.
    Naughty,
}

impl<'de> Deserialize<'de> for Reject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Reject;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("0, 1 or \"naughty\"")
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Reject, E> {
                Ok(if on { Reject::Refuse } else { Reject::Tolerate })
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Reject, E> {
                self.visit_bool(number != 0)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Reject, E> {
                self.visit_bool(number != 0)
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Reject, E> {
                match word {
                    "0" | "no" | "false" => Ok(Reject::Tolerate),
                    "1" | "yes" | "true" => Ok(Reject::Refuse),
                    "naughty" => Ok(Reject::Naughty),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// How a refusal is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectType {
    /// 5yz.
    #[default]
    #[serde(alias = "hard")]
    Perm,
    /// 4yz.
    #[serde(alias = "soft")]
    Temp,
    /// 5yz, and the connection is closed.
    Disconnect,
    /// 421, and the connection is closed.
    TempDisconnect,
}

impl RejectType {
    /// A denial of this type.
    pub fn denial(self, text: impl Into<String>) -> Denial {
        let (severity, then) = match self {
            Self::Perm => (Severity::Permanent, Then::Continue),
            Self::Temp => (Severity::Transient, Then::Continue),
            Self::Disconnect => (Severity::Permanent, Then::Disconnect),
            Self::TempDisconnect => (Severity::Transient, Then::Disconnect),
        };
        Denial { severity, text: text.into(), enhanced: None, then }
    }
}

impl Reject {
    /// The ruling that follows when a plugin found this denial justified.
    pub fn rule(self, denial: Denial) -> Ruling {
        match self {
            Self::Refuse => Ruling::deny(denial),
            Self::Tolerate => Ruling::decline().because(format!("{TOLERATED}{}", denial.text)),
            Self::Naughty => {
                let note = format!("naughty: {}", denial.text);
                Ruling::decline().change(Change::MarkNaughty(denial)).because(note)
            }
        }
    }
}
