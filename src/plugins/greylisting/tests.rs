use std::collections::BTreeMap;
use std::rc::Rc;

use tempfile::TempDir;

use super::super::shared::fixture;
use super::*;
use crate::hook::changes::Facts;
use crate::hook::{ClientPlace, ClientSystem, Verdict};
use crate::mail::Transaction;
use crate::smtp::parameters::{MailParameters, RcptParameters};
use crate::world::dns::FakeDns;
use crate::world::store::Among;
use crate::world::{Clock, ManualClock, MemoryStore};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A host with its clock, store and configuration. Each session has a plugin of its own, as each process does.
struct Host {
    world: World,
    clock: Rc<ManualClock>,
    line: String,
    _dir: TempDir,
}

impl Host {
    fn new(line: &str, files: &[(&str, &str)]) -> Self {
        let (mut world, dir) = fixture::world(files);
        let clock = Rc::new(ManualClock::default());
        world.clock = Rc::clone(&clock) as Rc<dyn Clock>;
        world.store = Rc::new(MemoryStore::new(Rc::clone(&world.clock)));
        Self { world, clock, line: line.to_owned(), _dir: dir }
    }

    fn dns(mut self, zone: &str) -> Self {
        self.world.dns = Rc::new(FakeDns::parse(zone).unwrap());
        self
    }

    fn plugin(&self) -> Box<dyn Plugin> {
        fixture::build(&ENTRY, &self.line, &self.world).unwrap_or_else(|error| panic!("{}: {error}", self.line))
    }

    /// What becomes of one transaction in a session of its own: "MAIL", "RCPT" or "DATA" where it is refused, else "".
    fn mail(&self, ip: &str, from: &str, to: &str) -> &'static str {
        self.session(fixture::session(Some(ip)), from, &[(to, "")]).0
    }

    /// The same for any session, and recipients with an option each; and what the record says of it.
    fn session(&self, mut session: Session, from: &str, to: &[(&str, &str)]) -> (&'static str, String) {
        let mut plugin = self.plugin();
        let from = ReversePath::parse(from).unwrap();
        let mut transaction = Transaction::new(from.clone(), MailParameters::default());
        let mut record = Vec::new();
        if plugin.wants(Hook::Mail) {
            let mut at = Mail { session: &mut session, reverse_path: &from, parameters: &MailParameters::default() };
            let ruling = plugin.mail(&at).unwrap();
            at.apply(ruling.changes, "test").unwrap();
            if refused(ruling.verdict, ruling.evidence, &mut record) {
                return ("MAIL", record.join("; "));
            }
        }
        for (path, option) in to {
            let mut recipient = Recipient::new(ForwardPath::parse(path).unwrap(), RcptParameters::default());
            match option.split_once('=') {
                Some(("whitelisted", why)) => recipient.whitelisted = Some(why.to_owned()),
                Some((name, value)) => recipient.options = BTreeMap::from([(name.to_owned(), value.to_owned())]),
                None => {}
            }
            if plugin.wants(Hook::Rcpt) && recipient.whitelisted.is_none() {
                let mut at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
                let ruling = plugin.rcpt(&at).unwrap();
                at.apply(ruling.changes, "test").unwrap();
                if refused(ruling.verdict, ruling.evidence, &mut record) {
                    continue;
                }
            }
            transaction.recipients.push(recipient);
        }
        if transaction.recipients.len() < to.len() {
            return ("RCPT", record.join("; "));
        }
        let at = Data { session: &mut session, transaction: &transaction, line: &fixture::Silent };
        let ruling = plugin.data(&at).unwrap();
        assert!(ruling.changes.is_empty());
        let denied = refused(ruling.verdict, ruling.evidence, &mut record);
        (if denied { "DATA" } else { "" }, record.join("; "))
    }

    /// The store, "key = value" each.
    fn remembered(&self) -> Vec<String> {
        let page = self.world.store.scan(Among::default(), None, 100).unwrap();
        page.items.iter().map(|item| format!("{} = {}", item.key, item.value.text().unwrap())).collect()
    }
}

