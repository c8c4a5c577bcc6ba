//! Says which recipients are ours: domains of `rcpthosts`, `morercpthosts.cdb` and `me`. List it last of the rcpt plugins.
//!
//! ```text
//! rcpt_ok
//! ```
//! - A client that may relay (relay, AUTH) may send anywhere. A whitelisted one may not: whitelisting never vouches.
//! - `rcpthosts` holds a domain a line, or `.suffix` for every domain below it (not the suffix itself). Upper and lower case
//!   and both forms of an international domain are the same.
//! - `morercpthosts.cdb` holds whole domains, and `.suffix` keys as qmail's.
//! - `me` is always ours; a recipient without a domain (`<postmaster>`) is `me`'s.
//! - Anything else: `550 5.7.1 relaying denied`.
//!
//! No arguments. Lists are read at the first RCPT; one that cannot be read is this plugin's error, and the client is deferred.

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Denial, Entry, Hook, Plugin, Rcpt, Ruling, Trouble};
use crate::smtp::address::{Domain, ForwardPath};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry { vouches: true, ..Entry::plugin("rcpt_ok", &[Hook::Rcpt], include_str!("rcpt_ok.rs"), build) };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(RcptOk { world: world.clone(), hosts: None }))
}

struct RcptOk {
    world: World,
    /// rcpthosts, read at the first RCPT.
    hosts: Option<Vec<Host>>,
}

/// A line of rcpthosts.
struct Host {
    /// A domain, or `.suffix`; lower case, A-labels.
    name: String,
    /// "rcpthosts line 3".
    origin: String,
}

impl Plugin for RcptOk {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        if let Some(reason) = &at.session.relaying {
            return Ok(Ruling::accept().because(format!("may relay: {reason}")));
        }
        let domain = match &at.recipient.asked {
            ForwardPath::Postmaster(_) => return Ok(Ruling::accept().because("postmaster of ours")),
            ForwardPath::Mailbox(mailbox) => mailbox.domain().ascii().to_owned(),
        };
        if ascii(&at.session.me) == domain {
            return Ok(Ruling::accept().because(format!("me: {domain}")));
        }
        match self.listed(&domain)? {
            Some(evidence) => Ok(Ruling::accept().because(evidence)),
            None => {
                let denial = Denial::permanent(format!("{}: relaying denied", at.recipient.asked)).code(7, 1);
                Ok(Ruling::deny(denial).because(format!("{domain} is not in rcpthosts or morercpthosts")))
            }
        }
    }
}

impl RcptOk {
    /// Where a domain is listed.
    fn listed(&mut self, domain: &str) -> Result<Option<String>, Trouble> {
        if self.hosts.is_none() {
            let entries = self.world.config.list("rcpthosts")?;
            let host = |entry: crate::config::Entry| Host {
                name: ascii(&entry.text),
                origin: format!("rcpthosts line {}", entry.line),
            };
            self.hosts = Some(entries.into_iter().map(host).collect());
        }
        let covers = |host: &&Host| host.name == domain || (host.name.starts_with('.') && domain.ends_with(&host.name));
        if let Some(host) = self.hosts.iter().flatten().find(covers) {
            return Ok(Some(format!("{}: {}", host.origin, host.name)));
        }
        let Some(map) = self.world.config.map("morercpthosts")? else { return Ok(None) };
        let suffixes = domain.match_indices('.').map(|(dot, _)| &domain[dot..]);
        for key in std::iter::once(domain).chain(suffixes) {
            if map.get(key.as_bytes())?.is_some() {
                return Ok(Some(format!("morercpthosts.cdb: {key}")));
            }
        }
        Ok(None)
    }
}

/// A domain, or `.suffix`, in the form for comparing.
fn ascii(text: &str) -> String {
    let (dot, name) = text.strip_prefix('.').map_or(("", text), |name| (".", name));
    Domain::parse(name).map_or_else(|_| text.to_ascii_lowercase(), |name| format!("{dot}{}", name.ascii()))
}
