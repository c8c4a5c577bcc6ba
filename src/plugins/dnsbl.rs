//! Refuses clients whose address is listed in the DNS, by zones such as Spamhaus's.
//!
//! ```text
//! dnsbl
//! dnsbl reject naughty reject_type disconnect
//! dnsbl threshold 3 decide rcpt
//! ```
//! All zones are asked at once, IPv4 and IPv6 alike, so that twenty cost the time of the slowest. Those that list the client are asked
//! for their text, and whether they list 127.0.0.1 too: no list may (RFC 5782 §5), and one that does lists everything.
//!
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; perm).
//! - `decide` (connect or rcpt; connect): when the answers are waited for, and the client is refused. At rcpt a whitelist by HELO or
//!   sender has been heard too, and the record shows for whom the mail was.
//! - `threshold` (1 or more; 1): the client is refused if the weights of the zones that list it add up to this.
//! - `prefetch` (0 or 1; 1): the questions go out before any plugin is asked, so that the answers come while `earlytalker` listens and
//!   `dns_whitelist_soft` is waited for. 0: at this plugin's turn, and none about a client that a plugin before it has spared.
//! - `timeout` (seconds, parts of one too; 30): how long answers are waited for. `total` in `config/dns` (8) and half of this line's
//!   `budget` (30) limit it too.
//!
//! File `dnsbl_zones`, a zone a line, at most 60; without it nobody is asked:
//!
//! ```text
//! zen.example                                  refuses with the list's own text (its TXT record)
//! bl.example:Blocked, see http://x/?ip=%IP%    refuses with this text; %IP% is the client's address
//! maybe.example weight=2                       counts 2; -1000 to 1000, 1 where nothing is said
//! good.example weight=-3                       a list of good clients
//! other.example weight=2:Blocked %IP%          both
//! ```
//! The weight stands before the colon, where qpsmtpd has nothing but the zone; no zone has a blank in it. A zone that stands there twice
//! counts once. If several list the client, the text is that of the first in the file whose weight is above 0.
//!
//! File `dnsbl_allow`: clients that no zone is asked about, as in `relayclients`: addresses, their beginnings (192.0.2.), networks. File
//! `dnsbl_rejectmsg`: lines that the client gets before the text.
//!
//! RBLSMTPD in the environment, set by the launcher's rules: empty, and no zone is asked; else the client is refused with this text (a
//! `-` before it is taken off, and makes the refusal permanent).
//!
//! Reply: `554 5.7.1` and the text (421 for temp; 550 or 450 at rcpt). A listed client's karma falls by 1.
//!
//! What the DNS says, and what that leads to:
//!
//! | answer | leads to |
//! |---|---|
//! | 127.0.0.2 to 127.255.254.255 | listed |
//! | no such name, or no A record of it | not listed there |
//! | SERVFAIL, REFUSED, nonsense | not listed there; the record says so |
//! | no answer in time | the same; the other zones' answers count |
//! | 127.0.0.1, or an address that is not in 127.0.0.0/8 | not listed there: what is left of a dead list; the record says so |
//! | 127.255.255.x | not listed there: the list tells our resolver that it does not answer it; the record says so |
//! | listed, and 127.0.0.1 is listed too, or that cannot be found out | not listed there: the list may list everything; the record says so |
//!
//! So a list that fails never refuses anybody. Not asked: about clients that may relay or are whitelisted, so list `relay` and
//! `dns_whitelist_soft` before it; about loopback addresses, which lists have for tests; and without an address (a pipe). The postmaster
//! of a domain of ours is accepted at rcpt all the same.
//!
//! Old arguments: one word alone is the `reject_type` (`dnsbl disconnect`); `reject connect` is `reject 1`.
//!
//! Errors: a line of `dnsbl_zones` or `dnsbl_allow` that cannot be understood is this plugin's error, and the client is told to come again
//! (421); `postern check` names each.
//!
//! Differs from qpsmtpd, which asks one zone after the other, and IPv4 addresses only; never uses a zone's own text; takes any answer
//! for a listing; asks zones without a text for TXT alone; uses RBLSMTPD's text only if `reject connect`; and makes a client good again
//! that mails to the postmaster or abuse.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::shared::dns_list::{self, Said, ZONES_MAX};
use super::shared::{network, place};
use crate::config::{self, ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Denial, Entry, Hook, Plugin, Rcpt, Reject, RejectType, Ruling, Session};
use crate::world::{DnsName, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    spares_immune: true,
    ..Entry::plugin("dnsbl", &[Hook::PreConnection, Hook::Connect, Hook::Rcpt], crate::manual!("dnsbl.rs"), build)
};

