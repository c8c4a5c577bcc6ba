//! Makes immune clients whose address is in a list of good ones in the DNS, such as dnswl.org's.
//!
//! ```text
//! dns_whitelist_soft
//! ```
//! List it before the plugins that it shall protect clients from (`dnsbl`, `helo`, `greylisting`) and after `relay`: at each hook plugins are
//! asked in the order of `plugins`, and this one speaks at connect. `dnsbl` loses no time by that, since its questions are on their way by
//! then. `postern check` warns where `dnsbl` stands first.
//!
//! Immune clients are spared by the plugins whose manuals say so. They still cannot relay, and no recipient is vouched for: a list of
//! others must not make an open relay.
//!
//! - `timeout` (seconds, parts of one too; 4): how long answers are waited for. `total` in `config/dns` (8) and half of this line's
//!   `budget` (30) limit it too.
//! - `prefetch` (0 or 1; 1): the questions go out before any plugin is asked; 0: at this plugin's turn.
//!
//! File `whitelist_zones`, a zone a line, at most 60, and perhaps a text for the record; without it nobody is asked:
//!
//! ```text
//! list.good.example
//! white.example   our friends
//! ```
//! All zones are asked at once; the first in the file that lists the client is the reason of its immunity in the record. A zone that
//! lists 127.0.0.1 too lists everything (RFC 5782 §5), and makes nobody immune.
//!
//! What the DNS says, and what that leads to:
//!
//! | answer | leads to |
//! |---|---|
//! | 127.0.0.2 to 127.255.254.255, but for 127.0.0.255 | immune |
//! | no such name, or no A record of it | nothing |
//! | SERVFAIL, REFUSED, nonsense | nothing; the record says so |
//! | no answer in time | the same; the other zones' answers count |
//! | 127.0.0.1, 127.0.0.255 (dnswl.org: you ask too much), 127.255.255.x, any other address | nothing; the record says so |
//!
//! Not asked: about clients that may relay, about loopback addresses, and without an address (a pipe).
//!
//! Errors: a line that cannot be understood is this plugin's error, and the client is told to come again (421); `postern check` names each.
//!
//! Differs from qpsmtpd, which reads the answers at the first RCPT, when `dnsbl` has refused already; asks for TXT alone, of IPv4 addresses
//! alone; and takes any text for a listing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Deserialize;

use super::shared::dns_list::{self, Said, ZONES_MAX};
use super::shared::place;
use crate::config::{self, ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Entry, Hook, Plugin, Ruling};
use crate::world::{DnsName, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    spares_immune: true,
    ..Entry::plugin(
        "dns_whitelist_soft",
        &[Hook::PreConnection, Hook::Connect],
        crate::manual!("dns_whitelist_soft.rs"),
        build,
    )
};

const ZONES: &str = "whitelist_zones";

/// What dnswl.org says to whoever asks too much, about everybody.
const TOO_MUCH: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 255);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Seconds for each of two rounds of questions.
    timeout: f64,
    /// Whether questions go out before any plugin is asked.
    prefetch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: 4.0, prefetch: true }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    if !(0.1..=600.0).contains(&settings.timeout) {
        let fault = format!("timeout {} is not between 0.1 and 600 seconds", settings.timeout);
        return Err(origin.error(fault).of_plugin(ENTRY.name));
    }
    Ok(Box::new(DnsWhitelist { settings, world: world.clone() }))
}

struct DnsWhitelist {
    settings: Settings,
    world: World,
}

/// A line of `whitelist_zones`.
struct Zone {
    name: DnsName,
    text: Option<String>,
    /// "whitelist_zones line 3"
    place: String,
}

