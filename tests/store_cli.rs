//! `postern store`: what an administrator sees of the store, moves from one to another and brings over from qpsmtpd; and what
//! `check` and `try` have to do with it.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;
#[path = "common/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use common::play::Play;
use common::room::Room;
use redis::Redis;

const GREYLISTED: &str = r#"{"space":"greylisting","key":"192.0.2.1","value":"1:1:0:0","expires_ms":4000000000000}
{"space":"greylisting","key":"192.0.2.200","value":"2:1:0:0","expires_ms":4000000000000}
{"space":"greylisting","key_hex":"ff1b","value_hex":"00ff","expires_ms":4000000000000}
{"space":"karma","key":"192.0.2.1","value":"0:1:2:3","expires_ms":4000000000001}
"#;

/// Status, standard output and standard error of `postern store WORDS`.
fn store(room: &Room, words: &[&str], input: &str) -> (i32, String, String) {
    run(room, &[&["store"], words].concat(), input)
}

fn run(room: &Room, words: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(room.program());
    command.env_clear().envs(room.environment()).arg("--config").arg(room.path("config")).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn room(line: &str) -> Room {
    let room = Room::with_maildir();
    room.config("store", line);
    room
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// The tasks, one after the other, on an empty store.
fn a_day(room: &Room, kind: &str) {
    let ok = |text: &str| (0, text.to_owned(), String::new());
    assert_eq!(store(room, &["list"], ""), ok(""));
    assert_eq!(store(room, &["import"], GREYLISTED), ok("4 stored, 0 were there already, 0 had ended\n"));
    assert_eq!(store(room, &["import", "-"], GREYLISTED), ok("0 stored, 4 were there already, 0 had ended\n"));
    assert_eq!(sorted(&store(room, &["export"], "").1), sorted(GREYLISTED));
    assert_eq!(sorted(&store(room, &["list", "--json"], "").1), sorted(GREYLISTED));
    let (_, list, _) = store(room, &["list", "greylisting", "192.0.2.1"], "");
    assert!(list.starts_with("greylisting 192.0.2.1  1:1:0:0  (ends in ") && list.lines().count() == 1, "{list}");
    let (_, list, _) = store(room, &["list", "greylisting"], "");
    assert!(list.contains("\\u{1b}") && !list.contains('\x1b') && list.lines().count() == 3, "{list}");
    let (_, shown, _) = store(room, &["show", "karma", "192.0.2.1"], "");
    assert!(shown.starts_with("karma 192.0.2.1  0:1:2:3  (ends in "), "{shown}");
    let none = (100, String::new(), "postern store: there is no entry karma 192.0.2\n".to_owned());
    assert_eq!(store(room, &["show", "karma", "192.0.2"], ""), none);
    assert_eq!(store(room, &["forget", "karma", "192.0.2"], ""), none);
    assert_eq!(store(room, &["forget", "karma", "192.0.2.1"], ""), ok("1 entry forgotten\n"));
    let (status, stats, _) = store(room, &["stats"], "");
    let counts = "\ngreylisting: 3 entries, 0 that have ended, 38 octets\n";
    assert!(status == 0 && stats.contains(kind) && stats.ends_with(counts), "{stats}");
    assert_eq!(store(room, &["forget", "greylisting", "--prefix", "192."], ""), ok("2 entries forgotten\n"));
    assert_eq!(store(room, &["expire"], ""), ok("0 entries cleared away\n"));
    assert_eq!(
        store(room, &["forget", "greylisting", "--prefix", "", "--json"], "").1.trim(),
        r#"{"event":"forgotten","entries":1}"#
    );
    let (status, _, text) = store(room, &["show", "Karma", "x"], "");
    assert!(status == 100 && text.contains("\"Karma\" is no space"), "{text}");
}

#[test]
fn a_day_with_sqlite() {
    a_day(&room("sqlite {ROOM}/tmp/store.db\n"), "SQLite, ");
}

#[test]
fn a_day_with_redis_and_a_move_to_it() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    let line = format!("{}\n", redis.line());
    a_day(&room(&line), "redis unix:");
    // What one host knew is known to all afterwards.
    let (from, to) = (room("sqlite\n"), room(&line));
    store(&from, &["import"], GREYLISTED);
    let (_, exported, _) = store(&from, &["export"], "");
    assert_eq!(store(&to, &["import"], &exported).0, 0);
    assert_eq!(sorted(&store(&to, &["export"], "").1), sorted(GREYLISTED));
}

#[test]
fn lines_that_are_none_are_named_and_passed_over() {
    let room = room("sqlite\n");
    let lines = [
        "nonsense",
        r#"{"space":"Karma","key":"a","value":"b","expires_ms":4000000000000}"#,
        r#"{"space":"karma","key":"a","key_hex":"61","value":"b","expires_ms":4000000000000}"#,
        r#"{"space":"karma","key":"a","value_hex":"6","expires_ms":4000000000000}"#,
        r#"{"space":"karma","key":"a","value":"b","expires_ms":-1}"#,
        r#"{"space":"karma","key":"a","value":"b","expires_ms":4000000000000,"more":1}"#,
        r#"{"space":"karma","key":"old","value":"b","expires_ms":1000}"#,
        "",
        r#"{"space":"karma","key":"good","value":"b","expires_ms":4000000000000}"#,
    ];
    let (status, out, err) = store(&room, &["import"], &lines.join("\n"));
    assert_eq!((status, &*out), (100, "1 stored, 0 were there already, 1 had ended\n"));
    for number in 1..=6 {
        assert!(err.contains(&format!("- line {number}: ")), "{number}: {err}");
    }
    assert!(err.ends_with("postern store: 6 lines could not be understood\n"), "{err}");
    let (status, _, err) = store(&room, &["import"], &"x".repeat(200_000));
    assert!(status == 100 && err.contains("line 1: too long"), "{err}");
    let good = r#"{"space":"karma","key":"good","value":"new","expires_ms":4000000000000}"#;
    assert!(store(&room, &["import", "--overwrite"], good).1.starts_with("1 stored"));
    assert!(store(&room, &["show", "karma", "good"], "").1.contains("  new  "));
}

/// A database as qpsmtpd's DB_File makes it, by Berkeley DB's own tools.
#[test]
fn a_greylist_of_qpsmtpd_is_brought_over() {
    let (Some(load), Some(dump)) = (common::require("db_load"), common::require("db_dump")) else {
        return;
    };
    let room = room("sqlite\n");
    let file = room.path("tmp/denysoft_greylist.dbm");
    let mut child = Command::new(load).args(["-T", "-t", "hash"]).arg(&file).stdin(Stdio::piped()).spawn().unwrap();
    let pairs = "3221225985\n4000000000:3:2:1\n3221225986:a@x.example\n1000:1:0:0\n3221225987\nbroken\n";
    child.stdin.take().unwrap().write_all(pairs.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    for printed in [&["-p"][..], &[]] {
        let out = Command::new(&dump).args(printed).arg(&file).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let (status, out, err) = store(&room, &["import", "--overwrite", "--from-qpsmtpd", "greylisting"], &text);
        assert_eq!((status, &*out), (100, "1 stored, 0 were there already, 1 had ended\n"));
        assert!(err.contains("\"broken\" is no value of qpsmtpd's") && err.contains("- line "), "{err}");
    }
    let (_, shown, _) = store(&room, &["list", "--json"], "");
    assert_eq!(
        shown.trim(),
        r#"{"space":"greylisting","key":"192.0.2.1","value":"4000000000:3:2:1","expires_ms":4003110400000}"#
    );
}

#[test]
fn faults_of_the_line_are_named_with_file_and_line() {
    let room = room("# here\nredis tcp:127.0.0.1 tiemout 3\n");
    let want = format!(
        "{}/store line 2: unknown setting \"tiemout\" (did you mean \"timeout\"?)",
        room.path("config").display()
    );
    let (status, out, _) = run(&room, &["check"], "");
    assert!(status == 100 && out.contains(&want), "{out}");
    let (status, _, err) = store(&room, &["stats"], "");
    assert!(status == 100 && err.contains(&want), "{err}");
    // A server that is not there.
    room.config("store", "redis unix:{ROOM}/none.sock\n");
    let (status, out, _) = run(&room, &["check"], "");
    assert!(status == 100 && out.contains("/none.sock: connecting: No such file"), "{out}");
    assert_eq!(store(&room, &["stats"], "").0, 111);
    // A file that is none.
    room.config("store", "sqlite {ROOM}/tmp/store.db\n");
    fs::write(room.path("tmp/store.db"), "not a database, but long enough to be looked at".repeat(30)).unwrap();
    let (status, out, _) = run(&room, &["check"], "");
    assert!(status == 100 && out.contains("tmp/store.db: no store: it is not a database of SQLite's"), "{out}");
    fs::remove_file(room.path("tmp/store.db")).unwrap();
    let (status, out, _) = run(&room, &["check"], "");
    assert!(status == 0 && !out.contains("store.db"), "{out}");
    assert!(!room.path("tmp/store.db").exists(), "a check makes no store");
}

#[test]
fn check_tries_the_default_store_if_a_plugin_needs_it() {
    let room = Room::with_maildir();
    let checked = |words: &[&str]| {
        let (status, out, _) = run(&room, words, "");
        (status, out.lines().filter(|line| line.contains("/store: ")).map(str::to_owned).collect::<Vec<_>>())
    };
    fs::create_dir(room.path("config/var")).unwrap();
    let file = room.path("config/var/store.db");
    fs::write(&file, "not a database, but long enough to be looked at".repeat(30)).unwrap();
    assert_eq!(checked(&["check"]), (0, vec![]), "nobody needs it");
    for plugin in ["greylisting", "denysoft_greylist", "karma reject 1", "limit errors 20/1h"] {
        room.config("plugins", &format!("{plugin}\nrcpt_ok\nqueue/maildir {{ROOM}}/mail\n"));
        let (status, told) = checked(&["check"]);
        assert!(status == 100 && told.len() == 1, "{plugin}: {told:?}");
        assert!(told[0].contains("/config/store: not there, so it is the default: store "), "{told:?}");
        assert!(told[0].contains("/var/store.db: no store: it is not a database of SQLite's"), "{told:?}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(checked(&["check"]), (0, vec![]));
    assert!(!file.exists(), "a check makes no store");
    if !common::require_root() {
        return;
    }
    // The serving user can make none there.
    fs::set_permissions(room.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let (status, told) = checked(&["check", "--user", "nobody"]);
    assert!(status == 100 && told.len() == 1 && told[0].contains("cannot be made in "), "{told:?}");
    fs::remove_dir(room.path("config/var")).unwrap();
    let (status, told) = checked(&["check", "--user", "nobody"]);
    assert!(status == 100 && told.len() == 1 && told[0].contains("cannot be made in "), "{told:?}");
}

#[test]
fn a_line_that_is_not_understood_keeps_from_serving() {
    let room = Room::new("greylisting\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    let dialog = b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nQUIT\r\n";
    let served = |line: &str| {
        room.config("store", line);
        let outcome = Play::new(&room).variable("TCPREMOTEIP", "192.0.2.1").run(dialog);
        (String::from_utf8(outcome.output).unwrap(), outcome.log)
    };
    let (said, log) = served("sqllite foo\n");
    assert!(said.starts_with("421 4.3.5 ") && said.lines().count() == 1, "{said}");
    assert!(log.contains("store line 1: \"sqllite\" is not sqlite or redis (did you mean \"sqlite\"?)"), "{log}");
    let (_, checked, _) = run(&room, &["check"], "");
    assert_eq!(checked.matches("sqllite").count(), 1, "told once: {checked}");
    // One that is not there is the plugin's own error, which is passed over.
    let (said, log) = served("redis unix:{ROOM}/none.sock\n");
    assert!(said.starts_with("220 ") && said.contains("sender ok"), "{said}");
    assert!(log.contains("greylisting: error, at mail: store redis unix:"), "{log}");
}

#[test]
fn a_try_by_root_leaves_a_store_that_the_serving_user_can_write() {
    if !common::require_root() {
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let tried = |user: Option<&str>, words: &[&str]| {
        let room = Room::new("greylisting\nrcpt_ok\nqueue/discard\n");
        fs::set_permissions(room.root(), fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(user) = user {
            room.config("user", &format!("{user}\n"));
        }
        std::os::unix::fs::chown(room.path("config"), Some(nobody.uid.as_raw()), None).unwrap();
        let dialog = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nQUIT\r\n";
        let words = [&["try", "-", "--store", "real", "--remote-ip", "192.0.2.1"], words].concat();
        let (status, said, err) = run(&room, &words, dialog);
        assert!(status == 0 && said.contains("450 4.7.1"), "{said}{err}");
        let made: Vec<_> = fs::read_dir(room.path("config/var")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(made.contains(&room.path("config/var/store.db")), "{made:?}");
        for path in made.iter().chain(&[room.path("config/var")]) {
            assert_eq!(fs::metadata(path).unwrap().uid(), nobody.uid.as_raw(), "{}", path.display());
        }
    };
    tried(Some("nobody"), &[]);
    // The directory's owner, where nobody says who serves.
    tried(None, &[]);
}
