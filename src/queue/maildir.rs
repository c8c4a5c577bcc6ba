//! Stores mail in a maildir, or in one maildir per recipient. This is a final delivery: nothing is sent on.
//!
//! ```text
//! queue/maildir /var/spool/mail/inbox
//! queue/maildir mail %d/%l
//! queue/maildir /srv/vmail %u 770
//! ```
//! - `dir` (first word; required): the maildir. A relative path starts at the configuration directory.
//! - `subdir` (second word; none): a pattern below `dir`, with at least one of `%l` (local-part), `%d` (domain) and `%u`
//!   (local-part@domain). Each forward-path gets a file of its own, in the maildir of that name; two of the same name get two.
//! - `mode` (third word; 0700): octal rights of new directories, whatever the umask is. Files have the same without x.
//! - `if_down` (`defer`): `next` asks the next queue line when surely no copy is visible yet (see `src/queue/mod.rs`).
//!
//! Missing directories are made, with all above them, and `new`, `cur` and `tmp` in them. With a pattern anybody who may send
//! to a domain can have directories made by inventing local-parts, unless another plugin judges recipients.
//!
//! In the pattern's values every character outside `-A-Za-z0-9+_.,@=` becomes `_`, and so does a dot at the start; nothing at
//! all becomes `_`. So no address leads out of `dir`, and addresses that differ only in such characters share a maildir.
//! Domains are in lower case and in their ASCII form; local-parts are as written. A recipient without a domain has ours (`me`).
//!
//! Files begin with `Return-Path:` and `Delivered-To:` (without a pattern one for each forward-path), then the message, its
//! lines ended by LF. Names are `SECONDS.MmicrosecondsPpidQcount.HOST`; the name is the queue id in the record.
//!
//! 250 is said when the file and its place in `new` have been synced to the disk. All copies of a message are written and
//! synced in `tmp` before the first is linked to `new`. If anything fails, also between two links, copies already linked are
//! taken back, those in `tmp` are removed, and the client is told to come again: 451, with 4.3.1 if there is no room. A copy
//! that a reader has moved by then stays, and so do linked copies if the machine or the process dies between two links: after
//! the next try those recipients have the message twice. Nobody has half of it, and none is lost. Left in `tmp` is only what
//! a killed process was writing; remove what is older than 36 hours there.
//!
//! With a pattern a message that has the `Delivered-To` field of one of its recipients already is looping, and refused (554
//! 5.4.6). Without one it is not: there the maildir may be a store from which mail is sent on and comes back for good reasons.
//!
//! 8BITMIME and SMTPUTF8 are offered. BINARYMIME is not, for the lines in there end in LF, and what was a lone LF before could
//! not be told from it; nor is DSN, for a final delivery would have to send the notices itself (RFC 3461 §5.2.2): without the
//! offer the client's side sends them. There is no time limit but the line's `budget`: a disk that hangs cannot be interrupted.
//!
//! Differs from qpsmtpd: synced before 250, no copy stays when another fails, no `..` from a local-part, errors that only
//! closing a file shows are seen, domains in one form, the loop check.

mod files;

use std::fmt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use self::files::Files;
use super::{IfDown, Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::header::unfolded;
use crate::mail::{Envelope, Message, trace};
use crate::smtp::address::ForwardPath;
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/maildir", crate::manual!("maildir.rs"), build);

/// A name in a directory (NAME_MAX).
const NAME_OCTETS_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    dir: String,
    subdir: Option<Pattern>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    if_down: IfDown,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    const KEYS: [&str; 3] = ["dir", "subdir", "mode"];
    for key in KEYS {
        // The positional form ends where a key stands.
        match settings.words().first() {
            Some(word) if !KEYS.contains(&&**word) && !["if_down", "if-down"].contains(&&**word) => {}
            _ => break,
        }
        if let Some(word) = settings.take_first() {
            settings.set(key, word);
        }
    }
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let options: Options = settings.read()?;
    let dir = world.config.resolve(&options.dir);
    let dir = dir.map_err(|error| origin.error(error.to_string()).of_plugin(&name))?;
    let names = Names { world: world.clone(), count: 0 };
    let queue = Maildir { dir, subdir: options.subdir, files: Files { mode: options.mode.0 }, names };
    Ok(line(queue, options.if_down))
}

