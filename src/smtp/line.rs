//! Octets -> command lines: finds the line's end and keeps the length limit.
//!
//! In: whatever the transport has read so far. Out: how much of it is a line. It holds no octets itself: the caller
//! keeps its buffer and drops what was taken. What stands in the line is command.rs's matter.

use crate::smtp::find::find;

/// Octets of a command line with its end, unless a setting says otherwise. RFC 5321 §4.5.3.1.4 asks for 512;
/// extensions add to it (SIZE 26, BODY 17, SMTPUTF8 10, ENVID and RET 107 and 9 at MAIL; NOTIFY 28 and ORCPT 507 at RCPT).
pub const COMMAND_OCTETS_DEFAULT: usize = 2_048;

/// What the front of the buffer is. `taken` octets of it are done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// A line: `buffer[..len]`, without its end (LF, or CR LF).
    Line {
        /// Octets of the line without its end.
        len: usize,
        /// Octets of the line with its end.
        taken: usize,
    },
    /// An over-long line ended here. Its octets are gone; said once per line.
    TooLong {
        /// Octets to drop.
        taken: usize,
    },
    /// No line's end yet: read more.
    Partial {
        /// Octets to drop: all of them while an over-long line goes by, otherwise none.
        taken: usize,
    },
}

/// Splits off command lines. A bare LF ends one too: people test with pipes (content is stricter, see data.rs).
#[derive(Debug, Clone)]
pub struct LineSplitter {
    octets_max: usize,
    /// The line now coming in was too long already: drop octets up to its end.
    dropping: bool,
}

impl LineSplitter {
    /// A splitter for lines of at most `octets_max` octets with their end.
    pub fn new(octets_max: usize) -> Self {
        Self { octets_max, dropping: false }
    }

    /// Looks at the front of `buffer`, which must begin where the last call's `taken` left off.
    /// The caller's buffer must hold `octets_max` octets: at that size a `Partial` always drops.
    pub fn split(&mut self, buffer: &[u8]) -> Split {
        let end = find(b'\n', buffer);
        let octets = end.map_or(buffer.len(), |at| at + 1);
        // Without its end, a line of `octets_max` octets has become too long.
        let too_long = self.dropping || octets > self.octets_max || (end.is_none() && octets == self.octets_max);
        match end {
            Some(at) if !too_long => {
                let line = &buffer[..at];
                let len = line.strip_suffix(b"\r").unwrap_or(line).len();
                Split::Line { len, taken: octets }
            }
            Some(_) => {
                self.dropping = false;
                Split::TooLong { taken: octets }
            }
            None if too_long => {
                self.dropping = true;
                Split::Partial { taken: octets }
            }
            None => Split::Partial { taken: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `pieces` one after the other; a line, or `None` for an over-long one. Also what was left over.
    fn lines(octets_max: usize, pieces: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, Vec<u8>) {
        let mut splitter = LineSplitter::new(octets_max);
        let mut buffer = Vec::new();
        let mut out = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match splitter.split(&buffer) {
                    Split::Line { len, taken } => {
                        out.push(Some(buffer[..len].to_vec()));
                        buffer.drain(..taken);
                    }
                    Split::TooLong { taken } => {
                        out.push(None);
                        buffer.drain(..taken);
                    }
                    Split::Partial { taken } => {
                        buffer.drain(..taken);
                        break;
                    }
                }
            }
        }
        (out, buffer)
    }

    #[test]
    fn splits_lines() {
        type Row = (&'static [u8], &'static [Option<&'static [u8]>], &'static [u8]);
        let table: &[Row] = &[
            (b"", &[], b""),
            (b"\n", &[Some(b"")], b""),
            (b"\r\n\r\n", &[Some(b""), Some(b"")], b""),
            // One CR belongs to the line's end, no more.
            (b"a\r\r\n", &[Some(b"a\r")], b""),
            (b"a\rb\r\n", &[Some(b"a\rb")], b""),
            (b"a\nb\r\nc", &[Some(b"a"), Some(b"b")], b"c"),
            // One under, at, and one over eight octets with the end.
            (b"12345\r\n", &[Some(b"12345")], b""),
            (b"123456\r\n", &[Some(b"123456")], b""),
            (b"1234567\n", &[Some(b"1234567")], b""),
            (b"1234567\r\nQUIT\r\n", &[None, Some(b"QUIT")], b""),
            (b"12345678\nQUIT\n", &[None, Some(b"QUIT")], b""),
            (b"1234567", &[], b"1234567"),
            // Over-long and not ended: dropped as it comes.
            (b"12345678", &[], b""),
            (b"123456789012345678901234567890", &[], b""),
        ];
        for (input, wanted, rest) in table {
            let (out, left) = lines(8, &[input]);
            let out: Vec<Option<&[u8]>> = out.iter().map(Option::as_deref).collect();
            assert_eq!((&out[..], &left[..]), (*wanted, *rest), "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn keeps_nothing_of_an_endless_line() {
        let mut splitter = LineSplitter::new(512);
        assert_eq!(splitter.split(&[b'x'; 511]), Split::Partial { taken: 0 });
        for _ in 0..1_000 {
            assert_eq!(splitter.split(&[b'x'; 512]), Split::Partial { taken: 512 });
        }
        assert_eq!(splitter.split(b"x"), Split::Partial { taken: 1 });
        assert_eq!(splitter.split(b"\nQUIT\n"), Split::TooLong { taken: 1 });
        assert_eq!(splitter.split(b"QUIT\n"), Split::Line { len: 4, taken: 5 });
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\r\n\0\xff".to_vec()), 0..12), 0..12),
        ) {
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(lines(8, &pieces), lines(8, &[&whole]));
        }
    }
}
