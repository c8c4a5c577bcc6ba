//! The message: the octets as received, what was put on top of them, and what edits made of their header.
//!
//! In: a spool, trace fields, edits. Out: a view of the header, the body as a reader, and the whole as a stream with
//! CRLF or LF line ends, in constant memory. The body is never changed; text may only be added after it. MIME parts
//! are left to who needs them.

use std::cell::OnceCell;
use std::io::{self, Read, Write};

use memchr::memchr;

use super::edit::{self, Edit, EditError};
use super::header::{self, Beginning, Header, HeaderError, LINE_OCTETS_MAX};
use super::{append, spool::Spool};

/// Octets that are read, converted and written at once. Twice a pipe's buffer; still within a second-level cache.
const CHUNK_OCTETS: usize = 128 * 1024;

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
        let wrong = |what| EditError::Value {
            name: "trace fields".to_owned(),
            what,
        };
        let header = Header::new(fields.as_bytes().to_vec());
        if header.malformed().next().is_some() {
            return Err(wrong("a line that is no field"));
        }
        if !fields.is_empty() && !fields.ends_with("\r\n")
            || fields.replace("\r\n", "").contains(['\r', '\n', '\0'])
        {
            return Err(wrong("a bare line end, a NUL, or no line end at its end"));
        }
        self.put_on_top(fields);
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
            Edit::ReplaceField { name, nth, value } => {
                edit::with_value(self.header()?, &name, nth, &value)?
            }
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
        let mut converter = Converter {
            out,
            ends,
            held_cr: false,
        };
        loop {
            let filled = fill(&mut source, &mut buffer)?;
            if filled == 0 {
                return converter.finish();
            }
            converter.write(&mut buffer[..filled])?;
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
                !self.tail.is_empty()
                    && self
                        .extent
                        .get()
                        .is_none_or(|extent| extent.fields_end == extent.body)
            }
        };
        Ok(if needed { b"\r\n" } else { b"" })
    }

    fn beginning(&self) -> io::Result<Beginning> {
        let mut octets = [0; LINE_OCTETS_MAX];
        let filled = fill(&mut self.spooled(0), &mut octets)?;
        Ok(header::beginning(&octets[..filled]))
    }

    /// Where the spool's octets go on below `top`.
    fn spool_start(&self) -> u64 {
        // An edited header was read, so its extent is known.
        self.extent
            .get()
            .filter(|_| self.edited)
            .map_or(0, |extent| extent.fields_end)
    }

    fn extent(&self) -> Result<Extent, HeaderError> {
        if self.extent.get().is_none() {
            self.received_header()?;
        }
        Ok(self.extent.get().copied().unwrap_or(Extent {
            fields_end: 0,
            body: 0,
        }))
    }

    /// Reads the header as received, without its empty line, and notes its extent.
    fn received_header(&self) -> Result<Vec<u8>, HeaderError> {
        let mut octets = Vec::new();
        if self.beginning()? == Beginning::Body {
            self.extent.get_or_init(|| Extent {
                fields_end: 0,
                body: 0,
            });
            return Ok(octets);
        }
        let mut source = self.spooled(0);
        let mut line = 0;
        let empty_line = loop {
            let read = source
                .by_ref()
                .take(HEADER_STEP_OCTETS)
                .read_to_end(&mut octets)?;
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
            return Err(HeaderError::TooLong {
                octets_max: self.header_octets_max,
            });
        }
        let extent = Extent {
            fields_end: empty_line.start as u64,
            body: empty_line.end as u64,
        };
        self.extent.get_or_init(|| extent);
        octets.truncate(empty_line.start);
        Ok(octets)
    }

    fn spooled(&self, at: u64) -> Spooled<'_> {
        Spooled {
            spool: &self.spool,
            at,
        }
    }
}

/// Reads a spool from some offset to its end.
struct Spooled<'a> {
    spool: &'a Spool,
    at: u64,
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
}

impl Converter<'_> {
    fn write(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        if self.ends == LineEnds::Crlf {
            return self.out.write_all(chunk);
        }
        if self.held_cr && chunk.first() != Some(&b'\n') {
            self.out.write_all(b"\r")?;
        }
        let kept = drop_cr(chunk);
        self.held_cr = chunk[..kept].ends_with(b"\r");
        self.out
            .write_all(&chunk[..kept - usize::from(self.held_cr)])
    }

    fn finish(self) -> io::Result<()> {
        if self.held_cr {
            self.out.write_all(b"\r")
        } else {
            Ok(())
        }
    }
}

/// Drops, in place, every CR that an LF follows. Returns how many octets are left.
fn drop_cr(chunk: &mut [u8]) -> usize {
    let Some(mut cr) = memchr(b'\r', chunk) else {
        return chunk.len();
    };
    let mut kept = cr;
    loop {
        let start = cr + usize::from(chunk.get(cr + 1) == Some(&b'\n'));
        let next = memchr(b'\r', &chunk[cr + 1..]).map_or(chunk.len(), |length| cr + 1 + length);
        chunk.copy_within(start..next, kept);
        kept += next - start;
        if next == chunk.len() {
            return kept;
        }
        cr = next;
    }
}
