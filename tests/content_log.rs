//! content_log where a file can hold no more: as on a full disk, and without one.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::play::{End, Play};
use common::room::Room;

#[test]
fn half_a_message_is_taken_back_and_stops_nothing() {
    let room = Room::new("content_log file {ROOM}/mail/log\nrcpt_ok\nqueue/discard\n");
    room.config("size_threshold", "1000000\n");
    let message = |body: &str| {
        format!("MAIL FROM:<a@b.example>\r\nRCPT TO:<x@here.example>\r\nDATA\r\nSubject: s\r\n\r\n{body}\r\n.\r\n")
    };
    let big = "a line of a message\r\n".repeat(2000);
    let input = format!("EHLO b\r\n{}{}{}QUIT\r\n", message("one"), message(&big), message("two"));
    // 16 blocks of 512 octets.
    let outcome = Play::new(&room).under(["sh", "-c", "ulimit -f 16; exec \"$0\" \"$@\""]).run(input.as_bytes());
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    let taken = String::from_utf8_lossy(&outcome.output).matches("250 2.0.0 accepted and discarded").count();
    assert_eq!(taken, 3, "{}", outcome.log);
    let log = fs::read_to_string(room.path("mail/log")).unwrap();
    let subjects = log.matches("\nSubject: s\n\n").count();
    assert!(subjects == 2 && log.contains("\none\n\n") && log.ends_with("\ntwo\n\n"), "{log}");
    assert!(outcome.log.contains("File too large"), "{}", outcome.log);
}
