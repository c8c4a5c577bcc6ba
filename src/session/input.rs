//! Octets that the client has sent and nobody has taken yet.

use std::time::Instant;

use crate::transport::{Fault, Transport};

/// Room for commands: a pipelined group fits.
const OCTETS_MIN: usize = 2 * 1024;
/// Room for content: large reads are what makes DATA fast. Grows to it only under a client that fills what there is.
const OCTETS_MAX: usize = 256 * 1024;

/// A buffer between the transport and its readers.
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; OCTETS_MIN], start: 0, end: 0 }
    }

    /// What is there.
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The same, for a reader that works in place.
    pub(super) fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Takes octets off the front.
    pub(super) fn consume(&mut self, octets: usize) {
        self.start += octets.min(self.end - self.start);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads more. 0: the end of input.
    pub(super) fn fill(&mut self, transport: &mut dyn Transport, until: Instant) -> Result<usize, Fault> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.grow_if_full();
        let octets = transport.read(&mut self.buffer[self.end..], until)?;
        self.end += octets;
        // A full read says that more is waiting: make room for a larger one.
        self.grow_if_full();
        Ok(octets)
    }

    fn grow_if_full(&mut self) {
        if self.end == self.buffer.len() && self.buffer.len() < OCTETS_MAX {
            self.buffer.resize((self.buffer.len() * 4).min(OCTETS_MAX), 0);
        }
    }
}
