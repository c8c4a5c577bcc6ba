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
        Self {
            place,
            file: None,
            file_octets: 0,
            memory: Vec::new(),
            failed: false,
        }
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

    /// Reads octets from `offset` on. Fewer than asked may come; none means that `offset` is at or after the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        if offset < self.file_octets
            && let Some(file) = &self.file
        {
            let octets = buffer
                .len()
                .min(usize::try_from(self.file_octets - offset).unwrap_or(usize::MAX));
            let read = file.read_at(&mut buffer[..octets], offset)?;
            // Nothing else knows the file, so it can only be shorter if the disk lost it.
            return if read == 0 && octets > 0 {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(read)
            };
        }
        let start = usize::try_from(offset - self.file_octets).unwrap_or(usize::MAX);
        let rest = self.memory.get(start..).unwrap_or_default();
        let octets = rest.len().min(buffer.len());
        buffer[..octets].copy_from_slice(&rest[..octets]);
        Ok(octets)
    }

    fn check(&self) -> io::Result<()> {
        if self.failed {
            Err(io::Error::other("the spool has failed before"))
        } else {
            Ok(())
        }
    }

    fn store(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.memory.len() + octets.len() <= self.memory_octets_max() {
            self.memory.extend_from_slice(octets);
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file(&self.place.dir)?),
        };
        file.write_all_at(&self.memory, self.file_octets)?;
        self.file_octets += self.memory.len() as u64;
        if self.memory.capacity() > WRITE_OCTETS {
            self.memory = Vec::new();
        } else {
            self.memory.clear();
        }
        if octets.len() < self.place.threshold.min(WRITE_OCTETS) {
            self.memory.extend_from_slice(octets);
            return Ok(());
        }
        file.write_all_at(octets, self.file_octets)?;
        self.file_octets += octets.len() as u64;
        Ok(())
    }

    fn memory_octets_max(&self) -> usize {
        if self.file.is_some() {
            self.place.threshold.min(WRITE_OCTETS)
        } else {
            self.place.threshold
        }
    }
}

fn unnamed_file(dir: &Path) -> io::Result<File> {
    // With O_EXCL, nobody can give the file a name afterwards.
    let flags = OFlag::O_TMPFILE | OFlag::O_EXCL;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(dir);
    match opened {
        // NFS and some overlays have no unnamed files; EISDIR is what kernels before 3.11 say.
        Err(error) if unsupported(&error) => unlinked_file(dir),
        result => result,
    }
}

fn unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL)
    )
}

/// The second best: a name that nobody else can have made, gone again before the first octet.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..NAMES_MAX {
        let path = dir.join(format!("postern-{}-{number}", process::id()));
        match OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}
