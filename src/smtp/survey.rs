//! What a message's content holds that somebody will want to know: bare CR and LF, NUL, 8-bit octets, where the header
//! ends, over-long lines.
//!
//! In: the content in pieces, already dot-unstuffed (DATA) or as sent (BDAT). Out: [`Findings`]. It judges nothing and
//! changes nothing: what a bare LF leads to is the session's policy (RFC 5321 §2.3.8: it must not be sent).

use crate::smtp::find::{find, find_last};

/// Octets of a text line with its CRLF that everybody must take (RFC 5321 §4.5.3.1.6).
pub const TEXT_LINE_OCTETS: u64 = 1_000;

/// What was found in the content so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Octets of content.
    pub octets: u64,
    /// Octets of the header with the empty line that ends it; `None` while there was no empty line.
    /// Any LF ends a line for this purpose, so that content which is later normalised has its header end in the same place.
    pub header_octets: Option<u64>,
    /// A CR without LF after it.
    pub bare_cr: bool,
    /// An LF without CR before it.
    pub bare_lf: bool,
    /// A NUL octet.
    pub nul: bool,
    /// An octet above 127.
    pub eight_bit: bool,
    /// Octets of the longest line with its end, if it is over [`TEXT_LINE_OCTETS`].
    pub over_long_line: Option<u64>,
}

/// Reads the content along with the spool, at a fraction of an instruction per octet.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    findings: Findings,
    /// The last octet fed was a CR.
    after_cr: bool,
    /// Octets of the line that is not ended yet.
    line_octets: u64,
    /// Until the header has ended: the line that is not ended yet is empty, or a lone CR.
    header_line_has_text: bool,
}

impl Survey {
    /// Nothing fed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known so far. A CR at the very end of what was fed is not called bare yet.
    pub fn so_far(&self) -> &Findings {
        &self.findings
    }

    /// Looks at the next piece of content.
    pub fn feed(&mut self, octets: &[u8]) {
        let (Some(&first), Some(&last)) = (octets.first(), octets.last()) else {
            return;
        };
        if self.findings.header_octets.is_none() {
            self.find_header_end(octets);
        }
        self.findings.bare_cr |= self.after_cr && first != b'\n';
        self.findings.bare_lf |= !self.after_cr && first == b'\n';
        self.look(octets);
        self.measure_lines(octets);
        self.after_cr = last == b'\r';
        self.findings.octets += octets.len() as u64;
    }

    /// The content is complete: a CR at its end is bare.
    pub fn finish(mut self) -> Findings {
        self.findings.bare_cr |= self.after_cr;
        self.findings
    }

    /// Everything that takes an octet and its neighbour to see. The loops are plain so that the compiler vectorises them.
    fn look(&mut self, octets: &[u8]) {
        /// Octets per round. A round with a stray CR or LF is looked at again to tell which it was.
        const ROUND: usize = 256;
        let mut high = 0u8;
        let mut nul = false;
        let mut start = 0;
        while start < octets.len() {
            let end = (start + ROUND).min(octets.len());
            let round = &octets[start..end];
            for &octet in round {
                high |= octet;
                nul |= octet == 0;
            }
            // Each octet with the one after it, over the round's border too.
            let follower = &octets[start + 1..(end + 1).min(octets.len())];
            let mut stray = false;
            for (&octet, &next) in round.iter().zip(follower) {
                stray |= (octet == b'\r') != (next == b'\n');
            }
            if stray {
                for (&octet, &next) in round.iter().zip(follower) {
                    self.findings.bare_cr |= octet == b'\r' && next != b'\n';
                    self.findings.bare_lf |= octet != b'\r' && next == b'\n';
                }
            }
            start = end;
        }
        self.findings.eight_bit |= high >= 0x80;
        self.findings.nul |= nul;
    }

    /// Looks for the longest line by jumping: from a line's start, the last LF within the length allowed shows that no line
    /// up to there is over it. So it costs one short backward search per thousand octets, not one search per line.
    fn measure_lines(&mut self, octets: &[u8]) {
        let mut rest = octets;
        loop {
            let allowed = self.findings.over_long_line.unwrap_or(TEXT_LINE_OCTETS);
            let window = allowed.saturating_sub(self.line_octets).min(rest.len() as u64) as usize;
            if let Some(at) = find_last(b'\n', &rest[..window]) {
                self.line_octets = 0;
                rest = &rest[at + 1..];
                continue;
            }
            // No line ends within the window: this line is over-long, or the piece ends first.
            let end = find(b'\n', &rest[window..]).map(|at| window + at + 1);
            self.line_octets += end.unwrap_or(rest.len()) as u64;
            if self.line_octets > allowed {
                self.findings.over_long_line = Some(self.line_octets);
            }
            let Some(end) = end else { return };
            self.line_octets = 0;
            rest = &rest[end..];
        }
    }

    fn find_header_end(&mut self, octets: &[u8]) {
        let mut start = 0;
        while let Some(at) = find(b'\n', &octets[start..]) {
            let line = &octets[start..start + at];
            if !self.header_line_has_text && is_blank(line, self.line_begun_by_cr(start)) {
                self.findings.header_octets = Some(self.findings.octets + (start + at + 1) as u64);
                return;
            }
            self.header_line_has_text = false;
            start += at + 1;
        }
        let line = &octets[start..];
        self.header_line_has_text |= !is_blank(line, self.line_begun_by_cr(start));
    }

