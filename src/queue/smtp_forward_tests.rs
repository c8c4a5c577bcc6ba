//! queue/smtp-forward against canned next hops.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::rc::Rc;

use super::*;
use crate::hook::{Denial, Hook, Severity};
use crate::mail::Transaction;
use crate::queue::trial;
use crate::smtp::parameters::{mail_argument, rcpt_argument};
use crate::world::{Address, FakeNet};

const GREETING: &str = "220 hop\r\n";
const EHLO: &str = "250-hop\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n";
const CONTENT: &str = "Subject: x\r\n\r\n.one\r\n";

fn address(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

/// What came of a message, and what was said in each connection.
type Came = (Result<Receipt, (Denial, String)>, Vec<String>);

fn run(line: &str, net: FakeNet, envelope: &Envelope, content: &str) -> Came {
    let dir = tempfile::tempdir().unwrap();
    let mut world = trial::world(dir.path());
    let net = Rc::new(net);
    world.net = Rc::<FakeNet>::clone(&net);
    let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
    let came = trial::deliver(&mut *plugin, envelope, content);
    let said = net.said().into_iter().map(|said| String::from_utf8(said.octets).unwrap()).collect();
    (came, said)
}

/// One host, which says all this.
fn hop(says: &str, envelope: &Envelope) -> Came {
    let net = FakeNet::default().answer(address("192.0.2.1:25"), Ok(says.as_bytes().to_vec()));
    run("192.0.2.1", net, envelope, CONTENT)
}

fn two() -> Envelope {
    trial::envelope("<a@b.example>", &["<x@c.example>", "<y@c.example>"])
}

/// Of MAIL's and RCPT's arguments.
fn asked(mail: &str, rcpt: &[&str]) -> Envelope {
    let mail = mail_argument(mail).unwrap();
    let mut open = Transaction::new(mail.reverse_path, mail.parameters);
    for argument in rcpt {
        let rcpt = rcpt_argument(argument).unwrap();
        open.recipients.push(crate::mail::Recipient::new(rcpt.forward_path, rcpt.parameters));
    }
    Envelope::try_from(open).unwrap()
}

#[test]
fn a_whole_dialog() {
    let (came, said) = hop(
        &format!("{GREETING}{EHLO}250 ok\r\n250 ok\r\n251 ok\r\n354 go\r\n250 2.0.0 Ok: queued as 4cX\r\n"),
        &two(),
    );
    assert_eq!(came.unwrap(), Receipt { id: Some("4cX".into()), text: "queued".into() });
    let wanted = "EHLO mx.example\r\nMAIL FROM:<a@b.example> SIZE=20\r\nRCPT TO:<x@c.example>\r\nRCPT TO:<y@c.example>\r\n\
                  DATA\r\nSubject: x\r\n\r\n..one\r\n.\r\nQUIT\r\n";
    assert_eq!(said, [wanted]);
}

const CHUNKING: &str = "250-hop\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";

#[test]
fn a_whole_dialog_by_bdat() {
    let rcpt = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@c.example>\r\nRCPT TO:<y@c.example>\r\n";
    // What the line says, the message, what the next hop says after RCPT, what it is told then; what becomes of it.
    let table = [
        ("", CONTENT, "250 ok\r\n", "BDAT 20 LAST\r\nSubject: x\r\n\r\n.one\r\nQUIT\r\n", Ok(())),
        ("", "x\r\n\r\n.", "250 ok\r\n", "BDAT 6 LAST\r\nx\r\n\r\n.QUIT\r\n", Ok(())),
        ("", "", "250 ok\r\n", "BDAT 0 LAST\r\nQUIT\r\n", Ok(())),
        (" chunking 0", "x\r\n", "354\r\n250 ok\r\n", "DATA\r\nx\r\n.\r\nQUIT\r\n", Ok(())),
        ("", "x\n", "250 ok\r\n", "RSET\r\nQUIT\r\n", Err((Severity::Permanent, (6, 0)))),
        ("", "x\r", "250 ok\r\n", "RSET\r\nQUIT\r\n", Err((Severity::Permanent, (6, 0)))),
        ("", "x", "554 5.6.0 bad\r\n", "BDAT 1 LAST\r\nxQUIT\r\n", Err((Severity::Permanent, (6, 0)))),
        ("", "x", "452 4.3.1 full\r\n", "BDAT 1 LAST\r\nxQUIT\r\n", Err((Severity::Transient, (3, 1)))),
        ("", "x", "354\r\n", "BDAT 1 LAST\r\nx", Err((Severity::Transient, (5, 0)))),
        ("", "x", "", "BDAT 1 LAST\r\nx", Err((Severity::Transient, (4, 2)))),
    ];
    for (line, content, says, wanted, becomes) in table {
        let all = format!("{GREETING}{CHUNKING}250\r\n250\r\n250\r\n{says}");
        let net = FakeNet::default().answer(address("192.0.2.1:25"), Ok(all.into_bytes()));
        let (came, said) = run(&format!("192.0.2.1{line}"), net, &two(), content);
        assert_eq!(said, [format!("EHLO mx.example\r\n{rcpt}{wanted}")], "{line} {content:?} {says:?}");
        let came = came.map(drop).map_err(|(denial, _)| (denial.severity, denial.enhanced.unwrap()));
        assert_eq!(came, becomes, "{line} {content:?} {says:?}");
    }
}

/// What a next hop that is asked about a recipient makes of it, and what it was told; both recipients of one transaction.
#[test]
fn asked_about_recipients() {
    let refused = |severity, text: &str| Some((severity, text.to_owned()));
    let who = || refused(Severity::Permanent, "<x@c.example>: who");
    let mail = "EHLO mx.example\r\nMAIL FROM:<a@b.example>\r\n";
    let both = "RCPT TO:<x@c.example>\r\nRCPT TO:<y@c.example>\r\n";
    let end = "RSET\r\nQUIT\r\n";
    let table = [
        ("{E}250\r\n250\r\n250\r\n", vec![None, None], vec![format!("{mail}{both}{end}")]),
        ("{E}250\r\n550 5.1.1 who\r\n250\r\n", vec![who(), None], vec![format!("{mail}{both}{end}")]),
        (
            "{E}250\r\n250\r\n450 4.2.1 <y@c.example> busy\r\n",
            vec![None, refused(Severity::Transient, "<y@c.example> busy")],
            vec![format!("{mail}{both}{end}")],
        ),
        // A refused sender is about every recipient.
        (
            "{E}550 5.7.1 not you\r\n",
            vec![refused(Severity::Permanent, "not you"), refused(Severity::Permanent, "not you")],
            vec![format!("{mail}{end}")],
        ),
        // No opinion: nobody there, no greeting, garbage, hung up.
        ("", vec![None, None], vec![String::new()]),
        ("554 no\r\n", vec![None, None], vec![String::new()]),
        ("{E}421 bye\r\n", vec![None, None], vec![mail.to_owned()]),
        ("{E}xyz\r\n", vec![None, None], vec![mail.to_owned()]),
        ("{E}250\r\n354\r\n", vec![None, None], vec![format!("{mail}RCPT TO:<x@c.example>\r\n")]),
        // Hung up after it had answered: asked anew, once.
        (
            "{E}250\r\n550 5.1.1 who\r\n421 enough\r\n|{E}250\r\n550 5.1.1 nor this\r\n",
            vec![who(), refused(Severity::Permanent, "<y@c.example>: nor this")],
            vec![format!("{mail}{both}"), format!("{mail}RCPT TO:<y@c.example>\r\n{end}")],
        ),
        ("{E}250\r\n550 5.1.1 who\r\n|{E}", vec![who(), None], vec![format!("{mail}{both}"), mail.to_owned()]),
    ];
    for (says, wanted, told) in table {
        let mut net = FakeNet::default();
        for one in says.split('|') {
            let one = one.replace("{E}", &format!("{GREETING}250 hop\r\n"));
            net = net.answer(address("192.0.2.1:25"), Ok(one.into_bytes()));
        }
        let net = Rc::new(net);
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        world.net = Rc::<FakeNet>::clone(&net);
        let mut plugin = trial::build(&ENTRY, "192.0.2.1 ask_recipients 1", &world).unwrap();
        let found = trial::ask(&mut *plugin, "<a@b.example>", &["<x@c.example>", "<y@c.example>"]);
        let found: Vec<_> =
            found.into_iter().map(|denial| denial.map(|denial| (denial.severity, denial.text))).collect();
        assert_eq!(found, wanted, "{says:?}");
        let said: Vec<_> = net.said().into_iter().map(|said| String::from_utf8(said.octets).unwrap()).collect();
        assert_eq!(said, told, "{says:?}");
    }
}

#[test]
fn nobody_is_asked_unless_the_line_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let world = trial::world(dir.path());
    for (line, hook, wanted) in [
        ("a", Hook::Rcpt, false),
        ("a", Hook::ResetTransaction, false),
        ("a", Hook::Queue, true),
        ("a ask_recipients 1", Hook::Rcpt, true),
        ("a ask_recipients 1", Hook::Queue, true),
    ] {
        assert_eq!(trial::build(&ENTRY, line, &world).unwrap().wants(hook), wanted, "{line} {hook:?}");
    }
}

