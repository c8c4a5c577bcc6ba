//! Says which clients may relay, that is, send mail to anywhere: by address, or by the launcher's RELAYCLIENT.
//!
//! ```text
//! relay
//! relay only 1
//! ```
//! Asked at connect, in this order; the first that knows the client decides:
//!
//! 1. `norelayclients`: may not relay, whatever the rest says.
//! 2. RELAYCLIENT in the environment, set by the launcher's rules for this client, even if empty: may relay. (Its value
//!    is not appended to recipients, as qmail-smtpd would; qpsmtpd does not either.)
//! 3. `relayclients`, then `morerelayclients.cdb`: may relay.
//!
//! Nobody is refused here: `rcpt_ok` lets a client that may relay send anywhere, and plugins that spare such clients
//! leave it alone, so list this before them. A client without an address (a pipe) is granted nothing.
//!
//! - `only` (0 or 1; 0): only clients that may relay may send at all. At RCPT they are accepted, everybody else gets
//!   `550 5.7.1 relaying denied` (but the postmaster of a domain of ours always takes mail). Rcpt plugins listed after
//!   it are not asked about the accepted ones.
//!
//! Files, a client a line, in `relayclients` and `norelayclients` alike:
//!
//! ```text
//! 192.0.2.1              one address
//! 192.0.2.               every address that begins so
//! 192.0.2.0/24           a network; its first and last address belong to it
//! 2001:db8::1            one address
//! 2001:db8:              every address that begins so, in groups of four digits
//! 2001:db8::/32          a network
//! ```
//! `morerelayclients.cdb` has addresses and beginnings (`192.0.2.`, `2001:db8:`) as keys, IPv6 in small letters, in its
//! short form or with all its zeros; no networks. Its values do not matter.
//!
//! `::1` may relay where a line covers 127.0.0.1 or `::1` itself: who lists the one loopback address means this
//! machine. Nothing else is presumed of it, for a proxy on this machine would make every client `::1`.
//!
//! Old names: `check_relay` and `check_norelay` are the same plugin (each reads all the lists), `relay_only` is `relay
//! only 1`.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error. Every client is
//! then deferred at connect (421), unless the line says `on_error decline`: then the lists let nobody relay.
//!
//! Differs from qpsmtpd, where `::1` always relays, the first and last address of a network do not, `norelayclients`
//! knows no networks, and lines that are not understood are silently nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::shared::{called, network};
use crate::config::{Cdb, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Denial, Entry, Hook, Plugin, Rcpt, Ruling, Trouble};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["check_relay", "check_norelay", "relay_only"],
    ..Entry::plugin("relay", &[Hook::Connect, Hook::Rcpt], crate::manual!("relay.rs"), build)
};

const YES: &str = "relayclients";
const MORE: &str = "morerelayclients";
const NO: &str = "norelayclients";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Whether nobody else may send at all.
    only: Option<bool>,
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let only = called(&given, "relay_only");
    let settings: Settings = given.read()?;
    Ok(Box::new(Relay { only: settings.only.unwrap_or(only), world: world.clone() }))
}

struct Relay {
    only: bool,
    world: World,
}

impl Plugin for Relay {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let connection = &at.session.connection;
        let Some(ip) = connection.remote_ip else {
            return Ok(Ruling::skip("no client address, so nothing is granted"));
        };
        let ips = addresses(ip);
        if let Some(place) = network::find(&self.world.config, NO, &ips)? {
            return Ok(Ruling::decline().change(Change::RevokeRelaying).because(format!("may not relay: {place}")));
        }
        let reason = match &connection.relay_client {
            Some(_) => Some(String::from("RELAYCLIENT")),
            None => self.listed(&ips)?,
        };
        Ok(match reason {
            Some(reason) => {
                let evidence = format!("may relay: {reason}");
                Ruling::decline().change(Change::GrantRelaying(reason)).because(evidence)
            }
            None => Ruling::decline(),
        })
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        if !self.only {
            return Ok(Ruling::decline());
        }
        Ok(match &at.session.relaying {
            Some(reason) => Ruling::accept().because(format!("may relay: {reason}")),
            None => Ruling::deny(Denial::permanent("relaying denied").code(7, 1))
                .because("only 1: the client may not relay"),
        })
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults: Vec<String> =
            [NO, YES].iter().flat_map(|name| network::faults(&self.world.config, name)).collect();
        faults.extend(self.world.config.map(MORE).err().map(|error| error.to_string()));
        faults
    }
}

