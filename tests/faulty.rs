//! Plugins that fail in every way at every hook: a refusal for now, nothing accepted, nothing half-changed, and the session
//! goes on where it can. All of it also under a real xinetd, where descriptor 2 is the client too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::client::{Client, Log};
use common::launch::Launcher;
use common::play::End;
use common::replies::Reply;
use common::room::Room;
use common::{store, workers};

/// What the client says, and the replies where nothing fails. The first is the greeting, the last but one that to content.
const STEPS: [(&str, u16); 15] = [
    ("", 220),
    ("NOOP", 250),
    ("HELP", 214),
    ("VRFY x", 252),
    ("XYZZY", 500),
    ("HELO client.example", 250),
    ("EHLO client.example", 250),
    ("MAIL FROM:<a@client.example>", 250),
    ("RCPT TO:<x@here.example>", 250),
    ("RCPT TO:<x@far.example>", 550),
    ("DATA", 354),
    (".", 250),
    ("RSET", 250),
    ("NOOP", 250),
    ("QUIT", 221),
];
const CONTENT: &str = "Subject: faulty\r\n\r\nx\r\n.";

/// Not said at all, for the command before it was refused or the connection was closed.
const UNSAID: u16 = 0;

/// A hook, and what the replies are where it fails instead of those above: for trouble, for a denial.
struct Row {
    hook: &'static str,
    trouble: &'static [(&'static str, u16)],
    denial: &'static [(&'static str, u16)],
}

const fn row(hook: &'static str, trouble: &'static [(&str, u16)], denial: &'static [(&str, u16)]) -> Row {
    Row { hook, trouble, denial }
}

const NOTHING: &[(&str, u16)] = &[];
const WELCOME: &[(&str, u16)] = &[
    ("", 554),
    ("NOOP", 503),
    ("HELP", 503),
    ("VRFY", 503),
    ("XYZZY", 503),
    ("HELO", 503),
    ("EHLO", 503),
    ("MAIL", 503),
    ("RCPT", 503),
    // The tenth command after the refusal ends it.
    ("DATA", 503),
    (".", UNSAID),
    ("RSET", 421),
];
const MAIL_450: &[(&str, u16)] = &[("MAIL", 450), ("RCPT", 503), ("DATA", 503), (".", UNSAID)];
const MAIL_550: &[(&str, u16)] = &[("MAIL", 550), ("RCPT", 503), ("DATA", 503), (".", UNSAID)];
const RCPT_450: &[(&str, u16)] = &[("RCPT", 450), ("DATA", 554), (".", UNSAID)];
const RCPT_550: &[(&str, u16)] = &[("RCPT", 550), ("DATA", 554), (".", UNSAID)];

const ROWS: &[Row] = &[
    row("pre_connection", &[("", 421)], WELCOME),
    row("connect", &[("", 421)], WELCOME),
    row("noop", NOTHING, NOTHING),
    row("help", &[("HELP", 450)], &[("HELP", 502)]),
    row("vrfy", &[("VRFY", 450)], &[("VRFY", 550)]),
    row("unrecognized_command", &[("XYZZY", 450)], &[("XYZZY", 500)]),
    row("helo_parse", &[("HELO", 450)], &[("HELO", 550)]),
    row("helo", &[("HELO", 450)], &[("HELO", 550)]),
    // HELO was taken, and a refused EHLO leaves that as it is.
    row("ehlo_parse", &[("EHLO", 450)], &[("EHLO", 550)]),
    row("ehlo", &[("EHLO", 450)], &[("EHLO", 550)]),
    row("mail_parse", MAIL_450, MAIL_550),
    row("mail_pre", MAIL_450, MAIL_550),
    row("mail", MAIL_450, MAIL_550),
    row("rcpt_parse", RCPT_450, RCPT_550),
    row("rcpt_pre", RCPT_450, RCPT_550),
    row("rcpt", RCPT_450, RCPT_550),
    row("data", &[("DATA", 451), (".", UNSAID)], &[("DATA", 554), (".", UNSAID)]),
    row("data_headers_end", &[(".", 451)], &[(".", 554)]),
    row("data_post_headers", &[(".", 451)], &[(".", 554)]),
    // A field is no reason to refuse a message for ever.
    row("received_line", &[(".", 451)], NOTHING),
    row("data_post", &[(".", 451)], &[(".", 554)]),
    row("queue_pre", &[(".", 451)], &[(".", 554)]),
    row("queue", &[(".", 451)], &[(".", 554)]),
    row("quit", NOTHING, NOTHING),
];

