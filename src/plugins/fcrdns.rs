//! Looks whether the client's address has a name in the DNS that leads back to it (forward-confirmed reverse DNS).
//!
//! ```text
//! fcrdns
//! fcrdns reject 1 reject_type perm
//! ```
//! What it finds is known to the plugins after it (`Session::names`), and stands in the record as an `iprev` result (RFC 8601 §2.7.3).
//!
//! - `reject` (0, 1 or naughty; 0): 1 refuses clients without such a name, naughty remembers them for the `naughty` plugin, 0 only notes it
//!   in the record. Many honest hosts have none: look at the record first (`observe 1`).
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; temp).
//! - `timeout` (seconds, parts of one too; 5): how long each of the two rounds of questions may take. `total` in `config/dns` (8) and half
//!   of this line's `budget` (30) limit it too.
//! - `prefetch` (0 or 1; 1): the first question goes out before any plugin is asked; 0: at this plugin's turn.
//!
//! | the DNS says | result | karma | with `reject 1` |
//! |---|---|---|---|
//! | a name of the address, and the address among that name's | `iprev=pass` | +1 | |
//! | names, whose addresses are others | `iprev=fail` | -1 | refused |
//! | no name (no such name, no such record), or names without any address | `iprev=permerror` | -1 | refused |
//! | SERVFAIL, REFUSED, nonsense; of the names too, if none leads back | `iprev=temperror` | | not refused |
//! | no answer in time | `iprev=temperror` | | not refused |
//! | a name that only this machine may have: `localhost` | `iprev=fail` | -1 | refused |
//!
//! A name without a dot in it is none. `localhost` counts also where the launcher says it (TCPREMOTEHOST). At most 10 names are followed.
//! Nothing of it is done about clients that may relay or are whitelisted, about loopback addresses, and without an address (a pipe).
//!
//! Replies: `554 5.7.25 192.0.2.1 has no name in the DNS`, `... no name in the DNS that leads back to it`, `... calls itself localhost,
//! and is not`; 421 for temp.
//!
//! Differs from qpsmtpd, where `reject` is read and never used; an address in the same /24 is as good as the client's own; and the
//! result goes into a header field, which here is a matter for later.

use std::time::Duration;

use serde::Deserialize;

use super::shared::names::{self, Found};
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Entry, Hook, Plugin, Reject, RejectType, Ruling};
use crate::world::{Question, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    spares_immune: true,
    ..Entry::plugin("fcrdns", &[Hook::PreConnection, Hook::Connect], crate::manual!("fcrdns.rs"), build)
};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
    /// Seconds for each of two rounds of questions.
    timeout: f64,
    /// Whether the first question goes out before any plugin is asked.
    prefetch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reject: Reject::Tolerate, reject_type: RejectType::Temp, timeout: 5.0, prefetch: true }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    if !(0.1..=600.0).contains(&settings.timeout) {
        let fault = format!("timeout {} is not between 0.1 and 600 seconds", settings.timeout);
        return Err(origin.error(fault).of_plugin(ENTRY.name));
    }
    Ok(Box::new(Fcrdns { settings, world: world.clone() }))
}

struct Fcrdns {
    settings: Settings,
    world: World,
}