/// Rights of directories. On a line and as a TOML string octal digits, as a TOML number what it is (`0o700`).
struct Mode(u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o700)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octal;
        impl Visitor<'_> for Octal {
            type Value = Mode;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an octal mode from 0700 to 0777")
            }
            fn visit_i64<E: de::Error>(self, mode: i64) -> Result<Mode, E> {
                // Without all rights of its owner a maildir cannot be used. So 755, meant as octal, does not pass either.
                let mode = u32::try_from(mode).ok().filter(|mode| (0o700..=0o777).contains(mode));
                mode.map(Mode).ok_or_else(|| E::custom("not an octal mode from 0700 to 0777"))
            }
            fn visit_str<E: de::Error>(self, digits: &str) -> Result<Mode, E> {
                self.visit_i64(i64::from_str_radix(digits, 8).unwrap_or(-1))
            }
        }
        deserializer.deserialize_any(Octal)
    }
}

/// Where below `dir` a recipient's maildir is.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = |rest: &str| rest.starts_with(['l', 'd', 'u']);
        if !text.contains('%') || !text.split('%').skip(1).all(known) {
            return Err(format!("{text:?}: a pattern has at least one of %l, %d and %u, and no other %"));
        }
        if text.contains('\0') || text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(format!("{text:?}: a pattern leads to directories below, by their names"));
        }
        Ok(Self(text))
    }
}

impl Pattern {
    /// The path for a recipient. Each part of it is a plain name: values are never empty, hold no `/` and begin with no dot.
    fn path(&self, local_part: &str, domain: &str) -> Result<PathBuf, QueueError> {
        let (local_part, domain) = (harmless(local_part), harmless(domain));
        let both = format!("{local_part}@{domain}");
        let mut path = PathBuf::new();
        for part in self.0.split('/').filter(|part| !part.is_empty()) {
            // No value holds a %, so none is replaced twice.
            let name = part.replace("%l", &local_part).replace("%d", &domain).replace("%u", &both);
            if name.len() > NAME_OCTETS_MAX {
                let evidence = format!("a directory's name of {} octets: {name}", name.len());
                return Err(QueueError::permanent("recipient address too long to be stored", evidence).code(1, 3));
            }
            path.push(name);
        }
        Ok(path)
    }
}

/// A value as a part of a directory's name.
fn harmless(text: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "-+_.,@=".contains(c);
    let name: String = text.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}

struct Maildir {
    dir: PathBuf,
    subdir: Option<Pattern>,
    files: Files,
    names: Names,
}

/// Gives names to files.
struct Names {
    world: World,
    /// Names given so far by this process.
    count: u32,
}

impl Names {
    /// A file's name that nobody else gives: time, process, a count in this process, host.
    fn next(&mut self) -> String {
        let since = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros, pid) = (since.as_secs(), since.subsec_micros(), self.world.host.pid());
        let host = self.world.host.name().replace('/', "\\057").replace(':', "\\072");
        self.count += 1;
        format!("{seconds}.M{micros}P{pid}Q{}.{host}", self.count)
    }
}

impl Queue for Maildir {
    fn offers(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: false, smtputf8: true, dsn: false }
    }

    fn check(&mut self) -> Vec<String> {
        // Readers of maildirs pass over names that begin with a dot.
        let name = format!(".postern-check.{}", self.names.next());
        match self.subdir {
            Some(_) => files::cannot_write(&self.dir, &name).into_iter().collect(),
            None => files::check(&self.dir, &name),
        }
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let wanted = self.wanted(session, envelope, message)?;
        // What is in here and not done is undone when it is dropped.
        let mut copies = Vec::with_capacity(wanted.len());
        for (maildir, fields) in wanted {
            let copy = self.files.write(maildir, &mut || self.names.next(), &fields, message);
            copies.push(copy.map_err(QueueError::untouched)?);
        }
        for (linked, copy) in copies.iter_mut().enumerate() {
            // A reader may have taken a copy that is in `new`.
            self.files.link(copy).map_err(|error| if linked == 0 { error.untouched() } else { error })?;
        }
        files::finish(&mut copies)?;
        let id = copies.first().map(|copy| copy.name().to_owned());
        Ok(Receipt { id, text: "queued".to_owned() })
    }
}

