//! Refuses clients whose HELO or EHLO name is listed, forged, no name at all, or not in the DNS.
//!
//! ```text
//! helo
//! helo policy rfc reject naughty
//! check_spamhelo
//! ```
//! - `policy` (lenient, rfc or strict; lenient): which of the tests below are made, in this order. The first that fails decides.
//! - `timeout` (seconds, 1 to 30; 5), old name `dns_timeout`: how long the DNS is waited for; at most `total` of
//!   `config/dns`. All questions are asked at once.
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//! - `reject_type` (perm, temp, disconnect, temp_disconnect; disconnect).
//! - `header` (0 or 1; 1): whether the message gets a field `X-HELO` with the name. Forged ones are taken out.
//!
//! | policy | test fails if | reply |
//! |---|---|---|
//! | lenient | the name is in `badhelo` | `I do not believe you are NAME.` |
//! | lenient | it is `localhost` (or `localhost.localdomain`), and the client is on another machine | `You are not localhost` |
//! | lenient | it is an address literal, and not that of the client | `Forged IPs not accepted here` |
//! | lenient | it is an address without brackets | `Plain IP is invalid HELO hostname (RFC 2821)` |
//! | rfc | it has no dot inside | `HELO name is not fully qualified. Read RFC 2821` |
//! | rfc | it holds what a host's name does not, `_` too | `HELO name contains invalid FQDN characters. Read RFC 1035` |
//! | rfc | there is no such name | `HELO hostname does not exist` |
//! | rfc | it has no address | `HELO hostname did not resolve` |
//! | rfc | the client's address has no name | `no rDNS for IP` (no such name), `no reverse DNS for IP` (no such record) |
//! | strict | it is an address literal | `RFC 2821 allows an address literal, but we do not` |
//! | strict | name and address do not match in the DNS | `That HELO hostname fails FCrDNS` |
//!
//! Literals are `[192.0.2.1]` and `[IPv6:2001:db8::1]`, also without the tag. They need no name in the DNS, but for `strict`.
//!
//! The match is loose, so that a pool of servers passes: an address of the name is in the client's /24 (IPv6: /96), or a name of the
//! client's address has the same last two labels as the name (`mx0.far.example` and `mx1.far.example`; so have, alas, all names below
//! `co.uk`). One of the two is enough. RFC 5321 §4.1.4 forbids to refuse mail because of this alone: use `strict` with `reject 0`, or
//! naughty.
//!
//! What the DNS could not say: SERVFAIL and no answer in time lead to the same. For the name's addresses: the test is passed. For the
//! client's address: `error getting reverse DNS for IP`, always temporary (4.4.3). For the match: passed.
//!
//! File `badhelo`: a name, or a pattern if there is one of `{ } [ ] ( ) ^ $ | * + ? \ !` in it; with a `!` before it, it means
//! the names that it does not match. An address literal is itself:
//!
//! ```text
//! aol.com                a name (not those below it)
//! \.dialup\.example$     a pattern
//! !\.                    a name without a dot
//! ```
//! Upper and lower case are the same, and so are both forms of an international domain. A pattern matches anywhere in the name unless
//! it is anchored. The first line that matches counts.
//!
//! Not asked: about clients that may relay or are whitelisted, so that hosts of ours behind NAT may say a private name or address;
//! list it after `relay`. Those that authenticate do so after EHLO: with such users, say `reject naughty`. A client without an
//! address (a pipe) is not compared with one.
//!
//! Old name: `check_spamhelo`, which looks at `badhelo` alone, unless it is given a policy, and says `Sorry, I don't believe that you
//! are NAME.`; it adds no field.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error: the HELO is deferred. Patterns
//! are regular expressions without Perl's look-around, back-references and `\p`; `postern check` names each line that cannot be used.
//!
//! Differs from qpsmtpd, where `reject_type` is always disconnect, every address without brackets counts as forged, `[192.0.2.1]` in
//! `badhelo` matches any name with one of these characters, SERVFAIL for the client's address is a permanent refusal, and mail of
//! relaying clients gets the field too.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::shared::{called, within};
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Content, Entry, Hello, Hook, Plugin, Reject, RejectType, Ruling, Severity};
use crate::mail::Edit;
use crate::smtp::address::Domain;
use crate::smtp::{command, escape};
use crate::world::dns::{Kind, Record};
use crate::world::{Answer as Said, DnsName, Question, World};