impl Relay {
    /// Where one of these addresses is listed as one that may relay.
    fn listed(&self, ips: &[IpAddr]) -> Result<Option<String>, Trouble> {
        if let Some(place) = network::find(&self.world.config, YES, ips)? {
            return Ok(Some(place));
        }
        match self.world.config.map(MORE)? {
            Some(map) => mapped(&map, ips),
            None => Ok(None),
        }
    }
}

/// The client's address, and the other family's loopback address if it is ::1.
fn addresses(ip: IpAddr) -> Vec<IpAddr> {
    let twin = (ip == IpAddr::V6(Ipv6Addr::LOCALHOST)).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    std::iter::once(ip).chain(twin).collect()
}

/// The key of a map that one of these addresses is, or begins with.
fn mapped(map: &Cdb, ips: &[IpAddr]) -> Result<Option<String>, Trouble> {
    for key in ips.iter().flat_map(|ip| keys(*ip)) {
        if map.get(key.as_bytes())?.is_some() {
            return Ok(Some(format!("{MORE}.cdb: {key}")));
        }
    }
    Ok(None)
}

/// What an address may be listed as in a map, the longest first. At most 16.
fn keys(ip: IpAddr) -> Vec<String> {
    let beginnings = |whole: String, mark: char| {
        let parts: Vec<&str> = whole.split(mark).collect();
        let parts = (1..parts.len()).rev().map(|count| parts[..count].join(&mark.to_string()) + &mark.to_string());
        parts.collect::<Vec<String>>()
    };
    let mut keys = vec![ip.to_string()];
    match ip {
        IpAddr::V4(ip) => keys.extend(beginnings(ip.to_string(), '.')),
        IpAddr::V6(ip) => {
            let groups = ip.segments();
            let padded = groups.map(|group| format!("{group:04x}")).join(":");
            let short = groups.map(|group| format!("{group:x}")).join(":");
            keys.push(padded.clone());
            keys.extend(beginnings(padded, ':'));
            keys.extend(beginnings(short, ':'));
        }
    }
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::hook::changes::Facts;
    use crate::hook::facts::{self, Listen};

    struct Silence;
    impl Listen for Silence {
        fn client_speaks_within(&self, _: std::time::Duration) -> bool {
            false
        }
    }

    /// Why a client may relay after connect, or that the plugin is in trouble.
    fn relaying(
        files: &[(&str, &str)],
        ip: Option<&str>,
        relay_client: Option<&str>,
    ) -> Result<Option<String>, String> {
        let (world, _dir) = fixture::world(files);
        connect(&world, ip, relay_client)
    }

    fn connect(world: &World, ip: Option<&str>, relay_client: Option<&str>) -> Result<Option<String>, String> {
        let mut plugin = fixture::build(&ENTRY, "relay", world).unwrap();
        let mut session = fixture::session(ip);
        session.connection.relay_client = relay_client.map(str::to_owned);
        let mut at = facts::Connect { session: &mut session, line: &Silence };
        let ruling = plugin.connect(&at).map_err(|trouble| trouble.to_string())?;
        assert!(matches!(ruling.verdict, Verdict::Decline | Verdict::Skip), "connect is never decided here");
        at.apply(ruling.changes, "test").unwrap();
        Ok(session.relaying)
    }

    #[test]
    fn the_lists_and_the_launcher_say_who_may_relay() {
        let lists =
            [("relayclients", "# ours\n192.0.2.0/24\n127.0.0.1\n2001:db8:\n"), ("norelayclients", "192.0.2.128/25\n")];
        let table: [(Option<&str>, Option<&str>, Option<&str>); 13] = [
            // A pipe is nobody, whatever is in the environment.
            (None, None, None),
            (None, Some(""), None),
            (Some("192.0.2.0"), None, Some("relayclients line 2: 192.0.2.0/24")),
            (Some("192.0.2.127"), None, Some("relayclients line 2: 192.0.2.0/24")),
            (Some("192.0.2.128"), None, None),
            (Some("192.0.2.255"), Some(""), None),
            (Some("192.0.3.0"), None, None),
            (Some("192.0.3.0"), Some("@here.example"), Some("RELAYCLIENT")),
            (Some("127.0.0.1"), None, Some("relayclients line 3: 127.0.0.1")),
            (Some("::1"), None, Some("relayclients line 3: 127.0.0.1")),
            (Some("::2"), None, None),
            (Some("2001:db8::7"), None, Some("relayclients line 4: 2001:db8:")),
            (Some("2001:db9::7"), None, None),
        ];
        for (ip, relay_client, reason) in table {
            assert_eq!(relaying(&lists, ip, relay_client).unwrap().as_deref(), reason, "{ip:?} {relay_client:?}");
        }
        assert_eq!(relaying(&[], Some("::1"), None), Ok(None));
        assert_eq!(relaying(&[("norelayclients", "127.0.0.1\n")], Some("::1"), Some("")), Ok(None));
    }

    #[test]
    fn a_line_that_nobody_understands_grants_nothing_and_is_named() {
        let trouble = relaying(&[("relayclients", "here.example\n192.0.2.1\n")], Some("192.0.2.1"), None).unwrap_err();
        assert!(trouble.contains("relayclients line 1: \"here.example\" is no address"), "{trouble}");
        // Without the list of exceptions nobody is one of them: so nobody relays.
        relaying(&[("relayclients", "192.0.2.1\n"), ("norelayclients", "192.0.2\n")], Some("192.0.2.1"), Some(""))
            .unwrap_err();

        let (world, _dir) = fixture::world(&[
            ("relayclients", "::\n192.0.2.1\n"),
            ("norelayclients", "x\n"),
            ("morerelayclients.cdb", ""),
        ]);
        let faults = fixture::build(&ENTRY, "relay", &world).unwrap().check();
        assert_eq!(faults.len(), 3, "{faults:?}");
    }

    #[test]
    fn a_map_holds_addresses_and_beginnings() {
        let lists = [("norelayclients", "198.51.100.9\n")];
        let keys = ["192.0.2.1", "198.51.100.", "2001:db8:", "fdda:b13d:0000:0000:0000:0000:0000:0001", "127.0.0.1"];
        let (world, _dir) = fixture::world_with_map(&lists, "morerelayclients", &keys);
        let table = [
            ("192.0.2.1", Some("morerelayclients.cdb: 192.0.2.1")),
            ("192.0.2.10", None),
            ("198.51.100.255", Some("morerelayclients.cdb: 198.51.100.")),
            ("198.51.100.9", None),
            ("2001:db8::1", Some("morerelayclients.cdb: 2001:db8:")),
            ("2001:db80::1", None),
            ("fdda:b13d::1", Some("morerelayclients.cdb: fdda:b13d:0000:0000:0000:0000:0000:0001")),
            ("::1", Some("morerelayclients.cdb: 127.0.0.1")),
        ];
        for (ip, reason) in table {
            assert_eq!(connect(&world, Some(ip), None).unwrap().as_deref(), reason, "{ip}");
        }
    }

    #[test]
    fn a_map_is_asked_for_the_address_and_each_beginning() {
        assert_eq!(keys("192.0.2.1".parse().unwrap()), ["192.0.2.1", "192.0.2.", "192.0.", "192."]);
        let v6 = keys("2001:db8::1".parse().unwrap());
        let expected = [
            "2001:db8::1",
            "2001:0db8:0000:0000:0000:0000:0000:0001",
            "2001:0db8:0000:0000:0000:0000:0000:",
            "2001:0db8:",
            "2001:db8:",
        ];
        for key in expected {
            assert!(v6.iter().any(|found| found == key), "{key} in {v6:?}");
        }
        assert!(v6.len() <= 16, "{v6:?}");
    }

    #[test]
    fn only_is_a_setting_and_a_name() {
        let (world, _dir) = fixture::world(&[]);
        let table = [
            ("relay", false),
            ("relay only 1", true),
            ("relay_only", true),
            ("relay_only:2", true),
            ("relay-only only 0", false),
            ("check_relay", false),
        ];
        for (line, only) in table {
            let settings: Settings = fixture::settings(line).read().unwrap();
            let named = called(&fixture::settings(line), "relay_only");
            assert_eq!(settings.only.unwrap_or(named), only, "{line}");
            fixture::build(&ENTRY, line, &world).unwrap();
        }
        assert!(fixture::build(&ENTRY, "relay only maybe", &world).is_err());
        assert!(fixture::build(&ENTRY, "relay olny 1", &world).is_err());
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("relay").read::<Settings>().unwrap().only, Some(false));
    }
}
