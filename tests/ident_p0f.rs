//! ident/p0f at a stand-in for p0f's socket, and at p0f itself, which listens to the loopback interface.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::client::{Client, Log};
use common::room::Room;

const CHAIN: &str = "ident/p0f {ROOM}/p0f.sock\nrcpt_ok\nqueue/maildir {ROOM}/mail\n";

/// Answers each query by what it says of the address; as p0f 3.09 writes it.
fn stand_in(room: &Room, answer: impl Fn(u8, &[u8]) -> (u32, &'static str, &'static str) + Send + 'static) {
    let listener = UnixListener::bind(room.path("p0f.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut query = [0; 21];
            stream.read_exact(&mut query).unwrap();
            assert_eq!(query[..4], 0x5030_4601_u32.to_ne_bytes());
            let (status, genre, detail) = answer(query[4], &query[5..]);
            let mut response = [0; 232];
            response[..4].copy_from_slice(&0x5030_4602_u32.to_ne_bytes());
            response[4..8].copy_from_slice(&status.to_ne_bytes());
            response[40..40 + genre.len()].copy_from_slice(genre.as_bytes());
            response[72..72 + detail.len()].copy_from_slice(detail.as_bytes());
            response[168..171].copy_from_slice(b"DSL");
            // In two parts, as a socket may bring it.
            stream.write_all(&response[..100]).unwrap();
            stream.write_all(&response[100..]).unwrap();
            // p0f keeps the connection open.
            let _ = stream.read(&mut [0]);
        }
    });
}

/// A session of that client: whether the recipient is taken, and the message's header if it is.
fn session(room: &Room, ip: &str) -> Result<String, u16> {
    let (mut client, mut served) = Client::serve_with(room, Log::File, &[("TCPREMOTEIP", ip)]);
    client.open("a@client.example", &[]);
    client.send(b"RCPT TO:<x@here.example>\r\n");
    let reply = client.reply();
    if reply.code == 250 {
        client.command("DATA", 354);
        client.command("X-P0F-Genre: BeOS\r\nFrom: <a@client.example>\r\n\r\nhello\r\n.", 250);
    }
    client.command("QUIT", 221);
    client.closed();
    served.end(Duration::from_secs(10));
    if reply.code != 250 {
        return Err(reply.code);
    }
    let new = fs::read_dir(room.path("mail/new")).unwrap().next().unwrap().unwrap().path();
    let message = fs::read_to_string(&new).unwrap();
    fs::remove_file(new).unwrap();
    Ok(message)
}

#[test]
fn what_the_socket_says_is_noted_and_ruled_by() {
    let room = Room::new(CHAIN);
    room.config("p0f_blocked_operating_systems", "/^windows (xp|nt)/i\n");
    stand_in(&room, |family, address| match (family, address) {
        (4, [192, 0, 2, 1, ..]) => (0x10, "Linux", "3.11 and newer"),
        (4, [192, 0, 2, 2, ..]) => (0x10, "Windows", "XP"),
        (6, [0x20, 0x01, 0x0d, 0xb8, .., 1]) => (0x10, "Linux", "2.6.x"),
        (4, [192, 0, 2, 3, ..]) => (0x00, "", ""),
        _ => (0x20, "", ""),
    });
    for (ip, genre) in [("192.0.2.1", "Linux"), ("2001:db8::1", "Linux")] {
        let message = session(&room, ip).unwrap();
        assert!(message.contains(&format!("X-P0F-Genre: {genre}\n")), "{message}");
        assert!(message.contains("X-P0F-Link-Type: DSL\n") && !message.contains("BeOS"), "{message}");
    }
    assert_eq!(session(&room, "192.0.2.2"), Err(550));
    // Not known, and a bad query: mail goes on, with nobody's word in the header.
    for ip in ["2001:db8::2", "192.0.2.3"] {
        let message = session(&room, ip).unwrap();
        assert!(!message.contains("X-P0F"), "{message}");
    }
    let log = fs::read_to_string(room.path("log/stderr")).unwrap();
    assert!(log.contains("it says that our query is bad"), "{log}");
}

#[test]
fn a_socket_that_does_not_answer_costs_its_timeout() {
    let room = Room::new("ident/p0f {ROOM}/p0f.sock timeout 0.3\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    let _mute = UnixListener::bind(room.path("p0f.sock")).unwrap();
    let begun = Instant::now();
    session(&room, "192.0.2.1").unwrap();
    assert!((Duration::from_millis(300)..Duration::from_secs(10)).contains(&begun.elapsed()));
}

struct P0f(Child);

impl Drop for P0f {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn p0f_itself_knows_this_machine() {
    let (Some(program), true) = (common::require("p0f"), common::require_root()) else { return };
    let room = Room::new(CHAIN);
    let out = File::create(room.path("log/p0f")).unwrap();
    let child = Command::new(program)
        .args(["-i", "lo", "-s"])
        .arg(room.path("p0f.sock"))
        .arg("-o")
        .arg(room.path("log/p0f.log"))
        .arg("tcp")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .spawn()
        .unwrap();
    let mut p0f = P0f(child);
    let until = Instant::now() + Duration::from_secs(10);
    while !room.path("p0f.sock").exists() {
        if p0f.0.try_wait().unwrap().is_some() || Instant::now() > until {
            let said = fs::read_to_string(room.path("log/p0f")).unwrap();
            common::skip(&format!("p0f cannot listen here: {}", said.trim().lines().last().unwrap_or_default()));
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // It opens its socket before it listens.
    thread::sleep(Duration::from_millis(300));
    // What the launcher says is not the client's address here: a connection of this machine to itself, by IPv4.
    let (mut client, mut served) = Client::serve(&room, Log::File);
    client.expect(220);
    client.command("EHLO client.example", 250);
    // Time for p0f to read the first packet; then it is asked for the second time, if it had not seen it.
    thread::sleep(Duration::from_millis(500));
    client.command("MAIL FROM:<a@client.example>", 250);
    client.command("RCPT TO:<x@here.example>", 250);
    client.command("DATA", 354);
    client.command("From: <a@client.example>\r\n\r\nhello\r\n.", 250);
    client.command("QUIT", 221);
    client.closed();
    served.end(Duration::from_secs(10));
    let new = fs::read_dir(room.path("mail/new")).unwrap().next().unwrap().unwrap().path();
    let message = fs::read_to_string(&new).unwrap();
    fs::remove_file(new).unwrap();
    let log = fs::read_to_string(room.path("log/stderr")).unwrap();
    assert!(message.contains("X-P0F-Genre: Linux\n"), "{message}\n{log}");
    // An address that it never saw.
    let message = session(&room, "192.0.2.77").unwrap();
    assert!(!message.contains("X-P0F"), "{message}");
}
