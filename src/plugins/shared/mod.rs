//! What several plugins have in common, and no plugin itself: lists of addresses, of networks, of codes and of texts.
//!
//! All name file and line of what matched, for the evidence, and of what they cannot understand: such a line is an
//! error, for a refusal or a permission that silently does not hold is worse.

pub(super) mod address_list;
pub(super) mod code;
pub(super) mod dns_list;
pub(super) mod names;
pub(super) mod network;
pub(super) mod text;

#[cfg(test)]
pub(super) mod fixture;

use std::path::Path;
use std::time::Duration;

use crate::config::{Settings, same_name};
use crate::world::World;

/// A place as evidence names it: "badmailfrom line 3".
pub(super) fn place(file: &Path, line: usize) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    format!("{} line {line}", name.display())
}

/// Does what asks the world, within `timeout` and this part of the time that the plugin has left (2: half of it).
pub(super) fn within<T>(world: &World, timeout: Duration, part: u32, work: impl FnOnce() -> T) -> T {
    let (now, before) = (world.clock.instant(), world.deadline.get());
    let left = before.map_or(timeout, |until| timeout.min(until.saturating_duration_since(now) / part));
    // Longer than a clock can tell: no limit.
    if let Some(until) = now.checked_add(left) {
        world.deadline.replace(Some(until));
    }
    let done = work();
    world.deadline.replace(before);
    done
}

/// Whether the plugin's line calls it by this name (an alias brings its own defaults), with or without an instance.
pub(super) fn called(settings: &Settings, name: &str) -> bool {
    let label = settings.plugin();
    same_name(label.split_once(':').map_or(label, |(name, _)| name), name)
}