fn refused(verdict: Verdict, evidence: Vec<String>, record: &mut Vec<String>) -> bool {
    record.extend(evidence);
    match verdict {
        Verdict::Deny(denial) => {
            assert_eq!(denial, denial_expected(), "what the client sees");
            true
        }
        Verdict::Decline | Verdict::Skip => false,
        other => panic!("{other:?}"),
    }
}

fn denial_expected() -> Denial {
    Denial::transient("This mail is temporarily denied").code(7, 1)
}

const IP: &str = "192.0.2.1";
const FROM: &str = "<a@x.example>";
const TO: &str = "<b@here.example>";

#[test]
fn the_timeline_of_a_sender() {
    let host = Host::new("greylisting", &[]);
    // After this time: whether it is refused, and the entry, its time from the start on.
    let start = 1_893_456_000;
    let table = [
        (Duration::ZERO, "MAIL", "0:1:0:0"),
        (Duration::ZERO, "MAIL", "0:1:1:0"),
        (MINUTE * 49, "MAIL", "0:1:2:0"),
        (MINUTE * 51, "", "3060:1:2:1"),
        (MINUTE * 51, "", "3060:1:2:2"),
        (MINUTE * 52, "", "3120:1:2:3"),
        // Seen every 35 days, it lives on.
        (DAY * 35, "", "3024000:1:2:4"),
        (DAY * 70, "", "6048000:1:2:5"),
        // After 36 without, it is new. The store has forgotten it by then.
        (DAY * 106, "MAIL", "9158400:1:0:0"),
        (DAY * 107, "", "9244800:1:0:1"),
    ];
    let mut passed = Duration::ZERO;
    for (at, refused, entry) in table {
        host.clock.advance(at - passed);
        passed = at;
        assert_eq!(host.mail(IP, FROM, TO), refused, "after {at:?}");
        let (time, counts) = entry.split_once(':').unwrap();
        let expected = format!("greylisting {IP} = {}:{counts}", start + time.parse::<u64>().unwrap());
        assert_eq!(host.remembered(), [expected], "after {at:?}");
    }
}

#[test]
fn keys_are_those_that_import_writes() {
    let table = [
        ("", "192.0.2.1"),
        ("sender 1", "192.0.2.1 a@x.example"),
        ("recipient 1", "192.0.2.1 b@here.example"),
        ("sender 1 recipient 1", "192.0.2.1 a@x.example b@here.example"),
        ("remote_ip 0 sender 1", "a@x.example"),
        ("network 1", "192.0.2.0/24"),
        ("network 1 remote_ip 0 sender 1", "192.0.2.0/24 a@x.example"),
        ("per_recipient 1", "192.0.2.1"),
    ];
    for (settings, key) in table {
        let host = Host::new(&format!("greylisting {settings}"), &[]);
        assert_ne!(host.mail("::ffff:192.0.2.1", "<A@X.example>", "<B@HERE.example>"), "", "{settings}");
        assert_eq!(host.remembered(), [format!("greylisting {key} = 1893456000:1:0:0")], "{settings}");
    }
    let host = Host::new("greylisting sender 1 recipient 1 network 1", &[]);
    assert_eq!(host.mail("2001:db8:0:1:2::3", "<>", "<PostMaster>"), "");
    assert_eq!(host.mail("2001:db8:0:1:ffff::4", "<\"a B\"@b\u{fc}cher.example>", TO), "RCPT");
    let expected = [
        "greylisting 2001:db8:0:1::/64  postmaster = 1893456000:1:0:0",
        "greylisting 2001:db8:0:1::/64 \\\"a b\\\"@xn--bcher-kva.example b@here.example = 1893456000:1:0:0",
    ];
    assert_eq!(host.remembered(), expected);
    // No address on a pipe, and nothing to go by.
    let host = Host::new("greylisting", &[]);
    assert_eq!(host.session(fixture::session(None), FROM, &[(TO, "")]), ("", "no client address".to_owned()));
}