/// What the names come to (RFC 8601 §2.7.3), and what is wrong, or not known.
#[derive(Debug, PartialEq)]
enum Iprev {
    Pass(String),
    Fail(&'static str),
    Unconfirmable(&'static str),
    Unknown(String),
}

impl Plugin for Fcrdns {
    fn pre_connection(&mut self, at: &Connect<'_>) -> Answer {
        let connection = &at.session.connection;
        if let Some(ip) = connection.remote_ip.filter(|ip| !ip.to_canonical().is_loopback())
            && connection.relay_client.is_none()
        {
            self.world.dns.begin(&[Question::reverse(ip)]);
        }
        Ok(Ruling::decline())
    }

    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let connection = &at.session.connection;
        let Some(ip) = connection.remote_ip.map(|ip| ip.to_canonical()) else {
            return Ok(Ruling::skip("no client address"));
        };
        if ip.is_loopback() {
            return Ok(Ruling::skip(format!("{ip} is a loopback address")));
        }
        let found = names::look_up_within(&self.world, ip, Duration::from_secs_f64(self.settings.timeout));
        let result = judge(&found, connection.remote_host.as_deref());
        let named =
            |names: &[String]| if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let evidence = |word: &str, why: &str| format!("iprev={word} policy.iprev={ip}{why}");
        let refuse = |what: &str| {
            let denial = self.settings.reject_type.denial(format!("{ip} {what}")).code(7, 25);
            self.settings.reject.rule(denial).change(Change::AdjustKarma(-1))
        };
        let ruling = match result {
            Iprev::Pass(name) => {
                Ruling::decline().change(Change::AdjustKarma(1)).because(evidence("pass", &format!(" ({name})")))
            }
            Iprev::Fail(what) => refuse(what).because(evidence("fail", &named(&found.names.reverse))),
            Iprev::Unconfirmable(what) => refuse(what).because(evidence("permerror", &named(&found.names.reverse))),
            // Whoever wants the names asks again: these are not all.
            Iprev::Unknown(why) => return Ok(Ruling::decline().because(evidence("temperror", &format!(" ({why})")))),
        };
        Ok(ruling.change(Change::NoteNames(found.names)))
    }

    fn wants(&self, hook: Hook) -> bool {
        hook == Hook::Connect || self.settings.prefetch
    }
}

/// What the client's names come to. `launchers`: the name that the launcher found.
fn judge(found: &Found, launchers: Option<&str>) -> Iprev {
    let names = &found.names;
    if names.reverse.iter().map(String::as_str).chain(launchers).any(claims_localhost) {
        return Iprev::Fail("calls itself localhost, and is not");
    }
    if let Some(name) = names.confirmed.iter().find(|name| name.contains('.')) {
        return Iprev::Pass(name.clone());
    }
    match &found.unknown {
        Some(why) => Iprev::Unknown(why.clone()),
        None if names.reverse.is_empty() => Iprev::Unconfirmable("has no name in the DNS"),
        None if found.forward => Iprev::Fail("has no name in the DNS that leads back to it"),
        None => Iprev::Unconfirmable("has no name in the DNS that leads back to it"),
    }
}

/// Names that mean the machine itself (RFC 6761 §6.3).
fn claims_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain"
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::changes::Facts;
    use crate::hook::{Denial, Severity, Verdict};
    use crate::world::FakeDns;

    /// The refusal, the evidence, the karma, and the confirmed names that others are told.
    fn rule(
        line: &str,
        dns: FakeDns,
        ip: Option<&str>,
        host: Option<&str>,
    ) -> (Option<Denial>, String, i32, Option<Vec<String>>) {
        let (mut world, _dir) = fixture::world(&[]);
        world.dns = Rc::new(dns);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let mut session = fixture::session(ip);
        session.connection.remote_host = host.map(str::to_owned);
        let mut at = Connect { session: &mut session, line: &fixture::Silent };
        let ruling = plugin.connect(&at).unwrap();
        at.apply(ruling.changes, "test").unwrap();
        let denial = match ruling.verdict {
            Verdict::Deny(denial) => Some(denial),
            _ => None,
        };
        (denial, ruling.evidence.join("; "), session.karma, session.names.map(|names| names.confirmed))
    }

    fn dns() -> FakeDns {
        FakeDns::default()
            .ptr("192.0.2.1", &["Mail.example"])
            .a("mail.example", &["192.0.2.8", "192.0.2.1"])
            .ptr("192.0.2.2", &["gone.example", "mail.example"])
            .ptr("192.0.2.3", &["gone.example"])
            .ptr("192.0.2.4", &["broken.example"])
            .fails("broken.example")
            .ptr("192.0.2.5", &["broken.example", "five.example"])
            .a("five.example", &["192.0.2.5"])
            .ptr("192.0.2.6", &["localhost"])
            .ptr("192.0.2.7", &["seven"])
            .a("seven", &["192.0.2.7"])
            .fails("9.2.0.192.in-addr.arpa")
            .late("10.2.0.192.in-addr.arpa")
            .ptr("2001:db8::1", &["six.example"])
            .aaaa("six.example", &["2001:db8::1"])
            .ptr("192.0.2.11", &["localhost.attacker.example"])
            .ptr("192.0.2.12", &["x.LOCALHOST"])
    }

