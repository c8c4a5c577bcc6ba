//! The message: the octets as received, what was put on top of them, and what edits made of their header.
//!
//! In: a spool, trace fields, edits. Out: a view of the header, the body as a reader, and the whole as a stream with
//! CRLF or LF line ends, in constant memory. The body is never changed; text may only be added after it. MIME parts
//! are left to who needs them.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};

use crate::smtp::find::find;

use super::edit::{self, Edit, EditError};
use super::header::{self, Beginning, Header, HeaderError, LINE_OCTETS_MAX};
use super::{append, spool::Spool};

/// Octets that are read, converted and written at once: a pipe's buffer. Twice that is well within a second-level cache.
const CHUNK_OCTETS: usize = 64 * 1024;

/// Octets by which the header is looked for. Most headers need one such read.
const HEADER_STEP_OCTETS: u64 = 8 * 1024;

/// The line ends that a backend wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// The octets as they are. A message that does not end in CRLF still does not.
    Crlf,
    /// Every CRLF becomes LF; a bare CR or LF stays.
    Lf,
}

/// A received message.
pub struct Message {
    spool: Spool,
    header_octets_max: usize,
    /// What stands before the spool's octets: trace fields, and the header itself once it was edited.
    top: Vec<u8>,
    /// Whether `top` stands in place of the received header, too.
    edited: bool,
    /// Text that was added after the body.
    tail: Vec<u8>,
    /// What the spool begins with; found when first asked for.
    beginning: OnceCell<Beginning>,
    /// Where the received header ends; found when first asked for.
    extent: OnceCell<Extent>,
    /// The header as it is now; dropped by every change of it.
    view: OnceCell<Header>,
}

/// Where header and body stand in the spool.
#[derive(Clone, Copy)]
struct Extent {
    fields_end: u64,
    body: u64,
}

impl Message {
    /// A message of these octets, whose header may have `header_octets_max` octets. More of them are no error here,
    /// but then there is no view of the header, and no edit.
    pub fn new(spool: Spool, header_octets_max: usize) -> Self {
        Self {
            spool,
            header_octets_max,
            top: Vec::new(),
            edited: false,
            tail: Vec::new(),
            beginning: OnceCell::new(),
            extent: OnceCell::new(),
            view: OnceCell::new(),
        }
    }

    /// Octets as received: without trace fields and edits.
    pub fn octets(&self) -> u64 {
        self.spool.len()
    }

    /// The header as [`write_to`](Self::write_to) would write it now, trace fields included. A message whose first
    /// line is no field has none of its own.
    pub fn header(&self) -> Result<&Header, HeaderError> {
        if let Some(header) = self.view.get() {
            return Ok(header);
        }
        let mut octets = self.top.clone();
        if !self.edited {
            octets.append(&mut self.received_header()?);
        }
        Ok(self.view.get_or_init(|| Header::new(octets)))
    }