/// Hooks whose answer would be ignored.
const TOLD: &[&str] = &["queue_post", "deny", "reset_transaction", "disconnect", "post_connection"];

/// A chain with the failing plugin before all others.
fn chain(hook: &str, how: &str, more: &str) -> String {
    format!("faulty at {hook} how {how} budget 1 {more}\nrcpt_ok\nqueue/maildir {{ROOM}}/mail\n")
}

fn room() -> Room {
    let room = Room::with_maildir().running(common::example("faulty"));
    room.config("size_threshold", "0\n");
    room
}

/// The replies to all of `STEPS`, as far as the server goes along; what is unsaid is `None`.
fn converse(client: &mut Client) -> Vec<Option<Reply>> {
    let mut said: Vec<Option<Reply>> = Vec::new();
    let mut closed = false;
    for (line, _) in STEPS {
        let wanted = line != "." || said.last().unwrap().as_ref().is_some_and(|reply| reply.code == 354);
        if closed || !wanted {
            said.push(None);
            continue;
        }
        match line {
            "" => {}
            "." => client.send(format!("{CONTENT}\r\n").as_bytes()),
            _ => client.send(format!("{line}\r\n").as_bytes()),
        }
        let reply = client.reply_or_end();
        // A refusal that closes is known by what follows it.
        closed = reply.as_ref().is_none_or(|reply| matches!(reply.code, 421 | 221));
        said.push(reply);
    }
    if closed {
        client.closed();
    }
    said
}

fn codes(said: &[Option<Reply>]) -> Vec<u16> {
    said.iter().map(|reply| reply.as_ref().map_or(UNSAID, |reply| reply.code)).collect()
}

/// The codes of `STEPS` with these put in, and nothing said after a 421.
fn expected(instead: &[(&str, u16)]) -> Vec<u16> {
    let mut closed = false;
    let code = |(line, usual): (&str, u16)| {
        let verb = line.split(' ').next().unwrap();
        let code = instead.iter().find(|(instead, _)| *instead == verb).map_or(usual, |(_, code)| *code);
        let code = if closed { UNSAID } else { code };
        closed |= code == 421;
        code
    };
    STEPS.into_iter().map(code).collect()
}

/// Where the first of these replies stands.
fn first_failure(instead: &[(&str, u16)]) -> Option<usize> {
    let usual = expected(&[]);
    expected(instead).iter().zip(usual).position(|(code, usual)| *code != usual)
}

/// A 250 to content, and only that, means a message stored.
fn stored_as_said(said: &[Option<Reply>], messages: usize, what: &str) {
    let accepted = codes(said)[11] == 250;
    assert_eq!(messages, usize::from(accepted), "{what}: {said:?}");
}

/// Plays one room's configuration directly; its replies and its log.
fn direct(room: &Room, what: &str) -> (Vec<Option<Reply>>, String) {
    let (mut client, mut served) = Client::serve(room, Log::File);
    let said = converse(&mut client);
    drop(client);
    assert_eq!(served.end(Duration::from_secs(10)), End::Code(0), "{what}");
    assert!(room.left_behind().is_empty(), "{what}: {:?}", room.left_behind());
    stored_as_said(&said, store::maildir(&room.path("mail")).len(), what);
    (said, fs::read_to_string(room.path("log/stderr")).unwrap())
}

/// A refusal that names the plugin and tells nothing of what happened in it.
fn is_deferral(reply: &Reply) -> bool {
    let text = reply.lines.concat();
    reply.class() == 4 && text.starts_with("4.3.0 faulty cannot rule on this now, try again later (")
}

/// What is said after trouble of this kind at this hook.
fn check_trouble(row: &Row, how: &str, said: &[Option<Reply>], what: &str) {
    let wanted = expected(row.trouble);
    let found = codes(said);
    let failure = first_failure(row.trouble);
    if how == "panic" {
        // Not asked again: whatever it would be asked from then on is refused for now.
        let upto = failure.map_or(0, |at| at + 1);
        assert_eq!(found[..upto], wanted[..upto], "{what}: {said:?}");
        assert!(failure.is_none() || found[11] != 250, "{what}: accepted after a panic: {said:?}");
        assert!(found.last() == wanted.last(), "{what}: {said:?}");
    } else {
        assert_eq!(found, wanted, "{what}: {said:?}");
    }
    if let Some(at) = failure {
        assert!(is_deferral(said[at].as_ref().unwrap()), "{what}: {said:?}");
    }
}

