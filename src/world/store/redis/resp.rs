//! Redis's protocol (RESP2): commands to octets, octets to answers, and no more of it than the store needs.
//!
//! Not the crate `redis`: its parser switches on memchr's feature `std` for the whole program, and with it CPU detection in
//! sessions that never see a Redis server. What the far end sends is bounded in length, number and depth.

use std::io::{self, ErrorKind, Read};

/// Octets of one batch of answers: a page of the longest keys and values.
const ANSWERS_OCTETS_MAX: usize = 64 << 20;
/// Octets of a line: a number, a status or an error.
const LINE_OCTETS_MAX: usize = 64 << 10;
/// Members of an array. SCAN's is the largest.
const MEMBERS_MAX: i64 = 1 << 20;
/// Arrays in arrays. SCAN's has one.
const DEPTH_MAX: usize = 4;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// Octets.
    Octets(Vec<u8>),
    /// Several.
    Array(Vec<Said>),
    /// A status: OK.
    Status(String),
    /// An error, its code first.
    Error(String),
}

/// A command with its arguments.
pub(super) struct Command(Vec<Vec<u8>>);

impl Command {
    /// A command without arguments.
    pub(super) fn new(name: &str) -> Self {
        Self(vec![name.into()])
    }

    /// With a further argument.
    pub(super) fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.0.push(argument.into());
        self
    }

    /// As it goes over the wire: an array of octets.
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        out.extend(format!("*{}\r\n", self.0.len()).bytes());
        for part in &self.0 {
            out.extend(format!("${}\r\n", part.len()).bytes());
            out.extend(part);
            out.extend(b"\r\n");
        }
    }
}

/// Reads answers. What was read too much is the next answer's.
#[derive(Default)]
pub(super) struct Answers {
    held: Vec<u8>,
    /// How much of it is done with.
    used: usize,
}

impl Answers {
    /// Whether nothing of an answer has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Forgets what is done with: the next batch begins.
    pub(super) fn begin(&mut self) {
        self.held.drain(..self.used);
        self.used = 0;
    }

    /// The next answer.
    ///
    /// # Errors
    /// The source's; `UnexpectedEof` at its end; `InvalidData` for what is no answer.
    pub(super) fn next(&mut self, source: &mut dyn Read) -> io::Result<Said> {
        self.value(source, 0)
    }

    fn value(&mut self, source: &mut dyn Read, depth: usize) -> io::Result<Said> {
        let line = self.line(source)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(odd)?;
        let number = || rest.parse::<i64>().map_err(|_| odd());
        match kind {
            "+" => Ok(Said::Status(rest.to_owned())),
            "-" => Ok(Said::Error(rest.to_owned())),
            ":" => Ok(Said::Int(number()?)),
            "$" => match number()? {
                -1 => Ok(Said::Nil),
                octets => {
                    let octets = usize::try_from(octets).ok().filter(|octets| *octets < ANSWERS_OCTETS_MAX);
                    self.octets(source, octets.ok_or_else(odd)?)
                }
            },
            "*" => match number()? {
                -1 => Ok(Said::Nil),
                members if (0..=MEMBERS_MAX).contains(&members) && depth < DEPTH_MAX => {
                    (0..members).map(|_| self.value(source, depth + 1)).collect::<io::Result<_>>().map(Said::Array)
                }
                _ => Err(odd()),
            },
            _ => Err(odd()),
        }
    }

