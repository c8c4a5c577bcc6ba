//! Lists whose lines say what becomes of somebody, in qpsmtpd's words: `hosts_allow`, `rcpt_regexp`, `rcpt_map`.
//!
//! ```text
//! WHOM  OK                    yes
//! WHOM  DECLINED              no opinion: ask the others
//! WHOM  DENY  text            no, for good
//! WHOM  DENYSOFT  text        no, for now
//! WHOM  DENY_DISCONNECT  text, DENYHARD  text, DENYSOFT_DISCONNECT  text      the same, and the connection is closed
//! ```
//! Upper and lower case are the same.

use crate::hook::{Denial, Severity, Then};

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Code {
    /// `OK`.
    Accept,
    /// `DECLINED`.
    Decline,
    /// The others.
    Deny(Severity, Then),
}

impl Code {
    /// Reads the word.
    pub(in super::super) fn parse(word: &str) -> Result<Self, String> {
        use {Severity as S, Then as T};
        Ok(match word.to_ascii_uppercase().as_str() {
            "OK" => Self::Accept,
            "DECLINED" => Self::Decline,
            "DENY" => Self::Deny(S::Permanent, T::Continue),
            "DENYSOFT" => Self::Deny(S::Transient, T::Continue),
            "DENYHARD" | "DENY_DISCONNECT" => Self::Deny(S::Permanent, T::Disconnect),
            "DENYSOFT_DISCONNECT" => Self::Deny(S::Transient, T::Disconnect),
            _ => {
                return Err(format!(
                    "{word:?} is no code: write OK, DECLINED, DENY, DENYSOFT, DENY_DISCONNECT or DENYSOFT_DISCONNECT"
                ));
            }
        })
    }

    /// The denial with this text, if it is one.
    pub(in super::super) fn denial(self, text: impl Into<String>) -> Option<Denial> {
        match self {
            Self::Accept | Self::Decline => None,
            Self::Deny(severity, then) => Some(Denial { severity, text: text.into(), enhanced: None, then }),
        }
    }
}

/// `WHOM CODE text`: whom, the code, the text, which may be empty.
pub(in super::super) fn line(text: &str) -> Result<(&str, Code, &str), String> {
    let first = |text: &str| text.find([' ', '\t']).unwrap_or(text.len());
    let (whom, rest) = text.split_at(first(text));
    let rest = rest.trim_ascii();
    let (code, rest) = rest.split_at(first(rest));
    if code.is_empty() {
        return Err(format!("{whom:?} stands alone: write what becomes of it after it, OK or DENY or another code"));
    }
    Ok((whom, Code::parse(code)?, rest.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whom_code_and_text() {
        use {Severity as S, Then as T};
        let table = [
            ("a OK", Ok(("a", Code::Accept, ""))),
            ("a@b.example\tdeclined \t x", Ok(("a@b.example", Code::Decline, "x"))),
            ("a DENY No  such user.", Ok(("a", Code::Deny(S::Permanent, T::Continue), "No  such user."))),
            ("a DenySoft later", Ok(("a", Code::Deny(S::Transient, T::Continue), "later"))),
            ("a DENYHARD", Ok(("a", Code::Deny(S::Permanent, T::Disconnect), ""))),
            ("a DENY_DISCONNECT", Ok(("a", Code::Deny(S::Permanent, T::Disconnect), ""))),
            ("a DENYSOFT_DISCONNECT", Ok(("a", Code::Deny(S::Transient, T::Disconnect), ""))),
            ("a", Err("\"a\" stands alone")),
            ("a no", Err("\"no\" is no code")),
            ("a DONE", Err("\"DONE\" is no code")),
            ("a 901", Err("\"901\" is no code")),
        ];
        for (text, expected) in table {
            match (line(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(fault), Err(expected)) => assert!(fault.starts_with(expected), "{text}: {fault}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn only_denials_are_denials() {
        assert_eq!(Code::Accept.denial("x"), None);
        assert_eq!(Code::Decline.denial("x"), None);
        let denial = Code::parse("DENYSOFT_DISCONNECT").unwrap().denial("x");
        assert_eq!(denial, Some(Denial::transient("x").disconnect()));
    }
}