    /// Whether the line that goes on at `start` of the piece in hand began with a CR in the piece before.
    fn line_begun_by_cr(&self, start: usize) -> bool {
        start == 0 && self.after_cr
    }
}

/// Whether a line without its LF is nothing, or one CR.
fn is_blank(line: &[u8], begun_by_cr: bool) -> bool {
    line.is_empty() || (line == b"\r" && !begun_by_cr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survey(pieces: &[&[u8]]) -> Findings {
        let mut survey = Survey::new();
        for piece in pieces {
            survey.feed(piece);
        }
        survey.finish()
    }

    /// The same, an octet at a time: the judge of the above.
    fn model(content: &[u8]) -> Findings {
        let mut found = Findings { octets: content.len() as u64, ..Findings::default() };
        let mut line_start = 0;
        for (at, &octet) in content.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| content[at]);
            let after = content.get(at + 1).copied();
            found.bare_cr |= octet == b'\r' && after != Some(b'\n');
            found.bare_lf |= octet == b'\n' && before != Some(b'\r');
            found.nul |= octet == 0;
            found.eight_bit |= octet > 127;
            if octet == b'\n' || after.is_none() {
                let line = &content[line_start..=at];
                let len = line.len() as u64;
                if len > found.over_long_line.unwrap_or(TEXT_LINE_OCTETS) {
                    found.over_long_line = Some(len);
                }
                if found.header_octets.is_none() && (line == b"\n" || line == b"\r\n") {
                    found.header_octets = Some(at as u64 + 1);
                }
                line_start = at + 1;
            }
        }
        found
    }

    #[test]
    fn finds() {
        let none = Findings::default();
        let table: &[(&[u8], Findings)] = &[
            (b"", none),
            (b"\r\n", Findings { octets: 2, header_octets: Some(2), ..none }),
            (b"\n", Findings { octets: 1, header_octets: Some(1), bare_lf: true, ..none }),
            (b"\r", Findings { octets: 1, bare_cr: true, ..none }),
            (b"\r\r\n", Findings { octets: 3, bare_cr: true, ..none }),
            (b"\n\r", Findings { octets: 2, header_octets: Some(1), bare_cr: true, bare_lf: true, ..none }),
            (b"a: b\r\n\r\nc", Findings { octets: 9, header_octets: Some(8), ..none }),
            (b"a: b\r\n \r\nc", Findings { octets: 10, ..none }),
            (b"a\r\n\r\n\r\n", Findings { octets: 7, header_octets: Some(5), ..none }),
            (b"a\0\x80", Findings { octets: 3, nul: true, eight_bit: true, ..none }),
            (b"\x7f", Findings { octets: 1, ..none }),
        ];
        for (content, wanted) in table {
            let shown = String::from_utf8_lossy(content);
            assert_eq!(survey(&[content]), *wanted, "{shown:?}");
            assert_eq!(model(content), *wanted, "the model: {shown:?}");
            let octets: Vec<&[u8]> = content.chunks(1).collect();
            assert_eq!(survey(&octets), *wanted, "octet by octet: {shown:?}");
        }
    }

    #[test]
    fn measures_lines_at_the_limit() {
        let table = [(998, None), (999, Some(1_001)), (5_000, Some(5_002))];
        for (text_octets, wanted) in table {
            let line = [&b"x".repeat(text_octets)[..], b"\r\n"].concat();
            let content = [&line[..], b"short\r\n", &line[..], b"short\r\n"].concat();
            assert_eq!(survey(&[&content]).over_long_line, wanted, "{text_octets}");
        }
        assert_eq!(survey(&[&[b'x'; 1_000]]).over_long_line, None);
        assert_eq!(survey(&[&[b'x'; 1_001]]).over_long_line, Some(1_001));
        // The longest is not the first, and comes in pieces.
        let content = [&[b'x'; 1_100][..], b"\n", &[b'x'; 999], b"\n", &[b'x'; 1_200], b"\n"].concat();
        let pieces: Vec<&[u8]> = content.chunks(700).collect();
        assert_eq!(survey(&pieces).over_long_line, Some(1_201));
    }

    #[test]
    fn finds_a_stray_octet_wherever_it_stands() {
        for at in 0..600 {
            for (octet, cr, lf) in [(b'\r', true, false), (b'\n', false, true)] {
                let mut content = [b'x'; 600];
                content[at] = octet;
                let found = survey(&[&content]);
                assert_eq!((found.bare_cr, found.bare_lf), (cr, lf), "{octet} at {at}");
            }
            if at > 0 {
                let mut content = [b'x'; 600];
                content[at - 1] = b'\r';
                content[at] = b'\n';
                let found = survey(&[&content]);
                assert!(!found.bare_cr && !found.bare_lf, "CRLF at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_what_the_model_says(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(prop::sample::select(b"\r\r\n\na \0\x80".to_vec()), 0..20),
                (0usize..1_200).prop_map(|octets| vec![b'x'; octets]),
                Just(b"\r\n\r\n".to_vec()),
            ], 0..10),
        ) {
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(survey(&pieces), model(&whole));
            prop_assert_eq!(survey(&[&whole]), model(&whole));
        }
    }
}
