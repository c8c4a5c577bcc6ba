//! The command line for people: `try`, `check`, `plugins`, and what is shipped for a first run.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use common::client::Client;
use common::normal::difference;
use common::play::{End, Outcome, Play};
use common::room::Room;
use common::store;
use nix::fcntl::OFlag;
use regex_lite::Regex;
use serde_json::Value;
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `try` says if root runs it, here the tests.
const AS_ROOT: &str = "warn: trying as root: what is queued will belong to root; try as the user that serves, or name it in \
                       config/user\n";

/// Runs `postern --config DIR/config WORDS`, with this on standard input.
fn run(room: &Room, words: &[&str], input: &str) -> Outcome {
    let mut outcome = words.iter().fold(Play::new(room), |play, word| play.argument(word)).run(input.as_bytes());
    if let Some(log) = outcome.log.strip_prefix(AS_ROOT) {
        outcome.log = log.to_owned();
    }
    outcome
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8(outcome.output.clone()).unwrap()
}

/// Standard output with what differs from run to run in fixed words.
fn shown(outcome: &Outcome, room: &Room) -> String {
    static RULES: LazyLock<[(Regex, &str); 2]> = LazyLock::new(|| {
        [
            (Regex::new(r"\b\d+(\.\d)? (us|ms|s)\b").unwrap(), "TIME"),
            (Regex::new(r"\b\d{10}\.M\d+P\d+Q\d+\.[^ ,):]+").unwrap(), "FILE"),
        ]
    });
    static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^Session ([0-9a-z]{13}) ").unwrap());
    let mut text = text(outcome).replace(room.root().to_str().unwrap(), "ROOM");
    if let Some(found) = ID.captures(&text) {
        let id = found[1].to_owned();
        text = text.replace(&id, "ID");
    }
    for (pattern, word) in RULES.iter() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text
}

fn same(expected: &str, found: &str) {
    assert!(expected == found, "\n{}\nfound:\n{found}", difference(expected, found));
}

/// The lines of `check`, but those about the user, which depend on who runs the tests.
fn findings(outcome: &Outcome, room: &Room) -> String {
    let shown = text(outcome).replace(room.root().to_str().unwrap(), "ROOM");
    let about_user = |line: &&str| !line.contains("/user: ");
    let lines: Vec<&str> = shown.lines().filter(about_user).collect();
    // The last one counts, also what was left out here.
    lines[..lines.len() - 1].iter().map(|line| format!("{line}\n")).collect()
}

const DIALOG: &str = "EHLO client.example\nMAIL FROM:<a@client.example>\nRCPT TO:<x@far.example>\n\
                      RCPT TO:<closed@here.example>\nRCPT TO:<x@here.example>\nDATA\nFrom: a@client.example\n\n.hello\n.\n\
                      FOO\nQUIT\n";

