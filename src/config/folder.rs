//! The names in one directory, read once, so that a file that is not there costs no system call.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// A directory and the names in it at the moment it was opened.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) names: Vec<OsString>,
    /// One bit for each of 256 hashes. Most names that are asked for are not there, and this tells so in a few steps.
    hashes: [u64; 4],
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut folder = Self::empty(path);
        folder.names = sys::names(path)?;
        for name in &folder.names {
            let (word, bit) = place(name.as_encoded_bytes());
            folder.hashes[word] |= bit;
        }
        Ok(folder)
    }

    pub(super) fn empty(path: &Path) -> Self {
        Self { path: path.to_path_buf(), names: Vec::new(), hashes: [0; 4] }
    }

    /// Whether something of that name is listed. A dangling link is: what it was to say is missing, and that is an error and
    /// not an empty list.
    pub(super) fn lists(&self, name: &Name<'_>) -> bool {
        let (word, bit) = name.place;
        let octets = name.text.as_bytes();
        self.hashes[word] & bit != 0 && self.names.iter().any(|candidate| candidate.as_encoded_bytes() == octets)
    }
}

/// A name to look for, in one folder or several.
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    place: (usize, u64),
}

impl<'a> Name<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, place: place(text.as_bytes()) }
    }
}

/// Which of the bits a name sets.
fn place(name: &[u8]) -> (usize, u64) {
    let hash = name.iter().fold(name.len() as u32, |hash, octet| hash.wrapping_mul(31).wrapping_add(u32::from(*octet)));
    ((hash & 3) as usize, 1 << (hash >> 2 & 63))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    /// Many more names than bits, so that the quick test alone would say yes to all.
    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let scratch = Scratch::new(&[]);
        for number in 0..1_000 {
            scratch.write(&format!("name{number}"), b"");
        }
        let folder = Folder::open(scratch.path()).unwrap();
        for number in 0..2_000 {
            let name = format!("name{number}");
            assert_eq!(folder.lists(&Name::new(&name)), number < 1_000, "{name}");
        }
        for name in ["", ".", "..", "name", "Name1", "name1/"] {
            assert!(!folder.lists(&Name::new(name)), "{name:?}");
        }
        assert!(!Folder::empty(scratch.path()).lists(&Name::new("name1")));
    }
}
