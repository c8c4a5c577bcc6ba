//! The table of faults: every backend with its real far end, and what becomes of the mail when something fails at any point.
//!
//! Counted are A, acknowledged and lost or cut; B, half visible at the far end; C, refused (or not answered) and yet landed
//! whole, so that the recipient has it twice after the next try; D, hung past the limit. A, B and D must be 0. C is allowed
//! where no protocol can exclude it: between the moment at which the far end has the message and the client's knowledge of it
//! there is always a step at which either end can die. Each backend's lines end in where that is for it.
//!
//! `POSTERN_FAULT_RUNS=500 cargo nextest run --test fault_table --test-threads 1` makes the full table: that many kills of
//! postern for each backend, and of the other faults in proportion. The default of 20 is a sample.
//! `POSTERN_FAULT_SHOW=1` names the fault of every C.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

mod backends;
#[path = "../common/mod.rs"]
mod common;
mod cut;
#[path = "../next_hop/mod.rs"]
mod next_hop;
mod table;

macro_rules! backends {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                table::try_all(backends::$name());
            }
        )*
    };
}

backends! { maildir qmail_queue postfix_queue postdrop smtp_forward lmtp exim_bsmtp exim_bs sendmail sendmail_oi pipe qmqp }
