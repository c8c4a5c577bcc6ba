//! The plugins, one file each, named as in `config/plugins`; and the only list of them.

pub mod addsig;
pub mod footer;
pub mod help;
pub mod logging;
pub mod quit_fortune;
pub mod rcpt_ok;

use crate::hook::Entry;

/// Every plugin, in the order of the catalogue.
pub const ENTRIES: &[&Entry] = &[
    &addsig::ENTRY,
    &footer::ENTRY,
    &help::ENTRY,
    &logging::adaptive::ENTRY,
    &logging::devnull::ENTRY,
    &logging::file::ENTRY,
    &logging::journald::ENTRY,
    &logging::stderr::ENTRY,
    &logging::syslog::ENTRY,
    &quit_fortune::ENTRY,
    &rcpt_ok::ENTRY,
];
