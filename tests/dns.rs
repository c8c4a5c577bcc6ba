//! The DNS service against a real authoritative server, and against one that lies, dawdles and says nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::knot::Knot;
use common::play::Play;
use common::room::Room;
use postern::config::ConfigDir;
use postern::world::dns::{Kind, QUESTIONS_MAX};
use postern::world::{Answer, Dns, DnsName, Question, World};
use tempfile::TempDir;

/// Longer than any of this takes, on any machine.
const LONG: Duration = Duration::from_secs(20);

/// The real outside with this `config/dns`.
fn world(settings: &str) -> (World, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dns"), settings).unwrap();
    let config = ConfigDir::open_with(dir.path(), None).unwrap();
    (World::real(Rc::new(config)), dir)
}

fn name(text: &str) -> DnsName {
    DnsName::new(text).unwrap()
}

fn question(text: &str, kind: Kind) -> Question {
    Question::new(name(text), kind)
}

fn ask(dns: &Rc<dyn Dns>, text: &str, kind: Kind) -> String {
    dns.ask_one(&question(text, kind)).to_string()
}

/// What a real server is asked for, and must say.
const ZONE: &str = "@ A 192.0.2.1\n@ AAAA 2001:db8::1\n@ MX 20 mx2\n@ MX 10 mx1\n@ TXT \"v=spf1 \" \"-all\"\nnull MX 0 .\n\
    mx1 A 192.0.2.11\nalias CNAME far.other.test.\nto-nothing CNAME nothing\nto-nodata CNAME mx1\n\
    a CNAME b\nb CNAME a\nself CNAME self\nx.dname A 192.0.2.99\n\
    c1 CNAME c2\nc2 CNAME c3\nc3 CNAME c4\nc4 CNAME c5\nc5 CNAME c6\nc6 CNAME c7\nc7 CNAME c8\nc8 CNAME c9\nc9 A 192.0.2.9\n\
    c0 CNAME c1\nodd TXT \"a\\000\\010b\"\n*.wild A 192.0.2.77\n";

fn zones() -> String {
    let big = (0..60).map(|number| format!("big TXT \"{number} {}\"\n", "x".repeat(200)));
    let many = (0..101).map(|number| format!("many A 192.0.2.{number}\n"));
    let full = (0..100).map(|number| format!("full A 192.0.2.{number}\n"));
    let vast = (0..100).map(|number| format!("vast TXT \"{number} {}\"\n", "x".repeat(200)));
    let all = big.chain(many).chain(full).chain(vast);
    ZONE.to_owned() + &all.collect::<String>()
}

