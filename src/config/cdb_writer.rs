//! Writes cdb maps, for `postern compile` (<https://cr.yp.to/cdb/cdb.txt>).

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::cdb::hash;

const HEADER_OCTETS: u64 = 2048;

/// Writes a map of these keys and values and puts it in the place of the one that is there, whole or not at all: a server that has
/// the old one open goes on with it. Readable as `mode` says, less the umask.
///
/// # Errors
/// It cannot be written, or would be longer than the 4 GiB that the format can address.
pub fn write(path: &Path, records: &[(String, String)], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    // What a broken run left behind.
    if let Err(error) = fs::remove_file(new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = File::options().write(true).create_new(true).mode(mode).open(new)?;
    let done = fill(file, records).and_then(|()| fs::rename(new, path));
    if done.is_err() {
        let _ = fs::remove_file(new);
    }
    done
}

fn fill(file: File, records: &[(String, String)]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    out.write_all(&[0; HEADER_OCTETS as usize])?;
    let mut at = HEADER_OCTETS;
    let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 256];
    for (key, value) in records {
        let hash = hash(key.as_bytes());
        tables[(hash & 255) as usize].push((hash, number(at)?));
        pair(&mut out, number(key.len() as u64)?, number(value.len() as u64)?)?;
        out.write_all(key.as_bytes())?;
        out.write_all(value.as_bytes())?;
        at += 8 + key.len() as u64 + value.len() as u64;
    }
    let mut header = Vec::with_capacity(tables.len());
    for entries in &tables {
        // Half full, so that a search is short.
        let mut slots = vec![(0, 0); entries.len() * 2];
        for (hash, record) in entries {
            let mut slot = (hash >> 8) as usize % slots.len();
            while slots[slot].1 != 0 {
                slot = (slot + 1) % slots.len();
            }
            slots[slot] = (*hash, *record);
        }
        header.push((number(at)?, number(slots.len() as u64)?));
        at += 8 * slots.len() as u64;
        for (hash, record) in slots {
            pair(&mut out, hash, record)?;
        }
    }
    out.seek(SeekFrom::Start(0))?;
    for (table, count) in header {
        pair(&mut out, table, count)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn pair(out: &mut impl Write, a: u32, b: u32) -> io::Result<()> {
    out.write_all(&a.to_le_bytes())?;
    out.write_all(&b.to_le_bytes())
}

fn number(octets: u64) -> io::Result<u32> {
    u32::try_from(octets).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a cdb can have 4 GiB and no more"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Cdb, cdb};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_same_octets_as_the_format_says(keys in proptest::collection::btree_map("[a-z@.]{0,12}", ".{0,20}", 0..60)) {
            let records: Vec<(String, String)> = keys.into_iter().collect();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.cdb");
            write(&path, &records, 0o644).unwrap();
            let pairs: Vec<(&[u8], &[u8])> = records.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(std::fs::read(&path).unwrap(), cdb::tests::make(&pairs));
            let map = Cdb::open(&path).unwrap();
            for (key, value) in &records {
                prop_assert_eq!(map.get(key.as_bytes()).unwrap().unwrap(), value.as_bytes());
            }
        }
    }

    #[test]
    fn the_old_map_stays_if_the_new_one_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.cdb");
        let record = |value: &str| vec![("key".to_owned(), value.to_owned())];
        write(&path, &record("old"), 0o644).unwrap();
        // Something that cannot be removed stands where the new one would be written.
        std::fs::create_dir_all(dir.path().join("m.cdb.new/x")).unwrap();
        assert!(write(&path, &record("new"), 0o644).is_err());
        assert_eq!(Cdb::open(&path).unwrap().get(b"key").unwrap().unwrap(), b"old");
    }
}
