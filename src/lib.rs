//! postern: an inetd-style SMTP front door.

/// Who is at the other end, and what started us.
pub mod launch;
/// The few system calls that need `unsafe`.
pub mod sys;
/// Octets from and to the client, with deadlines.
pub mod transport;
/// What plugins and backends may ask of the outside.
pub mod world;
