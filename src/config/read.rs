//! A whole file -> text, at the least cost: an open, a read, a close.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::error::{ConfigError, Fault};
use crate::smtp::find::find;

/// A whole file as text.
pub(super) fn read_text(path: &Path, octets_max: usize) -> Result<String, ConfigError> {
    let octets = read_octets(path, octets_max).map_err(|fault| ConfigError::at(path, 0, fault))?;
    let text = String::from_utf8(octets).or_else(|error| comments_made_utf8(path, error.as_bytes()))?;
    // Some editors begin a file with a byte order mark.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// A whole file that others than the administrator may write: a user's. Only a plain file, never through a link, and without
/// waiting (a FIFO has no end). `None`: there is none.
pub fn foreign_text(path: &Path, octets_max: usize) -> Result<Option<String>, ConfigError> {
    let fault = |fault: Fault| ConfigError::at(path, 0, fault);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match openat(AT_FDCWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(Errno::ELOOP) => return Err(fault("is a link, which is not followed here".into())),
        Err(error) => return Err(fault(io::Error::from(error).into())),
    };
    if !file.metadata().map_err(|error| fault(error.into()))?.is_file() {
        return Err(fault("is no plain file".into()));
    }
    let mut octets = Vec::new();
    file.take(octets_max as u64 + 1).read_to_end(&mut octets).map_err(|error| fault(error.into()))?;
    if octets.len() > octets_max {
        return Err(fault(Fault::TooLarge { octets_max }));
    }
    String::from_utf8(octets).map(Some).map_err(|_| fault(Fault::NotUtf8))
}

/// The lines of a text, each with its number. Faster than `str::lines` where most are short.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    (1..).map_while(move |number| {
        let text = rest?;
        let line = match find(b'\n', text.as_bytes()) {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                &text[..end]
            }
            None => {
                rest = None;
                text
            }
        };
        Some((number, line))
    })
}

/// A comment in Latin-1 harms nobody, so only live lines must be UTF-8.
fn comments_made_utf8(path: &Path, octets: &[u8]) -> Result<String, ConfigError> {
    for (index, line) in octets.split(|octet| *octet == b'\n').enumerate() {
        if std::str::from_utf8(line).is_err() && !line.trim_ascii().starts_with(b"#") {
            return Err(ConfigError::at(path, index + 1, Fault::NotUtf8));
        }
    }
    Ok(String::from_utf8_lossy(octets).into_owned())
}

/// Where files are read into, one after the other: memory that need not be cleared each time.
static BUFFER: Mutex<[u8; 16 << 10]> = Mutex::new([0; 16 << 10]);

/// A whole file. Most cost one read: a regular file gives less than was asked only at its end. (Pipes and the like do not;
/// they are not what a configuration is made of.)
fn read_octets(path: &Path, octets_max: usize) -> Result<Vec<u8>, Fault> {
    // openat() and not open(): musl's open() sets close-on-exec twice.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(AT_FDCWD, path, flags, Mode::empty()).map_err(io::Error::from)?);
    // Whatever it holds is overwritten, so another reader's panic does no harm.
    let mut buffer = BUFFER.lock().unwrap_or_else(PoisonError::into_inner);
    let mut octets = Vec::new();
    loop {
        let read = read_some(&mut file, &mut buffer[..])?;
        octets.extend_from_slice(&buffer[..read]);
        if octets.len() > octets_max {
            return Err(Fault::TooLarge { octets_max });
        }
        if read < buffer.len() {
            return Ok(octets);
        }
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bound_holds_to_the_octet() {
        let scratch = Scratch::new(&[("f", "12345")]);
        let path = scratch.path().join("f");
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        let error = read_text(&path, 4).unwrap_err();
        assert_eq!(scratch.cut(&error), "DIR/f: is larger than the 4 octets it may have");
    }

    proptest! {
        #[test]
        fn lines_are_those_between_newlines(text in "[a\u{fc}\r\n]{0,60}") {
            let ours: Vec<_> = lines(&text).collect();
            let want: Vec<_> = (1..).zip(text.split('\n')).collect();
            prop_assert_eq!(ours, want);
        }
    }
}
