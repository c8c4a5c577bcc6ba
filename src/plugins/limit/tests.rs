use std::rc::Rc;

use tempfile::TempDir;

use super::super::shared::fixture;
use super::*;
use crate::hook::Verdict;
use crate::hook::changes::Facts;
use crate::mail::{Recipient, Transaction};
use crate::smtp::address::ForwardPath;
use crate::smtp::parameters::{MailParameters, RcptParameters};
use crate::world::store::Among;
use crate::world::{Clock, FakeHost, ManualClock, MemoryStore};

/// A host with its clock and store. Each session has a plugin of its own, as each process does.
struct Place {
    world: World,
    clock: Rc<ManualClock>,
    line: String,
    _dir: TempDir,
}

impl Place {
    fn new(line: &str) -> Self {
        let (mut world, dir) = fixture::world(&[]);
        let clock = Rc::new(ManualClock::default());
        world.clock = Rc::clone(&clock) as Rc<dyn Clock>;
        world.store = Rc::new(MemoryStore::new(Rc::clone(&world.clock)));
        Self { world, clock, line: line.to_owned(), _dir: dir }
    }

    fn plugin(&self) -> Box<dyn Plugin> {
        fixture::build(&ENTRY, &self.line, &self.world).unwrap_or_else(|error| panic!("{}: {error}", self.line))
    }

    /// What is refused of a session with one message: "connections", "messages", "recipients" or "errors", or nothing.
    fn play(&self, mut session: Session, from: &str) -> String {
        let mut plugin = self.plugin();
        let from = ReversePath::parse(from).unwrap();
        if plugin.wants(Hook::Connect) {
            let mut at = Connect { session: &mut session, line: &fixture::Silent };
            let ruling = plugin.connect(&at).unwrap();
            at.apply(ruling.changes, "limit").unwrap();
            if let Some(what) = refused(ruling.verdict, true) {
                return what;
            }
        }
        if plugin.wants(Hook::Mail) {
            let at = Mail { session: &mut session, reverse_path: &from, parameters: &MailParameters::default() };
            if let Some(what) = refused(plugin.mail(&at).unwrap().verdict, false) {
                return what;
            }
        }
        let transaction = Transaction::new(from, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse("<x@here.example>").unwrap(), RcptParameters::default());
        if plugin.wants(Hook::Rcpt) {
            let at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
            if let Some(what) = refused(plugin.rcpt(&at).unwrap().verdict, false) {
                return what;
            }
        }
        String::new()
    }

    fn remembered(&self) -> Vec<String> {
        let page = self.world.store.scan(Among::default(), None, 100).unwrap();
        page.items.iter().map(|item| format!("{} = {}", item.key, item.value.text().unwrap())).collect()
    }
}

fn refused(verdict: Verdict, close: bool) -> Option<String> {
    let denial = match verdict {
        Verdict::Deny(denial) => denial,
        Verdict::Decline => return None,
        other => panic!("{other:?}"),
    };
    let expected = Denial::transient(denial.text.clone()).code(7, 0);
    assert_eq!(denial, if close { expected.disconnect() } else { expected });
    let what = denial.text.strip_prefix("Too many ").unwrap().strip_suffix(" from you, try again later").unwrap();
    Some(what.to_owned())
}

fn client(ip: &str) -> Session {
    fixture::session(Some(ip))
}

const FROM: &str = "<a@x.example>";

#[test]
fn the_window_is_fixed() {
    for what in ["connections", "messages", "recipients"] {
        let place = Place::new(&format!("limit {what} 3/1m"));
        // Seconds passed, and whether it is refused.
        let table = [
            (0, false),
            (20, false),
            (40, false),
            (50, true),
            (59, true),
            (60, false),
            (61, false),
            (119, false),
            (119, true),
            (120, false),
        ];
        let mut passed = 0;
        for (at, over) in table {
            place.clock.advance(Duration::from_secs(at - passed));
            passed = at;
            let found = place.play(client("192.0.2.1"), FROM);
            assert_eq!(found, if over { what } else { "" }, "{what} at {at}");
        }
        assert_eq!(place.remembered(), [format!("limit {what} 192.0.2.1 = 1")]);
        assert_eq!(place.play(client("192.0.2.2"), FROM), "");
    }
}

