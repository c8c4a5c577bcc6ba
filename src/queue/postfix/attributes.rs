//! Attribute lists (attr_print0.c of Postfix): `name NUL value NUL` again and again, then one more NUL.
//!
//! In: what a program of Postfix said, whole or cut. Out: the pairs that are whole. Attributes that nobody asked for are read over
//! (since Postfix 3.6 the greeting begins with `protocol`).

use std::io::{self, Read};

use crate::smtp::escape::safe;
use crate::smtp::find::find;

/// Octets of everything that Postfix says in one go; its own are a few hundred.
pub(in crate::queue) const OCTETS_MAX: usize = 16 * 1024;
/// Octets of a queue id that are believed: Postfix's longest have about 20.
const QUEUE_ID_OCTETS_MAX: usize = 64;

/// The whole pairs of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Attributes {
    pairs: Vec<(String, String)>,
    /// Whether its end was seen.
    ended: bool,
    /// Whether something came after its end.
    more: bool,
}

impl Attributes {
    /// Takes one list off the front of `octets`; what is cut off is left out.
    pub(in crate::queue) fn take(octets: &mut &[u8]) -> Self {
        let mut list = Self::default();
        loop {
            let Some(name) = text(octets) else { return list };
            if name.is_empty() {
                list.ended = true;
                return list;
            }
            let Some(value) = text(octets) else { return list };
            list.pairs.push((name, value));
        }
    }

    /// Reads one list, to its end or the stream's. `InvalidData`: it is too long to be one.
    pub(in crate::queue) fn read(stream: &mut dyn Read) -> io::Result<Self> {
        let mut octets = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let read = match stream.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What is whole was said, whatever came after it.
                Err(error) if octets.is_empty() || error.kind() == io::ErrorKind::TimedOut => {
                    let list = Self::take(&mut &octets[..]);
                    return if list.pairs.is_empty() { Err(error) } else { Ok(list) };
                }
                read => read.unwrap_or(0),
            };
            octets.extend_from_slice(&buffer[..read]);
            let mut rest = &octets[..];
            let list = Self::take(&mut rest);
            if list.ended || read == 0 {
                return Ok(Self { more: list.ended && !rest.is_empty(), ..list });
            }
            if octets.len() > OCTETS_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// A value by its name.
    pub(in crate::queue) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The queue id of a greeting of this protocol. The error says what is wrong with the greeting.
    pub(in crate::queue) fn queue_id(&self, protocol: &str) -> Result<String, String> {
        if let Some(other) = self.get("protocol").filter(|other| *other != protocol) {
            return Err(format!("it speaks {}, not {protocol}", safe(other, QUEUE_ID_OCTETS_MAX)));
        }
        let fits = |id: &&str| {
            !id.is_empty() && id.len() <= QUEUE_ID_OCTETS_MAX && id.bytes().all(|octet| octet.is_ascii_alphanumeric())
        };
        // More than a greeting, before it was given anything, is not Postfix.
        let id = self.get("queue_id").filter(fits).filter(|_| self.ended && !self.more);
        id.map(str::to_owned).ok_or_else(|| format!("its greeting is not {protocol}'s"))
    }

    /// The status, if it was said whole.
    pub(in crate::queue) fn status(&self) -> Option<u32> {
        self.get("status")?.parse().ok()
    }
}

/// Takes one text with its NUL; `None` if there is no NUL.
fn text(octets: &mut &[u8]) -> Option<String> {
    let end = find(0, octets)?;
    let text = String::from_utf8_lossy(&octets[..end]).into_owned();
    *octets = &octets[end + 1..];
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GREETING: &str = "protocol\0cleanup_protocol\0queue_id\0ABC1\0\0";

    #[test]
    fn greetings() {
        let long = "A".repeat(65);
        let table = [
            (GREETING, Ok("ABC1")),
            ("queue_id\x003zXyB9bbC\0\0", Ok("3zXyB9bbC")),
            ("", Err("not cleanup_protocol's")),
            ("\0", Err("not cleanup_protocol's")),
            ("queue_id\0ABC1\0", Err("not cleanup_protocol's")),
            ("queue_id\0\0\0", Err("not cleanup_protocol's")),
            ("queue_id\0A\r\nB\0\0", Err("not cleanup_protocol's")),
            (&*format!("queue_id\0{long}\0\0"), Err("not cleanup_protocol's")),
            ("queue_id\0ABC1\0\0status\x000\0\0", Err("not cleanup_protocol's")),
            ("220 mx.example ESMTP Postfix\r\n", Err("not cleanup_protocol's")),
            ("protocol\0postdrop_protocol\0queue_id\0A\0\0", Err("speaks postdrop_protocol")),
        ];
        for (said, expected) in table {
            let found = Attributes::read(&mut said.as_bytes()).unwrap().queue_id("cleanup_protocol");
            match expected {
                Ok(id) => assert_eq!(found.as_deref(), Ok(id), "{said:?}"),
                Err(text) => assert!(found.as_ref().is_err_and(|error| error.contains(text)), "{said:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn statuses_count_once_they_are_whole() {
        let table = [
            ("status\x000\0reason\0\0\0", Some(0)),
            ("status\x008\0reason\x005.7.1 no\0\0", Some(8)),
            ("more\0x\0status\x000\0\0", Some(0)),
            ("status\x000\0", Some(0)),
            ("status\x000", None),
            ("status\0\0", None),
            ("status\0-1\0\0", None),
            ("status\x004294967296\0\0", None),
            ("reason\0x\0\0", None),
            ("", None),
        ];
        for (said, expected) in table {
            assert_eq!(Attributes::read(&mut said.as_bytes()).unwrap().status(), expected, "{said:?}");
        }
    }

    #[test]
    fn two_lists_in_a_row_and_one_without_end() {
        let both = format!("{GREETING}status\x000\0\0rest");
        let mut octets = both.as_bytes();
        assert_eq!(Attributes::take(&mut octets).get("queue_id"), Some("ABC1"));
        assert_eq!(Attributes::take(&mut octets).status(), Some(0));
        assert_eq!(octets, b"rest");
        assert_eq!(Attributes::read(&mut io::repeat(b'x')).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            Attributes::read(&mut b"a\0b\0".chain(io::repeat(b'x'))).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
