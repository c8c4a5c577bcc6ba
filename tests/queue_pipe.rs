//! `queue/pipe` against a real program of its kind: one that stores in a maildir. How it takes failures: queue_sendmail.rs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use common::play::Play;
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
}

/// It reads all the time and says nothing: that is no stall.
#[test]
fn a_program_that_reads_slowly() {
    let room = Room::new("rcpt_ok\nqueue/pipe timeout 2 deadline 30 ../bin/take\n");
    let take = "#!/bin/sh\nfor i in 1 2 3 4 5; do head -c 9000; sleep 0.8; done >../taken; cat >>../taken\n";
    handover::script(&room, "take", &take.replace("..", room.root().to_str().unwrap()));
    let message = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(10_000)].concat();
    let outcome = Play::new(&room).run(&handover::session("a@client.example", "x@here.example", &message));
    assert_eq!(handover::decided("pipe", "reads slowly", &outcome).code, 250, "{}", outcome.log);
    assert!(handover::is_whole(&std::fs::read(room.path("taken")).unwrap(), &message));
}
