//! cdb maps, read only: key -> value at constant cost however long the map.
//!
//! Format: <https://cr.yp.to/cdb/cdb.txt>. The file is read where it lies, never as a whole; every offset in it is checked
//! against its length, so that a damaged or hostile file gives an error, not a panic, an endless loop or a large allocation.
//! Maps are replaced by rename, so one opening per process is enough.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;

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
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let open = || {
            let file = File::open(path)?;
            let octets = file.metadata()?.len();
            Ok((file, octets))
        };
        let (file, octets) = open().map_err(|error: io::Error| ConfigError::at(path, 0, error))?;
        if octets < HEADER_OCTETS {
            let fault = "not a sound cdb file: it is shorter than its header";
            return Err(ConfigError::at(path, 0, fault));
        }
        Ok(Self { file, path: path.to_path_buf(), octets })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key, compared octet by octet; the first one, if the key occurs more than once.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let hash = hash(key);
        let (table, count) = self.table(hash & 255)?;
        if count == 0 {
            return Ok(None);
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

    /// Looks at every hash table and every record, and counts the records: a search sees only what lies on its way.
    pub fn verify(&self) -> io::Result<u64> {
        let (mut records, mut octets) = (0, HEADER_OCTETS);
        for index in 0..256 {
            let (table, count) = self.table(index)?;
            octets += count * 8;
            if octets > self.octets {
                return Err(self.damaged("its hash tables overlap"));
            }
            let mut slots = [0; SLOTS_AT_ONCE as usize * 8];
            for slot in (0..count).step_by(SLOTS_AT_ONCE as usize) {
                let slots = &mut slots[..SLOTS_AT_ONCE.min(count - slot) as usize * 8];
                self.read(slots, table + slot * 8)?;
                for (hash, record) in slots.chunks_exact(8).map(halves).filter(|(_, record)| *record != 0) {
                    if hash & 255 != index {
                        return Err(self.damaged("a record is in the wrong hash table"));
                    }
                    self.bounds(u64::from(record))?;
                    records += 1;
                }
            }
        }
        Ok(records)
    }

    /// Where a hash table begins, and how many slots it has.
    fn table(&self, index: u32) -> io::Result<(u64, u64)> {
        let mut pair = [0; 8];
        self.read(&mut pair, u64::from(index) * 8)?;
        let (table, count) = halves(&pair);
        let (table, count) = (u64::from(table), u64::from(count));
        if count > 0 && (table < HEADER_OCTETS || table + count * 8 > self.octets) {
            return Err(self.damaged("a hash table lies outside of it"));
        }
        Ok((table, count))
    }

    /// Whether the record there lies within the file.
    fn bounds(&self, at: u64) -> io::Result<()> {
        if at < HEADER_OCTETS || at + 8 > self.octets {
            return Err(self.damaged("a record lies outside of it"));
        }
        let mut lengths = [0; 8];
        self.read(&mut lengths, at)?;
        let (key_octets, value_octets) = halves(&lengths);
        if at + 8 + u64::from(key_octets) + u64::from(value_octets) > self.octets {
            return Err(self.damaged("a record lies outside of it"));
        }
        Ok(())
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
        self.file.read_exact_at(octets, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            kind => io::Error::new(kind, format!("{}: cannot be read: {error}", self.path.display())),
        })
    }

    fn damaged(&self, why: &str) -> io::Error {
        let text = format!("{}: not a sound cdb file: {why}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

/// The hash of a key (cdb.txt).
pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, octet| (hash << 5).wrapping_add(hash) ^ u32::from(*octet))
}