    /// The body, from after the empty line, with text that was appended. Line ends are as received.
    pub fn body(&self) -> Result<impl Read + '_, HeaderError> {
        Ok(self.spooled(self.extent()?.body).chain(&self.tail[..]))
    }

    /// Puts trace fields (see `trace.rs`) on top: whole fields, each line ending in CRLF.
    pub fn prepend(&mut self, fields: &str) -> Result<(), EditError> {
        let wrong = |what| EditError::Value { name: "trace fields".to_owned(), what };
        let header = Header::new(fields.as_bytes().to_vec());
        if header.malformed().next().is_some() {
            return Err(wrong("a line that is no field"));
        }
        if !fields.is_empty() && !fields.ends_with("\r\n") || fields.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(wrong("a bare line end, a NUL, or no line end at its end"));
        }
        self.put_on_top(fields);
        Ok(())
    }

    /// Makes all these changes. If one fails, the message is as it was.
    pub fn edit_all(&mut self, edits: Vec<Edit>) -> Result<(), EditError> {
        if edits.is_empty() {
            return Ok(());
        }
        let before = (self.top.clone(), self.edited, self.tail.clone());
        for edit in edits {
            if let Err(error) = self.edit(edit) {
                (self.top, self.edited, self.tail) = before;
                self.view.take();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes one change. If it fails, the message is as it was.
    pub fn edit(&mut self, edit: Edit) -> Result<(), EditError> {
        let header = match edit {
            Edit::PrependField { name, value } => {
                self.put_on_top(&edit::field(&name, &value)?);
                return Ok(());
            }
            Edit::AppendText(text) => return self.append_text(&text),
            Edit::AppendField { name, value } => {
                let field = edit::field(&name, &value)?;
                edit::with_field_at_end(self.header()?, &field)
            }
            Edit::RemoveField { name, nth } => edit::without_field(self.header()?, &name, nth)?,
            Edit::ReplaceField { name, nth, value } => edit::with_value(self.header()?, &name, nth, &value)?,
        };
        self.set_header(header);
        Ok(())
    }

    /// Whether [`Edit::AppendText`] of this text would succeed; the error says why not.
    pub fn takes_text(&self, text: &str) -> Result<(), EditError> {
        append::octets_to_add(self, text).map(drop)
    }

    /// Writes the whole message: trace fields, header, body, appended text.
    pub fn write_to(&self, out: &mut dyn Write, ends: LineEnds) -> io::Result<()> {
        self.write_below("", out, ends)
    }

    /// A file without a name that holds what [`write_to`](Self::write_to) writes, to be read from its beginning.
    ///
    /// # Errors
    /// The spool cannot be read, or its directory has no room.
    pub fn to_file(&self, ends: LineEnds) -> io::Result<File> {
        let mut file = self.spool.another_file()?;
        let mut out = BufWriter::with_capacity(CHUNK_OCTETS, &file);
        self.write_to(&mut out, ends)?;
        out.flush()?;
        drop(out);
        file.rewind()?;
        Ok(file)
    }

    /// As [`write_to`](Self::write_to), with further fields on top that this delivery alone has (Return-Path,
    /// Delivered-To; see `trace.rs`).
    pub fn write_below(&self, fields: &str, out: &mut dyn Write, ends: LineEnds) -> io::Result<()> {
        let octets = fields.len() as u64 + self.octets_out()?;
        let chunk = usize::try_from(octets).map_or(CHUNK_OCTETS, |octets| octets.min(CHUNK_OCTETS));
        let mut source = fields
            .as_bytes()
            .chain(&self.top[..])
            .chain(self.separator(fields)?)
            .chain(self.spooled(self.spool_start()))
            .chain(&self.tail[..]);
        let mut buffer = vec![0; chunk];
        let mut converter = Converter::new(out, ends);
        loop {
            let filled = fill(&mut source, &mut buffer)?;
            if filled == 0 {
                return converter.finish();
            }
            converter.write(&buffer[..filled])?;
        }
    }

    /// The octets that [`write_to`](Self::write_to) writes with `LineEnds::Crlf`.
    pub fn octets_out(&self) -> io::Result<u64> {
        let added = self.top.len() + self.separator("")?.len() + self.tail.len();
        Ok(added as u64 + self.spool.len() - self.spool_start())
    }

    fn put_on_top(&mut self, fields: &str) {
        self.top.splice(..0, fields.bytes());
        self.view.take();
    }

    fn set_header(&mut self, octets: Vec<u8>) {
        self.top = octets;
        self.edited = true;
        self.view.take();
    }

    fn append_text(&mut self, text: &str) -> Result<(), EditError> {
        let added = append::octets_to_add(self, text)?;
        if self.extent()?.body == self.spool.len() {
            // There may be no empty line yet, so the last field must end before it.
            let mut header = self.header()?.octets().to_vec();
            edit::end_line(&mut header);
            self.set_header(header);
        }
        self.tail.extend_from_slice(&added);
        Ok(())
    }

    /// The empty line, where there must be one that the sender did not write.
    ///
    /// A message without a header gets one below our fields: its first line would else be read as one of them, or
    /// worse, as the continuation of one. So does a message without a body, above text that is appended to it.
    fn separator(&self, above: &str) -> io::Result<&'static [u8]> {
        let fields = !self.top.is_empty() || !above.is_empty();
        let needed = match self.beginning()? {
            Beginning::Body => fields,
            Beginning::EmptyLine => false,
            // The extent is known if there is a tail.
            Beginning::Header | Beginning::Nothing => {
                !self.tail.is_empty() && self.extent.get().is_none_or(|extent| extent.fields_end == extent.body)
            }
        };
        Ok(if needed { b"\r\n" } else { b"" })
    }

    fn beginning(&self) -> io::Result<Beginning> {
        if let Some(known) = self.beginning.get() {
            return Ok(*known);
        }
        let mut octets = [0; LINE_OCTETS_MAX];
        let filled = fill(&mut self.spooled(0), &mut octets)?;
        Ok(*self.beginning.get_or_init(|| header::beginning(&octets[..filled])))
    }

    /// Where the spool's octets go on below `top`.
    fn spool_start(&self) -> u64 {
        // An edited header was read, so its extent is known.
        self.extent.get().filter(|_| self.edited).map_or(0, |extent| extent.fields_end)
    }

    fn extent(&self) -> Result<Extent, HeaderError> {
        if self.extent.get().is_none() {
            self.received_header()?;
        }
        Ok(self.extent.get().copied().unwrap_or(Extent { fields_end: 0, body: 0 }))
    }

    /// Reads the header as received, without its empty line, and notes its extent.
    fn received_header(&self) -> Result<Vec<u8>, HeaderError> {
        let mut octets = Vec::new();
        if self.beginning()? == Beginning::Body {
            self.extent.get_or_init(|| Extent { fields_end: 0, body: 0 });
            return Ok(octets);
        }
        let mut source = self.spooled(0);
        if let Some(known) = self.extent.get() {
            source.append_to(&mut octets, known.fields_end)?;
            return Ok(octets);
        }
        let mut line = 0;
        let empty_line = loop {
            let read = source.append_to(&mut octets, HEADER_STEP_OCTETS)?;
            match header::empty_line(&octets, line) {
                Ok(found) => break found,
                // At the end, or too far: one of the two is told apart below.
                Err(_) if read == 0 || octets.len() > self.header_octets_max => {
                    break octets.len()..octets.len();
                }
                Err(unfinished) => line = unfinished,
            }
        };
        if empty_line.end > self.header_octets_max {
            return Err(HeaderError::TooLong { octets_max: self.header_octets_max });
        }
        let extent = Extent { fields_end: empty_line.start as u64, body: empty_line.end as u64 };
        self.extent.get_or_init(|| extent);
        octets.truncate(empty_line.start);
        Ok(octets)
    }

    fn spooled(&self, at: u64) -> Spooled<'_> {
        Spooled { spool: &self.spool, at }
    }
}

