//! Conditions on what the client runs on: the setting `p0f`.

use regex_lite::{Regex, RegexBuilder};

use super::PATTERN_OCTETS_MAX;
use crate::hook::ClientSystem;

/// One of them.
pub(super) enum Condition {
    Genre(Regex),
    Detail(Regex),
    Link(Regex),
    /// Started less than so many minutes ago.
    Uptime(u64),
    /// More than so many routers away.
    Distance(u32),
}

impl Condition {
    /// From a name and its value.
    pub(super) fn parse(pair: &[String]) -> Result<Self, String> {
        let [name, value] = pair else {
            return Err(format!("p0f: {:?} has no value: write NAME,VALUE,NAME,VALUE", pair.concat()));
        };
        let pattern = || {
            let built = RegexBuilder::new(value).case_insensitive(true).size_limit(PATTERN_OCTETS_MAX).build();
            built.map_err(|error| format!("p0f: {value:?} is not a pattern that can be used here: {error}"))
        };
        let no_number = |_| format!("p0f: {name}: {value:?} is not a whole number");
        match name.to_ascii_lowercase().as_str() {
            "genre" => pattern().map(Self::Genre),
            "detail" => pattern().map(Self::Detail),
            "link" => pattern().map(Self::Link),
            "uptime" => value.parse().map(Self::Uptime).map_err(no_number),
            "distance" => value.parse().map(Self::Distance).map_err(no_number),
            _ => Err(format!("p0f: {name:?} is none of genre, detail, link, uptime, distance")),
        }
    }

    /// Whether it holds. What is not known of a client does not.
    pub(super) fn is_met(&self, system: &ClientSystem) -> bool {
        match self {
            Self::Genre(pattern) => pattern.is_match(&system.genre),
            Self::Detail(pattern) => pattern.is_match(&system.detail),
            Self::Link(pattern) => pattern.is_match(&system.link),
            Self::Uptime(minutes) => system.uptime_minutes.is_some_and(|since| since < *minutes),
            Self::Distance(routers) => system.distance.is_some_and(|away| away > *routers),
        }
    }
}
