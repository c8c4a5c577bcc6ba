//! `postern compile`: maps of long lists, from the list to the reply that a client gets by the map.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use common::play::{End, Outcome, Play};
use common::room::Room;

fn room() -> Room {
    let room = Room::new("aliases\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    room.config("aliases", "# ours\npat@here.example: pat@localhost\n");
    room.config("morercpthosts", "more.example\n.Sub.example\n");
    room
}

fn compile(room: &Room, names: &[&str]) -> Outcome {
    names.iter().fold(Play::new(room).argument("compile"), |play, name| play.argument(name)).run(b"")
}

/// Standard output, and what is said beside it, with ROOM for the room.
fn shown(outcome: &Outcome, room: &Room) -> (String, String) {
    let plain = |text: &str| text.replace(room.root().to_str().unwrap(), "ROOM");
    (plain(std::str::from_utf8(&outcome.output).unwrap()), plain(&outcome.log))
}

/// The code of the reply to RCPT with this address.
fn rcpt(room: &Room, address: &str) -> String {
    let input = format!("EHLO client.example\nMAIL FROM:<a@client.example>\nRCPT TO:<{address}>\nQUIT\n");
    let output = String::from_utf8(Play::new(room).run(input.as_bytes()).output).unwrap();
    let mut lines = output.lines().rev();
    assert!(lines.next().unwrap().starts_with("221"), "{output}");
    lines.next().unwrap().split(' ').next().unwrap().to_owned()
}

/// Makes a file this old.
fn age(room: &Room, name: &str, time: Duration) {
    let file = File::options().append(true).open(room.path("config").join(name)).unwrap();
    file.set_modified(SystemTime::now() - time).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn every_list_that_is_there_becomes_a_map_that_is_read() {
    let room = room();
    assert_eq!(rcpt(&room, "x@more.example"), "550", "the text alone of morercpthosts is not read");
    let outcome = compile(&room, &[]);
    assert_eq!(outcome.end, End::Code(0), "{outcome:?}");
    let said = "ROOM/config/aliases.cdb: 2 records\nROOM/config/morercpthosts.cdb: 2 records\n";
    assert_eq!(shown(&outcome, &room), (said.to_owned(), String::new()));
    // The maps alone have to do it now.
    fs::remove_file(room.path("config/aliases")).unwrap();
    fs::remove_file(room.path("config/morercpthosts")).unwrap();
    let table = [
        ("pat@here.example", "250"),
        ("kim@here.example", "550"),
        ("x@More.example", "250"),
        ("x@a.sub.example", "250"),
        ("x@sub.example", "550"),
        ("x@far.example", "550"),
    ];
    for (address, code) in table {
        assert_eq!(rcpt(&room, address), code, "{address}");
    }
}

#[test]
fn only_the_lists_that_are_named_and_with_their_rights() {
    let room = room();
    let list = room.path("config/aliases");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o640)).unwrap();
    let outcome = compile(&room, &["aliases"]);
    assert_eq!(outcome.end, End::Code(0), "{outcome:?}");
    assert!(!room.path("config/morercpthosts.cdb").exists());
    let map = fs::metadata(room.path("config/aliases.cdb")).unwrap();
    assert_eq!(map.permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_map_that_is_older_than_its_list_is_left_aside() {
    let room = room();
    assert_eq!(compile(&room, &["aliases"]).end, End::Code(0));
    room.config("aliases", "kim@here.example: kim@localhost\n");
    age(&room, "aliases.cdb", HOUR);
    assert_eq!([rcpt(&room, "pat@here.example"), rcpt(&room, "kim@here.example")], ["550", "250"]);
    // And the other way round the map counts, for it was made of the list.
    age(&room, "aliases", HOUR * 2);
    assert_eq!([rcpt(&room, "pat@here.example"), rcpt(&room, "kim@here.example")], ["250", "550"]);
}

#[test]
fn what_cannot_become_a_map_is_told() {
    let room = room();
    let outcome = compile(&room, &["rcpthosts"]);
    assert_eq!(outcome.end, End::Code(100), "{outcome:?}");
    let (output, log) = shown(&outcome, &room);
    assert_eq!(output, "");
    assert!(
        log.contains("postern compile: rcpthosts: no map is made of a list of that name, only of aliases, "),
        "{log}"
    );

    fs::remove_file(room.path("config/morercpthosts")).unwrap();
    let outcome = compile(&room, &["morercpthosts"]);
    assert_eq!(outcome.end, End::Code(100), "{outcome:?}");
    assert!(shown(&outcome, &room).1.contains("ROOM/config/morercpthosts: No such file"), "{outcome:?}");

    fs::remove_file(room.path("config/aliases")).unwrap();
    let outcome = compile(&room, &[]);
    assert_eq!(outcome.end, End::Code(100), "{outcome:?}");
    assert!(shown(&outcome, &room).1.contains("ROOM/config: there is none of aliases, "), "{outcome:?}");

    let outcome = Play::new(&room).argument("--config").argument("/nonexistent").argument("compile").run(b"");
    assert_ne!(outcome.end, End::Code(0), "{outcome:?}");
}

#[test]
fn a_wrong_line_is_named_and_the_old_map_stays() {
    let room = room();
    assert_eq!(compile(&room, &[]).end, End::Code(0));
    let before = fs::read(room.path("config/aliases.cdb")).unwrap();
    room.config("aliases", "pat@here.example: pat@localhost\nkim@here.example\n\nx@a..b: y\n");
    room.config("morercpthosts", "more.example\nnot a domain\n");
    let outcome = compile(&room, &[]);
    assert_eq!(outcome.end, End::Code(100), "{outcome:?}");
    let (output, log) = shown(&outcome, &room);
    assert_eq!(output, "");
    for place in ["ROOM/config/aliases line 2: ", "ROOM/config/aliases line 4: ", "ROOM/config/morercpthosts line 2: "]
    {
        assert!(log.contains(&format!("postern compile: {place}")), "{place} in {log}");
    }
    assert_eq!(log.lines().count(), 3, "{log}");
    assert_eq!(fs::read(room.path("config/aliases.cdb")).unwrap(), before);
    // One that is right is made beside one that is wrong.
    room.config("morercpthosts", "other.example\n");
    let outcome = compile(&room, &[]);
    assert_eq!(outcome.end, End::Code(100), "{outcome:?}");
    assert_eq!(shown(&outcome, &room).0, "ROOM/config/morercpthosts.cdb: 1 records\n");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_a_passing_trouble() {
    let room = room();
    room.open_to_all();
    fs::set_permissions(room.path("config"), fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere.
    let mut under: Vec<&str> = Vec::new();
    if nix::unistd::geteuid().is_root() {
        if common::require("setpriv").is_none() {
            return;
        }
        under.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let program = room.own_binary();
    let room = room.running(program);
    let outcome = Play::new(&room).under(under).argument("compile").argument("aliases").run(b"");
    fs::set_permissions(room.path("config"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(outcome.end, End::Code(111), "{outcome:?}");
    let (output, log) = shown(&outcome, &room);
    assert_eq!((output.as_str(), log.lines().count()), ("", 1), "{outcome:?}");
    assert!(log.contains("postern compile: ROOM/config/aliases.cdb: Permission denied"), "{log}");
    assert_eq!(
        common::store::names(&room.path("config")).iter().filter(|path| path.ends_with("aliases.cdb")).count(),
        0
    );
}
