//! Turns clients away by address, and those that have too many connections open at once.
//!
//! ```text
//! hosts_allow
//! hosts_allow max_conn_ip 10
//! ```
//! - `max_conn_ip` (connections of one client at once, this one included; 0 is no limit; 5): one more is told `421 4.7.0 too many
//!   connections from 192.0.2.1, try again later`. It holds where the launcher counts: s6-tcpserver (TCPCONNNUM), tcpsvd -C
//!   (TCPCONCURRENCY). Others tell no number; xinetd has its own limit (`per_source`).
//!
//! If the plugin `karma`, listed before, knows the client from earlier, a good history (over 5) adds 3 to the limit, and one that is
//! not good (0 or less) makes it 1.
//!
//! File `hosts_allow`: a client, what becomes of it, and the text that it gets. The first line with its address in it counts.
//!
//! ```text
//! 192.0.2.7        OK
//! 192.0.2.0/24     DENYSOFT  Come back next week
//! 198.51.100.      DENY  Go away
//! 2001:db8::/32    DENY_DISCONNECT
//! ```
//! A client is an address, the beginning of one, or a network, as in `relayclients`. OK and DECLINED let it in, as do clients in no
//! line: other plugins rule on it all the same. DENY: `554 5.7.1` instead of the greeting; then only QUIT is heard. DENY_DISCONNECT
//! (or DENYHARD): the same, and the connection is closed. DENYSOFT and DENYSOFT_DISCONNECT: `421 4.7.1`, closed.
//!
//! Asked before all plugins that are asked at connect. Nobody is excepted, not even those who may relay: an OK above does that.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood before one that matches, are this plugin's error. Every
//! client is then deferred (421), unless the line says `on_error decline`: then all are let in. `postern check` names each line.
//!
//! Differs from qpsmtpd, where only IPv4 is known, the limit is an option of the launcher, and OK ends the asking.

use std::net::IpAddr;
use std::ops::ControlFlow;

use serde::Deserialize;

use super::shared::code::{self, Code};
use super::shared::network::Network;
use super::shared::place;
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Connect, Denial, Entry, Hook, Plugin, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("hosts_allow", &[Hook::PreConnection], crate::manual!("hosts_allow.rs"), build);

const LIST: &str = "hosts_allow";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Connections of one client at once; 0: no limit.
    max_conn_ip: u32,
}

