//! `queue/pipe` against a real program of its kind: one that stores in a maildir. How it takes failures: queue_sendmail.rs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use common::room::Room;
use common::{handover, mta};

#[test]
fn what_the_program_stores_is_what_was_sent() {
    let room = Room::new("rcpt_ok\nqueue/pipe ../bin/take {sender} {recipients}\n");
    std::fs::create_dir_all(room.path("mail/new")).unwrap();
    std::fs::create_dir_all(room.path("mail/tmp")).unwrap();
    let root = room.root().display();
    let take = format!(
        "#!/bin/sh\n{{ echo \"Return-Path: <$SENDER>\"; cat; }} >{root}/mail/tmp/$$ && sync -d {root}/mail/tmp/$$ && \
         mv {root}/mail/tmp/$$ {root}/mail/new/$$\n"
    );
    handover::script(&room, "take", &take);
    room.config("plugins", "rcpt_ok\nqueue/pipe ../bin/take -- {sender} {recipients}\n");
    mta::byte_for_byte("pipe", &room, &room.path("mail"), &String::new);
    handover::kills("pipe", &room, "x@here.example", |mark, yes| mta::with_mark(&room.path("mail"), mark, yes));
}
