//! What the plugins' unit tests need: files of a configuration, a world on them, a session, a line's settings.

use std::rc::Rc;
use std::time::Duration;

use tempfile::TempDir;

use crate::config::{ConfigDir, ConfigError, Origin, Settings, cdb, plugin_file};
use crate::hook::facts::{Listen, Session};
use crate::hook::{Entry, Plugin};
use crate::launch::{Connection, Launcher};
use crate::world::World;

/// A fake world over a directory with these files. The directory goes when the second value does.
pub(in super::super) fn world(files: &[(&str, &str)]) -> (World, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let config = ConfigDir::open_with(dir.path(), None).unwrap();
    (World::fake(Rc::new(config)), dir)
}

/// The same with the map `NAME.cdb`, which has these keys.
pub(in super::super) fn world_with_map(files: &[(&str, &str)], name: &str, keys: &[&str]) -> (World, TempDir) {
    let (_, dir) = world(files);
    let pairs: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_bytes(), &b""[..])).collect();
    std::fs::write(dir.path().join(format!("{name}.cdb")), cdb::tests::make(&pairs)).unwrap();
    let config = ConfigDir::open_with(dir.path(), None).unwrap();
    (World::fake(Rc::new(config)), dir)
}

/// The settings of a line: the plugin's name as written, then its words.
pub(in super::super) fn settings(line: &str) -> Settings {
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let name = words.next().unwrap();
    Settings::new(&name, Origin::new(std::path::Path::new("config/plugins"), 1), words.collect(), None)
}

/// A plugin built from its line.
pub(in super::super) fn build(entry: &Entry, line: &str, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    (entry.build)(settings(line), world)
}

/// A session with a client at this address, or with a pipe.
pub(in super::super) fn session(ip: Option<&str>) -> Session {
    let mut connection = Connection::unknown(if ip.is_some() { Launcher::Ucspi } else { Launcher::Pipe });
    connection.remote_ip = ip.map(|ip| ip.parse().unwrap());
    Session::new("0123456789abc".into(), "mx.example".into(), connection)
}

/// A line on which the client never speaks.
pub(in super::super) struct Silent;

impl Listen for Silent {
    fn client_speaks_within(&self, _wait: Duration) -> bool {
        false
    }
}

/// A plugin's settings as `plugins.d/NAME.toml` ships them, with every key set to what stands behind its `#`.
pub(in super::super) fn shipped(name: &str) -> Settings {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins.d").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(shipped).unwrap();
    // Text has a blank after its #, a key has none.
    let keys = text.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shipped.toml"), keys.collect::<Vec<_>>().join("\n")).unwrap();
    let file = plugin_file(dir.path(), "shipped", None).unwrap();
    Settings::new(name, Origin::new(std::path::Path::new("config/plugins"), 1), Vec::new(), file)
}
