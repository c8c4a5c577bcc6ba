//! postern: an inetd-style SMTP front door.

pub mod config;
