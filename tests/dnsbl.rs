//! Lists of clients and names of clients, against a real DNS server, one that delays, and a scripted one as `postern try` has it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::knot::Knot;
use common::play::{Outcome, Play};
use common::room::Room;
use common::workers;

const ZONES: usize = 20;

/// Longer than any of this takes, on any machine.
const LONG: Duration = Duration::from_secs(20);

/// A question as it came by, and when.
struct Heard {
    /// In small letters.
    name: String,
    kind: u8,
    at: Instant,
}

/// Reads a question, and tells where its section ends.
fn question(octets: &[u8]) -> (Heard, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while octets[at] > 0 {
        let len = usize::from(octets[at]);
        labels.push(String::from_utf8_lossy(&octets[at + 1..=at + len]).to_ascii_lowercase());
        at += len + 1;
    }
    (Heard { name: labels.join("."), kind: octets[at + 2], at: Instant::now() }, at + 5)
}

/// Stands before a name server. Nothing passes until `together` questions have come, so that whoever waits between two of them gets no
/// answer; of names that end in `lost` no answer ever passes.
fn relay(server: SocketAddr, together: usize, lost: &'static str) -> (SocketAddr, Receiver<Heard>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, heard) = channel();
    let pass = move |socket: UdpSocket, octets: Vec<u8>, from: SocketAddr| {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.set_read_timeout(Some(LONG)).unwrap();
        ours.send_to(&octets, server).unwrap();
        let mut reply = [0; 4096];
        if let Ok(len) = ours.recv(&mut reply) {
            let _ = socket.send_to(&reply[..len], from);
        }
    };
    thread::spawn(move || {
        let mut waiting = Vec::new();
        let mut octets = [0; 4096];
        let mut count = 0;
        while let Ok((len, from)) = socket.recv_from(&mut octets) {
            let (query, _) = question(&octets[..len]);
            count += 1;
            if !query.name.ends_with(lost) {
                waiting.push((octets[..len].to_vec(), from));
            }
            if sender.send(query).is_err() {
                return;
            }
            if count >= together {
                for (octets, from) in waiting.drain(..) {
                    let socket = socket.try_clone().unwrap();
                    thread::spawn(move || pass(socket, octets, from));
                }
            }
        }
    });
    (address, heard)
}

/// Knows no name, and says so after `delay`.
fn slow(delay: Duration) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut octets = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut octets) {
            let (_, end) = question(&octets[..len]);
            let mut reply = octets[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x81, 0x83]);
            reply[6..12].fill(0);
            let socket = socket.try_clone().unwrap();
            thread::spawn(move || {
                thread::sleep(delay);
                let _ = socket.send_to(&reply, from);
            });
        }
    });
    address
}

/// A session of a client at this address that says hello and goodbye.
fn connect(room: &Room, ip: &str) -> Outcome {
    Play::new(room).variable("TCPREMOTEIP", ip).run(b"QUIT\r\n")
}

fn text(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.output).replace("\r\n", "\n")
}

