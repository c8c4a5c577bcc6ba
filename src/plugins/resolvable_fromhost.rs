//! Refuses senders whose domain could not get an answer by mail: it is not in the DNS, or takes no mail.
//!
//! ```text
//! resolvable_fromhost
//! resolvable_fromhost reject_type perm
//! require_resolvable_fromhost
//! ```
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; temp).
//! - `timeout` (seconds, 1 to 25; 10): how long the DNS is waited for in each of the two rounds; at most `total` of `config/dns`,
//!   and for the first half of the line's `budget`.
//!
//! The sender's domain is asked for its mail exchangers (MX) and addresses at once, then the first ten exchangers for their
//! addresses, again at once. One address is enough that is in none of the networks of `invalid_resolvable_fromhost`: of any of
//! these exchangers, or of the domain itself if it has no MX (RFC 5321 §5.1).
//!
//! | the DNS says | reply |
//! |---|---|
//! | no such name; neither MX nor address; exchangers without an address | `450 4.1.8 FQDN required in the envelope sender: ...` |
//! | addresses in invalid networks only | the same |
//! | the one MX is `.`, the domain takes no mail (RFC 7505) | `550 5.7.27 ... takes no mail: null MX`, never temporary |
//! | SERVFAIL, or nothing in time, and no good address | `450 4.4.3 Temporary address resolution failure`, never permanent |
//!
//! SERVFAIL and no answer in time lead to the same. With `reject_type perm` the first two are `550 5.1.8`.
//!
//! An address literal passes if its address is in none of the networks, with karma -1. An exchanger that is an address instead of a
//! name counts as that address, as many such domains get their mail all the same. The null reverse-path `<>` is not asked about; nor
//! are clients that may relay or are whitelisted. Names are absolute: no search list is ever tried.
//!
//! File `invalid_resolvable_fromhost`: networks of both families, one a line, as `relayclients` has them:
//!
//! ```text
//! 127.0.0.0/8
//! 10.0.0.0/8
//! ::1
//! fe80::/10
//! ```
//!
//! Old name: `require_resolvable_fromhost`, which does nothing unless the file of that name holds a line other than 0. (It refused at
//! RCPT; now it is at MAIL.)
//!
//! Errors: a file that cannot be read, and a line that is no network, are this plugin's error: the sender is deferred; `postern check`
//! names each.
//!
//! Differs from qpsmtpd, where a null MX is a name that does not resolve, networks are IPv4 only, of each exchanger only the first
//! address counts, every MX is followed, one after the other, and `reject naughty` refuses at once.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Deserialize;

use super::shared::network::{self, Network};
use super::shared::{called, place, within};
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Entry, Hook, Mail, Plugin, Reject, RejectType, Ruling, Severity};
use crate::smtp::address::Domain;
use crate::world::dns::{Kind, Record};
use crate::world::{Answer as Said, DnsName, Question, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    aliases: &["require_resolvable_fromhost"],
    spares_immune: true,
    ..Entry::plugin("resolvable_fromhost", &[Hook::Mail], crate::manual!("resolvable_fromhost.rs"), build)
};

/// The networks in which no good address is.
const NETWORKS: &str = "invalid_resolvable_fromhost";
/// The file that switched the plugin of old on.
const SWITCH: &str = "require_resolvable_fromhost";
/// Mail exchangers of a domain that are followed, the preferred first. A sender may have published any number.
const EXCHANGERS_MAX: usize = 10;
/// Seconds that may be configured: below the default budget of a line.
const TIMEOUT_S_MAX: u64 = 25;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
    /// Seconds.
    timeout: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reject: Reject::Refuse, reject_type: RejectType::Temp, timeout: 10 }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let needs_switch = called(&given, "require_resolvable_fromhost");
    let out_of_range = given.error(format!("1 to {TIMEOUT_S_MAX} seconds")).of_key("timeout");
    let settings: Settings = given.read()?;
    if !(1..=TIMEOUT_S_MAX).contains(&settings.timeout) {
        return Err(out_of_range);
    }
    Ok(Box::new(ResolvableFromHost { settings, needs_switch, world: world.clone(), invalid: None }))
}