#[test]
fn a_real_server() {
    let zones = zones();
    let reverse = "1 PTR client.example.test.\n2 PTR a\\032b.example.test.\n3 PTR a\\010b.example.test.\n";
    let listed = "2.0.0.127 A 127.0.0.2\n2.0.0.127 A 127.0.0.4\n";
    let Some(knot) = Knot::start(&[
        ("example.test", &zones),
        ("other.test", "far A 192.0.2.55\n"),
        ("2.0.192.in-addr.arpa", reverse),
        ("zen.test", listed),
        ("broken.test", ""),
    ]) else {
        return;
    };
    #[rustfmt::skip]
    let table = [
        ("example.test", Kind::A, "192.0.2.1"),
        ("EXAMPLE.Test.", Kind::Aaaa, "2001:db8::1"),
        ("example.test", Kind::Txt, "\"v=spf1 -all\""),
        ("null.example.test", Kind::Mx, "0 ."),
        ("example.test", Kind::Ns, "ns.example.test"),
        ("example.test", Kind::Soa, "ns.example.test 7"),
        ("mx1.example.test", Kind::Mx, "no such record"),
        ("nothing.example.test", Kind::A, "no such name"),
        ("deeper.nothing.example.test", Kind::Txt, "no such name"),
        ("any.wild.example.test", Kind::A, "192.0.2.77"),
        // Into another zone: its server, which happens to be the same, is asked for the rest.
        ("alias.example.test", Kind::A, "192.0.2.55"),
        ("to-nothing.example.test", Kind::A, "no such name"),
        ("to-nodata.example.test", Kind::Mx, "no such record"),
        ("c1.example.test", Kind::A, "192.0.2.9"),
        ("c0.example.test", Kind::A, "failed: more than 8 CNAMEs"),
        ("a.example.test", Kind::A, "failed: CNAMEs that go in a circle"),
        ("self.example.test", Kind::A, "failed: CNAMEs that go in a circle"),
        ("odd.example.test", Kind::Txt, "\"a??b\""),
        ("many.example.test", Kind::A, "failed: more than 100 records"),
        ("vast.example.test", Kind::Txt, "failed: more than 16384 octets of records"),
        ("2.0.0.127.zen.test", Kind::A, "127.0.0.2, 127.0.0.4"),
        ("3.0.0.127.zen.test", Kind::A, "no such name"),
        ("1.2.0.192.in-addr.arpa", Kind::Ptr, "client.example.test"),
        ("2.2.0.192.in-addr.arpa", Kind::Ptr, "failed: records that hold a character that a name cannot have"),
        ("3.2.0.192.in-addr.arpa", Kind::Ptr, "failed: records that hold a character that a name cannot have"),
    ];
    for more in ["", "tcp_only 1\n", "mixed_case 0\n"] {
        let (world, _dir) = world(&(knot.setting() + more));
        for (text, kind, want) in table {
            assert_eq!(sorted(&ask(&world.dns, text, kind)), want, "{text} {kind} {more}");
        }
        let mx = sorted(&ask(&world.dns, "example.test", Kind::Mx));
        assert_eq!(mx, "10 mx1.example.test, 20 mx2.example.test");
        let servfail = ask(&world.dns, "x.broken.test", Kind::A);
        assert_eq!(servfail, format!("failed: SERVFAIL from {}", knot.address));
        let refused = ask(&world.dns, "elsewhere.test", Kind::A);
        assert_eq!(refused, format!("failed: REFUSED from {}", knot.address));
        // Too long for UDP.
        let big = world.dns.ask_one(&question("big.example.test", Kind::Txt));
        assert_eq!(big.records().len(), 60, "{big}");
        assert_eq!(world.dns.ask_one(&question("full.example.test", Kind::A)).addresses().count(), 100);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(world.dns.ask_one(&Question::reverse(ip)).to_string(), "client.example.test");
    }
}

/// Records come in any order.
fn sorted(text: &str) -> String {
    let mut parts: Vec<&str> = text.split(", ").collect();
    parts.sort_unstable();
    parts.join(", ")
}

/// A question as the stand-in gets it.
#[derive(Clone)]
struct Query {
    octets: Vec<u8>,
    /// Of the question section.
    end: usize,
    /// In lower case.
    name: String,
    at: Instant,
}

impl Query {
    fn read(octets: &[u8]) -> Self {
        let (mut labels, mut at) = (Vec::new(), 12);
        while octets[at] > 0 {
            let len = usize::from(octets[at]);
            labels.push(String::from_utf8_lossy(&octets[at + 1..=at + len]).to_ascii_lowercase());
            at += len + 1;
        }
        Self { octets: octets.to_vec(), end: at + 5, name: labels.join("."), at: Instant::now() }
    }

    /// An answer from a resolver, with this response code and these records.
    fn reply(&self, code: u8, records: &[Vec<u8>]) -> Vec<u8> {
        let mut reply = self.octets[..self.end].to_vec();
        reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
        reply[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        reply[8..12].fill(0);
        reply.extend(records.concat());
        reply
    }

    fn listed(&self, last: u8) -> Vec<u8> {
        self.reply(0, &[record(&[0xc0, 12], 1, &[127, 0, 0, last])])
    }
}

/// A record of class IN.
fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let len = u8::try_from(data.len()).unwrap();
    [owner, &[0, kind, 0, 1, 0, 0, 0, 60, 0, len], data].concat()
}

/// A name server of ours. What it is asked can be received; `answer` says what is sent, and when.
struct StandIn {
    address: SocketAddr,
    heard: Receiver<Query>,
}

impl StandIn {
    fn start(mut answer: impl FnMut(&Query) -> Vec<(Duration, Vec<u8>)> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, heard): (Sender<Query>, Receiver<Query>) = channel();
        thread::spawn(move || {
            let mut octets = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut octets) {
                let query = Query::read(&octets[..len]);
                // Before anybody can have the answer.
                if sender.send(query.clone()).is_err() {
                    return;
                }
                for (after, reply) in answer(&query) {
                    let socket = socket.try_clone().unwrap();
                    let send = move || {
                        thread::sleep(after);
                        let _ = socket.send_to(&reply, from);
                    };
                    if after.is_zero() { send() } else { drop(thread::spawn(send)) }
                }
            }
        });
        Self { address, heard }
    }

    fn setting(&self) -> String {
        format!("server {}\n", self.address)
    }

    fn heard(&self) -> Vec<Query> {
        self.heard.try_iter().collect()
    }
}