const ZONES: &str = "dnsbl_zones";
const ALLOW: &str = "dnsbl_allow";
const MESSAGE: &str = "dnsbl_rejectmsg";

const WEIGHT_MAX: i32 = 1000;

/// When the client is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum When {
    #[default]
    Connect,
    Rcpt,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    reject: Reject,
    reject_type: RejectType,
    /// When the answers are waited for.
    decide: When,
    /// The sum of weights from which on a client is refused.
    threshold: i32,
    /// Whether questions go out before any plugin is asked.
    prefetch: bool,
    /// Seconds for each of two rounds of questions.
    timeout: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let (reject, reject_type) = (Reject::default(), RejectType::default());
        Self { reject, reject_type, decide: When::default(), threshold: 1, prefetch: true, timeout: 30.0 }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    if given.words().windows(2).any(|pair| pair == ["reject", "connect"]) {
        given.take_flag("reject");
        given.take_flag("connect");
        given.set("reject", "1");
    }
    if let Some(word) = given.take_odd() {
        given.set("reject_type", word);
    }
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| Err(origin.error(text).of_plugin(ENTRY.name));
    if settings.threshold < 1 {
        return fault(format!("threshold {} would refuse clients that no zone lists: 1 or more", settings.threshold));
    }
    if !(0.1..=600.0).contains(&settings.timeout) {
        return fault(format!("timeout {} is not between 0.1 and 600 seconds", settings.timeout));
    }
    Ok(Box::new(Dnsbl { settings, world: world.clone(), zones: None, finding: None }))
}

struct Dnsbl {
    settings: Settings,
    world: World,
    /// Read when first asked for.
    zones: Option<Vec<Zone>>,
    /// What this session's client came to.
    finding: Option<Finding>,
}

/// A line of `dnsbl_zones`.
#[derive(Clone, Debug, PartialEq)]
struct Zone {
    name: DnsName,
    weight: i32,
    text: Option<String>,
    /// "dnsbl_zones line 3"
    place: String,
}

/// What is to be done about a client.
enum Scope {
    /// Nothing, and there is nothing to be said about it.
    Nothing,
    /// Nothing, for this reason.
    Skip(String),
    /// The launcher says that it is to be refused so.
    Refuse(String),
    /// The zones are to be asked.
    Ask(IpAddr),
}

/// What a client came to.
#[derive(Clone, Debug, Default)]
struct Finding {
    skip: Option<String>,
    denial: Option<Denial>,
    evidence: Vec<String>,
}

impl Plugin for Dnsbl {
    fn pre_connection(&mut self, at: &Connect<'_>) -> Answer {
        // Whoever may relay by the launcher's word will be spared.
        if at.session.connection.relay_client.is_none() {
            self.begin(at.session);
        }
        Ok(Ruling::decline())
    }

    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        match self.settings.decide {
            When::Connect => self.rule(at.session),
            When::Rcpt => {
                self.begin(at.session);
                Ok(Ruling::decline())
            }
        }
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        self.rule(at.session)
    }

    fn wants(&self, hook: Hook) -> bool {
        match hook {
            Hook::PreConnection => self.settings.prefetch && self.world.config.exists(ZONES),
            Hook::Connect => self.settings.decide == When::Connect || !self.settings.prefetch,
            _ => self.settings.decide == When::Rcpt,
        }
    }

    fn check(&mut self) -> Vec<String> {
        let zones = read(&self.world.config).err().map(ConfigError::all).unwrap_or_default();
        let mut faults: Vec<String> = zones.iter().map(ToString::to_string).collect();
        faults.extend(network::faults(&self.world.config, ALLOW));
        faults.extend(self.world.config.list(MESSAGE).err().map(|error| error.to_string()));
        faults
    }
}

