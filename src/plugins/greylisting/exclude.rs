//! Clients that are never greylisted: the files that `greylist_exclude_files` names, in postgrey's form.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use regex_lite::{Regex, RegexBuilder};

use super::super::shared::network::Network;
use super::super::shared::{names, place};
use super::PATTERN_OCTETS_MAX;
use crate::config::{self, ConfigDir, ConfigError};
use crate::hook::Session;
use crate::smtp::address::Domain;
use crate::world::World;

/// The list of files.
const LIST: &str = "greylist_exclude_files";
/// Octets of one file: a quarter of a million lines.
const FILE_OCTETS_MAX: u64 = 8 << 20;

/// All files as one. Each line with its place, for the evidence.
#[derive(Default)]
pub(super) struct Excluded {
    networks: Vec<(Network, String)>,
    /// In small letters and A-labels; stands for all names below it too.
    names: HashMap<String, String>,
    patterns: Vec<(Regex, String)>,
}

impl Excluded {
    /// Reads the files. The error holds every fault.
    pub(super) fn read(config: &ConfigDir) -> Result<Self, ConfigError> {
        let mut excluded = Self::default();
        let mut faults = Vec::new();
        for file in config.list(LIST)? {
            excluded.read_file(config, &file, &mut faults).unwrap_or_else(|error| faults.push(error));
        }
        ConfigError::from_many(faults).map_or(Ok(excluded), Err)
    }

    fn read_file(
        &mut self,
        config: &ConfigDir,
        listed: &config::Entry,
        faults: &mut Vec<ConfigError>,
    ) -> Result<(), ConfigError> {
        let path = config.resolve(&listed.text).map_err(|error| error.or_at(&listed.origin()))?;
        let unreadable = |why: String| listed.error(format!("{}: {why}", path.display()));
        let mut octets = Vec::new();
        let file = std::fs::File::open(&path).map_err(|error| unreadable(error.to_string()))?;
        file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(|error| unreadable(error.to_string()))?;
        if octets.len() as u64 > FILE_OCTETS_MAX {
            return Err(unreadable(format!("over {FILE_OCTETS_MAX} octets")));
        }
        // Comments may be in any coding.
        for (index, line) in String::from_utf8_lossy(&octets).lines().enumerate() {
            let text = line.split_once('#').map_or(line, |(text, _)| text).trim_ascii();
            if !text.is_empty()
                && let Err(fault) = self.add(text, &path, index + 1)
            {
                faults.push(ConfigError::at(&path, index + 1, fault));
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, file: &Path, line: usize) -> Result<(), String> {
        let place = format!("{}: {text}", place(file, line));
        if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            // Linear in the name's length, whatever the pattern.
            let built = RegexBuilder::new(pattern).case_insensitive(true).size_limit(PATTERN_OCTETS_MAX).build();
            let built = built.map_err(|error| format!("{text:?} is not a pattern that can be used here: {error}"))?;
            self.patterns.push((built, place));
            return Ok(());
        }
        // The beginning of an address is written without its last dot here.
        let digits = text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        let network = if digits && text.split('.').count() < 4 && !text.ends_with('.') {
            Network::parse(&format!("{text}."))
        } else {
            Network::parse(text)
        };
        match network {
            Ok(network) => self.networks.push((network, place)),
            Err(fault) => {
                let name = name(text).filter(|_| !digits).ok_or(format!("{fault}; or a name, or /PATTERN/"))?;
                self.names.entry(name).or_insert(place);
            }
        }
        Ok(())
    }

    /// The line with this client in it. Its names are asked for, and go to `names`, only if that matters.
    pub(super) fn find(&self, world: &World, session: &Session, names: &mut Option<names::Found>) -> Option<String> {
        let ip = session.connection.remote_ip?;
        if let Some((_, place)) = self.networks.iter().find(|(network, _)| network.contains(ip)) {
            return Some(place.clone());
        }
        if self.names.is_empty() && self.patterns.is_empty() {
            return None;
        }
        let found = names.insert(names::of_client(world, session, ip));
        found.names.confirmed.iter().find_map(|name| self.named(name))
    }

    fn named(&self, name: &str) -> Option<String> {
        let mut rest = Some(name);
        while let Some(here) = rest {
            if let Some(place) = self.names.get(here) {
                return Some(place.clone());
            }
            rest = here.split_once('.').map(|(_, above)| above);
        }
        self.patterns.iter().find(|(pattern, _)| pattern.is_match(name)).map(|(_, place)| place.clone())
    }
}

/// A host's or domain's name in the form for comparing. Hosts in the DNS may have a `_`, which a mail domain may not.
fn name(text: &str) -> Option<String> {
    let text = text.strip_prefix('.').unwrap_or(text);
    if let Ok(domain) = Domain::parse(text) {
        return Some(domain.ascii().to_owned());
    }
    let letter = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
    let labels = text.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter));
    (labels && text.len() <= 253).then(|| text.to_ascii_lowercase())
}
