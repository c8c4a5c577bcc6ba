//! cdb maps, read only: key -> value at constant cost however long the map.
//!
//! Format: <https://cr.yp.to/cdb/cdb.txt>. The file is read where it lies, never as a whole; every offset in it is checked
//! against its length, so that a damaged or hostile file gives an error, not a panic, an endless loop or a large allocation.
//! Maps are replaced by rename, so one opening per process is enough.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Octets of a value that we are willing to hold.
pub const VALUE_OCTETS_MAX: u32 = 16 << 20;

const HEADER_OCTETS: u64 = 2048;
/// Slots read at once. A table is at most half full, so a search seldom takes more than a few steps.
const SLOTS_AT_ONCE: u64 = 16;
/// Octets of a record read with its key: short values come in the same read.
const RECORD_OCTETS: usize = 256;

/// An open cdb file.
#[derive(Debug)]
pub struct Cdb {
    file: File,
    path: PathBuf,
    octets: u64,
}

impl Cdb {
    /// Opens a map. One that is too short to be a cdb is an error: an empty file is not an empty map.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let octets = file.metadata()?.len();
        let cdb = Self {
            file,
            path: path.to_path_buf(),
            octets,
        };
        if octets < HEADER_OCTETS {
            Err(cdb.damaged("it is shorter than its header"))
        } else {
            Ok(cdb)
        }
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key, compared octet by octet; the first one, if the key occurs more than once.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let hash = hash(key);
        let mut pair = [0; 8];
        self.read(&mut pair, u64::from(hash & 255) * 8)?;
        let (table, count) = halves(&pair);
        let (table, count) = (u64::from(table), u64::from(count));
        if count == 0 {
            return Ok(None);
        }
        if table < HEADER_OCTETS || table + count * 8 > self.octets {
            return Err(self.damaged("a hash table lies outside of it"));
        }

        let mut slots = [0; SLOTS_AT_ONCE as usize * 8];
        let mut slot = u64::from(hash >> 8) % count;
        let mut left = count;
        while left > 0 {
            // To the end of the table at most, then from its beginning.
            let batch = SLOTS_AT_ONCE.min(left).min(count - slot);
            let slots = &mut slots[..batch as usize * 8];
            self.read(slots, table + slot * 8)?;
            for pair in slots.chunks_exact(8) {
                let (slot_hash, record) = halves(pair);
                if record == 0 {
                    return Ok(None);
                }
                if slot_hash == hash
                    && let Some(value) = self.record(u64::from(record), key)?
                {
                    return Ok(Some(value));
                }
            }
            left -= batch;
            slot = (slot + batch) % count;
        }
        Ok(None)
    }

    /// The value of the record there, if its key is this one.
    fn record(&self, at: u64, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut start = [0; RECORD_OCTETS];
        let length = (self.octets.saturating_sub(at)).min(RECORD_OCTETS as u64) as usize;
        if at < HEADER_OCTETS || length < 8 {
            return Err(self.damaged("a record lies outside of it"));
        }
        let start = &mut start[..length];
        self.read(start, at)?;
        let (key_octets, value_octets) = halves(start);
        let value_at = at + 8 + u64::from(key_octets);
        if value_at + u64::from(value_octets) > self.octets {
            return Err(self.damaged("a record lies outside of it"));
        }
        if key_octets as usize != key.len() || !self.same_key(&start[8..], at + 8, key)? {
            return Ok(None);
        }
        if value_octets > VALUE_OCTETS_MAX {
            return Err(self.damaged(&format!("a value is longer than {VALUE_OCTETS_MAX} octets")));
        }
        let from = 8 + key.len();
        if let Some(value) = start.get(from..from + value_octets as usize) {
            return Ok(Some(value.to_vec()));
        }
        // Within the file, so an honest allocation.
        let mut value = vec![0; value_octets as usize];
        self.read(&mut value, value_at)?;
        Ok(Some(value))
    }

    fn same_key(&self, start: &[u8], at: u64, key: &[u8]) -> io::Result<bool> {
        if let Some(found) = start.get(..key.len()) {
            return Ok(found == key);
        }
        let mut found = vec![0; key.len()];
        self.read(&mut found, at)?;
        Ok(found == key)
    }

    fn read(&self, octets: &mut [u8], at: u64) -> io::Result<()> {
        self.file
            .read_exact_at(octets, at)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
                kind => io::Error::new(
                    kind,
                    format!("{}: cannot be read: {error}", self.path.display()),
                ),
            })
    }

    fn damaged(&self, why: &str) -> io::Error {
        let text = format!("{}: not a sound cdb file: {why}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, octet| {
        (hash << 5).wrapping_add(hash) ^ u32::from(*octet)
    })
}

/// Two little-endian numbers at the start of eight or more octets.
fn halves(octets: &[u8]) -> (u32, u32) {
    let number = |at: usize| {
        u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
    };
    (number(0), number(4))
}