mod badhelo;
use badhelo::BadHelo;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    aliases: &["check_spamhelo"],
    spares_immune: true,
    ..Entry::plugin("helo", &[Hook::Helo, Hook::Ehlo, Hook::DataPost], crate::manual!("helo.rs"), build)
};

/// Seconds that may be configured.
const TIMEOUT_S_MAX: u64 = 30;
/// Names that only this machine has.
const OURS: [&str; 2] = ["localhost", "localhost.localdomain"];
/// Octets of a name in the field `X-HELO`.
const NAME_OCTETS_MAX: usize = 255;

/// Which tests; each has those of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    /// What `check_spamhelo` does. It has no word.
    #[serde(skip)]
    List,
    Lenient,
    Rfc,
    Strict,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    policy: Option<Policy>,
    /// Seconds.
    timeout: u64,
    reject: Reject,
    reject_type: RejectType,
    header: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { policy: None, timeout: 5, reject: Reject::Refuse, reject_type: RejectType::Disconnect, header: true }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let otherwise = if called(&given, "check_spamhelo") { Policy::List } else { Policy::Lenient };
    given.rename("dns_timeout", "timeout");
    let out_of_range = given.error(format!("1 to {TIMEOUT_S_MAX} seconds")).of_key("timeout");
    let settings: Settings = given.read()?;
    if !(1..=TIMEOUT_S_MAX).contains(&settings.timeout) {
        return Err(out_of_range);
    }
    let policy = settings.policy.unwrap_or(otherwise);
    Ok(Box::new(Helo { settings, policy, world: world.clone(), list: None }))
}

struct Helo {
    settings: Settings,
    policy: Policy,
    world: World,
    /// Read at the first HELO.
    list: Option<BadHelo>,
}

/// A test that failed.
struct Failed {
    text: String,
    evidence: String,
    /// The DNS could not say.
    unknown: bool,
}

impl Failed {
    fn new(text: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { text: text.into(), evidence: evidence.into(), unknown: false }
    }
}

impl Plugin for Helo {
    fn helo(&mut self, at: &Hello<'_>) -> Answer {
        let tested = self.test(at)?;
        Ok(tested.unwrap_or_else(|failed| self.refuse(failed)))
    }

    fn ehlo(&mut self, at: &Hello<'_>) -> Answer {
        self.helo(at)
    }

    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        let Some(hello) = &at.session.hello else { return Ok(Ruling::decline()) };
        let name = String::from("X-HELO");
        let forged = Edit::RemoveField { name: name.clone(), nth: None };
        let field = Edit::PrependField { name, value: printable(&hello.name) };
        Ok(Ruling::decline().change(Change::Edit(forged)).change(Change::Edit(field)))
    }

    fn wants(&self, hook: Hook) -> bool {
        hook != Hook::DataPost || self.settings.header && self.policy != Policy::List
    }

    fn check(&mut self) -> Vec<String> {
        match BadHelo::read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }
}

impl Helo {
    fn refuse(&self, failed: Failed) -> Ruling {
        let mut denial = self.settings.reject_type.denial(failed.text);
        if failed.unknown {
            denial.severity = Severity::Transient;
            return self.settings.reject.rule(denial.code(4, 3)).because(failed.evidence);
        }
        self.settings.reject.rule(denial).change(Change::AdjustKarma(-1)).because(failed.evidence)
    }

