//! `queue/qmqp` against Postfix's qmqpd, and against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::handover;
use common::mta::{self, Postfix};
use common::play::{End, Outcome, Play};
use common::room::Room;

fn room(port: u16, more: &str) -> Room {
    Room::new(&format!("rcpt_ok\nqueue/qmqp 127.0.0.1:{port} timeout 2 deadline 4 {more}\n"))
}

fn send(room: &Room, lines: usize) -> Outcome {
    let message = [&b"Subject: x\r\n\r\n"[..], &b"a line\r\n".repeat(lines)].concat();
    Play::new(room).run(&handover::session("a@client.example", "x@here.example", &message))
}

#[test]
fn what_arrives_at_postfix_is_what_was_sent() {
    let Some(postfix) = Postfix::start("qmqpd_authorized_clients = 127.0.0.1\nmessage_size_limit = 400000") else {
        return;
    };
    let room = Room::new(&format!("rcpt_ok\nqueue/qmqp 127.0.0.1:{}\n", postfix.qmqp));
    mta::byte_for_byte("qmqp", &room, &postfix.inbox(), &|| postfix.log());
    let outcome = send(&room, 1);
    let reply = handover::decided("qmqp", "Postfix: K", &outcome);
    let id = reply.lines[0].split("queued as ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert!(postfix.log().contains(&id), "{id} is Postfix's queue id");
    mta::next(&postfix.inbox(), &|| postfix.log());
    let outcome = send(&room, 100_000);
    assert_eq!(handover::decided("qmqp", "Postfix: over message_size_limit", &outcome).class(), 5, "{}", outcome.log);
}

#[test]
fn a_client_that_postfix_does_not_know() {
    let Some(postfix) = Postfix::start("qmqpd_authorized_clients = 192.0.2.1") else { return };
    for lines in [1, 100_000] {
        let outcome = send(&room(postfix.qmqp, ""), lines);
        let reply = handover::decided("qmqp", "Postfix: not authorized", &outcome);
        // Its refusal can be lost with the connection that it closes on a message that it has not read.
        assert!(reply.class() == 5 || lines > 1 && reply.code == 451, "{reply:?} {}", outcome.log);
    }
}

/// What a server does with a connection.
type Server = fn(&mut TcpStream);

fn read_all(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 65536];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}

#[test]
fn servers_that_misbehave() {
    let table: [(&str, Server, u16); 12] = [
        ("closes at once", |_| {}, 451),
        ("closes after some octets", |stream| drop(stream.read(&mut [0; 100])), 451),
        ("closes after everything", read_all, 451),
        ("K, and closes within the answer", |stream| (read_all(stream), stream.write_all(b"20:Kok").unwrap()).1, 250),
        ("K, and stays", |stream| (read_all(stream), stream.write_all(b"1:K,").unwrap(), pause(9)).1, 250),
        (
            "half an answer, and stays",
            |stream| (read_all(stream), stream.write_all(b"20:Kok").unwrap(), pause(9)).1,
            250,
        ),
        ("Z", |stream| (read_all(stream), stream.write_all(b"6:Zlater,").unwrap()).1, 451),
        ("D", |stream| (read_all(stream), stream.write_all(b"3:Dno,").unwrap()).1, 554),
        ("garbage", |stream| (read_all(stream), stream.write_all(b"250 2.0.0 ok\r\n").unwrap()).1, 451),
        ("a flood", |stream| (read_all(stream), drop(stream.write_all(&[b'9'; 3_000_000]))).1, 451),
        ("stalls at once", |_| pause(9), 451),
        ("stalls after everything", |stream| (read_all(stream), pause(9)).1, 451),
    ];
    for (name, server, code) in table {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Not joined: one that stalls is left behind.
        thread::spawn(move || server(&mut listener.accept().unwrap().0));
        let outcome = send(&room(port, ""), 50_000);
        let reply = handover::decided("qmqp", name, &outcome);
        assert_eq!((reply.code, outcome.end), (code, End::Code(0)), "{name}: {}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(7), "{name}: {:?}", outcome.elapsed);
    }
    let outcome = send(&room(1, ""), 1);
    assert_eq!(handover::decided("qmqp", "refuses the connection", &outcome).code, 451);
    assert!(outcome.log.contains("127.0.0.1:1: connect:"), "{}", outcome.log);
}

fn pause(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}
