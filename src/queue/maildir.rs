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
//! Everything is offered: 8BITMIME, BINARYMIME (where a CR LF becomes LF all the same), SMTPUTF8, and DSN, which a final
//! delivery has little to do for. There is no time limit but the line's `budget`: a disk that hangs cannot be interrupted.
//!
//! Differs from qpsmtpd: synced before 250, no copy stays when another fails, no `..` from a local-part, errors that only
//! closing a file shows are seen, domains in one form, the loop check.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::{Queue, QueueError, line};
use crate::config::{ConfigError, Settings};
use crate::hook::facts::Session;
use crate::hook::{Entry, Plugin, Receipt};
use crate::mail::header::unfolded;
use crate::mail::{Envelope, LineEnds, Message, trace};
use crate::smtp::address::ForwardPath;
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = super::entry("queue/maildir", include_str!("maildir.rs"), build);

/// A name in a directory (NAME_MAX).
const NAME_OCTETS_MAX: usize = 255;

/// Names that are tried for one file. One is enough unless another machine of the same name writes here.
const NAMES_MAX: u32 = 10;

/// In the order in which they are made: where there is a `tmp` there are the others.
const PARTS: [&str; 3] = ["new", "cur", "tmp"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    dir: String,
    subdir: Option<Pattern>,
    #[serde(default)]
    mode: Mode,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    const KEYS: [&str; 3] = ["dir", "subdir", "mode"];
    for key in KEYS {
        // The positional form ends where a key stands.
        match settings.words().first() {
            Some(word) if !KEYS.contains(&word.as_str()) => {}
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
    Ok(line(Maildir { world: world.clone(), dir, subdir: options.subdir, mode: options.mode.0, names: 0 }))
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
    world: World,
    dir: PathBuf,
    subdir: Option<Pattern>,
    mode: u32,
    /// Names given so far by this process.
    names: u32,
}

impl Queue for Maildir {
    fn offers(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn check(&mut self) -> Vec<String> {
        // Readers of maildirs pass over names that begin with a dot.
        let name = format!(".postern-check.{}", self.unique());
        let parts: Vec<PathBuf> = match &self.subdir {
            Some(_) => vec![self.dir.clone()],
            None => PARTS.iter().map(|part| self.dir.join(part)).collect(),
        };
        // What is missing is made at the first delivery, in the first directory above that is there.
        let mut dirs: Vec<&Path> = parts.iter().map(|part| existing(part)).collect();
        dirs.dedup();
        let faults: Vec<String> = dirs.iter().filter_map(|dir| cannot_write(dir, &name)).collect();
        match &parts[..] {
            [new, _, tmp] if faults.is_empty() && new.is_dir() && tmp.is_dir() => {
                cannot_link(&tmp.join(&name), &new.join(&name)).into_iter().collect()
            }
            _ => faults,
        }
    }

    fn deliver(&mut self, session: &Session, envelope: &Envelope, message: &Message) -> Result<Receipt, QueueError> {
        let wanted = self.wanted(session, envelope, message)?;
        // What is in here and not done is undone when it is dropped.
        let mut copies = Vec::with_capacity(wanted.len());
        for (maildir, fields) in wanted {
            copies.push(self.write(maildir, &fields, message)?);
        }
        for copy in &mut copies {
            self.link(copy)?;
        }
        for copy in &copies {
            // The message is stored, whether or not this name of it goes.
            let _ = fs::remove_file(copy.tmp());
        }
        let mut synced: Vec<&Path> = Vec::new();
        for copy in &copies {
            if !synced.contains(&copy.maildir.as_path()) {
                let new = copy.maildir.join("new");
                sync(&new).map_err(|error| failed("sync", &new, &error))?;
                synced.push(&copy.maildir);
            }
        }
        let id = copies.first().map(|copy| copy.name.clone());
        copies.iter_mut().for_each(|copy| copy.stage = Stage::Done);
        Ok(Receipt { id, text: "Queued!".to_owned() })
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

    /// Writes one copy to `tmp`, and syncs it.
    fn write(&mut self, maildir: PathBuf, fields: &str, message: &Message) -> Result<Delivery, QueueError> {
        let (mut file, copy) = self.create(maildir)?;
        let written = message.write_below(fields, &mut file, LineEnds::Lf);
        written.map_err(|error| failed("write", &copy.tmp(), &error))?;
        // After this, closing the file has nothing to say.
        file.sync_all().map_err(|error| failed("sync", &copy.tmp(), &error))?;
        Ok(copy)
    }

    /// A new file in `tmp`. Makes the maildir if that is what is missing.
    fn create(&mut self, maildir: PathBuf) -> Result<(File, Delivery), QueueError> {
        let mode = self.mode & !0o111;
        let mut made = false;
        let mut tries = 0;
        loop {
            let mut copy = Delivery { maildir: maildir.clone(), name: self.unique(), stage: Stage::Nowhere };
            let tmp = copy.tmp();
            tries += 1;
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp) {
                Ok(file) => {
                    copy.stage = Stage::Tmp;
                    // The umask may have taken rights that the setting gives.
                    if mode & 0o077 != 0 {
                        let set = file.set_permissions(Permissions::from_mode(mode));
                        set.map_err(|error| failed("chmod", &tmp, &error))?;
                    }
                    return Ok((file, copy));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !made => {
                    self.make(&maildir)?;
                    made = true;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < NAMES_MAX => {}
                Err(error) => return Err(failed("create", &tmp, &error)),
            }
        }
    }

    /// Makes a copy visible in `new`.
    fn link(&self, copy: &mut Delivery) -> Result<(), QueueError> {
        let (tmp, new) = (copy.tmp(), copy.new_path());
        let mut linked = fs::hard_link(&tmp, &new);
        if linked.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.make(&copy.maildir)?;
            linked = fs::hard_link(&tmp, &new);
        }
        match linked {
            Ok(()) => {}
            // Over NFS the answer can be lost, and the retry finds the link there.
            Err(_) if fs::metadata(&tmp).is_ok_and(|file| file.nlink() == 2) => {}
            Err(error) => return Err(failed("link", &new, &error)),
        }
        copy.stage = Stage::New;
        Ok(())
    }

    fn make(&self, maildir: &Path) -> Result<(), QueueError> {
        PARTS.iter().try_for_each(|part| self.make_dir(&maildir.join(part)))
    }

    /// Makes a directory with what is missing above it, each of them synced into the one above.
    fn make_dir(&self, dir: &Path) -> Result<(), QueueError> {
        let above = above(dir);
        let make = || DirBuilder::new().mode(self.mode).create(dir);
        let mut made = make();
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && above != dir {
            self.make_dir(above)?;
            made = make();
        }
        match made {
            Ok(()) if self.mode & 0o077 != 0 => {
                let set = fs::set_permissions(dir, Permissions::from_mode(self.mode));
                set.map_err(|error| failed("chmod", dir, &error))?;
            }
            Ok(()) => {}
            // Perhaps by another process a moment ago: then it may not be synced yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("mkdir", dir, &error)),
        }
        sync(above).map_err(|error| failed("sync", above, &error))
    }

    /// A file's name that nobody else gives: time, process, a count in this process, host.
    fn unique(&mut self) -> String {
        let since = self.world.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros, pid) = (since.as_secs(), since.subsec_micros(), self.world.host.pid());
        let host = self.world.host.name().replace('/', "\\057").replace(':', "\\072");
        self.names += 1;
        format!("{seconds}.M{micros}P{pid}Q{}.{host}", self.names)
    }
}

/// A copy of the message on its way.
struct Delivery {
    maildir: PathBuf,
    name: String,
    stage: Stage,
}

/// Where a copy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not there yet.
    Nowhere,
    /// In `tmp`.
    Tmp,
    /// In `new`, and perhaps still in `tmp`.
    New,
    /// In `new` for good.
    Done,
}

impl Delivery {
    fn tmp(&self) -> PathBuf {
        self.maildir.join("tmp").join(&self.name)
    }

    fn new_path(&self) -> PathBuf {
        self.maildir.join("new").join(&self.name)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // Nothing can be done about a file that cannot be removed, or that a reader has moved.
        if self.stage == Stage::New {
            let _ = fs::remove_file(self.new_path());
        }
        if matches!(self.stage, Stage::Tmp | Stage::New) {
            let _ = fs::remove_file(self.tmp());
        }
    }
}

/// For `check`: why no file can be made here, found out by making one.
fn cannot_write(dir: &Path, name: &str) -> Option<String> {
    let file = dir.join(name);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let synced = made.and_then(|_| sync(dir));
    let _ = fs::remove_file(&file);
    let error = synced.err()?;
    let dir = dir.display();
    Some(format!("{dir}: cannot be written to ({error}): it must belong to the user that serves, with mode 0700"))
}

/// For `check`: why no file can be linked from `tmp` to `new`, found out in the same way.
fn cannot_link(tmp: &Path, new: &Path) -> Option<String> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(tmp);
    let linked = made.and_then(|_| fs::hard_link(tmp, new));
    let _ = (fs::remove_file(new), fs::remove_file(tmp));
    let error = linked.err()?;
    Some(format!("{}: cannot be linked to from tmp ({error}): both must be on one file system", above(new).display()))
}

/// The directory itself, or the first above it that is there.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."))
}

/// The directory that holds this one's name.
fn above(dir: &Path) -> &Path {
    match dir.parent() {
        None => dir,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}

/// Writes a directory's names to the disk.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
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

fn failed(step: &str, path: &Path, error: &io::Error) -> QueueError {
    let evidence = format!("{step} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            QueueError::transient("no room to store the message now, try again later", evidence).code(3, 1)
        }
        _ => QueueError::transient("the message cannot be stored now, try again later", evidence),
    }
}