#[test]
fn helo_where_ehlo_is_not_known() {
    let (came, said) = hop(&format!("{GREETING}502 no\r\n250 hop\r\n250\r\n250\r\n250\r\n354\r\n250\r\n"), &two());
    assert_eq!(came.unwrap(), Receipt { id: None, text: "queued".into() });
    assert!(
        said[0].starts_with("EHLO mx.example\r\nHELO mx.example\r\nMAIL FROM:<a@b.example>\r\nRCPT"),
        "{}",
        said[0]
    );
}

/// What the next hop says, and what becomes of it.
#[test]
fn every_refusal_keeps_its_class() {
    let permanent = Severity::Permanent;
    let transient = Severity::Transient;
    let table = [
        ("", transient, (4, 2), "connection was lost"),
        ("554 no\r\n", transient, (5, 0), "breaks the protocol"),
        ("hello\r\n", transient, (5, 0), "breaks the protocol"),
        ("{G}421 no\r\n", transient, (5, 0), "breaks the protocol"),
        ("{G}500 no\r\n550 no\r\n", transient, (5, 0), "breaks the protocol"),
        ("{E}550 5.7.1 not you\r\n500\r\n500\r\n", permanent, (7, 1), "not you"),
        ("{E}451 4.7.1 wait\r\n500\r\n500\r\n", transient, (7, 1), "wait"),
        ("{E}250\r\n550 5.1.1 who\r\n250\r\n", permanent, (1, 1), "<x@c.example>: who"),
        ("{E}250\r\n250\r\n550 5.1.1 who\r\n", permanent, (1, 1), "<y@c.example>: who"),
        ("{E}250\r\n550 5.1.1 who\r\n450 4.2.1 busy\r\n", transient, (2, 1), "<y@c.example>: busy"),
        ("{E}250\r\n354\r\n250\r\n", transient, (5, 0), "breaks the protocol"),
        ("{E}250\r\n250\r\n250\r\n554 no\r\n", permanent, (3, 0), "no"),
        ("{E}250\r\n250\r\n250\r\n451 no\r\n", transient, (3, 0), "no"),
        ("{E}250\r\n250\r\n250\r\n250\r\n", transient, (5, 0), "breaks the protocol"),
        ("{E}250\r\n250\r\n250\r\n354\r\n", transient, (4, 2), "connection was lost"),
        ("{E}250\r\n250\r\n250\r\n354\r\n250", transient, (4, 2), "connection was lost"),
        ("{E}250\r\n250\r\n250\r\n354\r\n250-\r\n", transient, (4, 2), "connection was lost"),
        ("{E}250\r\n250\r\n250\r\n354\r\n354\r\n", transient, (5, 0), "breaks the protocol"),
        ("{E}250\r\n250\r\n250\r\n354\r\n220\r\n", transient, (5, 0), "breaks the protocol"),
        ("{E}250\r\n250\r\n250\r\n354\r\n554 5.6.0 bad\r\n", permanent, (6, 0), "bad"),
        ("{E}250\r\n250\r\n250\r\n354\r\n452 4.3.1 full\r\n", transient, (3, 1), "full"),
        ("{E}250\r\n250\r\n250\r\n354\r\n421 bye\r\n", transient, (3, 0), "bye"),
        ("{E}250\r\n250\r\n250\r\n354\r\n554\r\n", permanent, (3, 0), "the next hop said 554"),
    ];
    for (says, severity, enhanced, text) in table {
        let (came, said) = hop(&says.replace("{G}", GREETING).replace("{E}", &format!("{GREETING}{EHLO}")), &two());
        let (denial, evidence) = came.unwrap_err();
        assert_eq!((denial.severity, denial.enhanced), (severity, Some(enhanced)), "{says:?}: {denial:?}");
        assert!(denial.text.contains(text), "{says:?}: {denial:?}");
        let named = evidence.contains("192.0.2.1:25") || evidence.starts_with("end of data");
        assert!(named, "{says:?}: {evidence}");
        assert!(says.contains("354\r\n") || !said[0].contains("Subject"), "{says:?}: {said:?}");
    }
}

