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

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::config::{ConfigDir, Settings, same_name};
use crate::world::World;

/// A place as evidence names it: "badmailfrom line 3".
pub(super) fn place(file: &Path, line: usize) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    format!("{} line {line}", name.display())
}

/// Lines from which on a list that every connection reads anew is worth a note of `check`.
const LONG: usize = 10_000;

/// How many lines a list has, if it is long.
pub(super) fn long(config: &ConfigDir, name: &str) -> Option<usize> {
    let mut lines = 0;
    // What cannot be read is told elsewhere.
    let _ = config.each(name, &mut |_, _, _| {
        lines += 1;
        ControlFlow::Continue(())
    });
    (lines >= LONG).then_some(lines)
}

/// Does what asks the world, within `timeout` and this part of the time that the plugin has left (2: half of it).
pub(super) fn within<T>(world: &World, timeout: Duration, part: u32, work: impl FnOnce() -> T) -> T {
    let now = world.clock.instant();
    let left = world.deadline.get().map_or(timeout, |until| timeout.min(until.saturating_duration_since(now) / part));
    world.within(left, work)
}

/// Whether the plugin's line calls it by this name (an alias brings its own defaults), with or without an instance.
pub(super) fn called(settings: &Settings, name: &str) -> bool {
    let label = settings.plugin();
    same_name(label.split_once(':').map_or(label, |(name, _)| name), name)
}
