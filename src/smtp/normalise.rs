//! Content in which a CR or LF stands alone -> content in which every line ends in CRLF (`bare_newline normalise`).
//!
//! In: content in pieces. Out: the same with each lone CR or LF made CRLF, whatever the pieces' borders. End of data was found
//! before, in the octets as sent: what is made here ends nothing.

/// Makes line ends whole.
#[derive(Debug, Clone, Default)]
pub struct Normaliser {
    after_cr: bool,
}

impl Normaliser {
    /// Appends the next piece to `out`.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for &octet in octets {
            match (self.after_cr, octet) {
                (true, b'\n') => out.push(b'\n'),
                (true, _) => {
                    out.push(b'\n');
                    Self::start(octet, out);
                }
                (false, _) => Self::start(octet, out),
            }
            self.after_cr = octet == b'\r';
        }
    }

    fn start(octet: u8, out: &mut Vec<u8>) {
        match octet {
            b'\n' => out.extend(b"\r\n"),
            _ => out.push(octet),
        }
    }

    /// The content is complete.
    pub fn finish(self, out: &mut Vec<u8>) {
        if self.after_cr {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut normaliser, mut out) = (Normaliser::default(), Vec::new());
        for piece in pieces {
            normaliser.feed(piece, &mut out);
        }
        normaliser.finish(&mut out);
        out
    }

    #[test]
    fn every_line_end_becomes_crlf_and_no_octet_is_lost() {
        let rows: [(&[u8], &[u8]); 9] = [
            (b"", b""),
            (b"\r", b"\r\n"),
            (b"\n", b"\r\n"),
            (b"\r\n", b"\r\n"),
            (b"\n\r", b"\r\n\r\n"),
            (b"\r\r\n", b"\r\n\r\n"),
            (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd"),
            (b"\n\n", b"\r\n\r\n"),
            (b"a\r\n.\n", b"a\r\n.\r\n"),
        ];
        for (input, output) in rows {
            assert_eq!(normalised(&[input]), output, "{input:?}");
            let single: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(normalised(&single), output, "{input:?} octet by octet");
        }
    }
}
