//! A whole file -> text, at the least cost: an open, a read, a close.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::error::{ConfigError, Fault};

/// A whole file as text.
pub(super) fn read_text(path: &Path, octets_max: usize) -> Result<String, ConfigError> {
    let octets = read_octets(path, octets_max).map_err(|fault| ConfigError::at(path, 0, fault))?;
    let text =
        String::from_utf8(octets).or_else(|error| comments_made_utf8(path, error.as_bytes()))?;
    // Some editors begin a file with a byte order mark.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
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

/// A whole file. Most are shorter than a page, so most cost one read: a regular file gives less than was asked only at its
/// end. (Pipes and the like do not; they are not what a configuration is made of.)
fn read_octets(path: &Path, octets_max: usize) -> Result<Vec<u8>, Fault> {
    let mut file = File::open(path)?;
    let mut page = [0; 4096];
    let read = read_some(&mut file, &mut page)?;
    let mut octets = page[..read].to_vec();
    if read == page.len() {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = read_some(&mut file, &mut chunk)?;
            octets.extend_from_slice(&chunk[..read]);
            if read < chunk.len() || octets.len() > octets_max {
                break;
            }
        }
    }
    if octets.len() > octets_max {
        return Err(Fault::TooLarge { octets_max });
    }
    Ok(octets)
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