impl Default for Settings {
    fn default() -> Self {
        // qpsmtpd-forkserver's.
        Self { max_conn_ip: 5 }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Settings { max_conn_ip } = given.read()?;
    Ok(Box::new(HostsAllow { max: u64::from(max_conn_ip), world: world.clone() }))
}

struct HostsAllow {
    max: u64,
    world: World,
}

impl Plugin for HostsAllow {
    fn pre_connection(&mut self, at: &Connect<'_>) -> Answer {
        let Some(ip) = at.session.connection.remote_ip else { return Ok(Ruling::decline()) };
        let limit = limit(self.max, at.session.karma_history);
        if let (Some(connections), Some(limit)) = (at.connections(), limit)
            && connections > limit
        {
            let text = format!("too many connections from {ip}, try again later");
            let history = at.session.karma_history.map(|history| format!(" (karma history {history})"));
            let evidence = format!("{connections} connections, limit {limit}{}", history.unwrap_or_default());
            return Ok(Ruling::deny(Denial::transient(text).code(7, 0)).because(evidence));
        }
        let Some((place, code, text)) = find(&self.world.config, ip)? else { return Ok(Ruling::decline()) };
        let text = if text.is_empty() { format!("no connections from {ip}") } else { text };
        Ok(code.denial(text).map_or_else(Ruling::decline, |denial| Ruling::deny(denial.code(7, 1))).because(place))
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let read = self.world.config.each(LIST, &mut |text, file, line| {
            if let Err(fault) = parse(text) {
                faults.push(ConfigError::at(file, line, fault).to_string());
            }
            ControlFlow::Continue(())
        });
        faults.extend(read.err().map(|error| error.to_string()));
        faults
    }
}

/// How many connections a client may have at once, by its history.
fn limit(max: u64, history: Option<i64>) -> Option<u64> {
    (max > 0).then(|| match history {
        Some(6..) => max + 3,
        Some(..=0) => 1,
        Some(_) | None => max,
    })
}

fn parse(text: &str) -> Result<(Network, Code, &str), String> {
    let (client, code, text) = code::line(text)?;
    Ok((Network::parse(client)?, code, text))
}

/// The first line with this address in it: where it stands, its code and text. Nothing is kept, for a connection asks once.
fn find(config: &ConfigDir, ip: IpAddr) -> Result<Option<(String, Code, String)>, ConfigError> {
    let mut outcome = Ok(None);
    config.each(LIST, &mut |line, file, number| {
        match parse(line) {
            Ok((network, code, text)) if network.contains(ip) => {
                outcome = Ok(Some((format!("{}: {line}", place(file, number)), code, text.to_owned())));
            }
            Ok(_) => return ControlFlow::Continue(()),
            Err(fault) => outcome = Err(ConfigError::at(file, number, fault)),
        }
        ControlFlow::Break(())
    })?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::facts::Listen;
    use crate::hook::{Severity, Then, Verdict};

    struct Silence;
    impl Listen for Silence {
        fn client_speaks_within(&self, _: std::time::Duration) -> bool {
            false
        }
    }

    const LIST: &str = "# first match wins\n192.0.2.7 OK\n192.0.2.0/24 DENYSOFT  Come back next week\n\
                        198.51.100. DENY Go away\n2001:db8::/32\tdenyhard\n203.0.113.1 DECLINED\n0.0.0.0/0 DENY\n";

    fn ask(line: &str, list: &str, ip: Option<&str>, connections: Option<u64>, history: Option<i64>) -> Answer {
        let (world, _dir) = fixture::world(&[("hosts_allow", list)]);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let mut session = fixture::session(ip);
        session.connection.connections_from_client = connections;
        session.karma_history = history;
        plugin.pre_connection(&Connect { session: &mut session, line: &Silence })
    }

    #[test]
    fn the_first_line_with_the_address_counts() {
        use {Severity as S, Then as T};
        let table = [
            (None, None),
            (Some("192.0.2.7"), None),
            (Some("192.0.2.0"), Some((S::Transient, T::Continue, "Come back next week", "line 3"))),
            (Some("192.0.2.255"), Some((S::Transient, T::Continue, "Come back next week", "line 3"))),
            (Some("::ffff:192.0.2.8"), Some((S::Transient, T::Continue, "Come back next week", "line 3"))),
            (Some("198.51.100.0"), Some((S::Permanent, T::Continue, "Go away", "line 4"))),
            (Some("2001:db8::"), Some((S::Permanent, T::Disconnect, "no connections from 2001:db8::", "line 5"))),
            (Some("2001:db9::"), None),
            (Some("203.0.113.1"), None),
            (Some("203.0.113.2"), Some((S::Permanent, T::Continue, "no connections from 203.0.113.2", "line 7"))),
        ];
        for (ip, expected) in table {
            let ruling = ask("hosts_allow", LIST, ip, Some(1), None).unwrap();
            match (ruling.verdict, expected) {
                (Verdict::Decline, None) => {}
                (Verdict::Deny(denial), Some((severity, then, text, line))) => {
                    assert_eq!((denial.severity, denial.then, denial.text.as_str()), (severity, then, text), "{ip:?}");
                    assert!(ruling.evidence[0].starts_with(&format!("hosts_allow {line}: ")), "{:?}", ruling.evidence);
                }
                (verdict, _) => panic!("{ip:?}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn connections_are_limited_where_they_are_counted() {
        let table = [
            ("hosts_allow", None, None, false),
            ("hosts_allow", Some(5), None, false),
            ("hosts_allow", Some(6), None, true),
            ("hosts_allow max_conn_ip 1", Some(2), None, true),
            ("hosts_allow max-conn-ip 0", Some(u64::MAX), Some(-1), false),
            // qpsmtpd's rule for clients that karma knows.
            ("hosts_allow", Some(8), Some(6), false),
            ("hosts_allow", Some(9), Some(6), true),
            ("hosts_allow", Some(6), Some(5), true),
            ("hosts_allow", Some(5), Some(1), false),
            ("hosts_allow", Some(1), Some(0), false),
            ("hosts_allow", Some(2), Some(0), true),
            ("hosts_allow", Some(2), Some(i64::MIN), true),
        ];
        for (line, connections, history, refused) in table {
            // A line that says OK does not lift the limit.
            let ruling = ask(line, "192.0.2.1 OK\n", Some("192.0.2.1"), connections, history).unwrap();
            let text = match ruling.verdict {
                Verdict::Deny(denial) => Some(denial.text),
                _ => None,
            };
            let expected = refused.then_some("too many connections from 192.0.2.1, try again later");
            assert_eq!(text.as_deref(), expected, "{line} {connections:?} {history:?}");
        }
    }

    #[test]
    fn no_list_lets_all_in_and_a_broken_one_is_trouble() {
        let (world, _dir) = fixture::world(&[]);
        assert_eq!(fixture::build(&ENTRY, "hosts_allow", &world).unwrap().check(), [""; 0]);
        assert!(fixture::build(&ENTRY, "hosts_allow max_conn_ip -1", &world).is_err());
        let list = "192.0.2.1 OK\n192.0.2.2\nhere.example DENY\n192.0.2.3 NO\n";
        assert!(ask("hosts_allow", list, Some("192.0.2.1"), None, None).is_ok());
        let trouble = ask("hosts_allow", list, Some("192.0.2.9"), None, None).unwrap_err();
        assert!(trouble.0.contains("hosts_allow line 2: \"192.0.2.2\" stands alone"), "{trouble}");
        let (world, _dir) = fixture::world(&[("hosts_allow", list)]);
        assert_eq!(fixture::build(&ENTRY, "hosts_allow", &world).unwrap().check().len(), 3);
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("hosts_allow").read::<Settings>().unwrap(), Settings::default());
    }
}
