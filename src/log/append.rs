//! A log file: lines at its end, each by one write, whoever else writes there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};

/// A file, FIFO or device that lines are appended to.
pub struct AppendFile(File);

impl AppendFile {
    /// Opens it, or creates it with mode 0640 (less the umask). Never waits: a FIFO that nobody reads is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        // O_NONBLOCK changes nothing for a file; for a FIFO it makes both open and write give up instead of waiting.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags.bits()).open(path).map(Self)
    }

    /// Appends a line, which has its line end, by one write. Up to 4,096 octets are whole even in a FIFO; an error is also
    /// when only a part went through (the disk is full), so that the line falls back and is told twice rather than lost.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        loop {
            return match self.0.write(line) {
                Ok(written) if written == line.len() => Ok(()),
                Ok(_) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}

/// For `check`: why `user`, whom we are, cannot append to the file, or cannot make it. Opens nothing: whoever checks would be the owner
/// of a new file.
pub fn cannot_append(path: &Path, user: &str) -> Option<String> {
    let fault = |what: &Path, error| {
        let what = what.display();
        Some(format!("the log's {what} cannot be written to by {user}: {error}"))
    };
    if path.is_dir() {
        return Some(format!("the log's {} is a directory, and no file", path.display()));
    }
    match access(path, AccessFlags::W_OK) {
        Ok(()) => None,
        Err(Errno::ENOENT) => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            access(dir, AccessFlags::W_OK | AccessFlags::X_OK).err().and_then(|error| fault(dir, error))
        }
        Err(error) => fault(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_line_goes_to_the_end_of_a_file_that_only_its_group_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut one, mut other) = (AppendFile::open(&path).unwrap(), AppendFile::open(&path).unwrap());
        for text in ["a\n", "b\n", "c\n"] {
            one.append(text.as_bytes()).unwrap();
            other.append(text.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\na\nb\nb\nc\nc\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn what_cannot_be_written_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut full = AppendFile::open(Path::new("/dev/full")).unwrap();
        assert_eq!(full.append(b"x\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(AppendFile::open(&dir.path().join("none/log")).is_err());
        assert!(AppendFile::open(dir.path()).is_err());
        // Told without opening anything. That a user's rights count is seen in tests/cli.rs.
        assert!(cannot_append(dir.path(), "us").is_some_and(|text| text.ends_with("is a directory, and no file")));
        let new = dir.path().join("new");
        assert_eq!((cannot_append(&new, "us"), new.exists()), (None, false));
        assert!(
            cannot_append(&dir.path().join("none/log"), "us")
                .is_some_and(|text| text.contains("none cannot be written"))
        );
        assert!(cannot_append(Path::new("/proc/loadavg/x"), "us").is_some());

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(AppendFile::open(&fifo).is_err(), "nobody reads it");
        let reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo).unwrap();
        let mut writer = AppendFile::open(&fifo).unwrap();
        let line = [b'x'; 4096];
        let error = (0..1000).find_map(|_| writer.append(&line).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        assert_eq!(writer.append(b"x\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
