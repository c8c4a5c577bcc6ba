//! Reply -> octets (RFC 5321 §4.2, enhanced status codes RFC 2034).
//!
//! In: a code, perhaps an enhanced code, and text from anybody. Out: lines that no text can break out of. Which code answers
//! what is told by the tables of session and hook.

use std::fmt;

use super::escape::{is_plain, is_unsafe};

/// Octets of a reply line with its CRLF (RFC 5321 §4.5.3.1.5). Longer text goes on in a further line.
pub const REPLY_LINE_OCTETS_MAX: usize = 512;

/// Lines of one reply; what a plugin or a peer said beyond them is dropped.
pub const REPLY_LINES_MAX: usize = 100;

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Basic code, 200 to 599.
    pub code: u16,
    /// Enhanced code. None in the greeting, in replies to HELO and EHLO, and in 3yz replies (RFC 2034 §4).
    pub enhanced: Option<Enhanced>,
    /// Text. A line may hold LF, which splits it.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply with one text, which may hold several lines.
    pub fn new(code: u16, enhanced: Option<Enhanced>, text: impl Into<String>) -> Self {
        debug_assert!((200..600).contains(&code), "no reply code: {code}");
        Self { code, enhanced, lines: vec![text.into()] }
    }

    /// Adds a line of text.
    #[must_use]
    pub fn line(mut self, text: impl Into<String>) -> Self {
        self.lines.push(text.into());
        self
    }

    /// Appends the reply's octets to `out`. Unsafe characters become `?`, and so does what is not ASCII unless `utf8`
    /// (the client has asked for it: RFC 6531 §3.7.4.1).
    pub fn write_to(&self, out: &mut Vec<u8>, utf8: bool) {
        let enhanced = self.enhanced.map_or(String::new(), |enhanced| enhanced.to_string());
        // Code, `-` or blank, enhanced code, blank, text, CRLF.
        let text_octets_max = REPLY_LINE_OCTETS_MAX - "250-\r\n".len() - (enhanced.len() + 1);
        let mut texts = Vec::with_capacity(self.lines.len());
        for text in self.lines.iter().flat_map(|line| line.split('\n')) {
            fold(&plain(text, utf8), text_octets_max, &mut texts);
            if texts.len() >= REPLY_LINES_MAX {
                break;
            }
        }
        texts.truncate(REPLY_LINES_MAX);
        if texts.is_empty() {
            texts.push(String::new());
        }
        for (index, text) in texts.iter().enumerate() {
            let mark = if index + 1 == texts.len() { ' ' } else { '-' };
            let gap = if enhanced.is_empty() || text.is_empty() { "" } else { " " };
            out.extend_from_slice(format!("{}{mark}{enhanced}{gap}{text}\r\n", self.code).as_bytes());
        }
    }
}

/// One line of text as the client may see it.
fn plain(text: &str, utf8: bool) -> String {
    let text = text.strip_suffix('\r').unwrap_or(text);
    if is_plain(text) {
        return text.to_owned();
    }
    let see = |character: char| match character {
        '\t' => ' ',
        _ if is_unsafe(character) || !(utf8 || character.is_ascii()) => '?',
        _ => character,
    };
    text.chars().map(see).collect()
}