#[test]
fn where_it_refuses() {
    let table = [
        ("", FROM, "MAIL"),
        ("", "<>", "DATA"),
        ("deny_late 1", FROM, "DATA"),
        ("recipient 1", FROM, "RCPT"),
        ("recipient 1", "<>", "DATA"),
        ("recipient 1 deny_late 1", FROM, "DATA"),
        ("per_recipient 1", FROM, "RCPT"),
        ("by_option 1", FROM, ""),
        ("reject 0", FROM, ""),
        ("reject 0", "<>", ""),
        ("reject naughty", FROM, ""),
        ("mode denysoft", FROM, "MAIL"),
        ("mode testonly", FROM, ""),
        ("mode off", FROM, ""),
    ];
    for (settings, from, refused) in table {
        let host = Host::new(&format!("greylisting {settings}"), &[]);
        assert_eq!(host.mail(IP, from, TO), refused, "{settings} {from}");
        // Also what is only noted is remembered.
        assert_eq!(host.remembered().is_empty(), settings == "mode off" || settings == "by_option 1", "{settings}");
        host.clock.advance(MINUTE * 50);
        assert_eq!(host.mail(IP, from, TO), "", "{settings} {from}, again");
    }
    let host = Host::new("greylisting reject naughty", &[]);
    let mut session = fixture::session(Some(IP));
    let parameters = &MailParameters::default();
    let mut at = Mail { session: &mut session, reverse_path: &ReversePath::Null, parameters };
    let ruling = host.plugin().mail(&at).unwrap();
    at.apply(ruling.changes, "greylisting").unwrap();
    assert_eq!(session.naughty.unwrap().denial, denial_expected());
}

#[test]
fn options_of_recipients() {
    const OTHER: &str = "<c@here.example>";
    let table: [(&str, &str, &[(&str, &str)], &str); 15] = [
        ("recipient 1", FROM, &[(TO, "denysoft_greylist=0")], ""),
        ("recipient 1", FROM, &[(TO, "greylisting=off")], ""),
        ("recipient 1", FROM, &[(TO, "denysoft_greylist=1")], "RCPT"),
        ("recipient 1", FROM, &[(TO, "whitelisted=friend")], ""),
        ("per_recipient 1", FROM, &[(TO, "denysoft_greylist=0"), (OTHER, "")], "RCPT"),
        ("by_option 1", FROM, &[(TO, "denysoft_greylist=1")], "RCPT"),
        ("by_option 1", FROM, &[(TO, "denysoft_greylist=0")], ""),
        ("by_option 1", FROM, &[(TO, "other=1")], ""),
        // At DATA there is one reply for all.
        ("recipient 1", "<>", &[(TO, ""), (OTHER, "")], "DATA"),
        ("recipient 1", "<>", &[(TO, ""), (OTHER, "denysoft_greylist=0")], ""),
        ("recipient 1", "<>", &[(TO, ""), (OTHER, "whitelisted=friend")], ""),
        ("by_option 1", "<>", &[(TO, "denysoft_greylist=1"), (OTHER, "")], ""),
        ("deny_late 1", FROM, &[(TO, "denysoft_greylist=0")], ""),
        ("deny_late 1", FROM, &[("<postmaster>", ""), ("<Postmaster@here.example>", "")], ""),
        ("deny_late 1", FROM, &[("<postmaster>", ""), (TO, "")], "DATA"),
    ];
    for (settings, from, to, refused) in table {
        let host = Host::new(&format!("greylisting {settings}"), &[]);
        let found = host.session(fixture::session(Some(IP)), from, to);
        assert_eq!(found.0, refused, "{settings} {from} {to:?}: {}", found.1);
    }
}

#[test]
fn one_transaction_is_one_attempt() {
    let host = Host::new("greylisting per_recipient 1", &[]);
    let to = ["<a@here.example>", "<b@here.example>", "<c@here.example>"].map(|path| (path, ""));
    assert_eq!(host.session(fixture::session(Some(IP)), FROM, &to).0, "RCPT");
    assert_eq!(host.remembered(), ["greylisting 192.0.2.1 = 1893456000:1:0:0"]);
}

