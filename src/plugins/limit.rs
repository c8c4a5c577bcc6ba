//! Limits how much one client, one network or one sender's domain may do in a time: connections, messages, recipients, errors.
//!
//! ```text
//! limit connections 30/60 recipients 200/1h errors 20/1h
//! limit network_messages 1000/1h domain_messages 500/1h relay_recipients 2000/1d
//! ```
//! A limit is `COUNT/TIME`, TIME in seconds or with `s`, `m`, `h` or `d` behind, at most 366 days; `none` is no limit, and the default of
//! each. The time begins with the first event and is fixed: when it is over, counting begins anew. What comes over a limit counts too, and prolongs nothing.
//! - `connections`, `messages`, `recipients`, `errors`: of one address.
//! - `network_connections`, `network_messages`, `network_recipients`, `network_errors`: of its network, /24 (IPv6: /64).
//! - `domain_messages`, `domain_recipients`: of one sender's domain, whoever brings them. The null sender has none.
//! - `relay_connections`, `relay_messages`, `relay_recipients`, `relay_errors`: of one address that may relay. None of the others holds for it; list
//!   this plugin after `relay`.
//! - `scope` (cluster or host; cluster): whether hosts that share a store count together, or each by itself (by its host name).
//! - `reject` (0, 1 or naughty; 1): 0 only notes it in the record, naughty remembers the client for the `naughty` plugin.
//!
//! A message counts at MAIL, a recipient at RCPT, each also if it is refused later: list this plugin after those whose refusals shall not
//! count. An error is a permanent refusal by another plugin; limits of errors are looked at before the greeting and at MAIL.
//!
//! Replies: before the greeting `421 4.7.0 Too many connections from you, try again later`, and the connection is closed; at MAIL and RCPT `450 4.7.0
//! Too many messages ...`, `... recipients ...`, `... errors ...`.
//!
//! Not asked: about whitelisted clients that may not relay. Without the client's address, only the limits of domains hold.
//!
//! What is counted is in the store's space `limit`, each count with the end of its time. Errors: if the store is not there, nothing is
//! limited; with `on_error defer` on the line, all is deferred.
//!
//! qpsmtpd has no such plugin; of its `hosts_allow`, the limit of connections at one time is the launcher's business.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::shared::network;
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{
    Answer, Connect, Denial, Entry, Hook, Mail, OnError, Plugin, Rcpt, Refusal, Reject, Ruling, Session, Severity,
    Trouble,
};
use crate::smtp::address::ReversePath;
use crate::world::{Key, StoreError, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    stores: true,
    on_error: OnError::Decline,
    ..Entry::plugin("limit", &[Hook::Connect, Hook::Mail, Hook::Rcpt, Hook::Deny], crate::manual!("limit.rs"), build)
};

const WINDOW_MAX_S: u64 = 366 * 86_400;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    connections: Limit,
    messages: Limit,
    recipients: Limit,
    errors: Limit,
    network_connections: Limit,
    network_messages: Limit,
    network_recipients: Limit,
    network_errors: Limit,
    domain_messages: Limit,
    domain_recipients: Limit,
    relay_connections: Limit,
    relay_messages: Limit,
    relay_recipients: Limit,
    relay_errors: Limit,
    scope: Scope,
    reject: Reject,
}

/// Who counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    #[default]
    Cluster,
    Host,
}

/// `COUNT/TIME`, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Limit(Option<Rate>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    count: i64,
    window_s: u64,
}

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let wrong = || format!("{text:?} is not COUNT/TIME, as in 30/60 or 200/1h, nor none");
        let (count, time) = text.split_once('/').ok_or_else(wrong)?;
        let (number, unit) = time.split_at(time.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
        let unit_s = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let count = count.parse::<u32>().map_err(|_| wrong())?.into();
        let window_s = number.parse::<u32>().map_err(|_| wrong())?;
        let window_s = u64::from(window_s) * unit_s;
        if !(1..=WINDOW_MAX_S).contains(&window_s) {
            return Err(format!("{text:?}: the time is not between a second and 366 days"));
        }
        Ok(Self(Some(Rate { count, window_s })))
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Connections,
    Messages,
    Recipients,
    Errors,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::Recipients => "recipients",
            Self::Errors => "errors",
        })
    }
}

/// One limit that holds for an event.
struct Held {
    rate: Rate,
    /// The address, network or domain.
    who: String,
    key: Key,
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Limits { settings: given.read()?, world: world.clone(), trouble: None }))
}

struct Limits {
    settings: Settings,
    world: World,
    /// What went wrong where nobody could be told.
    trouble: Option<String>,
}

