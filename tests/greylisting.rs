//! The plugin greylisting as its users see it: time that passes, the tutorial's dialogs, hosts that share a store, many at once.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod common;
#[path = "common/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis;

use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::play::{End, Outcome, Play};
use common::room::Room;
use common::store::maildir;
use redis::Redis;

const CONTENT: &str = "From: <a@client.example>\n\nhello\n.\n";

/// A session of a client with this address.
fn session(room: &Room, ip: &str, lines: &str) -> Outcome {
    let outcome = Play::new(room).variable("TCPREMOTEIP", ip).run(lines.replace('\n', "\r\n").as_bytes());
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    outcome
}

/// The last code of each reply, greeting and EHLO left out.
fn codes(outcome: &Outcome) -> Vec<u16> {
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    let last = text.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
    last.skip(2).map(|line| line[..3].parse().unwrap()).collect()
}

/// What MAIL is answered.
fn mail(room: &Room, ip: &str) -> u16 {
    codes(&session(room, ip, "EHLO client.example\nMAIL FROM:<a@client.example>\nQUIT\n"))[0]
}

/// `postern WORDS`: its status and standard output.
fn run(room: &Room, words: &[&str], input: &str) -> (End, String) {
    let outcome = words.iter().fold(Play::new(room), |play, word| play.argument(word)).run(input.as_bytes());
    (outcome.end, String::from_utf8(outcome.output).unwrap())
}

/// What is remembered of 192.0.2.1, without its time.
fn entry(room: &Room) -> String {
    let (end, shown) = run(room, &["store", "show", "greylisting", "192.0.2.1", "--json"], "");
    assert_eq!(end, End::Code(0), "{shown}");
    let value = shown.split("\"value\":\"").nth(1).unwrap().split('"').next().unwrap();
    value.split_once(':').unwrap().1.to_owned()
}

/// Seconds since 1970, so many ago.
fn ago(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - seconds
}

/// Makes 192.0.2.1 one that came so many seconds ago.
fn came(room: &Room, seconds: u64, counts: &str) {
    let line = format!(
        "{{\"space\":\"greylisting\",\"key\":\"192.0.2.1\",\"value\":\"{}:{counts}\",\"expires_ms\":4000000000000}}\n",
        ago(seconds)
    );
    let (end, told) = run(room, &["store", "import", "--overwrite"], &line);
    assert!(end == End::Code(0) && told.starts_with("1 stored"), "{told}");
}

#[test]
fn a_key_of_several_values_is_shown_and_forgotten_as_the_manual_says() {
    let room = room("greylisting sender 1 recipient 1 black_timeout 0", "sqlite {ROOM}/tmp/store.db\n");
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plugins/greylisting.rs")).unwrap();
    let dialog = "EHLO far.example\nMAIL FROM:<A@far.example>\nRCPT TO:<x@here.example>\nRCPT TO:<x@here.example>\n";
    let (_, said) = run(&room, &["try", "-", "--remote-ip", "192.0.2.1", "--store", "real"], dialog);
    for (task, end) in [("show", End::Code(0)), ("forget", End::Code(0)), ("show", End::Code(100))] {
        let (_, rest) = manual.split_once(&format!("//! postern store {task} greylisting '")).unwrap();
        let key = rest.split('\'').next().unwrap();
        let (ended, told) = run(&room, &["store", task, "greylisting", key], "");
        assert_eq!(ended, end, "{task} {key}: {told}\n{said}");
        assert!(task != "show" || end != End::Code(0) || told.contains(":1:0:1 "), "{told}");
    }
}

fn room(chain: &str, store: &str) -> Room {
    let room = Room::new(&format!("{chain}\nrcpt_ok\nqueue/maildir {{ROOM}}/mail\n"));
    room.config("store", store);
    room
}

