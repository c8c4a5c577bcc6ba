//! Tables for helo: a name, a client, a DNS, and what becomes of it.

use std::rc::Rc;

use super::super::shared::fixture;
use super::*;
use crate::hook::{Session, Then, Verdict};
use crate::smtp::command::hello_argument;
use crate::world::FakeDns;

/// A line of the chain, a list, a DNS: ready to be asked.
struct Case {
    line: &'static str,
    list: &'static str,
    dns: Rc<FakeDns>,
}

impl Case {
    fn new(line: &'static str, dns: FakeDns) -> Self {
        Self { line, list: "", dns: Rc::new(dns) }
    }

    fn ask(&self, name: &str, session: &mut Session) -> Answer {
        let (mut world, _dir) = fixture::world(&[("badhelo", self.list)]);
        world.dns = Rc::clone(&self.dns) as Rc<dyn crate::world::Dns>;
        let mut plugin = fixture::build(&ENTRY, self.line, &world).unwrap_or_else(|error| panic!("{error}"));
        let hello = hello_argument(name).unwrap();
        let (hello, keywords) = (&hello, &mut Vec::new());
        plugin.ehlo(&Hello { session, hello, keywords })
    }

    fn rule(&self, name: &str, client: &str) -> Ruling {
        self.ask(name, &mut fixture::session(Some(client).filter(|ip| !ip.is_empty()))).unwrap()
    }

    /// The text of the refusal; "" for none.
    fn text(&self, name: &str, client: &str) -> String {
        match self.rule(name, client).verdict {
            Verdict::Deny(denial) => denial.text,
            Verdict::Decline => String::new(),
            other => panic!("{other:?}"),
        }
    }
}

const LOCALHOST: &str = "You are not localhost";
const FORGED: &str = "Forged IPs not accepted here";
const PLAIN: &str = "Plain IP is invalid HELO hostname (RFC 2821)";
const UNQUALIFIED: &str = "HELO name is not fully qualified. Read RFC 2821";
const CHARACTERS: &str = "HELO name contains invalid FQDN characters. Read RFC 1035";
const LITERAL: &str = "RFC 2821 allows an address literal, but we do not";
const MATCH: &str = "That HELO hostname fails FCrDNS";

#[test]
fn lenient_looks_at_the_name_and_the_address() {
    let case = Case { list: "yahoo.com\n!^[^_]+$\n", ..Case::new("helo", FakeDns::default()) };
    #[rustfmt::skip]
    let table = [
        ("mx.example", "192.0.2.1", ""),
        ("single", "192.0.2.1", ""),
        ("Yahoo.com", "192.0.2.1", "I do not believe you are Yahoo.com."),
        ("a_b", "192.0.2.1", "I do not believe you are a_b."),
        // The matrix of localhost: only from here.
        ("localhost", "192.0.99.5", LOCALHOST),
        ("LOCALHOST", "2001:db8::1", LOCALHOST),
        ("localhost.", "192.0.99.5", LOCALHOST),
        ("localhost.localdomain", "192.0.99.5", LOCALHOST),
        ("localhost", "127.0.0.1", ""),
        ("localhost", "127.0.0.2", ""),
        ("localhost", "::1", ""),
        ("localhost", "128.0.0.1", LOCALHOST),
        ("localhost", "::2", LOCALHOST),
        // qpsmtpd takes these for loopback, whose last 32 bits look so.
        ("localhost", "2607:f060:b008:feed::127.0.0.1", LOCALHOST),
        ("localhost", "2607:f060:b008:feed::128.0.0.1", LOCALHOST),
        ("not-localhost", "192.0.99.5", ""),
        ("not-localhost", "127.0.0.1", ""),
        ("localhost", "", ""),
        ("not-localhost", "", ""),
        // Literals of both families.
        ("[192.0.2.1]", "192.0.2.1", ""),
        ("[192.0.2.1]", "192.0.2.2", FORGED),
        ("[254.254.254.254]", "192.0.2.1", FORGED),
        ("[192.168.1.5]", "203.0.113.9", FORGED),
        ("[192.0.2.1]", "::ffff:192.0.2.1", ""),
        ("[IPv6:2001:db8::1]", "2001:db8::1", ""),
        ("[ipv6:2001:DB8:0:0::1]", "2001:db8::1", ""),
        ("[2001:db8::1]", "2001:db8::1", ""),
        ("[IPv6:2001:db8::1]", "2001:db8::2", FORGED),
        ("[2001:db8::1]", "192.0.2.1", FORGED),
        ("[IPv6:::ffff:192.0.2.1]", "192.0.2.1", ""),
        ("[192.0.2.1]", "", ""),
        ("[example]", "192.0.2.1", ""),
        // Addresses without brackets: no literal, so not forged.
        ("1.0.0.0", "192.0.2.1", PLAIN),
        ("254.254.254.254", "192.0.2.1", PLAIN),
        ("192.0.2.1", "192.0.2.1", PLAIN),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.1", PLAIN),
        ("1.2.3.256", "192.0.2.1", ""),
    ];
    for (name, client, text) in table {
        assert_eq!(case.text(name, client), text, "{name} from {client}");
    }
    assert_eq!(case.dns.asked(), [], "the DNS has no part in it");
}

