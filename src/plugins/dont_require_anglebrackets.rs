//! Takes addresses without angle brackets in MAIL and RCPT: `MAIL FROM:a@b.example`, as broken clients write it.
//!
//! ```text
//! dont_require_anglebrackets
//! ```
//! An address that begins and ends without a bracket gets both before it is parsed; RFC 5321 §4.1.2 requires them.
//! `MAIL FROM:` with nothing after it is the null reverse-path `<>`. What then is no address is refused as ever, and so
//! is half a pair of brackets. Parameters are not touched.
//!
//! No arguments. A client that needs this loses 2 of its karma, as in qpsmtpd.

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Change, Entry, Hook, Plugin, Ruling, Text};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "dont_require_anglebrackets",
    &[Hook::MailPre, Hook::RcptPre],
    crate::manual!("dont_require_anglebrackets.rs"),
    build,
)
.without_settings();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(DontRequireAngleBrackets))
}

struct DontRequireAngleBrackets;

impl Plugin for DontRequireAngleBrackets {
    fn mail_pre(&mut self, at: &Text<'_>) -> Answer {
        Ok(ruling(bracketed(at.text)))
    }

    fn rcpt_pre(&mut self, at: &Text<'_>) -> Answer {
        // Nobody is no recipient: the parser will say so.
        Ok(ruling(bracketed(at.text).filter(|path| path != "<>")))
    }
}

fn ruling(path: Option<String>) -> Ruling {
    match path {
        None => Ruling::decline(),
        Some(path) => {
            Ruling::decline().change(Change::Rewrite(path)).change(Change::AdjustKarma(-2)).because("no angle brackets")
        }
    }
}

/// A bare address in brackets; `None` if there are any already.
fn bracketed(text: &str) -> Option<String> {
    let bare = !text.starts_with('<') && !text.ends_with('>');
    bare.then(|| format!("<{text}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_addresses_get_brackets() {
        let table = [
            ("", Some("<>")),
            ("<>", None),
            ("<a@b.example>", None),
            ("<a@b.example", None),
            ("a@b.example>", None),
            (">", None),
            ("a@b.example", Some("<a@b.example>")),
            ("postmaster", Some("<postmaster>")),
            ("\"a b\"@b.example", Some("<\"a b\"@b.example>")),
            ("@x:a@b.example", Some("<@x:a@b.example>")),
        ];
        for (text, path) in table {
            assert_eq!(bracketed(text).as_deref(), path, "{text:?}");
        }
    }
}