fn room() -> Room {
    let room = Room::new("relay\nbadrcptto\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    room.config("badrcptto", "# none\nclosed@here.example closed for good\n");
    room
}

#[test]
fn try_shows_each_answer_and_who_decided_it() {
    let room = room();
    fs::write(room.path("dialog"), DIALOG).unwrap();
    let words = ["try", "dialog", "--remote-ip", "::ffff:192.0.2.7", "--remote-host", "client.example"];
    let outcome = run(&room, &words, "");
    let expected = "\
Session ID with 192.0.2.7 client.example, by ROOM/config
S  220 mx.example ESMTP
C  EHLO client.example
S  250-mx.example
S  250-PIPELINING
S  250-SIZE
S  250-8BITMIME
S  250-SMTPUTF8
S  250-CHUNKING
S  250-ENHANCEDSTATUSCODES
S  250 LIMITS RCPTMAX=1000
C  MAIL FROM:<a@client.example>
S  250 2.1.0 sender ok
C  RCPT TO:<x@far.example>
S  550 5.7.1 <x@far.example>: relaying denied (ID)
     rcpt_ok refused: far.example is not in rcpthosts or morercpthosts  [rcpt, config/plugins line 3, TIME]
C  RCPT TO:<closed@here.example>
S  550 5.7.1 closed for good (ID)
     badrcptto refused: badrcptto line 2: closed@here.example  [rcpt, config/plugins line 2, TIME]
C  RCPT TO:<x@here.example>
S  250 2.1.5 recipient ok
     rcpt_ok accepted: rcpthosts line 1: here.example  [rcpt, config/plugins line 3, TIME]
C  DATA
S  354 go ahead
C  From: a@client.example
C
C  .hello
C  .
S  250 2.0.0 queued as FILE (ID)
     queue/maildir took the mail: queued  [queue, config/plugins line 4, TIME]
C  FOO
S  500 5.5.2 unrecognized command
     postern's own rule: no plugin decided this
C  QUIT
S  221 2.0.0 mx.example closing connection

Mail taken by queue/maildir ROOM/mail (config/plugins line 4), as FILE: queued
One mail was queued. 3 commands were refused. End: quit, after TIME.
";
    same(expected, &shown(&outcome, &room));
    assert_eq!((outcome.log.as_str(), outcome.end), ("", End::Code(0)));
    let stored = store::maildir(&room.path("mail"));
    assert_eq!(stored.len(), 1);
    assert!(stored[0].ends_with(b"From: a@client.example\n\nhello\n"), "{}", stored[0].escape_ascii());
    assert!(room.left_behind().is_empty());
}

#[test]
fn try_is_the_same_with_lf_and_crlf_from_a_file_and_from_standard_input() {
    let dialogs = [DIALOG.to_owned(), DIALOG.replace('\n', "\r\n")];
    let mut all = Vec::new();
    for dialog in dialogs {
        let room = room();
        fs::write(room.path("dialog"), &dialog).unwrap();
        for (file, input) in [("dialog", ""), ("-", dialog.as_str())] {
            let outcome = run(&room, &["try", file], input);
            assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
            all.push(shown(&outcome, &room));
        }
        assert_eq!(store::maildir(&room.path("mail")).len(), 2);
    }
    all.iter().for_each(|one| same(&all[0], one));
    assert!(all[0].starts_with("Session ID with a client of which nothing is known, by ROOM/config\n"), "{}", all[0]);
}

#[test]
fn try_shows_those_without_an_opinion_only_if_asked() {
    let room = room();
    let dialog =
        "HELO client.example\nMAIL FROM:<>\nRCPT TO:<x@here.example>\nRCPT TO:<postmaster@here.example>\nRSET\n";
    room.config("badrcptto", "postmaster@here.example\n");
    let quiet = shown(&run(&room, &["try", "-"], dialog), &room);
    assert!(!quiet.contains("declined"), "{quiet}");
    let all = shown(&run(&room, &["try", "-", "-v"], dialog), &room);
    let expected = "     relay declined  [rcpt, config/plugins line 1, TIME]\n";
    assert!(all.contains(expected), "{all}");
    // Whoever says on what evidence speaks.
    let expected =
        "     relay skipped: no client address, so nothing is granted  [connect, config/plugins line 1, TIME]\n";
    assert!(quiet.contains(expected), "{quiet}");
    let expected = "\
C  RCPT TO:<postmaster@here.example>
S  250 2.1.5 recipient ok
     relay declined  [rcpt, config/plugins line 1, TIME]
     badrcptto refused: badrcptto line 1: postmaster@here.example  [rcpt, config/plugins line 2, TIME]
     postern's own rule: accepted all the same
C  RSET
S  250 2.0.0 ok

No mail was queued. Nothing was refused. End: the client's last word was not QUIT, after TIME.
";
    assert!(all.ends_with(expected), "{}", difference(expected, &all));
}

#[test]
fn try_shows_shadow_mode_and_trouble() {
    let room = Room::new("badmailfrom observe 1\nrelay on_error decline\nrcpt_ok\nqueue/discard\n");
    room.config("badmailfrom", "@client.example not you\n");
    room.config("relayclients", "not an address\n");
    room.config("morercpthosts.cdb", "no cdb\n");
    let dialog = "EHLO c\nMAIL FROM:<a@client.example>\nRCPT TO:<x@far.example>\n";
    let outcome = run(&room, &["try", "-", "--remote-ip", "192.0.2.7"], dialog);
    let shown = shown(&outcome, &room);
    let lines = [
        "     relay is in trouble, and was passed over: ROOM/config/relayclients line 1: ",
        "     badmailfrom would have refused (observe): badmailfrom line 1: @client.example  [mail, ",
        "     rcpt_ok is in trouble, and so the client was deferred: ROOM/config/morercpthosts.cdb: ",
        "\nS  450 4.3.0 rcpt_ok cannot rule on this now, try again later (ID)\n",
    ];
    lines.iter().for_each(|line| assert!(shown.contains(line), "{line}\nnot in:\n{shown}"));
    // Errors stand on standard error too; lines of the record do not.
    assert_eq!(outcome.log.lines().count(), 2, "{}", outcome.log);
    assert!(outcome.log.lines().all(|line| line.starts_with("error: [")), "{}", outcome.log);
    assert_eq!(outcome.end, End::Code(0));
}

#[test]
fn try_writes_json() {
    let room = room();
    let outcome = run(&room, &["try", "-", "--json", "--remote-ip", "2001:db8::1"], DIALOG);
    let text = text(&outcome);
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (&objects[0], &objects[objects.len() - 1]);
    assert_eq!((&first["event"], &first["remote_ip"]), (&"session".into(), &"2001:db8::1".into()));
    let refused = objects.iter().find(|step| step["client"] == "RCPT TO:<closed@here.example>\r\n").unwrap();
    assert_eq!((refused["code"].as_u64(), &refused["enhanced"]), (Some(550), &"5.7.1".into()));
    assert_eq!(refused["reply"][0], format!("closed for good ({})", first["session"].as_str().unwrap()));
    let decision = refused["decisions"].as_array().unwrap().last().unwrap();
    let expected = [("plugin", "badrcptto"), ("hook", "rcpt"), ("line", "config/plugins line 2"), ("verdict", "deny")];
    expected.iter().for_each(|(key, value)| assert_eq!(decision[key], *value));
    assert_eq!(decision["evidence"][0], "badrcptto line 2: closed@here.example");
    assert!(decision["us"].is_u64());
    let content =
        objects.iter().find(|step| step["client"].as_str().is_some_and(|said| said.contains("hello"))).unwrap();
    assert_eq!(content["client_octets"], "From: a@client.example\r\n\r\n.hello\r\n.\r\n".len());
    assert_eq!((&last["event"], &last["end"], &last["refusals"]), (&"end".into(), &"quit".into(), &3.into()));
    let queued = &last["queued"][0];
    assert_eq!(queued["plugin"], "queue/maildir");
    assert!(room.path("mail/new").join(queued["id"].as_str().unwrap()).is_file());
}

#[test]
fn try_tells_all_that_is_wrong_with_the_configuration() {
    let room = Room::new("rcpt_okay\nqueue/maildir\n");
    let outcome = run(&room, &["try", "-"], DIALOG);
    assert_eq!((text(&outcome).as_str(), outcome.end), ("", End::Code(100)));
    let log = outcome.log.replace(room.root().to_str().unwrap(), "ROOM");
    let expected = "\
error: ROOM/config/plugins line 1: rcpt_okay: there is no plugin \"rcpt_okay\" (did you mean \"rcpt_ok\"?)
error: ROOM/config/plugins line 2: queue/maildir: the setting \"dir\" is missing
The configuration is wrong: a client would get 421. `postern check` tells more.
";
    same(expected, &log);
}

#[test]
fn try_cannot_read_its_file() {
    let room = room();
    let outcome = run(&room, &["try", "gone"], "");
    assert_eq!(outcome.end, End::Code(111));
    assert_eq!(outcome.log, "postern try: gone: No such file or directory (os error 2)\n");
}

#[test]
fn a_wrong_command_line_is_for_whoever_wrote_it() {
    let room = room();
    let cases: [(&[&str], &str); 5] = [
        (&["chek"], "tip: a similar subcommand exists: 'check'\n"),
        (&["try"], "<FILE>"),
        (&["try", "-", "--remote-ip", "here"], "--remote-ip"),
        (&["try", "-", "--remote-host", "a b"], "--remote-host"),
        (&["check", "--jsno"], "--jsno"),
    ];
    for (words, named) in cases {
        let outcome = run(&room, words, "");
        assert_eq!((text(&outcome).as_str(), outcome.end), ("", End::Code(100)), "{words:?}");
        assert!(outcome.log.contains(named), "{words:?}: {}", outcome.log);
    }
    // Without a command there may be a client.
    let outcome = run(&room, &["--listen"], "");
    assert_eq!(outcome.end, End::Code(100));
    assert!(text(&outcome).starts_with("421 4.3.5 "), "{}", text(&outcome));
}

#[test]
fn a_wrong_command_line_answers_a_client_behind_a_socket() {
    let (mut client, server) = UnixStream::pair().unwrap();
    let mut postern = Command::new(common::binary());
    postern.arg("chek").stdin(OwnedFd::from(server.try_clone().unwrap())).stdout(OwnedFd::from(server));
    let status = postern.stderr(Stdio::null()).status().unwrap();
    drop(postern);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("421 4.3.5 "), "{said}");
    assert_eq!(status.code(), Some(100));
}

