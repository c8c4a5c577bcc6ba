//! Refuses senders whose domain, or whose client's HELO name, is in a list of bad domains in the DNS.
//!
//! ```text
//! rhsbl
//! rhsbl disconnect
//! rhsbl reject naughty helo 0
//! ```
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm). A single word on the line is this (`rhsbl disconnect`).
//! - `helo` (0 or 1; 1): whether the name of HELO or EHLO is looked for as well.
//! - `timeout` (seconds, 1 to 25; 10): how long the DNS is waited for in each of the two rounds; at most `total` of `config/dns`,
//!   and for the first half of the line's `budget`.
//!
//! File `rhsbl_zones`: a zone, and the text for those that it lists; without one the zone's own text (TXT) is taken, if it has one:
//!
//! ```text
//! dbl.list.example
//! abuse.list.example   does not support abuse@domain
//! ```
//! Without the file, or a line in it, nothing is asked. At MAIL all zones are asked at once about all names (A records, RFC 5782
//! §2.5). If several list one, the sender's domain counts before the HELO name, then the order of the file. Replies, `550 5.7.1`:
//!
//! ```text
//! Mail from far.example rejected because it does not support abuse@domain
//! Mail from HELO mx.far.example rejected because it is listed by dbl.list.example: THE ZONE'S TEXT
//! ```
//!
//! Listed is what has an address in 127.0.0.0/8, other than 127.0.0.1 and 127.255.255.x (errors that lists tell that way). A dead zone
//! that sends everybody somewhere else lists nobody; nor does one that lists everything: whoever lists a name is asked about
//! `invalid` too, which no list may have in it (RFC 5782 §5). All of this stands in the record.
//!
//! No such name: not listed. SERVFAIL and no answer in time: not listed by that zone, which the record tells; mail does not wait for a
//! list.
//!
//! Names without a dot, addresses and address literals are not looked for: lists of domains hold none. The null reverse-path `<>` has
//! no domain; the HELO name counts all the same. Not asked: about clients that may relay or are whitelisted.
//!
//! Errors: a list that cannot be read, and a line that begins with no zone, are this plugin's error: the sender is deferred; `postern
//! check` names each.
//!
//! Differs from qpsmtpd, which asks one zone after the other, in random order, takes any answer for a listing, asks zones without
//! a text for TXT alone, and only names the HELO name but does not look for it.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Deserialize;

use super::shared::dns_list::{Said, first_text, judge, shown};
use super::shared::{place, within};
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Entry, Hook, Mail, Plugin, Reject, RejectType, Ruling};
use crate::smtp::address::Domain;
use crate::world::dns::Kind;
use crate::world::{DnsName, Question, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    spares_immune: true,
    ..Entry::plugin("rhsbl", &[Hook::Mail], crate::manual!("rhsbl.rs"), build)
};

const FILE: &str = "rhsbl_zones";
/// Zones that may be asked: with two names each, far below what one session may ask.
const ZONES_MAX: usize = 40;
/// Seconds that may be configured: below the default budget of a line.
const TIMEOUT_S_MAX: u64 = 25;
/// What no list of domains may have in it (RFC 5782 §5).
const NOBODY: &str = "invalid";

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
    helo: bool,
    /// Seconds.
    timeout: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reject: Reject::Refuse, reject_type: RejectType::Perm, helo: true, timeout: 10 }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if let Some(word) = given.take_odd() {
        given.set("reject_type", word);
    }
    let out_of_range = given.error(format!("1 to {TIMEOUT_S_MAX} seconds")).of_key("timeout");
    let settings: Settings = given.read()?;
    if !(1..=TIMEOUT_S_MAX).contains(&settings.timeout) {
        return Err(out_of_range);
    }
    Ok(Box::new(Rhsbl { settings, world: world.clone(), zones: None }))
}

struct Rhsbl {
    settings: Settings,
    world: World,
    /// Read at the first MAIL.
    zones: Option<Vec<Zone>>,
}

/// One line of the file.
struct Zone {
    name: DnsName,
    text: Option<Box<str>>,
    /// "rhsbl_zones line 1".
    place: String,
}

/// A name to look for.
struct Suspect {
    name: DnsName,
    /// As the reply names it: "far.example", "HELO mx.far.example".
    shown: String,
}

/// A zone's answer about a name.
struct Hit<'a> {
    suspect: &'a Suspect,
    zone: &'a Zone,
    question: Question,
    said: Said,
}

