//! The plugin karma over several sessions, with a real store: sessions that count, a penalty and its end, and a store that fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::client::{Client, Log};
use common::play::{End, Outcome, Play};
use common::room::Room;

const IP: &str = "192.0.2.9";
const GOOD: &str = "EHLO client.example\r\nMAIL FROM:<a@good.example>\r\nRCPT TO:<x@here.example>\r\nQUIT\r\n";
const NAUGHTY: &str = "EHLO client.example\r\nMAIL FROM:<a@bad.example>\r\nMAIL FROM:<b@bad.example>\r\n\
                       MAIL FROM:<c@bad.example>\r\nQUIT\r\n";

fn room(plugins: &str) -> Room {
    let room = Room::new(&format!("{plugins}\nbadmailfrom\nrcpt_ok\nqueue/discard\n"));
    room.config("badmailfrom", "@bad.example\n");
    room
}

/// A session of this client.
fn session(room: &Room, ip: &str, dialog: &str) -> Outcome {
    let outcome = Play::new(room).variable("TCPREMOTEIP", ip).run(dialog.as_bytes());
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    outcome
}

fn greeting(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.output).unwrap().lines().next().unwrap()
}

/// Standard output of `postern WORDS`.
fn postern(room: &Room, words: &[&str], input: &str) -> String {
    let mut command = Command::new(room.program());
    command.env_clear().envs(room.environment()).arg("--config").arg(room.path("config")).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

/// What the store has of a client: the record's fields.
fn stored(room: &Room) -> Vec<String> {
    let line = postern(room, &["store", "export"], "");
    let line: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((&line["space"], &line["key"]), (&"karma".into(), &IP.into()));
    line["value"].as_str().unwrap().splitn(5, ':').map(str::to_owned).collect()
}

/// Puts a record into the store's place.
fn remember(room: &Room, record: &str) {
    let line = serde_json::json!({"space": "karma", "key": IP, "value": record, "expires_ms": 4_000_000_000_000_u64});
    postern(room, &["store", "import", "--overwrite"], &format!("{line}\n"));
}

#[test]
fn three_naughty_sessions_lead_to_a_penalty_and_days_end_it() {
    let room = room("karma negative 3 penalty_days 2 reject 1");
    for count in 1..=3 {
        let outcome = session(&room, IP, NAUGHTY);
        assert!(greeting(&outcome).starts_with("220 "), "{}", outcome.log);
        // Why the score is what it is, in words.
        let reason = "badmailfrom -1: badmailfrom line 1: @bad.example";
        let words = format!("karma=\"-3 ({reason}, {reason}, {reason})");
        let history = if count > 1 { format!(", history -{}", count - 1) } else { String::new() };
        let line = outcome.log.lines().find(|line| line.contains("] connection ")).unwrap();
        assert!(line.contains(&format!("{words}{history}\"")), "{line}");
        assert_eq!(stored(&room)[1..4], [count.to_string(), "0".into(), count.to_string()]);
        assert!(stored(&room)[4].contains(reason));
    }
    let outcome = session(&room, IP, GOOD);
    let text = "You were naughty. You cannot connect for 2.00 more days.";
    assert!(greeting(&outcome).starts_with("554 ") && greeting(&outcome).contains(text), "{}", greeting(&outcome));
    let refused = outcome.log.lines().find(|line| line.contains("] refused ")).unwrap();
    assert!(refused.contains("history -3: 3 naughty, 0 nice, 3 counted; last: -3 (badmailfrom"), "{refused}");
    assert!(refused.contains(" karma=\"history -3\""), "{refused}");
    // Another client is not touched by it.
    assert!(greeting(&session(&room, "192.0.2.10", GOOD)).starts_with("220 "));
    // A day passes, then another.
    let record = stored(&room);
    let later = |days: u64| {
        let start: u64 = record[0].parse().unwrap();
        remember(&room, &format!("{}:3:0:3", start - days * 86_400));
        session(&room, IP, GOOD)
    };
    assert!(greeting(&later(1)).contains("cannot connect for 1.00 more days"));
    let outcome = later(2);
    assert!(greeting(&outcome).starts_with("220 "), "{}", outcome.log);
    assert!(outcome.log.contains(" karma=\"history -3\""), "{}", outcome.log);
    assert_eq!(stored(&room)[1..4], ["3", "0", "3"], "a session without opinion leaves the store as it is");
}

#[test]
fn left_to_naughty_the_client_is_refused_where_that_says() {
    let room = room("karma\nnaughty reject mail");
    assert!(greeting(&session(&room, IP, NAUGHTY)).starts_with("220 "));
    let outcome = session(&room, IP, GOOD);
    let replies = String::from_utf8(outcome.output).unwrap();
    assert!(replies.starts_with("220 ") && replies.contains("\n550 5.7.1 You were naughty."), "{replies}");
}

#[test]
fn a_client_with_settings_of_its_own_is_remembered_too() {
    let room = room("client_options\nkarma reject 0");
    room.config("client_options", &format!("{IP}: karma/reject=1, karma/penalty_days=4\n"));
    session(&room, IP, NAUGHTY);
    let outcome = session(&room, IP, GOOD);
    assert!(greeting(&outcome).contains("cannot connect for 4.00 more days"), "{}", outcome.log);
}

#[test]
fn a_session_without_opinion_makes_no_store() {
    let room = room("karma reject 1");
    session(&room, IP, GOOD);
    assert!(!room.path("config/var").exists());
}

#[test]
fn a_long_good_history_spares_the_wait_for_the_greeting() {
    let room = room("earlytalker wait 5\nkarma reject 1");
    // What is piped in is early.
    assert!(greeting(&session(&room, IP, GOOD)).starts_with("554 "));
    remember(&room, "0:0:12:12");
    let outcome = session(&room, IP, GOOD);
    assert!(greeting(&outcome).starts_with("220 "), "{}", outcome.log);
    assert!(outcome.log.contains(" karma=\"+1 (karma +1: history +12: 0 naughty, 12 nice, 12 counted), history +12\""));
    remember(&room, "0:0:5:5");
    assert!(greeting(&session(&room, IP, GOOD)).starts_with("554 "));
}

#[test]
fn a_store_that_hangs_costs_no_mail_and_not_for_long() {
    // Whoever connects waits for ever.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let room = room("karma budget 1 reject 1");
    room.config("store", &format!("redis tcp:{} timeout 60\n", silent.local_addr().unwrap()));
    let (mut client, mut served) = Client::serve(&room, Log::File);
    let begun = Instant::now();
    client.expect(220);
    client.command("EHLO client.example", 250);
    for sender in ["a", "b", "c"] {
        client.command(&format!("MAIL FROM:<{sender}@bad.example>"), 550);
    }
    client.command("MAIL FROM:<a@good.example>", 250);
    client.command("RCPT TO:<x@here.example>", 250);
    client.command("QUIT", 221);
    // The client has its last word before the store is tried again.
    client.closed();
    assert_eq!(served.end(Duration::from_secs(10)), End::Code(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let log = std::fs::read_to_string(room.path("log/stderr")).unwrap();
    assert!(
        log.contains("karma: error, at pre_connection: store ") && log.contains("karma: error, at disconnect: store ")
    );
}

#[test]
fn check_names_what_would_not_work() {
    let room = room("karma db_dir /var/lib/qpsmtpd/karma nfslock 1");
    room.config("karma_tlds", "info:-4\ninfo\n");
    let outcome = Play::new(&room).argument("check").run(b"");
    let text = String::from_utf8(outcome.output).unwrap();
    assert!(text.contains("plugins line 1: karma: reject: is naughty unless told otherwise"), "{text}");
    room.config("plugins", "karma db_dir /var/lib/qpsmtpd/karma nfslock 1\nnaughty\nrcpt_ok\nqueue/discard\n");
    let outcome = Play::new(&room).argument("check").run(b"");
    let text = String::from_utf8(outcome.output).unwrap();
    for told in
        ["karma_tlds line 2: karma: \"info\": write DOMAIN:POINTS", "note: ", "nfslock is qpsmtpd's and without"]
    {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