#[test]
fn a_reply_has_bounds() {
    for says in ["220-x\r\n".repeat(101), format!("220 {}\r\n", "x".repeat(9000)), "x".repeat(9000)] {
        let (denial, _) = hop(&says, &two()).0.unwrap_err();
        assert!(denial.text.contains("breaks the protocol") || denial.text.contains("no next hop"), "{denial:?}");
    }
}

#[test]
fn what_the_next_hop_cannot_carry() {
    let all =
        |offers| if offers == CHUNKING { "250 ok\r\n250 ok\r\n250\r\n" } else { "250 ok\r\n250 ok\r\n354\r\n250\r\n" };
    let plain = "250-hop\r\n250 PIPELINING\r\n";
    let eight = "Subject: \u{e4}\r\n\r\nx\r\n";
    let table = [
        (
            EHLO,
            "FROM:<a@b> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By",
            "TO:<c@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;e@f",
            eight,
            Ok(
                "MAIL FROM:<a@b> SIZE=18 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By\r\nRCPT TO:<c@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;e@f\r\n",
            ),
        ),
        (
            plain,
            "FROM:<a@b> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x",
            "TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;e@f",
            CONTENT,
            Ok("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"),
        ),
        (plain, "FROM:<> BODY=7BIT", "TO:<postmaster>", eight, Ok("MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n")),
        (plain, "FROM:<a@b> BODY=8BITMIME", "TO:<c@d>", eight, Err((6, 3))),
        (EHLO, "FROM:<a@b> BODY=BINARYMIME", "TO:<c@d>", CONTENT, Err((6, 3))),
        // Binary without the means to send it.
        ("250-hop\r\n250 BINARYMIME\r\n", "FROM:<a@b> BODY=BINARYMIME", "TO:<c@d>", CONTENT, Err((6, 3))),
        (CHUNKING, "FROM:<a@b> BODY=BINARYMIME", "TO:<c@d>", "a\nb\r", Ok("MAIL FROM:<a@b> BODY=BINARYMIME\r\n")),
        (plain, "FROM:<a@b> SMTPUTF8", "TO:<c@d>", eight, Err((6, 9))),
        (plain, "FROM:<a@b> SMTPUTF8", "TO:<\u{e4}@d>", CONTENT, Err((6, 7))),
        (plain, "FROM:<a@b>", "TO:<c@d> NOTIFY=SUCCESS", CONTENT, Err((3, 3))),
        ("250-hop\r\n250 SIZE 5\r\n", "FROM:<a@b>", "TO:<c@d>", CONTENT, Err((3, 4))),
        (
            "250-hop\r\n250 SIZE 0\r\n",
            "FROM:<a@b>",
            "TO:<c@d>",
            CONTENT,
            Ok("MAIL FROM:<a@b> SIZE=20\r\nRCPT TO:<c@d>\r\n"),
        ),
        (plain, "FROM:<a@b>", "TO:<c@d>", "a\r\nb\nc\r\n", Err((6, 0))),
        (plain, "FROM:<a@b>", "TO:<c@d>", "a\r\nb\rc\r\n", Err((6, 0))),
    ];
    for (offers, mail, rcpt, content, wanted) in table {
        let says = format!("{GREETING}{offers}{}", all(offers));
        let net = FakeNet::default().answer(address("192.0.2.1:25"), Ok(says.into_bytes()));
        let (came, said) = run("192.0.2.1", net, &asked(mail, &[rcpt]), content);
        match wanted {
            Ok(lines) => {
                assert!(came.is_ok(), "{mail}: {came:?}");
                assert!(said[0].contains(lines), "{mail}: {}", said[0]);
            }
            Err(code) => {
                let (denial, _) = came.unwrap_err();
                assert_eq!((denial.severity, denial.enhanced), (Severity::Permanent, Some(code)), "{mail}: {denial:?}");
                assert!(!said[0].contains("\r\n.\r\n"), "{mail}: {}", said[0]);
            }
        }
    }
}