impl Plugin for Rhsbl {
    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        let zones = match &mut self.zones {
            Some(zones) => zones,
            none => none.insert(read(&self.world.config)?),
        };
        if zones.is_empty() {
            return Ok(Ruling::decline());
        }
        let suspects = suspects(at, self.settings.helo);
        let limit = Duration::from_secs(self.settings.timeout);
        let (listed, notes) = look_up(&self.world, zones, &suspects, limit);
        let ruling = match listed {
            None => Ruling::decline(),
            Some((text, evidence)) => {
                let denial = self.settings.reject_type.denial(text).code(7, 1);
                self.settings.reject.rule(denial).change(Change::AdjustKarma(-1)).because(evidence)
            }
        };
        Ok(notes.into_iter().fold(ruling, Ruling::because))
    }

    fn check(&mut self) -> Vec<String> {
        match read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

/// The sender's domain, then the HELO name, if it is another.
fn suspects(at: &Mail<'_>, helo: bool) -> Vec<Suspect> {
    let sender = at.reverse_path.mailbox().map(|mailbox| ("", mailbox.domain()));
    let hello = at.session.hello.as_ref().filter(|_| helo).and_then(|hello| hello.name.domain());
    let mut suspects: Vec<Suspect> = Vec::new();
    for (word, domain) in sender.into_iter().chain(hello.map(|domain| ("HELO ", domain))) {
        if let Some(name) = asked_as(domain).filter(|name| suspects.iter().all(|other| other.name != *name)) {
            suspects.push(Suspect { name, shown: format!("{word}{domain}") });
        }
    }
    suspects
}

/// A domain as lists of domains know it; none if they cannot.
fn asked_as(domain: &Domain) -> Option<DnsName> {
    let Domain::Name(name) = domain else { return None };
    let (_, last) = name.ascii().rsplit_once('.')?;
    // 192.0.2.1 is no domain, and some lists answer everybody who asks for one with a code of its own.
    let is_number = last.bytes().all(|octet| octet.is_ascii_digit());
    DnsName::new(name.ascii()).ok().filter(|_| !is_number)
}

/// What lists the first of the suspects, as reply and as evidence; and what else is to be told.
fn look_up(
    world: &World,
    zones: &[Zone],
    suspects: &[Suspect],
    limit: Duration,
) -> (Option<(String, String)>, Vec<String>) {
    let pairs = suspects.iter().flat_map(|suspect| zones.iter().map(move |zone| (suspect, zone)));
    // A name that is too long for its place in a zone cannot be in it.
    let asked: Vec<(&Suspect, &Zone, Question)> = pairs
        .filter_map(|(suspect, zone)| {
            suspect.name.within(&zone.name).ok().map(|name| (suspect, zone, Question::new(name, Kind::A)))
        })
        .collect();
    let questions: Vec<Question> = asked.iter().map(|(.., question)| question.clone()).collect();
    // Half of the time, so that a zone that says nothing leaves time to prove the others.
    let answers = within(world, limit, 2, || world.dns.ask(&questions));
    let mut notes = Vec::new();
    let mut hits: Vec<Hit<'_>> = Vec::new();
    for ((suspect, zone, question), answer) in asked.into_iter().zip(answers) {
        match judge(&answer) {
            Said::Unlisted => {}
            Said::Void(why) | Said::Unknown(why) => notes.push(format!("{}: {}: {why}", zone.place, question.name)),
            said @ Said::Listed(..) => hits.push(Hit { suspect, zone, question, said }),
        }
    }
    prove(world, &mut hits, &mut notes, limit);
    let told = hits.first().map(|hit| {
        let codes = if let Said::Listed(codes, _) = &hit.said { shown(codes) } else { String::new() };
        (reply(hit), format!("{}: {}: {codes}", hit.zone.place, hit.question.name))
    });
    (told, notes)
}

/// Drops what is said by zones that list everything, and fetches the text of the others, in one more round.
fn prove(world: &World, hits: &mut Vec<Hit<'_>>, notes: &mut Vec<String>, limit: Duration) {
    if hits.is_empty() {
        return;
    }
    let test = |hit: &Hit<'_>| {
        let name = DnsName::new(NOBODY).and_then(|name| name.within(&hit.zone.name));
        name.unwrap_or_else(|_| hit.zone.name.clone())
    };
    let mut questions: Vec<Question> = hits.iter().map(|hit| Question::new(test(hit), Kind::A)).collect();
    questions.extend(hits.iter().map(|hit| Question::new(hit.question.name.clone(), Kind::Txt)));
    let answers = within(world, limit, 1, || world.dns.ask(&questions));
    let (tests, texts) = answers.split_at(hits.len());
    let mut at = 0;
    hits.retain_mut(|hit| {
        let (proof, text) = (judge(&tests[at]), first_text(&texts[at]));
        at += 1;
        let why = match proof {
            Said::Listed(..) => format!("lists {NOBODY} too, and so everything"),
            Said::Unknown(why) => format!("whether it lists {NOBODY} too, and so everything, is not known ({why})"),
            Said::Unlisted | Said::Void(_) => {
                if let Said::Listed(_, shown) = &mut hit.said {
                    *shown = text;
                }
                return true;
            }
        };
        notes.push(format!("{}: {}: {why}", hit.zone.place, hit.zone.name));
        false
    });
}