/// Answers at once.
fn now(replies: Vec<Vec<u8>>) -> Vec<(Duration, Vec<u8>)> {
    replies.into_iter().map(|reply| (Duration::ZERO, reply)).collect()
}

/// What the lying server says to a question whose name begins with this word.
fn lie(query: &Query) -> Vec<Vec<u8>> {
    let truth = || query.listed(2);
    let forged = query.listed(66);
    let with = |mut octets: Vec<u8>, change: &dyn Fn(&mut Vec<u8>)| {
        change(&mut octets);
        octets
    };
    match query.name.split('.').next().unwrap() {
        "truth" => vec![truth()],
        "servfail" => vec![query.reply(2, &[])],
        "refused" => vec![query.reply(5, &[])],
        "formerr" => vec![query.reply(1, &[])],
        "nxdomain" => vec![query.reply(3, &[])],
        "nxbut" => vec![query.reply(3, &[record(&[0xc0, 12], 1, &[127, 0, 0, 2])])],
        "nodata" => vec![query.reply(0, &[])],
        "lame" => vec![with(query.reply(0, &[]), &|octets| octets[3] = 0)],
        "id" => vec![with(forged, &|octets| octets[0] ^= 0xff), truth()],
        "name" => vec![with(forged, &|octets| octets[13] = b'x'), truth()],
        "kind" => vec![with(forged, &|octets| octets[query.end - 3] = 16), truth()],
        "class" => vec![with(query.listed(66), &|octets| octets[query.end + 5] = 3)],
        "none" => {
            let owner = &query.octets[12..query.end - 4];
            let mut reply = query.reply(0, &[])[..12].to_vec();
            reply[5..8].copy_from_slice(&[0, 0, 1]);
            vec![[reply, record(owner, 1, &[127, 0, 0, 66])].concat(), truth()]
        }
        "short" => vec![Vec::new(), vec![query.octets[0]], truth()],
        "owner" => vec![query.reply(0, &[record(b"\x05other\x04test\0", 1, &[127, 0, 0, 2])])],
        "type" => vec![query.reply(0, &[record(&[0xc0, 12], 16, b"\x04text")])],
        "garbage" => vec![with(truth(), &|octets| octets.truncate(octets.len() - 2))],
        "pointer" => vec![query.reply(0, &[record(&[0xff, 0xff], 1, &[127, 0, 0, 2])])],
        "query" => vec![with(truth(), &|octets| octets[2] = 1)],
        "cut" => vec![with(query.reply(0, &[]), &|octets| octets[2] |= 2)],
        "case" => vec![with(truth(), &|octets| octets[12..].make_ascii_lowercase())],
        "silence" => Vec::new(),
        other => panic!("{other}"),
    }
}

#[test]
fn answers_that_lie() {
    let server = StandIn::start(|query| now(lie(query)));
    let failed = |what: &str| format!("failed: {what} from {}", server.address);
    // No one listens there by TCP, which is tried where UDP is not to be trusted.
    let refused = format!("failed: {}: connection refused", server.address);
    #[rustfmt::skip]
    let table = [
        ("truth", "127.0.0.2".to_owned()),
        ("servfail", failed("SERVFAIL")),
        ("refused", failed("REFUSED")),
        ("formerr", failed("FORMERR")),
        ("nxdomain", "no such name".to_owned()),
        ("nxbut", "failed: records of a name that does not exist".to_owned()),
        ("nodata", "no such record".to_owned()),
        ("lame", "failed: the server does not know, and does not ask others".to_owned()),
        ("id", "127.0.0.2".to_owned()),
        ("name", "127.0.0.2".to_owned()),
        ("kind", "127.0.0.2".to_owned()),
        ("class", "no such record".to_owned()),
        ("none", "127.0.0.2".to_owned()),
        ("short", "127.0.0.2".to_owned()),
        ("owner", "no such record".to_owned()),
        ("type", "no such record".to_owned()),
        ("garbage", refused.clone()),
        ("pointer", refused.clone()),
        ("query", refused.clone()),
        ("cut", refused.clone()),
        ("case", refused),
        ("silence", format!("failed: {}: no answer in time", server.address)),
    ];
    let (world, _dir) = world(&(server.setting() + "timeout 1\nattempts 1\n"));
    let questions: Vec<Question> =
        table.iter().map(|(word, _)| question(&format!("{word}.abcdefghijklmnop.test"), Kind::A)).collect();
    let answers = world.dns.ask(&questions);
    for ((word, want), answer) in table.iter().zip(&answers) {
        assert_eq!(answer.to_string(), *want, "{word}");
    }
    // Once is enough.
    let heard = server.heard().len();
    assert_eq!(world.dns.ask(&questions), answers);
    assert_eq!(server.heard().len(), 0, "after {heard}");
    assert_eq!(heard, table.len());
}

