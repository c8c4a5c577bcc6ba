//! Octets after 354 -> message content: finds the end of data and takes out the stuffed dots (RFC 5321 §4.5.2).
//!
//! In: the octets as read, in a buffer that may be written to. Out: the content, in place at the front of it.
//! Only CRLF begins a line here. A lone LF or CR is content like any other, so `LF . CR LF` ends nothing, whatever
//! the next hop would make of it (SMTP smuggling); survey.rs finds such octets and the session refuses them.

/// What one call did to its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Octets of the input that are done with. All of them, unless the end of data was found (what follows is the next
    /// command) or the input ends in the CR of what may be the end of data: that one CR must be given again, with more.
    pub consumed: usize,
    /// `input[..kept]` is content now.
    pub kept: usize,
    /// The end of data was found.
    pub done: bool,
}

/// Reads one message's content. Make a new one for each DATA.
#[derive(Debug, Clone)]
pub struct DotDecoder {
    at: At,
}

/// What came before the next octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing, or CRLF.
    LineStart,
    /// The first dot of a line, which is dropped either way.
    Dot,
    /// A CR.
    Cr,
    /// Anything else.
    Middle,
    /// The end of data.
    End,
}

impl Default for DotDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DotDecoder {
    /// Stands right after the CRLF of the DATA command, which begins a line (so `.CRLF` at once is an empty message).
    pub fn new() -> Self {
        Self { at: At::LineStart }
    }

    /// Takes the next octets of the client, and moves what is content to the front of `input`.
    /// The caller's buffer must hold two octets or more. After `done` it consumes nothing.
    pub fn feed(&mut self, input: &mut [u8]) -> Fed {
        let (mut read, mut kept) = (0, 0);
        while read < input.len() && self.at != At::End {
            match self.at {
                At::LineStart if input[read] == b'.' => {
                    read += 1;
                    self.at = At::Dot;
                }
                At::LineStart => self.at = At::Middle,
                At::Dot => match input[read..] {
                    [b'\r', b'\n', ..] => {
                        read += 2;
                        self.at = At::End;
                    }
                    // The end of data or a line that begins with a CR: the next octet tells.
                    [b'\r'] => break,
                    _ => self.at = At::Middle,
                },
                At::Cr if input[read] == b'\n' => {
                    keep(input, &mut read, &mut kept, 1);
                    self.at = At::LineStart;
                }
                At::Cr => self.at = At::Middle,
                At::Middle => {
                    let len = self.run(&input[read..]);
                    keep(input, &mut read, &mut kept, len);
                }
                At::End => {}
            }
        }
        Fed { consumed: read, kept, done: self.at == At::End }
    }

    /// How much of `rest` is content as it stands: up to the next dot that begins a line, else all. Sets where we are then.
    fn run(&mut self, rest: &[u8]) -> usize {
        let end = first_dot(rest).unwrap_or(rest.len());
        self.at = match &rest[..end] {
            [.., b'\r', b'\n'] => At::LineStart,
            [.., b'\r'] => At::Cr,
            _ => At::Middle,
        };
        end
    }
}

/// Where the first dot is that begins a line. A round of octets is looked at as one (the compiler vectorises it), so that
/// short lines cost no more than long ones; only a round with LF and dot in it is gone through.
fn first_dot(octets: &[u8]) -> Option<usize> {
    const ROUND: usize = 64;
    let mut start = 0;
    // With the octet after the round, as the LF may be the round's last.
    while let Some(round) = octets[start..].first_chunk::<{ ROUND + 1 }>() {
        let mut hit = false;
        for at in 0..ROUND {
            hit |= (round[at] == b'\n') & (round[at + 1] == b'.');
        }
        let end = start + ROUND + 1;
        if hit && let Some(dot) = search(&octets[..end], start) {
            return Some(dot);
        }
        start += ROUND;
    }
    search(octets, start)
}

/// The same, for the dots after `start`, one by one. The CR may stand before it.
fn search(octets: &[u8], start: usize) -> Option<usize> {
    let from = start.saturating_sub(1);
    let line_end = octets[from..].windows(3).position(|window| window == b"\r\n.")?;
    Some(from + line_end + 2)
}

