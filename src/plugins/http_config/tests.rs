// The attribute tells tests/catalogue.rs that all of this is a test.
#[cfg(test)]
use std::io;
use std::rc::Rc;

use super::super::shared::fixture;
use super::*;
use crate::world::{Address, FakeNet};

fn host(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

fn ok(body: &str) -> io::Result<Vec<u8>> {
    Ok(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn status(status: u16) -> io::Result<Vec<u8>> {
    Ok(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

fn built(words: &str, net: FakeNet) -> (Box<dyn Plugin>, Rc<FakeNet>) {
    let (mut world, _dir) = fixture::world(&[]);
    let net = Rc::new(net);
    world.net = net.clone();
    (fixture::build(&ENTRY, &format!("http_config {words}"), &world).unwrap(), net)
}

fn found(lines: &[&str]) -> Found {
    Some(lines.iter().map(|line| (*line).to_owned()).collect())
}

#[test]
fn a_setting_is_fetched_once() {
    let net = FakeNet::default().name("conf.example", &["192.0.2.80"]);
    let net = net.answer(host("192.0.2.80:80"), ok("# the name\n\n  mx1.example \r\nsecond\n"));
    let (mut plugin, net) = built("http://conf.example/c/", net);
    for _ in 0..2 {
        assert_eq!(plugin.config("me").unwrap(), found(&["mx1.example", "second"]));
    }
    let said = String::from_utf8(net.said()[0].octets.clone()).unwrap();
    assert!(said.starts_with("GET /c/me HTTP/1.1\r\nHost: conf.example\r\n"), "{said}");
    assert!(said.contains("\r\nConnection: close\r\n") && said.ends_with("\r\n\r\n"), "{said}");
    assert_eq!(net.said().len(), 1);
}

#[test]
fn what_each_answer_means() {
    let table = [
        (ok(""), Ok(found(&[]))),
        (ok("# x\n"), Ok(found(&[]))),
        (status(204), Ok(found(&[]))),
        (status(404), Ok(None)),
        (status(410), Ok(None)),
        (status(302), Err("redirections")),
        (status(500), Err("status 500")),
        (Ok(b"HTTP/1.1 200 OK\r\n\r\n\xff".to_vec()), Err("not UTF-8")),
        (Ok(Vec::new()), Err("within its header")),
        (ok(&"x".repeat(99)), Err("over 9 octets")),
        (Err(io::ErrorKind::ConnectionRefused.into()), Err("connection refused")),
        (Err(io::ErrorKind::TimedOut.into()), Err("timed out")),
    ];
    for (answer, expected) in table {
        let net = FakeNet::default().answer(host("192.0.2.80:80"), answer);
        let (mut plugin, _) = built("http://192.0.2.80/ octets_max 9", net);
        match (plugin.config("me"), expected) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(trouble), Err(wanted)) => {
                assert!(trouble.0.starts_with("http://192.0.2.80/me: ") && trouble.0.contains(wanted), "{trouble}");
            }
            (found, wanted) => panic!("{found:?}, not {wanted:?}"),
        }
    }
    let (mut plugin, _) = built("http://nowhere.example/", FakeNet::default());
    assert!(plugin.config("me").is_err());
}

#[test]
fn several_urls_are_asked_in_their_order() {
    let (one, other) = (host("192.0.2.1:80"), host("192.0.2.2:80"));
    // The first does not have it; then it is down, and not asked again.
    let net = FakeNet::default()
        .answer(one.clone(), status(404))
        .answer(other.clone(), ok("a"))
        .answer(one, status(503))
        .answer(other.clone(), ok("b"))
        .answer(other.clone(), ok("c"))
        .answer(other, status(404));
    let (mut plugin, net) = built("http://192.0.2.1/ http://192.0.2.2/", net);
    for (name, wanted) in [("me", "a"), ("databytes", "b"), ("timeout", "c")] {
        assert_eq!(plugin.config(name).unwrap(), found(&[wanted]), "{name}");
    }
    // The one that is down might have this.
    assert!(plugin.config("greeting").unwrap_err().0.contains("http://192.0.2.1/databytes: status 503"));
    assert_eq!(net.said().len(), 6);
}

#[test]
fn only_what_is_named_is_asked_for() {
    let net = FakeNet::default().answer(host("192.0.2.80:80"), ok("7"));
    let (mut plugin, net) = built("http://192.0.2.80/?x=%n&y names databytes,timeout", net);
    assert_eq!(plugin.config("me").unwrap(), None);
    assert_eq!(plugin.config("databytes").unwrap(), found(&["7"]));
    assert!(net.said()[0].octets.starts_with(b"GET /?x=databytes&y HTTP/1.1\r\n"));
    assert_eq!(net.said().len(), 1);
    let (mut plugin, _) = built("", FakeNet::default());
    assert_eq!(plugin.config("me").unwrap(), None);
    assert!(plugin.check()[0].contains("no URL"));
}

#[test]
fn a_server_that_does_not_answer_costs_the_time_of_the_session_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_, dir) = fixture::world(&[]);
    let world = World::real(Rc::new(crate::config::ConfigDir::open_with(dir.path(), None).unwrap()));
    let line = format!("http_config http://{}/ timeout 0.2", listener.local_addr().unwrap());
    let mut plugin = fixture::build(&ENTRY, &line, &world).unwrap();
    let begun = std::time::Instant::now();
    for name in ["me", "databytes", "timeout"] {
        assert!(plugin.config(name).is_err());
    }
    assert!((Duration::from_millis(200)..Duration::from_secs(5)).contains(&begun.elapsed()));
    assert!(world.deadline.get().is_none());
}

#[test]
fn settings_that_make_no_sense() {
    let (world, _dir) = fixture::world(&[]);
    for words in
        ["https://a/", "http://", "timeout 0", "timeout 31", "octets_max 0", "octets_max 1048577", "url http://a/"]
    {
        assert!(fixture::build(&ENTRY, &format!("http_config {words}"), &world).is_err(), "{words}");
    }
}

#[test]
fn the_shipped_file_tells_the_defaults() {
    assert_eq!(fixture::shipped("http_config").read::<Settings>().unwrap(), Settings::default());
}
