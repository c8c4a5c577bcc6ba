//! A message's octets on their way after 354: dots stuffed, the end marked (RFC 5321 §4.5.2), in constant memory.
//!
//! A CR or LF that stands alone is not sent, ever: the far end could take what follows for the end of the data, and the rest
//! for commands (RFC 5321 §2.3.8).

use std::io::{self, Write};

use crate::smtp::find::find_either;

/// Octets that are collected before a write.
const WRITE_OCTETS: usize = 64 * 1024;

/// Stuffs what is written to it.
pub(super) struct Stuffing<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    /// The octet before the one that comes next.
    last: Last,
    /// What a failed write of ours was, as opposed to an error of the source.
    pub(super) failed: bool,
    /// The content holds a bare CR or LF.
    pub(super) bare: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing, or CRLF.
    LineEnd,
    Cr,
    Other,
}

impl<'a> Stuffing<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, buffer: Vec::with_capacity(WRITE_OCTETS + 2), last: Last::LineEnd, failed: false, bare: false }
    }

    /// Ends the data. Only what was whole may be ended.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.last {
            Last::LineEnd => {}
            Last::Cr => return Err(bare()),
            Last::Other => self.put(b"\r\n")?,
        }
        self.put(b".\r\n")?;
        self.flush()
    }

    fn put(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            let room = WRITE_OCTETS - self.buffer.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.buffer.extend_from_slice(now);
            if self.buffer.len() == WRITE_OCTETS {
                self.flush()?;
            }
            octets = later;
        }
        Ok(())
    }

    fn stuff(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while let Some(&first) = octets.first() {
            if self.last == Last::Cr {
                if first != b'\n' {
                    return Err(bare());
                }
                self.put(b"\n")?;
                self.last = Last::LineEnd;
                octets = &octets[1..];
                continue;
            }
            if self.last == Last::LineEnd && first == b'.' {
                self.put(b".")?;
            }
            let Some(end) = find_either(b'\r', b'\n', octets) else {
                self.last = Last::Other;
                return self.put(octets);
            };
            if octets[end] == b'\n' {
                return Err(bare());
            }
            self.put(&octets[..=end])?;
            self.last = Last::Cr;
            octets = &octets[end + 1..];
        }
        Ok(())
    }
}

impl Write for Stuffing<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let result = self.stuff(octets);
        if let Err(error) = &result {
            self.bare |= is_bare(error);
            self.failed |= !self.bare;
        }
        result.map(|()| octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}

fn bare() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a bare CR or LF")
}

/// Whether an error is about a CR or LF that stands alone.
pub(super) fn is_bare(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stuffed(parts: &[&[u8]]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut stuffing = Stuffing::new(&mut out);
        for part in parts {
            stuffing.write_all(part).ok()?;
        }
        stuffing.finish().ok()?;
        Some(out)
    }

    #[test]
    fn every_cut_gives_the_same() {
        let table: &[(&[u8], Option<&[u8]>)] = &[
            (b"", Some(b".\r\n")),
            (b".", Some(b"..\r\n.\r\n")),
            (b".\r\n", Some(b"..\r\n.\r\n")),
            (b"a", Some(b"a\r\n.\r\n")),
            (b"a\r\n.b\r\n..\r\n", Some(b"a\r\n..b\r\n...\r\n.\r\n")),
            (b"\r\n\r\n.", Some(b"\r\n\r\n..\r\n.\r\n")),
            (b"a.\r\n", Some(b"a.\r\n.\r\n")),
            (b"a\n.\n", None),
            (b"a\r.\r\n", None),
            (b"a\r\r\n", None),
            (b"\n", None),
            (b"a\r", None),
        ];
        for (octets, wanted) in table {
            for cut in 0..=octets.len() {
                let found = stuffed(&[&octets[..cut], &octets[cut..]]);
                assert_eq!(found.as_deref(), *wanted, "{} cut at {cut}", octets.escape_ascii());
            }
        }
    }
}