#[test]
fn hosts_in_order() {
    let good = || Ok(format!("{GREETING}{EHLO}250\r\n250\r\n250\r\n354\r\n250 ok\r\n").into_bytes());
    let says = |text: &str| Ok(format!("{GREETING}{EHLO}{text}").into_bytes());
    // What the first says, and whether the second gets the message.
    let table = [
        (Err(ErrorKind::ConnectionRefused.into()), true),
        (Err(ErrorKind::TimedOut.into()), true),
        (Ok(b"554 no\r\n".to_vec()), true),
        (Ok(b"".to_vec()), true),
        (says("421 bye\r\n"), true),
        (says("250\r\n250\r\n"), true),
        (says("250\r\n250\r\n250\r\n421 bye\r\n"), true),
        (says("550 no\r\n550\r\n550\r\n"), false),
        (says("450 no\r\n550\r\n550\r\n"), false),
        // Its end was sent: it may have it.
        (says("250\r\n250\r\n250\r\n354\r\n"), false),
        (says("250\r\n250\r\n250\r\n354\r\n421 bye\r\n"), false),
        (says("250\r\n250\r\n250\r\n354\r\nxyz\r\n"), false),
    ];
    for (first, goes_on) in table {
        let shown = format!("{first:?}");
        let net = FakeNet::default()
            .name("one.example", &["192.0.2.1"])
            .answer(address("192.0.2.1:2525"), first)
            .answer(address("[::1]:26"), good());
        let (came, _) = run("one.example:2525,[::1] 26", net, &two(), CONTENT);
        assert_eq!(came.is_ok(), goes_on, "{shown}: {came:?}");
    }
    let (came, _) = run("none.example,192.0.2.9 host ::9", FakeNet::default(), &two(), CONTENT);
    let (denial, evidence) = came.unwrap_err();
    assert_eq!((denial.severity, denial.enhanced), (Severity::Transient, Some((4, 1))));
    for place in ["none.example:25", "192.0.2.9:25", "[::9]:25"] {
        assert!(evidence.contains(place), "{evidence}");
    }
}