    /// Makes the policy's tests, in order.
    fn test(&mut self, at: &Hello<'_>) -> Result<Result<Ruling, Failed>, crate::hook::Trouble> {
        let list = match &mut self.list {
            Some(list) => list,
            none => none.insert(BadHelo::read(&self.world.config)?),
        };
        if let Some(line) = list.find(at.hello) {
            let text = match self.policy {
                Policy::List => format!("Sorry, I don't believe that you are {}.", at.hello),
                _ => format!("I do not believe you are {}.", at.hello),
            };
            return Ok(Err(Failed::new(text, line)));
        }
        Ok(self.test_name(at).and_then(|()| self.test_in_dns(at)))
    }

    /// What needs no more than the name and the client's address.
    fn test_name(&self, at: &Hello<'_>) -> Result<(), Failed> {
        let (client, connection) = (at.session.connection.remote_ip, &at.session.connection);
        if self.policy < Policy::Lenient {
            return Ok(());
        }
        let is_ours = client.is_none_or(|ip| ip.is_loopback() || connection.local_ip == Some(ip));
        let name = at.hello.text();
        let bare = name.strip_suffix('.').unwrap_or(name);
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(bare)) && !is_ours {
            return Err(Failed::new("You are not localhost", format!("{name}, from {}", shown(client))));
        }
        if let (Some(said), Some(client)) = (literal(name), client)
            && said.to_canonical() != client.to_canonical()
        {
            return Err(Failed::new("Forged IPs not accepted here", format!("{name}, from {client}")));
        }
        match name.parse::<IpAddr>() {
            Ok(_) => Err(Failed::new("Plain IP is invalid HELO hostname (RFC 2821)", name)),
            Err(_) => Ok(()),
        }
    }

    /// The tests of rfc and strict.
    fn test_in_dns(&self, at: &Hello<'_>) -> Result<Ruling, Failed> {
        if self.policy < Policy::Rfc {
            return Ok(Ruling::decline());
        }
        let name = match literal(at.hello.text()) {
            Some(_) => None,
            None => Some(host_name(at.hello)?),
        };
        let client = at.session.connection.remote_ip;
        let seen = self.look_up(name.as_ref(), client);
        if let Some(name) = &name {
            seen.test_forward(name)?;
        }
        if let Some(client) = client {
            seen.test_reverse(client)?;
        }
        if self.policy == Policy::Strict && name.is_none() {
            return Err(Failed::new("RFC 2821 allows an address literal, but we do not", at.hello.text()));
        }
        match (self.policy, &name, client) {
            (Policy::Strict, Some(name), Some(client)) => seen.test_match(name, client),
            _ => Ok(Ruling::decline()),
        }
    }

    /// Everything in one round.
    fn look_up(&self, name: Option<&DnsName>, client: Option<IpAddr>) -> Seen {
        let forward =
            name.iter().flat_map(|name| [Kind::A, Kind::Aaaa].map(|kind| Question::new((*name).clone(), kind)));
        let questions: Vec<Question> = forward.chain(client.map(Question::reverse)).collect();
        let limit = Duration::from_secs(self.settings.timeout);
        let mut forward = within(&self.world, limit, 1, || self.world.dns.ask(&questions));
        let reverse = client.and_then(|_| forward.pop());
        Seen { forward, reverse }
    }
}

/// What the DNS said.
struct Seen {
    /// The name's IPv4 and IPv6 addresses; empty for a literal.
    forward: Vec<Said>,
    /// The names of the client's address; `None` without one.
    reverse: Option<Said>,
}

impl Seen {
    fn test_forward(&self, name: &DnsName) -> Result<(), Failed> {
        let any = |test: fn(&Said) -> bool| self.forward.iter().any(test);
        let fails = |text: &str, answer: &Said| Err(Failed::new(text, format!("{name}: {answer}")));
        if any(|answer| !answer.records().is_empty()) {
            return Ok(());
        }
        if any(|answer| *answer == Said::NoSuchName) {
            return fails("HELO hostname does not exist", &Said::NoSuchName);
        }
        if any(Said::is_unknown) { Ok(()) } else { fails("HELO hostname did not resolve", &Said::NoData) }
    }