#[test]
fn names_go_out_in_mixed_case_unless_that_is_off() {
    let server = StandIn::start(|query| now(lie(query)));
    let asked = "truth.abcdefghijklmnopqrstuvwxyz.test";
    for (setting, mixed) in [("", true), ("mixed_case 0\n", false)] {
        let (world, _dir) = world(&(server.setting() + setting));
        assert_eq!(ask(&world.dns, asked, Kind::A), "127.0.0.2");
        let query = &server.heard()[0];
        assert_eq!(query.octets[12..query.end].iter().any(u8::is_ascii_uppercase), mixed);
        // A server that does not keep the case is believed only then.
        assert_eq!(ask(&world.dns, "case.abcdefghijklmnopqrstuvwxyz.test", Kind::A) == "127.0.0.2", !mixed);
        server.heard();
    }
}

#[test]
fn twenty_zones_cost_one_round_trip() {
    const ZONES: usize = 20;
    const DELAY: Duration = Duration::from_millis(200);
    // Says nothing before it has been asked for all: whoever waits between two questions gets no answer.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let all = thread::spawn(move || {
        let mut got: Vec<(Query, SocketAddr)> = Vec::new();
        let mut octets = [0; 2048];
        socket.set_read_timeout(Some(LONG)).unwrap();
        while got.len() < ZONES {
            let (len, from) = socket.recv_from(&mut octets).unwrap();
            got.push((Query::read(&octets[..len]), from));
        }
        thread::sleep(DELAY);
        for (query, from) in &got {
            socket.send_to(&query.listed(2), from).unwrap();
        }
        got
    });
    let (world, _dir) = world(&format!("server {address}\ntimeout 15\ntotal 15\n"));
    let ip = "192.0.2.1".parse().unwrap();
    let zones = (0..ZONES).map(|number| name(&format!("zone{number}.test")));
    let questions: Vec<Question> =
        zones.map(|zone| Question::new(DnsName::listed(ip, &zone).unwrap(), Kind::A)).collect();
    let start = Instant::now();
    let answers = world.dns.ask(&questions);
    let took = start.elapsed();
    assert!(answers.iter().all(|answer| answer.to_string() == "127.0.0.2"), "{answers:?}");
    let got = all.join().unwrap();
    let names: BTreeSet<&str> = got.iter().map(|(query, _)| &*query.name).collect();
    assert_eq!(names.len(), ZONES, "each once");
    let ports: BTreeSet<u16> = got.iter().map(|(_, from)| from.port()).collect();
    assert_eq!(ports.len(), ZONES, "each from a port of its own");
    let ids: BTreeSet<&[u8]> = got.iter().map(|(query, _)| &query.octets[..2]).collect();
    assert!(ids.len() > ZONES / 2, "{ids:?}");
    assert!(took >= DELAY && took < DELAY * (ZONES as u32), "{took:?}");
}