impl Dnsbl {
    /// Sends the questions. What is wrong is told when the answers are wanted.
    fn begin(&mut self, session: &Session) {
        if let Ok(Scope::Ask(ip)) = self.scope(session)
            && let Some(zones) = &self.zones
        {
            dns_list::begin(&self.world, ip, zones.iter().map(|zone| &zone.name));
        }
    }

    fn rule(&mut self, session: &Session) -> Answer {
        let first = self.finding.is_none();
        let finding = match &self.finding {
            Some(finding) => finding.clone(),
            None => self.find(session)?,
        };
        self.finding = Some(finding.clone());
        let ruling = match (finding.skip, finding.denial) {
            (Some(reason), _) => return Ok(Ruling::skip(reason)),
            (None, Some(denial)) if first => self.settings.reject.rule(denial).change(Change::AdjustKarma(-1)),
            (None, Some(denial)) => self.settings.reject.rule(denial),
            (None, None) => Ruling::decline(),
        };
        Ok(finding.evidence.into_iter().fold(ruling, Ruling::because))
    }

    fn find(&mut self, session: &Session) -> Result<Finding, ConfigError> {
        Ok(match self.scope(session)? {
            Scope::Nothing => Finding::default(),
            Scope::Skip(reason) => Finding { skip: Some(reason), ..Finding::default() },
            Scope::Refuse(text) => {
                let denial = Some(self.launchers(&text).code(7, 1));
                Finding { denial, evidence: vec!["RBLSMTPD is set".to_owned()], skip: None }
            }
            Scope::Ask(ip) => self.ask(ip)?,
        })
    }

    /// What the client is to us, without the DNS. Reads the zones.
    fn scope(&mut self, session: &Session) -> Result<Scope, ConfigError> {
        match session.connection.rblsmtpd.as_deref() {
            Some("") => return Ok(Scope::Skip("RBLSMTPD is set and empty".to_owned())),
            Some(text) => return Ok(Scope::Refuse(text.to_owned())),
            None => {}
        }
        let zones = match &mut self.zones {
            Some(zones) => zones,
            none => none.insert(read(&self.world.config)?),
        };
        if zones.is_empty() {
            return Ok(Scope::Nothing);
        }
        let Some(ip) = session.connection.remote_ip.map(|ip| ip.to_canonical()) else {
            return Ok(Scope::Skip("no client address".to_owned()));
        };
        if ip.is_loopback() {
            return Ok(Scope::Skip(format!("{ip} is a loopback address")));
        }
        Ok(match network::find(&self.world.config, ALLOW, &[ip])? {
            Some(place) => Scope::Skip(place),
            None => Scope::Ask(ip),
        })
    }

    /// As rblsmtpd has it: a text after `-` refuses for good.
    fn launchers(&self, text: &str) -> Denial {
        let Some(text) = text.strip_prefix('-') else { return self.settings.reject_type.denial(text) };
        let kind = match self.settings.reject_type {
            RejectType::Perm | RejectType::Temp => RejectType::Perm,
            RejectType::Disconnect | RejectType::TempDisconnect => RejectType::Disconnect,
        };
        kind.denial(text)
    }