#[test]
fn a_client_at_our_own_address_is_this_machine() {
    let case = Case::new("helo", FakeDns::default());
    let mut session = fixture::session(Some("192.0.2.1"));
    session.connection.local_ip = "192.0.2.1".parse().ok();
    assert!(matches!(case.ask("localhost", &mut session).unwrap().verdict, Verdict::Decline));
    session.connection.local_ip = "192.0.2.2".parse().ok();
    assert!(matches!(case.ask("localhost", &mut session).unwrap().verdict, Verdict::Deny(_)));
}

fn dns() -> FakeDns {
    FakeDns::default()
        .a("mx.good.example", &["192.0.2.1"])
        .aaaa("six.good.example", &["2001:db8::1"])
        .txt("text.good.example", &["no address"])
        .fails("broken.good.example")
        .late("late.good.example")
        .a("mx.far.example", &["203.0.113.7"])
        .a("xn--bcher-kva.example", &["192.0.2.1"])
        .ptr("192.0.2.1", &["mx0.good.example"])
        .ptr("192.0.2.9", &["client.other.example"])
        .ptr("2001:db8::1", &["six.good.example"])
        .txt("5.2.0.192.in-addr.arpa", &["no name"])
        .fails("6.2.0.192.in-addr.arpa")
        .late("7.2.0.192.in-addr.arpa")
}

#[test]
fn rfc_wants_a_name_that_exists_and_an_address_that_has_one() {
    #[rustfmt::skip]
    let table = [
        ("mx.good.example", "192.0.2.1", ""),
        ("mx.good.example.", "192.0.2.1", ""),
        ("MX.Good.Example", "192.0.2.1", ""),
        ("bücher.example", "192.0.2.1", ""),
        ("six.good.example", "2001:db8::1", ""),
        // It need not match.
        ("mx.far.example", "192.0.2.9", ""),
        ("single", "192.0.2.1", UNQUALIFIED),
        ("example.", "192.0.2.1", UNQUALIFIED),
        ("a_b.example", "192.0.2.1", CHARACTERS),
        ("a..example", "192.0.2.1", CHARACTERS),
        ("-a.example", "192.0.2.1", CHARACTERS),
        ("a@b.example", "192.0.2.1", CHARACTERS),
        ("[1.2.3]", "192.0.2.1", CHARACTERS),
        ("none.good.example", "192.0.2.1", "HELO hostname does not exist"),
        ("text.good.example", "192.0.2.1", "HELO hostname did not resolve"),
        ("broken.good.example", "192.0.2.1", ""),
        ("late.good.example", "192.0.2.1", ""),
        ("mx.good.example", "192.0.2.4", "no rDNS for 192.0.2.4"),
        ("mx.good.example", "2001:db8::4", "no rDNS for 2001:db8::4"),
        ("mx.good.example", "192.0.2.5", "no reverse DNS for 192.0.2.5"),
        ("mx.good.example", "192.0.2.6", "error getting reverse DNS for 192.0.2.6"),
        ("mx.good.example", "192.0.2.7", "error getting reverse DNS for 192.0.2.7"),
        ("mx.good.example", "", ""),
        // The name before the address, and what lenient finds before both.
        ("none.good.example", "192.0.2.4", "HELO hostname does not exist"),
        ("localhost", "192.0.2.4", LOCALHOST),
        ("192.0.2.4", "192.0.2.4", PLAIN),
        // A literal needs no name in the DNS, its address does.
        ("[192.0.2.1]", "192.0.2.1", ""),
        ("[IPv6:2001:db8::1]", "2001:db8::1", ""),
        ("[192.0.2.4]", "192.0.2.4", "no rDNS for 192.0.2.4"),
        ("[192.0.2.1]", "", ""),
    ];
    for (name, client, text) in table {
        assert_eq!(Case::new("helo policy rfc", dns()).text(name, client), text, "{name} from {client}");
    }
}