const TROUBLES: [&str; 5] = ["panic", "error", "slow", "half", "nonsense"];

#[test]
fn trouble_at_any_hook_defers_and_accepts_nothing() {
    let cases: Vec<_> = TROUBLES.iter().flat_map(|how| ROWS.iter().map(move |row| (*how, row))).collect();
    workers::each(&cases, |(how, row)| {
        let what = format!("{how} at {}", row.hook);
        let room = room();
        room.config("plugins", &chain(row.hook, how, ""));
        let (said, log) = direct(&room, &what);
        check_trouble(row, how, &said, &what);
        assert!(log.contains(&format!("faulty: error, at {}: ", row.hook)), "{what}: {log}");
        assert_eq!(log.contains("panicked at"), *how == "panic", "{what}: {log}");
        if let Some(at) = first_failure(row.trouble) {
            let code = said[at].as_ref().unwrap().code;
            let plugin = format!("hook={} plugin=faulty", row.hook);
            let mut refusals = log.lines().filter(|line| line.contains("] refused "));
            let told = refusals.find(|line| line.contains(&plugin)).unwrap_or_else(|| panic!("{what}: {log}"));
            assert!(told.contains(&format!("reply=\"{code} 4.3.0 ")), "{what}: {told}");
        }
    });
}

/// Of a ruling that fits the hook only in part nothing is done, above all no relaying granted.
#[test]
fn on_error_decline_goes_on_as_if_the_plugin_had_no_opinion() {
    let cases: Vec<_> = TROUBLES.iter().flat_map(|how| ROWS.iter().map(move |row| (*how, row.hook))).collect();
    workers::each(&cases, |(how, hook)| {
        let what = format!("{how} at {hook}, on_error decline");
        let room = room();
        room.config("plugins", &chain(hook, how, "on_error decline"));
        let (said, log) = direct(&room, &what);
        assert_eq!(codes(&said), expected(&[]), "{what}: {said:?}");
        assert!(log.contains(&format!("faulty: error, at {hook}: ")), "{what}: {log}");
        assert!(!log.contains("relaying="), "{what}: {log}");
        let offers = &said[6].as_ref().unwrap().lines;
        assert!(!offers.iter().any(|line| line == "HALF"), "{what}: {offers:?}");
    });
}

#[test]
fn a_denial_has_the_code_of_its_hook() {
    workers::each(ROWS, |row| {
        let what = format!("deny at {}", row.hook);
        let room = room();
        room.config("plugins", &chain(row.hook, "deny", ""));
        let (said, log) = direct(&room, &what);
        assert_eq!(codes(&said), expected(row.denial), "{what}: {said:?}");
        let refusals = log.lines().filter(|line| line.contains("] refused ") && line.contains("plugin=faulty")).count();
        let wanted = match row.hook {
            _ if row.denial.is_empty() => 0,
            "rcpt" | "rcpt_parse" | "rcpt_pre" => 2,
            _ => 1,
        };
        assert_eq!(refusals, wanted, "{what}: {log}");
    });
}

#[test]
fn a_denial_that_disconnects_is_the_last_word() {
    workers::each(ROWS, |row| {
        let what = format!("hang_up at {}", row.hook);
        let room = room();
        room.config("plugins", &chain(row.hook, "hang_up", ""));
        let (said, _) = direct(&room, &what);
        let wanted = match row.hook {
            "noop" => vec![220, 550],
            "unrecognized_command" => vec![220, 250, 214, 252, 500],
            "quit" | "received_line" => expected(&[]),
            // Greeted with 554, and nothing is heard any more.
            "pre_connection" | "connect" => vec![554],
            _ => {
                let mut wanted = expected(row.denial);
                wanted.truncate(first_failure(row.denial).unwrap() + 1);
                wanted
            }
        };
        let mut found = codes(&said);
        found.truncate(wanted.len());
        assert_eq!(found, wanted, "{what}: {said:?}");
        assert!(codes(&said)[wanted.len()..].iter().all(|code| *code == UNSAID), "{what}: {said:?}");
    });
}