/// Reads a spool from some offset to its end.
struct Spooled<'a> {
    spool: &'a Spool,
    at: u64,
}

impl Spooled<'_> {
    /// Adds the next octets to a vector, at most so many, and returns how many came. One read, where std would try small ones
    /// first.
    fn append_to(&mut self, octets: &mut Vec<u8>, octets_max: u64) -> io::Result<usize> {
        let before = octets.len();
        let more = octets_max.min(self.spool.len().saturating_sub(self.at));
        octets.resize(before + usize::try_from(more).unwrap_or(usize::MAX - before), 0);
        let filled = fill(self, &mut octets[before..])?;
        octets.truncate(before + filled);
        Ok(filled)
    }
}

impl Read for Spooled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.spool.read_at(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads until the buffer is full or the source is at its end.
pub(super) fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes chunks with the line ends wanted.
struct Converter<'a> {
    out: &'a mut dyn Write,
    ends: LineEnds,
    /// The last chunk ended in CR: it is written when the next does not begin with LF.
    held_cr: bool,
    converted: Vec<u8>,
}

impl<'a> Converter<'a> {
    fn new(out: &'a mut dyn Write, ends: LineEnds) -> Self {
        Self { out, ends, held_cr: false, converted: Vec::new() }
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.ends == LineEnds::Crlf {
            return self.out.write_all(chunk);
        }
        if self.held_cr && chunk.first() != Some(&b'\n') {
            self.out.write_all(b"\r")?;
        }
        if self.converted.len() < chunk.len() {
            self.converted.resize(chunk.len(), 0);
        }
        let kept = without_cr(chunk, &mut self.converted);
        self.held_cr = self.converted[..kept].ends_with(b"\r");
        self.out.write_all(&self.converted[..kept - usize::from(self.held_cr)])
    }

    fn finish(self) -> io::Result<()> {
        if self.held_cr { self.out.write_all(b"\r") } else { Ok(()) }
    }
}

/// Copies a chunk without each CR that an LF follows, and returns how many octets that made. `to` is at least as long.
fn without_cr(chunk: &[u8], to: &mut [u8]) -> usize {
    let (mut start, mut kept) = (0, 0);
    loop {
        let cr = find(b'\r', &chunk[start..]).map(|length| start + length);
        // A CR that stays goes with what stands before it.
        let end = match cr {
            Some(cr) if chunk.get(cr + 1) == Some(&b'\n') => cr,
            Some(cr) => cr + 1,
            None => chunk.len(),
        };
        copy(&chunk[start..], &mut to[kept..], end - start);
        kept += end - start;
        let Some(cr) = cr else { return kept };
        start = cr + 1;
    }
}