#[test]
fn time_passes() {
    const DAY: u64 = 86_400;
    let room = room("greylisting", "sqlite\n");
    assert_eq!((mail(&room, "192.0.2.1"), &*entry(&room)), (450, "1:0:0"));
    assert_eq!((mail(&room, "192.0.2.1"), &*entry(&room)), (450, "1:1:0"));
    // How long ago it came, and what was known; what it is told, and what is known then.
    let table = [
        (49 * 60, "1:1:0", 450, "1:2:0"),
        (51 * 60, "1:2:0", 250, "1:2:1"),
        (0, "1:2:1", 250, "1:2:2"),
        (35 * DAY, "1:2:2", 250, "1:2:3"),
        (36 * DAY, "1:2:3", 450, "2:0:0"),
    ];
    for (seconds, before, code, after) in table {
        came(&room, seconds, before);
        assert_eq!((mail(&room, "192.0.2.1"), &*entry(&room)), (code, after), "{seconds} s: {before}");
    }
    // Renewed: white lives on from its last visit.
    came(&room, 35 * DAY, "1:2:3");
    assert_eq!(mail(&room, "192.0.2.1"), 250);
    assert_eq!(mail(&room, "192.0.2.1"), 250);
    assert_eq!(entry(&room), "1:2:5");
    assert_eq!(mail(&room, "192.0.2.2"), 450);
}

#[test]
fn what_qpsmtpd_knew_counts() {
    let room = room("denysoft_greylist sender 1 recipient 1", "sqlite\n");
    let dump = format!(
        "VERSION=3\nformat=print\ntype=hash\nHEADER=END\n 3221225985:a@client.example:x@here.example\n {}:1:0:0\nDATA=END\n",
        ago(4000)
    );
    assert_eq!(run(&room, &["store", "import", "--from-qpsmtpd", "greylisting"], &dump).0, End::Code(0));
    let lines =
        "EHLO c.example\nMAIL FROM:<A@Client.Example>\nRCPT TO:<x@here.example>\nRCPT TO:<y@here.example>\nQUIT\n";
    assert_eq!(codes(&session(&room, "192.0.2.1", lines)), [250, 250, 450, 221]);
}

/// The tutorial's: greylisted at first, accepted after the black period, white later; and only who has the option.
#[test]
fn the_tutorials_dialogs() {
    let room = room("aliases\ngreylisting by_option 1 black_timeout 4", "sqlite\n");
    let aliases = "\
postmaster,abuse@,here.example: root@here.example
pat,pat.doe@here.example: pat@localhost (denysoft_greylist, spamassassin_reject_threshold=10)
kim@here.example: kim@localhost
";
    room.config("aliases", aliases);
    let to = |to: &str| format!("EHLO client.example\nMAIL FROM:<a@client.example>\nRCPT TO:<{to}@here.example>\n");
    let ask = |who: &str| session(&room, "192.0.2.1", &format!("{}QUIT\n", to(who)));
    let send = |who: &str| session(&room, "192.0.2.1", &format!("{}DATA\n{CONTENT}QUIT\n", to(who)));

    let first = ask("pat.doe");
    assert_eq!(codes(&first), [250, 450, 221]);
    let text = String::from_utf8_lossy(&first.output).into_owned();
    assert!(text.contains("450 4.7.1 This mail is temporarily denied ("), "{text}");
    assert!(first.log.contains("192.0.2.1: not seen before, denied for 4 s"), "{}", first.log);
    assert_eq!(codes(&ask("pat")), [250, 450, 221]);
    // Without the option nobody waits.
    assert_eq!(codes(&send("kim")), [250, 250, 354, 250, 221]);
    assert_eq!(codes(&ask("nobody")), [250, 550, 221]);
    assert_eq!(maildir(&room.path("mail")).len(), 1);

    thread::sleep(Duration::from_millis(5100));
    assert_eq!(codes(&send("pat")), [250, 250, 354, 250, 221]);
    assert_eq!(entry(&room), "1:1:1");
    assert_eq!(codes(&send("pat")), [250, 250, 354, 250, 221]);
    assert_eq!(entry(&room), "1:1:2");
    assert_eq!(maildir(&room.path("mail")).len(), 3);

    // What an administrator sees of it.
    let tried = |ip: &str| {
        let words = ["try", "-", "--remote-ip", ip, "--store", "real", "--verbose"];
        let (end, text) = run(&room, &words, &format!("{}QUIT\n", to("pat")));
        assert_eq!(end, End::Code(0), "{text}");
        text
    };
    let white = tried("192.0.2.1");
    assert!(white.contains("192.0.2.1: white, last seen ") && white.contains("aliases line 2"), "{white}");
    let new = tried("192.0.2.9");
    assert!(new.contains("192.0.2.9: not seen before, denied for 4 s") && new.contains("line 2"), "{new}");
}

