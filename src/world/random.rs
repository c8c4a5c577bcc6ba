//! Octets that nobody can foretell: ids, file names, challenges.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;

use crate::sys;

/// A source of random octets.
pub trait Random {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The kernel's generator: one system call for up to 256 octets, none before that.
pub struct RealRandom;

impl Random for RealRandom {
    /// # Panics
    /// If the kernel gives nothing by getrandom(2) nor by /dev/urandom: to go on with octets that can be guessed would be
    /// worse than to answer 421.
    fn fill(&self, buffer: &mut [u8]) {
        if sys::random(buffer) {
            return;
        }
        // A sandbox that does not know getrandom may still have the device.
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(buffer));
        assert!(read.is_ok(), "no random octets: {read:?}");
    }
}

/// Octets in order, 0, 1, 2, and so on over all calls: unlike each other, alike in every run. For tests and replays.
#[derive(Debug, Default)]
pub struct FixedRandom(Cell<u8>);

impl FixedRandom {
    /// Starts with this octet.
    pub fn new(first: u8) -> Self {
        Self(Cell::new(first))
    }
}

impl Random for FixedRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for octet in buffer {
            *octet = self.0.replace(self.0.get().wrapping_add(1));
        }
    }
}
