//! Command line -> [`Command`] (RFC 5321 §4.1).
//!
//! In: a line without its end. Out: the verb, and its argument as text, because plugins may see and correct the text before
//! it is parsed (parameters.rs does that). What may come when is told by the session's table.

use std::fmt;

use super::address::{DOMAIN_OCTETS_MAX, Domain};
use super::reply::{Enhanced, Reply};

/// Blanks around and between words. RFC 5321 knows the space only; TAB is seen in the wild.
pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// One command. Strings are the argument's text, without blanks at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO: see [`hello_argument`].
    Helo(String),
    /// EHLO: see [`hello_argument`].
    Ehlo(String),
    /// MAIL: see [`mail_argument`](super::mail_argument).
    Mail(String),
    /// RCPT: see [`rcpt_argument`](super::rcpt_argument).
    Rcpt(String),
    /// DATA.
    Data,
    /// BDAT (RFC 3030): a chunk follows the line.
    Bdat {
        /// Octets of the chunk.
        octets: u64,
        /// It is the message's last one.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP; the text means nothing.
    Noop(String),
    /// QUIT.
    Quit,
    /// VRFY; the text is not empty.
    Vrfy(String),
    /// EXPN; the text is not empty.
    Expn(String),
    /// HELP.
    Help(String),
    /// A verb that is not one of these. An empty line has an empty verb.
    Unrecognized {
        /// The first word, as written.
        verb: String,
        /// What follows it.
        rest: String,
    },
}

impl Command {
    /// Reads a line without its end. Verbs are in any case.
    pub fn parse(line: &[u8]) -> Result<Self, SyntaxError> {
        let text = text(line)?;
        let (verb, rest) = text.split_once(BLANKS).unwrap_or((text, ""));
        let rest = rest.trim_start_matches(BLANKS);
        // The few known verbs are short, so that no long word is copied to be compared.
        let upper = if verb.len() <= 4 { verb.to_ascii_uppercase() } else { String::new() };
        Ok(match upper.as_str() {
            "HELO" => Self::Helo(rest.to_owned()),
            "EHLO" => Self::Ehlo(rest.to_owned()),
            "MAIL" => Self::Mail(rest.to_owned()),
            "RCPT" => Self::Rcpt(rest.to_owned()),
            "DATA" => bare("DATA", rest, Self::Data)?,
            "BDAT" => bdat(rest)?,
            "RSET" => bare("RSET", rest, Self::Rset)?,
            "NOOP" => Self::Noop(rest.to_owned()),
            "QUIT" => bare("QUIT", rest, Self::Quit)?,
            "VRFY" => Self::Vrfy(some("VRFY", rest)?),
            "EXPN" => Self::Expn(some("EXPN", rest)?),
            "HELP" => Self::Help(rest.to_owned()),
            _ => Self::Unrecognized { verb: verb.to_owned(), rest: rest.to_owned() },
        })
    }

    /// The verb in capitals; of an unrecognized one, as it was written.
    pub fn verb(&self) -> &str {
        match self {
            Self::Helo(_) => "HELO",
            Self::Ehlo(_) => "EHLO",
            Self::Mail(_) => "MAIL",
            Self::Rcpt(_) => "RCPT",
            Self::Data => "DATA",
            Self::Bdat { .. } => "BDAT",
            Self::Rset => "RSET",
            Self::Noop(_) => "NOOP",
            Self::Quit => "QUIT",
            Self::Vrfy(_) => "VRFY",
            Self::Expn(_) => "EXPN",
            Self::Help(_) => "HELP",
            Self::Unrecognized { verb, .. } => verb,
        }
    }
}

/// The line as text, if it is text: UTF-8 (RFC 6531) and no control character but TAB.
/// A CR in here stood alone, and other software might see two lines where we see one (RFC 5321 §2.3.8).
fn text(line: &[u8]) -> Result<&str, SyntaxError> {
    let text = str::from_utf8(line).map_err(|_| SyntaxError::line("that is not UTF-8"))?;
    if text.chars().any(|character| character.is_control() && character != '\t') {
        return Err(SyntaxError::line("control character in the command"));
    }
    Ok(text.trim_matches(BLANKS))
}

/// A command that takes no argument (RFC 5321 §4.1.1.4, §4.1.1.5, §4.1.1.10).
fn bare(verb: &str, rest: &str, command: Command) -> Result<Command, SyntaxError> {
    if rest.is_empty() { Ok(command) } else { Err(SyntaxError::argument(format!("{verb} takes no argument"))) }
}

/// A command that needs an argument (RFC 5321 §4.1.1.6, §4.1.1.7).
fn some(verb: &str, rest: &str) -> Result<String, SyntaxError> {
    if rest.is_empty() { Err(SyntaxError::argument(format!("{verb} needs an argument"))) } else { Ok(rest.to_owned()) }
}

