//! Loggers: plugins of `config/logging` that write log lines somewhere. Lines of the decision record reach each of them
//! whatever its `loglevel` is; what it cannot write falls back (`log`).

pub mod adaptive;
pub mod devnull;
pub mod file;
pub mod journald;
pub mod stderr;
pub mod syslog;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Hook, Kind, Plugin};
use crate::world::{Datagram, World};

/// How a plugin is built.
type Build = fn(Settings, &World) -> Result<Box<dyn Plugin>, ConfigError>;

/// An entry of the catalogue for a logger.
const fn logger(name: &'static str, source: &'static str, build: Build) -> Entry {
    Entry { kind: Kind::Logger, ..Entry::plugin(name, &[Hook::Logging], source, build) }
}

/// A daemon that takes datagrams at a local socket: connected at the first line, again after it was started anew, and never
/// waited for.
struct Daemon {
    world: World,
    path: PathBuf,
    socket: Option<Box<dyn Datagram>>,
}

impl Daemon {
    fn new(world: &World, path: PathBuf) -> Self {
        Self { world: world.clone(), path, socket: None }
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some(socket) = &mut self.socket {
            match socket.send(octets) {
                // It reads too slowly. Another connection would be as full.
                Err(error) if error.kind() != io::ErrorKind::TimedOut => self.socket = None,
                sent => return sent,
            }
        }
        let mut socket = self.world.net.datagram(&self.path)?;
        socket.set_pace(Duration::ZERO);
        let sent = socket.send(octets);
        self.socket = Some(socket);
        sent
    }

    /// For `check`: whether the socket is there.
    fn check(&self) -> Vec<String> {
        match std::fs::metadata(&self.path) {
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("{}: {error}: is the daemon running?", self.path.display())],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod trial {
    //! What the tests of loggers have in common.

    use std::path::Path;
    use std::rc::Rc;

    use crate::config::testing::Scratch;
    use crate::config::{ConfigError, Origin, PluginFile, Settings};
    use crate::hook::{Entry, Plugin};
    use crate::world::World;

    /// A made-up outside, with a configuration directory.
    pub(super) fn world() -> (World, Scratch) {
        let scratch = Scratch::new(&[("me", "mx.example")]);
        (World::fake(Rc::new(scratch.open())), scratch)
    }

    /// A real one.
    pub(super) fn real_world() -> (World, Scratch) {
        let scratch = Scratch::new(&[("me", "mx.example")]);
        (World::real(Rc::new(scratch.open())), scratch)
    }

    /// The plugin of a line (its name first), and of a TOML file if that is not empty.
    pub(super) fn build(entry: &Entry, line: &str, toml: &str, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let name = words.next().unwrap();
        let file = (!toml.is_empty()).then(|| PluginFile::parse(Path::new("NAME.toml"), toml).unwrap());
        (entry.build)(Settings::new(&name, Origin::new(Path::new("config/logging"), 1), words.collect(), file), world)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_daemon_is_found_again_after_a_restart_and_never_waited_for() {
        let (world, scratch) = trial::real_world();
        let path = scratch.path().join("socket");
        let mut daemon = Daemon::new(&world, path.clone());
        assert!(daemon.send(b"x").is_err());
        assert_eq!(daemon.check().len(), 1);
        let mut buffer = [0; 8];
        for text in [b"one", b"two"] {
            let socket = UnixDatagram::bind(&path).unwrap();
            daemon.send(text).unwrap();
            let octets = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..octets], text);
            std::fs::remove_file(&path).unwrap();
        }
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let begun = world.clock.instant();
        let error = (0..10_000).find_map(|_| daemon.send(b"x").err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(world.clock.instant() - begun < Duration::from_secs(5));
    }
}
