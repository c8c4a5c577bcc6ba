//! postern: an inetd-style SMTP front door.
