//! Who beats whom: plays every cell of README's table of that name through the program, and prints what it saw.
//!
//! A row is who sends, a column what speaks against it; the cell is "taken", or the plugin that refuses. Rows and columns of a
//! plugin that postern does not have yet are printed and left out.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use common::play::{End, Play};
use common::room::Room;
use common::workers;
use postern::setup::{self, Found};
use regex_lite::Regex;

const IP: &str = "192.0.2.9";

/// Who sends, by README's words.
#[derive(Clone, Copy, Default)]
struct Who {
    name: &'static str,
    relaying: bool,
    /// The list that names it, of `whitelist`.
    whitelisted: Option<&'static str>,
    /// With a penalty of `karma`, which leaves the refusal to `naughty`.
    penalty: bool,
    bad_karma: bool,
    to_postmaster: bool,
}

const NOBODY: Who =
    Who { name: "", relaying: false, whitelisted: None, penalty: false, bad_karma: false, to_postmaster: false };

const WHO: &[Who] = &[
    Who { name: "a stranger", ..NOBODY },
    Who { name: "a relaying client", relaying: true, ..NOBODY },
    Who { name: "a whitelisted client", whitelisted: Some("whitelisthosts"), ..NOBODY },
    Who { name: "a whitelisted sender", whitelisted: Some("whitelistsenders"), ..NOBODY },
    Who { name: "a whitelisted recipient", whitelisted: Some("whitelistrcpt"), ..NOBODY },
    Who { name: "a naughty client", penalty: true, ..NOBODY },
    Who { name: "a client of bad karma", bad_karma: true, ..NOBODY },
    Who { name: "a naughty client that may relay", relaying: true, penalty: true, ..NOBODY },
    Who { name: "a naughty client, whitelisted", whitelisted: Some("whitelisthosts"), penalty: true, ..NOBODY },
    Who { name: "a stranger to our postmaster", to_postmaster: true, ..NOBODY },
    Who { name: "a naughty client to our postmaster", penalty: true, to_postmaster: true, ..NOBODY },
];

/// What speaks against it, by README's words.
const AGAINST: &[&str] = &["nothing", "earlytalker", "badmailfrom", "badrcptto", "not our domain", "greylisting"];

/// One cell: expected, and where it stands.
struct Cell {
    who: Who,
    against: &'static str,
    expected: String,
}

fn is_there(plugin: &str) -> bool {
    matches!(setup::find(plugin, &[]), Found::Entry(_))
}

#[test]
fn the_table_of_who_beats_whom_is_true() {
    let (cells, missing): (Vec<Cell>, Vec<Cell>) = cells().into_iter().partition(|cell| {
        (cell.who.whitelisted.is_none() || is_there("whitelist"))
            && (cell.against != "greylisting" || is_there("greylisting"))
    });
    let seen = workers::each(&cells, play);
    let mut faults = String::new();
    for (cell, (seen, log)) in cells.iter().zip(&seen) {
        let Cell { who, against, expected } = cell;
        println!("{:<36} {against:<16} expected {expected:<14} seen {seen}", who.name);
        if seen != expected {
            faults.push_str(&format!("{}, {against}: {seen}, not {expected}\n{log}\n", who.name));
        }
    }
    for cell in &missing {
        println!(
            "{:<36} {:<16} expected {:<14} its plugin is still to come",
            cell.who.name, cell.against, cell.expected
        );
    }
    if !missing.is_empty() {
        eprintln!("*** {} cells are not played: their plugins are still to come ***", missing.len());
    }
    assert!(cells.len() >= WHO.len(), "hardly anything is played");
    assert!(faults.is_empty(), "{faults}");
}

/// README's table, every row and column of it known here and the other way round.
fn cells() -> Vec<Cell> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## Who beats whom\n").nth(1).expect("README.md has a section Who beats whom");
    let section = section.split("\n## ").next().unwrap();
    let words =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|word| word.trim().to_owned()).collect() };
    let mut rows = section.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")).map(words);
    let head = rows.next().expect("the table has a head");
    assert_eq!(head[1..], *AGAINST, "the columns");
    let rows: Vec<Vec<String>> = rows.collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, WHO.iter().map(|who| who.name).collect::<Vec<_>>(), "the rows");
    let cells = WHO.iter().zip(&rows).flat_map(|(who, row)| {
        assert_eq!(row.len(), AGAINST.len() + 1, "{}", who.name);
        let cell =
            |(against, expected): (&&'static str, &String)| Cell { who: *who, against, expected: expected.clone() };
        AGAINST.iter().zip(&row[1..]).map(cell).collect::<Vec<_>>()
    });
    cells.collect()
}

/// What becomes of one message, and the log.
fn play(cell: &Cell) -> (String, String) {
    let Cell { who, against, .. } = cell;
    let with = |plugin: &str, when: bool| if when { format!("{plugin}\n") } else { String::new() };
    let room = Room::new(&format!(
        "relay\n{}karma\n{}badmailfrom\nnaughty\nbadrcptto\n{}rcpt_ok\nqueue/discard\n",
        with("whitelist", is_there("whitelist")),
        // What is piped in is early.
        with("earlytalker wait 2", *against == "earlytalker"),
        // At MAIL, where it rules otherwise, there is no recipient yet.
        with("greylisting per_recipient 1", *against == "greylisting"),
    ));
    let sender = if who.bad_karma { "a@client.bad.example" } else { "a@client.example" };
    let local_part = if who.to_postmaster { "postmaster" } else { "x" };
    let domain = if *against == "not our domain" { "far.example" } else { "here.example" };
    let recipient = format!("{local_part}@{domain}");
    room.config("karma_tlds", "bad.example:-5\n");
    if who.relaying {
        room.config("relayclients", &format!("{IP}\n"));
    }
    match *against {
        "badmailfrom" => room.config("badmailfrom", &format!("{sender}\n")),
        "badrcptto" => room.config("badrcptto", &format!("{recipient}\n")),
        _ => {}
    }
    if let Some(list) = who.whitelisted {
        let listed = match list {
            "whitelisthosts" => IP,
            "whitelistsenders" => sender,
            _ => &recipient,
        };
        room.config(list, &format!("{listed}\n"));
    }
    if who.penalty {
        punish(&room);
    }
    let dialog = format!(
        "EHLO client.example\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nFrom: <{sender}>\r\n\r\nhello\r\n.\r\n\
         QUIT\r\n"
    );
    let outcome = Play::new(&room).variable("TCPREMOTEIP", IP).run(dialog.as_bytes());
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    static REFUSED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\] refused .*? plugin=(\S+) ").unwrap());
    let seen = match (REFUSED.captures(&outcome.log), outcome.log.contains("] queued ")) {
        (Some(refused), false) => refused[1].to_owned(),
        (None, true) => String::from("taken"),
        (refused, queued) => format!("unclear: {refused:?}, queued: {queued}"),
    };
    (seen, outcome.log)
}

/// Gives the client a penalty that began now.
fn punish(room: &Room) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let entry = serde_json::json!({
        "space": "karma", "key": IP, "value": format!("{now}:1:0:1"), "expires_ms": 4_000_000_000_000_u64,
    });
    let mut command = Command::new(room.program());
    command.env_clear().envs(room.environment()).arg("--config").arg(room.path("config")).args(["store", "import"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{entry}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