/// Moves `len` octets from where we read to where we keep. Costs nothing until a dot has been taken out.
fn keep(input: &mut [u8], read: &mut usize, kept: &mut usize, len: usize) {
    if read != kept {
        input.copy_within(*read..*read + len, *kept);
    }
    *read += len;
    *kept += len;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `pieces` as a session does: what is not consumed is given again with the next piece.
    /// Gives the content, what was left over, and whether the end was found.
    fn decode(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>, bool) {
        let mut decoder = DotDecoder::new();
        let mut buffer = Vec::new();
        let mut content = Vec::new();
        let mut done = false;
        for piece in pieces {
            buffer.extend_from_slice(piece);
            if !done {
                let fed = decoder.feed(&mut buffer);
                content.extend_from_slice(&buffer[..fed.kept]);
                assert!(fed.done || buffer.len() - fed.consumed <= 1);
                buffer.drain(..fed.consumed);
                done = fed.done;
            }
        }
        (content, buffer, done)
    }

    /// The same by RFC 5321 §4.5.2 read aloud, an octet at a time over the whole: the judge of the above.
    fn model(input: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let mut content = Vec::new();
        let mut at = 0;
        while at < input.len() {
            let line_start = at == 0 || input[..at].ends_with(b"\r\n");
            if line_start && input[at] == b'.' {
                if input[at..].starts_with(b".\r\n") {
                    return (content, input[at + 3..].to_vec(), true);
                }
                if &input[at..] == b".\r" {
                    return (content, b"\r".to_vec(), false);
                }
            } else {
                content.push(input[at]);
            }
            at += 1;
        }
        (content, Vec::new(), false)
    }

    #[test]
    fn finds_the_end_and_unstuffs() {
        type Row = (&'static [u8], &'static [u8], Option<&'static [u8]>);
        // Input, content, and what follows the end of data if there is one.
        let table: &[Row] = &[
            (b"", b"", None),
            (b".\r\n", b"", Some(b"")),
            (b".\r\nQUIT\r\n", b"", Some(b"QUIT\r\n")),
            (b"\r\n.\r\n", b"\r\n", Some(b"")),
            (b"a\r\n.\r\n.\r\n", b"a\r\n", Some(b".\r\n")),
            (b"..\r\n.\r\n", b".\r\n", Some(b"")),
            (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n", Some(b"")),
            (b"a.\r\n.\r\n", b"a.\r\n", Some(b"")),
            // No end of data, and no line either: smuggling.
            (b"a\n.\r\nb", b"a\n.\r\nb", None),
            (b"a\r.\r\nb", b"a\r.\r\nb", None),
            (b"a\n.\nb", b"a\n.\nb", None),
            (b"a\r.\rb", b"a\r.\rb", None),
            (b"a\r\n.\nb", b"a\r\n\nb", None),
            (b"a\r\n.\rb", b"a\r\n\rb", None),
            (b"a\r\n.\r\rb", b"a\r\n\r\rb", None),
            (b"a\r\n.\r\r\nb", b"a\r\n\r\r\nb", None),
            (b"a\n\r.\r\nb", b"a\n\r.\r\nb", None),
            (b"a\n\n.\r\nb", b"a\n\n.\r\nb", None),
            (b"a\n..\r\nb", b"a\n..\r\nb", None),
            (b"a\r\n\0.\r\nb", b"a\r\n\0.\r\nb", None),
            (b"a\r\0\n.\r\nb", b"a\r\0\n.\r\nb", None),
            (b".\n", b"\n", None),
            (b".\r.\r\n", b"\r.\r\n", None),
            // CR CR LF does end in CRLF.
            (b"a\r\r\n.\r\nb", b"a\r\r\n", Some(b"b")),
            // The line after an unstuffed dot counts too.
            (b"..\r\n..\r\n.\r\nb", b".\r\n.\r\n", Some(b"b")),
        ];
        for (input, content, rest) in table {
            let shown = String::from_utf8_lossy(input);
            let wanted = (content.to_vec(), rest.unwrap_or_default().to_vec(), rest.is_some());
            assert_eq!(decode(&[input]), wanted, "{shown:?}");
            assert_eq!(model(input), wanted, "the model: {shown:?}");
            let octets: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(decode(&octets), wanted, "octet by octet: {shown:?}");
        }
    }

    #[test]
    fn asks_for_the_last_cr_again() {
        let mut decoder = DotDecoder::new();
        let mut buffer = *b"a\r\n.\r";
        assert_eq!(decoder.feed(&mut buffer), Fed { consumed: 4, kept: 3, done: false });
        assert_eq!(decoder.feed(&mut [b'\r']), Fed { consumed: 0, kept: 0, done: false });
        assert_eq!(decoder.clone().feed(&mut [b'\r', b'\n']), Fed { consumed: 2, kept: 0, done: true });
        assert_eq!(decoder.feed(&mut [b'\r', b'x']), Fed { consumed: 2, kept: 2, done: false });
    }

    #[test]
    fn consumes_nothing_after_the_end() {
        let mut decoder = DotDecoder::new();
        assert!(decoder.feed(&mut b".\r\n".to_vec()).done);
        assert_eq!(decoder.feed(&mut b"QUIT".to_vec()), Fed { consumed: 0, kept: 0, done: true });
    }

    fn dense() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"..\r\r\n\na".to_vec()), 0..30)
    }

    proptest! {
        #[test]
        fn any_split_gives_what_the_model_says(pieces in prop::collection::vec(dense(), 0..8)) {
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(decode(&pieces), model(&whole));
        }

        #[test]
        fn finds_dots_wherever_they_stand(
            lines in prop::collection::vec((0usize..140, prop::sample::select(vec!["\r\n", "\r\n.", "\n.", "\r\n.\r", ".", "\r"])), 0..12),
            cut in 0usize..1_000,
        ) {
            let whole: String = lines.iter().map(|(octets, end)| "x".repeat(*octets) + end).collect();
            let whole = whole.as_bytes();
            prop_assert_eq!(decode(&[whole]), model(whole));
            let (front, back) = whole.split_at(cut.min(whole.len()));
            prop_assert_eq!(decode(&[front, back]), model(whole));
        }

        #[test]
        fn undoes_dot_stuffing(lines in prop::collection::vec("[.a\u{e4} ]{0,8}", 0..12), rest in "[.\r\na]{0,6}") {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let sent: String = lines.iter().map(|line| {
                let dot = if line.starts_with('.') { "." } else { "" };
                format!("{dot}{line}\r\n")
            }).collect();
            let sent = format!("{sent}.\r\n{rest}");
            prop_assert_eq!(decode(&[sent.as_bytes()]), (content.into_bytes(), rest.into_bytes(), true));
        }
    }
}