#[test]
fn twenty_zones_of_a_real_server_are_asked_at_once_and_liars_are_not_believed() {
    let listed = "9.2.0.192 A 127.0.0.2\n9.2.0.192 TXT \"Blocked, see http://z7.test/\"\n";
    let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.3\n";
    let names: Vec<String> = (0..ZONES).map(|number| format!("z{number}.test")).collect();
    let zone = |number: usize| match number {
        3 => six,
        7 => listed,
        // All the world is listed.
        12 => "* A 127.0.0.2\n* TXT \"for sale\"\n",
        13 => "* CNAME far.other.test.\n",
        // SERVFAIL.
        14 => "",
        15 => "* A 127.0.0.1\n",
        16 => "* A 1.2.3.4\n",
        17 => "* A 127.255.255.254\n",
        _ => "2.0.0.127 A 127.0.0.2\n",
    };
    let mut zones: Vec<(&str, &str)> = names.iter().enumerate().map(|(at, name)| (name.as_str(), zone(at))).collect();
    zones.push(("other.test", "far A 203.0.113.80\n"));
    let Some(knot) = Knot::start(&zones) else { return };

    let table = [
        ("192.0.2.9", Some("Blocked, see http://z7.test/"), "dnsbl_zones line 8: z7.test lists 192.0.2.9: 127.0.0.2"),
        (
            "2001:db8::7",
            Some("2001:db8::7 is listed by z3.test"),
            "dnsbl_zones line 4: z3.test lists 2001:db8::7: 127.0.0.3",
        ),
        ("192.0.2.10", None, ""),
        ("2001:db8::8", None, ""),
    ];
    // At once, for each waits as long for the zone whose answers are lost.
    workers::each(&table, |&(ip, refused, evidence)| {
        let (address, heard) = relay(knot.address, ZONES, "z18.test");
        let room = Room::new("dnsbl\nrcpt_ok\nqueue/discard\n");
        room.config("dnsbl_zones", &(names.join("\n") + "\n"));
        room.config("dns", &format!("server {address}\ntimeout 4\nattempts 1\n"));
        let outcome = connect(&room, ip);
        // One zone sends everybody there.
        let heard: Vec<Heard> = heard.try_iter().filter(|query| query.name != "far.other.test").collect();
        let said = text(&outcome);
        match refused {
            Some(text) => {
                assert!(said.starts_with(&format!("554 5.7.1 {text} (")), "{ip}: {said}");
                assert!(outcome.log.contains(evidence), "{ip}: {}", outcome.log);
            }
            None => assert!(said.starts_with("220 "), "{ip}: {said}{}", outcome.log),
        }
        // Nothing was answered before all were there: none waited for another.
        let first: BTreeSet<&str> =
            heard[..ZONES].iter().map(|query| query.name.rsplit_once(".z").unwrap().1).collect();
        assert_eq!(first.len(), ZONES, "{ip}: each zone once");
        assert!(heard[..ZONES].iter().all(|query| query.kind == 1), "A");
        // Then, of those that list it (the one that lists all the world, and perhaps one): the text, and whether it lists everything.
        let again = 2 * (1 + usize::from(refused.is_some()));
        assert_eq!(heard.len(), ZONES + again, "{ip}: {:?}", heard.iter().map(|query| &query.name).collect::<Vec<_>>());
        let spread = heard[ZONES - 1].at - heard[0].at;
        eprintln!("{ip}: {ZONES} questions within {} us", spread.as_micros());
    });
}

#[test]
fn every_zone_s_answer_is_in_the_record() {
    let room = Room::new("dnsbl\nrcpt_ok\nqueue/discard\n");
    room.config("dnsbl_zones", "all.test\nworld.test\ndead.test\nquota.test\nbroken.test\nslow.test\n");
    let zone = "9.2.0.192.all.test A 127.0.0.2\n1.0.0.127.all.test A 127.0.0.2\n9.2.0.192.world.test A 203.0.113.80\n\
                9.2.0.192.dead.test A 127.0.0.1\n9.2.0.192.quota.test A 127.255.255.254\n9.2.0.192.broken.test SERVFAIL\n\
                9.2.0.192.slow.test TIMEOUT\n";
    let said = try_it(&room, zone, "192.0.2.9", "QUIT\n");
    let expected = [
        "dnsbl declined: dnsbl_zones line 1: all.test: no listing: it lists 127.0.0.1 too (127.0.0.2), and so everything; ",
        "dnsbl_zones line 2: world.test: no listing: 203.0.113.80 is no answer of a list; ",
        "dnsbl_zones line 3: dead.test: no listing: 127.0.0.1 is no answer of a list; ",
        "dnsbl_zones line 4: quota.test: no listing: 127.255.255.254 says that the list does not answer our resolver; ",
        "not known to broken.test: failed: SERVFAIL; not known to slow.test: no answer in time",
    ];
    assert!(said.contains(&expected.concat()), "{said}");
    assert!(said.contains("S  220 "), "{said}");
}

