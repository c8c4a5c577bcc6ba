use super::super::shared::fixture;
use super::*;
use crate::config::cdb;
use crate::hook::Verdict;
use crate::mail::{Recipient, Transaction};
use crate::smtp::address::ReversePath;
use crate::smtp::parameters::{MailParameters, RcptParameters};

const FILE: &str = "\
postmaster,abuse@,here.example,there.example: root@here.example
# people
pat,pat.doe@here.example:\tpat@localhost (denysoft_greylist, spamassassin_reject_threshold=10)
sales@here.example: pat@here.example (spamassassin_reject_threshold=5,tag=a b), kim@office.example, KIM@office.example
root@here.example: root@here.example (own), pat@here.example
list+owner@here.example: owner@far.example
list@here.example: list@far.example
*@old.example: *@here.example
*@two.example: *@here.example, *@far.example
*@self.example: *@self.example
*@fixed.example: typo@here.example
gone@old.example: trash
*@bücher.example: all@xn--bcher-kva.example
all@bücher.example: far@[192.0.2.1]
";

/// The targets and options of one recipient, or why not.
fn rule(plugin: &mut dyn Plugin, recipient: &str) -> String {
    let mut session = fixture::session(None);
    let transaction = Transaction::new(ReversePath::Null, MailParameters::default());
    let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
    let ruling =
        match plugin.rcpt(&Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient }) {
            Ok(ruling) => ruling,
            Err(trouble) => return trouble.0,
        };
    match ruling.verdict {
        Verdict::Decline => return "declined".into(),
        Verdict::Deny(denial) => return denial.text,
        Verdict::Vouch => {}
        other => panic!("{other:?}"),
    }
    let mut said = Vec::new();
    for change in ruling.changes {
        match change {
            Change::Retarget(targets) => said.extend(targets.iter().map(ForwardPath::address)),
            Change::SetOption(name, value) => said.push(format!("{name}={value}")),
            other => panic!("{other:?}"),
        }
    }
    said.join(" ")
}

const ROWS: &[(&str, &str)] = &[
    ("<pat@here.example>", "pat@localhost denysoft_greylist=1 spamassassin_reject_threshold=10"),
    ("<Pat.Doe@HERE.example>", "pat@localhost denysoft_greylist=1 spamassassin_reject_threshold=10"),
    ("<pat+x@here.example>", "pat+x@localhost denysoft_greylist=1 spamassassin_reject_threshold=10"),
    (
        "<sales@here.example>",
        "pat@localhost kim@office.example KIM@office.example denysoft_greylist=1 spamassassin_reject_threshold=5 tag=a b",
    ),
    ("<postmaster>", "root@here.example pat@localhost denysoft_greylist=1 own=1 spamassassin_reject_threshold=10"),
    (
        "<abuse@there.example>",
        "root@here.example pat@localhost denysoft_greylist=1 own=1 spamassassin_reject_threshold=10",
    ),
    ("<list+owner@here.example>", "owner@far.example"),
    ("<list+other@here.example>", "list+other@far.example"),
    ("<pat@old.example>", "pat@localhost denysoft_greylist=1 spamassassin_reject_threshold=10"),
    ("<nobody+x@old.example>", "<nobody+x@old.example>: no such user"),
    ("<nobody@two.example>", "nobody@far.example"),
    ("<pat.doe@two.example>", "pat@localhost pat.doe@far.example denysoft_greylist=1 spamassassin_reject_threshold=10"),
    ("<any@self.example>", "any@self.example"),
    ("<any@fixed.example>", "typo@here.example"),
    ("<gone@old.example>", "trash@mx.example"),
    ("<\"two words\"@self.example>", "two words@self.example"),
    ("<x@bücher.example>", "far@[192.0.2.1]"),
    ("<x@xn--bcher-kva.example>", "far@[192.0.2.1]"),
    ("<nobody@here.example>", "<nobody@here.example>: no such user"),
    ("<nobody@sub.here.example>", "declined"),
    ("<nobody@far.example>", "declined"),
];