    fn line(&mut self, source: &mut dyn Read) -> io::Result<String> {
        let mut looked = self.used;
        loop {
            if let Some(end) = self.held[looked..].windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.held[self.used..looked + end]).into_owned();
                self.used = looked + end + 2;
                return Ok(line);
            }
            // The CR may have come without its LF.
            looked = self.held.len().saturating_sub(1).max(self.used);
            if looked - self.used > LINE_OCTETS_MAX {
                return Err(odd());
            }
            self.more(source)?;
        }
    }

    fn octets(&mut self, source: &mut dyn Read, octets: usize) -> io::Result<Said> {
        while self.held.len() < self.used + octets + 2 {
            self.more(source)?;
        }
        let (value, end) = self.held[self.used..][..octets + 2].split_at(octets);
        if end != b"\r\n" {
            return Err(odd());
        }
        let value = value.to_vec();
        self.used += octets + 2;
        Ok(Said::Octets(value))
    }

    fn more(&mut self, source: &mut dyn Read) -> io::Result<()> {
        let mut room = [0; 8192];
        match source.read(&mut room)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ if self.held.len() > ANSWERS_OCTETS_MAX => Err(odd()),
            octets => {
                self.held.extend(&room[..octets]);
                Ok(())
            }
        }
    }
}

fn odd() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "no answer of Redis's")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives its octets a few at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let octets = self.1.min(self.0.len()).min(buffer.len());
            buffer[..octets].copy_from_slice(&self.0[..octets]);
            self.0 = &self.0[octets..];
            Ok(octets)
        }
    }

    fn read(octets: &[u8], step: usize) -> Result<Said, ErrorKind> {
        Answers::default().next(&mut Drip(octets, step)).map_err(|error| error.kind())
    }

    #[test]
    fn answers_come_whole_however_they_are_cut() {
        let text = |text: &str| Said::Octets(text.into());
        let nested = Said::Array(vec![text("0"), Said::Array(vec![text("a\r\nb"), Said::Nil])]);
        let cases: [(&[u8], Result<Said, ErrorKind>); 18] = [
            (b"+OK\r\n", Ok(Said::Status("OK".into()))),
            (b"-ERR no\r\n", Ok(Said::Error("ERR no".into()))),
            (b":-12\r\n", Ok(Said::Int(-12))),
            (b"$0\r\n\r\n", Ok(text(""))),
            (b"$-1\r\n", Ok(Said::Nil)),
            (b"*-1\r\n", Ok(Said::Nil)),
            (b"*0\r\n", Ok(Said::Array(vec![]))),
            (b"*2\r\n$1\r\n0\r\n*2\r\n$4\r\na\r\nb\r\n$-1\r\n", Ok(nested)),
            (b"", Err(ErrorKind::UnexpectedEof)),
            (b"$3\r\nab", Err(ErrorKind::UnexpectedEof)),
            (b"\r\n", Err(ErrorKind::InvalidData)),
            (b"220 mx\r\n", Err(ErrorKind::InvalidData)),
            (b"\xff\r\n", Err(ErrorKind::InvalidData)),
            (b":x\r\n", Err(ErrorKind::InvalidData)),
            (b"$2\r\nabcd", Err(ErrorKind::InvalidData)),
            (b"$99999999999\r\n", Err(ErrorKind::InvalidData)),
            (b"*99999999999\r\n", Err(ErrorKind::InvalidData)),
            (b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", Err(ErrorKind::InvalidData)),
        ];
        for (octets, want) in cases {
            for step in [1, 2, 3, 4096] {
                assert_eq!(read(octets, step), want, "{:?} by {step}", String::from_utf8_lossy(octets));
            }
        }
        assert_eq!(read(&[b'+'; 99_999], 4096), Err(ErrorKind::InvalidData), "a line without end");
    }

    #[test]
    fn one_answer_after_the_other() {
        let mut source = Drip(b":1\r\n:2\r\n:3\r\n", 7);
        let mut answers = Answers::default();
        assert_eq!(answers.next(&mut source).unwrap(), Said::Int(1));
        answers.begin();
        assert_eq!(answers.next(&mut source).unwrap(), Said::Int(2));
        assert_eq!(answers.next(&mut source).unwrap(), Said::Int(3));
        answers.begin();
        assert!(answers.is_empty());
    }

    #[test]
    fn commands_are_arrays() {
        let mut out = Vec::new();
        Command::new("GET").arg("a\r\n").pack(&mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }
}