/// Cuts a text into lines of at most `octets_max` octets, at blanks where there are any.
fn fold(text: &str, octets_max: usize, lines: &mut Vec<String>) {
    let mut rest = text;
    while rest.len() > octets_max && lines.len() < REPLY_LINES_MAX {
        let border = rest.floor_char_boundary(octets_max);
        // A blank right after the border is as good as one before it; a blank at the front would give an empty line.
        let blank = rest.as_bytes()[..=border].iter().rposition(|&octet| octet == b' ').filter(|&at| at > 0);
        let (line, further) = rest.split_at(blank.unwrap_or(border));
        lines.push(line.to_owned());
        rest = if blank.is_some() { &further[1..] } else { further };
    }
    lines.push(rest.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(reply: &Reply, utf8: bool) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out, utf8);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_replies() {
        let ok = Some(Enhanced(2, 1, 0));
        let table = [
            (Reply::new(250, None, ""), "250 \r\n"),
            (Reply::new(250, ok, ""), "250 2.1.0\r\n"),
            (Reply { code: 250, enhanced: None, lines: Vec::new() }, "250 \r\n"),
            (Reply::new(354, None, "go ahead"), "354 go ahead\r\n"),
            (Reply::new(250, ok, "sender ok"), "250 2.1.0 sender ok\r\n"),
            (
                Reply::new(250, None, "mx").line("PIPELINING").line("SIZE 10"),
                "250-mx\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
            ),
            (
                Reply::new(250, ok, "a\nb").line("c\r\nd"),
                "250-2.1.0 a\r\n250-2.1.0 b\r\n250-2.1.0 c\r\n250 2.1.0 d\r\n",
            ),
            (Reply::new(550, None, "a\r250 ok\0\x1b[m\u{85}\u{2028}\tz"), "550 a?250 ok??[m?? z\r\n"),
            (Reply::new(550, None, "ä"), "550 ?\r\n"),
        ];
        for (reply, wanted) in table {
            assert_eq!(written(&reply, false), wanted);
        }
        assert_eq!(written(&Reply::new(550, None, "ä\u{202e}"), true), "550 ä?\r\n");
    }

    #[test]
    fn folds_at_the_limit() {
        let enhanced = Some(Enhanced(5, 7, 1));
        // "550 5.7.1 " and CRLF leave 500.
        for (octets, lines) in [(499, 1), (500, 1), (501, 2), (1_000, 2), (1_001, 3)] {
            let out = written(&Reply::new(550, enhanced, "x".repeat(octets)), false);
            assert_eq!(out.lines().count(), lines, "{octets}");
            assert_eq!(out.matches('x').count(), octets);
        }
        let words = format!("{} {}", "a".repeat(500), "b".repeat(10));
        let wanted = format!("550-5.7.1 {}\r\n550 5.7.1 bbbbbbbbbb\r\n", "a".repeat(500));
        assert_eq!(written(&Reply::new(550, enhanced, words), false), wanted);
        // The border may not cut a character in two.
        let out = written(&Reply::new(550, enhanced, "ä".repeat(300)), true);
        assert_eq!(out.matches('ä').count(), 300);
    }

    #[test]
    fn limits_the_lines() {
        for text in ["x\n".repeat(10_000), "x".repeat(1_000_000)] {
            assert_eq!(written(&Reply::new(214, None, text), false).lines().count(), REPLY_LINES_MAX);
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_out(lines in prop::collection::vec(any::<String>(), 0..4), repeat in 1usize..100, utf8: bool, code in 200u16..600) {
            let lines = lines.into_iter().map(|line| line.repeat(repeat)).collect();
            let out = written(&Reply { code, enhanced: Some(Enhanced(2, 999, 999)), lines }, utf8);
            prop_assert!(out.ends_with("\r\n"));
            let lines: Vec<&str> = out.split_inclusive("\r\n").collect();
            for (index, line) in lines.iter().enumerate() {
                let mark = if index + 1 == lines.len() { ' ' } else { '-' };
                let front = format!("{code}{mark}2.999.999");
                prop_assert!(line.len() <= REPLY_LINE_OCTETS_MAX);
                prop_assert!(line.starts_with(&front));
                prop_assert!(!line[..line.len() - 2].chars().any(char::is_control));
                prop_assert!(utf8 || line.is_ascii());
            }
            // An independent reader takes it as one reply; it reads no more than 4,096 octets.
            if out.len() > 4_096 {
                return Ok(());
            }
            let mut reader = smtp_proto::response::parser::ResponseReceiver::default();
            let response = reader.parse(&mut out.as_bytes().iter()).unwrap();
            prop_assert_eq!(response.code, code);
            // Its octets end at 255.
            prop_assert_eq!(response.esc, [2, 255, 255]);
        }
    }
}