/// `postern try` with this DNS.
fn try_it(room: &Room, zone: &str, ip: &str, dialog: &str) -> String {
    let file = room.path("zone");
    fs::write(&file, zone).unwrap();
    let words = ["try", "--remote-ip", ip, "--dns", file.to_str().unwrap(), "-"];
    let play = words.into_iter().fold(Play::new(room), Play::argument);
    let outcome = play.run(dialog.as_bytes());
    assert!(!outcome.log.contains("error: "), "{}", outcome.log);
    text(&outcome)
}

const LISTED: &str = "9.2.0.192.zen.test A 127.0.0.4\n9.2.0.192.zen.test A 127.0.0.2\n9.2.0.192.bl.test A 127.0.0.9\n\
                      9.2.0.192.good.test A 127.0.10.3\n";
const DIALOG: &str = "EHLO client.example\nMAIL FROM:<a@client.example>\nRCPT TO:<x@here.example>\nQUIT\n";

#[test]
fn try_shows_which_list_which_answer_and_which_line() {
    let room = Room::new("# first\ndnsbl threshold 3\nrcpt_ok\nqueue/discard\n");
    room.config(
        "dnsbl_zones",
        "# ours\nzen.test weight=2:Blocked, see http://zen.test/?ip=%IP%\nother.test\nbl.test\n",
    );
    let said = try_it(&room, LISTED, "192.0.2.9", "QUIT\n");
    eprintln!("{said}");
    assert!(said.contains("S  554 5.7.1 Blocked, see http://zen.test/?ip=192.0.2.9 ("), "{said}");
    let told = "dnsbl refused: dnsbl_zones line 2: zen.test lists 192.0.2.9: 127.0.0.2, 127.0.0.4 (weight 2); dnsbl_zones line 4: bl.test \
                lists 192.0.2.9: 127.0.0.9; together 3, refused from 3 on  [connect, config/plugins line 2, ";
    assert!(said.contains(told), "{said}");
}

#[test]
fn a_whitelist_is_heard_before_the_list_that_it_protects_from() {
    let lists = |room: &Room| {
        room.config("dnsbl_zones", "zen.test\n");
        room.config("whitelist_zones", "good.test our friends\n");
    };
    let room = Room::new("dns_whitelist_soft\ndnsbl\nrcpt_ok\nqueue/discard\n");
    lists(&room);
    let said = try_it(&room, LISTED, "192.0.2.9", DIALOG);
    let reason = "whitelist_zones line 1: good.test lists 192.0.2.9: 127.0.10.3 (our friends)";
    assert!(said.contains("S  220 ") && said.contains("S  250 2.1.5 "), "{said}");
    assert!(said.contains(&format!("dnsbl skipped: {reason}")), "{said}");
    // It spares, and vouches for nobody.
    let elsewhere = try_it(&room, LISTED, "192.0.2.9", &DIALOG.replace("here.example", "far.example"));
    assert!(elsewhere.contains("S  550 5.7.1 "), "{elsewhere}");

    // The other way round it comes too late, and check says so.
    let room = Room::new("dnsbl\ndns_whitelist_soft\nrelay\nrcpt_ok\nqueue/discard\n");
    lists(&room);
    assert!(try_it(&room, LISTED, "192.0.2.9", DIALOG).contains("S  554 "));
    let checked = text(&Play::new(&room).argument("check").run(b""));
    for (line, name) in [(2, "dns_whitelist_soft"), (3, "relay")] {
        let warning = format!(
            "line {line}: {name}: stands after dnsbl on line 1, which refuses clients that this one would spare"
        );
        assert!(checked.contains(&warning), "{checked}");
    }
}

#[test]
fn naughty_and_delayed_refusals_come_at_rcpt() {
    let zones = "zen.test:Blocked\n";
    for (chain, shown) in [
        (
            "dnsbl reject naughty reject_type disconnect\nnaughty\nrcpt_ok\nqueue/discard\n",
            "naughty refused: found naughty by dnsbl",
        ),
        (
            "dnsbl decide rcpt\nrcpt_ok\nqueue/discard\n",
            "dnsbl refused: dnsbl_zones line 1: zen.test lists 192.0.2.9: 127.0.0.2",
        ),
    ] {
        let room = Room::new(chain);
        room.config("dnsbl_zones", zones);
        let said = try_it(&room, LISTED, "192.0.2.9", DIALOG);
        assert!(said.contains("S  220 ") && said.contains(" 5.7.1 Blocked ("), "{said}");
        assert!(said.contains(shown), "{said}");
        let postmaster = DIALOG.replace("x@here.example", "postmaster");
        assert!(try_it(&room, LISTED, "192.0.2.9", &postmaster).contains("S  250 2.1.5 "), "{chain}");
    }
}