/// Copies `octets` from the front of one slice to the front of another, and perhaps a few more. Most are a line: for
/// those, what memcpy() does before it begins (musl's most of all) would take longer than the copying.
fn copy(from: &[u8], to: &mut [u8], octets: usize) {
    const STEP: usize = 32;
    const LINE_OCTETS: usize = 256;
    let mut at = 0;
    while octets <= LINE_OCTETS
        && at < octets
        && let (Some(step), Some(place)) = (from[at..].first_chunk::<STEP>(), to[at..].first_chunk_mut::<STEP>())
    {
        *place = *step;
        at += STEP;
    }
    if at < octets {
        to[at..octets].copy_from_slice(&from[at..octets]);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::mail::SpoolPlace;

    const HEADER_OCTETS_MAX: usize = 20_000;

    fn message(octets: &[u8], threshold: usize, dir: &Path) -> Message {
        let mut spool = Spool::new(SpoolPlace { threshold, dir: dir.to_path_buf() });
        spool.write(octets).unwrap();
        Message::new(spool, HEADER_OCTETS_MAX)
    }

    fn in_memory(octets: &[u8]) -> Message {
        message(octets, usize::MAX, Path::new(""))
    }

    fn written(message: &Message, ends: LineEnds) -> Vec<u8> {
        let mut out = Vec::new();
        message.write_to(&mut out, ends).unwrap();
        out
    }

    fn crlf(message: &Message) -> String {
        let out = written(message, LineEnds::Crlf);
        assert_eq!(message.octets_out().unwrap(), out.len() as u64);
        out.escape_ascii().to_string()
    }

    #[test]
    fn a_file_holds_all_of_it() {
        let dir = tempfile::TempDir::new().unwrap();
        for (octets, threshold) in [(3, 100), (300_000, 100), (300_000, usize::MAX)] {
            let mut message =
                message("Subject: x\r\n\r\nline\r\n".repeat(octets / 20 + 1).as_bytes(), threshold, dir.path());
            message.prepend("Received: here\r\n").unwrap();
            let mut found = Vec::new();
            message.to_file(LineEnds::Lf).unwrap().read_to_end(&mut found).unwrap();
            assert!(found == written(&message, LineEnds::Lf) && found.starts_with(b"Received: here\nSubject: x\n"));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        assert!(message(b"x", usize::MAX, &dir.path().join("none")).to_file(LineEnds::Lf).is_err());
    }

    /// What `LineEnds::Lf` means, by the octet.
    fn model_of_lf(octets: &[u8]) -> Vec<u8> {
        let followed = |index: usize| octets.get(index + 1) == Some(&b'\n');
        let kept = |(index, octet): (usize, &u8)| (*octet != b'\r' || !followed(index)).then_some(*octet);
        octets.iter().enumerate().filter_map(kept).collect()
    }

    fn remove(name: &str, nth: Option<usize>) -> Edit {
        Edit::RemoveField { name: name.to_owned(), nth }
    }

    fn append(name: &str, value: &str) -> Edit {
        Edit::AppendField { name: name.to_owned(), value: value.to_owned() }
    }

    fn replace(name: &str, nth: usize, value: &str) -> Edit {
        Edit::ReplaceField { name: name.to_owned(), nth, value: value.to_owned() }
    }

    #[test]
    fn our_fields_are_parted_from_a_body_without_header() {
        // (received, what our field is followed by)
        for (octets, below) in [
            ("", ""),
            ("\r\nbody", "\\r\\nbody"),
            ("\nbody", "\\nbody"),
            ("A: b\r\n\r\nbody", "A: b\\r\\n\\r\\nbody"),
            ("A: b", "A: b"),
            ("only a body\r\nsecond: x\r\nthird\r\n", "\\r\\nonly a body\\r\\nsecond: x\\r\\nthird\\r\\n"),
            // This would go on the field above it.
            (" x; dkim=pass\r\n\r\n", "\\r\\n x; dkim=pass\\r\\n\\r\\n"),
            ("From a@b Thu\r\nA: b\r\n\r\n", "From a@b Thu\\r\\nA: b\\r\\n\\r\\n"),
            ("A: b\r\njunk\r\n\r\nbody", "A: b\\r\\njunk\\r\\n\\r\\nbody"),
        ] {
            let mut message = in_memory(octets.as_bytes());
            assert_eq!(crlf(&message), octets.as_bytes().escape_ascii().to_string());
            let mut out = Vec::new();
            message.write_below("T: t\r\n", &mut out, LineEnds::Crlf).unwrap();
            assert_eq!(out.escape_ascii().to_string(), format!("T: t\\r\\n{below}"));
            message.prepend("T: t\r\n").unwrap();
            assert_eq!(crlf(&message), format!("T: t\\r\\n{below}"));
            assert_eq!(message.header().unwrap().count("T"), 1);
            // Reading the header and editing it are no other.
            message.edit(remove("none", None)).unwrap();
            assert_eq!(crlf(&message), format!("T: t\\r\\n{below}"));
            assert_eq!(message.octets(), octets.len() as u64);
        }
    }

    #[test]
    fn header_and_body() {
        for (octets, fields, malformed, body) in [
            ("", 0, 0, ""),
            ("A: b\r\nC: d\r\n\r\nbody\r\n\r\nmore", 2, 0, "body\r\n\r\nmore"),
            ("A: b\n\nbody", 1, 0, "body"),
            ("\r\nA: b\r\n\r\n", 0, 0, "A: b\r\n\r\n"),
            ("body\r\nA: b\r\n\r\nc", 0, 0, "body\r\nA: b\r\n\r\nc"),
            ("A: b\r\nC: d", 2, 0, ""),
            ("A: b\r\njunk\r\nC: d\r\n\r\nbody", 2, 1, "body"),
            (">From x\r\nA: b\r\n\r\nbody", 1, 1, "body"),
        ] {
            let message = in_memory(octets.as_bytes());
            let header = message.header().unwrap();
            assert_eq!(header.entries().count() - header.malformed().count(), fields, "{octets:?}");
            assert_eq!(header.malformed().count(), malformed, "{octets:?}");
            let mut read = String::new();
            message.body().unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, body);
        }
    }

    #[test]
    fn a_header_has_a_limit() {
        for (octets, empty_line, seen) in [
            (HEADER_OCTETS_MAX, "\r\n\r\n", true),
            (HEADER_OCTETS_MAX + 1, "\r\n\r\n", false),
            (HEADER_OCTETS_MAX, "", true),
            (HEADER_OCTETS_MAX + 1, "", false),
            (10 * HEADER_OCTETS_MAX, "", false),
        ] {
            let field = "A: ".to_owned() + &"b".repeat(octets - 3 - empty_line.len()) + empty_line;
            let mut message = in_memory((field.clone() + if empty_line.is_empty() { "" } else { "body" }).as_bytes());
            assert_eq!(message.header().is_ok(), seen, "{octets}");
            assert_eq!(message.body().is_ok(), seen, "{octets}");
            // Trace fields can always be added; what needs the header cannot.
            message.prepend("T: t\r\n").unwrap();
            let result = message.edit(append("X", "y"));
            assert_eq!(result.is_ok(), seen, "{octets}");
            if let Err(error) = result {
                assert_eq!(error.to_string(), "the header is longer than 20000 octets");
                assert!(crlf(&message).starts_with("T: t\\r\\nA: bb"));
            }
        }
    }

    #[test]
    fn edits() {
        const RECEIVED: &str = "a: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nA : 3\r\nb:4\r\n\r\na: body\r\n";
        let top = Edit::PrependField { name: "T".to_owned(), value: "t".to_owned() };
        for (edits, expected) in [
            (vec![top.clone()], "T: t\r\na: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nA : 3\r\nb:4\r\n"),
            (vec![append("Z", "z")], "a: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nA : 3\r\nb:4\r\nZ: z\r\n"),
            (vec![remove("A", None)], "B: 2\r\n\tfolded\r\njunk\r\nb:4\r\n"),
            (vec![remove("A", Some(1))], "a: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nb:4\r\n"),
            (vec![remove("b", Some(0)), remove("b", Some(0))], "a: 1\r\njunk\r\nA : 3\r\n"),
            (vec![remove("x", None)], "a: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nA : 3\r\nb:4\r\n"),
            (vec![replace("b", 0, "x")], "a: 1\r\nB: x\r\njunk\r\nA : 3\r\nb:4\r\n"),
            (vec![replace("B", 1, "x")], "a: 1\r\nB: 2\r\n\tfolded\r\njunk\r\nA : 3\r\nb: x\r\n"),
            (vec![top.clone(), remove("t", Some(0)), remove("a", None), remove("b", None)], "junk\r\n"),
            (vec![remove("a", None), top, append("Z", "z")], "T: t\r\nB: 2\r\n\tfolded\r\njunk\r\nb:4\r\nZ: z\r\n"),
        ] {
            let mut message = in_memory(RECEIVED.as_bytes());
            for edit in &edits {
                message.edit(edit.clone()).unwrap();
            }
            let expected = format!("{expected}\r\na: body\r\n");
            assert_eq!(crlf(&message), expected.as_bytes().escape_ascii().to_string(), "{edits:?}");
        }
    }

    #[test]
    fn a_failed_edit_changes_nothing() {
        let mut message = in_memory(b"A: 1\r\n\r\nbody");
        for edit in [
            remove("A", Some(1)),
            remove("B", Some(0)),
            replace("B", 0, "x"),
            replace("A", 0, "x\r\ny"),
            append("A B", "x"),
            append("A", "x\n"),
            Edit::PrependField { name: "A".to_owned(), value: "x\r\n\r\n".to_owned() },
            Edit::AppendText("\0".to_owned()),
        ] {
            assert!(message.edit(edit.clone()).is_err(), "{edit:?}");
            assert_eq!(crlf(&message), "A: 1\\r\\n\\r\\nbody");
        }
    }

    #[test]
    fn an_open_last_field_is_ended_before_the_next() {
        let mut message = in_memory(b"A: 1");
        message.edit(append("B", "2")).unwrap();
        assert_eq!(crlf(&message), "A: 1\\r\\nB: 2\\r\\n");
    }

    #[test]
    fn trace_fields_are_whole_fields() {
        let mut message = in_memory(b"A: 1\r\n\r\nbody");
        for fields in
            ["X: y", "X: y\n", "X: y\r\nZ", " X: y\r\n", "X: y\r\n\r\n", "X: a\nb\r\n", "X: \0\r\n", "X: a\rb\r\n"]
        {
            assert!(message.prepend(fields).is_err(), "{fields:?}");
        }
        for fields in ["", "X: y\r\n\tz\r\n", "Y: 1\r\nZ: 2\r\n"] {
            message.prepend(fields).unwrap();
        }
        assert_eq!(crlf(&message), "Y: 1\\r\\nZ: 2\\r\\nX: y\\r\\n\\tz\\r\\nA: 1\\r\\n\\r\\nbody");
    }

    #[test]
    fn line_ends_at_the_border_of_chunks() {
        let dir = TempDir::new().unwrap();
        for end in ["\r\n", "\r", "\n", "\r\r\n", "\n\r", "\r\r"] {
            for before in CHUNK_OCTETS - 3..=CHUNK_OCTETS {
                for after in ["", "x", "\n", "\r\n"] {
                    let octets = [b"x".repeat(before), end.into(), after.into()].concat();
                    for threshold in [0, usize::MAX] {
                        let message = message(&octets, threshold, dir.path());
                        assert!(written(&message, LineEnds::Crlf) == octets);
                        assert!(written(&message, LineEnds::Lf) == model_of_lf(&octets), "{before} {end:?} {after:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn errors_of_the_target_come_through() {
        let message = in_memory(b"A: 1\r\n\r\nbody");
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = message.write_to(&mut full, LineEnds::Lf).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut small = [0; 5];
        let error = message.write_to(&mut &mut small[..], LineEnds::Crlf).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    /// A message as a list of lines, which a model can edit.
    fn lines() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[abc] ?: [a-c \u{e4}]{0,5}(\r\n\t[ab]{1,3}){0,2}", 1..8)
    }

    fn any_edit() -> impl Strategy<Value = Edit> {
        let name = "[abcdABC]";
        prop_oneof![
            (name, "[a-c]{0,4}").prop_map(|(name, value)| Edit::PrependField { name, value }),
            (name, "[a-c]{0,4}").prop_map(|(name, value)| Edit::AppendField { name, value }),
            (name, prop::option::of(0usize..4)).prop_map(|(name, nth)| Edit::RemoveField { name, nth }),
            (name, 0usize..4, "[a-c]{1,4}").prop_map(|(name, nth, value)| Edit::ReplaceField { name, nth, value }),
        ]
    }

    /// The same edit on the list; false if it cannot be made.
    fn edit_model(lines: &mut Vec<String>, edit: &Edit) -> bool {
        let new = |name: &str, value: &str| {
            if value.is_empty() { format!("{name}:") } else { format!("{name}: {value}") }
        };
        let places = |lines: &[String], name: &str| -> Vec<usize> {
            let named = |line: &String| line[..1].eq_ignore_ascii_case(name);
            lines.iter().enumerate().filter(|(_, line)| named(line)).map(|(place, _)| place).collect()
        };
        match edit {
            Edit::PrependField { name, value } => lines.insert(0, new(name, value)),
            Edit::AppendField { name, value } => lines.push(new(name, value)),
            Edit::RemoveField { name, nth: None } => lines.retain(|line| !line[..1].eq_ignore_ascii_case(name)),
            Edit::RemoveField { name, nth: Some(nth) } => match places(lines, name).get(*nth) {
                Some(&place) => drop(lines.remove(place)),
                None => return false,
            },
            Edit::ReplaceField { name, nth, value } => match places(lines, name).get(*nth) {
                Some(&place) => lines[place] = new(&lines[place][..1], value),
                None => return false,
            },
            Edit::AppendText(_) => unreachable!("not made here"),
        }
        true
    }

    proptest! {
        #[test]
        fn untouched_it_is_what_was_received(octets in prop::collection::vec(prop::sample::select(&b"A: \r\n\t.\xff\0"[..]), 0..60)) {
            let message = in_memory(&octets);
            prop_assert_eq!(&written(&message, LineEnds::Crlf), &octets);
            prop_assert_eq!(written(&message, LineEnds::Lf), model_of_lf(&octets));
            // The view and the body, with the empty line between, are all of it.
            let header = message.header().unwrap().octets().to_vec();
            let received = Header::received(&octets);
            prop_assert_eq!(received.octets(), &header);
            let mut body = Vec::new();
            message.body().unwrap().read_to_end(&mut body).unwrap();
            prop_assert!(octets.starts_with(&header) && octets.ends_with(&body));
            let between = &octets[header.len()..octets.len() - body.len()];
            prop_assert!(matches!(between, b"" | b"\n" | b"\r\n"));
        }

        #[test]
        fn any_chunks_convert_alike(octets in "[\r\nab]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6)) {
            let octets = octets.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(octets.len())).collect();
            cuts.sort_unstable();
            let mut out = Vec::new();
            let mut converter = Converter::new(&mut out, LineEnds::Lf);
            let mut start = 0;
            for cut in cuts.into_iter().chain([octets.len()]) {
                if start < cut {
                    converter.write(&octets[start..cut]).unwrap();
                }
                start = cut;
            }
            converter.finish().unwrap();
            prop_assert_eq!(out, model_of_lf(octets));
        }

        #[test]
        fn lines_of_any_length_convert_alike(
            lines in prop::collection::vec((0usize..400, prop::sample::select(vec!["\r\n", "\n", "\r", "\r\r\n"])), 0..20),
        ) {
            let octets: String = lines.iter().map(|(length, end)| "0123456789abcdef".repeat(26)[..*length].to_owned() + end).collect();
            let mut out = Vec::new();
            let mut converter = Converter::new(&mut out, LineEnds::Lf);
            converter.write(octets.as_bytes()).unwrap();
            converter.finish().unwrap();
            prop_assert_eq!(out, model_of_lf(octets.as_bytes()));
        }

        #[test]
        fn edits_change_what_they_name_and_no_other_octet(
            mut model in lines(),
            edits in prop::collection::vec(any_edit(), 0..8),
            body in "(\r\n[ab:\r\n]{0,20})?",
            threshold in 0usize..60,
        ) {
            let dir = TempDir::new().unwrap();
            let octets = model.iter().map(|line| format!("{line}\r\n")).collect::<String>() + &body;
            let mut message = message(octets.as_bytes(), threshold, dir.path());
            for edit in edits {
                let made = message.edit(edit.clone()).is_ok();
                prop_assert_eq!(made, edit_model(&mut model, &edit), "{:?}", edit);
                let expected = model.iter().map(|line| format!("{line}\r\n")).collect::<String>() + &body;
                prop_assert_eq!(written(&message, LineEnds::Crlf).escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
                let header = message.header().unwrap();
                prop_assert_eq!(header.entries().count(), model.len());
            }
        }
    }
}