/// RFC 3030 §2: `BDAT SP chunk-size [SP "LAST"]`. After a refusal here nobody knows how many octets follow.
fn bdat(rest: &str) -> Result<Command, SyntaxError> {
    let wrong = || SyntaxError::argument("syntax: BDAT octets [LAST]");
    let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
    let digits = words.next().unwrap_or("");
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(wrong()),
    };
    // `parse` alone would take a sign.
    if words.next().is_some() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(wrong());
    }
    let octets = digits.parse().map_err(|_| wrong())?;
    Ok(Command::Bdat { octets, last })
}

/// A command that we could not read, as the reply it gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {enhanced} {text}")]
pub struct SyntaxError {
    /// Basic code, 5yz.
    pub code: u16,
    /// Enhanced code.
    pub enhanced: Enhanced,
    /// What is wrong. May hold words of the client; [`Reply::write_to`] makes them safe.
    pub text: String,
}

impl SyntaxError {
    /// An error that gets this reply.
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { code, enhanced, text: text.into() }
    }

    /// The line is no command: 500 5.5.2.
    fn line(text: impl Into<String>) -> Self {
        Self::new(500, Enhanced(5, 5, 2), text)
    }

    /// The command's argument is wrong: 501 5.5.4.
    pub(super) fn argument(text: impl Into<String>) -> Self {
        Self::new(501, Enhanced(5, 5, 4), text)
    }

    /// A path is not ASCII, but MAIL did not say SMTPUTF8 (RFC 6531 §3.5).
    pub fn smtputf8_needed() -> Self {
        Self::new(550, Enhanced(5, 6, 7), "an address that is not ASCII needs SMTPUTF8")
    }
}

impl From<SyntaxError> for Reply {
    fn from(error: SyntaxError) -> Self {
        Self::new(error.code, Some(error.enhanced), error.text)
    }
}

/// What a client calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    text: String,
    domain: Option<Domain>,
}