struct ResolvableFromHost {
    settings: Settings,
    /// By its old name it works only if a file says so.
    needs_switch: bool,
    world: World,
    /// Each with its place, for the evidence. Read when there is an address to look for.
    invalid: Option<Vec<(Network, String)>>,
}

/// What becomes of a domain, and on what evidence.
#[derive(Debug, PartialEq)]
enum Fate {
    Good(String),
    /// It cannot be answered: what the client is told.
    Bad(String, String),
    /// It takes no mail.
    Null(String),
    /// The DNS could not say.
    Unknown(String),
}

impl Plugin for ResolvableFromHost {
    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        let Some(mailbox) = at.reverse_path.mailbox() else { return Ok(Ruling::skip("the null reverse-path")) };
        if self.needs_switch && !is_on(&self.world.config)? {
            return Ok(Ruling::skip(format!("{SWITCH} is not there, or 0")));
        }
        let domain = mailbox.domain();
        let fate = match domain {
            Domain::Literal(literal) => self.judge(domain, "literal", &[literal.ip()])?,
            Domain::Name(_) => self.look_up(domain)?,
        };
        let literal = domain.ip().is_some();
        Ok(match fate {
            Fate::Good(evidence) if literal => Ruling::decline().change(Change::AdjustKarma(-1)).because(evidence),
            Fate::Good(evidence) => Ruling::decline().because(evidence),
            fate => self.refuse(domain, fate),
        })
    }

    fn check(&mut self) -> Vec<String> {
        network::faults(&self.world.config, NETWORKS)
    }
}

impl ResolvableFromHost {
    fn refuse(&self, domain: &Domain, fate: Fate) -> Ruling {
        let (text, code, severity, evidence) = match fate {
            Fate::Good(evidence) => return Ruling::decline().because(evidence),
            Fate::Bad(what, evidence) => {
                (format!("FQDN required in the envelope sender: {domain} {what}"), (1, 8), None, evidence)
            }
            // RFC 7505 §4.2: a permanent word, since nobody may ever answer this sender.
            Fate::Null(evidence) => {
                (format!("{domain} takes no mail: null MX"), (7, 27), Some(Severity::Permanent), evidence)
            }
            Fate::Unknown(evidence) => {
                let text = String::from("Temporary address resolution failure");
                (text, (4, 3), Some(Severity::Transient), evidence)
            }
        };
        let mut denial = self.settings.reject_type.denial(text).code(code.0, code.1);
        denial.severity = severity.unwrap_or(denial.severity);
        let ruling = self.settings.reject.rule(denial).because(evidence);
        if severity == Some(Severity::Transient) { ruling } else { ruling.change(Change::AdjustKarma(-1)) }
    }

    fn look_up(&mut self, domain: &Domain) -> Result<Fate, ConfigError> {
        let Ok(name) = DnsName::new(domain.ascii()) else {
            let why = format!("{domain}: longer than a name in the DNS");
            return Ok(Fate::Bad("is no name in the DNS".into(), why));
        };
        let questions = [Kind::Mx, Kind::A, Kind::Aaaa].map(|kind| Question::new(name.clone(), kind));
        let mut answers = self.ask(&questions, 2);
        let own = answers.split_off(1);
        let mx = answers.pop().unwrap_or(Said::Late);
        if let Said::Found(records) = &mx {
            return self.follow(domain, &name, records);
        }
        let addresses: Vec<IpAddr> = own.iter().flat_map(Said::addresses).collect();
        if !addresses.is_empty() {
            return match self.judge(domain, "address", &addresses)? {
                Fate::Bad(..) if mx.is_unknown() => Ok(Fate::Unknown(format!("{name} MX: {mx}"))),
                fate => Ok(fate),
            };
        }
        let all = [&mx].into_iter().chain(&own);
        if all.clone().any(|answer| *answer == Said::NoSuchName) {
            return Ok(Fate::Bad("does not exist".into(), format!("{name}: {}", Said::NoSuchName)));
        }
        match all.clone().find(|answer| answer.is_unknown()) {
            Some(answer) => Ok(Fate::Unknown(format!("{name}: {answer}"))),
            None => Ok(Fate::Bad("has no MX and no address".into(), format!("{name}: {}", Said::NoData))),
        }
    }