impl Plugin for DnsWhitelist {
    fn pre_connection(&mut self, at: &Connect<'_>) -> Answer {
        let connection = &at.session.connection;
        // What is wrong with the list is told at connect. Whoever may relay by the launcher's word is immune anyway.
        if connection.relay_client.is_none()
            && let Some(ip) = whose(connection.remote_ip)
            && let Ok(zones) = read(&self.world.config)
        {
            dns_list::begin(&self.world, ip, zones.iter().map(|zone| &zone.name));
        }
        Ok(Ruling::decline())
    }

    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let zones = read(&self.world.config)?;
        if zones.is_empty() {
            return Ok(Ruling::decline());
        }
        let Some(ip) = whose(at.session.connection.remote_ip) else {
            return Ok(Ruling::skip("no client address, or a loopback address"));
        };
        let questions: Vec<(&DnsName, bool)> = zones.iter().map(|zone| (&zone.name, false)).collect();
        let said = dns_list::ask(&self.world, ip, &questions, Duration::from_secs_f64(self.settings.timeout));
        let (mut ruling, mut immune) = (Ruling::decline(), None);
        for (zone, said) in zones.iter().zip(said) {
            let named = format!("{}: {}", zone.place, zone.name);
            match without_complaints(said) {
                Said::Unlisted => {}
                Said::Void(why) => ruling = ruling.because(format!("{named}: no listing: {why}")),
                Said::Unknown(why) => ruling = ruling.because(format!("{named}: not known: {why}")),
                Said::Listed(codes, _) => {
                    let text = zone.text.as_ref().map_or(String::new(), |text| format!(" ({text})"));
                    let evidence = format!("{named} lists {ip}: {}{text}", dns_list::shown(&codes));
                    immune.get_or_insert_with(|| evidence.clone());
                    ruling = ruling.because(evidence);
                }
            }
        }
        Ok(match immune {
            Some(reason) => ruling.change(Change::Whitelist(reason)),
            None => ruling,
        })
    }

    fn wants(&self, hook: Hook) -> bool {
        self.world.config.exists(ZONES) && (hook == Hook::Connect || self.settings.prefetch)
    }

    fn check(&mut self) -> Vec<String> {
        let faults = read(&self.world.config).err().map(ConfigError::all).unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    }
}

/// The address that lists are asked about.
fn whose(ip: Option<IpAddr>) -> Option<IpAddr> {
    ip.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_loopback())
}

/// What a zone says to whoever asks too much is no listing.
fn without_complaints(said: Said) -> Said {
    match said {
        Said::Listed(codes, _) if codes.contains(&TOO_MUCH) => {
            Said::Void(format!("{TOO_MUCH} says that our resolver asks too much"))
        }
        said => said,
    }
}

/// The zones, each once.
fn read(config: &ConfigDir) -> Result<Vec<Zone>, ConfigError> {
    let (mut zones, mut faults): (Vec<Zone>, Vec<ConfigError>) = (Vec::new(), Vec::new());
    for line in config.list(ZONES)? {
        match zone(&line) {
            Ok(zone) if zones.iter().any(|known| known.name == zone.name) => {}
            Ok(_) if zones.len() == ZONES_MAX => {
                faults.push(line.error(format!("more than {ZONES_MAX} zones")));
                break;
            }
            Ok(zone) => zones.push(zone),
            Err(fault) => faults.push(line.error(fault)),
        }
    }
    match ConfigError::from_many(faults) {
        Some(error) => Err(error),
        None => Ok(zones),
    }
}