impl Hello {
    /// As written. Never empty, no blanks or control characters, at most 255 octets.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The domain or literal that it is, if it is one (RFC 5321 §4.1.1.1 asks for it; half the world does not care).
    pub fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the argument of HELO or EHLO: its first word, whatever that is. Plugins judge it. Further words are not looked at
/// (qpsmtpd does the same; some clients send a computer's name with a blank in it).
pub fn hello_argument(text: &str) -> Result<Hello, SyntaxError> {
    let word = text.trim_matches(BLANKS).split(BLANKS).next().unwrap_or("");
    if word.is_empty() {
        return Err(SyntaxError::argument("say your name: a domain or an address literal"));
    }
    if word.len() > DOMAIN_OCTETS_MAX {
        return Err(SyntaxError::argument("that name is too long"));
    }
    // A plugin may have given us this text.
    if word.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(SyntaxError::argument("that name cannot be printed"));
    }
    Ok(Hello { text: word.to_owned(), domain: Domain::parse(word).ok() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{mail_argument, path_text, rcpt_argument};
    use proptest::prelude::*;

    fn unrecognized(verb: &str, rest: &str) -> Result<Command, (u16, Enhanced)> {
        Ok(Command::Unrecognized { verb: verb.to_owned(), rest: rest.to_owned() })
    }

    #[test]
    fn reads_commands() {
        let line_error = Err((500, Enhanced(5, 5, 2)));
        let argument_error = Err((501, Enhanced(5, 5, 4)));
        let bdat = |octets, last| Ok(Command::Bdat { octets, last });
        type Row = (&'static [u8], Result<Command, (u16, Enhanced)>);
        let table: &[Row] = &[
            (b"", unrecognized("", "")),
            (b" \t ", unrecognized("", "")),
            (b"NO", unrecognized("NO", "")),
            (b"NOOPE", unrecognized("NOOPE", "")),
            (b"mAiLfrom:<>", unrecognized("mAiLfrom:<>", "")),
            (b"STARTTLS", unrecognized("STARTTLS", "")),
            (b"XYZ  a  b ", unrecognized("XYZ", "a  b")),
            (b"n\xc3\xb6\xc3\xb6p", unrecognized("nööp", "")),
            (b"no\0p", line_error.clone()),
            (b"NOOP\r", line_error.clone()),
            (b"NOOP\rQUIT", line_error.clone()),
            (b"MAIL FROM:<a\0@b>", line_error.clone()),
            (b"NOOP \x1b[2J", line_error.clone()),
            (b"NOOP \xc2\x85", line_error.clone()),
            (b"NOOP \xff", line_error.clone()),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", line_error.clone()),
            (b"NOOP", Ok(Command::Noop("".into()))),
            (b"  nOOp \t x y\t", Ok(Command::Noop("x y".into()))),
            (b"HELO", Ok(Command::Helo("".into()))),
            (b"ehlo\ta", Ok(Command::Ehlo("a".into()))),
            (b"Mail From:<a@b> SIZE=1 ", Ok(Command::Mail("From:<a@b> SIZE=1".into()))),
            (b"rcpt TO: <a@b>", Ok(Command::Rcpt("TO: <a@b>".into()))),
            (b"data ", Ok(Command::Data)),
            (b"DATA x", argument_error.clone()),
            (b"RSET", Ok(Command::Rset)),
            (b"RSET x", argument_error.clone()),
            (b"quit", Ok(Command::Quit)),
            (b"QUIT now", argument_error.clone()),
            (b"HELP", Ok(Command::Help("".into()))),
            (b"HELP MAIL", Ok(Command::Help("MAIL".into()))),
            (b"VRFY", argument_error.clone()),
            (b"VRFY a", Ok(Command::Vrfy("a".into()))),
            (b"EXPN", argument_error.clone()),
            (b"EXPN list", Ok(Command::Expn("list".into()))),
            (b"BDAT", argument_error.clone()),
            (b"BDAT LAST", argument_error.clone()),
            (b"BDAT 0", bdat(0, false)),
            (b"bdat 0 last", bdat(0, true)),
            (b"BDAT  10  LAST", bdat(10, true)),
            (b"BDAT 18446744073709551615", bdat(u64::MAX, false)),
            (b"BDAT 18446744073709551616", argument_error.clone()),
            (b"BDAT +1", argument_error.clone()),
            (b"BDAT -1", argument_error.clone()),
            (b"BDAT 0x1", argument_error.clone()),
            (b"BDAT \xd9\xa1", argument_error.clone()),
            (b"BDAT 1 FIRST", argument_error.clone()),
            (b"BDAT 1 LAST x", argument_error.clone()),
        ];
        for (line, wanted) in table {
            let result = Command::parse(line).map_err(|error| (error.code, error.enhanced));
            assert_eq!(result, *wanted, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn reads_hellos() {
        let long = "x".repeat(255);
        let table: &[(&str, Option<&str>, bool)] = &[
            ("", None, false),
            (" \t", None, false),
            ("a", Some("a"), true),
            ("MX.Example", Some("MX.Example"), true),
            ("[192.0.2.1]", Some("[192.0.2.1]"), true),
            ("[IPv6:2001:db8::1]", Some("[IPv6:2001:db8::1]"), true),
            ("under_score.example", Some("under_score.example"), true),
            // Kept, but no domain.
            ("192.0.2.1.", Some("192.0.2.1."), false),
            ("[999.0.2.1]", Some("[999.0.2.1]"), false),
            ("a..b", Some("a..b"), false),
            ("my computer", Some("my"), true),
            (&long, Some(&long), false),
            (&format!("{long}x"), None, false),
            ("a\u{a0}b", None, false),
            ("a\rb", None, false),
        ];
        for (text, wanted, is_domain) in table {
            let result = hello_argument(text);
            assert_eq!(result.as_ref().ok().map(Hello::text), *wanted, "{text:?}");
            assert_eq!(result.is_ok_and(|hello| hello.domain().is_some()), *is_domain, "{text:?}");
        }
    }

    #[test]
    fn becomes_a_reply() {
        let mut out = Vec::new();
        let error = Command::parse(b"DATA x").unwrap_err();
        assert_eq!(error.to_string(), "501 5.5.4 DATA takes no argument");
        Reply::from(error).write_to(&mut out, false);
        assert_eq!(out, b"501 5.5.4 DATA takes no argument\r\n");
    }

    proptest! {
        #[test]
        fn takes_any_octets(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn takes_any_text(verb in "(HELO|EHLO|MAIL|RCPT|DATA|BDAT|NOOP|VRFY|X) ", rest in r#"(FROM:|TO:)?[ -~\t]{0,40}\PC{0,5}"#) {
            let line = format!("{verb}{rest}");
            let Ok(command) = Command::parse(line.as_bytes()) else { return Ok(()) };
            prop_assert_eq!(command.verb(), verb.trim());
            match command {
                Command::Helo(text) | Command::Ehlo(text) => drop(hello_argument(&text)),
                Command::Mail(text) => drop((path_text(&text), mail_argument(&text))),
                Command::Rcpt(text) => drop((path_text(&text), rcpt_argument(&text))),
                _ => {}
            }
        }

        #[test]
        fn agrees_with_smtp_proto_on_bdat(octets: u32, last: bool) {
            let line = format!("BDAT {octets}{}", if last { " LAST" } else { "" });
            let sent = format!("{line}\r\n");
            let theirs = smtp_proto::Request::parse(&mut sent.as_bytes().iter()).unwrap();
            prop_assert_eq!(theirs, smtp_proto::Request::Bdat { chunk_size: octets as usize, is_last: last });
            prop_assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Bdat { octets: octets.into(), last }));
        }
    }
}
