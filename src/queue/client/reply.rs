//! A reply of the far end's: octets -> code and text, bounded and made safe (RFC 5321 §4.2).

use std::fmt;

use crate::smtp::escape::safe;

/// Octets of one line. RFC 5321 §4.5.3.1.5 names 512; more is read than it asks for, but not without end.
pub(super) const LINE_OCTETS_MAX: usize = 2048;

/// Lines of one reply.
pub(super) const LINES_MAX: usize = 100;

/// Octets of its text that go on to our own client, or into the log.
const SHOWN_OCTETS_MAX: usize = 300;

/// One whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) struct Reply {
    /// 200 to 599.
    pub(in crate::queue) code: u16,
    /// The text of each line, safe to show.
    pub(in crate::queue) lines: Vec<String>,
}

/// One line: its code, whether it is the last, its text. `None`: no line of a reply.
pub(super) fn line(octets: &[u8]) -> Option<(u16, bool, String)> {
    let octets = octets.strip_suffix(b"\n")?;
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    let (digits, rest) = octets.split_at_checked(3)?;
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let last = match rest.first() {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
    (200..600).contains(&code).then(|| (code, last, safe(text.trim(), LINE_OCTETS_MAX)))
}

impl Reply {
    /// The first digit.
    pub(in crate::queue) fn class(&self) -> u16 {
        self.code / 100
    }

    /// Subject and detail of the enhanced status code, if there is one and it agrees with the code.
    pub(in crate::queue) fn enhanced(&self) -> Option<(u16, u16)> {
        let (class, subject, detail) = enhanced(self.lines.first()?)?;
        (class == self.class()).then_some((subject, detail))
    }

    /// All its text in one line, without enhanced status codes.
    pub(in crate::queue) fn text(&self) -> String {
        let bare = |line: &'_ String| match (enhanced(line), line.split_once(' ')) {
            (Some(_), Some((_, text))) => text.trim().to_owned(),
            (Some(_), None) => String::new(),
            (None, _) => line.clone(),
        };
        let texts: Vec<String> = self.lines.iter().map(bare).filter(|text| !text.is_empty()).collect();
        safe(&texts.join(" "), SHOWN_OCTETS_MAX)
    }

    /// The far end's own name for the message, where this final reply tells one as the usual servers do: `queued as ID`
    /// (Postfix), `id=ID` (Exim), `ID Message accepted for delivery` (Sendmail, OpenSMTPD).
    pub(in crate::queue) fn id(&self) -> Option<String> {
        const OCTETS_MAX: usize = 64;
        let text = self.text();
        let after = |mark: &str| text.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next());
        let before = || text.split_once(" Message accepted").and_then(|(rest, _)| rest.split_whitespace().next_back());
        let id = after("queued as ").or_else(|| after("id=")).or_else(before)?;
        (id.len() <= OCTETS_MAX && id.bytes().all(|octet| octet.is_ascii_graphic())).then(|| id.to_owned())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, safe(&self.lines.join(" / "), SHOWN_OCTETS_MAX))
    }
}

/// RFC 3463 §2 at the beginning of a text.
fn enhanced(text: &str) -> Option<(u16, u16, u16)> {
    let word = text.split(' ').next()?;
    let mut parts = word.split('.').map(|part| {
        let digits = part.len() <= 3 && !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| digits)
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    (parts.next().is_none() && matches!(found.0, 2 | 4 | 5)).then_some(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let table: &[(&[u8], Option<(u16, bool, &str)>)] = &[
            (b"", None),
            (b"\r\n", None),
            (b"25\r\n", None),
            (b"250", None),
            (b"2x0 a\r\n", None),
            (b"250x\r\n", None),
            (b"150 a\r\n", None),
            (b"600 a\r\n", None),
            (b" 250 a\r\n", None),
            (b"250\r\n", Some((250, true, ""))),
            (b"250 \n", Some((250, true, ""))),
            (b"250-a b \r\n", Some((250, false, "a b"))),
            (b"354 go\x1b[2J\0\xff\r\n", Some((354, true, "go?[2J?\u{fffd}"))),
        ];
        for (octets, wanted) in table {
            let wanted = wanted.map(|(code, last, text)| (code, last, text.to_owned()));
            assert_eq!(line(octets), wanted, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn texts_codes_and_ids() {
        let table = [
            (250, "2.0.0 Ok: queued as 4cXyz", Some((0, 0)), "Ok: queued as 4cXyz", Some("4cXyz")),
            (250, "OK id=1abc-0002-AB", None, "OK id=1abc-0002-AB", Some("1abc-0002-AB")),
            (
                250,
                "2.0.0 1a2b Message accepted for delivery",
                Some((0, 0)),
                "1a2b Message accepted for delivery",
                Some("1a2b"),
            ),
            (550, "5.1.1 <x>: no|5.1.1 such user", Some((1, 1)), "<x>: no such user", None),
            (450, "5.1.1 x", None, "x", None),
            (550, "5.1 x", None, "5.1 x", None),
            (550, "", None, "", None),
            (550, "5.7.1", Some((7, 1)), "", None),
            (250, "queued as", None, "queued as", None),
        ];
        for (code, lines, enhanced, text, id) in table {
            let reply = Reply { code, lines: lines.split('|').map(str::to_owned).collect() };
            assert_eq!(reply.enhanced(), enhanced, "{lines}");
            assert_eq!(reply.text(), text, "{lines}");
            assert_eq!(reply.id().as_deref(), id, "{lines}");
        }
        let long = Reply { code: 250, lines: vec!["x".repeat(2000); 100] };
        assert!(long.text().len() <= SHOWN_OCTETS_MAX && long.to_string().len() < 2 * SHOWN_OCTETS_MAX);
    }
}
