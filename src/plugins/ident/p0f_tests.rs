use std::rc::Rc;

use super::super::super::shared::fixture;
use super::*;
use crate::hook::facts::Listen;
use crate::hook::{Severity, Verdict};
use crate::mail::{Recipient, Transaction};
use crate::smtp::address::{ForwardPath, ReversePath};
use crate::smtp::parameters::{MailParameters, RcptParameters};
use crate::world::FakeNet;

struct Silent;
impl Listen for Silent {
    fn client_speaks_within(&self, _wait: Duration) -> bool {
        false
    }
}

fn response(status: u32, genre: &str, detail: &str, link: &str, distance: i16, uptime: u32) -> Vec<u8> {
    let mut octets = vec![0; RESPONSE_OCTETS];
    octets[..4].copy_from_slice(&RESPONSE_MAGIC.to_ne_bytes());
    octets[4..8].copy_from_slice(&status.to_ne_bytes());
    octets[20..24].copy_from_slice(&uptime.to_ne_bytes());
    octets[36..38].copy_from_slice(&distance.to_ne_bytes());
    for (at, text) in [(40, genre), (72, detail), (168, link)] {
        octets[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    octets
}

fn socket() -> Address {
    Address::Unix("/run/p0f.sock".into())
}

fn built(
    line: &str,
    list: &str,
    answers: Vec<std::io::Result<Vec<u8>>>,
) -> (Box<dyn Plugin>, Rc<FakeNet>, tempfile::TempDir) {
    let (mut world, dir) = fixture::world(&[(BLOCKED, list)]);
    let net = Rc::new(answers.into_iter().fold(FakeNet::default(), |net, answer| net.answer(socket(), answer)));
    world.net = net.clone();
    (fixture::build(&ENTRY, line, &world).unwrap(), net, dir)
}

fn connect(plugin: &mut dyn Plugin, ip: Option<&str>) -> Answer {
    plugin.connect(&Connect { session: &mut fixture::session(ip), line: &Silent })
}

fn mail(plugin: &mut dyn Plugin, ip: &str) -> Answer {
    let (reverse_path, parameters) = (&ReversePath::Null, &MailParameters::default());
    plugin.mail(&Mail { session: &mut fixture::session(Some(ip)), reverse_path, parameters })
}

fn system(answer: Answer) -> Option<ClientSystem> {
    answer.unwrap().changes.into_iter().find_map(|change| match change {
        Change::NoteSystem(system) => Some(system),
        _ => None,
    })
}

#[test]
fn the_query_is_as_the_api_wants_it() {
    let magic = QUERY_MAGIC.to_ne_bytes();
    let table = [
        ("192.0.2.1", [&magic[..], &[4, 192, 0, 2, 1], &[0; 12]].concat()),
        ("2001:db8::1", [&magic[..], &[6, 0x20, 1, 0x0d, 0xb8], &[0; 11], &[1]].concat()),
    ];
    for (ip, expected) in table {
        assert_eq!(query(ip.parse().unwrap())[..], expected, "{ip}");
        let found = response(FOUND, "Linux", "3.11 and newer", "Ethernet or modem", 7, 61);
        let (mut plugin, net, _dir) = built("ident/p0f", "", vec![Ok(found)]);
        let wanted = ClientSystem {
            genre: "Linux".into(),
            detail: "3.11 and newer".into(),
            link: "Ethernet or modem".into(),
            distance: Some(7),
            uptime_minutes: Some(61),
        };
        assert_eq!(system(connect(&mut *plugin, Some(ip))), Some(wanted));
        assert_eq!(net.said()[0].octets, expected);
    }
}

#[test]
fn answers_that_are_odd() {
    let full = "x".repeat(32);
    let table: [(Vec<u8>, Result<Option<&str>, &str>); 8] = [
        (response(NO_MATCH, "Linux", "", "", 0, 0), Ok(None)),
        (response(FOUND, "", "", "", -1, 0), Ok(Some("a system that p0f cannot name"))),
        (response(FOUND, "Linux", "", "", -1, 0), Ok(Some("Linux"))),
        (response(FOUND, &full, "", "", 0, 0), Ok(Some(&format!("{full}, 0 hops away")))),
        (response(FOUND, "a\r\nb", "", "", -1, 5), Ok(Some("a??b, up 5 min"))),
        (response(BAD_QUERY, "", "", "", 0, 0), Err("it says that our query is bad")),
        (response(0x11, "", "", "", 0, 0), Err("an unknown status, 0x11")),
        (vec![0; RESPONSE_OCTETS], Err("an answer that is none of its API (0x00000000, not 0x50304602)")),
    ];
    for (octets, expected) in table {
        let found = read(&octets.try_into().unwrap());
        let found = found.map(|system| system.map(|system| evidence(&system)));
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)).map_err(str::to_owned));
    }
}

