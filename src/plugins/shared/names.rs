//! The client's names in the DNS: what its address points to, and which of these lead back to it.

use std::net::IpAddr;
use std::time::Duration;

use super::within;
use crate::hook::{ClientNames, Session};
use crate::world::dns::Record;
use crate::world::{Answer, Question, World};

/// Names of one address that are followed. Some hosts have hundreds.
const NAMES_MAX: usize = 10;

/// What the DNS says.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) names: ClientNames,
    /// Why it is not known, or not fully: the DNS could not say.
    pub(in super::super) unknown: Option<String>,
    /// Whether any of the names has an address at all.
    pub(in super::super) forward: bool,
}

/// The client's names: as a plugin before found them, else from the DNS.
pub(in super::super) fn of_client(world: &World, session: &Session, ip: IpAddr) -> Found {
    if let Some(names) = &session.names {
        return Found { names: names.clone(), ..Found::default() };
    }
    look_up(world, ip)
}

/// The same, from the DNS in any case: two rounds, of one and of at most ten questions.
pub(in super::super) fn look_up(world: &World, ip: IpAddr) -> Found {
    look_up_within(world, ip, Duration::MAX)
}

/// The same; each round takes at most so long, and the first at most half of the time that is left.
pub(in super::super) fn look_up_within(world: &World, ip: IpAddr, timeout: Duration) -> Found {
    let mut found = Found::default();
    let answer = within(world, timeout, 2, || world.dns.ask_one(&Question::reverse(ip)));
    if answer.is_unknown() {
        found.unknown = Some(format!("{}: {answer}", Question::reverse(ip)));
        return found;
    }
    let names: Vec<_> = answer
        .records()
        .iter()
        .filter_map(|record| match record {
            Record::Ptr(name) => Some(name.clone()),
            _ => None,
        })
        .take(NAMES_MAX)
        .collect();
    let questions: Vec<Question> = names.iter().map(|name| Question::forward(name.clone(), ip)).collect();
    let answers: Vec<Answer> = within(world, timeout, 1, || world.dns.ask(&questions));
    for (name, answer) in names.iter().zip(answers) {
        let name = name.as_str().to_ascii_lowercase();
        if answer.is_unknown() {
            found.unknown = Some(format!("{name}: {answer}"));
        }
        found.forward |= answer.addresses().next().is_some();
        if answer.addresses().any(|address| address == ip.to_canonical()) {
            found.names.confirmed.push(name.clone());
        }
        found.names.reverse.push(name);
    }
    found
}