/// A message for several, and one with the null sender.
#[test]
fn at_data_all_get_one_reply() {
    let room = room("greylisting", "sqlite\n");
    let lines = "EHLO client.example\nMAIL FROM:<>\nRCPT TO:<x@here.example>\nDATA\nQUIT\n";
    let outcome = session(&room, "192.0.2.1", lines);
    assert_eq!(codes(&outcome), [250, 250, 451, 221]);
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    assert!(text.contains("451 4.7.1 This mail is temporarily denied ("), "{text}");
    // A chunk is refused as well, and what it holds is no command.
    let lines = "EHLO client.example\nMAIL FROM:<>\nRCPT TO:<x@here.example>\nBDAT 6 LAST\nQUIT\nNOOP\nQUIT\n";
    assert_eq!(codes(&session(&room, "192.0.2.1", lines)), [250, 250, 451, 250, 221]);
    assert!(maildir(&room.path("mail")).is_empty());
}

#[test]
fn two_hosts_share_one_greylist() {
    let Some(mut redis) = Redis::start(&[]) else {
        return;
    };
    let line = format!("{} timeout 2\n", redis.line());
    let chain = "greylisting black_timeout 4";
    let (one, two) = (room(chain, &line), room(chain, &line));
    let strict = room("greylisting black_timeout 4 on_error defer", &line);
    assert_eq!((mail(&one, "192.0.2.1"), mail(&two, "192.0.2.2")), (450, 450));
    assert_eq!((mail(&two, "192.0.2.1"), mail(&one, "192.0.2.2")), (450, 450));
    thread::sleep(Duration::from_millis(5100));
    assert_eq!((mail(&two, "192.0.2.1"), mail(&one, "192.0.2.2")), (250, 250));
    assert_eq!((mail(&one, "192.0.2.1"), mail(&two, "192.0.2.2")), (250, 250));
    assert_eq!((mail(&one, "192.0.2.3"), &*entry(&two)), (450, "1:1:2"));

    redis.kill();
    let lines =
        format!("EHLO client.example\nMAIL FROM:<a@client.example>\nRCPT TO:<x@here.example>\nDATA\n{CONTENT}QUIT\n");
    let outcome = session(&one, "192.0.2.4", &lines);
    assert_eq!(codes(&outcome), [250, 250, 354, 250, 221]);
    assert!(outcome.log.contains("greylisting: error, at mail: store redis unix:"), "{}", outcome.log);
    assert_eq!(maildir(&one.path("mail")).len(), 1);
    assert_eq!(mail(&strict, "192.0.2.1"), 450);
}

/// Fifty at once are fifty, each counted once.
fn at_once(room: &Room) {
    let fifty = |code: u16| {
        thread::scope(|scope| {
            let all: Vec<_> = (0..50).map(|_| scope.spawn(|| mail(room, "192.0.2.1"))).collect();
            for one in all {
                assert_eq!(one.join().unwrap(), code);
            }
        });
    };
    fifty(450);
    assert_eq!(entry(room), "1:49:0");
    came(room, 4000, "1:49:0");
    fifty(250);
    assert_eq!(entry(room), "1:49:50");
}

