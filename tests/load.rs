//! Many mails at a time into a real Postfix, and long ones: none lost, none doubled, and memory that does not grow.
//! How fast that goes is measured by `benches/postfix.rs`, which does the same with more of both.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use common::load::{self, Load, Plan};
use common::workers;

#[test]
fn no_mail_is_lost_or_doubled_under_load() {
    let Some(load) = Load::start() else { return };
    for (name, queue) in load.queues() {
        let room = load.room(&queue);
        let server = load.serve(&room);
        for (mails, reuse) in [(200, false), (100, true)] {
            let plan = Plan { mails, octets: 2048, sessions: 20, reuse };
            let taken = load.send(server.port, plan);
            eprintln!("| {name} | {mails} mails | lost {} | doubled {} |", taken.lost, taken.doubled);
            assert_eq!((taken.lost, taken.doubled), (0, 0), "{name}: {plan:?}\n{}", load.postfix.log());
        }
    }
}

#[test]
fn a_long_message_takes_no_more_memory() {
    let Some(load) = Load::start() else { return };
    workers::each(&load::STREAMING, |queue| {
        let room = load.room_for_large(queue);
        let (short, long) = (load::large(&room, 5).mark_kb, load::large(&room, 30).mark_kb);
        eprintln!("| {queue} | 5 MB: {short} kB | 30 MB: {long} kB |");
        assert!(long <= short + load::SAME_KB, "{queue}: {short} kB of memory for 5 MB, {long} kB for 30 MB");
    });
}