impl Maildir {
    /// The copies to be made: which maildir, and which fields on top.
    fn wanted(
        &self,
        session: &Session,
        envelope: &Envelope,
        message: &Message,
    ) -> Result<Vec<(PathBuf, String)>, QueueError> {
        let paths = envelope.forward_paths();
        let return_path = trace::return_path(envelope.reverse_path());
        let Some(pattern) = &self.subdir else {
            let delivered_to = paths.iter().map(|path| trace::delivered_to(&address(path, session)));
            let fields = return_path + &delivered_to.collect::<String>();
            return Ok(vec![(self.dir.clone(), fields)]);
        };
        let mut wanted = Vec::with_capacity(paths.len());
        for path in paths {
            let address = address(path, session);
            check_loop(message, &address)?;
            let (local_part, domain) = match path.mailbox() {
                Some(mailbox) => (mailbox.local_part(), mailbox.domain().ascii().to_owned()),
                None => ("postmaster", session.me.to_ascii_lowercase()),
            };
            let maildir = self.dir.join(pattern.path(local_part, &domain)?);
            wanted.push((maildir, format!("{return_path}{}", trace::delivered_to(&address))));
        }
        Ok(wanted)
    }
}

/// Where the message goes, as `Delivered-To` has it: qmail's bare form.
fn address(path: &ForwardPath, session: &Session) -> String {
    match path {
        ForwardPath::Mailbox(mailbox) => mailbox.address(),
        ForwardPath::Postmaster(word) => format!("{word}@{}", session.me),
    }
}

