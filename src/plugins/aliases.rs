//! Says which recipients exist, and where their mail goes: an alias file for whole addresses, with options.
//!
//! ```text
//! aliases
//! ```
//! Files: `aliases`, or `aliases.cdb`, which `postern compile aliases` makes of it, for long lists. A line:
//!
//! ```text
//! local,local@,domain,domain: target (option, option=value), target
//! ```
//! Before the `:` stands a list of local-parts, an `@` and a list of domains; every pair of the two is an alias. An empty domain (before
//! the first comma) is the bare local-part, which only the postmaster may use (RFC 5321 §4.1.1.3). `*` for a local-part is every one that is not
//! listed otherwise. After it stand addresses, each perhaps with options. For instance:
//!
//! ```text
//! postmaster,abuse@,here.example,there.example: root@here.example
//! pat,pat.doe@here.example:    pat@localhost (denysoft_greylist, spamassassin_reject_threshold=10)
//! sales@here.example:          pat@here.example, kim@office.example
//! *@old.example:               *@here.example
//! ```
//! - A target that is an alias itself is expanded further, and a circle is a fault. An address that leads to itself ends there: so an
//!   address of its own gets options (`pat@here.example: pat@here.example (x=1)`).
//! - `*` as the local-part of a target is the one that was asked for. If its domain is one that the file names and has no such local-part, nor
//!   `*`, that target is left out; if no other is left, the recipient is refused like one that is not listed. Any other target counts as
//!   it is written; `postern check` notes those that are not listed in such a domain. A target without a domain (`pat`) is one of ours (`me`).
//! - `pat+list@here.example` is `pat@here.example` if it is not listed itself, and `+list` goes on to the targets.
//! - Each address gets one copy, however often it is reached.
//! - Options are attached to the recipient that was asked for, for other plugins to read; the manual of each says which. One without a value
//!   is 1. There is one set of them for all copies: in `sales@here.example: pat@here.example, kim@office.example` what stands at pat's
//!   own line holds for kim's copy too. If an option is set twice, the target further to the left wins with all that
//!   it leads to, and on the way of one target what stands nearer to the address that was asked for.
//! - Upper and lower case are the same, and so are both forms of an international domain.
//!
//! A recipient of a domain that the file names is refused if it is not in it: `550 5.1.1 no such user`. About other domains it has no
//! opinion. What is found is vouched for, and other plugins (badrcptto, greylisting) still rule. If `rcpt_ok` stands in the chain too, list it
//! after this plugin, and the domains in `rcpthosts`.
//!
//! A line that cannot be understood, a circle, and more than 1000 targets or 20 steps are this plugin's error: the recipient is
//! deferred, for a copy could get lost. `postern check` names each line.
//!
//! Local-parts with a comma, colon, blank or parenthesis cannot be listed.
//!
//! The map says of what text it was made (size and time of change). If the text is another now, whether newer or older, the text counts, and
//! `postern check` warns; without a text the map counts. Files that the text includes are not compared: compile anew after a change there.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Deserialize;

use self::table::{Alias, Table, split_detail};
use crate::config::{ConfigError, Settings};
use crate::hook::entry::Map;
use crate::hook::{Answer, Change, Denial, Entry, Hook, Plugin, Rcpt, Ruling, Trouble};
use crate::smtp::address::{ForwardPath, Mailbox};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    vouches: true,
    maps: &[Map { name: "aliases", records: Table::records }],
    ..Entry::plugin("aliases", &[Hook::Rcpt], crate::manual!("aliases.rs"), build).without_settings()
};

/// Addresses to which one recipient may lead.
const TARGETS_MAX: usize = 1000;
/// Aliases one after the other.
const STEPS_MAX: usize = 20;
/// Targets that are nobody's, of which `check` tells.
const NOWHERE_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(Aliases { world: world.clone(), table: None }))
}

struct Aliases {
    world: World,
    /// Read at the first RCPT.
    table: Option<Table>,
}

impl Plugin for Aliases {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(Table::read(&self.world.config)?),
        };
        let asked = &at.recipient.asked;
        // The bare postmaster.
        let (local_part, domain) =
            asked.mailbox().map_or(("postmaster", ""), |mailbox| (mailbox.local_part(), mailbox.domain().ascii()));
        let Some(alias) = table.find(local_part, domain)? else {
            if domain.is_empty() || !table.names_domain(domain)? {
                return Ok(Ruling::decline());
            }
            return Ok(unknown(at, format!("{}: {domain} has no {local_part}", table.source())));
        };
        let mut expansion = Expansion { table, me: &at.session.me, path: Vec::new(), found: Found::default() };
        expansion.follow(alias, (local_part, domain))?;
        let Found { targets, options, evidence, .. } = expansion.found;
        if targets.is_empty() {
            return Ok(unknown(at, format!("{}: no target has {local_part}", evidence.join(", "))));
        }
        let to: Vec<String> = targets.iter().take(5).map(ForwardPath::address).collect();
        let more =
            if targets.len() > to.len() { format!(" and {} more", targets.len() - to.len()) } else { String::new() };
        let mut ruling = Ruling::vouch().because(format!("{}: {}{more}", evidence.join(", "), to.join(", ")));
        ruling = ruling.change(Change::Retarget(targets));
        Ok(options.into_iter().fold(ruling, |ruling, (name, value)| ruling.change(Change::SetOption(name, value))))
    }

    fn notes(&self) -> Vec<String> {
        let config = &self.world.config;
        // What cannot be read is a fault.
        let Ok(table) = Table::read_text(config) else { return Vec::new() };
        let mapped = matches!(config.compiled(table::NAME), Ok(Some(_)));
        let advice = table.advice().filter(|_| !mapped);
        advice.into_iter().chain(nowhere(&table)).collect()
    }

    fn check(&mut self) -> Vec<String> {
        let told = |error: ConfigError| error.all().iter().map(ToString::to_string).collect();
        match Table::read(&self.world.config) {
            Ok(table) => circles(&table),
            Err(error) => told(error),
        }
    }
}