#[test]
fn names_of_clients_against_a_real_server() {
    let reverse = "1 PTR mail.example.test.\n2 PTR mail.example.test.\n3 PTR gone.example.test.\n5 PTR localhost.\n";
    let Some(knot) = Knot::start(&[
        ("2.0.192.in-addr.arpa", reverse),
        ("100.51.198.in-addr.arpa", ""),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR six.example.test.\n"),
        ("example.test", "mail A 192.0.2.1\nsix AAAA 2001:db8::1\n"),
    ]) else {
        return;
    };
    let table = [
        ("192.0.2.1", "220 ", ""),
        ("2001:db8::1", "220 ", ""),
        ("192.0.2.2", "554 ", "iprev=fail policy.iprev=192.0.2.2 (mail.example.test)"),
        ("192.0.2.3", "554 ", "iprev=permerror policy.iprev=192.0.2.3 (gone.example.test)"),
        ("192.0.2.4", "554 ", "iprev=permerror policy.iprev=192.0.2.4"),
        ("192.0.2.5", "554 ", "iprev=fail policy.iprev=192.0.2.5 (localhost)"),
        // SERVFAIL.
        ("198.51.100.1", "220 ", ""),
    ];
    let room = Room::new("fcrdns reject 1 reject_type perm\nrcpt_ok\nqueue/discard\n");
    room.config("dns", &(knot.setting() + "attempts 1\n"));
    for (ip, reply, evidence) in table {
        let outcome = connect(&room, ip);
        assert!(text(&outcome).starts_with(reply), "{ip}: {}", text(&outcome));
        assert!(outcome.log.contains(evidence), "{ip}: {}", outcome.log);
    }
    room.config("plugins", "fcrdns\nrcpt_ok\nqueue/discard\n");
    assert!(
        table.iter().all(|(ip, ..)| text(&connect(&room, ip)).starts_with("220 ")),
        "it refuses nobody unless told to"
    );
}

/// The middle one of five sessions' wall times.
fn wall(room: &Room) -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let outcome = connect(room, "192.0.2.9");
            assert!(text(&outcome).starts_with("220 "), "{}", text(&outcome));
            outcome.elapsed
        })
        .collect();
    times.sort_unstable();
    times[2]
}

#[test]
fn twenty_zones_take_the_time_of_the_slowest() {
    let delay = Duration::from_millis(100);
    let address = slow(delay);
    let zones =
        |count: usize, word: &str| (0..count).map(|number| format!("{word}{number}.test\n")).collect::<String>();
    let measure = |chain: &str, count: usize| {
        let room = Room::new(&format!("{chain}rcpt_ok\nqueue/discard\n"));
        room.config("dns", &format!("server {address}\n"));
        room.config("dnsbl_zones", &zones(count, "z"));
        room.config("whitelist_zones", &zones(count, "w"));
        wall(&room)
    };
    let none = measure("", 0);
    let one = measure("dnsbl\n", 1);
    let twenty = measure("dnsbl\n", ZONES);
    let both = measure("fcrdns\ndns_whitelist_soft\ndnsbl\n", ZONES);
    let ratio = |time: Duration| time.as_secs_f64() / one.as_secs_f64();
    eprintln!(
        "each answer after {delay:?}; a session without: {none:?}; one zone: {one:?}; {ZONES} zones: {twenty:?}, {:.2} times that; \
         fcrdns, {ZONES} zones of good clients and {ZONES} of bad ones: {both:?}, {:.2} times that",
        ratio(twenty),
        ratio(both)
    );
    assert!(one >= delay && twenty >= delay);
    // Far below what one after the other would take, and far above what a busy machine makes of it.
    assert!(ratio(twenty) < 4.0 && ratio(both) < 6.0);
}