#[test]
fn what_was_refused_at_rcpt_by_others_is_no_reason_at_data() {
    let host = Host::new("greylisting recipient 1", &[]);
    let (mut plugin, mut session) = (host.plugin(), fixture::session(Some(IP)));
    let mut transaction = Transaction::new(ReversePath::Null, MailParameters::default());
    let recipient = |path: &str| Recipient::new(ForwardPath::parse(path).unwrap(), RcptParameters::default());
    let mut refused = recipient("<nobody@here.example>");
    plugin.rcpt(&Rcpt { session: &mut session, transaction: &transaction, recipient: &mut refused }).unwrap();
    transaction.recipients.push(recipient(TO));
    let at = Data { session: &mut session, transaction: &transaction, line: &fixture::Silent };
    assert!(matches!(plugin.data(&at).unwrap().verdict, Verdict::Decline));
    transaction.recipients.push(refused);
    let at = Data { session: &mut session, transaction: &transaction, line: &fixture::Silent };
    assert!(matches!(plugin.data(&at).unwrap().verdict, Verdict::Deny(_)));
    plugin.reset_transaction(&End { session: &session });
    let at = Data { session: &mut session, transaction: &transaction, line: &fixture::Silent };
    assert!(matches!(plugin.data(&at).unwrap().verdict, Verdict::Decline));
}

#[test]
fn conditions_on_the_system_and_the_place() {
    let system = |genre: &str, uptime_minutes, distance| {
        let (genre, link) = (genre.to_owned(), "Ethernet or modem".to_owned());
        Some(ClientSystem { genre, detail: "XP or later".into(), link, distance, uptime_minutes })
    };
    let windows = || system("Windows", Some(30), Some(9));
    let table = [
        ("p0f genre,windows", None, None, "p0f: what the client runs on is not known"),
        ("p0f genre,windows", windows(), None, "MAIL"),
        ("p0f genre,windows", system("Linux", None, None), None, "p0f: the client runs on Linux XP or later"),
        ("p0f genre,linux,link,modem", windows(), None, "MAIL"),
        ("p0f detail,^xp", windows(), None, "MAIL"),
        ("p0f uptime,31", windows(), None, "MAIL"),
        ("p0f uptime,30", windows(), None, "p0f: the client runs on Windows XP or later"),
        ("p0f distance,8", windows(), None, "MAIL"),
        ("p0f distance,9", windows(), None, "p0f: the client runs on Windows XP or later"),
        ("p0f uptime,60", system("", None, None), None, "p0f: the client runs on  XP or later"),
        ("geoip DE,at", None, None, "MAIL"),
        ("geoip DE,at", None, Some("AT"), "geoip: the client is in AT"),
        ("geoip DE,at", None, Some("US"), "MAIL"),
    ];
    for (settings, system, country, expected) in table {
        let host = Host::new(&format!("greylisting {settings}"), &[]);
        let mut session = fixture::session(Some(IP));
        session.system = system;
        session.place = country.map(|code| ClientPlace { country: Some(code.to_owned()), ..ClientPlace::default() });
        let (refused, record) = host.session(session, FROM, &[(TO, "")]);
        let found = if refused.is_empty() { record.as_str() } else { refused };
        assert_eq!(found, expected, "{settings}");
        assert_eq!(host.remembered().is_empty(), refused.is_empty(), "{settings}");
    }
}

/// A list like the one that postgrey ships: some two hundred lines of every kind.
fn long_list() -> String {
    let mut list = String::from("# clients that do not come again\n\n");
    for number in 0..60 {
        list += &format!(
            "host{number}.far.example # a bad one\n198.51.100.{number}\n/^out{number}-\\d+\\.pool\\.example$/\n"
        );
    }
    list + "192.0.2.16/28\n203.0.113\n2001:db8:1::/48\nB\u{fc}cher.example\n.dotted.example\nunder_score.example\n\
            /^(mail|mx)\\d*\\.[^.]+\\.farm\\.example$/\n"
}

