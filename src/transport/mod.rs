//! The way to the client and back: octets, deadlines, and how it ends.
//!
//! In and out: octets, nothing about SMTP. [`Descriptors`] is the real one; [`Script`] plays a client from a file.
//! TLS and the PROXY header will be further transports round these. Who the client is, `launch` says.

mod descriptors;
mod script;

use std::io;
use std::time::{Duration, Instant};

pub use descriptors::Descriptors;
pub use script::{Exchange, Exchanges, Script};

/// A connection to one client.
pub trait Transport {
    /// Waits for octets until a moment and takes what is there, at most the buffer's length. `Ok(0)` is the end of input.
    fn read(&mut self, buffer: &mut [u8], until: Instant) -> Result<usize, Fault>;

    /// Sends all of it until a moment, or fails; then an unknown part has been sent.
    fn write(&mut self, octets: &[u8], until: Instant) -> Result<(), Fault>;

    /// Whether the client sends something within a time, although it is our turn. A client that only hangs up has not spoken.
    fn client_speaks_within(&mut self, time: Duration) -> bool;

    /// Ends the connection. `lingering`: what the client still sends is read and dropped for a while first, or the reset
    /// that unread octets cause would take our last reply with it.
    fn close(&mut self, lingering: bool);
}

/// Why a read or a write came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The moment came first.
    #[error("timed out")]
    TimedOut,
    /// We are asked to end (SIGTERM, SIGINT, SIGHUP).
    #[error("terminated by a signal")]
    Terminated,
    /// The client is gone, or its line is.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
}
