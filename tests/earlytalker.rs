//! The plugin earlytalker against clients that wait for their turn, and clients that do not: a piped dialog has no turns.
#![allow(clippy::unwrap_used)]

mod common;

use std::thread;
use std::time::Duration;

use common::client::{Client, Log};
use common::room::Room;

fn room() -> Room {
    Room::new("earlytalker wait 0.4 check-at CONNECT check-at DATA\nrcpt_ok\nqueue/discard\n")
}

#[test]
fn who_waits_is_served_though_it_pipelines() {
    let room = room();
    let (mut client, _served) = Client::serve(&room, Log::File);
    client.silence(Duration::from_millis(200));
    client.expect(220);
    client.command("EHLO client.example", 250);
    // RFC 2920 §3.1: DATA may be the last of a group.
    client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@here.example>\r\nDATA\r\n");
    client.expect(250);
    client.expect(250);
    client.expect(354);
    client.send(b"Subject: one\r\n\r\nhello\r\n.\r\n");
    client.expect(250);
    client.command("QUIT", 221);
    client.closed();
}

#[test]
fn who_speaks_before_the_greeting_may_only_quit() {
    let room = room();
    let (mut client, _served) = Client::serve(&room, Log::File);
    thread::sleep(Duration::from_millis(100));
    client.send(b"EHLO client.example\r\n");
    client.expect(554);
    client.expect(503);
    client.command("QUIT", 221);
    client.closed();
}

#[test]
fn who_does_not_wait_for_354_is_hung_up_on() {
    // In the packet of DATA; in one of its own, a little later.
    for pause in [None, Some(Duration::from_millis(100))] {
        let room = room();
        let (mut client, _served) = Client::serve(&room, Log::File);
        client.open("a@client.example", &["b@here.example"]);
        match pause {
            None => client.send(b"DATA\r\nMAIL FROM:<forged@client.example>\r\n"),
            Some(pause) => {
                client.send(b"DATA\r\n");
                thread::sleep(pause);
                client.send(b"MAIL FROM:<forged@client.example>\r\n");
            }
        }
        client.expect(554);
        client.closed();
    }
}

#[test]
fn a_chunk_follows_at_once_and_is_not_early() {
    let room = room();
    let (mut client, _served) = Client::serve(&room, Log::File);
    client.open("a@client.example", &["b@here.example"]);
    client.send(b"BDAT 23 LAST\r\nSubject: one\r\n\r\nhello\r\n");
    client.expect(250);
    client.command("QUIT", 221);
}
