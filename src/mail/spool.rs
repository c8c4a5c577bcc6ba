//! Where the octets of a message wait: in memory, then in a file without a name.
//!
//! In: octets as the session unstuffs them. Out: the same octets, from any offset. A process that ends, in whatever
//! way, leaves no file behind. Nothing here is durable: storing a message is the work of `queue/`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Octets that are collected before a write to the file. A slow client's reads are far smaller.
const WRITE_OCTETS: usize = 64 * 1024;

/// Octets that come at once are written at once if they are as many: to collect them would only copy them once more.
const DIRECT_OCTETS: usize = 16 * 1024;

/// Names that are tried where the file system has no unnamed files.
const NAMES_MAX: u32 = 100;

/// Where messages may wait.
#[derive(Clone, Debug)]
pub struct SpoolPlace {
    /// Octets that a message may have in memory; one more, and it moves to a file. 0: always a file.
    pub threshold: usize,
    /// The directory of the files. It must exist.
    pub dir: PathBuf,
}

/// The octets of one message. At most `threshold` of them are in memory at any time.
pub struct Spool {
    place: SpoolPlace,
    file: Option<File>,
    /// Octets in the file; those in `memory` follow them.
    file_octets: u64,
    memory: Vec<u8>,
    failed: bool,
}

impl Spool {
    /// An empty spool. The file is made when it is needed.
    pub fn new(place: SpoolPlace) -> Self {
        Self { place, file: None, file_octets: 0, memory: Vec::new(), failed: false }
    }

    /// Adds octets at the end. After an error (disk full, say) the space is given back at once, the spool is empty,
    /// and every later write or read fails: half a message is of no use to anybody.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.check()?;
        let stored = self.store(octets);
        if stored.is_err() {
            self.abandon();
        }
        stored
    }

    /// Gives the space back at once: the message is refused. As after an error, nothing more can be written or read.
    pub fn abandon(&mut self) {
        self.failed = true;
        self.file = None;
        self.file_octets = 0;
        self.memory = Vec::new();
    }

    /// Octets written so far.
    pub fn len(&self) -> u64 {
        self.file_octets + self.memory.len() as u64
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a file holds the octets, as against memory alone.
    pub fn in_file(&self) -> bool {
        self.file.is_some()
    }

    /// The first `octets` of them, or all if there are fewer: for a header, which has its limit.
    pub fn head(&self, octets: u64) -> io::Result<Vec<u8>> {
        let mut head = vec![0; usize::try_from(octets.min(self.len())).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < head.len() {
            match self.read_at(filled as u64, &mut head[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(head)
    }

    /// Reads octets from `offset` on. Fewer than asked may come; none means that `offset` is at or after the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        if offset < self.file_octets
            && let Some(file) = &self.file
        {
            let octets = buffer.len().min(usize::try_from(self.file_octets - offset).unwrap_or(usize::MAX));
            let read = file.read_at(&mut buffer[..octets], offset)?;
            // Nothing else knows the file, so it can only be shorter if the disk lost it.
            return if read == 0 && octets > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) };
        }
        let start = usize::try_from(offset - self.file_octets).unwrap_or(usize::MAX);
        let rest = self.memory.get(start..).unwrap_or_default();
        let octets = rest.len().min(buffer.len());
        buffer[..octets].copy_from_slice(&rest[..octets]);
        Ok(octets)
    }

    /// A further file of the same kind: empty, without a name, in the same directory.
    pub fn another_file(&self) -> io::Result<File> {
        unnamed_file(&self.place.dir)
    }

    fn check(&self) -> io::Result<()> {
        if self.failed { Err(io::Error::other("the spool has failed before")) } else { Ok(()) }
    }

    fn store(&mut self, octets: &[u8]) -> io::Result<()> {
        let direct = self.file.is_some() && octets.len() >= DIRECT_OCTETS;
        if !direct && self.memory.len() + octets.len() <= self.memory_octets_max() {
            self.memory.extend_from_slice(octets);
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file(&self.place.dir)?),
        };
        if !self.memory.is_empty() {
            file.write_all_at(&self.memory, self.file_octets)?;
            self.file_octets += self.memory.len() as u64;
        }
        if self.memory.capacity() > WRITE_OCTETS {
            self.memory = Vec::new();
        } else {
            self.memory.clear();
        }
        if octets.len() < self.place.threshold.min(DIRECT_OCTETS) {
            self.memory.extend_from_slice(octets);
            return Ok(());
        }
        file.write_all_at(octets, self.file_octets)?;
        self.file_octets += octets.len() as u64;
        Ok(())
    }

    fn memory_octets_max(&self) -> usize {
        if self.file.is_some() { self.place.threshold.min(WRITE_OCTETS) } else { self.place.threshold }
    }
}

fn unnamed_file(dir: &Path) -> io::Result<File> {
    // With O_EXCL, nobody can give the file a name afterwards.
    let flags = OFlag::O_TMPFILE | OFlag::O_EXCL;
    let opened = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags.bits()).open(dir);
    match opened {
        // NFS and some overlays have no unnamed files; EISDIR is what kernels before 3.11 say.
        Err(error) if unsupported(&error) => unlinked_file(dir),
        result => result,
    }
}

fn unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL))
}