#[test]
fn who_the_client_is() {
    let offers = |keyword: &str| format!("{GREETING}250-hop\r\n250 {keyword}\r\n");
    let rest = "250\r\n250\r\n250\r\n354\r\n250 ok\r\n";
    let names = "NAME ADDR PORT PROTO HELO IDENT SOURCE";
    let x = "PROTO=SMTP HELO=[UNAVAILABLE] NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]";
    let table = [
        ("", format!("{}250 ok\r\n{rest}", offers(&format!("XFORWARD {names}"))), Some(
            "XFORWARD PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE] IDENT=ID SOURCE=LOCAL NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]\r\nMAIL".to_owned())),
        ("", format!("{}550 no\r\n{rest}", offers("XFORWARD IDENT")), Some("XFORWARD IDENT=ID\r\nMAIL".to_owned())),
        (" xforward 0", format!("{}{rest}", offers("XFORWARD IDENT")), Some("EHLO mx.example\r\nMAIL".to_owned())),
        ("", format!("{}{rest}", offers("XCLIENT NAME")), Some("EHLO mx.example\r\nMAIL".to_owned())),
        (" xclient", format!("{}220 hop\r\n250 hop\r\n{rest}", offers("XCLIENT ADDR NAME HELO PROTO")), Some(
            format!("XCLIENT {x}\r\nEHLO mx.example\r\nMAIL"))),
        (" 25 xclient timeout 5", format!("{}220 hop\r\n250 hop\r\n{rest}", offers("XCLIENT HELO")), Some(
            "XCLIENT HELO=[UNAVAILABLE]\r\nEHLO mx.example\r\nMAIL".to_owned())),
        (" xclient 1", format!("{}{rest}", offers("XFORWARD IDENT")), None),
        (" xclient", format!("{}550 not you\r\n{rest}", offers("XCLIENT ADDR")), None),
        (" helo me.example", format!("{}{rest}", offers("X")), Some("EHLO me.example\r\nMAIL".to_owned())),
    ];
    for (line, says, wanted) in table {
        let net = FakeNet::default().answer(address("192.0.2.1:25"), Ok(says.into_bytes()));
        let (came, said) = run(&format!("192.0.2.1{line}"), net, &two(), CONTENT);
        match wanted {
            Some(wanted) => assert!(came.is_ok() && said[0].contains(&wanted), "{line}: {came:?} {}", said[0]),
            None => assert_eq!(came.unwrap_err().0.severity, Severity::Transient, "{line}"),
        }
    }
}

