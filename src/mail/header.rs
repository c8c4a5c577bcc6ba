//! The view of a header: which lines are fields, and where their names and values stand.
//!
//! In: the octets of a header. Out: names and raw values as slices of them; nothing is decoded but folding. A line
//! that is no field is kept in its place as malformed. Addresses, dates and MIME parameters are left to who asks.
//!
//! A line ends at LF, with or without CR before it: most backends store LF alone, so a reader behind them would see
//! a field that hides behind a bare LF, and so must we. A bare CR ends nothing.

use std::io;
use std::ops::Range;

use crate::smtp::find::find;

/// RFC 5322 §2.1.1: octets of a line without its CRLF.
pub const LINE_OCTETS_MAX: usize = 998;

/// Why there is no view of the header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// No empty line within the limit.
    #[error("the header is longer than {octets_max} octets")]
    TooLong {
        /// The limit, in octets.
        octets_max: usize,
    },
    /// The spool could not be read.
    #[error("the message cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// A header as it would be written now. The empty line after it is not part of it.
pub struct Header {
    octets: Vec<u8>,
    lines: Vec<Line>,
}

/// One field or malformed line, with its continuation lines.
struct Line {
    whole: Range<usize>,
    /// Empty for a malformed line.
    name: Range<usize>,
    value: Range<usize>,
}

/// What stands in a header, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A field.
    Field {
        /// As written, without blanks before the colon.
        name: &'a str,
        /// What follows the colon, with folding, without the last line end.
        value: &'a [u8],
    },
    /// Neither field nor continuation, with its line end.
    Malformed(&'a [u8]),
}

impl Header {
    /// Finds the lines of a header. Every octet belongs to one entry.
    pub fn new(octets: Vec<u8>) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        while start < octets.len() {
            let mut end = line_end(&octets, start);
            while matches!(octets.get(end), Some(b' ' | b'\t')) {
                end = line_end(&octets, end);
            }
            lines.push(line(&octets, start..end));
            start = end;
        }
        Self { octets, lines }
    }

    /// The header of a message that is still coming in: `octets` are its first, at least up to the empty line.
    /// What comes after is not looked at.
    pub fn received(octets: &[u8]) -> Self {
        if beginning(&octets[..octets.len().min(LINE_OCTETS_MAX)]) == Beginning::Body {
            return Self::new(Vec::new());
        }
        let end = empty_line(octets, 0).map_or(octets.len(), |line| line.start);
        Self::new(octets[..end].to_vec())
    }

    /// All entries, from the top.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.lines.iter().map(|line| {
            if line.name.is_empty() {
                Entry::Malformed(&self.octets[line.whole.clone()])
            } else {
                Entry::Field { name: self.name(line), value: &self.octets[line.value.clone()] }
            }
        })
    }

    /// The raw values of the fields of this name, in any case, from the top.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.named(name).map(|line| &self.octets[line.value.clone()])
    }

    /// How many fields have this name, in any case.
    pub fn count(&self, name: &str) -> usize {
        self.named(name).count()
    }

    /// The first field of this name as text; see [`unfolded`].
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).next().map(unfolded)
    }

    /// The lines that are neither field nor continuation.
    pub fn malformed(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(|line| line.name.is_empty()).map(|line| &self.octets[line.whole.clone()])
    }

    /// The header's octets, without the empty line after it.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Where the fields of this name stand in [`octets`](Self::octets), line ends included.
    pub(super) fn places(&self, name: &str) -> impl Iterator<Item = Range<usize>> {
        self.named(name).map(|line| line.whole.clone())
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| !line.name.is_empty() && self.name(line).eq_ignore_ascii_case(name))
    }

    fn name(&self, line: &Line) -> &str {
        // A name is ASCII, or the line would be malformed.
        str::from_utf8(&self.octets[line.name.clone()]).unwrap_or_default()
    }
}

/// A raw value as text: folding undone (RFC 5322 §2.2.3), blanks at both ends dropped, what is no UTF-8 replaced.
pub fn unfolded(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    for piece in value.split_inclusive(|&octet| octet == b'\n') {
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        // A CR that no LF follows is the sender's, and stays.
        text.extend_from_slice(if line.len() < piece.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line });
    }
    String::from_utf8_lossy(text.trim_ascii()).into_owned()
}

/// How the received octets begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With a field, or an mbox line, which we count as a malformed line of the header.
    Header,
    /// With an empty line: the header is empty.
    EmptyLine,
    /// With a line that is no field: there is no header, all is body.
    Body,
    /// There is nothing.
    Nothing,
}

