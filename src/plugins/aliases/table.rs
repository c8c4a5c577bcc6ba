//! The alias file as a table: from its text, or from the map made of it.
//!
//! The map has a record for each alias, `local@domain` -> `place: targets as written`, and an empty one for each domain,
//! `@domain`.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use super::super::shared::place;
use crate::config::{Cdb, ConfigDir, ConfigError};
use crate::hook::Trouble;
use crate::hook::entry::Records;
use crate::smtp::address::{Domain, Mailbox};

/// Lines of a text from which on `check` advises a map. Reading costs about 1 us a line.
const ADVISED: usize = 10_000;

pub(super) const NAME: &str = "aliases";

/// One alias, as found for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    /// "aliases line 3".
    pub(super) place: String,
    pub(super) targets: Vec<Target>,
    /// The `+detail` of the address was part of what is listed.
    pub(super) with_detail: bool,
}

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `*`: the one that was asked for.
    pub(super) local_part: String,
    /// In A-labels; `None`: ours.
    pub(super) domain: Option<String>,
    pub(super) options: Vec<(String, String)>,
}

/// Local-part and domain, as they are looked up.
type Key = (String, String);

/// All aliases.
pub(super) enum Table {
    Text { aliases: HashMap<Key, Alias>, domains: HashSet<String>, lines: usize },
    Map(Cdb),
}

impl Table {
    /// Reads the map if there is one that was made of the text as it is, else the text.
    ///
    /// # Errors
    /// Every line that cannot be understood; there is neither.
    pub(super) fn read(config: &ConfigDir) -> Result<Self, ConfigError> {
        if let Some(map) = config.compiled(NAME)? {
            return Ok(Self::Map(map));
        }
        Self::read_text(config)
    }

    /// Reads the text.
    pub(super) fn read_text(config: &ConfigDir) -> Result<Self, ConfigError> {
        let (mut aliases, mut domains, mut lines) = (HashMap::new(), HashSet::new(), 0);
        let mut faults = Vec::new();
        let found = config.each(NAME, &mut |text, file, line| {
            lines += 1;
            if let Err(fault) = add(text, file, line, &mut aliases, &mut domains) {
                faults.push(ConfigError::at(file, line, fault));
            }
            ControlFlow::Continue(())
        })?;
        if !found {
            let fault = "there is no such file, and it says which recipients exist";
            return Err(ConfigError::at(&config.path().join(NAME), 0, fault));
        }
        ConfigError::from_many(faults).map_or(Ok(Self::Text { aliases, domains, lines }), Err)
    }

    /// What the evidence calls it.
    pub(super) fn source(&self) -> &'static str {
        match self {
            Self::Text { .. } => "aliases",
            Self::Map(_) => "aliases.cdb",
        }
    }

    /// The alias of an address: by its whole local-part, without its `+detail`, or by `*`.
    pub(super) fn find(&self, local_part: &str, domain: &str) -> Result<Option<Alias>, Trouble> {
        let local_part = local_part.to_lowercase();
        let (base, detail) = split_detail(&local_part);
        let whole = self.get(&local_part, domain)?.map(|alias| Alias { with_detail: true, ..alias });
        if whole.is_some() {
            return Ok(whole);
        }
        if !detail.is_empty()
            && let Some(alias) = self.get(base, domain)?
        {
            return Ok(Some(alias));
        }
        self.get("*", domain)
    }

    fn get(&self, local_part: &str, domain: &str) -> Result<Option<Alias>, Trouble> {
        match self {
            Self::Text { aliases, .. } => Ok(aliases.get(&(local_part.to_owned(), domain.to_owned())).cloned()),
            Self::Map(map) => {
                let Some(value) = map.get(format!("{local_part}@{domain}").as_bytes())? else { return Ok(None) };
                let value = String::from_utf8(value).ok();
                let parsed = value.as_deref().and_then(|value| value.split_once(": ")).and_then(|(place, text)| {
                    let targets = targets(text).ok()?;
                    Some(Alias { place: place.to_owned(), targets, with_detail: false })
                });
                let damaged = || Trouble::new(format!("{}: the record of {local_part}@{domain} is damaged", NAME));
                parsed.map(Some).ok_or_else(damaged)
            }
        }
    }

    /// Whether an alias of this domain is listed.
    pub(super) fn names_domain(&self, domain: &str) -> Result<bool, Trouble> {
        match self {
            Self::Text { domains, .. } => Ok(domains.contains(domain)),
            Self::Map(map) => Ok(map.get(format!("@{domain}").as_bytes())?.is_some()),
        }
    }

    /// Every alias of a text; of a map, none.
    pub(super) fn all(&self) -> impl Iterator<Item = ((&str, &str), &Alias)> {
        let aliases = match self {
            Self::Text { aliases, .. } => Some(aliases),
            Self::Map(_) => None,
        };
        aliases.into_iter().flatten().map(|((local_part, domain), alias)| ((&**local_part, &**domain), alias))
    }

    /// For `check`: whether a map would be better.
    pub(super) fn advice(&self) -> Option<String> {
        match self {
            Self::Text { lines, .. } if *lines >= ADVISED => Some(format!(
                "aliases has {lines} lines, which every connection reads anew: let `postern compile aliases` make a map of it"
            )),
            Self::Text { .. } | Self::Map(_) => None,
        }
    }

    /// The records of the map that stands for a text.
    pub(super) fn records(config: &ConfigDir) -> Result<Records, ConfigError> {
        let table = Self::read_text(config)?;
        let mut records: Records = table
            .all()
            .map(|((local_part, domain), alias)| {
                (format!("{local_part}@{domain}"), format!("{}: {}", alias.place, written(alias)))
            })
            .collect();
        if let Self::Text { domains, .. } = &table {
            records.extend(domains.iter().map(|domain| (format!("@{domain}"), String::new())));
        }
        records.sort();
        Ok(records)
    }
}