/// There is nobody of that name.
fn unknown(at: &Rcpt<'_>, evidence: String) -> Ruling {
    let denial = Denial::permanent(format!("{}: no such user", at.recipient.asked)).code(1, 1);
    Ruling::deny(denial).because(evidence)
}

/// Every alias that cannot be followed to its end, once.
fn circles(table: &Table) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    for ((local_part, domain), alias) in table.all() {
        let mut expansion = Expansion { table, me: "localhost", path: Vec::new(), found: Found::default() };
        if let Err(trouble) = expansion.follow(alias.clone(), (local_part, domain)) {
            faults.push(trouble.0);
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// Targets in a domain that the file names which are not listed there: mail for them goes to an address that would be refused.
fn nowhere(table: &Table) -> Vec<String> {
    // The shorter first: line 9 before line 10.
    let mut lines = BTreeSet::new();
    for (_, alias) in table.all() {
        for target in alias.targets.iter().filter(|target| target.local_part != "*") {
            let Some(domain) = &target.domain else { continue };
            // A text is at hand as a whole, and has no trouble.
            let named = table.names_domain(domain).unwrap_or(false);
            if named && matches!(table.find(&target.local_part, domain), Ok(None)) {
                let address = format!("{}@{domain}", target.local_part);
                lines.insert((
                    alias.place.len(),
                    format!("{}: the target {address} is not listed, though {domain} is", alias.place),
                ));
            }
        }
    }
    lines.into_iter().map(|(_, text)| text).take(NOWHERE_MAX).collect()
}

/// What following an alias has come to so far.
#[derive(Default)]
struct Found {
    targets: Vec<ForwardPath>,
    seen: HashSet<String>,
    options: BTreeMap<String, String>,
    /// "aliases line 3" for each line that was used.
    evidence: Vec<String>,
}

struct Expansion<'a> {
    table: &'a Table,
    me: &'a str,
    /// The addresses on the way here.
    path: Vec<String>,
    found: Found,
}

impl Expansion<'_> {
    /// Follows an alias that was found for this address to its ends.
    fn follow(&mut self, alias: Alias, (local_part, domain): (&str, &str)) -> Result<(), Trouble> {
        let here = format!("{}@{domain}", local_part.to_lowercase());
        if self.path.contains(&here) {
            return Err(Trouble::new(format!(
                "{}: goes in a circle: {} and {here} again",
                alias.place,
                self.path.join(", ")
            )));
        }
        if self.path.len() == STEPS_MAX {
            return Err(Trouble::new(format!("{}: more than {STEPS_MAX} aliases one after the other", alias.place)));
        }
        if !self.found.evidence.contains(&alias.place) {
            self.found.evidence.push(alias.place.clone());
        }
        self.path.push(here.clone());
        let (_, detail) = split_detail(local_part);
        for target in &alias.targets {
            for (name, value) in &target.options {
                self.found.options.entry(name.clone()).or_insert_with(|| value.clone());
            }
            // "+list" goes on, unless the alias was listed with it, or `*` takes it along anyway.
            let to = match target.local_part.as_str() {
                "*" => local_part.to_owned(),
                plain if alias.with_detail || detail.is_empty() => plain.to_owned(),
                plain => format!("{plain}{detail}"),
            };
            let at = target.domain.as_deref().unwrap_or(self.me);
            if format!("{}@{at}", to.to_lowercase()) == here {
                self.arrive(&to, at, &alias.place)?;
                continue;
            }
            match self.table.find(&to, at)? {
                Some(next) => self.follow(next, (&to, at))?,
                // Whoever was asked for is nobody there.
                None if target.local_part == "*" && self.table.names_domain(at)? => {}
                None => self.arrive(&to, at, &alias.place)?,
            }
        }
        self.path.pop();
        Ok(())
    }

    fn arrive(&mut self, local_part: &str, domain: &str, place: &str) -> Result<(), Trouble> {
        let mailbox = Mailbox::from_parts(local_part, domain)
            .map_err(|error| Trouble::new(format!("{place}: {local_part:?} at {domain:?}: {error}")))?;
        if !self.found.seen.insert(mailbox.address()) {
            return Ok(());
        }
        if self.found.targets.len() == TARGETS_MAX {
            return Err(Trouble::new(format!("{place}: more than {TARGETS_MAX} targets")));
        }
        self.found.targets.push(ForwardPath::Mailbox(mailbox));
        Ok(())
    }
}

#[cfg(test)]
#[path = "aliases/tests.rs"]
mod tests;