#[test]
fn what_is_begun_is_on_its_way_and_waits_for_whoever_asks() {
    let server = StandIn::start(|query| now(lie(query)));
    let (world, _dir) = world(&(server.setting() + "timeout 0.3\nattempts 1\n"));
    let questions = [question("truth.test", Kind::A), question("nxdomain.test", Kind::A)];
    world.dns.begin(&questions);
    let first = server.heard.recv_timeout(LONG).unwrap();
    let second = server.heard.recv_timeout(LONG).unwrap();
    assert!(first.at.elapsed() < LONG && [&*first.name, &*second.name].contains(&"truth.test"));
    // The time that a server has is over before anybody looks: the answer was there in time.
    thread::sleep(Duration::from_millis(600));
    world.dns.begin(&questions);
    assert_eq!(world.dns.ask(&questions), [Answer::Found(vec![listed()]), Answer::NoSuchName]);
    assert_eq!(server.heard().len(), 0, "each was sent once");

    // Even when there is no time left to wait.
    let other = [question("nodata.test", Kind::A)];
    world.dns.begin(&other);
    server.heard.recv_timeout(LONG).unwrap();
    thread::sleep(Duration::from_millis(100));
    world.deadline.replace(Some(Instant::now()));
    assert_eq!(world.dns.ask(&other), [Answer::NoData]);
}

fn listed() -> postern::world::dns::Record {
    postern::world::dns::Record::A([127, 0, 0, 2].into())
}

