//! queue/lmtp against canned agents.
#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use super::*;
use crate::queue::trial;
use crate::world::{Address, FakeNet};

const BEFORE: &str = "220 agent\r\n250-agent\r\n250 PIPELINING\r\n250\r\n250\r\n250\r\n";

#[test]
fn one_result_of_many_replies() {
    let ok = "250 2.0.0 saved\r\n";
    let no = "550 5.2.2 full\r\n";
    let later = "451 4.3.0 later\r\n";
    let transient = Some(Severity::Transient);
    let permanent = Some(Severity::Permanent);
    let table = [
        (format!("354\r\n{ok}{ok}"), None, "delivered to 2"),
        (format!("354\r\n{no}{no}"), permanent, "<x@c.example>: full"),
        (format!("354\r\n{no}{later}"), transient, "<y@c.example>: later"),
        (format!("354\r\n{ok}{later}"), transient, "<y@c.example>: later"),
        (format!("354\r\n{ok}{no}"), transient, "<y@c.example>: full"),
        (format!("354\r\n{no}{ok}"), transient, "<x@c.example>: full"),
        (format!("354\r\n{ok}"), transient, "connection was lost"),
        (format!("354\r\n{ok}354\r\n"), transient, "breaks the protocol"),
        ("354\r\n".to_owned(), transient, "connection was lost"),
        ("550 5.7.0 no\r\n".to_owned(), permanent, "no"),
    ];
    for (says, severity, text) in table {
        let dir = tempfile::tempdir().unwrap();
        let mut world = trial::world(dir.path());
        let agent = Address::Unix("/run/lmtp".into());
        let net = Rc::new(FakeNet::default().answer(agent, Ok(format!("{BEFORE}{says}").into_bytes())));
        world.net = Rc::<FakeNet>::clone(&net);
        let mut plugin = trial::build(&ENTRY, "/run/lmtp", &world).unwrap();
        let envelope = trial::envelope("<a@b.example>", &["<x@c.example>", "<y@c.example>"]);
        let came = trial::deliver(&mut *plugin, &envelope, "Subject: x\r\n\r\nx\r\n");
        match came {
            Ok(receipt) => assert!(severity.is_none() && receipt.text.contains(text), "{says:?}: {receipt:?}"),
            Err((denial, _)) => {
                assert_eq!(Some(denial.severity), severity, "{says:?}: {denial:?}");
                assert!(denial.text.contains(text), "{says:?}: {denial:?}");
            }
        }
        assert!(net.said()[0].octets.starts_with(b"LHLO mx.example\r\nMAIL FROM:<a@b.example>\r\n"));
    }
}

#[test]
fn no_fall_back_and_no_port_25() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = trial::world(dir.path());
    let agent = Address::Tcp("192.0.2.1:24".parse().unwrap());
    let net = Rc::new(FakeNet::default().answer(agent, Ok(b"220 x\r\n500 no\r\n250 x\r\n".to_vec())));
    world.net = Rc::<FakeNet>::clone(&net);
    let mut plugin = trial::build(&ENTRY, "192.0.2.1", &world).unwrap();
    let envelope = trial::envelope("<>", &["<x@c.example>"]);
    let (denial, evidence) = trial::deliver(&mut *plugin, &envelope, "x\r\n").unwrap_err();
    assert!(denial.severity == Severity::Transient && evidence.contains("LHLO"), "{evidence}");
    for line in ["192.0.2.1 25", "[::1]:25", "a,b:25"] {
        let error = trial::build(&ENTRY, line, &world).err().unwrap();
        assert!(error.contains("RFC 2033"), "{error}");
    }
}
