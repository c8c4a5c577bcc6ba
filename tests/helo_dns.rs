//! helo, resolvable_fromhost and rhsbl through the binary, against a real authoritative DNS server, and one that says nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use common::knot::Knot;
use common::play::{Outcome, Play};
use common::room::Room;

const DOMAIN: &str = "mx A 192.0.2.1\nmx AAAA 2001:db8::1\npool A 192.0.2.200\nalias CNAME mx\ntext TXT \"no address\"\n\
    @ MX 10 mx\nnull MX 0 .\nlost MX 10 nowhere\ninner MX 10 ten\ninner MX 20 self\nten A 10.1.2.3\nself AAAA ::1\n\
    half MX 10 ten\nhalf MX 20 mx\nsix MX 10 mx6\nmx6 AAAA 2001:db8::6\nhard MX 10 x.broken.test.\nbare A 192.0.2.7\n\
    beside MX 10 x.broken.test.\nbeside MX 20 mx\n\
    some MX 10 late\nsome MX 20 mx\nslow MX 10 late\n";

/// What the server has: a domain, a broken one, a list of domains, a list of everything, and names of addresses.
fn knot() -> Option<Knot> {
    let list = "bad.example A 127.0.1.2\nbad.example TXT \"see http://list.test/bad\"\nparked.example A 203.0.113.9\n\
        dead.example A 127.0.0.1\n";
    Knot::start(&[
        ("good.test", DOMAIN),
        ("broken.test", ""),
        ("list.test", list),
        ("all.test", "*.example A 127.0.0.2\n* A 127.0.0.2\n"),
        ("2.0.192.in-addr.arpa", "1 PTR mx.good.test.\n9 PTR client.other.test.\n5 TXT \"no name\"\n"),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR mx.good.test.\n"),
        ("100.51.198.in-addr.arpa", ""),
    ])
}

/// Plays a client at this address that says these lines, and gives back the last reply but that to QUIT.
fn answer(room: &Room, client: &str, lines: &[&str]) -> (String, Outcome) {
    let input = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "QUIT\r\n";
    let outcome = Play::new(room).variable("TCPREMOTEIP", client).run(input.as_bytes());
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    let replies: Vec<&str> = text.lines().filter(|line| !line.starts_with("221 ")).collect();
    (replies.last().copied().unwrap_or_default().to_owned(), outcome)
}

fn room(plugin: &str, dns: &str, files: &[(&str, &str)]) -> Room {
    let room = Room::new(&format!("{plugin}\nrcpt_ok\nqueue/discard\n"));
    room.config("dns", dns);
    files.iter().for_each(|(name, text)| room.config(name, text));
    room
}

#[test]
fn names_of_helo() {
    let Some(knot) = knot() else { return };
    let fine = "250 mx.example";
    #[rustfmt::skip]
    let table = [
        ("rfc", "mx.good.test", "192.0.2.1", fine),
        ("rfc", "mx.good.test", "2001:db8::1", fine),
        ("rfc", "alias.good.test", "192.0.2.1", fine),
        ("rfc", "mx.good.test", "192.0.2.9", fine),
        ("rfc", "none.good.test", "192.0.2.1", "550 5.7.1 HELO hostname does not exist"),
        ("rfc", "text.good.test", "192.0.2.1", "550 5.7.1 HELO hostname did not resolve"),
        // SERVFAIL: nobody can say that it does not exist.
        ("rfc", "x.broken.test", "192.0.2.1", fine),
        ("rfc", "mx.good.test", "192.0.2.4", "550 5.7.1 no rDNS for 192.0.2.4"),
        ("rfc", "mx.good.test", "192.0.2.5", "550 5.7.1 no reverse DNS for 192.0.2.5"),
        ("rfc", "mx.good.test", "198.51.100.1", "421 4.4.3 error getting reverse DNS for 198.51.100.1"),
        ("rfc", "[192.0.2.1]", "192.0.2.1", fine),
        ("strict", "mx.good.test", "192.0.2.1", fine),
        ("strict", "mx.good.test", "2001:db8::1", fine),
        ("strict", "pool.good.test", "192.0.2.9", fine),
        ("strict", "six.good.test", "192.0.2.1", "550 5.7.1 HELO hostname did not resolve"),
        ("strict", "mx6.good.test", "192.0.2.9", "550 5.7.1 That HELO hostname fails FCrDNS"),
        ("strict", "[192.0.2.1]", "192.0.2.1", "550 5.7.1 RFC 2821 allows an address literal, but we do not"),
    ];
    for (policy, name, client, expected) in table {
        let room = room(&format!("helo policy {policy}"), &knot.setting(), &[]);
        let (reply, outcome) = answer(&room, client, &[&format!("HELO {name}")]);
        assert!(reply.starts_with(expected), "{policy} {name} from {client}: {reply}\n{}", outcome.log);
        let closed = !String::from_utf8_lossy(&outcome.output).contains("221 ");
        assert_eq!(closed, expected != fine, "{policy} {name} from {client}");
    }
}