/// Everything up to the first `+` that is not at the start, and the rest.
pub(super) fn split_detail(local_part: &str) -> (&str, &str) {
    match local_part.char_indices().skip(1).find(|(_, letter)| *letter == '+') {
        Some((plus, _)) => local_part.split_at(plus),
        None => (local_part, ""),
    }
}

fn add(
    text: &str,
    file: &Rc<Path>,
    line: usize,
    aliases: &mut HashMap<Key, Alias>,
    domains: &mut HashSet<String>,
) -> Result<(), String> {
    let (left, right) = text.split_once(": ").or_else(|| text.split_once(":\t")).unwrap_or((text, ""));
    let (local_parts, names) =
        left.trim_ascii().split_once('@').ok_or("write local,local@domain,domain: target, target")?;
    if right.is_empty() {
        return Err("no target: write local@domain: target, with a blank after the colon".to_owned());
    }
    let alias = Alias { place: place(file, line), targets: targets(right)?, with_detail: false };
    for name in names.split(',').map(str::trim_ascii) {
        let domain = if name.is_empty() { String::new() } else { domain(name)? };
        for local_part in local_parts.split(',').map(str::trim_ascii) {
            plain(local_part)?;
            let key = (local_part.to_lowercase(), domain.clone());
            if let Some(earlier) = aliases.insert(key, alias.clone()) {
                return Err(format!("{local_part}@{name} stands on {} already", earlier.place));
            }
        }
        if !domain.is_empty() {
            domains.insert(domain);
        }
    }
    Ok(())
}

fn domain(name: &str) -> Result<String, String> {
    Domain::parse(name).map(|domain| domain.ascii().to_owned()).map_err(|error| format!("{name:?}: {error}"))
}

/// A local-part that can be listed.
fn plain(local_part: &str) -> Result<(), String> {
    let listed = |letter: char| !letter.is_whitespace() && !letter.is_control() && !r#",:()"\@"#.contains(letter);
    let fine = !local_part.is_empty() && local_part.chars().all(listed);
    if fine { Ok(()) } else { Err(format!("{local_part:?} is no local-part that can be listed")) }
}

/// `address (option, option=value), address`.
fn targets(text: &str) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (address, after) = rest.split_at(end);
        let (options, after) = match after.strip_prefix('(') {
            Some(inside) => {
                let (options, after) = inside.split_once(')').ok_or_else(|| format!("no ) after ({inside}"))?;
                (options, after.trim_ascii_start())
            }
            None => ("", after),
        };
        targets.push(target(address.trim_ascii(), options)?);
        rest = match after.strip_prefix(',') {
            Some(after) if after.trim_ascii().is_empty() => return Err("nothing after the last comma".to_owned()),
            Some(after) => after.trim_ascii(),
            None if after.is_empty() => "",
            None => return Err(format!("a comma is missing before {after:?}")),
        };
    }
    if targets.is_empty() { Err("no target".to_owned()) } else { Ok(targets) }
}

fn target(address: &str, options: &str) -> Result<Target, String> {
    let (local_part, name) = match address.rsplit_once('@') {
        Some((local_part, name)) => (local_part, Some(domain(name)?)),
        None if address.starts_with(['|', '/', ':']) => {
            return Err(format!("{address:?} is no address: nothing is run, written or included here"));
        }
        None => (address, None),
    };
    plain(local_part)?;
    // Whether it can be sent at all is better known now than at the first mail.
    let tried = format!("{local_part}@{}", name.as_deref().unwrap_or("localhost"));
    Mailbox::parse(&tried).map_err(|error| format!("{address:?}: {error}"))?;
    let mut parsed = Vec::new();
    for option in options.split(',').map(str::trim_ascii).filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, "1"));
        let (name, value) = (name.trim_ascii(), value.trim_ascii());
        let letters = |octet: u8| octet.is_ascii_alphanumeric() || b"_-/.:".contains(&octet);
        if name.is_empty() || !name.bytes().all(letters) || value.chars().any(char::is_control) {
            return Err(format!("{option:?} is no option: write name or name=value"));
        }
        parsed.push((name.to_owned(), value.to_owned()));
    }
    Ok(Target { local_part: local_part.to_owned(), domain: name, options: parsed })
}

/// The targets as a line writes them.
fn written(alias: &Alias) -> String {
    let one = |target: &Target| {
        let address = match &target.domain {
            Some(domain) => format!("{}@{domain}", target.local_part),
            None => target.local_part.clone(),
        };
        let options: Vec<String> = target.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if options.is_empty() { address } else { format!("{address} ({})", options.join(", ")) }
    };
    alias.targets.iter().map(one).collect::<Vec<String>>().join(", ")
}
