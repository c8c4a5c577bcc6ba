//! The files that may stand in a configuration directory, so that `check` can name one that nobody reads.

/// Every file name that postern or qpsmtpd gives a meaning to, and the meaning.
pub const KNOWN: &[(&str, &str)] = &[
    ("plugins", "the chain of plugins"),
    ("plugins.d", "the plugins' TOML files"),
    ("plugin_dirs", "where qpsmtpd finds Perl plugins; not used"),
    ("logging", "the chain of logging plugins"),
    ("loglevel", "how much is logged, 0 to 7"),
    ("me", "our own name"),
    ("me-auth-results", "the name in Authentication-Results"),
    ("smtpgreeting", "the text of the greeting"),
    ("databytes", "octets of the largest message"),
    ("size_threshold", "octets of a message kept in memory"),
    ("store", "where greylisting, karma and limits are remembered"),
    ("var", "the store, unless the file store says otherwise"),
    ("spool_dir", "where long messages wait"),
    ("spool_perms", "qpsmtpd's mode of spool_dir; without effect"),
    ("timeout", "seconds to wait for the client"),
    ("dns", "the resolver, and how long its answers are waited for"),
    ("timeoutsmtpd", "seconds to wait for a command"),
    ("hook_timeout", "qpsmtpd's seconds per plugin; not used, see the setting budget"),
    ("message_seconds", "seconds for the content of one message"),
    ("session_seconds", "seconds for one session"),
    ("errors_max", "refused commands in one session"),
    ("commands_max", "commands in one session"),
    ("recipients_max", "recipients of one message"),
    ("header_octets_max", "octets of a message's header"),
    ("content_line_octets_max", "octets of a line in a message"),
    ("command_line_octets_max", "octets of a command line"),
    ("bare_newline", "what becomes of a CR or LF that stands alone"),
    ("nul", "what becomes of a NUL"),
    ("umask", "mode bits that new files do not get"),
    ("user", "whom to become when started as root"),
    ("log_format", "human or json"),
    ("tls_before_auth", "TLS before AUTH"),
    ("tls_ciphers", "TLS ciphers"),
    ("tls_protocols", "TLS protocols"),
    ("ssl", "certificates and keys"),
    ("IP", "the address for qpsmtpd's run script; not used"),
    ("relayclients", "clients that may relay"),
    ("morerelayclients", "clients that may relay, as a map"),
    ("norelayclients", "clients that may not relay"),
    ("rcpthosts", "domains that we take mail for"),
    ("morercpthosts", "domains that we take mail for, as a map"),
    ("addsig", "texts to append, by the sender's domain"),
    ("footer", "texts to append, by the client's address"),
    ("texts", "a place for the texts of addsig and footer"),
    ("help", "texts for HELP"),
    ("badhelo", "HELO names to refuse"),
    ("badmailfrom", "senders to refuse"),
    ("badmailfrom_patterns", "senders to refuse (old)"),
    ("badmailfromto", "senders to refuse for one recipient"),
    ("badrcptto", "recipients to refuse"),
    ("badrcptto_patterns", "recipients to refuse (old)"),
    ("dnsbl_zones", "zones that list clients"),
    ("dnsbl_allow", "clients that no zone is asked about"),
    ("dnsbl_rejectmsg", "the text for a listed client"),
    ("rhsbl_zones", "zones that list senders' domains"),
    ("whitelist_zones", "zones that list good clients"),
    ("uribl_zones", "zones that list domains in texts"),
    ("uribl_whitelist_domains", "domains that no zone is asked about"),
    ("whitelisthosts", "clients that are trusted"),
    ("whitelisthelo", "HELO names that are trusted"),
    ("whitelistsenders", "senders that are trusted"),
    ("whitelistrcpt", "recipients that take everything"),
    ("hosts_allow", "clients and what becomes of them"),
    ("aliases", "recipients, and where their mail goes"),
    ("client_options", "settings of plugins by client"),
    ("rcpt_regexp", "recipients by pattern"),
    ("invalid_resolvable_fromhost", "networks that no mail exchanger is in"),
    ("require_resolvable_fromhost", "whether a sender's domain must resolve (old)"),
    ("spfbehavior", "how strict SPF is (old)"),
    ("denysoft_greylist", "greylisting"),
    ("greylist_exclude_files", "files with hosts that are not greylisted"),
    ("karma_tlds", "karma by top level domain"),
    ("p0f_blocked_operating_systems", "operating systems to refuse"),
    ("flat_auth_pw", "users and passwords"),
    ("smtpauth-checkpassword", "the checkpassword program"),
    ("ldap", "the LDAP server"),
    ("vpopmail_mysql_dsn", "vpopmail's database"),
    ("vpopmail_mysql_user", "vpopmail's database user"),
    ("vpopmail_mysql_pass", "vpopmail's database password"),
    ("content_log_file", "where messages are copied to"),
    ("content_log_enabled", "whether messages are copied"),
    ("subject_prefix", "the mark on the subject of spam"),
    ("hbedv_deny", "viruses to refuse (old)"),
    ("kav_deny", "viruses to refuse (old)"),
    ("cleanup_sockets", "Postfix's cleanup sockets"),
    ("dkim", "DKIM keys by domain"),
    ("public_suffix_list", "domains under which anybody may register"),
    ("add_geoip_headers", "whether the client's country is noted"),
    ("log2sql", "qpsmtpd's log database; not used"),
    ("debconf-settings", "Debian's qpsmtpd package; not used"),
    ("debian-queue-method", "Debian's qpsmtpd package; included from plugins"),
    ("debian-rcpthosts", "Debian's qpsmtpd package; included from rcpthosts"),
];

/// What a file of that name means: a name of [`KNOWN`], its map `NAME.cdb`, or a chain `plugins.NAME`.
pub fn known(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".cdb").unwrap_or(name);
    let name = match name.strip_prefix("plugins.") {
        Some(chain) if !chain.is_empty() && chain != "d" => "plugins",
        _ => name,
    };
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["me", "rcpthosts", "morercpthosts.cdb", "plugins.submission", "plugins.d", "plugins"] {
            assert!(known(name).is_some(), "{name}");
        }
        for name in ["", "Me", "rcpthost", "plugins.", "plugins~", "me.cdb.cdb", ".cdb"] {
            assert!(known(name).is_none(), "{name}");
        }
        for (index, (name, _)) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..index].iter().all(|(earlier, _)| earlier != name), "{name} stands twice");
        }
    }
}