#[test]
fn lines_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let world = trial::world(dir.path());
    for (line, fault) in [
        ("", "from 1 to 20 hosts"),
        ("timeout 5", "from 1 to 20 hosts"),
        ("a timeout 0", "timeout 0"),
        ("a deadline 3601", "deadline 3601"),
        ("a 0", "port 0"),
        ("a 70000", "70000"),
        ("a:b", "no port"),
        ("a;b", "is no host"),
        ("a helo x;y", "helo"),
        ("a tiemout 5", "tiemout"),
        ("a binarymime 1 chunking 0", "needs chunking 1"),
    ] {
        let error = trial::build(&ENTRY, line, &world).err().unwrap_or_else(|| panic!("{line}"));
        assert!(error.contains(fault), "{line}: {error}");
    }
    let offers = |line| trial::build(&ENTRY, line, &world).unwrap().offers().unwrap();
    let dsn = offers("a smtputf8 0 dsn 1");
    assert_eq!((dsn.eight_bit, dsn.binary, dsn.smtputf8, dsn.dsn), (true, false, false, true));
    assert!(offers("a binarymime 1").binary);
    assert!(offers("/run/x").smtputf8 && !offers("/run/x").dsn);
}

#[test]
fn check_says_what_to_mend() {
    let table = [
        (Err(ErrorKind::ConnectionRefused.into()), "", "does a server listen there?"),
        (Ok("554 not you\r\n".to_owned()), "", "greeting: 554 not you"),
        (Ok(format!("{GREETING}421 busy\r\n")), "", "EHLO: 421 busy"),
        (Ok(format!("{GREETING}{EHLO}")), " xclient", "smtpd_authorized_xclient_hosts"),
        (Ok(format!("{GREETING}{EHLO}")), "", ""),
    ];
    for (says, line, fault) in table {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let answer = says.map(String::into_bytes);
        world.net = Rc::new(FakeNet::default().answer(address("192.0.2.1:25"), answer));
        let faults = trial::build(&ENTRY, &format!("192.0.2.1{line}"), &world).unwrap().check();
        assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{fault}: {faults:?}");
        assert!(faults.concat().contains(fault), "{faults:?}");
    }
}