/// Two little-endian numbers at the start of eight or more octets.
fn halves(octets: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    (number(0), number(4))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    pub(crate) type Pairs<'a> = &'a [(&'a [u8], &'a [u8])];

    /// Writes a map as cdb.txt says, after no other program's example.
    pub(crate) fn make(pairs: Pairs<'_>) -> Vec<u8> {
        let mut octets = vec![0; 2048];
        let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 256];
        let put = |octets: &mut Vec<u8>, a: u32, b: u32| {
            octets.extend(a.to_le_bytes());
            octets.extend(b.to_le_bytes());
        };
        for (key, value) in pairs {
            // Written out anew, so that a wrong hash in the reader shows.
            let mut hash: u32 = 5381;
            for octet in *key {
                hash = hash.wrapping_mul(33) ^ u32::from(*octet);
            }
            tables[hash as usize % 256].push((hash, octets.len() as u32));
            put(&mut octets, key.len() as u32, value.len() as u32);
            octets.extend(*key);
            octets.extend(*value);
        }
        for (index, entries) in tables.iter().enumerate() {
            let mut slots = vec![(0, 0); entries.len() * 2];
            for (hash, record) in entries {
                let mut at = (*hash >> 8) as usize % slots.len();
                while slots[at].1 != 0 {
                    at = (at + 1) % slots.len();
                }
                slots[at] = (*hash, *record);
            }
            let mut header = Vec::new();
            let table = octets.len() as u32;
            put(&mut header, table, slots.len() as u32);
            octets[index * 8..index * 8 + 8].copy_from_slice(&header);
            for (hash, record) in slots {
                put(&mut octets, hash, record);
            }
        }
        octets
    }

    fn open(octets: &[u8]) -> (tempfile::TempDir, Cdb) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.cdb");
        std::fs::write(&path, octets).unwrap();
        let cdb = Cdb::open(&path).unwrap();
        (dir, cdb)
    }

    #[test]
    fn hits_and_misses() {
        let (long_key, long_value) = ([b'k'; 300], [b'v'; 70_000]);
        // 300 octets of which only the last differs, past what is read at first.
        let mut other_key = long_key;
        other_key[299] = b'x';
        let (_dir, cdb) = open(&make(&[
            (b"", b"empty key"),
            (b"empty value", b""),
            (b"example.com", b"first"),
            (b"example.com", b"second"),
            (b"\0\xff", b"octets"),
            (&long_key, &long_value),
            (b"short key", &long_value[..247]),
            (b"short kez", &long_value[..239]),
            (b"short kfy", &long_value[..240]),
        ]));
        let cases: [(&[u8], Option<&[u8]>); 12] = [
            (b"", Some(b"empty key")),
            (b"empty value", Some(b"")),
            (b"example.com", Some(b"first")),
            (b"Example.com", None),
            (b"example.co", None),
            (b"example.com\0", None),
            (b"\0\xff", Some(b"octets")),
            (&long_key, Some(&long_value)),
            (&other_key, None),
            (b"short key", Some(&long_value[..247])),
            (b"short kez", Some(&long_value[..239])),
            (b"short kfy", Some(&long_value[..240])),
        ];
        for (key, want) in cases {
            assert_eq!(cdb.get(key).unwrap().as_deref(), want, "{:?}", key.escape_ascii());
        }
        let (_dir, empty) = open(&make(&[]));
        assert_eq!(empty.get(b"").unwrap(), None);
    }

    /// Tables long enough for searches that wrap and that take more than one read.
    #[test]
    fn many_keys() {
        let names: Vec<String> = (0..20_000).map(|number| format!("host{number}.example")).collect();
        let pairs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), &name.as_bytes()[4..])).collect();
        let (_dir, cdb) = open(&make(&pairs));
        for (key, value) in pairs.iter().step_by(7) {
            assert_eq!(cdb.get(key).unwrap().as_deref(), Some(*value));
        }
        for number in 20_000..21_000 {
            assert_eq!(cdb.get(format!("host{number}.example").as_bytes()).unwrap(), None);
        }
    }

    /// What tinycdb writes, we read; what our test writes, tinycdb reads.
    #[test]
    fn agrees_with_tinycdb() {
        let names: Vec<String> = (0..500).map(|number| format!("name{number}")).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.cdb");
        let command = Command::new("cdb").arg("-c").arg(&path).stdin(Stdio::piped()).spawn();
        // Where it is not installed there is nothing to compare with; the other tests stand alone.
        let Ok(mut child) = command else { return };
        let text: String =
            names.iter().map(|name| format!("+{},{}:{name}->{name}\n", name.len(), name.len())).collect();
        io::Write::write_all(&mut child.stdin.take().unwrap(), (text + "\n").as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let cdb = Cdb::open(&path).unwrap();
        for name in &names {
            assert_eq!(cdb.get(name.as_bytes()).unwrap().as_deref(), Some(name.as_bytes()));
        }
        assert_eq!(cdb.get(b"name500").unwrap(), None);

        let pairs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), name.as_bytes())).collect();
        std::fs::write(&path, make(&pairs)).unwrap();
        let output = Command::new("cdb").arg("-q").arg(&path).arg("name77").output().unwrap();
        assert_eq!(output.stdout, b"name77");
    }

    #[test]
    fn every_record_is_looked_at() {
        let octets = make(&[(b"a", b"1"), (b"bb", b""), (b"a", b"2")]);
        assert_eq!(open(&octets).1.verify().unwrap(), 3);
        assert_eq!(open(&make(&[])).1.verify().unwrap(), 0);
        for cut in 2048..octets.len() {
            assert!(open(&octets[..cut]).1.verify().is_err(), "{cut}");
        }
        let mut long = octets.clone();
        long[2048] = 255;
        assert!(open(&long).1.verify().unwrap_err().to_string().ends_with("a record lies outside of it"));
        // The header's pairs moved by one table.
        let mut moved = octets.clone();
        moved[..2048].rotate_left(8);
        assert!(open(&moved).1.verify().unwrap_err().to_string().ends_with("a record is in the wrong hash table"));
        // Every table is the whole file behind the header.
        let mut huge = octets;
        let slots = ((huge.len() - 2048) / 8) as u32;
        for pair in huge[..2048].chunks_exact_mut(8) {
            pair[..4].copy_from_slice(&2048_u32.to_le_bytes());
            pair[4..].copy_from_slice(&slots.to_le_bytes());
        }
        huge[2048..].fill(0);
        assert!(open(&huge).1.verify().unwrap_err().to_string().ends_with("its hash tables overlap"));
    }

    /// A map of one key, with some of its octets changed.
    fn damaged(changes: &[(usize, u32)]) -> io::Result<Option<Vec<u8>>> {
        let mut octets = make(&[(b"key", b"value")]);
        for (at, number) in changes {
            octets[*at..*at + 4].copy_from_slice(&number.to_le_bytes());
        }
        open(&octets).1.get(b"key")
    }

    #[test]
    fn damaged_files() {
        let header = (hash(b"key") & 255) as usize * 8;
        // The record is at 2048, its table right behind it: 8 + 3 + 5 octets further.
        let table = 2048 + 16;
        let slot = table + (hash(b"key") >> 8) as usize % 2 * 8;
        assert_eq!(damaged(&[]).unwrap().as_deref(), Some(&b"value"[..]));
        let outside = "a record lies outside of it";
        let cases: [(&[(usize, u32)], &str); 8] = [
            (&[(header, u32::MAX)], "a hash table lies outside of it"),
            (&[(header, 0)], "a hash table lies outside of it"),
            (&[(header + 4, u32::MAX)], "a hash table lies outside of it"),
            (&[(slot + 4, u32::MAX)], outside),
            (&[(slot + 4, 5)], outside),
            (&[(2048, u32::MAX)], outside),
            (&[(2048 + 4, u32::MAX)], outside),
            (&[(2048 + 4, 100)], outside),
        ];
        for (changes, want) in cases {
            let error = damaged(changes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let want = format!("m.cdb: not a sound cdb file: {want}");
            assert!(error.to_string().ends_with(&want), "{changes:?}: {error}");
        }
        // A table without an empty slot: the search ends all the same.
        let hash = hash(b"key");
        let full = [(table, hash), (table + 4, 2048), (table + 8, hash), (table + 12, 2048), (2048 + 8, 0)];
        assert_eq!(damaged(&full).unwrap(), None);
    }

    /// A value longer than we hold is refused although it is there.
    #[test]
    fn a_value_too_long() {
        let mut octets = make(&[(b"key", b"value")]);
        octets[2048 + 4..2048 + 8].copy_from_slice(&(VALUE_OCTETS_MAX + 1).to_le_bytes());
        let (_dir, cdb) = open(&octets);
        let file = File::options().write(true).open(cdb.path()).unwrap();
        file.set_len(u64::from(VALUE_OCTETS_MAX) * 2).unwrap();
        let cdb = Cdb::open(cdb.path()).unwrap();
        let error = cdb.get(b"key").unwrap_err().to_string();
        assert!(error.ends_with("a value is longer than 16777216 octets"), "{error}");
    }

    #[test]
    fn a_file_cut_short_while_open() {
        let (_dir, cdb) = open(&make(&[(b"key", b"value")]));
        File::options().write(true).open(cdb.path()).unwrap().set_len(100).unwrap();
        let error = cdb.get(b"key").unwrap_err().to_string();
        assert!(error.ends_with("it ends too early"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_octets(
            changes in prop::collection::vec((0_usize..2400, any::<u8>()), 0..40),
            cut in 2048_usize..2600,
            key in prop::sample::select(vec!["a", "bb", "ccc", "absent"]),
        ) {
            let mut octets = make(&[(b"a", b"1"), (b"bb", b"22"), (b"ccc", b"333")]);
            for (at, octet) in changes {
                let length = octets.len();
                octets[at % length] = octet;
            }
            octets.truncate(cut);
            // Any answer will do, and it must come.
            let _ = open(&octets).1.get(key.as_bytes());
            let _ = open(&octets).1.verify();
        }

        #[test]
        fn hostile_tables(header in (2000_u32..2200, 0_u32..20), tail in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 3, 8, 255]), 0..200)) {
            let mut octets = Vec::new();
            for _ in 0..256 {
                octets.extend(header.0.to_le_bytes());
                octets.extend(header.1.to_le_bytes());
            }
            octets.extend(tail);
            let _ = open(&octets).1.get(b"key");
        }
    }
}