#[test]
fn senders_domains() {
    let Some(knot) = knot() else { return };
    let (fine, fqdn) = ("250 2.1.0", "450 4.1.8 FQDN required in the envelope sender: ");
    let invalid = [("invalid_resolvable_fromhost", "127.0.0.0/8\n10.0.0.0/8\n::1\n")];
    #[rustfmt::skip]
    let table = [
        ("", "good.test", fine, ""),
        ("", "mx.good.test", fine, ""),
        ("", "alias.good.test", fine, ""),
        ("", "bare.good.test", fine, ""),
        ("", "six.good.test", fine, ""),
        ("", "half.good.test", fine, ""),
        ("", "beside.good.test", fine, ""),
        ("", "none.good.test", fqdn, "none.good.test does not exist"),
        ("", "text.good.test", fqdn, "text.good.test has no MX and no address"),
        ("", "lost.good.test", fqdn, "lost.good.test has no MX with an address"),
        ("", "inner.good.test", fqdn, "inner.good.test leads to no address that mail can be sent to"),
        ("", "ten.good.test", fqdn, "ten.good.test leads to no address that mail can be sent to"),
        ("", "null.good.test", "550 5.7.27 ", "null.good.test takes no mail: null MX"),
        ("", "x.broken.test", "450 4.4.3 ", "Temporary address resolution failure"),
        ("", "hard.good.test", "450 4.4.3 ", "Temporary address resolution failure"),
        (" reject_type perm", "none.good.test", "550 5.1.8 FQDN required in the envelope sender: ", "does not exist"),
        (" reject_type perm", "x.broken.test", "450 4.4.3 ", "Temporary address resolution failure"),
        (" reject 0", "none.good.test", fine, ""),
    ];
    for (words, domain, begins, holds) in table {
        let room = room(&format!("resolvable_fromhost{words}"), &knot.setting(), &invalid);
        let (reply, outcome) = answer(&room, "192.0.2.1", &["EHLO x", &format!("MAIL FROM:<a@{domain}>")]);
        assert!(reply.starts_with(begins) && reply.contains(holds), "{words} {domain}: {reply}\n{}", outcome.log);
    }
}

#[test]
fn lists_of_domains() {
    let Some(knot) = knot() else { return };
    let fine = "250 2.1.0";
    let zones = "all.test lists everything\nbroken.test\nlist.test\n";
    let see = "is listed by list.test: see http://list.test/bad";
    #[rustfmt::skip]
    let table = [
        ("mx.example", "good.example", fine, ""),
        ("mx.example", "bad.example", "550 5.7.1 Mail from bad.example rejected because it ", see),
        ("bad.example", "good.example", "550 5.7.1 Mail from HELO bad.example rejected because it ", see),
        ("mx.example", "parked.example", fine, ""),
        ("mx.example", "dead.example", fine, ""),
    ];
    for (hello, domain, begins, holds) in table {
        let room = room("rhsbl", &knot.setting(), &[("rhsbl_zones", zones)]);
        let lines = [&*format!("EHLO {hello}"), &format!("MAIL FROM:<a@{domain}>")];
        let (reply, outcome) = answer(&room, "192.0.2.1", &lines);
        assert!(reply.starts_with(begins) && reply.contains(holds), "{hello} {domain}: {reply}\n{}", outcome.log);
    }
}