#[test]
fn observed_a_denial_is_recorded_and_withheld() {
    workers::each(ROWS, |row| {
        let what = format!("deny at {}, observe 1", row.hook);
        let room = room();
        room.config("plugins", &chain(row.hook, "deny", "observe 1"));
        let (said, log) = direct(&room, &what);
        assert_eq!(codes(&said), expected(&[]), "{what}: {said:?}");
        let told = format!("faulty: fail, tolerated, would have refused ({}, config/plugins line 1, ", row.hook);
        assert!(log.contains(&told), "{what}: {log}");
    });
}

#[test]
fn hooks_that_only_listen_disturb_nothing() {
    let cases: Vec<_> = ["panic", "slow"].iter().flat_map(|how| TOLD.iter().map(move |hook| (*how, *hook))).collect();
    workers::each(&cases, |(how, hook)| {
        let what = format!("{how} at {hook}");
        let room = room();
        room.config("plugins", &chain(hook, how, "on_error decline"));
        let (said, log) = direct(&room, &what);
        assert_eq!(codes(&said), expected(&[]), "{what}: {said:?}");
        assert!(log.contains("] connection "), "{what}: {log}");
    });
}

/// RFC 5321 §4.5.1.
#[test]
fn the_postmaster_is_reached_whatever_a_plugin_says_at_rcpt() {
    for how in ["deny", "hang_up", "error", "panic", "nonsense", "half"] {
        let room = room();
        room.config("plugins", &chain("rcpt", how, ""));
        let (mut client, mut served) = Client::serve(&room, Log::File);
        let ours = ["postmaster", "Postmaster@here.example", "postmaster@mx.example"];
        if how == "panic" {
            client.open("a@client.example", &ours[..1]);
            // It would be asked at DATA too.
            client.command("DATA", 451);
        } else {
            client.open("a@client.example", &ours);
            client.command("DATA", 354);
            client.send(format!("{CONTENT}\r\n").as_bytes());
            client.expect(250);
            assert_eq!(store::maildir(&room.path("mail")).len(), 1, "{how}");
            client.command("MAIL FROM:<>", 250);
        }
        let far = if how == "panic" {
            503
        } else if ["deny", "hang_up"].contains(&how) {
            550
        } else {
            450
        };
        client.command("RCPT TO:<postmaster@far.example>", far);
        drop(client);
        assert_eq!(served.end(Duration::from_secs(5)), End::Code(0), "{how}");
    }
}

/// Where a hook comes after the reply, the reply counts all the same.
#[test]
fn refused_messages_are_errors() {
    let room = room();
    room.config("plugins", &chain("data_post", "deny", ""));
    room.config("errors_max", "2\n");
    let (mut client, _served) = Client::serve(&room, Log::File);
    client.expect(220);
    client.command("EHLO client.example", 250);
    for _ in 0..2 {
        client.command("MAIL FROM:<a@client.example>", 250);
        client.command("RCPT TO:<x@here.example>", 250);
        client.command("DATA", 354);
        client.send(format!("{CONTENT}\r\n").as_bytes());
        client.expect(554);
    }
    client.expect(421);
    client.closed();
}

/// What a filter could not judge does not get past it by being sent again.
#[test]
fn a_plugin_that_panicked_keeps_refusing() {
    let room = room();
    room.config("plugins", &chain("data_post", "panic", ""));
    let (mut client, _served) = Client::serve(&room, Log::File);
    client.open("a@client.example", &["x@here.example"]);
    client.command("DATA", 354);
    client.send(format!("{CONTENT}\r\n").as_bytes());
    client.expect(451);
    for line in ["MAIL FROM:<a@client.example>", "EHLO client.example", "VRFY x"] {
        assert!(is_deferral(&client.command(line, 450)), "{}", client.transcript());
    }
    client.command("QUIT", 221);
    client.closed();
    assert!(store::maildir(&room.path("mail")).is_empty());
}

/// Outside of the world's calls nothing can be stopped but the process.
#[test]
fn a_plugin_that_does_not_come_back_ends_the_process() {
    workers::each(&["connect", "rcpt", "data_post", "disconnect"], |hook| {
        let room = room();
        room.config("plugins", &chain(hook, "stuck", ""));
        let (mut client, mut served) = Client::serve(&room, Log::File);
        let begun = Instant::now();
        let said = converse(&mut client);
        let last = said.iter().flatten().next_back().unwrap();
        let word = if *hook == "disconnect" { 221 } else { 421 };
        assert_eq!(last.code, word, "{hook}: {said:?}");
        // The client holds its end open: nobody waits for that.
        assert_eq!(served.end(Duration::from_secs(10)), End::Code(111), "{hook}");
        assert!(begun.elapsed() < Duration::from_secs(9), "{hook}: {:?}", begun.elapsed());
        assert!(room.left_behind().is_empty(), "{hook}");
        stored_as_said(&said, store::maildir(&room.path("mail")).len(), hook);
    });
}