/// Judges the first line. `octets` are the first [`LINE_OCTETS_MAX`] octets, or all if there are fewer.
pub(super) fn beginning(octets: &[u8]) -> Beginning {
    if octets.is_empty() {
        Beginning::Nothing
    } else if octets.starts_with(b"\n") || octets.starts_with(b"\r\n") {
        Beginning::EmptyLine
    } else if field_name(octets).is_some() || is_mbox(octets) {
        Beginning::Header
    } else {
        Beginning::Body
    }
}

/// Whether an mbox line comes first, and then a field: software that reads mailboxes sends such messages.
fn is_mbox(octets: &[u8]) -> bool {
    let quotes = octets.iter().take_while(|&&octet| octet == b'>').count();
    octets[quotes..].starts_with(b"From ") && field_name(&octets[line_end(octets, 0)..]).is_some()
}

/// Looks for the empty line from `start`, which begins a line. Found: where it begins and ends. Not found: where the
/// last, unfinished line begins, to go on from when there are more octets.
pub(super) fn empty_line(octets: &[u8], start: usize) -> Result<Range<usize>, usize> {
    let mut start = start;
    while let Some(length) = find(b'\n', &octets[start..]) {
        let end = start + length;
        if matches!(&octets[start..end], b"" | b"\r") {
            return Ok(start..end + 1);
        }
        start = end + 1;
    }
    Err(start)
}

fn line_end(octets: &[u8], start: usize) -> usize {
    find(b'\n', &octets[start..]).map_or(octets.len(), |length| start + length + 1)
}

fn line(octets: &[u8], whole: Range<usize>) -> Line {
    let content = &octets[whole.clone()];
    let Some((name, colon)) = field_name(content) else {
        return Line { name: 0..0, value: 0..0, whole };
    };
    let content = content.strip_suffix(b"\n").map_or(content, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let (start, end) = (whole.start, whole.start + content.len());
    Line { name: start..start + name, value: start + colon + 1..end, whole }
}

/// The length of the field name that a line begins with, and where its colon stands. Blanks before the colon are the
/// obsolete syntax (RFC 5322 §4.5), which readers still take, so that a forged field must not pass by them.
fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let name = line.iter().take_while(|&&octet| is_ftext(octet)).count();
    let blanks = line[name..].iter().take_while(|&&octet| matches!(octet, b' ' | b'\t')).count();
    (name > 0 && line.get(name + blanks) == Some(&b':')).then_some((name, name + blanks))
}