#[test]
fn fifty_at_once_with_sqlite() {
    at_once(&room("greylisting", "sqlite timeout 30\n"));
}

#[test]
fn fifty_at_once_with_redis() {
    let Some(redis) = Redis::start(&[]) else {
        return;
    };
    at_once(&room("greylisting", &format!("{} timeout 20\n", redis.line())));
}

#[test]
fn check_names_what_is_of_old_and_what_is_wrong() {
    let room = room("denysoft_greylist db_dir /var/db redis 127.0.0.1 mode denysoft grey_timeout 3", "sqlite\n");
    room.config("greylist_exclude_files", "clients\n");
    room.config("clients", "192.0.2.1\n192.0.2.1/40\n");
    let (end, text) = run(&room, &["check"], "");
    assert_eq!(end, End::Code(100), "{text}");
    for part in [
        "config/store says where the greylist is",
        "grey_timeout is without effect",
        "mode is the old form of reject: here reject 1",
        "denysoft_greylist is the old name of greylisting",
        "clients line 2",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    room.config("clients", "192.0.2.1\n");
    let (end, text) = run(&room, &["check"], "");
    assert!(end == End::Code(0) && !text.contains("nobody reads"), "{text}");
    room.config("denysoft_greylist", "# ours\nblack_timeot 3\n");
    let (end, text) = run(&room, &["check"], "");
    assert!(end == End::Code(100) && text.contains("denysoft_greylist line 2"), "{text}");
}

/// `client_options` excepts hosts, as the tutorial's author did, and shortens the time for others.
#[test]
fn clients_with_settings_of_their_own() {
    let room = room("client_options\ngreylisting", "sqlite\n");
    room.config(
        "client_options",
        "192.0.2.0/28: greylisting/active=0\n198.51.100.1: denysoft_greylist/black_timeout=0, greylisting/sender=1\n",
    );
    assert_eq!(mail(&room, "192.0.2.5"), 250);
    assert_eq!(mail(&room, "192.0.2.16"), 450);
    assert_eq!((mail(&room, "198.51.100.1"), mail(&room, "198.51.100.1")), (450, 250));
    let (_, list) = run(&room, &["store", "list", "greylisting"], "");
    assert!(list.contains("198.51.100.1 a@client.example  ") && list.lines().count() == 2, "{list}");
}

/// `try` shows which line excepts a client by its name, and what it was asked.
#[test]
fn try_shows_who_is_excepted_and_why() {
    let room = room("greylisting", "sqlite\n");
    room.config("greylist_exclude_files", "clients\n");
    room.config("clients", "# slow ones\nfar.example\n/^mx\\d+\\.near\\.example$/\n");
    std::fs::write(
        room.path("tmp/zone"),
        "192.0.2.1 PTR mx7.near.example\nmx7.near.example A 192.0.2.1\n\
        192.0.2.2 PTR mail.far.example\nmail.far.example A 192.0.2.3\n3.2.0.192.in-addr.arpa SERVFAIL\n",
    )
    .unwrap();
    let zone = room.path("tmp/zone");
    let tried = |ip: &str| {
        let words = ["try", "-", "--verbose", "--remote-ip", ip, "--dns", zone.to_str().unwrap()];
        let (end, text) = run(&room, &words, "EHLO client.example\nMAIL FROM:<a@client.example>\nQUIT\n");
        assert_eq!(end, End::Code(0), "{text}");
        text
    };
    let table = [
        ("192.0.2.1", "clients line 3: /^mx\\d+\\.near\\.example$/"),
        // The name does not lead back.
        ("192.0.2.2", "192.0.2.2: not seen before, denied for 3000 s"),
        ("192.0.2.3", "its name is not known: "),
    ];
    for (ip, told) in table {
        let text = tried(ip);
        assert!(text.contains(told) && text.contains("config/plugins line 1"), "{told}: {text}");
        assert_eq!(text.contains("450 4.7.1 This mail is temporarily denied"), ip != "192.0.2.1", "{text}");
    }
}