#[test]
fn bare_on_a_terminal_it_explains_itself() {
    let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).unwrap();
    nix::pty::grantpt(&master).unwrap();
    nix::pty::unlockpt(&master).unwrap();
    let terminal = File::options().read(true).write(true).open(nix::pty::ptsname_r(&master).unwrap()).unwrap();
    let output = Command::new(common::binary()).stdin(terminal).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(100), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("\nUsage: postern ") && said.contains("\n  check "), "{said}");
}

#[test]
fn what_goes_wrong_is_seen_though_both_outputs_are_one_pipe() {
    let room = Room::new("nothing\n");
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("POSTERN", common::binary()).env("CONFIG", room.path("config"));
        String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stdout).unwrap()
    };
    let seen = shell(r#""$POSTERN" --config "$CONFIG" try /dev/null 2>&1 | cat"#);
    assert!(seen.contains("there is no plugin \"nothing\""), "{seen}");
    // A reader that goes away is no fault.
    let seen = shell(r#"{ "$POSTERN" plugins; echo "status $?" >&3; } 3>&1 >/dev/full"#);
    assert_eq!(seen, "status 0\n");
    let seen = shell(r#"{ "$POSTERN" plugins rcpt_ok 2>&4; echo "status $?" >&3; } 3>&1 4>&1 | head -0; exit 0"#);
    assert_eq!(seen, "");
}

/// A directory in which everything is wrong.
fn faulty() -> Room {
    let room = Room::bare();
    let files = [
        (
            "plugins",
            "# all of it\n\nearlytaker\nbadmailfrom rejct 1 reject_type maybe observe perhaps\nrcpt_ok # last\nrelay\nbadrcptto\n\
             dmarc reject naughty\nvirus/sophie\nMy::Plugin\n$include gone\nqueue/discard\nloop 0\nqueue/discard\nloop:x\n\
             logging/devnull\nqueue/qmail-queue {ROOM}/bin/gone\nheaders requre From\n",
        ),
        ("logging", "logging/fil\nloop:1\n"),
        ("rcpthosts", "here.example\n.com\n$include gone-too\n.\n"),
        ("relayclients", "192.0.2.1\n0.0.0.0/0\n::/3\nlocalhost\n"),
        ("badrcptto", "/[/ what\n"),
        ("databytes", "10M\n"),
        ("timeout", "# seconds\nnever\n"),
        ("spool_dir", "{ROOM}/gone\n"),
        ("umask", "999\n"),
        ("rcpthost", "there.example\n"),
        ("notes", "mine\n"),
        ("plugins.submission", "rcpt_ok\n"),
        ("badhelo/x", ""),
        ("flat_auth_pw", "user:password\n"),
        ("morercpthosts.cdb", "this is no cdb"),
        ("plugin_dirs", "/usr/share/qpsmtpd/plugins\n"),
        ("plugins.d/headers.toml", "past = = 3\n"),
        ("plugins.d/lop.toml", "hops_max = 3\n"),
        ("plugins.d/check_relay.toml", "only = true\n"),
        ("me", "mx.example\n"),
    ];
    files.iter().for_each(|(name, text)| room.config(name, text));
    let mode = |name: &str, mode| fs::set_permissions(room.path("config").join(name), fs::Permissions::from_mode(mode));
    mode("flat_auth_pw", 0o644).unwrap();
    mode("databytes", 0o666).unwrap();
    room
}

#[test]
fn check_finds_every_fault_with_file_and_line() {
    let room = faulty();
    let outcome = run(&room, &["check"], "");
    let expected = "\
error: ROOM/config/timeout line 2: \"never\" is not a whole number
error: ROOM/config/databytes line 1: \"10M\" is not a whole number of octets, or none
error: ROOM/config/umask line 1: \"999\" is not an octal number up to 777
error: ROOM/config/plugins line 11: $include \"gone\": there is no such file
error: ROOM/config/plugins line 15: \"loop:x\" is not a plugin's name, or a name, a colon and a number
error: ROOM/config/plugins line 3: earlytaker: there is no plugin \"earlytaker\" (did you mean \"earlytalker\"?)
error: ROOM/config/plugins line 4: badmailfrom: observe: \"perhaps\" is not yes or no (1 or 0, true or false, on or off)
error: ROOM/config/plugins line 4: badmailfrom: unknown setting \"rejct\" (did you mean \"reject\"?)
error: ROOM/config/plugins line 4: badmailfrom: reject_type: \"maybe\" is not one of hard, perm, soft, temp, disconnect, temp_disconnect
warning: ROOM/config/plugins line 5: rcpt_ok: a # in a line begins no comment: it and what follows are arguments of the plugin
error: ROOM/config/plugins line 5: rcpt_ok: unknown setting \"#\"
error: ROOM/config/relayclients line 4: relay: \"localhost\" is no address, no beginning of one (192.0.2. or 2001:db8:) and no network (192.0.2.0/24)
error: ROOM/config/badrcptto line 1: badrcptto: \"/[/\" is not a pattern that can be used here: found unclosed character class
error: ROOM/config/plugins line 8: dmarc: postern does not have this plugin yet (DMARC): until it does, take the line out, or no mail is taken
warning: ROOM/config/plugins line 9: virus/sophie: retired, the line does nothing: the product is gone; use a scanner that lives
error: ROOM/config/plugins line 10: My::Plugin: there is no plugin \"My::Plugin\" (a Perl module cannot be run here)
error: ROOM/config/plugins line 13: loop: hops_max: \"0\" is not a whole number of at least 1
error: ROOM/config/plugins line 17: queue/qmail-queue: ROOM/bin/gone: No such file or directory (os error 2); name the program on the line, or set $QMAILQUEUE
error: ROOM/config/plugins.d/headers.toml line 1: not TOML: extra `=`, expected nothing
error: ROOM/config/logging line 1: logging/fil: there is no plugin \"logging/fil\" (did you mean \"logging/file\"?)
warning: ROOM/config/logging line 2: loop:1: this is no logger: it is asked as if it stood last in plugins
warning: ROOM/config/plugins line 14: queue/discard: stands on line 12 already, so it is asked twice; a further instance is written queue/discard:1
warning: ROOM/config/plugins line 6: relay: never asked about a recipient: rcpt_ok on line 5 decides; list it before
warning: ROOM/config/plugins line 7: badrcptto: never asked about a recipient: rcpt_ok on line 5 decides; list it before
note: ROOM/config/plugins line 13: loop: stands after queue/discard on line 12, but is asked before it: content is judged before it is queued
warning: ROOM/config/plugins line 14: queue/discard: asked only if queue/discard on line 12 has no opinion of a message
note: ROOM/config/plugins line 16: logging/devnull: loggers belong in the file logging; here it works all the same
warning: ROOM/config/plugins line 17: queue/qmail-queue: asked only if queue/discard on line 12 has no opinion of a message
note: ROOM/config/plugins line 18: headers: stands after queue/discard on line 12, but is asked before it: content is judged before it is queued
error: ROOM/config/badhelo: cannot be read: Is a directory (os error 21)
error: ROOM/config/morercpthosts.cdb: not a sound cdb file: it is shorter than its header
note: ROOM/config/plugin_dirs: where qpsmtpd finds Perl plugins; not used
note: ROOM/config/plugins.submission: another chain: check it with --chain submission
error: ROOM/config/rcpthosts line 3: $include \"gone-too\": there is no such file
note: ROOM/config/notes: a file that nobody reads
warning: ROOM/config/rcpthost: a file that nobody reads (did you mean \"rcpthosts\"?)
warning: ROOM/config/flat_auth_pw: a secret that every user may read (mode 644): chmod o= it
warning: ROOM/config/databytes: every user may write to it (mode 666): chmod o-w it
warning: ROOM/config/plugins.d/check_relay.toml: a file that nobody reads: that plugin's is relay.toml
warning: ROOM/config/plugins.d/lop.toml: a file that nobody reads: there is no such plugin (did you mean \"loop\"?)
error: ROOM/config/rcpthosts line 2: every domain below com would be taken for ours: an open relay
error: ROOM/config/rcpthosts line 4: \".\" means every domain there is: an open relay, if anything took it so
error: ROOM/config/relayclients line 2: every client there is may relay: an open relay
warning: ROOM/config/relayclients line 3: a very large network may relay (shorter than /16)
error: ROOM/gone: no message longer than size_threshold can be taken, no file can be made here: No such file or directory (os error 2)
";
    same(expected, &findings(&outcome, &room));
    assert_eq!((outcome.log.as_str(), outcome.end), ("", End::Code(100)));
    let last = text(&outcome).lines().last().unwrap().to_owned();
    assert!(last.ends_with(": not fit to serve"), "{last}");
}

#[test]
fn check_passes_what_is_right() {
    let room = room();
    let outcome = run(&room, &["check"], "");
    assert_eq!(findings(&outcome, &room), "");
    assert_eq!(outcome.end, End::Code(0));
    assert!(text(&outcome).starts_with("0 errors, ") || text(&outcome).contains("\n0 errors, "), "{}", text(&outcome));
    // It looks, and leaves nothing behind.
    assert!(room.left_behind().is_empty());
    assert_eq!(store::names(&room.path("mail")), Vec::<PathBuf>::new());
}

#[test]
fn check_names_a_chain_that_can_take_no_mail() {
    let rows = [
        ("rcpt_ok\n", "no queue line"),
        ("queue/discard\n", "nothing vouches for recipients"),
        ("", "no queue line"),
        ("rcpt_ok\nqueue/qmail-queue {ROOM}/bin/none\n", "/bin/none"),
        ("rcpt_ok\nqueue/maildir /proc/mail\n", "/proc"),
        ("rcpt_ok\nqueue/exim-bsmtp\n", "name Exim's program with exim_path"),
        ("dmarc\nrcpt_ok\nqueue/discard\n", "does not have this plugin yet"),
        ("rcpt_ok\nqueue/smtp-forward 127.0.0.1 1\n", "127.0.0.1:1: "),
        ("rcpt_ok\nqueue/lmtp /nonexistent/lmtp\n", "does a server listen there?"),
    ];
    for (plugins, fault) in rows {
        let room = Room::new(plugins);
        let outcome = run(&room, &["check"], "");
        let findings = findings(&outcome, &room);
        assert!(
            findings.lines().any(|line| line.starts_with("error: ") && line.contains(fault)),
            "{plugins}{findings}"
        );
        assert_eq!(outcome.end, End::Code(100), "{plugins}");
    }
    for (words, fault) in [
        (["--chain", "gone", "check"], "config/plugins.gone: there is no such file"),
        (["--chain", "a/b", "check"], "not a name"),
    ] {
        let room = room();
        let outcome = run(&room, &words, "");
        assert!(text(&outcome).contains(fault), "{}", text(&outcome));
        assert_eq!(outcome.end, End::Code(100));
    }
}

#[test]
fn check_tells_what_was_probably_not_meant() {
    let rows = [
        ("rcpt_ok\nqueue/discard\n", None, "warning: ROOM/config/plugins line 2: queue/discard: no other queue line"),
        (
            "rcpt_ok\nqueue/discard\n",
            Some(("rcpthosts", "# none\n")),
            "/rcpthosts: empty: only mail for `me` mx.example is",
        ),
        (
            "badrcptto\ncount_denies\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 2: count_denies: stands after badrcptto on line 1",
        ),
        (
            "earlytalker\nwhitelist\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 2: whitelist: stands after earlytalker on line 1, which rules on those",
        ),
        (
            "ident/p0f /run/p0f\nbadmailfrom\nwhitelist\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 3: whitelist: stands after badmailfrom on line 2, which rules on those",
        ),
        (
            "badmailfrom\nrelay\nclient_options\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 3: client_options: stands after relay on line 2, which has ruled before",
        ),
        (
            "greylisting by_option 1\naliases\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 2: aliases: stands after greylisting on line 1, which looks at the options",
        ),
        (
            "greylisting\nuser_config\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 2: user_config: stands after greylisting on line 1, which looks at",
        ),
        (
            "limit connections 9/60\nrelay\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "warning: ROOM/config/plugins line 2: relay: stands after limit on line 1, which counts clients",
        ),
        (
            "badmailfrom reject naughty\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "error: ROOM/config/plugins line 1: badmailfrom: reject: without the plugin naughty",
        ),
        (
            "headers\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            Some(("plugins.d/headers.toml", "require = \"From\"\nreject = \"naughty\"\n")),
            "error: ROOM/config/plugins.d/headers.toml line 2: headers: reject: without the plugin naughty",
        ),
        (
            "check-relay\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
            None,
            "note: ROOM/config/plugins line 1: check-relay: an old name of relay\n",
        ),
    ];
    for (plugins, file, told) in rows {
        let room = Room::new(plugins);
        file.into_iter().for_each(|(name, text)| room.config(name, text));
        let findings = findings(&run(&room, &["check"], ""), &room);
        assert!(findings.contains(told), "{told}\n{findings}");
        // What is an error is not served.
        let outcome = run(&room, &[], "QUIT\r\n");
        assert_eq!(text(&outcome).starts_with("421 "), told.starts_with("error"), "{plugins}{}", text(&outcome));
    }
    let room = Room::new("rcpt_ok\nqueue/maildir {ROOM}/mail\n");
    fs::remove_file(room.path("config/rcpthosts")).unwrap();
    let findings = findings(&run(&room, &["check"], ""), &room);
    assert_eq!(findings, "warning: ROOM/config/rcpthosts: not there: only mail for `me` mx.example is taken\n");
    let said = text(&run(&room, &["try", "-"], DIALOG));
    assert!(said.contains("here.example is not mx.example, and there is no rcpthosts"), "{said}");
}

#[test]
fn check_passes_an_order_that_works() {
    let room = Room::new(
        "client_options\nrelay\nident/geoip\nwhitelist\nlimit\ndns_whitelist_soft\nearlytalker\naliases\n\
         user_config\ngreylisting\nrcpt_ok\nqueue/maildir {ROOM}/mail\n",
    );
    let findings = findings(&run(&room, &["check"], ""), &room);
    let wrong: Vec<&str> = findings.lines().filter(|line| line.contains("stands after")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_retired_line_is_told_by_check_alone() {
    let room = Room::new("virus/klez_filter\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    let found = findings(&run(&room, &["check"], ""), &room);
    assert!(found.contains("line 1: virus/klez_filter: retired, the line does nothing"), "{found}");
    let served = run(&room, &[], "QUIT\r\n");
    assert!(text(&served).starts_with("220 ") && !served.log.contains("klez"), "{}", served.log);
}

#[test]
fn try_shows_what_waits_for_a_recipient() {
    let room = Room::new("badmailfrom\ndelay_deny\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    room.config("badmailfrom", "@client.example not you\n");
    let dialog = "EHLO c\nMAIL FROM:<a@client.example>\nRCPT TO:<x@here.example>\n";
    let said = text(&run(&room, &["try", "-"], dialog));
    let waits = "     badmailfrom waits (delay_deny): badmailfrom line 1: @client.example  [mail, ";
    assert!(said.contains(waits) && !said.contains("would have refused"), "{said}");
    let json = text(&run(&room, &["try", "-", "--json"], dialog));
    assert!(json.contains("\"withheld\":true,\"delayed\":true"), "{json}");
    let served = run(&room, &[], &dialog.replace('\n', "\r\n"));
    assert!(served.log.contains("badmailfrom: fail, waits (delay_deny), "), "{}", served.log);
}

#[test]
fn check_tells_no_faults_that_only_follow_from_another() {
    let room = Room::bare();
    room.config("me", "mx.example\n");
    room.config("rcpthosts", "here.example\n");
    fs::create_dir(room.path("config/plugins")).unwrap();
    let findings = findings(&run(&room, &["check"], ""), &room);
    assert_eq!(findings, "error: ROOM/config/plugins: cannot be read: Is a directory (os error 21)\n");
}

#[test]
fn what_is_set_otherwise_in_a_faulty_line_is_not_for_nobody() {
    let room = Room::new("client_options\ndenysoft_greylist blak_timeout 5\nrcpt_ok\nqueue/discard\n");
    room.config("client_options", "192.0.2.1: greylisting/active=0, dnsbl/reject=0\n");
    let findings = findings(&run(&room, &["check"], ""), &room);
    assert!(findings.contains("line 2: denysoft_greylist: ") && findings.contains("blak_timeout"), "{findings}");
    let absent: Vec<&str> = findings.lines().filter(|line| line.contains("is not in the chain")).collect();
    assert!(absent.len() == 1 && absent[0].contains("dnsbl is not in the chain"), "{findings}");
}

#[test]
fn check_and_try_tell_as_whom() {
    if !common::require_root() {
        return;
    }
    let outcome = Play::new(&room()).argument("try").argument("-").run(b"QUIT\n");
    assert_eq!(outcome.log, AS_ROOT);
    let room = Room::new("rcpt_ok\nbadrcptto\nqueue/maildir ../mail/../kept/mail\n");
    let mode = |name: &str, mode| fs::set_permissions(room.path(name), fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(room.path("kept")).unwrap();
    room.config("logging", "logging/file {ROOM}/kept/log\n");
    room.config("badrcptto", "closed@here.example\n");
    ["", "config", "kept"].iter().for_each(|name| mode(name, 0o755));
    mode("config/badrcptto", 0o600);
    let kept =
        room.path("kept").canonicalize().unwrap().display().to_string().replace(room.root().to_str().unwrap(), "ROOM");
    let faults = [
        "error: ROOM/config/badrcptto: badrcptto: cannot be read: Permission denied (os error 13)".to_owned(),
        format!(
            "error: ROOM/config/plugins line 3: queue/maildir: the maildir {kept}/mail is not there, and nobody cannot write to {kept} to make it"
        ),
        "error: ROOM/config/logging line 1: logging/file: the log's ROOM/kept cannot be written to by nobody: EACCES"
            .to_owned(),
    ];
    let tried = |words: &[&str]| {
        let outcome = run(&room, words, "");
        (text(&outcome).replace(room.root().to_str().unwrap(), "ROOM"), outcome.end)
    };
    let (as_root, end) = tried(&["check"]);
    assert!(as_root.contains("/user: not there: tried as root; say --user NAME"), "{as_root}");
    assert!(!as_root.contains("cannot be") && end == End::Code(0), "{as_root}");
    let (as_named, end) = tried(&["check", "--user", "nobody"]);
    assert!(as_named.contains("/user: not asked: all was tried as nobody"), "{as_named}");
    assert_eq!(end, End::Code(100));
    room.config("user", "nobody\n");
    let (as_configured, end) = tried(&["check"]);
    assert!(as_configured.contains("/user: plugins and backends were tried as nobody"), "{as_configured}");
    assert_eq!(end, End::Code(100));
    for (fault, found) in faults.iter().flat_map(|fault| [(fault, &as_named), (fault, &as_configured)]) {
        assert!(found.contains(fault), "{fault}\n{found}");
    }
    mode("kept", 0o700);
    fs::create_dir_all(room.path("kept/mail/new")).unwrap();
    let (closed, _) = tried(&["check"]);
    assert!(closed.contains("line 3: queue/maildir: nobody cannot reach the maildir "), "{closed}");
    let (nobody, end) = tried(&["check", "--user", "no-such-account"]);
    assert!(nobody.contains("no-such-account") && end == End::Code(100), "{nobody}");
}

#[test]
fn check_proves_an_open_relay() {
    // Each by the plugin that lets it through.
    let rows = [
        (
            "relay\nrcpt_ok\nqueue/discard\n",
            "relayclients",
            "0.0.0.0/0\n",
            "line 2: rcpt_ok: open relay: 192.0.2.77 may send",
        ),
        (
            "relay only 1\nrcpt_ok\nqueue/discard\n",
            "relayclients",
            "::/0\n",
            "line 1: relay: open relay: 2001:db8::77 may",
        ),
        (
            "rcpt_ok\nqueue/discard\n",
            "rcpthosts",
            ".invalid\n",
            "open relay: 192.0.2.77 may send to <postern-check@relay.invalid>",
        ),
        (
            "rcpt_regexp\nrcpt_ok\nqueue/discard\n",
            "rcpt_regexp",
            "/@here.example/ OK\n/\\.invalid$/ OK\n",
            "line 1: rcpt_regexp: open relay: 192.0.2.77 may send",
        ),
    ];
    for (plugins, file, list, proof) in rows {
        let room = Room::new(plugins);
        room.config(file, list);
        let outcome = run(&room, &["check"], "");
        assert!(findings(&outcome, &room).contains(proof), "{}", findings(&outcome, &room));
        assert_eq!(outcome.end, End::Code(100));
    }
}

#[test]
fn check_writes_json() {
    let room = faulty();
    let outcome = run(&room, &["check", "--json"], "");
    let text = text(&outcome);
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let file = room.path("config/plugins");
    let of_line =
        |line: u64| objects.iter().find(|found| found["line"] == line && found["file"] == file.to_str().unwrap());
    let found = of_line(8).unwrap();
    assert_eq!(
        (&found["event"], &found["grade"], &found["plugin"]),
        (&"finding".into(), &"error".into(), &"dmarc".into())
    );
    let last = objects.last().unwrap();
    assert_eq!(last["event"], "summary");
    let errors = objects.iter().filter(|found| found["grade"] == "error").count();
    assert_eq!(last["errors"], errors);
    assert_eq!(outcome.end, End::Code(100));
}

/// Where the files of Debian's qpsmtpd are; unpacked here if `tests/run` has not done so.
fn qpsmtpd(dir: &Path) -> Option<PathBuf> {
    if let Some(unpacked) = std::env::var_os("POSTERN_TESTS_QPSMTPD") {
        return Some(unpacked.into());
    }
    let script = "apt-get -qq download qpsmtpd && dpkg -x qpsmtpd_*.deb . && test -d etc/qpsmtpd";
    let done = Command::new("sh").args(["-c", script]).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    if !done.status.success() {
        common::skip("Debian's qpsmtpd package cannot be had");
        return None;
    }
    Some(dir.to_owned())
}

/// Its configuration as installed: with what its postinst writes, for this queue, and its paths leading to the room.
fn install_qpsmtpd(room: &Room, unpacked: &Path, queue: &str) {
    for path in store::names(&unpacked.join("etc/qpsmtpd")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("/etc/qpsmtpd", "{ROOM}/config").replace("/var/log/qpsmtpd", "{ROOM}/log");
        room.config(name, &text.replace("/var/spool/qpsmtpd", "{ROOM}/spool"));
    }
    room.config("debian-queue-method", &format!("# auto-generated by postinst\n{queue}\n\n"));
    room.config("debian-rcpthosts", "# auto-generated by postinst\nhere.example\nthere.example\n");
    room.config("debconf-settings", "ENABLED=\"true\"\n");
}

/// What `check` says of a plugin that is still to come.
const YET: &str = "postern does not have this plugin yet";

/// Whether a line of `plugins` names a plugin that is still to come.
fn is_planned(line: &str) -> bool {
    let name = line.split_whitespace().next().unwrap_or_default();
    matches!(postern::setup::find(name, &[]), postern::setup::Found::Planned(_))
}

/// The plugins of these lines that are still to come, in order.
fn planned(lines: &str) -> Vec<&str> {
    lines.lines().filter(|line| is_planned(line)).filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn every_line_of_debians_configuration_is_understood_or_named_with_a_reason() {
    let dir = TempDir::new().unwrap();
    let Some(unpacked) = qpsmtpd(dir.path()) else { return };
    let lines = fs::read_to_string(unpacked.join("etc/qpsmtpd/plugins")).unwrap();
    let queues = [
        ("queue/exim-bsmtp", Some("name Exim's program with exim_path")),
        ("queue/postfix-queue {ROOM}/gone", Some("start Postfix")),
        ("queue/smtp-forward 127.0.0.1 1", Some("127.0.0.1:1: ")),
        ("queue/qmail-queue {ROOM}/bin/gone", Some("/bin/gone")),
        ("queue/maildir {ROOM}/mail", None),
    ];
    for (queue, reason) in queues {
        let room = Room::bare();
        install_qpsmtpd(&room, &unpacked, queue);
        let outcome = run(&room, &["check"], "");
        let findings = findings(&outcome, &room);
        let errors: Vec<&str> = findings.lines().filter(|line| line.starts_with("error: ")).collect();
        let mut expected: Vec<_> = planned(&lines).into_iter().map(|name| ("config/plugins line", name, YET)).collect();
        if let Some(reason) = reason {
            let name = queue.split(' ').next().unwrap();
            expected.push(("config/debian-queue-method line 2", name, reason));
        }
        assert_eq!(errors.len(), expected.len(), "{queue}:\n{findings}");
        for (error, (place, name, reason)) in errors.iter().zip(expected) {
            let fits = error.contains(place) && error.contains(&format!(": {name}: ")) && error.contains(reason);
            assert!(fits, "{error}: not {place} {name} {reason}");
        }
        assert_eq!(outcome.end, End::Code(if errors.is_empty() { 0 } else { 100 }));
    }
}

#[test]
fn without_the_lines_named_debians_configuration_serves() {
    let dir = TempDir::new().unwrap();
    let Some(unpacked) = qpsmtpd(dir.path()) else { return };
    let room = Room::bare();
    install_qpsmtpd(&room, &unpacked, "queue/maildir {ROOM}/mail");
    let plugins = fs::read_to_string(room.path("config/plugins")).unwrap();
    room.config("plugins", &plugins.lines().filter(|line| !is_planned(line)).collect::<Vec<_>>().join("\n"));
    room.config("me", "mx.example\n");
    // Not the world's DNS: nobody answers there.
    room.config("dns", "server 127.0.0.1:1\ntimeout 1\nattempts 1\n");
    let outcome = run(&room, &["check"], "");
    assert_eq!(outcome.end, End::Code(0), "{}", text(&outcome));
    let outcome = run(&room, &[], &DIALOG.replace('\n', "\r\n"));
    assert_eq!(outcome.end, End::Code(0), "{}", outcome.log);
    assert_eq!(store::maildir(&room.path("mail")).len(), 1, "{}", text(&outcome));
    let log = fs::read_to_string(room.path("log/qpsmtpd.log")).unwrap();
    assert!(log.contains(" queued "), "{log}");
}

/// The chain of the configuration article: old names, old arguments.
const ARTICLE: &str = "\
check_earlytalker
count_unrecognized_commands 4
check_relay
require_resolvable_fromhost
check_badmailfrom
check_badrcptto
check_spamhelo
denysoft_greylist
rcpt_ok
check_basicheaders
virus/clamdscan deny_viruses yes
spamassassin reject_threshold 20 munge_subject_threshold 10
queue/qmail-queue {ROOM}/bin/qmail-queue
";

/// The live lines of qpsmtpd's own sample, with a queue.
const SAMPLE: &str = "\
hosts_allow
fcrdns
quit_fortune
earlytalker
count_unrecognized_commands 4
relay
dnsbl reject naughty reject_type disconnect
rhsbl
helo policy strict reject 0
auth/auth_flat_file
auth/authdeny
dont_require_anglebrackets
badmailfrom reject naughty
resolvable_fromhost reject 0
sender_permitted_from reject 1
badrcptto
rcpt_ok
headers reject 0 reject_type temp require From,Date future 2 past 15
bogus_bounce log
dkim reject 0
dmarc
virus/klez_filter
spamassassin reject 12
naughty reject data
queue/qmail-queue {ROOM}/bin/qmail-queue
";

/// A session that takes its turns: the last reply that a mail to us gets.
fn mail_by_turns(room: &Room) -> (u16, String) {
    let (mut client, mut served) = Client::serve(room, common::client::Log::File);
    let mut reply = client.reply();
    for said in [
        "EHLO client.example",
        "MAIL FROM:<a@client.example>",
        "RCPT TO:<x@here.example>",
        "DATA",
        "From: <a@client.example>\r\nDate: Tue, 01 Jan 2030 00:00:00 +0000\r\n\r\nhello\r\n.",
    ] {
        if reply.code < 400 {
            reply = client.reply_to(said);
        }
    }
    client.finish();
    client.rest();
    assert_eq!(served.end(Duration::from_secs(20)), End::Code(0));
    (reply.code, reply.lines.join(" "))
}

#[test]
#[allow(clippy::print_stdout)]
fn the_articles_chain_and_qpsmtpds_sample_run_as_written_but_for_later_plugins() {
    // Nobody there: what the DNS would say is none of this test's business.
    const NO_DNS: &str = "server 127.0.0.1:1\ntimeout 1\nattempts 1\ntotal 1\n";
    for (what, lines) in [("the article", ARTICLE), ("the sample", SAMPLE)] {
        let room = Room::new(lines);
        room.config("dns", NO_DNS);
        let found = findings(&run(&room, &["check"], ""), &room);
        let errors: Vec<&str> = found.lines().filter(|line| line.starts_with("error: ")).collect();
        let numbered: Vec<(usize, &str)> =
            lines.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| is_planned(line)).collect();
        println!("{what}: {} lines, still to come: {}", lines.lines().count(), planned(lines).join(", "));
        assert_eq!(errors.len(), numbered.len(), "{what}:\n{found}");
        for (error, (number, line)) in errors.iter().zip(&numbered) {
            let name = line.split(' ').next().unwrap();
            assert!(error.contains(&format!("/plugins line {number}: {name}: {YET}")), "{what}: {error}");
        }
        // The other lines as they are. Without a resolver, those who ask the DNS have no answer: then a mail is deferred at most.
        let rest: Vec<&str> = lines.lines().filter(|line| !is_planned(line)).collect();
        room.config("plugins", &rest.join("\n"));
        let checked = run(&room, &["check"], "");
        assert_eq!(checked.end, End::Code(0), "{what}: {}", text(&checked));
        let (code, reply) = mail_by_turns(&room);
        println!("{what}: a mail gets {code} {reply}");
        assert!(matches!(code, 250 | 421 | 450 | 451), "{what}: {code} {reply}");
        assert_eq!(store::queued(&room).len(), usize::from(code == 250), "{what}: {reply}");
    }
}

#[test]
fn plugins_lists_all_and_prints_manuals() {
    let room = room();
    let table = text(&run(&room, &["plugins"], ""));
    for entry in postern::setup::catalogue() {
        let row = table.lines().find(|line| line.split(' ').next() == Some(entry.name)).unwrap();
        assert!(row.ends_with(entry.summary()), "{row}");
        entry.hooks.iter().for_each(|hook| assert!(row.contains(hook.name()), "{row}"));
    }
    assert_eq!(table.lines().count(), postern::setup::catalogue().count());
    let json = text(&run(&room, &["plugins", "--json"], ""));
    assert_eq!(json.lines().count(), table.lines().count());

    let manual = text(&run(&room, &["plugins", "check-relay"], ""));
    assert!(
        manual.starts_with("relay\n\n") && manual.contains("\n    relay only 1\n") && !manual.contains("```"),
        "{manual}"
    );
    assert!(
        manual.contains("\nOld names: check_relay, check_norelay, relay_only\nAsked at:  connect rcpt\n"),
        "{manual}"
    );
    let json = text(&run(&room, &["plugins", "check-relay", "--json"], ""));
    let about: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&about["name"], &about["kind"], &about["settings"]),
        (&"relay".into(), &"plugin".into(), &"plugins.d/relay.toml".into())
    );
    for name in ["aliases", "client_options"] {
        let manual = text(&run(&room, &["plugins", name], ""));
        assert!(!manual.contains("\nSettings:"), "{manual}");
        let about: Value = serde_json::from_str(&text(&run(&room, &["plugins", name, "--json"], ""))).unwrap();
        assert!(about["settings"].is_null(), "{about}");
    }
}

#[test]
fn plugins_says_why_there_is_none() {
    let room = room();
    let rows = [
        ("rcptok", "there is no such plugin (did you mean \"rcpt_ok\"?)"),
        ("dmarc", "postern does not have this plugin yet (DMARC)"),
        ("virus/sophie", "retired"),
        ("zzzz", "there is no such plugin; `postern plugins` lists them"),
    ];
    for (name, why) in rows {
        let outcome = run(&room, &["plugins", name], "");
        assert_eq!((text(&outcome).as_str(), outcome.end), ("", End::Code(100)), "{name}");
        assert!(outcome.log.contains(why), "{name}: {}", outcome.log);
    }
}

/// The shipped files, copied to where they may be used.
fn shipped(to: &Path) {
    for name in ["config", "plugins.d"] {
        let copied = Command::new("cp").arg("-r").arg(root().join(name)).arg(to).status().unwrap();
        assert!(copied.success());
    }
}

#[test]
fn what_is_shipped_works_as_it_is_from_any_directory() {
    let dir = TempDir::new().unwrap();
    shipped(dir.path());
    let elsewhere = TempDir::new().unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(common::binary());
        command.arg("--config").arg(dir.path().join("config")).args(words).env_clear().env("PATH", common::PATH);
        let output = command.current_dir(elsewhere.path()).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let (status, text) = run(&["check"]);
    assert_eq!(status, Some(0), "{text}");
    let told = text.lines().filter(|line| !line.contains("/user: ")).count();
    assert_eq!(told, 1, "nothing but the summary: {text}");
    let hello = root().join("examples/hello.smtp");
    let (status, text) = run(&["try", hello.to_str().unwrap(), "--remote-ip", "192.0.2.7"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("\nS  550 5.7.1 <bob@far.example>: relaying denied"), "{text}");
    assert!(text.contains("\nOne mail was queued."), "{text}");
    let stored = store::maildir(&dir.path().join("mail"));
    assert_eq!(stored.len(), 1);
    assert!(stored[0].ends_with(b"\nHello through the front door.\n"), "{}", stored[0].escape_ascii());
    assert_eq!(store::names(elsewhere.path()), Vec::<PathBuf>::new());
}

#[test]
fn every_shipped_file_has_a_meaning_and_explains_itself() {
    for path in store::names(&root().join("config")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(postern::config::known::known(name).is_some(), "{name}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("# "), "{name}");
    }
}

/// An example's text with what an administrator adapts put in, and nothing else changed.
fn adapted(example: &str, changes: &[(&str, String)]) -> String {
    let text = fs::read_to_string(root().join("examples").join(example)).unwrap();
    changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in examples/{example}");
        text.replace(from, to)
    })
}

/// A launcher by its example: a mail comes through, a RELAYCLIENT that was left over does not.
fn serves(room: &Room, port: u16, launcher: &mut Command) {
    launcher.env_clear().envs(room.environment()).env("RELAYCLIENT", "");
    let log = File::create(room.path("log/launcher")).unwrap();
    launcher.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    let mut child = launcher.spawn().unwrap();
    let served = std::panic::catch_unwind(|| {
        let mut client = connect(port);
        client.open("a@client.example", &["x@here.example"]);
        client.command("RCPT TO:<x@far.example>", 550);
        client.command("DATA", 354);
        client.send(b"Subject: x\r\n\r\nx\r\n.\r\n");
        client.expect(250);
        client.command("QUIT", 221);
        client.closed();
    });
    common::play::end_group(&mut child);
    assert!(served.is_ok(), "{}", fs::read_to_string(room.path("log/launcher")).unwrap());
    assert_eq!(store::maildir(&room.path("mail")).len(), 1);
}

/// Waits for the port, a few seconds at most.
fn connect(port: u16) -> Client {
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nobody listens");
        std::thread::sleep(Duration::from_millis(10));
    }
    Client::connect(port)
}

fn launched_room() -> (Room, u16) {
    let room = Room::new("relay\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    room.open_to_all();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (room, port)
}

#[test]
fn the_example_for_xinetd_serves() {
    let (Some(xinetd), true) = (common::require("xinetd"), common::require_root()) else {
        return;
    };
    let (room, port) = launched_room();
    let path = |name: &str| room.path(name).display().to_string();
    let changes = [
        ("log_type        = SYSLOG daemon info", format!("log_type = FILE {}", path("log/xinetd"))),
        ("port            = 25\n", format!("port = {port}\nbind = 127.0.0.1\n")),
        ("user            = postern", "user = nobody".to_owned()),
        ("/usr/local/sbin/postern", room.own_binary().display().to_string()),
        ("/etc/postern", path("config")),
    ];
    fs::write(room.path("xinetd.conf"), adapted("xinetd.conf", &changes)).unwrap();
    let mut command = Command::new(xinetd);
    let words = ["-dontfork", "-stayalive", "-f", &path("xinetd.conf"), "-pidfile", &path("log/xinetd.pid")];
    serves(&room, port, command.args(words));
}

#[test]
fn the_example_for_tcpserver_serves() {
    let programs = (common::require("tcpserver"), common::require("tcprules"), common::require_root());
    let (Some(_), Some(tcprules), true) = programs else {
        return;
    };
    let (room, port) = launched_room();
    let path = |name: &str| room.path(name).display().to_string();
    let changes = [
        (" 0 25 ", format!(" 127.0.0.1 {port} ")),
        ("id -u postern", "id -u nobody".to_owned()),
        ("id -g postern", "id -g nobody".to_owned()),
        ("/usr/local/sbin/postern", room.own_binary().display().to_string()),
        ("/etc/postern", path("config")),
    ];
    fs::write(room.path("run"), adapted("run.tcpserver", &changes)).unwrap();
    fs::write(room.path("rules"), "127.0.0.9:deny\n:allow\n").unwrap();
    let mut rules = Command::new(tcprules);
    rules.args([path("config/tcp.cdb"), path("config/tcp.tmp")]).stdin(File::open(room.path("rules")).unwrap());
    assert!(rules.status().unwrap().success());
    let mut command = Command::new("sh");
    serves(&room, port, command.arg(room.path("run")));
}
