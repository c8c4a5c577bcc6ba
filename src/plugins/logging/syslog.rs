//! Sends log lines to the local syslog.
//!
//! ```text
//! logging/syslog [loglevel L] [priority P] [ident NAME] [facility F] [logsock unix] [path SOCKET]
//! logging/syslog loglevel LOGINFO priority LOG_NOTICE
//! ```
//! In `config/logging`.
//!
//! - `loglevel`: the least grave level that is sent, 0 to 7 or LOGDEBUG, LOGINFO, ... (LOGWARN). Lines of the decision record are
//!   sent whatever it is.
//! - `priority`: all lines at this level, LOG_NOTICE or 5, instead of each at its own.
//! - `ident`: what lines are marked with (postern); letters, digits, `.`, `_`, `-`, at most 32.
//! - `facility`: LOG_MAIL, or LOG_LOCAL0 and the like; `LOG_` may be left out (LOG_MAIL).
//! - `logsock`: qpsmtpd's list of ways, separated by commas. The local socket is the only one here, so it must hold `unix` or
//!   `native`. A syslog on another host is the local one's to reach.
//! - `path`: the socket (/dev/log). A relative path starts at the configuration directory.
//!
//! Nothing is ever waited for: a line that the daemon cannot take now falls back to standard error. So does every line while no
//! daemon is there. Only a socket for datagrams will do, which /dev/log is.
//!
//! Differs from qpsmtpd: `ident` was qpsmtpd; what cannot be understood is an error instead of the default.

use serde::Deserialize;

use super::Daemon;
use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin, Trouble};
use crate::log::{self, Level, Line};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::logger("logging/syslog", crate::manual!("syslog.rs"), build);

/// Octets of an ident. RFC 3164 §4.1.3.
const IDENT_OCTETS_MAX: usize = 32;

/// In the order of their numbers (RFC 5424 §6.2.1); 12 to 15 have no name in syslog(3).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "",
    "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    loglevel: Level,
    priority: Option<Level>,
    ident: Ident,
    facility: Facility,
    logsock: Vec<String>,
    path: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            loglevel: Level::Warning,
            priority: None,
            ident: Ident(log::IDENT.to_owned()),
            facility: Facility(log::FACILITY_MAIL),
            logsock: vec!["unix".to_owned()],
            path: log::SYSLOG_SOCKET.to_owned(),
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Ident(String);

impl TryFrom<String> for Ident {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        if (1..=IDENT_OCTETS_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no ident: 1 to {IDENT_OCTETS_MAX} letters, digits, '.', '_', '-'"))
        }
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Facility(u8);

impl TryFrom<String> for Facility {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("log_").unwrap_or(&lower);
        let number = FACILITIES.iter().position(|known| *known == name && !name.is_empty());
        let number = number.and_then(|number| u8::try_from(number).ok());
        number
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no facility (LOG_MAIL, LOG_DAEMON, LOG_LOCAL0 to LOG_LOCAL7, ...)"))
    }
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let no_socket = settings.error("only the local socket is there: logsock unix").of_key("logsock");
    let options: Options = settings.read()?;
    if !options.logsock.iter().any(|way| way == "unix" || way == "native") {
        return Err(no_socket);
    }
    let daemon = Daemon::new(world, world.config.resolve(&options.path)?);
    Ok(Box::new(Syslog { options, daemon }))
}

struct Syslog {
    options: Options,
    daemon: Daemon,
}

impl Plugin for Syslog {
    fn logging(&mut self, line: &Line<'_>) -> Result<(), Trouble> {
        let line = Line { level: self.options.priority.unwrap_or(line.level), ..*line };
        let octets = log::syslog(&line, &self.options.ident.0, self.options.facility.0, self.daemon.world.host.pid());
        self.daemon.send(&octets).map_err(|error| Trouble::new(format!("{}: {error}", self.daemon.path.display())))
    }

    fn loglevel(&self) -> Level {
        self.options.loglevel
    }

    fn check(&mut self) -> Vec<String> {
        self.daemon.check()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;
    use crate::world::{Address, FakeNet};
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::rc::Rc;

    #[test]
    fn a_line_has_priority_ident_and_process() {
        let rows = [
            ("logging/syslog", "<20>postern[3999]: text"),
            ("logging/syslog priority LOG_NOTICE", "<21>postern[3999]: text"),
            ("logging/syslog priority 7 facility local7 ident qpsmtpd", "<191>qpsmtpd[3999]: text"),
            ("logging/syslog facility LOG_KERN logsock udp,unix", "<4>postern[3999]: text"),
        ];
        for (line, sent) in rows {
            let (mut world, _dir) = trial::world();
            let address = Address::Unix(Path::new("/dev/log").to_owned());
            let net = Rc::new(FakeNet::default().answer(address, Ok(Vec::new())));
            world.net = Rc::clone(&net) as Rc<dyn crate::world::Net>;
            let mut plugin = trial::build(&ENTRY, line, "", &world).unwrap();
            plugin.logging(&Line::text(Level::Warning, "text")).unwrap();
            assert_eq!(String::from_utf8_lossy(&net.said()[0].octets), sent, "{line}");
        }
    }

    #[test]
    fn a_real_socket_gets_each_line_and_without_it_each_line_fails() {
        let (world, dir) = trial::real_world();
        let mut plugin = trial::build(&ENTRY, "logging/syslog path log", "", &world).unwrap();
        assert!(plugin.logging(&Line::text(Level::Error, "text")).is_err());
        assert_eq!(plugin.check().len(), 1);
        let socket = UnixDatagram::bind(dir.path().join("log")).unwrap();
        for text in ["one", "two"] {
            plugin.logging(&Line::text(Level::Error, text)).unwrap();
            let mut buffer = [0; 64];
            let octets = socket.recv(&mut buffer).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&buffer[..octets]),
                format!("<19>postern[{}]: {text}", world.host.pid())
            );
        }
        assert!(plugin.check().is_empty());
    }

    #[test]
    fn a_faulty_line_is_named() {
        let (world, _dir) = trial::world();
        let rows = [
            ("logging/syslog facility LOG_", "facility"),
            ("logging/syslog facility 2", "facility"),
            ("logging/syslog ident a[b", "ident"),
            ("logging/syslog ident a:b", "ident"),
            ("logging/syslog priority LOG_LOUD", "priority"),
            ("logging/syslog logsock udp", "logsock"),
            ("logging/syslog LOGINFO", "LOGINFO"),
            ("logging/syslog sock unix", "sock"),
        ];
        for (line, fault) in rows {
            let said = trial::build(&ENTRY, line, "", &world).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(fault), "{line}: {said}");
        }
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("logging/syslog").read().unwrap();
        assert_eq!(Options { priority: None, ..shipped }, Options::default());
    }
}