/// RFC 5322 §3.6.8: what a field name is made of.
pub(super) fn is_ftext(octet: u8) -> bool {
    matches!(octet, 33..=57 | 59..=126)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `name|value` for a field, `!line` for a malformed line.
    fn shown(octets: &[u8]) -> Vec<String> {
        Header::new(octets.to_vec())
            .entries()
            .map(|entry| match entry {
                Entry::Field { name, value } => format!("{name}|{}", value.escape_ascii()),
                Entry::Malformed(line) => format!("!{}", line.escape_ascii()),
            })
            .collect()
    }

    #[test]
    fn lines() {
        let rows: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"A: b\r\n", &["A| b"]),
            (b"A: b", &["A| b"]),
            (b"A: b\r", &["A| b\\r"]),
            (b"A: b\n", &["A| b"]),
            (b"A:\r\n", &["A|"]),
            (b"A:b\r\n\tc\r\n d\r\nB:e\r\n", &["A|b\\r\\n\\tc\\r\\n d", "B|e"]),
            // A line of blanks alone goes on, too (RFC 5322 §4.2).
            (b"A:b\r\n \r\nB:c\r\n", &["A|b\\r\\n ", "B|c"]),
            // Obsolete blanks before the colon, which may not be before the name.
            (b"A \t: b\r\n", &["A| b"]),
            (b" A: b\r\n", &["! A: b\\r\\n"]),
            // A field behind a bare LF is a field.
            (b"A: b\nB: c\r\n", &["A| b", "B| c"]),
            // A bare CR ends no line.
            (b"A: b\rB: c\r\n", &["A| b\\rB: c"]),
            (b"From a@b Thu Jan  1\r\nA: b\r\n", &["!From a@b Thu Jan  1\\r\\n", "A| b"]),
            (b"A: b\r\nno field\r\n c\r\nB: d\r\n", &["A| b", "!no field\\r\\n c\\r\\n", "B| d"]),
            (b": b\r\n", &["!: b\\r\\n"]),
            (b"\xc3\xa4: b\r\n", &["!\\xc3\\xa4: b\\r\\n"]),
            (b"A\0: b\r\n", &["!A\\x00: b\\r\\n"]),
            (b"A: \xff\0\r\n", &["A| \\xff\\x00"]),
            (b"a:1\r\nA:2\r\n", &["a|1", "A|2"]),
        ];
        for (octets, entries) in rows {
            assert_eq!(shown(octets), *entries, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn names_compare_in_any_case() {
        let header = Header::new(b"Received: 1\r\nTo: x\r\nRECEIVED: 2\r\njunk\r\nreceived : 3\r\n".to_vec());
        assert_eq!(header.count("rEceived"), 3);
        assert_eq!(header.get("received").collect::<Vec<_>>(), [b" 1", b" 2", b" 3"]);
        assert_eq!(header.text("to").as_deref(), Some("x"));
        assert_eq!(header.text("receive"), None);
        // A malformed line has no name, not an empty one.
        assert_eq!(header.count(""), 0);
        assert_eq!(header.malformed().collect::<Vec<_>>(), [b"junk\r\n"]);
    }

    #[test]
    fn unfolds() {
        for (value, text) in [
            (&b""[..], ""),
            (b" a b ", "a b"),
            (b" a\r\n b\r\n\tc", "a b\tc"),
            (b"\r\n a", "a"),
            (b" a\n b", "a b"),
            (b" a\r b", "a\r b"),
            (b" a\r\r\n b", "a\r b"),
            (b" gr\xc3\xbc\xc3\x9fe", "gr\u{fc}\u{df}e"),
            (b" \xff", "\u{fffd}"),
        ] {
            assert_eq!(unfolded(value), text, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn first_lines() {
        use Beginning as B;
        let long_name = [b"a".repeat(LINE_OCTETS_MAX - 1), b":".to_vec()].concat();
        let rows: &[(&[u8], Beginning)] = &[
            (b"", B::Nothing),
            (b"\r\nA: b", B::EmptyLine),
            (b"\n", B::EmptyLine),
            (b"\r", B::Body),
            (b"A: b", B::Header),
            (b"A :", B::Header),
            (b"A", B::Body),
            (b"A b: c", B::Body),
            (b" A: b", B::Body),
            (b"\tb", B::Body),
            (b"From a@b Thu\r\nA: b", B::Header),
            (b"From here on\r\nall is body", B::Body),
            (b"From a@b Thu", B::Body),
            (b">>From a@b Thu\nA:", B::Header),
            (b"From", B::Body),
            (b"from a", B::Body),
            (&long_name, B::Header),
            (&long_name[..LINE_OCTETS_MAX - 1], B::Body),
        ];
        for (octets, expected) in rows {
            assert_eq!(beginning(octets), *expected, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn finds_the_empty_line() {
        for (octets, expected) in [
            (&b""[..], Err(0)),
            (b"A:b\r\n\r\nc", Ok(5..7)),
            (b"A:b\n\nc", Ok(4..5)),
            (b"A:b\n\r\nc", Ok(4..6)),
            (b"A:b\r\n\nc", Ok(5..6)),
            (b"\r\n", Ok(0..2)),
            (b"A:b\r\n\r", Err(5)),
            (b"A:b\r\n \r\n", Err(8)),
            // A bare CR makes a line that is not empty.
            (b"A:b\r\n\r\r\n", Err(8)),
            (b"A:b\r\r", Err(0)),
        ] {
            assert_eq!(empty_line(octets, 0), expected, "{}", octets.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_octet_belongs_to_one_line(octets in "[AB:\r\n \t\\x00]{0,40}") {
            let header = Header::new(octets.clone().into_bytes());
            let mut end = 0;
            for line in &header.lines {
                prop_assert_eq!(line.whole.start, end);
                prop_assert!(line.whole.end > end);
                prop_assert!(line.value.end <= line.whole.end);
                end = line.whole.end;
            }
            prop_assert_eq!(end, octets.len());
        }

        #[test]
        fn the_empty_line_is_found_over_any_borders(octets in "[A\r\n]{0,24}", border in 0usize..24) {
            let octets = octets.as_bytes();
            let border = border.min(octets.len());
            let found = empty_line(&octets[..border], 0).or_else(|start| empty_line(octets, start));
            prop_assert_eq!(found, empty_line(octets, 0));
        }
    }
}
