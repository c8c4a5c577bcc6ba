// The attribute tells tests/catalogue.rs that all of this is a test.
#[cfg(test)]
use std::time::Duration;

use super::super::super::shared::fixture;
use super::super::mmdb::{Value, database};
use super::*;
use crate::hook::facts::Listen;

struct Silent;
impl Listen for Silent {
    fn client_speaks_within(&self, _wait: Duration) -> bool {
        false
    }
}

fn country(code: &'static str, name: &'static str) -> Value {
    Value::Map(vec![("iso_code", Value::Text(code)), ("names", Value::Map(vec![("en", Value::Text(name))]))])
}

fn city(code: &'static str, name: &'static str, continent: &'static str, city: &'static str, at: Point) -> Value {
    Value::Map(vec![
        ("city", Value::Map(vec![("names", Value::Map(vec![("de", Value::Text("?")), ("en", Value::Text(city))]))])),
        ("continent", Value::Map(vec![("code", Value::Text(continent))])),
        ("country", country(code, name)),
        ("location", Value::Map(vec![("latitude", Value::Double(at.0)), ("longitude", Value::Double(at.1))])),
    ])
}

/// Berlin, São Paulo, a country alone, and one that is only registered somewhere.
fn places() -> Vec<u8> {
    database(
        "GeoLite2-City",
        &[
            ("192.0.2.0/24", city("DE", "Germany", "EU", "Berlin", (52.52, 13.405))),
            ("198.51.100.0/25", city("BR", "Brazil", "SA", "São Paulo", (-23.55, -46.63))),
            ("203.0.113.7/32", Value::Map(vec![("registered_country", country("NL", "Netherlands"))])),
            ("2001:db8::/32", Value::Map(vec![("country", country("JP", "Japan"))])),
        ],
    )
}

fn networks() -> Vec<u8> {
    let number = |number| Value::Map(vec![("autonomous_system_number", Value::U32(number))]);
    database("GeoLite2-ASN", &[("192.0.2.0/24", number(64500)), ("203.0.113.0/24", number(4_200_000_000))])
}

fn connect(line: &str, files: &[(&str, &[u8])], ip: Option<&str>) -> Answer {
    let (world, dir) = fixture::world(&[]);
    for (name, octets) in files {
        std::fs::write(dir.path().join(name), octets).unwrap();
    }
    let line = format!("ident/geoip db_dir {} {line}", dir.path().display());
    let mut plugin = fixture::build(&ENTRY, &line, &world).unwrap();
    plugin.connect(&Connect { session: &mut fixture::session(ip), line: &Silent })
}

#[test]
fn a_client_is_placed() {
    let files = [("GeoLite2-City.mmdb", &places()[..]), ("GeoLite2-ASN.mmdb", &networks()[..])];
    let table = [
        (Some("192.0.2.200"), "", "DE, Germany, EU, Berlin, AS64500"),
        (Some("198.51.100.127"), "", "BR, Brazil, SA, São Paulo"),
        (Some("198.51.100.128"), "", "not in the database"),
        (Some("203.0.113.7"), "", "NL, Netherlands, AS4200000000"),
        (Some("203.0.113.8"), "", "AS4200000000"),
        (Some("2001:db8:ffff::1"), "", "JP, Japan"),
        (Some("2001:db9::1"), "", "not in the database"),
        (Some("::"), "", "not in the database"),
        (None, "", "no client address"),
        (Some("198.51.100.1"), "distance 192.0.2.1", "BR, Brazil, SA, São Paulo, 10253 km away"),
        (Some("192.0.2.2"), "distance 192.0.2.1", "DE, Germany, EU, Berlin, AS64500, 0 km away"),
        (Some("2001:db8::1"), "distance 192.0.2.1", "JP, Japan"),
        (Some("192.0.2.2"), "distance 2001:db8::1", "DE, Germany, EU, Berlin, AS64500"),
    ];
    for (ip, words, expected) in table {
        let ruling = connect(words, &files, ip).unwrap();
        assert_eq!(ruling.evidence.join("; "), expected, "{ip:?} {words}");
        let noted = ruling.changes.iter().any(|change| matches!(change, Change::NotePlace(_)));
        assert_eq!(noted, !expected.starts_with("no"), "{ip:?}");
    }
}