    fn test_reverse(&self, client: IpAddr) -> Result<(), Failed> {
        let Some(answer) = &self.reverse else { return Ok(()) };
        let evidence = format!("{client}: {answer}");
        match answer {
            Said::Found(_) => Ok(()),
            Said::NoSuchName => Err(Failed::new(format!("no rDNS for {client}"), evidence)),
            Said::NoData => Err(Failed::new(format!("no reverse DNS for {client}"), evidence)),
            Said::Failed { .. } | Said::Late => {
                let text = format!("error getting reverse DNS for {client}");
                Err(Failed { unknown: true, ..Failed::new(text, evidence) })
            }
        }
    }

    fn test_match(&self, name: &DnsName, client: IpAddr) -> Result<Ruling, Failed> {
        let forward = self.forward.iter().flat_map(Said::addresses).find(|ip| same_network(*ip, client));
        let reverse = self.reverse.iter().flat_map(Said::records).find_map(|record| match record {
            Record::Ptr(found) if same_domain(found, name) => Some(found),
            _ => None,
        });
        let matches =
            [forward.map(|ip| format!("{name} is {ip}")), reverse.map(|found| format!("{client} is {found}"))];
        let all = self.forward.iter().chain(&self.reverse);
        let evidence = all.clone().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let ruling = match matches.iter().flatten().count() {
            0 if all.clone().any(Said::is_unknown) => {
                Ruling::decline().because(format!("cannot be matched: {evidence}"))
            }
            0 => {
                let evidence = format!("{name} and {client}: {evidence}");
                return Err(Failed::new("That HELO hostname fails FCrDNS", evidence));
            }
            1 => Ruling::decline(),
            _ => Ruling::decline().change(Change::AdjustKarma(1)),
        };
        Ok(matches.into_iter().flatten().fold(ruling, Ruling::because))
    }
}

/// The address of a literal. RFC 5321 §4.1.3 wants the tag before an IPv6 address; some leave it out.
fn literal(name: &str) -> Option<IpAddr> {
    let inside = name.strip_prefix('[')?.strip_suffix(']')?;
    let tagged = inside.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if tagged { inside[5..].parse().ok().map(IpAddr::V6) } else { inside.parse().ok() }
}

/// The name as the DNS may be asked for it (RFC 1035 §2.3.1), one dot at its end or not.
fn host_name(hello: &command::Hello) -> Result<DnsName, Failed> {
    let text = hello.text().strip_suffix('.').unwrap_or(hello.text());
    if !text.contains('.') && hello.domain().is_none_or(|domain| !domain.ascii().contains('.')) {
        return Err(Failed::new("HELO name is not fully qualified. Read RFC 2821", hello.text()));
    }
    let domain = Domain::parse(text).ok().filter(|domain| !domain.ascii().contains('_'));
    let name = domain.and_then(|domain| DnsName::new(domain.ascii()).ok());
    name.ok_or_else(|| Failed::new("HELO name contains invalid FQDN characters. Read RFC 1035", hello.text()))
}

/// Whether two addresses are of one /24 (IPv6: /96).
fn same_network(one: IpAddr, other: IpAddr) -> bool {
    match (one.to_canonical(), other.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..6] == other.segments()[..6],
        _ => false,
    }
}

/// Whether two names have the same last two labels.
fn same_domain(one: &DnsName, other: &DnsName) -> bool {
    let last = |name: &DnsName| {
        let labels: Vec<&str> = name.labels().collect();
        labels.len().checked_sub(2).map(|from| labels[from..].join("."))
    };
    last(one).is_some_and(|domain| last(other) == Some(domain))
}

fn shown(client: Option<IpAddr>) -> String {
    client.map_or_else(String::new, |ip| ip.to_string())
}

/// The name as a header field may hold it.
fn printable(hello: &command::Hello) -> String {
    let text = if hello.text().is_ascii() { hello.text() } else { hello.domain().map_or("?", Domain::ascii) };
    escape::safe(text, NAME_OCTETS_MAX)
}

#[cfg(test)]
mod tests;