    /// Follows mail exchangers to their addresses.
    fn follow(&mut self, domain: &Domain, name: &DnsName, records: &[Record]) -> Result<Fate, ConfigError> {
        let mut exchangers: Vec<(u16, &DnsName)> = records
            .iter()
            .filter_map(|record| match record {
                Record::Mx { preference, exchange } if !exchange.is_root() => Some((*preference, exchange)),
                _ => None,
            })
            .collect();
        if exchangers.is_empty() {
            return Ok(Fate::Null(format!("{name}: MX .")));
        }
        exchangers.sort_unstable();
        exchangers.truncate(EXCHANGERS_MAX);
        let (as_address, names): (Vec<_>, Vec<_>) =
            exchangers.iter().map(|(_, name)| *name).partition(|name| name.as_str().parse::<IpAddr>().is_ok());
        let mut addresses: Vec<IpAddr> = as_address.iter().filter_map(|name| name.as_str().parse().ok()).collect();
        let questions: Vec<Question> = names
            .iter()
            .flat_map(|name| [Kind::A, Kind::Aaaa].map(|kind| Question::new((*name).clone(), kind)))
            .collect();
        let answers = self.ask(&questions, 1);
        addresses.extend(answers.iter().flat_map(Said::addresses));
        let fate = match addresses.is_empty() {
            false => self.judge(domain, "MX", &addresses)?,
            true => {
                let first = exchangers.first().map_or_else(String::new, |(_, exchange)| exchange.to_string());
                Fate::Bad("has no MX with an address".into(), format!("{name}: MX {first}: no address"))
            }
        };
        let unknown = questions.iter().zip(&answers).find(|(_, answer)| answer.is_unknown());
        Ok(match (fate, unknown) {
            (Fate::Bad(..), Some((question, answer))) => Fate::Unknown(format!("{question}: {answer}")),
            (fate, _) => fate,
        })
    }

    /// Asks for one round, in this part of the plugin's time, so that a late answer leaves time for the other round.
    fn ask(&self, questions: &[Question], part: u32) -> Vec<Said> {
        within(&self.world, Duration::from_secs(self.settings.timeout), part, || self.world.dns.ask(questions))
    }

    /// Whether one of these addresses is in none of the invalid networks.
    fn judge(&mut self, domain: &Domain, by: &str, addresses: &[IpAddr]) -> Result<Fate, ConfigError> {
        let invalid = match &mut self.invalid {
            Some(invalid) => invalid,
            none => none.insert(networks(&self.world.config)?),
        };
        let mut last = String::new();
        for ip in addresses {
            match invalid.iter().find(|(network, _)| network.contains(*ip)) {
                None => return Ok(Fate::Good(format!("{domain}: {by} {ip}"))),
                Some((_, line)) => last = format!("{line}: {domain}: {by} {ip}"),
            }
        }
        Ok(Fate::Bad("leads to no address that mail can be sent to".into(), last))
    }
}

/// Whether the file of old switches it on: Perl's idea of true.
fn is_on(config: &ConfigDir) -> Result<bool, ConfigError> {
    Ok(config.value(SWITCH)?.is_some_and(|line| line.text != "0"))
}

