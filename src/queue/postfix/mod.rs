//! What Postfix's own programs say to each other: records, attribute lists, statuses. No I/O of its own.
//!
//! For `queue/postfix-queue` and `queue/postdrop`, which differ in what may be said, and in the way it goes.

pub(super) mod attributes;
pub(super) mod records;
pub(super) mod status;
