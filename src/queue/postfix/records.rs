//! Records (record.c, rec_type.h of Postfix): a type, a length of seven bits an octet, the data. From envelope and message to
//! the octets that cleanup and postdrop read.
//!
//! Addresses are written as Postfix holds them inside: the local-part unquoted. Nothing with a control character in it is written.

use std::collections::HashSet;
use std::io::{self, Write};

use crate::mail::{Envelope, Recipient};
use crate::queue::QueueError;
use crate::smtp::address::ForwardPath;
use crate::smtp::escape::safe;
use crate::smtp::find::find;
use crate::smtp::parameters::{Body, MailParameters, Notify, Ret};

/// Octets of a line in one record. postdrop refuses records longer than `line_length_limit`, which is 2048 unless lowered.
const PIECE_OCTETS: usize = 1024;
/// Records that are sent at once.
const BATCH_OCTETS: usize = 64 * 1024;
/// Octets of an attribute's value: ours are names, addresses and client's words that are shorter.
const VALUE_OCTETS_MAX: usize = 1024;

/// Adds a record.
pub(in crate::queue) fn record(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.push(kind);
    let mut left = data.len();
    while left > 0x7f {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.extend_from_slice(data);
}

/// Adds an attribute, unless it has no value: Postfix takes an empty one for a fault.
pub(in crate::queue) fn attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        record(out, b'A', format!("{name}={}", safe(value, VALUE_OCTETS_MAX)).as_bytes());
    }
}

/// What stands before the sender, for cleanup and postdrop alike.
pub(in crate::queue) fn before_sender(out: &mut Vec<u8>, parameters: &MailParameters) {
    // Mail from the network: Postfix completes neither header nor addresses.
    attribute(out, "rewrite_context", "remote");
    attribute(out, "envelope_id", parameters.envid.as_deref().unwrap_or_default());
    match parameters.ret {
        Some(Ret::Full) => attribute(out, "ret_flags", "1"),
        Some(Ret::Headers) => attribute(out, "ret_flags", "2"),
        None => {}
    }
}

/// The sender, and what MAIL said of the content.
pub(in crate::queue) fn sender(out: &mut Vec<u8>, envelope: &Envelope) -> Result<(), QueueError> {
    address(out, b'S', &envelope.reverse_path().address())?;
    match envelope.parameters().body {
        Some(Body::SevenBit) => attribute(out, "encoding", "7bit"),
        Some(Body::EightBitMime) => attribute(out, "encoding", "8bit"),
        Some(Body::BinaryMime) | None => {}
    }
    Ok(())
}

/// The recipients, each place once, each after its options.
pub(in crate::queue) fn recipients(out: &mut Vec<u8>, envelope: &Envelope) -> Result<(), QueueError> {
    let mut seen = HashSet::new();
    for recipient in envelope.recipients() {
        for target in recipient.targets.iter().filter(|target| seen.insert(target.address())) {
            if let Some(notify) = recipient.parameters.notify {
                attribute(out, "notify_flags", &notify_flags(notify).to_string());
            }
            attribute(out, "dsn_orig_rcpt", &original(recipient));
            address(out, b'R', &target.address())?;
        }
    }
    Ok(())
}

/// Whom the client meant: ORCPT, else RCPT's own path, as Postfix's smtpd notes it.
fn original(recipient: &Recipient) -> String {
    if let Some(orcpt) = &recipient.parameters.orcpt {
        return format!("{};{}", orcpt.addr_type, orcpt.address);
    }
    let kind = if recipient.asked.needs_smtputf8() { "utf-8" } else { "rfc822" };
    match &recipient.asked {
        ForwardPath::Mailbox(mailbox) => format!("{kind};{mailbox}"),
        ForwardPath::Postmaster(word) => format!("{kind};{word}"),
    }
}

/// dsn_mask.h.
fn notify_flags(notify: Notify) -> u32 {
    if notify == Notify::NEVER {
        return 1;
    }
    u32::from(notify.success) * 2 + u32::from(notify.failure) * 4 + u32::from(notify.delay) * 8
}

fn address(out: &mut Vec<u8>, kind: u8, address: &str) -> Result<(), QueueError> {
    // No path can hold one; what Postfix made of it would be two addresses.
    if address.contains(char::is_control) {
        return Err(QueueError::permanent("an address with a control character in it cannot be queued", "").code(1, 3));
    }
    record(out, kind, address.as_bytes());
    Ok(())
}

/// Writes text with LF line ends as content records, behind the envelope's.
pub(in crate::queue) struct Content<'a> {
    send: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// Records that wait to be sent.
    batch: Vec<u8>,
    /// A line's beginning.
    line: Vec<u8>,
    /// Whether an error was the far end's, not the spool's.
    pub(in crate::queue) failed: bool,
}

impl<'a> Content<'a> {
    /// After these envelope records.
    pub(in crate::queue) fn new(mut envelope: Vec<u8>, send: &'a mut dyn FnMut(&[u8]) -> io::Result<()>) -> Self {
        record(&mut envelope, b'M', b"");
        Self { send, batch: envelope, line: Vec::new(), failed: false }
    }

