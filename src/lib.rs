//! postern: an inetd-style SMTP front door.

pub mod mail;
