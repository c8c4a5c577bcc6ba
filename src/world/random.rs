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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_one_fills_all_of_any_length() {
        for octets in [0, 1, 16, 256, 257, 5000] {
            // That an octet is 0 in each of 20 fillings by chance: never seen.
            let mut seen = vec![0; octets];
            for _ in 0..20 {
                let mut buffer = vec![0; octets];
                RealRandom.fill(&mut buffer);
                seen.iter_mut().zip(&buffer).for_each(|(seen, octet)| *seen |= octet);
            }
            assert!(seen.iter().all(|&octet| octet != 0), "{octets}");
        }
    }

    #[test]
    fn the_fixed_one_counts() {
        let random = FixedRandom::new(254);
        let mut buffer = [9; 3];
        random.fill(&mut buffer);
        assert_eq!(buffer, [254, 255, 0]);
        random.fill(&mut buffer);
        assert_eq!(buffer, [1, 2, 3]);
    }
}