#[test]
fn waiting_ends_at_the_deadline_and_at_the_limit_of_a_call() {
    let delay = Duration::from_millis(700);
    let server = StandIn::start(move |query| match &*query.name {
        "slow.test" => vec![(delay, query.listed(2))],
        _ => now(lie(query)),
    });
    let (world, _dir) = world(&(server.setting() + "timeout 15\nattempts 2\ntotal 0.2\n"));
    let questions = ["truth.test", "slow.test", "silence.test"].map(|text| question(text, Kind::A));
    let start = Instant::now();
    let answers = world.dns.ask(&questions);
    assert_eq!(answers, [Answer::Found(vec![listed()]), Answer::Late, Answer::Late]);
    world.deadline.replace(Some(Instant::now() + Duration::from_millis(50)));
    assert_eq!(world.dns.ask(&questions[2..]), [Answer::Late]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // What comes later is taken by whoever asks again.
    world.deadline.replace(None);
    let until = Instant::now() + LONG;
    while world.dns.ask_one(&questions[1]) == Answer::Late {
        assert!(Instant::now() < until);
    }
    assert_eq!(world.dns.ask_one(&questions[1]), Answer::Found(vec![listed()]));
    assert_eq!(server.heard().len(), 3, "none was repeated");
}

#[test]
fn the_next_server_is_asked_if_one_fails_or_is_silent() {
    let silent = StandIn::start(|_| Vec::new());
    let failing = StandIn::start(|query| now(vec![query.reply(2, &[])]));
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = StandIn::start(|query| now(lie(query)));
    let all = format!("{}{}server {nobody}\n", silent.setting(), failing.setting());
    let (world, _dir) = world(&(all.clone() + &good.setting() + "timeout 0.2\nattempts 2\n"));
    assert_eq!(ask(&world.dns, "truth.test", Kind::A), "127.0.0.2");
    let heard = [&silent, &failing, &good].map(|server| server.heard().len());
    assert_eq!(heard, [1, 1, 1]);

    let (world, _dir) = self::world(&(all + "timeout 0.2\nattempts 2\n"));
    let answer = world.dns.ask_one(&question("truth.test", Kind::A));
    assert!(matches!(answer, Answer::Failed { .. }) && answer.is_unknown(), "{answer}");
    // Who said that he cannot tell is not asked again.
    assert_eq!([&silent, &failing].map(|server| server.heard().len()), [2, 1]);
}

#[test]
fn where_nobody_listens_nobody_is_waited_for() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (world, _dir) = world(&format!("server {nobody}\ntimeout 20\nattempts 2\ntotal 40\n"));
    let start = Instant::now();
    let refused = format!("failed: {nobody}: connection refused");
    assert_eq!(ask(&world.dns, "truth.test", Kind::A), refused);
    assert_eq!(ask(&world.dns, "nxdomain.test", Kind::A), refused);
    assert_eq!(world.dns.check(), [format!("{nobody} does not answer: connection refused")]);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_was_silent_is_asked_last_from_then_on() {
    let silent = StandIn::start(|_| Vec::new());
    let good = StandIn::start(|query| now(lie(query)));
    let (world, _dir) = world(&format!("{}{}timeout 0.5\nattempts 1\n", silent.setting(), good.setting()));
    assert_eq!(ask(&world.dns, "truth.test", Kind::A), "127.0.0.2");
    assert_eq!(ask(&world.dns, "nxdomain.test", Kind::A), "no such name");
    assert_eq!([&silent, &good].map(|server| server.heard().len()), [1, 2]);
    let told = ask(&world.dns, "silence.test", Kind::A);
    let [first, last] = [&good, &silent].map(|server| format!("{}: no answer in time", server.address));
    assert_eq!(told, format!("failed: {first}; {last}"));
}

#[test]
fn check_asks_the_servers_if_a_plugin_does() {
    let room = Room::new("relay\nfcrdns\nrcpt_ok\nqueue/maildir {ROOM}/mail\n");
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    room.config("dns", &format!("server {nobody}\n"));
    let check = || String::from_utf8_lossy(&Play::new(&room).argument("check").run(b"").output).into_owned();
    let warning = format!("config/dns: {nobody} does not answer: connection refused\n");
    let text = check();
    assert!(text.contains(&warning) && text.contains(": fit to serve"), "{text}");
    room.config("plugins", &format!("rcpt_ok\nqueue/maildir {}/mail\n", room.path("").display()));
    let text = check();
    assert!(!text.contains("does not answer"), "{text}");
    let good = StandIn::start(|query| now(vec![query.reply(0, &[])]));
    room.config("plugins", &format!("fcrdns\nrcpt_ok\nqueue/maildir {}/mail\n", room.path("").display()));
    room.config("dns", &good.setting());
    let text = check();
    assert!(!text.contains("does not answer"), "{text}");
}

#[test]
fn a_session_asks_a_bounded_number_of_questions() {
    let server = StandIn::start(|query| now(vec![query.reply(3, &[])]));
    let (world, _dir) = world(&server.setting());
    let questions: Vec<Question> =
        (0..QUESTIONS_MAX + 1).map(|number| question(&format!("n{number}.test"), Kind::A)).collect();
    // In steps, for the stand-in's socket holds no 200.
    let answers: Vec<Answer> = questions.chunks(20).flat_map(|some| world.dns.ask(some)).collect();
    assert!(answers[..QUESTIONS_MAX].iter().all(|answer| *answer == Answer::NoSuchName));
    assert_eq!(answers[QUESTIONS_MAX].to_string(), "failed: more than 600 questions in one session");
    assert_eq!(world.dns.ask_one(&questions[0]), Answer::NoSuchName);
    world.dns.begin(&questions[QUESTIONS_MAX..]);
    assert_eq!(server.heard().len(), QUESTIONS_MAX);
    assert_eq!(world.dns.ask(&[]), []);
}

#[test]
fn a_fault_in_the_settings_is_told_before_the_greeting_and_by_check() {
    let room = Room::with_queue();
    room.config("dns", "# ours\nserver 127.0.0.1\ntimout 3\n");
    let fault = "dns line 3: unknown setting \"timout\" (did you mean \"timeout\"?)";
    let served = Play::new(&room).run(b"QUIT\r\n");
    assert!(served.output.starts_with(b"421 "), "{:?}", String::from_utf8_lossy(&served.output));
    assert!(served.log.contains(fault), "{}", served.log);
    let checked = Play::new(&room).argument("check").run(b"");
    let text = String::from_utf8_lossy(&checked.output);
    assert!(text.contains(fault) && text.contains("not fit to serve"), "{text}");
    room.config("dns", "server 127.0.0.1\n");
    assert!(Play::new(&room).run(b"QUIT\r\n").output.starts_with(b"220 "));
}

#[test]
fn a_scripted_dns_for_try() {
    let room = Room::with_queue();
    let zone = room.path("zone");
    let zone = zone.to_str().unwrap();
    let play = || Play::new(&room).argument("try").argument("--dns").argument(zone).argument("-").run(b"QUIT\r\n");
    let missing = play();
    assert!(missing.log.contains("zone: No such file"), "{}", missing.log);
    fs::write(zone, "a.test A 127.0.0.2\nb.test A\nb.test BOGUS 1\n").unwrap();
    let wrong = play();
    assert!(wrong.log.contains("zone line 2: \"\" is not an IPv4 address"), "{}", wrong.log);
    assert!(wrong.log.contains("zone line 3: \"BOGUS\" is not A, AAAA,"), "{}", wrong.log);
    fs::write(zone, "a.test A 127.0.0.2\n").unwrap();
    let good = play();
    assert!(String::from_utf8_lossy(&good.output).contains("No mail was queued"), "{}", good.log);
}