    /// The end of the message.
    pub(in crate::queue) fn finish(mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            // A last line without its end.
            record(&mut self.batch, b'L', &self.line);
        }
        record(&mut self.batch, b'X', b"");
        record(&mut self.batch, b'E', b"");
        self.send_batch()
    }

    /// Adds to the line in hand.
    fn add(&mut self, mut text: &[u8]) {
        while self.line.len() + text.len() > PIECE_OCTETS {
            let (piece, rest) = text.split_at(PIECE_OCTETS - self.line.len());
            self.line.extend_from_slice(piece);
            record(&mut self.batch, b'L', &self.line);
            self.line.clear();
            text = rest;
        }
        self.line.extend_from_slice(text);
    }

    fn send_batch(&mut self) -> io::Result<()> {
        let sent = (self.send)(&self.batch);
        self.failed |= sent.is_err();
        self.batch.clear();
        sent
    }
}

impl Write for Content<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut rest = octets;
        while let Some(end) = find(b'\n', rest) {
            if self.line.is_empty() && end <= PIECE_OCTETS {
                record(&mut self.batch, b'N', &rest[..end]);
            } else {
                self.add(&rest[..end]);
                record(&mut self.batch, b'N', &self.line);
                self.line.clear();
            }
            rest = &rest[end + 1..];
            if self.batch.len() >= BATCH_OCTETS {
                self.send_batch()?;
            }
        }
        self.add(rest);
        if self.batch.len() >= BATCH_OCTETS {
            self.send_batch()?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Splits records again, for the tests.
#[cfg(test)]
pub(in crate::queue) fn split(mut octets: &[u8]) -> Vec<(char, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some((&kind, mut rest)) = octets.split_first() {
        let (mut length, mut shift) = (0, 0);
        while let Some((&octet, after)) = rest.split_first() {
            rest = after;
            length |= usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet < 0x80 {
                break;
            }
        }
        records.push((char::from(kind), rest[..length].to_vec()));
        octets = &rest[length..];
    }
    records
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let table: &[(usize, &[u8])] = &[
            (0, b"N\0"),
            (1, b"N\x01"),
            (127, b"N\x7f"),
            (128, b"N\x80\x01"),
            (300, b"N\xac\x02"),
            (16384, b"N\x80\x80\x01"),
        ];
        for (length, head) in table {
            let mut out = Vec::new();
            record(&mut out, b'N', &vec![b'x'; *length]);
            assert_eq!((&out[..head.len()], out.len()), (*head, head.len() + length), "{length}");
        }
    }

    /// The records of a content, in whatever pieces it came; put together again they are the content.
    fn content(pieces: &[&[u8]]) -> Vec<(char, Vec<u8>)> {
        let mut sent = Vec::new();
        let mut send = |octets: &[u8]| {
            sent.extend_from_slice(octets);
            Ok(())
        };
        let mut content = Content::new(Vec::new(), &mut send);
        pieces.iter().for_each(|piece| content.write_all(piece).unwrap());
        content.finish().unwrap();
        let records = split(&sent);
        let whole: Vec<u8> = records
            .iter()
            .flat_map(|(kind, data)| match kind {
                'N' => [data, &b"\n"[..]].concat(),
                _ => data.clone(),
            })
            .collect();
        assert_eq!(whole, pieces.concat());
        assert!(records.iter().all(|(_, data)| data.len() <= PIECE_OCTETS));
        records
    }

    #[test]
    fn lines_become_records() {
        let table: &[(&[u8], &str)] = &[
            (b"", "MXE"),
            (b"\n", "MNXE"),
            (b"a\n\n.\nFrom b\n", "MNNNNXE"),
            (b"a", "MLXE"),
            (b"a\nb", "MNLXE"),
            (b"\0\r\xff\n", "MNXE"),
        ];
        for (text, kinds) in table {
            let found: String = content(&[text]).iter().map(|(kind, _)| *kind).collect();
            assert_eq!(found, *kinds, "{}", text.escape_ascii());
            let octets: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(content(&octets), content(&[text]), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn long_lines_come_in_pieces() {
        for (length, kinds) in [(1023, "MNXE"), (1024, "MNXE"), (1025, "MLNXE"), (2048, "MLNXE"), (2049, "MLLNXE")] {
            let line = [vec![b'x'; length], b"\n".to_vec()].concat();
            let found: String = content(&[&line]).iter().map(|(kind, _)| *kind).collect();
            assert_eq!(found, kinds, "{length}");
            assert_eq!(content(&[&line[..700], &line[700..]]), content(&[&line]));
        }
        let endless = vec![b'x'; 1 << 20];
        content(&[&endless, b"\nnext\n"]);
    }

    #[test]
    fn nothing_is_slipped_in() {
        let mut out = Vec::new();
        attribute(&mut out, "helo_name", "a\r\nR\0b");
        attribute(&mut out, "client_name", "");
        assert_eq!(split(&out), [('A', b"helo_name=a??R?b".to_vec())]);
        for bad in ["a\0b@c", "a\nb@c", "a\rb@c"] {
            assert!(address(&mut out, b'R', bad).is_err());
        }
    }
}
