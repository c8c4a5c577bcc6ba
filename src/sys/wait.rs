//! Waiting for descriptors until a moment, whatever signals come in between.
#![deny(unsafe_code)]

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;

/// Waits until one of `descriptors` is ready or `until` has come; says whether one is. With `None` it waits for ever.
/// SIGTERM and the like stay blocked: what is being handed to a backend is better finished.
pub fn ready(descriptors: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<bool> {
    wait(descriptors, until, None)
}

/// The same, but SIGTERM and the like are let in and end the wait: `ErrorKind::Interrupted`. One that came before ends it too.
pub fn ready_or_terminated(descriptors: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<bool> {
    wait(descriptors, until, Some(SigSet::empty()))
}

fn wait(descriptors: &mut [PollFd<'_>], until: Option<Instant>, signals: Option<SigSet>) -> io::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A month at most: the kernel takes no more seconds than its own type holds.
        let left = left.map(|left| TimeSpec::from(left.min(Duration::from_secs(30 * 86_400))));
        match ppoll(descriptors, left, signals) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::EINTR) if signals.is_some() && super::terminated() => {
                return Err(Errno::EINTR.into());
            }
            // The watchdog's alarm, which found nothing to do.
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