    #[test]
    fn what_the_names_come_to() {
        let none = "has no name in the DNS";
        let no_way = "has no name in the DNS that leads back to it";
        let local = "calls itself localhost, and is not";
        #[rustfmt::skip]
        let table: [(&str, Option<&str>, &str, i32); 14] = [
            ("192.0.2.1", None, "pass policy.iprev=192.0.2.1 (mail.example)", 1),
            ("::ffff:192.0.2.1", None, "pass policy.iprev=192.0.2.1 (mail.example)", 1),
            ("2001:db8::1", None, "pass policy.iprev=2001:db8::1 (six.example)", 1),
            ("192.0.2.2", Some(no_way), "fail policy.iprev=192.0.2.2 (gone.example, mail.example)", -1),
            ("192.0.2.3", Some(no_way), "permerror policy.iprev=192.0.2.3 (gone.example)", -1),
            ("192.0.2.4", None, "temperror policy.iprev=192.0.2.4 (broken.example: failed: SERVFAIL)", 0),
            ("192.0.2.5", None, "pass policy.iprev=192.0.2.5 (five.example)", 1),
            ("192.0.2.6", Some(local), "fail policy.iprev=192.0.2.6 (localhost)", -1),
            ("192.0.2.7", Some(no_way), "fail policy.iprev=192.0.2.7 (seven)", -1),
            ("192.0.2.8", Some(none), "permerror policy.iprev=192.0.2.8", -1),
            ("192.0.2.9", None, "temperror policy.iprev=192.0.2.9 (9.2.0.192.in-addr.arpa PTR: failed: SERVFAIL)", 0),
            ("192.0.2.10", None, "temperror policy.iprev=192.0.2.10 (10.2.0.192.in-addr.arpa PTR: no answer in time)", 0),
            ("192.0.2.11", Some(no_way), "permerror policy.iprev=192.0.2.11 (localhost.attacker.example)", -1),
            ("192.0.2.12", Some(local), "fail policy.iprev=192.0.2.12 (x.localhost)", -1),
        ];
        for (ip, refused, evidence, karma) in table {
            let (denial, found, points, names) = rule("fcrdns reject 1", dns(), Some(ip), None);
            let text = refused.map(|text| format!("{ip} {text}"));
            assert_eq!(denial.as_ref().map(|denial| &denial.text), text.as_ref(), "{ip}");
            assert_eq!((found, points), (format!("iprev={evidence}"), karma), "{ip}");
            assert_eq!(names.is_none(), evidence.starts_with("temperror"), "{ip}");
        }
        assert_eq!(rule("fcrdns", dns(), Some("192.0.2.5"), None).3, Some(vec!["five.example".to_owned()]));
    }

    #[test]
    fn it_refuses_only_where_told_to() {
        let (denial, evidence, karma, _) = rule("fcrdns", dns(), Some("192.0.2.8"), None);
        let noted = "tolerated: 192.0.2.8 has no name in the DNS; iprev=permerror policy.iprev=192.0.2.8";
        assert_eq!((denial, evidence.as_str(), karma), (None, noted, -1));
        let denial = rule("fcrdns reject 1", dns(), Some("192.0.2.8"), None).0.unwrap();
        assert_eq!((denial.severity, denial.enhanced), (Severity::Transient, Some((7, 25))));
        let denial = rule("fcrdns reject 1 reject_type perm", dns(), Some("192.0.2.8"), None).0.unwrap();
        assert_eq!(denial.severity, Severity::Permanent);
        let evidence = rule("fcrdns reject naughty", dns(), Some("192.0.2.8"), None).1;
        assert!(evidence.starts_with("naughty: "), "{evidence}");
        let (world, _dir) = fixture::world(&[]);
        assert!(fixture::build(&ENTRY, "fcrdns timeout 0", &world).is_err());
    }

    #[test]
    fn who_is_localhost_and_who_is_not() {
        let (denial, evidence, ..) = rule("fcrdns reject 1", dns(), Some("192.0.2.1"), Some("Localhost"));
        assert_eq!(denial.unwrap().text, "192.0.2.1 calls itself localhost, and is not");
        assert_eq!(evidence, "iprev=fail policy.iprev=192.0.2.1 (mail.example)");
        for ip in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            let (denial, evidence, karma, names) = rule("fcrdns reject 1", dns(), Some(ip), Some("localhost"));
            assert_eq!((denial, karma, names), (None, 0, None), "{ip}");
            assert!(evidence.ends_with("is a loopback address"), "{evidence}");
        }
        assert_eq!(rule("fcrdns reject 1", dns(), None, None).1, "no client address");
    }

    #[test]
    fn the_first_question_is_asked_in_advance() {
        let (mut world, _dir) = fixture::world(&[]);
        let dns = Rc::new(FakeDns::default());
        world.dns = Rc::clone(&dns) as _;
        let mut plugin = fixture::build(&ENTRY, "fcrdns", &world).unwrap();
        for (ip, begun) in [(Some("192.0.2.1"), 1), (Some("127.0.0.1"), 1), (None, 1), (Some("2001:db8::1"), 2)] {
            let session = &mut fixture::session(ip);
            plugin.pre_connection(&Connect { session, line: &fixture::Silent }).unwrap();
            assert_eq!(dns.begun().len(), begun, "{ip:?}");
        }
        assert_eq!(dns.begun()[0].to_string(), "1.2.0.192.in-addr.arpa PTR");
        assert!(!fixture::build(&ENTRY, "fcrdns prefetch 0", &world).unwrap().wants(Hook::PreConnection));
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("fcrdns").read::<Settings>().unwrap(), Settings::default());
    }
}