#[test]
fn excluded_clients() {
    let list = long_list();
    assert!(list.lines().count() > 185);
    let files =
        [("greylist_exclude_files", "lists/clients\nmore\n"), ("lists/clients", &*list), ("more", "192.0.2.99\n")];
    // The name to which the address points, and leads back; the line, or "" for greylisted.
    let table = [
        ("192.0.2.15", "", ""),
        ("192.0.2.16", "", "clients line 183: 192.0.2.16/28"),
        ("192.0.2.31", "", "clients line 183: 192.0.2.16/28"),
        ("192.0.2.32", "", ""),
        ("192.0.2.99", "", "more line 1: 192.0.2.99"),
        ("198.51.100.59", "", "clients line 181: 198.51.100.59"),
        ("198.51.100.5", "", "clients line 19: 198.51.100.5"),
        ("198.51.100.60", "", ""),
        ("203.0.113.200", "", "clients line 184: 203.0.113"),
        ("203.0.114.1", "", ""),
        ("2001:db8:1:2::3", "", "clients line 185: 2001:db8:1::/48"),
        ("2001:db8:2::1", "", ""),
        ("192.0.2.1", "host0.far.example", "clients line 3: host0.far.example"),
        ("192.0.2.1", "HOST0.Far.Example", "clients line 3: host0.far.example"),
        ("192.0.2.1", "smtp.host0.far.example", "clients line 3: host0.far.example"),
        ("192.0.2.1", "xhost0.far.example", ""),
        ("192.0.2.1", "far.example", ""),
        ("192.0.2.1", "xn--bcher-kva.example", "clients line 186: B\u{fc}cher.example"),
        ("192.0.2.1", "a.dotted.example", "clients line 187: .dotted.example"),
        ("192.0.2.1", "under_score.example", "clients line 188: under_score.example"),
        ("192.0.2.1", "out7-12.pool.example", "clients line 26: /^out7-\\d+\\.pool\\.example$/"),
        ("192.0.2.1", "out7-x.pool.example", ""),
        ("192.0.2.1", "mx2.some.farm.example", "clients line 189: /^(mail|mx)\\d*\\.[^.]+\\.farm\\.example$/"),
    ];
    for (ip, name, line) in table {
        let family = if ip.contains(':') { "AAAA" } else { "A" };
        let zone = if name.is_empty() { String::new() } else { format!("{ip} PTR {name}\n{name} {family} {ip}\n") };
        let host = Host::new("greylisting", &files).dns(&zone);
        let (refused, record) = host.session(fixture::session(Some(ip)), FROM, &[(TO, "")]);
        assert_eq!(refused.is_empty(), !line.is_empty(), "{ip} {name}: {record}");
        assert!(line.is_empty() || record == line, "{ip} {name}: {record}");
        assert_eq!(host.remembered().is_empty(), !line.is_empty(), "{ip} {name}");
    }
}

#[test]
fn names_that_cannot_be_proved() {
    let files = [("greylist_exclude_files", "clients\n"), ("clients", "host.far.example\n")];
    let table = [
        // Whoever owns the address can say anything of it.
        ("192.0.2.1 PTR host.far.example\nhost.far.example A 192.0.2.2\n", false),
        ("192.0.2.1 PTR host.far.example\nhost.far.example NXDOMAIN\n", false),
        ("192.0.2.1 PTR host.far.example\nhost.far.example SERVFAIL\n", true),
        ("1.2.0.192.in-addr.arpa NXDOMAIN\n", false),
        ("1.2.0.192.in-addr.arpa SERVFAIL\n", true),
        ("1.2.0.192.in-addr.arpa TIMEOUT\n", true),
    ];
    for (zone, unknown) in table {
        let host = Host::new("greylisting", &files).dns(zone);
        let (refused, record) = host.session(fixture::session(Some(IP)), FROM, &[(TO, "")]);
        assert_eq!(refused, "MAIL", "{zone}");
        assert_eq!(record.contains("its name is not known: "), unknown, "{zone}: {record}");
    }
    // Where no line has a name, nobody asks.
    let files = [("greylist_exclude_files", "clients\n"), ("clients", "198.51.100.0/24\n")];
    let host = Host::new("greylisting", &files).dns("1.2.0.192.in-addr.arpa SERVFAIL\n");
    let (_, record) = host.session(fixture::session(Some(IP)), FROM, &[(TO, "")]);
    assert!(!record.contains("name"), "{record}");
}

