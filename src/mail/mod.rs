//! The mail object: the octets as received, the trace fields and edits that go with them, and the view of the header.
//!
//! In: octets from `smtp/data` and fields from the session and from plugins. Out: a stream with the line ends that a
//! backend wants. What was received is never parsed and written anew: an edit adds, drops or replaces whole lines.
//! Who may edit, and when, is left to `hook/`; durability to `queue/`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod append;
pub mod edit;
pub mod envelope;
pub mod header;
pub mod message;
pub mod spool;
pub mod trace;

pub use edit::{Edit, EditError};
pub use envelope::{Envelope, Recipient, Transaction};
pub use header::{Header, HeaderError};
pub use message::{LineEnds, Message};
pub use spool::{Spool, SpoolPlace};