impl Plugin for Limits {
    fn wants(&self, hook: Hook) -> bool {
        let set = &self.settings;
        let errors = [set.errors, set.network_errors, set.relay_errors];
        let any = |limits: &[Limit]| limits.iter().any(|limit| limit.0.is_some());
        match hook {
            Hook::Connect => any(&[set.connections, set.network_connections, set.relay_connections]) || any(&errors),
            Hook::Mail => {
                any(&[set.messages, set.network_messages, set.domain_messages, set.relay_messages]) || any(&errors)
            }
            Hook::Rcpt => any(&[set.recipients, set.network_recipients, set.domain_recipients, set.relay_recipients]),
            _ => any(&errors),
        }
    }

    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let (bound, evidence) = match (self.over(at.session)?, self.count(What::Connections, at.session, None)?) {
            (Some(over), _) => (What::Errors, over),
            (None, Ok(evidence)) => return Ok(told(evidence)),
            (None, Err(over)) => (What::Connections, over),
        };
        Ok(self.refuse(denial(bound).disconnect(), evidence))
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        if let Some(trouble) = self.trouble.take() {
            return Err(Trouble(trouble));
        }
        if let Some(over) = self.over(at.session)? {
            return Ok(self.refuse(denial(What::Errors), over));
        }
        match self.count(What::Messages, at.session, Some(at.reverse_path))? {
            Ok(evidence) => Ok(told(evidence)),
            Err(over) => Ok(self.refuse(denial(What::Messages), over)),
        }
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        match self.count(What::Recipients, at.session, Some(&at.transaction.reverse_path))? {
            Ok(evidence) => Ok(told(evidence)),
            Err(over) => Ok(self.refuse(denial(What::Recipients), over)),
        }
    }

    fn deny(&mut self, refusal: &Refusal<'_>) {
        let own = refusal.plugin.split(':').next() == Some(ENTRY.name);
        if own || refusal.denial.severity == Severity::Transient {
            return;
        }
        if let Err(Trouble(why)) = self.count(What::Errors, refusal.session, None) {
            self.trouble = Some(why);
        }
    }
}

impl Limits {
    /// The limits that hold for this client.
    fn held(&self, what: What, session: &Session, from: Option<&ReversePath>) -> Vec<Held> {
        let set = &self.settings;
        let (one, network, domain, relay) = match what {
            What::Connections => (set.connections, set.network_connections, Limit(None), set.relay_connections),
            What::Messages => (set.messages, set.network_messages, set.domain_messages, set.relay_messages),
            What::Recipients => (set.recipients, set.network_recipients, set.domain_recipients, set.relay_recipients),
            What::Errors => (set.errors, set.network_errors, Limit(None), set.relay_errors),
        };
        let ip = session.connection.remote_ip;
        let address = ip.map(|ip| ip.to_string());
        if session.relaying.is_some() {
            return self.named(what, [(relay, address)]);
        }
        if session.immune().is_some() {
            return Vec::new();
        }
        let mailbox = from.and_then(ReversePath::mailbox);
        let domain = (domain, mailbox.map(|mailbox| mailbox.domain().ascii().to_owned()));
        self.named(what, [(one, address), (network, ip.map(network::around)), domain])
    }

    fn named<const N: usize>(&self, what: What, limits: [(Limit, Option<String>); N]) -> Vec<Held> {
        let named = limits.into_iter().filter_map(|(limit, who)| limit.0.zip(who));
        named.map(|(rate, who)| Held { rate, key: self.key(what, &who), who }).collect()
    }

    fn key(&self, what: What, who: &str) -> Key {
        match self.settings.scope {
            Scope::Cluster => Key::new(ENTRY.name, format!("{what} {who}")),
            Scope::Host => Key::new(ENTRY.name, format!("{what} {who} {}", self.world.host.name())),
        }
    }

    /// Counts one more. `Err`: over a limit, and which.
    fn count(
        &self,
        what: What,
        session: &Session,
        from: Option<&ReversePath>,
    ) -> Result<Result<Vec<String>, String>, Trouble> {
        let mut evidence = Vec::new();
        let mut over = None;
        for held in self.held(what, session, from) {
            let count = self.world.store.increment(&held.key, 1, self.end(held.rate)).map_err(unusable)?;
            let told = held.tell(what, count);
            if count > held.rate.count {
                over.get_or_insert(told);
            } else {
                evidence.push(told);
            }
        }
        Ok(over.map_or(Ok(evidence), Err))
    }

    /// Which limit of errors was passed, if one was.
    fn over(&self, session: &Session) -> Result<Option<String>, Trouble> {
        for held in self.held(What::Errors, session, None) {
            let value = self.world.store.get(&held.key).map_err(unusable)?;
            let count = value.and_then(|value| value.text()?.parse::<i64>().ok()).unwrap_or(0);
            if count > held.rate.count {
                return Ok(Some(held.tell(What::Errors, count)));
            }
        }
        Ok(None)
    }

    fn end(&self, rate: Rate) -> SystemTime {
        self.world.clock.now() + Duration::from_secs(rate.window_s)
    }

    fn refuse(&self, denial: Denial, evidence: String) -> Ruling {
        let mut ruling = self.settings.reject.rule(denial);
        ruling.evidence.push(evidence);
        ruling
    }
}

impl Held {
    /// "192.0.2.1: 31 connections, 30 in 60 s".
    fn tell(&self, what: What, count: i64) -> String {
        format!("{}: {count} {what}, limit {} in {} s", self.who, self.rate.count, self.rate.window_s)
    }
}

fn denial(what: What) -> Denial {
    Denial::transient(format!("Too many {what} from you, try again later")).code(7, 0)
}

fn told(evidence: Vec<String>) -> Ruling {
    Ruling { evidence, ..Ruling::decline() }
}

fn unusable(error: StoreError) -> Trouble {
    Trouble(error.to_string())
}

#[cfg(test)]
#[path = "limit/tests.rs"]
mod tests;
