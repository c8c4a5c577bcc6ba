//! A message's octets on their way by BDAT (RFC 3030 §2): in chunks whose length is told before, nothing stuffed, nothing added.
//!
//! The replies to all chunks but the last are taken before the last is sent. So a message that any of them refuses is surely not
//! there, and the reply to the last, which is left to the caller, is about the whole message.

use std::io::{self, ErrorKind, Write};

use crate::smtp::find::find_either;

use super::peer::Peer;
use super::{Failure, Stage, lost, open, spool};
use crate::mail::{LineEnds, Message};
use crate::queue::QueueError;

/// Octets of every chunk but the last, which may have fewer.
const CHUNK_OCTETS: usize = 64 * 1024;

/// Chunks that are sent before their replies are read, where the far end offers PIPELINING.
const AHEAD_CHUNKS: usize = 8;

/// What the record calls this step.
const AT: &str = "BDAT";

/// Sends the whole message, up to its last chunk, whose reply (or replies, by LMTP) is still to come. `binary`: it may hold any
/// octets; else a CR or LF that stands alone is not sent, as with DATA.
pub(super) fn send(peer: &mut Peer, message: &Message, binary: bool, pipelining: bool) -> Result<(), (Failure, Stage)> {
    let ahead = if pipelining { AHEAD_CHUNKS } else { 1 };
    let mut chunks = Chunks {
        peer,
        chunk: Vec::with_capacity(CHUNK_OCTETS),
        ends: Ends { binary, cr: false },
        awaited: 0,
        ahead,
        failed: None,
    };
    let written = message.write_to(&mut chunks, LineEnds::Crlf);
    // A reply that broke it off says more than the error that it became.
    if let Some(failed) = chunks.failed.take() {
        return Err(failed);
    }
    match written {
        Ok(()) => chunks.finish(),
        // Every chunk so far went whole, so commands can be said.
        Err(error) => Err(open(if is_bare(&error) { bare() } else { spool(&error).into() })),
    }
}

/// Cuts what is written to it into chunks.
struct Chunks<'a> {
    peer: &'a mut Peer,
    /// The next chunk. Held back while it may be the last.
    chunk: Vec<u8>,
    ends: Ends,
    /// Chunks whose replies are still to come.
    awaited: usize,
    ahead: usize,
    /// Why nothing more can be sent.
    failed: Option<(Failure, Stage)>,
}

impl Chunks<'_> {
    fn put(&mut self, mut octets: &[u8]) -> Result<(), (Failure, Stage)> {
        while !octets.is_empty() {
            if self.chunk.len() == CHUNK_OCTETS {
                self.send_chunk()?;
            }
            let room = CHUNK_OCTETS - self.chunk.len();
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.chunk.extend_from_slice(now);
            octets = later;
        }
        Ok(())
    }

    fn send_chunk(&mut self) -> Result<(), (Failure, Stage)> {
        if self.awaited == self.ahead {
            self.take_reply()?;
        }
        if self.awaited == 0 {
            self.peer.nothing_came(AT).map_err(lost)?;
        }
        if let Err(error) = self.write("") {
            return Err(lost(self.why_lost(&error)));
        }
        self.awaited += 1;
        Ok(())
    }

    /// Command and octets in one write.
    fn write(&mut self, last: &str) -> io::Result<()> {
        let command = format!("BDAT {}{last}\r\n", self.chunk.len());
        self.chunk.splice(..0, command.bytes());
        let written = self.peer.stream().write_all(&self.chunk);
        self.chunk.clear();
        written
    }

    fn take_reply(&mut self) -> Result<(), (Failure, Stage)> {
        self.awaited -= 1;
        let reply = self.peer.reply(AT).map_err(lost)?;
        if reply.code == 250 {
            return Ok(());
        }
        let refused = self.peer.refused(AT, "", &reply);
        // Hung up upon, or nothing that can be followed.
        if refused.elsewhere {
            return Err(lost(refused));
        }
        // RFC 3030 §2: the transaction is over, and RSET is all that is left to say. The chunks that went ahead were whole, and
        // are refused too: their replies are taken, or the far end would find the connection reset and not see it.
        while self.awaited > 0 {
            self.awaited -= 1;
            if self.peer.reply(AT).is_err() {
                return Err(lost(refused));
            }
        }
        Err(open(refused))
    }

    /// A far end that hangs up in the middle mostly says why.
    fn why_lost(&mut self, error: &io::Error) -> Failure {
        if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
            while self.awaited > 0 {
                self.awaited -= 1;
                match self.peer.reply(AT) {
                    Ok(reply) if reply.class() >= 4 => return self.peer.refused(AT, "", &reply),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        self.peer.lost(AT, error)
    }

    /// Sends the last chunk. From here on the message may be queued there.
    fn finish(mut self) -> Result<(), (Failure, Stage)> {
        if self.ends.cr {
            return Err(open(bare()));
        }
        while self.awaited > 0 {
            self.take_reply()?;
        }
        self.peer.nothing_came(AT).map_err(lost)?;
        self.write(" LAST").map_err(|error| lost(self.peer.lost("end of data", &error).here()))
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if !self.ends.admit(octets) {
            return Err(ErrorKind::InvalidData.into());
        }
        match self.put(octets) {
            Ok(()) => Ok(octets.len()),
            Err(failed) => {
                self.failed = Some(failed);
                Err(ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks for a CR or LF that stands alone.
struct Ends {
    binary: bool,
    /// The octet before the one that comes next is a CR.
    cr: bool,
}

impl Ends {
    fn admit(&mut self, mut octets: &[u8]) -> bool {
        if self.binary {
            return true;
        }
        if self.cr && !octets.is_empty() {
            let Some(rest) = octets.strip_prefix(b"\n") else { return false };
            (self.cr, octets) = (false, rest);
        }
        while let Some(end) = find_either(b'\r', b'\n', octets) {
            match &octets[end..] {
                [b'\r', b'\n', rest @ ..] => octets = rest,
                [b'\r'] => {
                    self.cr = true;
                    return true;
                }
                _ => return false,
            }
        }
        true
    }
}

fn is_bare(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData
}

fn bare() -> Failure {
    QueueError::permanent(super::BARE, "").code(6, 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_is_judged_the_same() {
        let table: &[(&[u8], bool)] = &[
            (b"", true),
            (b"a", true),
            (b"a\r\n.\r\n\r\n", true),
            (b"\r\na", true),
            (b"a\nb", false),
            (b"\n", false),
            (b"a\r", false),
            (b"a\rb\r\n", false),
            (b"a\r\r\n", false),
            (b"\r\n\n", false),
        ];
        for (octets, wanted) in table {
            for cut in 0..=octets.len() {
                let mut ends = Ends { binary: false, cr: false };
                let admitted = ends.admit(&octets[..cut]) && ends.admit(&octets[cut..]) && !ends.cr;
                assert_eq!(admitted, *wanted, "{} cut at {cut}", octets.escape_ascii());
                let mut any = Ends { binary: true, cr: false };
                assert!(any.admit(&octets[..cut]) && any.admit(&octets[cut..]) && !any.cr);
            }
        }
    }
}