#[test]
fn who_counts_together() {
    let (v6, neighbour, far) = ("2001:db8:0:1::1", "2001:db8:0:1:2::2", "2001:db8:0:2::1");
    // Two sessions, and what is refused of the second where one is the limit.
    let table = [
        ("connections", "192.0.2.1", FROM, "192.0.2.1", FROM, true),
        ("connections", "192.0.2.1", FROM, "192.0.2.2", FROM, false),
        ("network_connections", "192.0.2.1", FROM, "192.0.2.2", FROM, true),
        ("network_connections", "192.0.2.1", FROM, "192.0.3.2", FROM, false),
        ("network_recipients", v6, FROM, neighbour, FROM, true),
        ("network_messages", v6, FROM, far, FROM, false),
        ("domain_messages", "192.0.2.1", FROM, v6, "<b@X.example>", true),
        ("domain_messages", "192.0.2.1", FROM, "192.0.2.1", "<a@y.example>", false),
        ("domain_messages", "192.0.2.1", "<>", "192.0.2.1", "<>", false),
        ("domain_recipients", "192.0.2.1", FROM, v6, FROM, true),
        ("relay_messages", "192.0.2.1", FROM, "192.0.2.1", FROM, false),
    ];
    for (setting, first, from, second, then, over) in table {
        let place = Place::new(&format!("limit {setting} 1/1h"));
        assert_eq!(place.play(client(first), from), "", "{setting}");
        let found = place.play(client(second), then);
        let what = setting.rsplit('_').next().unwrap();
        assert_eq!(found, if over { what } else { "" }, "{setting} {first} {second}");
    }
}

#[test]
fn clients_that_may_relay_have_limits_of_their_own() {
    let place = Place::new("limit messages 1/1h domain_messages 1/1h relay_messages 2/1h");
    let relaying = || Session { relaying: Some("relayclients line 1".into()), ..client("192.0.2.1") };
    let found: Vec<String> = (0..3).map(|_| place.play(relaying(), FROM)).collect();
    assert_eq!(found, ["", "", "messages"]);
    let whitelisted = || Session { whitelisted: Some("friend".into()), ..client("192.0.2.3") };
    assert!((0..3).all(|_| place.play(whitelisted(), FROM).is_empty()));
    assert_eq!(place.remembered(), ["limit messages 192.0.2.1 = 3"]);
    // Without limits of their own they have none.
    let place = Place::new("limit messages 1/1h connections 1/1h");
    assert!((0..3).all(|_| place.play(relaying(), FROM).is_empty()));
    assert!(place.remembered().is_empty());
    // On a pipe there is nobody to count.
    assert!((0..3).all(|_| place.play(fixture::session(None), FROM).is_empty()));
}