/// Whatever is said to descriptor 2 there goes to the client, so each line that arrives must be a reply.
#[test]
fn under_xinetd_nothing_but_replies_reaches_the_client() {
    if !Launcher::Xinetd.available() {
        return;
    }
    let hows = ["panic", "error", "half", "nonsense", "deny", "slow", "stuck"];
    workers::each(&hows, |how| {
        let room = room();
        let server = Launcher::Xinetd.start(&room, &[]);
        let mut stored = 0;
        let rows = ROWS.iter().filter(|row| match *how {
            "slow" => ["connect", "mail", "data_post"].contains(&row.hook),
            "stuck" => row.hook == "queue_pre",
            _ => true,
        });
        for row in rows {
            let what = format!("xinetd: {how} at {}", row.hook);
            // Read anew for each connection.
            room.config("plugins", &chain(row.hook, how, ""));
            let mut client = Client::connect(server.port);
            let said = converse(&mut client);
            let now = store::maildir(&room.path("mail")).len();
            match *how {
                "deny" => assert_eq!(codes(&said), expected(row.denial), "{what}: {said:?}"),
                "stuck" => assert_eq!(codes(&said), expected(&[(".", 421)]), "{what}: {said:?}"),
                _ => check_trouble(row, how, &said, &what),
            }
            stored_as_said(&said, now - stored, &what);
            stored = now;
        }
    });
}

/// Files of the configuration, and which replies they lead to instead of the usual ones.
const BROKEN: &[(&str, &str, &[(&str, u16)])] = &[
    ("plugins", "rcpt_ok\nno_such_plugin\n", &[("", 421)]),
    ("plugins", "rcpt_ok\nqueue/maildir\n", &[("", 421)]),
    ("plugins", "rcpt_ok what is this\n", &[("", 421)]),
    ("plugins", "rcpt_ok\r250 ok\n", &[("", 421)]),
    ("plugins", "faulty at rcpt how deny budget 0\n", &[("", 421)]),
    ("plugins", "$include nothing_there\n", &[("", 421)]),
    ("databytes", "10M\n", &[("", 421)]),
    ("timeout", "\r\n250 ok\n", &[("", 421)]),
    ("me", "two words\n", &[("", 421)]),
    ("size_threshold", "-1\n", &[("", 421)]),
    // A list is read when it is first asked.
    ("rcpthosts/unreadable", "", &[("RCPT", 450), ("DATA", 554), (".", UNSAID)]),
    ("spool_dir", "/nonexistent\n", &[(".", 451)]),
];

#[test]
fn under_xinetd_a_broken_configuration_makes_mail_wait() {
    if !Launcher::Xinetd.available() {
        return;
    }
    let room = room();
    let server = Launcher::Xinetd.start(&room, &[]);
    let usual = |name: &str| fs::read_to_string(room.path("config").join(name)).ok();
    for (name, text, instead) in BROKEN {
        let what = format!("{name} {text:?}");
        let file = name.split('/').next().unwrap();
        let before = usual(file);
        if name.contains('/') {
            fs::remove_file(room.path("config").join(file)).unwrap();
        }
        room.config(name, text);
        let mut client = Client::connect(server.port);
        let said = converse(&mut client);
        assert_eq!(codes(&said), expected(instead), "{what}: {said:?}");
        let greeting = said[0].as_ref().unwrap();
        if greeting.code == 421 {
            assert_eq!(greeting.lines, ["4.3.5 configuration fault, try again later"], "{what}");
        }
        if name.contains('/') {
            fs::remove_dir_all(room.path("config").join(file)).unwrap();
        }
        match before {
            Some(before) => room.config(file, &before),
            None => fs::remove_file(room.path("config").join(file)).unwrap(),
        }
    }
    let said = converse(&mut Client::connect(server.port));
    assert_eq!(codes(&said), expected(&[]), "mended: {said:?}");
    assert_eq!(store::maildir(&room.path("mail")).len(), 1);
}
