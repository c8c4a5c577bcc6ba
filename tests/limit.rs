//! The plugin limit with real stores: many processes at once, hosts that share, a store that is gone.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;
#[path = "common/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis;

use std::thread;
use std::time::Duration;

use common::play::{End, Play};
use common::room::Room;
use redis::Redis;

/// The first reply's code, or that to MAIL if there was a greeting.
fn mail(room: &Room) -> u16 {
    let lines = b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nQUIT\r\n";
    let outcome = Play::new(room).variable("TCPREMOTEIP", "192.0.2.1").run(lines);
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    let codes: Vec<u16> = text
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .map(|line| line[..3].parse().unwrap())
        .collect();
    if codes[0] == 220 { codes[2] } else { codes[0] }
}

fn room(limits: &str, store: &str) -> Room {
    let room = Room::new(&format!("limit {limits}\nrcpt_ok\nqueue/maildir {{ROOM}}/mail\n"));
    room.config("store", store);
    room
}

/// Of fifty at once exactly twenty are let in.
fn at_once(rooms: &[&Room], refusal: u16) {
    let codes: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|at| scope.spawn(move || mail(rooms[at % rooms.len()]))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 250).count(), 20, "{codes:?}");
    assert!(codes.iter().all(|code| [250, refusal].contains(code)), "{codes:?}");
}

#[test]
fn fifty_at_once_with_sqlite() {
    at_once(&[&room("connections 20/1h", "sqlite timeout 30\n")], 421);
}

#[test]
fn two_hosts_count_together_in_redis() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let line = format!("{} timeout 20\n", redis.line());
    let (one, two) = (room("messages 20/1h", &line), room("messages 20/1h", &line));
    let strict = room("messages 20/1h on_error defer", &line);
    at_once(&[&one, &two], 450);
    assert_eq!((mail(&one), mail(&two)), (450, 450));
    redis.kill();
    assert_eq!((mail(&one), mail(&two), mail(&strict)), (250, 250, 450));
}

#[test]
fn after_its_time_counting_begins_anew() {
    let room = room("messages 2/4s", "sqlite\n");
    let codes: Vec<u16> = (0..3).map(|_| mail(&room)).collect();
    assert_eq!(codes, [250, 250, 450]);
    thread::sleep(Duration::from_millis(4100));
    assert_eq!(mail(&room), 250);
}