#[test]
fn errors_are_permanent_refusals_by_others() {
    let place = Place::new("limit errors 1/1h network_errors 3/1h");
    let refuse = |ip: &str, plugin: &str, denial: &Denial| {
        let session = client(ip);
        place.plugin().deny(&Refusal { session: &session, hook: Hook::Rcpt, plugin, denial });
    };
    let permanent = Denial::permanent("no such user");
    refuse("192.0.2.1", "greylisting", &Denial::transient("later"));
    refuse("192.0.2.1", "limit", &permanent);
    refuse("192.0.2.1", "limit:1", &permanent);
    assert!(place.remembered().is_empty());
    refuse("192.0.2.1", "rcpt_ok", &permanent);
    assert_eq!(place.play(client("192.0.2.1"), FROM), "");
    refuse("192.0.2.1", "rcpt_ok", &permanent);
    assert_eq!(place.play(client("192.0.2.1"), FROM), "errors");
    assert_eq!(place.play(client("192.0.2.2"), FROM), "");
    refuse("192.0.2.3", "rcpt_ok", &permanent);
    refuse("192.0.2.4", "rcpt_ok", &permanent);
    assert_eq!(place.play(client("192.0.2.2"), FROM), "errors");
    let mut plugin = place.plugin();
    let at = Mail {
        session: &mut client("192.0.2.1"),
        reverse_path: &ReversePath::Null,
        parameters: &MailParameters::default(),
    };
    assert_eq!(refused(plugin.mail(&at).unwrap().verdict, false).as_deref(), Some("errors"));
    place.clock.advance(Duration::from_secs(3600));
    assert_eq!(place.play(client("192.0.2.1"), FROM), "");
}

#[test]
fn hosts_count_together_or_each_by_itself() {
    for (scope, refused) in [("cluster", "messages"), ("host", "")] {
        let mut place = Place::new(&format!("limit messages 1/1h scope {scope}"));
        place.world.host = Rc::new(FakeHost::new("one.example"));
        assert_eq!(place.play(client("192.0.2.1"), FROM), "");
        place.world.host = Rc::new(FakeHost::new("two.example"));
        assert_eq!(place.play(client("192.0.2.1"), FROM), refused, "{scope}");
    }
}

#[test]
fn what_is_only_noted() {
    let place = Place::new("limit messages 1/1h reject 0");
    assert!((0..3).all(|_| place.play(client("192.0.2.1"), FROM).is_empty()));
    let at = Mail {
        session: &mut client("192.0.2.1"),
        reverse_path: &ReversePath::Null,
        parameters: &MailParameters::default(),
    };
    let evidence = place.plugin().mail(&at).unwrap().evidence.join("; ");
    let expected = "tolerated: Too many messages from you, try again later; 192.0.2.1: 4 messages, limit 1 in 3600 s";
    assert_eq!(evidence, expected);
}

#[test]
fn without_a_limit_it_does_nothing() {
    let place = Place::new("limit");
    assert!(ENTRY.hooks.iter().all(|hook| !place.plugin().wants(*hook)));
    let place = Place::new("limit recipients 1/1");
    let wanted: Vec<Hook> = ENTRY.hooks.iter().copied().filter(|hook| place.plugin().wants(*hook)).collect();
    assert_eq!(wanted, [Hook::Rcpt]);
}

#[test]
fn limits_are_read_or_refused() {
    let table = [
        ("none", Some(None)),
        ("30/60", Some(Some((30, 60)))),
        ("0/1s", Some(Some((0, 1)))),
        ("7/2m", Some(Some((7, 120)))),
        ("200/1h", Some(Some((200, 3600)))),
        ("9/366d", Some(Some((9, WINDOW_MAX_S)))),
        ("9/367d", None),
        ("9/0", None),
        ("9", None),
        ("/9", None),
        ("9/", None),
        ("9/h", None),
        ("-1/9", None),
        ("9/1w", None),
        ("9/1 h", None),
        ("9/1.5h", None),
        ("4294967296/1", None),
    ];
    for (text, expected) in table {
        let found = Limit::try_from(text.to_owned()).ok();
        assert_eq!(found.map(|limit| limit.0.map(|rate| (rate.count, rate.window_s))), expected, "{text}");
    }
    let (world, _dir) = fixture::world(&[]);
    for words in ["messages 5", "mesages 5/1h", "scope all", "messages 1/0"] {
        assert!(fixture::build(&ENTRY, &format!("limit {words}"), &world).is_err(), "{words}");
    }
}

#[test]
fn the_shipped_file_tells_the_defaults() {
    assert_eq!(fixture::shipped("limit").read::<Settings>().unwrap(), Settings::default());
}