/// Reads the networks. The error holds every fault.
fn networks(config: &ConfigDir) -> Result<Vec<(Network, String)>, ConfigError> {
    let (mut networks, mut faults) = (Vec::new(), Vec::new());
    config.each(NETWORKS, &mut |text, file, line| {
        match Network::parse(text) {
            Ok(network) => networks.push((network, format!("{} {text}", place(file, line)))),
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(networks), Err)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Then, Verdict};
    use crate::smtp::address::ReversePath;
    use crate::smtp::parameters::MailParameters;
    use crate::world::{Dns, FakeDns};

    /// qpsmtpd's sample, and the other family.
    const INVALID: &str = "127.0.0.0/8\n0.0.0.0/8\n224.0.0.0/4\n169.254.0.0/16\n10.0.0.0/8 \n::1\nfe80::/10\n";

    fn dns() -> FakeDns {
        FakeDns::default()
            .mx("mx.example", &[(10, "a.mx.example"), (20, "b.mx.example")])
            .a("b.mx.example", &["192.0.2.1"])
            .mx("six.example", &[(10, "c.mx.example")])
            .aaaa("c.mx.example", &["2001:db8::1"])
            .a("a.example", &["192.0.2.2"])
            .aaaa("aaaa.example", &["2001:db8::2"])
            .a("xn--bcher-kva.example", &["192.0.2.3"])
            .txt("text.example", &["nothing else"])
            .mx("null.example", &[(0, ".")])
            .a("null.example", &["192.0.2.4"])
            // RFC 7505 §3 wants it to be the only one.
            .mx("almost.example", &[(0, "."), (10, "b.mx.example")])
            .mx("lost.example", &[(10, "none.mx.example")])
            .a("lost.example", &["192.0.2.5"])
            .mx("private.example", &[(10, "ten.mx.example"), (20, "self.mx.example")])
            .a("ten.mx.example", &["10.0.0.0", "10.255.255.255"])
            .a("self.mx.example", &["127.0.0.1"])
            .aaaa("self.mx.example", &["::1", "fe80::9"])
            .mx("partly.example", &[(10, "half.mx.example")])
            .a("half.mx.example", &["127.0.0.1", "192.0.2.6"])
            .a("loop.example", &["127.0.0.1"])
            .mx("number.example", &[(10, "192.0.2.7")])
            .mx("ten.example", &[(10, "10.0.0.7")])
            .fails("broken.example")
            .late("late.example")
            .mx("far.example", &[(10, "broken.example"), (20, "self.mx.example")])
            .mx("slow.example", &[(10, "late.example")])
            .mx("lucky.example", &[(10, "late.example"), (20, "b.mx.example")])
    }

    fn ask(line: &str, files: &[(&str, &str)], dns: FakeDns, sender: &str) -> Answer {
        let (mut world, _dir) = fixture::world(files);
        world.dns = Rc::new(dns);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let (path, parameters) = (ReversePath::parse(sender).unwrap(), MailParameters::default());
        plugin.mail(&Mail { session: &mut fixture::session(None), reverse_path: &path, parameters: &parameters })
    }

    /// "450 4.1.8 text" as the session would say it, the connection's end marked by `!`; or "".
    fn reply(line: &str, sender: &str) -> String {
        match ask(line, &[(NETWORKS, INVALID)], dns(), sender).unwrap().verdict {
            Verdict::Deny(denial) => {
                let class = if denial.severity == Severity::Permanent { 5 } else { 4 };
                let (subject, detail) = denial.enhanced.unwrap();
                let end = if denial.then == Then::Disconnect { "!" } else { "" };
                format!("{class}.{subject}.{detail}{end} {}", denial.text)
            }
            Verdict::Decline | Verdict::Skip => String::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_domain_must_lead_to_an_address() {
        const FQDN: &str = "4.1.8 FQDN required in the envelope sender: ";
        const UNKNOWN: &str = "4.4.3 Temporary address resolution failure";
        let nowhere = |domain: &str| format!("{FQDN}{domain} leads to no address that mail can be sent to");
        #[rustfmt::skip]
        let table = [
            ("<>", String::new()),
            ("<a@mx.example>", String::new()),
            ("<a@MX.Example>", String::new()),
            ("<a@six.example>", String::new()),
            ("<a@a.example>", String::new()),
            ("<a@aaaa.example>", String::new()),
            ("<a@bücher.example>", String::new()),
            ("<a@none.example>", format!("{FQDN}none.example does not exist")),
            ("<a@localhost>", format!("{FQDN}localhost does not exist")),
            ("<a@text.example>", format!("{FQDN}text.example has no MX and no address")),
            ("<a@null.example>", "5.7.27 null.example takes no mail: null MX".to_owned()),
            ("<a@almost.example>", String::new()),
            // Whoever has an MX gets mail by it alone (RFC 5321 §5.1).
            ("<a@lost.example>", format!("{FQDN}lost.example has no MX with an address")),
            ("<a@private.example>", nowhere("private.example")),
            ("<a@partly.example>", String::new()),
            ("<a@loop.example>", nowhere("loop.example")),
            ("<a@number.example>", String::new()),
            ("<a@ten.example>", nowhere("ten.example")),
            ("<a@broken.example>", UNKNOWN.to_owned()),
            ("<a@late.example>", UNKNOWN.to_owned()),
            ("<a@far.example>", UNKNOWN.to_owned()),
            ("<a@slow.example>", UNKNOWN.to_owned()),
            ("<a@lucky.example>", String::new()),
            ("<a@[192.0.2.1]>", String::new()),
            ("<a@[IPv6:2001:db8::1]>", String::new()),
            ("<a@[10.1.2.3]>", nowhere("[10.1.2.3]")),
            ("<a@[IPv6:::1]>", nowhere("[IPv6:::1]")),
            ("<a@[IPv6:::ffff:127.0.0.1]>", nowhere("[IPv6:::ffff:127.0.0.1]")),
        ];
        for (sender, expected) in table {
            assert_eq!(reply("resolvable_fromhost", sender), expected, "{sender}");
        }
    }

    #[test]
    fn the_settings_say_what_that_leads_to() {
        let table = [
            ("reject_type perm", "<a@text.example>", "5.1.8 "),
            ("reject_type disconnect", "<a@text.example>", "5.1.8! "),
            ("reject_type soft", "<a@text.example>", "4.1.8 "),
            ("reject_type temp_disconnect", "<a@null.example>", "5.7.27! "),
            ("reject_type temp", "<a@null.example>", "5.7.27 "),
            ("reject_type perm", "<a@late.example>", "4.4.3 "),
            ("reject_type disconnect", "<a@broken.example>", "4.4.3! "),
            ("reject 0", "<a@text.example>", ""),
            ("reject naughty", "<a@text.example>", ""),
            ("reject 0", "<a@late.example>", ""),
        ];
        for (words, sender, expected) in table {
            let reply = reply(&format!("resolvable_fromhost {words}"), sender);
            assert!(
                reply.starts_with(expected) && reply.is_empty() == expected.is_empty(),
                "{words} {sender}: {reply}"
            );
        }
        let karma = |sender| {
            let ruling = ask("resolvable_fromhost reject 0", &[(NETWORKS, INVALID)], dns(), sender).unwrap();
            ruling.changes.iter().filter(|change| matches!(change, Change::AdjustKarma(-1))).count()
        };
        let table = [
            ("<a@mx.example>", 0),
            ("<a@text.example>", 1),
            ("<a@[192.0.2.1]>", 1),
            ("<a@[10.1.2.3]>", 1),
            ("<a@late.example>", 0),
        ];
        for (sender, count) in table {
            assert_eq!(karma(sender), count, "{sender}");
        }
    }

    #[test]
    fn the_record_tells_what_the_dns_said() {
        let table = [
            ("<a@mx.example>", "mx.example: MX 192.0.2.1"),
            ("<a@a.example>", "a.example: address 192.0.2.2"),
            ("<a@private.example>", "invalid_resolvable_fromhost line 7 fe80::/10: private.example: MX fe80::9"),
            ("<a@none.example>", "none.example: no such name"),
            ("<a@late.example>", "late.example: no answer in time"),
            ("<a@far.example>", "broken.example A: failed: SERVFAIL"),
        ];
        for (sender, evidence) in table {
            let ruling = ask("resolvable_fromhost", &[(NETWORKS, INVALID)], dns(), sender).unwrap();
            assert_eq!(ruling.evidence, [evidence], "{sender}");
        }
    }

    #[test]
    fn two_rounds_of_a_bounded_number_of_questions() {
        let names: Vec<String> = (0..100).map(|number| format!("mx{number:02}.example")).collect();
        // The least preferred is told first.
        let many: Vec<(u16, &str)> =
            names.iter().enumerate().map(|(at, name)| (100 - at as u16, name.as_str())).collect();
        let ask = |good: &str| {
            let (mut world, _dir) = fixture::world(&[]);
            let dns = Rc::new(FakeDns::default().mx("many.example", &many).a(good, &["192.0.2.1"]));
            world.dns = Rc::clone(&dns) as Rc<dyn Dns>;
            let mut plugin = fixture::build(&ENTRY, "resolvable_fromhost", &world).unwrap();
            let (path, parameters) = (ReversePath::parse("<a@many.example>").unwrap(), MailParameters::default());
            let session = &mut fixture::session(None);
            let ruling = plugin.mail(&Mail { session, reverse_path: &path, parameters: &parameters }).unwrap();
            (matches!(ruling.verdict, Verdict::Decline), dns.asked())
        };
        let (good, asked) = ask("mx90.example");
        assert!(good);
        assert_eq!(asked.len(), 3 + 2 * EXCHANGERS_MAX);
        assert_eq!((asked[0].to_string(), asked[3].to_string()), ("many.example MX".into(), "mx99.example A".into()));
        assert!(!ask("mx89.example").0, "beyond the tenth");
        let one = ask("other.example").1;
        assert!(one.iter().all(|question| question.name.to_string().ends_with(".example")), "no search list");
    }

    #[test]
    fn the_old_name_needs_its_file() {
        let refused = |line: &str, files: &[(&str, &str)]| {
            let ruling = ask(line, files, dns(), "<a@none.example>").unwrap();
            matches!(ruling.verdict, Verdict::Deny(_))
        };
        let old = "require_resolvable_fromhost";
        for (line, files, expected) in [
            (old, &[][..], false),
            (old, &[(SWITCH, "0\n")], false),
            (old, &[(SWITCH, "# no line\n")], false),
            (old, &[(SWITCH, "1\n")], true),
            (old, &[(SWITCH, "yes\n")], true),
            ("resolvable_fromhost", &[], true),
            ("resolvable_fromhost", &[(SWITCH, "0\n")], true),
        ] {
            assert_eq!(refused(line, files), expected, "{line} {files:?}");
        }
    }

    #[test]
    fn networks_that_cannot_be_used_are_trouble() {
        let files = [(NETWORKS, "127.0.0.0/8\nprivate\n10.0.0.0/33\n")];
        let trouble = ask("resolvable_fromhost", &files, dns(), "<a@mx.example>").unwrap_err();
        assert!(trouble.0.contains("invalid_resolvable_fromhost line 2"), "{trouble}");
        let (world, _dir) = fixture::world(&files);
        assert_eq!(fixture::build(&ENTRY, "resolvable_fromhost", &world).unwrap().check().len(), 2);
        for words in ["timeout 0", "timeout 26", "reject_type never"] {
            assert!(fixture::build(&ENTRY, &format!("resolvable_fromhost {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("resolvable_fromhost").read::<Settings>().unwrap(), Settings::default());
    }
}