    fn ask(&self, ip: IpAddr) -> Result<Finding, ConfigError> {
        let zones = self.zones.as_deref().unwrap_or_default();
        let questions: Vec<(&DnsName, bool)> =
            zones.iter().map(|zone| (&zone.name, zone.text.is_none() && zone.weight > 0)).collect();
        let timeout = Duration::from_secs_f64(self.settings.timeout);
        let said = dns_list::ask(&self.world, ip, &questions, timeout);
        let (mut finding, mut sum, mut text, mut count) = (Finding::default(), 0, None, 0);
        let mut unknown: Vec<(String, Vec<&str>)> = Vec::new();
        for (zone, said) in zones.iter().zip(said) {
            let named = format!("{}: {}", zone.place, zone.name);
            match said {
                Said::Unlisted => {}
                Said::Void(why) => finding.evidence.push(format!("{named}: no listing: {why}")),
                Said::Unknown(why) => match unknown.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(zone.name.as_str()),
                    None => unknown.push((why, vec![zone.name.as_str()])),
                },
                Said::Listed(codes, theirs) => {
                    count += 1;
                    sum += zone.weight;
                    finding.evidence.push(format!("{named} lists {ip}: {}{}", dns_list::shown(&codes), zone.counts()));
                    if zone.weight > 0 {
                        text.get_or_insert_with(|| zone.refusal(ip, theirs));
                    }
                }
            }
        }
        if let Some(text) = text {
            if sum >= self.settings.threshold {
                finding.denial = Some(self.settings.reject_type.denial(self.told(text)?).code(7, 1));
            }
            if count > 1 || self.settings.threshold > 1 {
                finding.evidence.push(format!("together {sum}, refused from {} on", self.settings.threshold));
            }
        }
        let silent = unknown.into_iter().map(|(why, names)| format!("not known to {}: {why}", names.join(", ")));
        finding.evidence.extend(silent);
        Ok(finding)
    }

    /// The refusal's text, after the lines of `dnsbl_rejectmsg`.
    fn told(&self, text: String) -> Result<String, ConfigError> {
        let before = self.world.config.list(MESSAGE)?;
        Ok(before.into_iter().map(|line| line.text).chain([text]).collect::<Vec<_>>().join("\n"))
    }
}

impl Zone {
    /// `zone`, `zone weight=N`, and perhaps a colon and a text.
    fn parse(line: &config::Entry) -> Result<Self, String> {
        let (head, text) = line.text.split_once(':').unwrap_or((&line.text, ""));
        let mut words = head.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let parsed = DnsName::new(name).map_err(|fault| format!("{name:?} is no zone: {fault}"))?;
        let mut weight = None;
        for word in words {
            let number = word.strip_prefix("weight=").ok_or_else(|| {
                format!("{word:?} is not weight=NUMBER; a text stands behind a colon, {name}:Blocked, see ...")
            })?;
            let number = number.parse().ok().filter(|number: &i32| (-WEIGHT_MAX..=WEIGHT_MAX).contains(number));
            let number = number
                .ok_or_else(|| format!("{word:?}: a weight is a whole number from -{WEIGHT_MAX} to {WEIGHT_MAX}"))?;
            if weight.replace(number).is_some() {
                return Err("two weights".to_owned());
            }
        }
        let text = Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self { name: parsed, weight: weight.unwrap_or(1), text, place: place(&line.file, line.line) })
    }

    /// What the client is told: the file's text, else the list's, else ours.
    fn refusal(&self, ip: IpAddr, theirs: Option<String>) -> String {
        match &self.text {
            Some(text) => text.replace("%IP%", &ip.to_string()),
            None => theirs.unwrap_or_else(|| format!("{ip} is listed by {}", self.name)),
        }
    }

    /// ", weight 3", where it is not the usual.
    fn counts(&self) -> String {
        if self.weight == 1 { String::new() } else { format!(" (weight {})", self.weight) }
    }
}

