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

/// How `check` ends, and what it says.
fn check(room: &Room) -> (End, String) {
    let outcome = Play::new(room).argument("check").run(b"");
    let said = shown(&outcome, room).0;
    (outcome.end, said)
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
fn a_map_of_another_list_is_left_aside() {
    let room = room();
    let warning =
        "ROOM/config/aliases.cdb: aliases.cdb does not belong to aliases as it is now: run postern compile aliases";
    let warns = || check(&room).1.contains(warning);
    let codes = || [rcpt(&room, "pat@here.example"), rcpt(&room, "kim@here.example")];
    assert_eq!(compile(&room, &["aliases"]).end, End::Code(0));
    assert!(!warns());
    // As long as the one before.
    room.config("aliases", "# ours\nkim@here.example: kim@localhost\n");
    for hours in [0, 1, 2] {
        age(&room, "aliases", HOUR * hours);
        assert_eq!((codes(), warns()), (["550", "250"].map(str::to_owned), true), "{hours}");
    }
    assert_eq!(compile(&room, &["aliases"]).end, End::Code(0));
    assert!(!warns());
    // However old the map is itself, it was made of this list.
    age(&room, "aliases.cdb", HOUR * 9);
    assert_eq!((codes(), warns()), (["550", "250"].map(str::to_owned), false));
    // The same octets, touched: nobody can know, so the text counts.
    age(&room, "aliases", HOUR);
    assert!(warns());
}

#[test]
fn a_map_that_was_cut_short_is_a_fault_to_check() {
    let room = room();
    assert_eq!(compile(&room, &[]).end, End::Code(0));
    assert_eq!(check(&room).0, End::Code(0));
    for name in ["aliases.cdb", "morercpthosts.cdb"] {
        let path = room.path("config").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        let (end, said) = check(&room);
        assert_eq!(end, End::Code(100), "{said}");
        assert!(said.contains(&format!("error: ROOM/config/{name}: not a sound cdb file: ")), "{said}");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn long_lists_are_noted_and_no_fault() {
    let room = Room::new("badmailfrom\nbadrcptto\naliases\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    let list = |line: fn(u32) -> String| (0..10_000).map(line).collect::<String>();
    room.config("aliases", &list(|number| format!("a{number}@here.example: b@far.example\n")));
    room.config("rcpthosts", &list(|number| format!("h{number}.example\n")));
    room.config("badmailfrom", &list(|number| format!("@h{number}.example\n")));
    room.config("badrcptto", &list(|number| format!("@h{number}.example\n")));
    let (end, said) = check(&room);
    assert_eq!(end, End::Code(0), "{said}");
    for plugin in ["aliases: aliases", "rcpt_ok: rcpthosts", "badmailfrom: badmailfrom", "badrcptto: badrcptto"] {
        let told = |line: &str| line.starts_with("note: ") && line.contains(&format!(": {plugin} has 10000 lines, "));
        assert_eq!(said.lines().filter(|line| told(line)).count(), 1, "{plugin} in {said}");
    }
    // With a map there is nothing to advise.
    assert_eq!(compile(&room, &["aliases"]).end, End::Code(0));
    let said = check(&room).1;
    assert!(!said.contains("aliases has"), "{said}");
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
