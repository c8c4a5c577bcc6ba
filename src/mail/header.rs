//! The view of a header: which lines are fields, and where their names and values stand.
//!
//! In: the octets of a header. Out: names and raw values as slices of them; nothing is decoded but folding. A line
//! that is no field is kept in its place as malformed. Addresses, dates and MIME parameters are left to who asks.
//!
//! A line ends at LF, with or without CR before it: most backends store LF alone, so a reader behind them would see
//! a field that hides behind a bare LF, and so must we. A bare CR ends nothing.

use std::io;
use std::ops::Range;

use memchr::memchr;

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

    /// All entries, from the top.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.lines.iter().map(|line| {
            if line.name.is_empty() {
                Entry::Malformed(&self.octets[line.whole.clone()])
            } else {
                Entry::Field {
                    name: self.name(line),
                    value: &self.octets[line.value.clone()],
                }
            }
        })
    }

    /// The raw values of the fields of this name, in any case, from the top.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.named(name)
            .map(|line| &self.octets[line.value.clone()])
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
        self.lines
            .iter()
            .filter(|line| line.name.is_empty())
            .map(|line| &self.octets[line.whole.clone()])
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
        self.lines
            .iter()
            .filter(move |line| !line.name.is_empty() && self.name(line).eq_ignore_ascii_case(name))
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
        text.extend_from_slice(if line.len() < piece.len() {
            line.strip_suffix(b"\r").unwrap_or(line)
        } else {
            line
        });
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
    let unquoted = &octets[octets.iter().take_while(|&&octet| octet == b'>').count()..];
    if octets.is_empty() {
        Beginning::Nothing
    } else if octets.starts_with(b"\n") || octets.starts_with(b"\r\n") {
        Beginning::EmptyLine
    } else if field_name(octets).is_some() || unquoted.starts_with(b"From ") {
        Beginning::Header
    } else {
        Beginning::Body
    }
}

/// Looks for the empty line from `start`, which begins a line. Found: where it begins and ends. Not found: where the
/// last, unfinished line begins, to go on from when there are more octets.
pub(super) fn empty_line(octets: &[u8], start: usize) -> Result<Range<usize>, usize> {
    let mut start = start;
    while let Some(length) = memchr(b'\n', &octets[start..]) {
        let end = start + length;
        if matches!(&octets[start..end], b"" | b"\r") {
            return Ok(start..end + 1);
        }
        start = end + 1;
    }
    Err(start)
}

fn line_end(octets: &[u8], start: usize) -> usize {
    memchr(b'\n', &octets[start..]).map_or(octets.len(), |length| start + length + 1)
}

fn line(octets: &[u8], whole: Range<usize>) -> Line {
    let content = &octets[whole.clone()];
    let Some((name, colon)) = field_name(content) else {
        return Line {
            name: 0..0,
            value: 0..0,
            whole,
        };
    };
    let content = content
        .strip_suffix(b"\n")
        .map_or(content, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let (start, end) = (whole.start, whole.start + content.len());
    Line {
        name: start..start + name,
        value: start + colon + 1..end,
        whole,
    }
}

/// The length of the field name that a line begins with, and where its colon stands. Blanks before the colon are the
/// obsolete syntax (RFC 5322 §4.5), which readers still take, so that a forged field must not pass by them.
fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let name = line.iter().take_while(|&&octet| is_ftext(octet)).count();
    let blanks = line[name..]
        .iter()
        .take_while(|&&octet| matches!(octet, b' ' | b'\t'))
        .count();
    (name > 0 && line.get(name + blanks) == Some(&b':')).then_some((name, name + blanks))
}

/// RFC 5322 §3.6.8: what a field name is made of.
pub(super) fn is_ftext(octet: u8) -> bool {
    matches!(octet, 33..=57 | 59..=126)
}