#[test]
fn from_the_text() {
    let (world, _dir) = fixture::world(&[("aliases", FILE)]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    for (recipient, expected) in ROWS {
        assert_eq!(rule(&mut *plugin, recipient), *expected, "{recipient}");
    }
    assert_eq!(plugin.check(), [""; 0]);
}

#[test]
fn from_the_map_the_same() {
    let (world, dir) = fixture::world(&[("aliases", FILE)]);
    let records = Table::records(&world.config).unwrap();
    let pairs: Vec<(&[u8], &[u8])> = records.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
    std::fs::write(dir.path().join("aliases.cdb"), cdb::tests::make(&pairs)).unwrap();
    std::fs::remove_file(dir.path().join("aliases")).unwrap();
    let mut world = world;
    world.config = std::rc::Rc::new(crate::config::ConfigDir::open_with(dir.path(), None).unwrap());
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    for (recipient, expected) in ROWS {
        assert_eq!(rule(&mut *plugin, recipient), *expected, "{recipient}");
    }
}

#[test]
fn targets_that_are_nobodys_are_noted_and_no_fault() {
    let (world, _dir) = fixture::world(&[("aliases", FILE)]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    assert_eq!(plugin.check(), [""; 0]);
    assert_eq!(plugin.notes(), ["aliases line 11: the target typo@here.example is not listed, though here.example is"]);
    let many: String = (1..=30).map(|number| format!("a{number}@x.example: b{number}@x.example\n")).collect();
    let (world, _dir) = fixture::world(&[("aliases", &many)]);
    let notes = fixture::build(&ENTRY, "aliases", &world).unwrap().notes();
    assert_eq!(notes.len(), NOWHERE_MAX);
    assert!(notes[9].starts_with("aliases line 10: the target b10@x.example "), "{notes:?}");
}

#[test]
fn a_long_text_is_noted_and_no_fault() {
    let long: String = (0..10_000).map(|number| format!("a{number}@x.example: b@far.example\n")).collect();
    let (world, _dir) = fixture::world(&[("aliases", &long)]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    assert_eq!(plugin.check(), [""; 0]);
    let notes = plugin.notes();
    assert!(notes.len() == 1 && notes[0].starts_with("aliases has 10000 lines, "), "{notes:?}");
}

#[test]
fn circles_and_crowds_are_trouble() {
    let file =
        "a@x.example: b@x.example\nb@x.example: c@x.example\nc@x.example: a@x.example\nd@x.example: e@x.example\n";
    let (world, _dir) = fixture::world(&[("aliases", file)]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    assert!(rule(&mut *plugin, "<a@x.example>").contains("in a circle"), "{}", rule(&mut *plugin, "<a@x.example>"));
    assert_eq!(rule(&mut *plugin, "<d@x.example>"), "e@x.example");
    assert_eq!(plugin.check().len(), 3);

    let steps: String = (0..STEPS_MAX).map(|step| format!("s{step}@x.example: s{}@x.example\n", step + 1)).collect();
    let (world, _dir) = fixture::world(&[("aliases", &steps)]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    assert_eq!(rule(&mut *plugin, "<s0@x.example>"), format!("s{STEPS_MAX}@x.example"));
    let (world, _dir) = fixture::world(&[("aliases", &format!("{steps}s{STEPS_MAX}@x.example: end@x.example\n"))]);
    let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
    assert!(rule(&mut *plugin, "<s0@x.example>").contains("more than 20 aliases"));

    for (count, fits) in [(TARGETS_MAX, true), (TARGETS_MAX + 1, false)] {
        let targets: Vec<String> = (0..count).map(|number| format!("t{number}@y.example")).collect();
        let (world, _dir) = fixture::world(&[("aliases", &format!("many@x.example: {}\n", targets.join(",")))]);
        let mut plugin = fixture::build(&ENTRY, "aliases", &world).unwrap();
        assert_eq!(rule(&mut *plugin, "<many@x.example>").contains("more than 1000 targets"), !fits, "{count}");
    }
}

#[test]
fn every_line_that_cannot_be_used_is_named() {
    let wrong = [
        "nobody",
        "a@x.example",
        "a@x.example:",
        "a@x.example:b@y.example",
        "a@x.example: ,",
        "a@x.example: b@y.example,",
        "a@x.example: b@y.example (x",
        "a@x.example: b@y.example (x) c@y.example",
        "a@x.example: b@y.example (=1)",
        "a@x..example: b@y.example",
        "@x.example: b@y.example",
        "a b@x.example: b@y.example",
        "a@x.example: b@y..example",
        "a@x.example: |/bin/sh",
    ];
    let (world, _dir) = fixture::world(&[("aliases", &wrong.join("\n"))]);
    let faults = fixture::build(&ENTRY, "aliases", &world).unwrap().check();
    let named = |line: usize| faults.iter().any(|fault| fault.contains(&format!("aliases line {line}: ")));
    for (at, line) in wrong.iter().enumerate() {
        assert!(named(at + 1), "{line}: {faults:#?}");
    }
    let (world, _dir) = fixture::world(&[("aliases", "a@x.example: b@y\nA@X.example: c@y\n")]);
    let faults = fixture::build(&ENTRY, "aliases", &world).unwrap().check();
    assert!(faults.len() == 1 && faults[0].contains("stands on aliases line 1 already"), "{faults:?}");
    let (world, _dir) = fixture::world(&[]);
    assert!(rule(&mut *fixture::build(&ENTRY, "aliases", &world).unwrap(), "<a@x.example>").contains("no such file"));
}