#[test]
fn strict_wants_them_to_match_loosely() {
    let dns = || dns().a("mx.near.example", &["192.0.2.200"]).ptr("198.51.100.1", &["x.far.example", "localhost"]);
    #[rustfmt::skip]
    let table = [
        ("mx.good.example", "192.0.2.1", ""),
        ("six.good.example", "2001:db8::1", ""),
        // The network alone.
        ("mx.near.example", "192.0.2.9", ""),
        // The domain alone.
        ("mx.far.example", "198.51.100.1", ""),
        ("mx.far.example", "192.0.2.9", MATCH),
        ("mx.far.example", "192.0.2.6", "error getting reverse DNS for 192.0.2.6"),
        // Nobody can say that they do not.
        ("broken.good.example", "192.0.2.9", ""),
        ("[192.0.2.1]", "192.0.2.1", LITERAL),
        ("[IPv6:2001:db8::1]", "2001:db8::1", LITERAL),
        ("[192.0.2.1]", "", LITERAL),
        ("[192.0.2.4]", "192.0.2.4", "no rDNS for 192.0.2.4"),
        ("mx.far.example", "", ""),
        ("none.good.example", "192.0.2.9", "HELO hostname does not exist"),
    ];
    for (name, client, text) in table {
        assert_eq!(Case::new("helo policy strict", dns()).text(name, client), text, "{name} from {client}");
    }
    let ruling = Case::new("helo policy strict", dns()).rule("mx.good.example", "192.0.2.1");
    assert!(matches!(ruling.changes[..], [Change::AdjustKarma(1)]), "{ruling:?}");
    assert_eq!(ruling.evidence, ["mx.good.example is 192.0.2.1", "192.0.2.1 is mx0.good.example"]);
    assert!(Case::new("helo policy strict", dns()).rule("mx.near.example", "192.0.2.9").changes.is_empty());
}

#[test]
fn networks_and_domains_that_count_as_one() {
    // qpsmtpd's own tables, and their edges.
    let networks = [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", true),
        ("192.0.2.0", "192.0.2.255", true),
        ("192.0.2.1", "192.0.1.1", false),
        ("192.0.2.255", "192.0.3.0", false),
        ("2001:db8::1", "2001:db8::1", true),
        ("2001:db8::1", "2001:db8::2", true),
        ("2001:db8::", "2001:db8::ffff:ffff", true),
        ("2001:db8::1", "2001:db7::1", false),
        ("2001:db8::ffff:ffff", "2001:db8::1:0:0", false),
        ("192.0.2.1", "::ffff:192.0.2.9", true),
        ("192.0.2.1", "2001:db8::1", false),
    ];
    for (one, other, same) in networks {
        assert_eq!(same_network(one.parse().unwrap(), other.parse().unwrap()), same, "{one} {other}");
    }
    let names = [
        ("mx0.example.com", "mx0.example.com", true),
        ("mx0.example.com", "mx1.example.com", true),
        ("mx0.example.com", "example.com", true),
        ("MX0.Example.COM", "a.b.example.com", true),
        ("mx0.example.com", "mx0.example.net", false),
        ("mx.anexample.com", "mx.example.com", false),
        ("localhost", "localhost", false),
        ("com", "example.com", false),
    ];
    for (one, other, same) in names {
        let name = |text| DnsName::new(text).unwrap();
        assert_eq!(same_domain(&name(one), &name(other)), same, "{one} {other}");
    }
}