fn reply(hit: &Hit<'_>) -> String {
    let text = match (&hit.zone.text, &hit.said) {
        (Some(text), _) => text.to_string(),
        (None, Said::Listed(_, Some(text))) => format!("is listed by {}: {text}", hit.zone.name),
        (None, _) => format!("is listed by {}", hit.zone.name),
    };
    format!("Mail from {} rejected because it {text}", hit.suspect.shown)
}

/// Reads the zones. The error holds every fault.
fn read(config: &ConfigDir) -> Result<Vec<Zone>, ConfigError> {
    let (mut zones, mut faults) = (Vec::new(), Vec::new());
    config.each(FILE, &mut |text, file, line| {
        match parse(text) {
            Ok(_) if zones.len() == ZONES_MAX => {
                faults.push(ConfigError::at(file, line, format!("more than {ZONES_MAX} zones")));
                return ControlFlow::Break(());
            }
            Ok((name, text)) => zones.push(Zone { name, text, place: place(file, line) }),
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(zones), Err)
}

/// `ZONE`, `ZONE TEXT`; or `ZONE:TEXT`, as `dnsbl_zones` writes it.
fn parse(line: &str) -> Result<(DnsName, Option<Box<str>>), String> {
    let (zone, text) = line.split_once([' ', '\t', ':']).unwrap_or((line, ""));
    let text = text.trim();
    let name = DnsName::new(zone).map_err(|error| format!("{zone:?} is no zone, but {error}"))?;
    if name.labels().count() < 2 {
        return Err(format!("{zone:?} is no zone that lists domains"));
    }
    Ok((name, (!text.is_empty()).then(|| text.into())))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::facts::Greeting;
    use crate::hook::{Denial, Severity, Then, Verdict};
    use crate::smtp::address::ReversePath;
    use crate::smtp::command::hello_argument;
    use crate::smtp::parameters::MailParameters;
    use crate::world::FakeDns;

    const ZONES: &str = "one.test\ntwo.test  is bad, says two\nthree.test:sends spam\n";

    fn dns() -> FakeDns {
        FakeDns::default()
            .a("bad.example.one.test", &["127.0.1.2"])
            .txt("bad.example.one.test", &["see http://one.test/bad"])
            .a("bad.example.two.test", &["127.0.0.2"])
            .a("two.example.two.test", &["127.0.0.2", "127.0.0.4"])
            .a("three.example.three.test", &["127.0.0.2"])
            .a("bare.example.one.test", &["127.0.0.2"])
            .a("xn--bcher-kva.example.one.test", &["127.0.0.2"])
            .a("parked.example.one.test", &["203.0.113.1"])
            .a("dead.example.one.test", &["127.0.0.1"])
            .a("quota.example.one.test", &["127.255.255.254"])
            .a("1.2.3.4.one.test", &["127.0.1.255"])
            .a("single.one.test", &["127.0.0.2"])
            .fails("broken.example.one.test")
            .late("late.example.one.test")
            .a("late.example.two.test", &["127.0.0.2"])
    }

    struct Played {
        denial: Option<Denial>,
        evidence: String,
        karma: bool,
        asked: Vec<String>,
    }

    fn play(line: &str, zones: &str, dns: FakeDns, hello: &str, sender: &str) -> Played {
        let (mut world, _dir) = fixture::world(&[(FILE, zones)]);
        let dns = Rc::new(dns);
        world.dns = Rc::clone(&dns) as Rc<dyn crate::world::Dns>;
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap_or_else(|error| panic!("{error}"));
        let session = &mut fixture::session(Some("192.0.2.1"));
        session.hello = Some(Greeting { name: hello_argument(hello).unwrap(), extended: true });
        let (path, parameters) = (ReversePath::parse(sender).unwrap(), MailParameters::default());
        let ruling = plugin.mail(&Mail { session, reverse_path: &path, parameters: &parameters }).unwrap();
        Played {
            evidence: ruling.evidence.join("; "),
            karma: ruling.changes.iter().any(|change| matches!(change, Change::AdjustKarma(-1))),
            asked: dns.asked().iter().map(ToString::to_string).collect(),
            denial: if let Verdict::Deny(denial) = ruling.verdict { Some(denial) } else { None },
        }
    }

    #[test]
    fn a_listed_domain_is_refused_with_its_text() {
        #[rustfmt::skip]
        let table = [
            ("mx.example", "<a@good.example>", "", ""),
            ("mx.example", "<a@bad.example>", "Mail from bad.example rejected because it is listed by one.test: see http://one.test/bad",
                "rhsbl_zones line 1: bad.example.one.test: 127.0.1.2"),
            ("mx.example", "<a@BAD.example>", "Mail from BAD.example rejected because it is listed by one.test: see http://one.test/bad",
                "rhsbl_zones line 1: bad.example.one.test: 127.0.1.2"),
            ("mx.example", "<a@two.example>", "Mail from two.example rejected because it is bad, says two",
                "rhsbl_zones line 2: two.example.two.test: 127.0.0.2, 127.0.0.4"),
            ("mx.example", "<a@three.example>", "Mail from three.example rejected because it sends spam",
                "rhsbl_zones line 3: three.example.three.test: 127.0.0.2"),
            ("mx.example", "<a@bare.example>", "Mail from bare.example rejected because it is listed by one.test",
                "rhsbl_zones line 1: bare.example.one.test: 127.0.0.2"),
            ("mx.example", "<a@bücher.example>", "Mail from bücher.example rejected because it is listed by one.test",
                "rhsbl_zones line 1: xn--bcher-kva.example.one.test: 127.0.0.2"),
            // The HELO name, after the sender.
            ("two.example", "<a@good.example>", "Mail from HELO two.example rejected because it is bad, says two",
                "rhsbl_zones line 2: two.example.two.test: 127.0.0.2, 127.0.0.4"),
            ("bare.example", "<a@three.example>", "Mail from three.example rejected because it sends spam",
                "rhsbl_zones line 3: three.example.three.test: 127.0.0.2"),
            ("two.example", "<>", "Mail from HELO two.example rejected because it is bad, says two",
                "rhsbl_zones line 2: two.example.two.test: 127.0.0.2, 127.0.0.4"),
            // What lists nobody.
            ("mx.example", "<a@parked.example>", "", "rhsbl_zones line 1: parked.example.one.test: 203.0.113.1 is no answer of a list"),
            ("mx.example", "<a@dead.example>", "", "rhsbl_zones line 1: dead.example.one.test: 127.0.0.1 is no answer of a list"),
            ("mx.example", "<a@quota.example>", "",
                "rhsbl_zones line 1: quota.example.one.test: 127.255.255.254 says that the list does not answer our resolver"),
            ("mx.example", "<a@broken.example>", "", "rhsbl_zones line 1: broken.example.one.test: failed: SERVFAIL"),
            // Another zone may know more than one that is late.
            ("mx.example", "<a@late.example>", "Mail from late.example rejected because it is bad, says two",
                "rhsbl_zones line 2: late.example.two.test: 127.0.0.2; rhsbl_zones line 1: late.example.one.test: no answer in time"),
            // What no list of domains holds.
            ("single", "<a@single>", "", ""),
            ("1.2.3.4", "<a@1.2.3.4>", "", ""),
            ("[1.2.3.4]", "<a@[1.2.3.4]>", "", ""),
            ("{}", "<>", "", ""),
        ];
        for (hello, sender, text, evidence) in table {
            let played = play("rhsbl", ZONES, dns(), hello, sender);
            let denial = played.denial;
            assert_eq!(denial.as_ref().map_or("", |denial| &denial.text), text, "{hello} {sender}");
            assert_eq!(played.evidence, evidence, "{hello} {sender}");
            assert_eq!(played.karma, denial.is_some());
            assert!(denial.is_none_or(|denial| denial.enhanced == Some((7, 1))));
        }
    }

    #[test]
    fn a_zone_that_lists_everything_lists_nothing() {
        let all = || dns().a("bad.example.all.test", &["127.0.0.2"]).a("invalid.all.test", &["127.0.0.2"]);
        let played = play("rhsbl", "all.test\n", all(), "mx.example", "<a@bad.example>");
        assert!(played.denial.is_none());
        assert_eq!(played.evidence, "rhsbl_zones line 1: all.test: lists invalid too, and so everything");
        // The next one is believed.
        let played = play("rhsbl", "all.test\ntwo.test is bad\n", all(), "mx.example", "<a@bad.example>");
        assert_eq!(played.denial.unwrap().text, "Mail from bad.example rejected because it is bad");
        let unproved = all().late("invalid.all.test");
        let played = play("rhsbl", "all.test\n", unproved, "mx.example", "<a@bad.example>");
        assert!(played.denial.is_none());
    }

    #[test]
    fn one_round_and_one_more_only_for_the_listed() {
        let asked = |line, zones, sender| play(line, zones, dns(), "mx.example", sender).asked;
        let both =
            ["good.example.one.test A", "good.example.two.test A", "mx.example.one.test A", "mx.example.two.test A"];
        let zones = "one.test\ntwo.test x\n";
        assert_eq!(asked("rhsbl", zones, "<a@good.example>"), both);
        assert_eq!(asked("rhsbl helo 0", zones, "<a@good.example>"), both[..2]);
        assert_eq!(asked("rhsbl", zones, "<a@mx.example>"), both[2..]);
        assert_eq!(asked("rhsbl helo 0", zones, "<>"), [""; 0]);
        assert_eq!(asked("rhsbl", "# none\n", "<a@bad.example>"), [""; 0]);
        let listed = asked("rhsbl helo 0", "one.test\n", "<a@bad.example>");
        assert_eq!(listed, ["bad.example.one.test A", "invalid.one.test A", "bad.example.one.test TXT"]);
        // Too long to be in it.
        let long = format!("<a@{0}.{0}.{0}.example>", "x".repeat(63));
        assert_eq!(asked("rhsbl helo 0", &format!("{}.test\n", "z".repeat(63)), &long), [""; 0]);
    }

    #[test]
    fn the_settings_say_what_a_listing_leads_to() {
        let table = [
            ("rhsbl", Some((Severity::Permanent, Then::Continue))),
            ("rhsbl disconnect", Some((Severity::Permanent, Then::Disconnect))),
            ("rhsbl perm reject 1", Some((Severity::Permanent, Then::Continue))),
            ("rhsbl reject_type temp", Some((Severity::Transient, Then::Continue))),
            ("rhsbl reject 0", None),
            ("rhsbl reject naughty reject_type disconnect", None),
        ];
        for (line, expected) in table {
            let played = play(line, ZONES, dns(), "mx.example", "<a@bad.example>");
            assert_eq!(played.denial.map(|denial| (denial.severity, denial.then)), expected, "{line}");
            assert!(played.karma && played.evidence.contains("rhsbl_zones line 1"), "{line}");
        }
        let (world, _dir) = fixture::world(&[]);
        for words in ["deny", "timeout 0", "timeout 26", "helo perhaps"] {
            assert!(fixture::build(&ENTRY, &format!("rhsbl {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let many: String = (0..=ZONES_MAX).map(|number| format!("z{number}.test\n")).collect();
        for (zones, count) in [("one.test\n.test\na..b text\ntest text\n:text\n", 4), (many.as_str(), 1), (ZONES, 0)] {
            let (world, _dir) = fixture::world(&[(FILE, zones)]);
            let mut plugin = fixture::build(&ENTRY, "rhsbl", &world).unwrap();
            let faults = plugin.check();
            assert_eq!(faults.len(), count, "{faults:?}");
            assert!(faults.iter().all(|fault| fault.contains("rhsbl_zones line ")), "{faults:?}");
            let (path, parameters) = (ReversePath::Null, MailParameters::default());
            let session = &mut fixture::session(None);
            let answer = plugin.mail(&Mail { session, reverse_path: &path, parameters: &parameters });
            assert_eq!(answer.is_err(), count > 0);
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("rhsbl").read::<Settings>().unwrap(), Settings::default());
    }
}
