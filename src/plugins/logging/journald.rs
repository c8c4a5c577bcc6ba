//! Sends log lines to systemd's journal, with fields to search for.
//!
//! ```text
//! logging/journald [loglevel L] [ident NAME] [path SOCKET]
//! ```
//! In `config/logging`.
//!
//! - `loglevel`: the least grave level that is sent, 0 to 7 or LOGDEBUG, LOGINFO, ... (LOGWARN). Lines of the decision record are
//!   sent whatever it is.
//! - `ident`: SYSLOG_IDENTIFIER, which `journalctl -t` looks for (postern).
//! - `path`: the socket (/run/systemd/journal/socket). A relative path starts at the configuration directory.
//!
//! Each entry has MESSAGE, PRIORITY, SYSLOG_FACILITY=2 (mail), SYSLOG_IDENTIFIER and, once the session has its id,
//! POSTERN_SESSION: `journalctl POSTERN_SESSION=ID` shows one session. Lines of the decision record have POSTERN_EVENT too
//! (connection, refused, queued, ...), and their values in fields of their own: POSTERN_CLIENT, POSTERN_FROM, POSTERN_PLUGIN, ...
//! each of at most 1,500 octets.
//!
//! Nothing is ever waited for: a line that the journal cannot take now falls back to standard error or syslog.

use serde::Deserialize;

use super::Daemon;
use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin, Trouble};
use crate::log::{self, Level, Line};
use crate::smtp::escape::safe;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::logger("logging/journald", crate::manual!("journald.rs"), build);

/// Octets of one field's value; the message itself has at most those of a log line.
const VALUE_OCTETS_MAX: usize = 1500;

/// Octets of one datagram. The socket takes some 200,000.
const DATAGRAM_OCTETS_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    loglevel: Level,
    ident: String,
    path: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { loglevel: Level::Warning, ident: log::IDENT.to_owned(), path: "/run/systemd/journal/socket".to_owned() }
    }
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let options: Options = settings.read()?;
    let daemon = Daemon::new(world, world.config.resolve(&options.path)?);
    Ok(Box::new(Journald { options, daemon }))
}

struct Journald {
    options: Options,
    daemon: Daemon,
}

impl Plugin for Journald {
    fn logging(&mut self, line: &Line<'_>) -> Result<(), Trouble> {
        let datagram = datagram(line, &self.options.ident);
        self.daemon.send(&datagram).map_err(|error| Trouble::new(format!("{}: {error}", self.daemon.path.display())))
    }

    fn loglevel(&self) -> Level {
        self.options.loglevel
    }

    fn check(&mut self) -> Vec<String> {
        self.daemon.check()
    }
}

/// An entry in the journal's native protocol.
fn datagram(line: &Line<'_>, ident: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    field(&mut out, "MESSAGE", line.text);
    field(&mut out, "PRIORITY", &(line.level as u8).to_string());
    field(&mut out, "SYSLOG_FACILITY", &log::FACILITY_MAIL.to_string());
    field(&mut out, "SYSLOG_IDENTIFIER", ident);
    if !line.session.is_empty() {
        field(&mut out, "POSTERN_SESSION", line.session);
    }
    let Some(entry) = line.entry else { return out };
    field(&mut out, "POSTERN_EVENT", entry.event());
    for (name, value) in entry.values().filter(|(name, _)| *name != "session") {
        if out.len() + name.len() + VALUE_OCTETS_MAX + 32 > DATAGRAM_OCTETS_MAX {
            break;
        }
        field(&mut out, &format!("POSTERN_{}", name.to_ascii_uppercase()), &safe(value, VALUE_OCTETS_MAX));
    }
    out
}

/// One field. A value with a line end in it is told its length instead, or what follows could begin a field of its own.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;
    use crate::record;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_line_end_in_a_value_begins_no_field() {
        let rows: [(&str, &[u8]); 4] = [
            ("", b"A=\n"),
            ("x=y", b"A=x=y\n"),
            ("x\nPRIORITY=0", b"A\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n"),
            ("\n", b"A\n\x01\0\0\0\0\0\0\0\n\n"),
        ];
        for (value, octets) in rows {
            let mut out = Vec::new();
            field(&mut out, "A", value);
            assert_eq!(out, octets, "{value:?}");
        }
    }

    #[test]
    fn an_entry_of_the_record_has_its_values_in_fields() {
        let entry =
            record::Entry::new("refused", "abc").with("client", "192.0.2.1").with("reply", "550 no\nPRIORITY=0");
        let line = Line { session: "abc", entry: Some(&entry), ..Line::text(Level::Info, "[abc] refused") };
        let expected = "MESSAGE=[abc] refused\nPRIORITY=6\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=postern\nPOSTERN_SESSION=abc\n\
                        POSTERN_EVENT=refused\nPOSTERN_CLIENT=192.0.2.1\nPOSTERN_REPLY=550 no?PRIORITY=0\n";
        assert_eq!(String::from_utf8_lossy(&datagram(&line, "postern")), expected);
    }

    #[test]
    fn a_datagram_is_bounded() {
        let mut entry = record::Entry::new("queued", "abc");
        for _ in 0..100 {
            entry = entry.with("decisions", "x".repeat(100_000));
        }
        let line = Line { entry: Some(&entry), ..Line::text(Level::Info, "text") };
        assert!(datagram(&line, "postern").len() <= DATAGRAM_OCTETS_MAX);
    }

    #[test]
    fn the_journals_socket_gets_it() {
        let (world, dir) = trial::real_world();
        let mut plugin =
            trial::build(&ENTRY, "logging/journald loglevel LOGDEBUG path socket ident mx", "", &world).unwrap();
        assert_eq!(plugin.loglevel(), Level::Debug);
        assert!(plugin.logging(&Line::text(Level::Error, "text")).is_err());
        let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        plugin.logging(&Line::text(Level::Error, "text")).unwrap();
        let mut buffer = [0; 256];
        let octets = socket.recv(&mut buffer).unwrap();
        let sent = String::from_utf8_lossy(&buffer[..octets]).into_owned();
        assert_eq!(sent, "MESSAGE=text\nPRIORITY=3\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=mx\n");
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("logging/journald").read().unwrap();
        assert_eq!(shipped, Options::default());
    }
}
