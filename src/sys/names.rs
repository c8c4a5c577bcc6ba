//! The names in a directory, by getdents64(2) itself: opendir(3) allocates, and that is a third of what reading a
//! configuration directory costs.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// Room for a call's answer. A record is at most 280 octets; some sixty usual ones fit.
const ROOM_OCTETS: usize = 2048;

/// The names, without `.` and `..`, in no order.
pub fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    // openat() and not open(): musl's open() sets close-on-exec twice.
    let dir = openat(AT_FDCWD, dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::with_capacity(64);
    let mut room = [0_u8; ROOM_OCTETS];
    loop {
        // SAFETY: pointer and length are those of `room`.
        let filled = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), room.as_mut_ptr(), room.len()) };
        let filled = usize::try_from(filled).map_err(|_| io::Error::last_os_error())?;
        if filled == 0 {
            return Ok(names);
        }
        names.extend(records(&room[..filled]));
    }
}

/// Records of `struct linux_dirent64`: inode (8 octets), offset (8), the record's length (2), type (1), name, NUL.
fn records(mut rest: &[u8]) -> impl Iterator<Item = OsString> {
    std::iter::from_fn(move || {
        loop {
            let octets = usize::from(u16::from_ne_bytes([*rest.get(16)?, *rest.get(17)?]));
            let name = rest.get(19..octets)?.split(|octet| *octet == 0).next()?;
            rest = &rest[octets..];
            if name != b"." && name != b".." {
                return Some(OsString::from_vec(name.to_vec()));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_std_finds() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut expected: Vec<OsString> =
            (0..300).map(|number| format!("{number}{}", "x".repeat(number % 250)).into()).collect();
        expected.extend([".hidden".into(), "...".into(), OsString::from_vec(vec![0xff, b'\n'])]);
        for name in &expected {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("deeper")).unwrap();
        expected.push("deeper".into());
        let mut found = names(dir.path()).unwrap();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_directory_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(names(file.path()).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(names(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(names(tempfile::TempDir::new().unwrap().path()).unwrap().is_empty());
    }

    #[test]
    fn a_record_cut_short_ends_the_list() {
        let mut record = [0; 24];
        record[16] = 24;
        record[19..21].copy_from_slice(b"ab");
        for octets in 0..24 {
            assert_eq!(records(&record[..octets]).count(), 0, "{octets}");
        }
        assert_eq!(records(&record).collect::<Vec<_>>(), ["ab"]);
        // A length of nothing must not go round for ever.
        assert_eq!(records(&[0; 64]).count(), 0);
    }
}