/// A server that hands everything on to Knot, but for names with the label `late`: to those it says nothing.
fn partly_silent(knot: &Knot) -> String {
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    back.connect(knot.address).unwrap();
    back.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = front.local_addr().unwrap();
    thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok((len, from)) = front.recv_from(&mut octets) {
            let is_late = octets[..len].to_ascii_lowercase().windows(5).any(|label| label == b"\x04late");
            if is_late || back.send(&octets[..len]).is_err() {
                continue;
            }
            if let Ok(len) = back.recv(&mut octets) {
                let _ = front.send_to(&octets[..len], from);
            }
        }
    });
    address.to_string()
}

#[test]
fn one_answer_that_does_not_come_leaves_time_for_the_others() {
    let Some(knot) = knot() else { return };
    let dns = format!("server {}\ntimeout 20\nattempts 1\ntotal 20\n", partly_silent(&knot));
    let zones = "late.test\nlist.test is bad\n";
    let mail = |domain: &str| format!("MAIL FROM:<a@{domain}>");
    #[rustfmt::skip]
    let table = [
        ("rhsbl timeout 1", "bad.example", "550 5.7.1 Mail from bad.example rejected because it is bad"),
        ("rhsbl timeout 1", "good.example", "250 2.1.0"),
        // One exchanger is enough.
        ("resolvable_fromhost timeout 1", "some.good.test", "250 2.1.0"),
        ("resolvable_fromhost timeout 1", "slow.good.test", "450 4.4.3 Temporary address resolution failure"),
    ];
    for (line, domain, expected) in table {
        let room = room(line, &dns, &[("rhsbl_zones", zones)]);
        let (reply, outcome) = answer(&room, "192.0.2.1", &["EHLO x", &mail(domain)]);
        assert!(reply.starts_with(expected), "{line} {domain}: {reply}\n{}", outcome.log);
    }
}

#[test]
fn a_server_that_says_nothing_costs_its_time_and_no_more() {
    // Bound, and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = format!("server {}\ntimeout 20\nattempts 1\ntotal 20\n", silent.local_addr().unwrap());
    let zones: String = (0..20).map(|number| format!("z{number}.test\n")).collect();
    let mail = ["EHLO mx.good.test", "MAIL FROM:<a@good.test>"];
    #[rustfmt::skip]
    let table = [
        ("helo policy rfc timeout 1", &mail[..1], "421 4.4.3 error getting reverse DNS for 192.0.2.1"),
        ("resolvable_fromhost timeout 1", &mail[..], "450 4.4.3 Temporary address resolution failure"),
        ("rhsbl timeout 1", &mail[..], "250 2.1.0"),
    ];
    for (line, lines, expected) in table {
        let room = room(line, &dns, &[("rhsbl_zones", &zones)]);
        let (reply, outcome) = answer(&room, "192.0.2.1", lines);
        assert!(reply.starts_with(expected), "{line}: {reply}\n{}", outcome.log);
        assert!(outcome.elapsed >= Duration::from_secs(1), "{line}: {:?}", outcome.elapsed);
        assert!(outcome.elapsed < Duration::from_secs(10), "{line}: {:?}", outcome.elapsed);
    }
}

#[test]
fn try_shows_the_list_its_answer_and_the_line() {
    let room = room("helo policy rfc reject 0\nrhsbl", "", &[("rhsbl_zones", "# ours\nlist.test is bad\n")]);
    let zone = room.path("zone");
    fs::write(&zone, "bad.example.list.test A 127.0.1.2\n192.0.2.1 PTR mx.example\n").unwrap();
    let arguments = ["try", "--dns", zone.to_str().unwrap(), "--remote-ip", "192.0.2.1", "-"];
    let play = arguments.iter().fold(Play::new(&room), |play, word| play.argument(word));
    let outcome = play.run(b"EHLO mx.example\r\nMAIL FROM:<a@bad.example>\r\nQUIT\r\n");
    let text = String::from_utf8_lossy(&outcome.output);
    let shown = [
        "550 5.7.1 Mail from bad.example rejected because it is bad",
        "rhsbl refused: rhsbl_zones line 2: bad.example.list.test: 127.0.1.2",
        "config/plugins line 2",
        "tolerated: HELO hostname does not exist",
        "mx.example: no such name",
    ];
    for part in shown {
        assert!(text.contains(part), "{part} is not in\n{text}\n{}", outcome.log);
    }
}