#[test]
fn a_client_that_is_not_seen_yet_is_looked_up_once_more_at_mail() {
    let found = || Ok(response(FOUND, "Linux", "", "", 0, 0));
    let unseen = || Ok(response(NO_MATCH, "", "", "", 0, 0));
    let (mut plugin, net, _dir) = built("ident/p0f", "", vec![unseen(), found(), found()]);
    assert_eq!(system(connect(&mut *plugin, Some("192.0.2.1"))), None);
    assert_eq!(system(mail(&mut *plugin, "192.0.2.1")).unwrap().genre, "Linux");
    let (mut plugin, other, _dir2) = built("ident/p0f", "", vec![unseen(), unseen(), found()]);
    assert_eq!(system(connect(&mut *plugin, Some("192.0.2.1"))), None);
    for _ in 0..2 {
        assert_eq!(system(mail(&mut *plugin, "192.0.2.1")), None);
    }
    assert_eq!((net.said().len(), other.said().len()), (2, 2));
    // Seen at once: not again. Without an address: never.
    let (mut plugin, net, _dir) = built("ident/p0f", "", vec![found(), found()]);
    connect(&mut *plugin, None).unwrap();
    assert_eq!(net.said().len(), 0);
    connect(&mut *plugin, Some("192.0.2.1")).unwrap();
    mail(&mut *plugin, "192.0.2.1").unwrap();
    assert_eq!(net.said().len(), 1);
}

#[test]
fn what_p0f_cannot_do_is_trouble_that_names_its_socket() {
    let cut = response(FOUND, "Linux", "", "", 0, 0)[..100].to_vec();
    let table = [
        (Err(std::io::ErrorKind::ConnectionRefused.into()), "connection refused"),
        (Err(std::io::ErrorKind::TimedOut.into()), "timed out"),
        (Ok(cut), "failed to fill whole buffer"),
        (Ok(response(BAD_QUERY, "", "", "", 0, 0)), "our query is bad"),
    ];
    for (answer, fault) in table {
        let (mut plugin, _net, _dir) = built("ident/p0f", "", vec![answer]);
        let trouble = connect(&mut *plugin, Some("192.0.2.1")).unwrap_err().0;
        assert!(trouble.starts_with("p0f at /run/p0f.sock: ") && trouble.contains(fault), "{trouble}");
        // Nor is it asked again.
        assert!(mail(&mut *plugin, "192.0.2.1").is_ok());
    }
}

#[test]
fn systems_of_the_list_are_refused_a_recipient() {
    let list = "# none\nWindows xp\n/^solaris\\b.*9$/\n/BeOS/i\n/\n";
    let table = [
        (Some(("Windows", "XP")), Some("line 2: Windows XP")),
        (Some(("Windows", "7 or 8")), None),
        (Some(("Solaris", "9")), Some("line 3: Solaris 9")),
        (Some(("Solaris", "9.1")), None),
        (Some(("beos", "")), Some("line 4: beos")),
        (Some(("", "")), None),
        (None, None),
    ];
    for (found, expected) in table {
        let (mut plugin, _net, _dir) = built("ident/p0f", list, Vec::new());
        let mut session = fixture::session(Some("192.0.2.1"));
        session.system = found.map(|(genre, detail)| ClientSystem {
            genre: genre.into(),
            detail: detail.into(),
            ..ClientSystem::default()
        });
        let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
        let mut recipient = Recipient::new(ForwardPath::parse("<a@b>").unwrap(), RcptParameters::default());
        let at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
        let ruling = plugin.rcpt(&at).unwrap();
        let refused = match ruling.verdict {
            Verdict::Deny(denial) => Some((denial.severity, denial.text)),
            _ => None,
        };
        let wanted = expected.map(|_| (Severity::Permanent, "OS Blocked".to_owned()));
        assert_eq!(refused, wanted, "{found:?}");
        let evidence = ruling.evidence.join("; ");
        assert_eq!(evidence, expected.map(|text| format!("{BLOCKED} {text}")).unwrap_or_default());
    }
}

#[test]
fn a_system_can_cost_karma() {
    for (line, costs) in
        [("smite_os windows", true), ("smite_os ^xp", false), ("smite_os linux|ws.+XP", true), ("", false)]
    {
        let found = response(FOUND, "Windows", "XP", "", 0, 0);
        let (mut plugin, _net, _dir) = built(&format!("ident/p0f /run/p0f.sock {line}"), "", vec![Ok(found)]);
        let ruling = connect(&mut *plugin, Some("192.0.2.1")).unwrap();
        let karma = ruling.changes.iter().any(|change| matches!(change, Change::AdjustKarma(-1)));
        assert_eq!(karma, costs, "{line}");
    }
}

#[test]
fn lines_and_lists_that_cannot_be_used() {
    let (world, _dir) = fixture::world(&[(BLOCKED, "fine\n/(/\n/x/\n/*/\n")]);
    for words in ["version 2", "smite_os (", "timeout 0", "timeout 31", "timeout NaN", "~/p0f", "color 1"] {
        assert!(fixture::build(&ENTRY, &format!("ident/p0f {words}"), &world).is_err(), "{words}");
    }
    let mut plugin = fixture::build(&ENTRY, "ident/p0f p0f.sock version 3 local_ip 192.0.2.1", &world).unwrap();
    let faults = plugin.check();
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults[0].contains("no effect") && faults[1].contains("p0f.sock") && faults[2].contains("line 2"));
}

#[test]
fn the_shipped_file_tells_the_defaults() {
    assert_eq!(fixture::shipped("ident/p0f").read::<Settings>().unwrap(), Settings::default());
}