#[test]
fn who_is_too_far_away_loses_karma() {
    let files = [("GeoIP2-City.mmdb", &places()[..])];
    for (ip, limit, loses) in [("198.51.100.1", 10_252, true), ("198.51.100.1", 10_253, false), ("192.0.2.9", 1, false)]
    {
        let ruling = connect(&format!("distance 192.0.2.1 too_far {limit}"), &files, Some(ip)).unwrap();
        let karma = ruling.changes.iter().any(|change| matches!(change, Change::AdjustKarma(-1)));
        assert_eq!(karma, loses, "{ip} {limit}");
    }
}

#[test]
fn a_database_that_is_missing_or_damaged_is_trouble_but_not_for_a_pipe() {
    let good = places();
    let cut = &good[..good.len() / 2];
    let mut wild = good.clone();
    // Every record of the tree leads to the far end of the data.
    let tree = wild.windows(16).position(|window| window == [0; 16]).unwrap();
    wild[..tree].chunks_exact_mut(4).for_each(|record| record.copy_from_slice(&[0, 1, 0xff, 0xff]));
    let table: [(&[(&str, &[u8])], &str); 5] = [
        (&[], "there is none of GeoIP2-City.mmdb, GeoLite2-City.mmdb"),
        (&[("GeoLite2-Country.mmdb", b"")], "GeoLite2-Country.mmdb: "),
        (&[("GeoLite2-City.mmdb", cut)], "GeoLite2-City.mmdb: "),
        (&[("GeoLite2-City.mmdb", &wild)], "GeoLite2-City.mmdb: "),
        (&[("GeoLite2-City.mmdb", &good), ("GeoLite2-ASN.mmdb", b"x")], "GeoLite2-ASN.mmdb: "),
    ];
    for (files, fault) in table {
        let trouble = connect("", files, Some("192.0.2.1")).unwrap_err().0;
        assert!(trouble.contains(fault), "{trouble}");
        assert_eq!(connect("", files, None).unwrap().evidence, ["no client address"]);
    }
}

#[test]
fn distances_along_the_surface() {
    let (berlin, london) = ((52.52, 13.405), (51.5074, -0.1278));
    let table = [
        (berlin, berlin, 0.0),
        (berlin, london, 932.0),
        ((0.0, 0.0), (0.0, 180.0), 20015.0),
        ((90.0, 0.0), (-90.0, 0.0), 20015.0),
    ];
    for (one, other, expected) in table {
        assert_eq!(kilometres(one, other).round(), expected);
        assert_eq!(kilometres(other, one).round(), expected);
    }
}

#[test]
fn settings_that_make_no_sense_and_databases_that_are_not_there() {
    let (world, dir) = fixture::world(&[]);
    for words in
        ["distance here", "distance 192.0.2.1 too_far -1", "distance ::1 too_far nan", "too_far 5", "db_dir ~/x"]
    {
        assert!(fixture::build(&ENTRY, &format!("ident/geoip {words}"), &world).is_err(), "{words}");
    }
    let line = format!("ident/geoip distance 203.0.113.7 db_dir {}", dir.path().display());
    let mut plugin = fixture::build(&ENTRY, &line, &world).unwrap();
    assert!(plugin.check()[0].contains("there is none of"));
    std::fs::write(dir.path().join("GeoLite2-City.mmdb"), places()).unwrap();
    assert!(plugin.check()[0].contains("has no location of 203.0.113.7"));
}

#[test]
fn the_shipped_file_tells_the_defaults() {
    assert_eq!(fixture::shipped("ident/geoip").read::<Settings>().unwrap(), Settings::default());
}

/// The databases of the dialogs; `BLESS=1` writes them.
#[test]
fn the_dialogs_have_these_databases() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs/ident-geoip/config");
    for (name, octets) in [("GeoLite2-City.mmdb", places()), ("GeoLite2-ASN.mmdb", networks())] {
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(dir.join(name), &octets).unwrap();
        }
        assert!(std::fs::read(dir.join(name)).unwrap() == octets, "{name}");
    }
}
