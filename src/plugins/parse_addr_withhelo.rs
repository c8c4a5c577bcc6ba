//! Lets clients that said HELO, not EHLO, give no parameters with MAIL and RCPT.
//!
//! ```text
//! parse_addr_withhelo
//! ```
//! No arguments. Parameters belong to extensions, and those are for clients that said EHLO (RFC 5321 §4.1.1.11): after HELO
//! `MAIL FROM:<a@b.example> SIZE=10` gets `550 5.5.4 No parameters allowed in MAIL`, and RCPT likewise. Without this plugin they are
//! taken, as honest clients exist that mix the two.
//!
//! Who can be understood in no way gets the answer that everybody gets: `501`, and what is wrong. A bare `postmaster` is fine.
//!
//! Differs from qpsmtpd in the reply's code (501 there: here a refusal by a plugin at this hook is 550), in knowing what a quoted blank or
//! `>` is, and in leaving all else to the parser.

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Denial, Entry, Hook, Plugin, Ruling, Text};
use crate::smtp::parameters::path_text;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin(
    "parse_addr_withhelo",
    &[Hook::MailParse, Hook::RcptParse],
    crate::manual!("parse_addr_withhelo.rs"),
    build,
)
.without_settings();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, _world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(ParseAddrWithHelo))
}

struct ParseAddrWithHelo;

fn rule(verb: &str, at: &Text<'_>) -> Answer {
    let extended = at.session.hello.as_ref().is_none_or(|hello| hello.extended);
    // Without FROM: or TO: the parser will say so.
    let parameters = path_text(at.text).map_or("", |(_, parameters)| parameters);
    if extended || parameters.is_empty() {
        return Ok(Ruling::decline());
    }
    let denial = Denial::permanent(format!("No parameters allowed in {verb}")).code(5, 4);
    Ok(Ruling::deny(denial).because(format!("after HELO: {parameters}")))
}

impl Plugin for ParseAddrWithHelo {
    fn mail_parse(&mut self, at: &Text<'_>) -> Answer {
        rule("MAIL", at)
    }

    fn rcpt_parse(&mut self, at: &Text<'_>) -> Answer {
        rule("RCPT", at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::hook::facts::Greeting;
    use crate::smtp::command::hello_argument;

    fn refused(text: &str, extended: bool) -> Option<String> {
        let mut session = fixture::session(None);
        session.hello = Some(Greeting { name: hello_argument("client.example").unwrap(), extended });
        let mut text = text.to_owned();
        let at = Text { session: &mut session, text: &mut text };
        match ParseAddrWithHelo.mail_parse(&at).unwrap().verdict {
            Verdict::Deny(denial) => Some(denial.text),
            _ => None,
        }
    }

    #[test]
    fn parameters_are_for_ehlo() {
        let table = [
            ("FROM:<a@b>", false),
            ("FROM:<>", false),
            ("from: <a@b>  ", false),
            ("FROM:a@b", false),
            ("TO:postmaster", false),
            ("TO:<abuse>", false),
            ("FROM:<\"a> SIZE=1\"@b>", false),
            ("FROM:<a@b> SIZE=10", true),
            ("FROM:<> BODY=8BITMIME", true),
            ("FROM:a@b SIZE=10", true),
            ("TO:<a@b>\tNOTIFY=NEVER", true),
            ("TO:<a@b>x", true),
            // For the parser to answer.
            ("", false),
            ("<a@b> SIZE=10", false),
            ("AT:<a@b> SIZE=10", false),
        ];
        for (text, expected) in table {
            assert_eq!(refused(text, false).is_some(), expected, "{text}");
            assert_eq!(refused(text, true), None, "{text}");
        }
    }
}