/// The zones, each once.
fn read(config: &ConfigDir) -> Result<Vec<Zone>, ConfigError> {
    let (mut zones, mut faults): (Vec<Zone>, Vec<ConfigError>) = (Vec::new(), Vec::new());
    for line in config.list(ZONES)? {
        match Zone::parse(&line) {
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::{Severity, Then, Verdict};
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::world::FakeDns;

    const IP: &str = "192.0.2.9";

    /// What the zones say of the client, and the files beside them: the refusal's text if it is refused, and the evidence.
    fn rule(line: &str, files: &[(&str, &str)], dns: FakeDns, ip: &str) -> (Option<Denial>, String) {
        let (mut world, _dir) = fixture::world(files);
        world.dns = Rc::new(dns);
        let mut session = fixture::session(Some(ip));
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        outcome(plugin.connect(&Connect { session: &mut session, line: &fixture::Silent }))
    }

    fn outcome(answer: Answer) -> (Option<Denial>, String) {
        let ruling = answer.unwrap();
        let evidence = ruling.evidence.join("; ");
        match ruling.verdict {
            Verdict::Deny(denial) => (Some(denial), evidence),
            _ => (None, evidence),
        }
    }

    #[test]
    fn whose_text_and_which_line() {
        let dns = || {
            FakeDns::default()
                .a("9.2.0.192.a.test", &["127.0.0.2"])
                .txt("9.2.0.192.a.test", &["Theirs, see http://a.test"])
                .a("9.2.0.192.b.test", &["127.0.0.4", "127.0.0.3"])
                .a("9.2.0.192.weak.test", &["127.0.0.9"])
                .a("9.2.0.192.good.test", &["127.0.3.1"])
                .a("9.2.0.192.parked.test", &["1.2.3.4"])
                .fails("9.2.0.192.broken.test")
                .late("9.2.0.192.slow.test")
                .late("9.2.0.192.slower.test")
        };
        let ours = "Ours: see http://x/?192.0.2.9";
        #[rustfmt::skip]
        let table: [(&str, &str, Option<&str>, &str); 13] = [
            ("dnsbl", "", None, ""),
            ("dnsbl", "c.test", None, ""),
            ("dnsbl", "c.test\nA.test.", Some("Theirs, see http://a.test"), "dnsbl_zones line 2: a.test lists 192.0.2.9: 127.0.0.2"),
            ("dnsbl", "# x\na.test : Ours: see http://x/?%IP%", Some(ours), "dnsbl_zones line 2: a.test lists 192.0.2.9: 127.0.0.2"),
            ("dnsbl", "b.test", Some("192.0.2.9 is listed by b.test"), "dnsbl_zones line 1: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4"),
            ("dnsbl", "parked.test", None, "dnsbl_zones line 1: parked.test: no listing: 1.2.3.4 is no answer of a list"),
            ("dnsbl", "slow.test\nbroken.test\nslower.test", None, "not known to slow.test, slower.test: no answer in time; not known to broken.test: failed: SERVFAIL"),
            ("dnsbl", "slow.test\nb.test", Some("192.0.2.9 is listed by b.test"),
                "dnsbl_zones line 2: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4; not known to slow.test: no answer in time"),
            ("dnsbl threshold 2", "b.test", None, "dnsbl_zones line 1: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4; together 1, refused from 2 on"),
            ("dnsbl threshold 2", "b.test weight=2:B", Some("B"),
                "dnsbl_zones line 1: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4 (weight 2); together 2, refused from 2 on"),
            ("dnsbl threshold 2", "weak.test\nb.test:B", Some("192.0.2.9 is listed by weak.test"),
                "dnsbl_zones line 1: weak.test lists 192.0.2.9: 127.0.0.9; dnsbl_zones line 2: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4; together 2, refused from 2 on"),
            ("dnsbl", "good.test weight=-1\nb.test", None,
                "dnsbl_zones line 1: good.test lists 192.0.2.9: 127.0.3.1 (weight -1); dnsbl_zones line 2: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4; together 0, refused from 1 on"),
            ("dnsbl", "b.test:B\nb.test weight=5", Some("B"), "dnsbl_zones line 1: b.test lists 192.0.2.9: 127.0.0.3, 127.0.0.4"),
        ];
        for (line, zones, text, evidence) in table {
            let (denial, found) = rule(line, &[(ZONES, zones)], dns(), IP);
            assert_eq!(denial.map(|denial| denial.text).as_deref(), text, "{line} {zones:?}");
            assert_eq!(found, evidence, "{line} {zones:?}");
        }
    }

    #[test]
    fn who_is_not_asked_about() {
        let zones = (ZONES, "a.test\n");
        let all = |ip: &str| FakeDns::default().a(&format!("{ip}.a.test"), &["127.0.0.2"]);
        assert!(rule("dnsbl", &[zones], all("9.2.0.192"), "::ffff:192.0.2.9").0.is_some());
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2";
        assert!(rule("dnsbl", &[zones], all(six), "2001:db8::1").0.is_some());
        let allow = (ALLOW, "198.51.100.1\n192.0.2.\n2001:db8::/32\n");
        assert_eq!(rule("dnsbl", &[zones, allow], all("9.2.0.192"), IP).1, "dnsbl_allow line 2: 192.0.2.");
        assert_eq!(rule("dnsbl", &[zones, allow], all(six), "2001:db8::1").1, "dnsbl_allow line 3: 2001:db8::/32");
        assert_eq!(rule("dnsbl", &[zones], all("2.0.0.127"), "127.0.0.2").1, "127.0.0.2 is a loopback address");
        let (world, _dir) = fixture::world(&[zones]);
        let mut plugin = fixture::build(&ENTRY, "dnsbl", &world).unwrap();
        let session = &mut fixture::session(None);
        let answer = plugin.connect(&Connect { session, line: &fixture::Silent });
        assert_eq!(outcome(answer).1, "no client address");
    }

    #[test]
    fn how_it_refuses() {
        let dns = || FakeDns::default().a("9.2.0.192.a.test", &["127.0.0.2"]);
        #[rustfmt::skip]
        let table = [
            ("dnsbl", Some((Severity::Permanent, Then::Continue))),
            ("dnsbl disconnect", Some((Severity::Permanent, Then::Disconnect))),
            ("dnsbl soft timeout 5", Some((Severity::Transient, Then::Continue))),
            ("dnsbl reject connect reject_type temp_disconnect", Some((Severity::Transient, Then::Disconnect))),
            ("dnsbl reject connect decide connect", Some((Severity::Permanent, Then::Continue))),
            ("dnsbl reject 0", None),
            ("dnsbl reject naughty", None),
        ];
        for (line, expected) in table {
            let (denial, evidence) = rule(line, &[(ZONES, "a.test:Go away")], dns(), IP);
            assert_eq!(denial.as_ref().map(|denial| (denial.severity, denial.then)), expected, "{line}");
            assert!(denial.is_none_or(|denial| denial.enhanced == Some((7, 1))), "{line}");
            let head = line.strip_prefix("dnsbl reject ").map_or("", |word| match word {
                "0" => "tolerated: Go away; ",
                "naughty" => "naughty: Go away; ",
                _ => "",
            });
            assert_eq!(evidence, format!("{head}dnsbl_zones line 1: a.test lists 192.0.2.9: 127.0.0.2"), "{line}");
        }
        let message = (MESSAGE, "Listed, so no mail.\nAsk your provider:\n");
        let (denial, _) = rule("dnsbl", &[(ZONES, "a.test:%IP% and %IP%"), message], dns(), IP);
        assert_eq!(denial.unwrap().text, "Listed, so no mail.\nAsk your provider:\n192.0.2.9 and 192.0.2.9");
        let (world, _dir) = fixture::world(&[]);
        for line in ["dnsbl threshold 0", "dnsbl timeout 0", "dnsbl reject rcpt", "dnsbl loudly", "dnsbl decide mail"] {
            assert!(fixture::build(&ENTRY, line, &world).is_err(), "{line}");
        }
    }

    #[test]
    fn the_launchers_word_needs_no_zone() {
        let table = [
            ("dnsbl", "", None),
            ("dnsbl", "Go away", Some(("Go away", Severity::Permanent))),
            ("dnsbl temp", "Go away", Some(("Go away", Severity::Transient))),
            ("dnsbl temp", "-Go away", Some(("Go away", Severity::Permanent))),
        ];
        let (mut world, _dir) = fixture::world(&[(ZONES, "a.test")]);
        let dns = Rc::new(FakeDns::default().a("9.2.0.192.a.test", &["127.0.0.2"]));
        world.dns = Rc::clone(&dns) as _;
        for (line, text, expected) in table {
            let mut session = fixture::session(Some(IP));
            session.connection.rblsmtpd = Some(text.into());
            let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
            let at = Connect { session: &mut session, line: &fixture::Silent };
            plugin.pre_connection(&at).unwrap();
            let (denial, _) = outcome(plugin.connect(&at));
            assert_eq!(denial.as_ref().map(|denial| (denial.text.as_str(), denial.severity)), expected, "{text}");
        }
        assert_eq!((dns.begun(), dns.asked()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn asked_before_and_decided_at_rcpt() {
        let (mut world, _dir) = fixture::world(&[(ZONES, "a.test:Go away\nb.test")]);
        let dns = Rc::new(FakeDns::default().a("9.2.0.192.a.test", &["127.0.0.2"]));
        world.dns = Rc::clone(&dns) as _;
        for (line, hooks, begun) in [
            ("dnsbl decide rcpt", &[Hook::PreConnection, Hook::Rcpt][..], 2),
            ("dnsbl decide rcpt prefetch 0", &[Hook::Connect, Hook::Rcpt], 4),
            ("dnsbl prefetch 0", &[Hook::Connect], 4),
            ("dnsbl", &[Hook::PreConnection, Hook::Connect], 6),
        ] {
            let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
            let wanted: Vec<Hook> = ENTRY.hooks.iter().copied().filter(|hook| plugin.wants(*hook)).collect();
            assert_eq!(wanted, hooks, "{line}");
            let mut session = fixture::session(Some(IP));
            let at = Connect { session: &mut session, line: &fixture::Silent };
            if plugin.wants(Hook::PreConnection) {
                plugin.pre_connection(&at).unwrap();
            }
            if plugin.wants(Hook::Connect) {
                let refused = outcome(plugin.connect(&at)).0.is_some();
                assert_eq!(refused, !plugin.wants(Hook::Rcpt), "{line}");
            }
            assert_eq!(dns.begun().len(), begun, "{line}");
            if !plugin.wants(Hook::Rcpt) {
                continue;
            }
            let transaction = Transaction::new(ReversePath::Null, Default::default());
            let mut recipient = Recipient::new(ForwardPath::parse("<x@here.example>").unwrap(), Default::default());
            let before = dns.asked().len();
            let mut karma = Vec::new();
            for _ in 0..2 {
                let at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
                let ruling = plugin.rcpt(&at).unwrap();
                karma.push(ruling.changes.len());
                assert!(matches!(ruling.verdict, Verdict::Deny(_)), "{line}");
            }
            assert_eq!(karma, [1, 0], "once in a session");
            assert_eq!(dns.asked().len() - before, 3, "two zones, and whether the one lists everything");
        }
        // The launcher says that it may relay: it will be spared.
        let mut session = fixture::session(Some(IP));
        session.connection.relay_client = Some(String::new());
        let mut plugin = fixture::build(&ENTRY, "dnsbl", &world).unwrap();
        plugin.pre_connection(&Connect { session: &mut session, line: &fixture::Silent }).unwrap();
        assert_eq!(dns.begun().len(), 6);
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let wrong = [
            "a..test",
            "a.test see here",
            "a.test weight=x",
            "a.test weight=1001",
            "a.test weight=1 weight=2",
            ":x",
            "a_b c",
        ];
        let (world, _dir) = fixture::world(&[(ZONES, &wrong.join("\n")), (ALLOW, "192.0.2\n")]);
        let mut plugin = fixture::build(&ENTRY, "dnsbl", &world).unwrap();
        let faults = plugin.check();
        assert_eq!(faults.len(), wrong.len() + 1, "{faults:#?}");
        assert!(faults[1].contains("dnsbl_zones line 2: \"see\" is not weight=NUMBER"), "{faults:#?}");
        let session = &mut fixture::session(Some(IP));
        let at = Connect { session, line: &fixture::Silent };
        assert!(plugin.pre_connection(&at).is_ok());
        assert!(plugin.connect(&at).unwrap_err().0.contains("dnsbl_zones line 1"));

        let many: String = (0..=ZONES_MAX).map(|number| format!("z{number}.test\n")).collect();
        let (world, _dir) = fixture::world(&[(ZONES, &many)]);
        assert_eq!(fixture::build(&ENTRY, "dnsbl", &world).unwrap().check().len(), 1);
    }

    #[test]
    fn without_zones_nothing_is_asked_and_nothing_is_said() {
        let (mut world, _dir) = fixture::world(&[]);
        let dns = Rc::new(FakeDns::default());
        world.dns = Rc::clone(&dns) as _;
        let mut plugin = fixture::build(&ENTRY, "dnsbl", &world).unwrap();
        let session = &mut fixture::session(Some(IP));
        let at = Connect { session, line: &fixture::Silent };
        assert!(!plugin.wants(Hook::PreConnection));
        plugin.pre_connection(&at).unwrap();
        let ruling = plugin.connect(&at).unwrap();
        assert!(matches!(ruling.verdict, Verdict::Decline) && ruling.evidence.is_empty() && ruling.changes.is_empty());
        assert_eq!((dns.begun().len(), dns.asked().len()), (0, 0));
        assert!(plugin.check().is_empty());
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("dnsbl").read::<Settings>().unwrap(), Settings::default());
    }
}
