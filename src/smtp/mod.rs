//! The wire: octets <-> words (RFC 5321). No plugin, file, socket or clock in here.
//!
//! In: octets of the client. Out: commands, paths, parameters, content, and the octets of our replies.
//! What a command leads to is the session's; which extensions a backend can carry is the backend's.

// Tests may unwrap. The build without tests still holds the code itself to the lint.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
pub mod command;
pub mod data;
pub mod domain;
pub mod escape;
pub mod extension;
pub mod find;
pub mod line;
pub mod normalise;
pub mod parameters;
pub mod reply;
pub mod survey;
pub mod xtext;

pub use address::{AddressError, Domain, DomainLiteral, DomainName, ForwardPath, Mailbox, ReversePath};
pub use command::{Command, Hello, SyntaxError, hello_argument};
pub use data::{DotDecoder, Fed};
pub use escape::safe;
pub use extension::{Capabilities, Offer, keywords};
pub use line::{LineSplitter, Split};
pub use parameters::{
    Body, MailArgument, MailParameters, Notify, RcptArgument, RcptParameters, Ret, mail_argument, path_text,
    rcpt_argument,
};
pub use reply::{Enhanced, Reply};
pub use survey::{Findings, Survey};
pub use xtext::Orcpt;
