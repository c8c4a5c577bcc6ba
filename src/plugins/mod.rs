//! The plugins, one file each, named as in `config/plugins`; and the only list of them.

pub mod addsig;
pub mod aliases;
pub mod badmailfrom;
pub mod badmailfromto;
pub mod badrcptto;
pub mod bogus_bounce;
pub mod client_options;
pub mod connection_time;
pub mod content_log;
pub mod count_denies;
pub mod count_unrecognized_commands;
pub mod delay_deny;
pub mod dns_whitelist_soft;
pub mod dnsbl;
pub mod dont_require_anglebrackets;
pub mod earlytalker;
pub mod fcrdns;
pub mod footer;
pub mod greylisting;
pub mod headers;
pub mod helo;
pub mod help;
pub mod hosts_allow;
pub mod http_config;
pub mod ident;
pub mod karma;
pub mod limit;
pub mod loadcheck;
pub mod logging;
pub mod r#loop;
pub mod naughty;
pub mod noop_counter;
pub mod parse_addr_withhelo;
pub mod quit_fortune;
pub mod random_error;
pub mod rcpt_map;
pub mod rcpt_ok;
pub mod rcpt_regexp;
pub mod relay;
pub mod resolvable_fromhost;
pub mod rhsbl;
mod shared;
pub mod tarpit;
pub mod user_config;
pub mod whitelist;

use crate::hook::Entry;

/// Every plugin, in the order of the catalogue.
pub const ENTRIES: &[&Entry] = &[
    &addsig::ENTRY,
    &aliases::ENTRY,
    &badmailfrom::ENTRY,
    &badmailfromto::ENTRY,
    &badrcptto::ENTRY,
    &bogus_bounce::ENTRY,
    &client_options::ENTRY,
    &connection_time::ENTRY,
    &content_log::ENTRY,
    &count_denies::ENTRY,
    &count_unrecognized_commands::ENTRY,
    &delay_deny::ENTRY,
    &dns_whitelist_soft::ENTRY,
    &dnsbl::ENTRY,
    &dont_require_anglebrackets::ENTRY,
    &earlytalker::ENTRY,
    &fcrdns::ENTRY,
    &footer::ENTRY,
    &greylisting::ENTRY,
    &headers::ENTRY,
    &helo::ENTRY,
    &help::ENTRY,
    &hosts_allow::ENTRY,
    &http_config::ENTRY,
    &ident::geoip::ENTRY,
    &ident::p0f::ENTRY,
    &karma::ENTRY,
    &limit::ENTRY,
    &loadcheck::ENTRY,
    &logging::adaptive::ENTRY,
    &logging::devnull::ENTRY,
    &logging::file::ENTRY,
    &logging::journald::ENTRY,
    &logging::stderr::ENTRY,
    &logging::syslog::ENTRY,
    &r#loop::ENTRY,
    &naughty::ENTRY,
    &noop_counter::ENTRY,
    &parse_addr_withhelo::ENTRY,
    &quit_fortune::ENTRY,
    &random_error::ENTRY,
    &rcpt_map::ENTRY,
    &rcpt_ok::ENTRY,
    &rcpt_regexp::ENTRY,
    &relay::ENTRY,
    &resolvable_fromhost::ENTRY,
    &rhsbl::ENTRY,
    &tarpit::ENTRY,
    &user_config::ENTRY,
    &whitelist::ENTRY,
];