#[test]
fn all_is_asked_at_once_and_only_where_it_counts() {
    let case = Case::new("helo policy strict", dns());
    case.rule("mx.good.example", "192.0.2.1");
    let asked: Vec<String> = case.dns.asked().iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["mx.good.example A", "mx.good.example AAAA", "1.2.0.192.in-addr.arpa PTR"]);
    for (line, name) in [("helo policy strict", "single"), ("helo", "mx.good.example"), ("check_spamhelo", "a.example")]
    {
        let case = Case::new(line, dns());
        case.rule(name, "192.0.2.1");
        assert_eq!(case.dns.asked(), [], "{line} {name}");
    }
}

#[test]
fn the_old_name_looks_at_the_list_alone() {
    let case = Case { list: "aol.com\n", ..Case::new("check_spamhelo", dns()) };
    assert_eq!(case.text("AOL.com", "192.0.2.1"), "Sorry, I don't believe that you are AOL.com.");
    assert_eq!(case.text("localhost", "192.0.2.1"), "");
    assert_eq!(case.text("192.0.2.1", "192.0.2.1"), "");
    let told = Case::new("check_spamhelo policy lenient", dns());
    assert_eq!(told.text("localhost", "192.0.2.1"), LOCALHOST);
}

#[test]
fn the_settings_say_what_a_failure_leads_to() {
    let denial = |line, client: &str| match Case::new(line, dns()).rule("none.good.example", client).verdict {
        Verdict::Deny(denial) => Some((denial.severity, denial.then)),
        _ => None,
    };
    let table = [
        ("helo policy rfc", Some((Severity::Permanent, Then::Disconnect))),
        ("helo policy rfc reject_type perm", Some((Severity::Permanent, Then::Continue))),
        ("helo policy rfc reject_type temp", Some((Severity::Transient, Then::Continue))),
        ("helo policy rfc reject_type temp_disconnect", Some((Severity::Transient, Then::Disconnect))),
        ("helo policy rfc reject 0", None),
        ("helo policy rfc reject naughty", None),
    ];
    for (line, expected) in table {
        assert_eq!(denial(line, "192.0.2.1"), expected, "{line}");
    }
    let ruling = Case::new("helo policy rfc reject naughty", dns()).rule("none.good.example", "192.0.2.1");
    assert!(matches!(&ruling.changes[..], [Change::MarkNaughty(_), Change::AdjustKarma(-1)]), "{ruling:?}");
    assert!(ruling.evidence.contains(&"none.good.example: no such name".to_owned()), "{ruling:?}");

    // What nobody could say is no proof.
    let ruling = Case::new("helo policy rfc", dns()).rule("mx.good.example", "192.0.2.6");
    assert!(ruling.changes.is_empty());
    let Verdict::Deny(denial) = ruling.verdict else { panic!("{ruling:?}") };
    assert_eq!((denial.severity, denial.then, denial.enhanced), (Severity::Transient, Then::Disconnect, Some((4, 3))));
}

#[test]
fn a_list_that_cannot_be_used_is_trouble_and_no_empty_list() {
    let case = Case { list: "aol.com\n*.example\n", ..Case::new("helo", FakeDns::default()) };
    let trouble = case.ask("mx.example", &mut fixture::session(None)).unwrap_err();
    assert!(trouble.0.contains("badhelo line 2"), "{trouble}");
}

#[test]
fn settings() {
    let (world, _dir) = fixture::world(&[]);
    for words in ["timeout 0", "timeout 31", "policy list", "policy loose", "dns_timeout 3 timeout 3", "deny 1"] {
        assert!(fixture::build(&ENTRY, &format!("helo {words}"), &world).is_err(), "{words}");
    }
    for (line, wants) in [("helo dns_timeout 30", true), ("helo header 0", false), ("check_spamhelo", false)] {
        let plugin = fixture::build(&ENTRY, line, &world).unwrap();
        assert_eq!(plugin.wants(Hook::DataPost), wants, "{line}");
    }
    let shipped: Settings = fixture::shipped("helo").read().unwrap();
    assert_eq!(shipped, Settings { policy: Some(Policy::Lenient), ..Settings::default() });
}

#[test]
fn a_name_as_a_field_may_hold_it() {
    let long = "x".repeat(255);
    for (name, field) in [
        ("mx.example", "mx.example"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("ü{}", "?"),
        ("a:b", "a:b"),
        (&long, &long),
    ] {
        let hello = hello_argument(name).unwrap();
        assert_eq!(printable(&hello), field);
        assert!(crate::mail::edit::field("X-HELO", &printable(&hello)).is_ok());
    }
}
