//! Where a next hop is, as written in the configuration.

use std::fmt;
use std::path::PathBuf;

use crate::world::{Address, Job, World};

/// One next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Place {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A name or address literal, and a port.
    Host(String, u16),
    /// A program that speaks SMTP on its standard input and output.
    Program(Job),
}

/// One way to a next hop.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Net(Address),
    Program(Job),
}

impl Place {
    /// `/path`, `HOST`, `HOST:PORT`, `::1`, `[::1]`, `[::1]:PORT`.
    pub(super) fn parse(text: &str, port: u16) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        // A colon within brackets, or one of several, belongs to an IPv6 address.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) if host.ends_with(']') || !host.contains(':') => {
                (host, digits.parse().ok().filter(|port| *port != 0).ok_or(format!("{text}: no port after the colon"))?)
            }
            _ => (text, port),
        };
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]%".contains(&octet);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(fits) {
            return Err(format!("{text:?} is no host, no address and no path of a socket"));
        }
        Ok(Self::Host(host.to_owned(), port))
    }

    /// Its addresses, or itself.
    pub(super) fn ways(&self, world: &World) -> std::io::Result<Vec<Way>> {
        match self {
            Self::Unix(path) => Ok(vec![Way::Net(Address::Unix(path.clone()))]),
            Self::Host(host, port) => Ok(world.net.resolve(host, *port)?.into_iter().map(Way::Net).collect()),
            Self::Program(job) => Ok(vec![Way::Program(job.clone())]),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Host(host, port) if host.contains(':') && !host.starts_with('[') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Program(job) => write!(f, "{}", job.program.display()),
        }
    }
}

impl fmt::Display for Way {
    /// As the log shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(Address::Tcp(address)) => write!(f, "{address}"),
            Self::Net(Address::Unix(path)) => write!(f, "{}", path.display()),
            Self::Program(job) => write!(f, "{}", job.program.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let table = [
            ("", None),
            ("a b", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a/b", None),
            ("/run/lmtp", Some("/run/lmtp")),
            ("mail.example", Some("mail.example:25")),
            ("mail.example:2525", Some("mail.example:2525")),
            ("127.0.0.1:10025", Some("127.0.0.1:10025")),
            ("::1", Some("[::1]:25")),
            ("[::1]", Some("[::1]:25")),
            ("[::1]:10025", Some("[::1]:10025")),
        ];
        for (text, wanted) in table {
            let found = Place::parse(text, 25).ok().map(|place| place.to_string());
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
    }
}
