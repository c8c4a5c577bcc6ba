//! The signals that end a session: a flag that they set, and a mask that keeps them to where it is looked at.
#![deny(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::{SaFlags, SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};

static TERMINATED: AtomicBool = AtomicBool::new(false);

/// SIGHUP too: whoever closes a terminal or stops a launcher means it so.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Sets handlers for SIGTERM, SIGINT and SIGHUP, and blocks the three. They are let in only inside a ppoll() with an empty
/// mask, so that none can slip in between a look at the flag and the wait.
pub fn catch_signals() -> io::Result<()> {
    // A launcher's limit on the size of files then is an error of write(), like a full disk, and no death.
    super::handle(Signal::SIGXFSZ, SigHandler::SigIgn, SaFlags::empty())?;
    let set: SigSet = ENDING.into_iter().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    let handler = SigHandler::Handler(on_ending);
    ENDING.iter().try_for_each(|&signal| super::handle(signal, handler, SaFlags::empty()))
}

/// Whether one of these signals has come.
pub fn terminated() -> bool {
    TERMINATED.load(SeqCst)
}

/// All that we, or std, handle or ignore: a child starts without that.
pub(super) fn ours() -> SigSet {
    let others = [Signal::SIGPIPE, Signal::SIGALRM, Signal::SIGCHLD, Signal::SIGXFSZ];
    ENDING.into_iter().chain(others).collect()
}

extern "C" fn on_ending(_: c_int) {
    TERMINATED.store(true, SeqCst);
}