#[test]
fn lines_that_cannot_be_understood_are_named() {
    let files = [
        ("greylist_exclude_files", "clients\nnone\n~/list\n"),
        ("clients", "192.0.2.1/33\n/(/\na b\n192.0.2.256\n192.0.2.1 # fine\n-\n/a\n"),
    ];
    let host = Host::new("greylisting", &files);
    let faults = host.plugin().check();
    let expected = ["clients line 1: ", "clients line 2: ", "clients line 3: ", "clients line 4: ", "clients line 7: "];
    assert_eq!(faults.len(), expected.len() + 2, "{faults:#?}");
    for place in expected {
        assert!(faults.iter().any(|fault| fault.contains(place)), "{place}: {faults:#?}");
    }
    assert!(faults.iter().any(|fault| fault.contains("greylist_exclude_files line 2: ")), "{faults:#?}");
    let mut session = fixture::session(Some(IP));
    let parameters = &MailParameters::default();
    let at = Mail { session: &mut session, reverse_path: &ReversePath::Null, parameters };
    host.plugin().mail(&at).unwrap_err();
    assert_eq!(ENTRY.on_error, OnError::Decline);
}

#[test]
fn settings_of_old() {
    // The file's lines all count; the plugin's line wins.
    let files = [("denysoft_greylist", "# ours\nblack_timeout 60\nsender  1\nremote-ip 0\ngrey_timeout 12000\n")];
    let host = Host::new("denysoft_greylist sender 0 recipient 1 nfslock 1 mode testonly", &files);
    assert_eq!(host.session(fixture::session(Some(IP)), FROM, &[(TO, "")]).0, "");
    assert_eq!(host.remembered(), ["greylisting b@here.example = 1893456000:1:0:0"]);
    host.clock.advance(MINUTE);
    host.mail(IP, FROM, TO);
    assert_eq!(host.remembered(), ["greylisting b@here.example = 1893456060:1:0:1"]);
    let notes = host.plugin().notes();
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(Host::new("greylisting", &[]).plugin().notes().is_empty());

    let (world, _dir) = fixture::world(&[("denysoft_greylist", "black_timeout 60\nblak_timeout 3\n")]);
    let error = fixture::build(&ENTRY, "greylisting", &world).err().unwrap().to_string();
    assert!(error.contains("denysoft_greylist line 2: "), "{error}");
    let (world, _dir) = fixture::world(&[("denysoft_greylist", "black_timeout\n")]);
    let error = fixture::build(&ENTRY, "greylisting", &world).err().unwrap().to_string();
    assert!(error.contains("denysoft_greylist line 1: "), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let (world, _dir) = fixture::world(&[]);
    let table = [
        "remote_ip 0",
        "black_timeout -1",
        "black_timeout 3110400",
        "white_timeout 3000",
        "white_timeout 315360001",
        "p0f genre",
        "p0f colour,blue",
        "p0f uptime,soon",
        "p0f genre,(",
        "mode maybe",
        "reject 2x",
    ];
    for words in table {
        assert!(fixture::build(&ENTRY, &format!("greylisting {words}"), &world).is_err(), "{words}");
    }
    for words in
        ["black_timeout 0", "redis redis.example:6379 db_dir /var/db upgrade 1 loglevel 6", "remote_ip 0 network 1"]
    {
        assert!(fixture::build(&ENTRY, &format!("greylisting {words}"), &world).is_ok(), "{words}");
    }
}

#[test]
fn the_shipped_file_tells_the_defaults() {
    let shipped: Settings = fixture::shipped("greylisting").read().unwrap();
    assert!(shipped.mode == Some(Mode::DenySoft) && shipped.grey_timeout.is_some());
    let (mode, grey_timeout, db_dir, nfslock, redis, upgrade) = (None, None, None, None, None, None);
    let shipped = Settings { mode, grey_timeout, db_dir, nfslock, redis, upgrade, _loglevel: None, ..shipped };
    assert_eq!(shipped, Settings::default());
}
