//! A queue program that takes everything and keeps nothing: reads message and envelope to their ends.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

fn main() {
    let mut buffer = vec![0; 256 * 1024];
    for number in [0, 1] {
        // SAFETY: the protocol of qmail-queue(8): both are open, and ours.
        let mut end = unsafe { File::from_raw_fd(number) };
        while end.read(&mut buffer).is_ok_and(|octets| octets > 0) {}
    }
}
