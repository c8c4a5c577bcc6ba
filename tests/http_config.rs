//! http_config at a web server of others: Python's.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::play::{Outcome, Play};
use common::room::Room;

/// A web server over a directory.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// `None`: there is no Python here.
    fn start(dir: &Path) -> Option<Self> {
        let mut child = Command::new(common::require("python3")?)
            .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(dir)
            .arg("0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...
        let url = line.split(['(', ')']).nth(1).unwrap_or_else(|| panic!("{line}")).to_owned();
        Some(Self { child, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn room(line: &str) -> Room {
    let room = Room::new(&format!("{line}\nrcpt_ok\nqueue/discard\n"));
    room.config("databytes", "100\n");
    fs::create_dir(room.path("www")).unwrap();
    room
}

fn play(room: &Room) -> (Outcome, String) {
    let outcome = Play::new(room).limit(Duration::from_secs(60)).run(b"EHLO client.example\r\nQUIT\r\n");
    let replies = String::from_utf8_lossy(&outcome.output).into_owned();
    (outcome, replies)
}

#[test]
fn the_servers_settings_stand_instead_of_the_files() {
    let room = room("");
    let Some(server) = Server::start(&room.path("www")) else { return };
    fs::write(room.path("www/me"), "# of all hosts\nmx7.example\n").unwrap();
    fs::write(room.path("www/recipients_max"), "\n").unwrap();
    let chain = |words: &str| room.config("plugins", &format!("http_config {words}\nrcpt_ok\nqueue/discard\n"));

    chain(&server.url);
    let (outcome, replies) = play(&room);
    assert!(replies.starts_with("220 mx7.example ESMTP"), "{replies}\n{}", outcome.log);
    assert!(replies.contains("SIZE 100\r\n"), "not there, so the file counts: {replies}");

    fs::write(room.path("www/databytes"), "2000\n").unwrap();
    let (_, replies) = play(&room);
    assert!(replies.contains("SIZE 2000\r\n"), "{replies}");

    chain(&format!("{} names databytes", server.url));
    let (_, replies) = play(&room);
    assert!(replies.starts_with("220 mx.example ESMTP") && replies.contains("SIZE 2000\r\n"), "{replies}");

    // What the core does not understand is a fault wherever it came from.
    fs::write(room.path("www/databytes"), "many\n").unwrap();
    let (outcome, replies) = play(&room);
    assert!(replies.starts_with("421 ") && outcome.log.contains("databytes"), "{replies}\n{}", outcome.log);

    // The first of two is down.
    fs::write(room.path("www/databytes"), "3000\n").unwrap();
    chain(&format!("http://127.0.0.1:1/ {}", server.url));
    let (outcome, replies) = play(&room);
    assert!(replies.starts_with("421 ") && outcome.log.contains("http://127.0.0.1:1/"), "{replies}\n{}", outcome.log);
    chain(&format!("http://127.0.0.1:1/ {} names databytes", server.url));
    let (_, replies) = play(&room);
    assert!(replies.contains("SIZE 3000\r\n"), "{replies}");
}

#[test]
fn a_server_that_is_down_defers_or_leaves_it_to_the_files() {
    let room = room("http_config http://127.0.0.1:1/");
    let (outcome, replies) = play(&room);
    assert!(
        replies.starts_with("421 ") && outcome.log.contains("http://127.0.0.1:1/me: "),
        "{replies}\n{}",
        outcome.log
    );
    room.config("plugins", "http_config http://127.0.0.1:1/ on_error decline\nrcpt_ok\nqueue/discard\n");
    let (outcome, replies) = play(&room);
    assert!(replies.starts_with("220 mx.example ESMTP") && replies.contains("SIZE 100\r\n"), "{replies}");
    assert!(outcome.log.contains("http_config: error, at config: me: http://127.0.0.1:1/me: "), "{}", outcome.log);
}