/// The second best: a name that nobody else can have made, gone again before the first octet.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..NAMES_MAX {
        let path = dir.join(format!("postern-{}-{number}", process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn spool(threshold: usize, dir: &Path) -> Spool {
        Spool::new(SpoolPlace { threshold, dir: dir.to_path_buf() })
    }

    fn all(spool: &Spool) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut piece = [0; 7];
        loop {
            match spool.read_at(octets.len() as u64, &mut piece).unwrap() {
                0 => return octets,
                read => octets.extend_from_slice(&piece[..read]),
            }
        }
    }

    fn names(dir: &TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn large_and_small_pieces_keep_their_order() {
        let dir = TempDir::new().unwrap();
        for threshold in [0, 1, DIRECT_OCTETS, WRITE_OCTETS, WRITE_OCTETS * 3] {
            let mut spool = spool(threshold, dir.path());
            let mut content = Vec::new();
            for round in 0..3 {
                for octets in [1, DIRECT_OCTETS - 1, DIRECT_OCTETS, 5, WRITE_OCTETS, 0, WRITE_OCTETS + 1, 7] {
                    let piece: Vec<u8> = (0..octets).map(|at| (at * 7 + octets + round) as u8).collect();
                    spool.write(&piece).unwrap();
                    content.extend(piece);
                }
            }
            assert!(all(&spool) == content, "{threshold}");
        }
    }

    #[test]
    fn moves_to_a_file_over_the_threshold() {
        let dir = TempDir::new().unwrap();
        // (threshold, octets written, whether they are in a file then)
        for (threshold, octets, in_file) in [
            (0, 0, false),
            (0, 1, true),
            (10, 9, false),
            (10, 10, false),
            (10, 11, true),
            (WRITE_OCTETS + 1, WRITE_OCTETS + 1, false),
            (WRITE_OCTETS + 1, WRITE_OCTETS + 2, true),
        ] {
            for piece in [1, 7, usize::MAX] {
                let content: Vec<u8> = (0..octets).map(|number| number as u8).collect();
                let mut spool = spool(threshold, dir.path());
                for octets in content.chunks(piece.min(octets.max(1))) {
                    spool.write(octets).unwrap();
                    assert!(spool.memory.len() <= threshold);
                }
                assert_eq!(spool.in_file(), in_file, "{threshold} {octets} {piece}");
                assert_eq!(spool.len(), octets as u64);
                assert_eq!(spool.is_empty(), octets == 0);
                assert!(all(&spool) == content, "{threshold} {octets} {piece}");
                assert_eq!(names(&dir), 0);
            }
        }
    }

    #[test]
    fn a_file_has_no_name_and_no_reader() {
        let dir = TempDir::new().unwrap();
        for file in [unnamed_file(dir.path()), unlinked_file(dir.path())] {
            let metadata = file.unwrap().metadata().unwrap();
            assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (0, 0o600));
            assert_eq!(names(&dir), 0);
        }
    }

    #[test]
    fn a_taken_name_is_not_opened() {
        let dir = TempDir::new().unwrap();
        let taken = dir.path().join(format!("postern-{}-0", process::id()));
        fs::write(&taken, "mine").unwrap();
        unlinked_file(dir.path()).unwrap().write_all_at(b"theirs", 0).unwrap();
        assert_eq!(fs::read(&taken).unwrap(), b"mine");
        for number in 1..NAMES_MAX {
            fs::write(dir.path().join(format!("postern-{}-{number}", process::id())), "").unwrap();
        }
        let error = unlinked_file(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_error_empties_the_spool_and_stays() {
        let dir = TempDir::new().unwrap();
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut disk_full = spool(4, dir.path());
        disk_full.file = Some(full);
        let mut no_directory = spool(4, &dir.path().join("none"));
        for (spool, kind) in
            [(&mut disk_full, io::ErrorKind::StorageFull), (&mut no_directory, io::ErrorKind::NotFound)]
        {
            spool.write(b"1234").unwrap();
            assert_eq!(spool.write(b"5").unwrap_err().kind(), kind);
            assert!(spool.is_empty() && !spool.in_file());
            assert!(spool.write(b"").is_err());
            assert!(spool.read_at(0, &mut [0; 4]).is_err());
        }
    }

    #[test]
    fn reads_after_the_end_give_nothing() {
        let dir = TempDir::new().unwrap();
        for threshold in [0, 2, 10] {
            let mut spool = spool(threshold, dir.path());
            for octet in b"abc" {
                spool.write(&[*octet]).unwrap();
            }
            for offset in [3, 4, u64::MAX] {
                assert_eq!(spool.read_at(offset, &mut [0; 4]).unwrap(), 0);
            }
            assert_eq!(spool.read_at(0, &mut []).unwrap(), 0);
        }
    }

    proptest! {
        #[test]
        fn any_split_of_writes_gives_the_same_octets(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            threshold in 0usize..120,
        ) {
            let dir = TempDir::new().unwrap();
            let mut spool = spool(threshold, dir.path());
            for piece in &pieces {
                spool.write(piece).unwrap();
            }
            let octets = pieces.concat();
            prop_assert_eq!(spool.in_file(), octets.len() > threshold);
            prop_assert_eq!(all(&spool), octets);
        }
    }
}