/// Whether this recipient had the message before.
fn check_loop(message: &Message, address: &str) -> Result<(), QueueError> {
    // A header that is too long for a look is for the limits to judge.
    let Ok(header) = message.header() else { return Ok(()) };
    let before = |value: &[u8]| unfolded(value).trim().eq_ignore_ascii_case(address);
    if header.get("Delivered-To").any(before) {
        let evidence = format!("Delivered-To: {address} is in the header already");
        return Err(QueueError::permanent("this message is looping: it was delivered here before", evidence).code(4, 6));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::rc::Rc;

    use super::*;
    use crate::hook::Severity;
    use crate::queue::trial;
    use crate::world::FakeHost;

    const CONTENT: &str = "Subject: x\r\n\r\none\r\n..\r\n";
    const FROM: &str = "<a@b.example>";

    /// Every file below, as path and content, sorted.
    fn files(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut left = vec![dir.to_owned()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                    found.push((name, fs::read_to_string(path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn values_become_plain_names() {
        let table = [
            ("", "_"),
            (".", "_"),
            ("..", "_."),
            ("...", "_.."),
            (".x", "_x"),
            ("x.", "x."),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("/etc", "_etc"),
            ("a\0b\nc\\d", "a_b_c_d"),
            ("%l%u", "_l_u"),
            ("A-z0+9_.,@=", "A-z0+9_.,@="),
            ("\u{e9}\u{4e2d}", "__"),
        ];
        for (value, name) in table {
            assert_eq!(harmless(value), name, "{value:?}");
        }
    }

    #[test]
    fn patterns() {
        let long = "x".repeat(200);
        let pattern = |text: &str| Pattern::try_from(text.to_owned());
        let table = [
            ("%d/%l", "..", "here.example", Some("here.example/_.")),
            ("//%d//%l//", "x", "y", Some("y/x")),
            (".%l", ".", "y", Some("._")),
            ("%u", "", "y", Some("_@y")),
            ("%u", "/../x", "y/../z", Some("_.._x@y_.._z")),
            ("box-%l.%d", "a%d", "y", Some("box-a_d.y")),
            ("%l", "\u{e9}", "y", Some("_")),
            ("%u", &long, &long, None),
        ];
        for (text, local_part, domain, expected) in table {
            let path = pattern(text).unwrap().path(local_part, domain);
            match (path, expected) {
                (Ok(path), Some(expected)) => assert_eq!(path, Path::new(expected), "{text}"),
                (Err(error), None) => assert_eq!((error.severity, error.enhanced), (Severity::Permanent, (1, 3))),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
        for text in ["", "new", "%", "%%", "%x", "%l%", "../%l", "%l/../%d", "./%l", "%l/.", "%l\0"] {
            assert!(pattern(text).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        /// Whatever an address holds, its maildir is below, and at the depth that the pattern says.
        #[test]
        fn no_address_leads_elsewhere(local_part: String, domain in "[./\\PC]{0,40}") {
            if let Ok(path) = Pattern("%d/%l/%u".into()).path(&local_part, &domain) {
                proptest::prop_assert_eq!(path.components().count(), 3);
                let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
                proptest::prop_assert!(path.components().all(plain));
            }
        }
    }

    #[test]
    fn lines() {
        let dir = tempfile::tempdir().unwrap();
        let world = trial::world(dir.path());
        let good =
            ["m", "m %d", "m %d/%l 770", "m %u 0700", "m mode 0750", "dir m", "subdir %l dir m", "./dir subdir %u"];
        for line in good {
            assert!(trial::build(&ENTRY, line, &world).is_ok(), "{line}");
        }
        let bad = [
            ("", "dir"),
            ("m new", "a pattern has at least one of"),
            ("m ../%l", "by their names"),
            ("m %l 999", "octal"),
            ("m %l 070", "octal"),
            ("m %l 2770", "octal"),
            ("m %l 770 more", "more"),
            ("m moed 770", "moed"),
            ("m dir n", "twice"),
            ("~/m", "~ is not expanded"),
        ];
        for (line, fault) in bad {
            let error = trial::build(&ENTRY, line, &world).err().unwrap_or_else(|| panic!("{line} is taken"));
            assert!(error.contains(fault), "{line}: {error}");
        }
    }

    #[test]
    fn one_file_for_all_or_one_for_each() {
        let to = ["<x@Here.Example>", "<\"../y\"@here.example>", "<Postmaster>"];
        let name = |count: u32| format!("1893456000.M0P3999Q{count}.a\\057b\\072c");
        let top = "Return-Path: <a@b.example>\n";
        let rest = "Subject: x\n\none\n..\n";
        let table = [
            (
                "m/n",
                1,
                vec![(
                    format!("m/n/new/{}", name(2)),
                    format!(
                        "{top}Delivered-To: x@Here.Example\nDelivered-To: ../y@here.example\n\
                         Delivered-To: Postmaster@mx.example\n{rest}"
                    ),
                )],
            ),
            (
                "m %d/%l",
                3,
                vec![
                    (
                        format!("m/here.example/_._y/new/{}", name(4)),
                        format!("{top}Delivered-To: ../y@here.example\n{rest}"),
                    ),
                    (format!("m/here.example/x/new/{}", name(2)), format!("{top}Delivered-To: x@Here.Example\n{rest}")),
                    (
                        format!("m/mx.example/postmaster/new/{}", name(6)),
                        format!("{top}Delivered-To: Postmaster@mx.example\n{rest}"),
                    ),
                ],
            ),
        ];
        for (line, copies, expected) in table {
            let dir = tempfile::tempdir().unwrap();
            let mut world = trial::world(dir.path());
            world.host = Rc::new(FakeHost::new("a/b:c"));
            let mut plugin = trial::build(&ENTRY, line, &world).unwrap();
            let receipt = trial::deliver(&mut *plugin, &trial::envelope(FROM, &to), CONTENT).unwrap();
            assert_eq!((receipt.id, &*receipt.text), (Some(name(2)), "queued"));
            assert_eq!(files(dir.path()), expected, "{line}");
            // The clock stands still: only the count tells the names apart.
            trial::deliver(&mut *plugin, &trial::envelope(FROM, &to), CONTENT).unwrap();
            assert_eq!(files(dir.path()).len(), 2 * copies, "{line}");
        }
    }

    #[test]
    fn rights_are_what_the_setting_says() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (line, dirs, file) in [("m", 0o700, 0o600), ("m mode 770", 0o770, 0o660), ("m mode 0755", 0o755, 0o644)] {
            let dir = tempfile::tempdir().unwrap();
            let mut plugin = trial::build(&ENTRY, line, &trial::world(dir.path())).unwrap();
            trial::deliver(&mut *plugin, &trial::envelope("<>", &["<x@here.example>"]), CONTENT).unwrap();
            for part in ["m", "m/tmp", "m/new", "m/cur"] {
                assert_eq!(mode(&dir.path().join(part)), dirs, "{line}: {part}");
            }
            assert_eq!(mode(&dir.path().join(&files(dir.path())[0].0)), file, "{line}");
        }
    }

    #[test]
    fn a_group_that_is_handed_down_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2770)).unwrap();
        let mut plugin = trial::build(&ENTRY, "m mode 0770", &trial::world(dir.path())).unwrap();
        trial::deliver(&mut *plugin, &trial::envelope("<>", &["<x@here.example>"]), CONTENT).unwrap();
        let new = fs::metadata(dir.path().join("m/new")).unwrap();
        assert_eq!(new.permissions().mode() & 0o7777, 0o2770);
    }

    #[test]
    fn a_looping_message_is_refused_where_recipients_have_maildirs() {
        let table = [
            ("m %l", "Delivered-To: x@here.example\r\n\r\n", false),
            ("m %l", "A: b\r\ndelivered-to:\r\n X@HERE.example \r\n\r\n", false),
            ("m %l", "Delivered-To: z@here.example\r\nDelivered-To: y@here.example\r\n\r\n", false),
            ("m %l", "Delivered-To: z@here.example\r\n\r\nDelivered-To: x@here.example\r\n", true),
            ("m", "Delivered-To: x@here.example\r\n\r\n", true),
        ];
        for (line, content, taken) in table {
            let dir = tempfile::tempdir().unwrap();
            let mut plugin = trial::build(&ENTRY, line, &trial::world(dir.path())).unwrap();
            let envelope = trial::envelope("<>", &["<x@here.example>", "<y@here.example>"]);
            match trial::deliver(&mut *plugin, &envelope, content) {
                Ok(_) => assert!(taken, "{content}"),
                Err((denial, evidence)) => {
                    assert!(!taken, "{line} {content}: {evidence}");
                    assert_eq!((denial.severity, denial.enhanced), (Severity::Permanent, Some((4, 6))));
                    assert!(files(dir.path()).is_empty());
                }
            }
        }
    }

    /// Whatever step fails for whichever copy: all or nothing, and the next try succeeds.
    #[test]
    fn what_fails_leaves_nothing_behind() {
        // A file stands where a directory is wanted, for the second of three recipients.
        for (block, step) in [("m/y", "create"), ("m/y/tmp", "create"), ("m/y/new", "link")] {
            let dir = tempfile::tempdir().unwrap();
            let mut plugin = trial::build(&ENTRY, "m %l", &trial::world(dir.path())).unwrap();
            let envelope = trial::envelope("<>", &["<x@here.example>", "<y@here.example>", "<z@here.example>"]);
            let block = dir.path().join(block);
            if block.ends_with("new") {
                fs::create_dir_all(dir.path().join("m/y/tmp")).unwrap();
            }
            fs::create_dir_all(block.parent().unwrap()).unwrap();
            fs::write(&block, "").unwrap();
            let (denial, evidence) = trial::deliver(&mut *plugin, &envelope, CONTENT).unwrap_err();
            assert_eq!((denial.severity, denial.enhanced), (Severity::Transient, Some((3, 0))), "{evidence}");
            assert!(evidence.starts_with(step) && evidence.contains("m/y"), "{evidence}");
            assert_eq!(files(dir.path()).len(), 1, "{step}: {:?}", files(dir.path()));
            fs::remove_file(&block).unwrap();
            trial::deliver(&mut *plugin, &envelope, CONTENT).unwrap();
            assert_eq!(files(dir.path()).len(), 3, "{step}");
        }
    }

    #[test]
    fn check_makes_nothing_and_says_what_to_mend() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["whole/tmp", "whole/new", "whole/cur", "part/new", "vmail", "bad/new", "bad/cur"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("file"), "").unwrap();
        fs::write(path("bad/tmp"), "").unwrap();
        let table = [
            ("whole", ""),
            ("part", ""),
            ("none/at/all", ""),
            ("vmail %u", ""),
            ("none %u", ""),
            ("file", "file cannot be written to by "),
            ("file/below", "file/below with mode 0700"),
            ("part/../file/x/../below", "/file/below is not there"),
            ("file %u", "file cannot be written to by "),
            ("bad", "bad/tmp cannot be written to by "),
        ];
        let before = files(dir.path()).len();
        for (line, fault) in table {
            let faults = trial::build(&ENTRY, line, &trial::world(dir.path())).unwrap().check();
            assert_eq!(faults.len(), usize::from(!fault.is_empty()), "{line}: {faults:?}");
            assert!(faults.concat().contains(fault) && !faults.concat().contains(".."), "{line}: {faults:?}");
            assert_eq!(files(dir.path()).len(), before, "{line}");
        }
        assert!(!path("none").exists());
    }
}