/// `zone`, and perhaps a text.
fn zone(line: &config::Entry) -> Result<Zone, String> {
    let (name, text) = line.text.split_once(char::is_whitespace).unwrap_or((&line.text, ""));
    let parsed = DnsName::new(name).map_err(|fault| format!("{name:?} is no zone: {fault}"))?;
    // As dnsbl_zones has it: no zone has a colon in it.
    if name.contains(':') {
        return Err(format!("{name:?} is no zone: a text stands behind a blank"));
    }
    let text = Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Zone { name: parsed, text, place: place(&line.file, line.line) })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::changes::Facts;
    use crate::world::FakeDns;

    /// Why a client is immune, and the record's words.
    fn rule(zones: &str, dns: FakeDns, ip: Option<&str>) -> (Option<String>, String) {
        let (mut world, _dir) = fixture::world(&[(ZONES, zones)]);
        world.dns = Rc::new(dns);
        let mut plugin = fixture::build(&ENTRY, "dns_whitelist_soft", &world).unwrap();
        let mut session = fixture::session(ip);
        let mut at = Connect { session: &mut session, line: &fixture::Silent };
        plugin.pre_connection(&at).unwrap();
        let ruling = plugin.connect(&at).unwrap();
        at.apply(ruling.changes, "test").unwrap();
        (session.whitelisted, ruling.evidence.join("; "))
    }

    #[test]
    fn who_becomes_immune() {
        let dns = || {
            FakeDns::default()
                .a("9.2.0.192.good.test", &["127.0.5.1"])
                .a("9.2.0.192.kind.test", &["127.0.9.3"])
                .a("9.2.0.192.parked.test", &["203.0.113.1"])
                .a("9.2.0.192.quota.test", &["127.0.0.255"])
                .a("9.2.0.192.all.test", &["127.0.0.2"])
                .a("1.0.0.127.all.test", &["127.0.0.2"])
                .a("2.0.0.127.good.test", &["127.0.0.2"])
                .fails("9.2.0.192.broken.test")
                .late("9.2.0.192.slow.test")
        };
        let good = "whitelist_zones line 1: good.test lists 192.0.2.9: 127.0.5.1";
        let kind = "whitelist_zones line 2: kind.test lists 192.0.2.9: 127.0.9.3 (our friends)";
        let ip = Some("192.0.2.9");
        #[rustfmt::skip]
        let table: [(&str, Option<&str>, Option<&str>, &str); 10] = [
            ("", ip, None, ""),
            ("other.test", ip, None, ""),
            ("good.test", ip, Some(good), good),
            ("other.test\nkind.test\tour friends", ip, Some(kind), kind),
            ("parked.test", ip, None, "whitelist_zones line 1: parked.test: no listing: 203.0.113.1 is no answer of a list"),
            ("quota.test", ip, None, "whitelist_zones line 1: quota.test: no listing: 127.0.0.255 says that our resolver asks too much"),
            ("all.test", ip, None, "whitelist_zones line 1: all.test: no listing: it lists 127.0.0.1 too (127.0.0.2), and so everything"),
            ("broken.test\nslow.test", ip, None,
                "whitelist_zones line 1: broken.test: not known: failed: SERVFAIL; whitelist_zones line 2: slow.test: not known: no answer in time"),
            ("good.test", None, None, "no client address, or a loopback address"),
            ("good.test", Some("127.0.0.2"), None, "no client address, or a loopback address"),
        ];
        for (zones, ip, reason, evidence) in table {
            assert_eq!(rule(zones, dns(), ip), (reason.map(str::to_owned), evidence.to_owned()), "{zones:?}");
        }
        let both = rule("good.test\nkind.test our friends", dns(), ip);
        assert_eq!(both, (Some(good.to_owned()), format!("{good}; {kind}")));
        let six = FakeDns::default()
            .a("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.good.test", &["127.0.5.1"]);
        assert!(rule("good.test", six, Some("2001:db8::1")).0.is_some());
    }

    #[test]
    fn asked_in_advance_unless_told_otherwise() {
        let (mut world, _dir) = fixture::world(&[(ZONES, "a.test\nA.test. twice\nb.test\n")]);
        let dns = Rc::new(FakeDns::default());
        world.dns = Rc::clone(&dns) as _;
        let mut plugin = fixture::build(&ENTRY, "dns_whitelist_soft", &world).unwrap();
        let mut session = fixture::session(Some("192.0.2.9"));
        plugin.pre_connection(&Connect { session: &mut session, line: &fixture::Silent }).unwrap();
        assert_eq!((dns.begun().len(), dns.asked().len()), (2, 0));
        session.connection.relay_client = Some(String::new());
        plugin.pre_connection(&Connect { session: &mut session, line: &fixture::Silent }).unwrap();
        assert_eq!(dns.begun().len(), 2);
        let plugin = fixture::build(&ENTRY, "dns_whitelist_soft prefetch 0", &world).unwrap();
        let (nothing, _dir) = fixture::world(&[]);
        let idle = fixture::build(&ENTRY, "dns_whitelist_soft", &nothing).unwrap();
        assert!(ENTRY.hooks.iter().all(|hook| !idle.wants(*hook)), "without the list it is never asked");
        assert!(!plugin.wants(Hook::PreConnection) && plugin.wants(Hook::Connect));
        assert!(fixture::build(&ENTRY, "dns_whitelist_soft timeout 0", &world).is_err());
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let (world, _dir) = fixture::world(&[(ZONES, "a..test\nb.test:text\nc.test fine\n")]);
        let mut plugin = fixture::build(&ENTRY, "dns_whitelist_soft", &world).unwrap();
        let faults = plugin.check();
        assert_eq!(faults.len(), 2, "{faults:#?}");
        let session = &mut fixture::session(Some("192.0.2.9"));
        let trouble = plugin.connect(&Connect { session, line: &fixture::Silent }).unwrap_err();
        assert!(trouble.0.contains("whitelist_zones line 1"), "{trouble}");
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("dns_whitelist_soft").read::<Settings>().unwrap(), Settings::default());
    }
}
