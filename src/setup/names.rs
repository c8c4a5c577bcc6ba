//! Names of plugins of qpsmtpd that are not ours: retired, or still to come.

/// Plugins of qpsmtpd that are retired on purpose: their lines do nothing, of which `check` warns.
pub const RETIRED: &[(&str, &str)] = &[
    ("virus/aveclient", "the product is gone; use a scanner that lives"),
    ("virus/bitdefender", "the product is gone; use a scanner that lives"),
    ("virus/hbedv", "the product is gone; use a scanner that lives"),
    ("virus/kavscanner", "the product is gone; use a scanner that lives"),
    ("virus/klez_filter", "the worm is gone; any scanner knows it"),
    ("virus/sophie", "the product is gone; use a scanner that lives"),
    ("virus/uvscan", "the product is gone; use a scanner that lives"),
    ("virus/check_for_hi_virus", "the worm is gone; any scanner knows it"),
    ("domainkeys", "DomainKeys was replaced by DKIM (RFC 6376)"),
    ("auth/authnull", "accepted every password; qpsmtpd removed it too"),
    ("logging/apache", "postern does not run inside Apache"),
    ("logging/connection_id", "qpsmtpd never supported it; every line here has the session's id"),
    ("logging/transaction_id", "qpsmtpd never supported it; every line here has the session's id"),
];

/// Plugins of qpsmtpd that postern does not have yet. A line that names one is a fault: a chain that is served without it
/// would silently drop a policy.
pub const PLANNED: &[(&str, &str)] = &[
    ("stunnel", "the PROXY header"),
    ("tls", "STARTTLS"),
    ("milter", "mail filters that speak Sendmail's protocol"),
    ("sender_permitted_from", "SPF"),
    ("qmail_deliverable", "recipients asked of qmail-deliverable"),
    ("dkim", "DKIM"),
    ("dmarc", "DMARC"),
    ("uribl", "DNS lists of domains in texts"),
    ("spamassassin", "scores of SpamAssassin"),
    ("dspam", "scores of DSPAM"),
    ("virus/clamav", "ClamAV, by clamscan"),
    ("virus/clamdscan", "ClamAV, by clamd"),
    ("auth/auth_checkpassword", "SMTP AUTH"),
    ("auth/auth_cvm_unix_local", "SMTP AUTH"),
    ("auth/auth_flat_file", "SMTP AUTH"),
    ("auth/auth_imap", "SMTP AUTH"),
    ("auth/auth_ldap_bind", "SMTP AUTH"),
    ("auth/auth_vpopmail", "SMTP AUTH"),
    ("auth/auth_vpopmail_sql", "SMTP AUTH"),
    ("auth/auth_vpopmaild", "SMTP AUTH"),
    ("auth/authdeny", "SMTP AUTH"),
];
