//! The plugins, one file each, named as in `config/plugins`; and the only list of them.

pub mod logging;
pub mod rcpt_ok;

use crate::hook::Entry;

/// Every plugin, in the order of the catalogue.
pub const ENTRIES: &[&Entry] = &[
    &logging::adaptive::ENTRY,
    &logging::devnull::ENTRY,
    &logging::file::ENTRY,
    &logging::journald::ENTRY,
    &logging::stderr::ENTRY,
    &logging::syslog::ENTRY,
    &rcpt_ok::ENTRY,
];
