//! Appends a copy of each message to a file, for trying out other plugins or for an archive.
//!
//! ```text
//! content_log
//! content_log file /srv/archive/%Y/%m-%d
//! ```
//! - `file` (mail/%Y%m%d): where to, by the letters of strftime(3) and local time; `postern plugins logging/file` lists them. A relative
//!   path starts at the configuration directory. Nothing that a client says is part of it.
//! - `enabled` (0 or 1; 1): 0 switches it off.
//! - `timeout` (seconds, 1 to 60; 5): how long to wait while another process writes to the file.
//!
//! Files `content_log_file` and `content_log_enabled`, one value each, say the same where neither the line nor `plugins.d` does.
//!
//! What is written: header and body as they stand when this plugin is asked, with our Received field and the edits of plugins listed
//! before it; line ends are LF, and an empty line follows. A message that a plugin listed later, or the queue, refuses has been
//! written already. The envelope is not in it.
//!
//! Many processes may write to one file: each message is appended whole, under a lock (flock). If it could not be written whole (the disk is
//! full), what was written of it is taken back. The file is made with mode 0600, for it holds other people's mail. Directories are not made.
//! Nothing is ever deleted: that is for you, and the law may have a word in it.
//!
//! Errors: the file cannot be opened, locked in time or written. They never stop mail, as in qpsmtpd, unless the line says
//! `on_error defer`: then no message is taken of which there is no copy.
//!
//! Differs from qpsmtpd in lock, mode and taking back, and in the directory where a relative path starts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Answer, Content, Entry, Hook, OnError, Plugin, Ruling, Trouble};
use crate::log::{Moment, cannot_append, check_format};
use crate::mail::{LineEnds, Message};
use crate::world::{World, user_name};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    on_error: OnError::Decline,
    ..Entry::plugin("content_log", &[Hook::DataPost], crate::manual!("content_log.rs"), build)
};

const FILE: &str = "mail/%Y%m%d";
/// How often a lock that another process has is tried.
const LOCK_PACE: Duration = Duration::from_millis(20);

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    file: Option<String>,
    enabled: Option<bool>,
    /// Seconds.
    timeout: Option<u64>,
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| origin.error(text).of_plugin(ENTRY.name);
    if let Some(format) = &settings.file {
        check_format(format, "").map_err(fault)?;
        world.config.resolve(format).map_err(|error| error.or_at(&origin))?;
    }
    let timeout_s = settings.timeout.unwrap_or(5);
    if !(1..=60).contains(&timeout_s) {
        return Err(fault(format!("timeout {timeout_s} is not between 1 and 60 seconds")));
    }
    Ok(Box::new(ContentLog { settings, timeout: Duration::from_secs(timeout_s), world: world.clone(), format: None }))
}

struct ContentLog {
    settings: Settings,
    timeout: Duration,
    world: World,
    /// Looked up at the first message: `None` within, if it is switched off.
    format: Option<Option<String>>,
}

impl ContentLog {
    /// Where messages go, if anywhere.
    fn format(&self) -> Result<Option<String>, ConfigError> {
        let enabled = match self.settings.enabled {
            Some(enabled) => enabled,
            None => match self.world.config.value("content_log_enabled")? {
                None => true,
                Some(entry) => match entry.text.to_ascii_lowercase().as_str() {
                    "0" | "no" | "off" | "false" => false,
                    "1" | "yes" | "on" | "true" => true,
                    _ => return Err(entry.error(format!("{:?} is not yes or no (1 or 0)", entry.text))),
                },
            },
        };
        if !enabled {
            return Ok(None);
        }
        if let Some(format) = &self.settings.file {
            return Ok(Some(format.clone()));
        }
        let Some(entry) = self.world.config.value("content_log_file")? else { return Ok(Some(FILE.to_owned())) };
        check_format(&entry.text, "").map_err(|fault| entry.error(fault))?;
        Ok(Some(entry.text))
    }

    fn path(&self, format: &str) -> Result<PathBuf, ConfigError> {
        let clock = &self.world.clock;
        self.world.config.resolve(&Moment::new(clock.now(), clock.utc_offset_s()).text(format))
    }

    fn append(&self, path: &Path, message: &Message) -> Result<u64, String> {
        // Opening a FIFO would wait for a reader.
        match path.metadata() {
            Ok(there) if !there.is_file() => return Err("is no plain file".into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = opened.map_err(|error| error.to_string())?;
        self.lock(&file)?;
        let before = file.metadata().map_err(|error| error.to_string())?.len();
        // The lock goes when the file is closed.
        write(&file, message).map(|after| after - before).map_err(|error| match file.set_len(before) {
            Ok(()) => error.to_string(),
            Err(second) => format!("{error}; and half a message stays there: {second}"),
        })
    }

    fn lock(&self, file: &File) -> Result<(), String> {
        let until = self.world.clock.instant() + self.timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error.to_string()),
                Err(TryLockError::WouldBlock) if self.world.clock.instant() < until => {
                    self.world.clock.sleep(LOCK_PACE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(format!("locked by another process for {} s", self.timeout.as_secs()));
                }
            }
        }
    }
}

/// Writes the message and an empty line. Gives the file's new length.
fn write(file: &File, message: &Message) -> std::io::Result<u64> {
    let mut out = Last { out: BufWriter::new(file), last: b'\n' };
    message.write_to(&mut out, LineEnds::Lf)?;
    let open = out.last != b'\n';
    out.write_all(if open { b"\n\n" } else { b"\n" })?;
    out.flush()?;
    Ok(file.metadata()?.len())
}

/// Remembers the last octet: a message by BDAT need not end its last line.
struct Last<W> {
    out: W,
    last: u8,
}

impl<W: Write> Write for Last<W> {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(octets)?;
        self.last = octets[..written].last().copied().unwrap_or(self.last);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Plugin for ContentLog {
    fn data_post(&mut self, at: &Content<'_>) -> Answer {
        let format = match &self.format {
            Some(format) => format.clone(),
            None => self.format.insert(self.format()?).clone(),
        };
        let Some(format) = format else { return Ok(Ruling::skip("switched off")) };
        let path = self.path(&format)?;
        match self.append(&path, at.message) {
            Ok(octets) => Ok(Ruling::decline().because(format!("{octets} octets appended to {}", path.display()))),
            Err(fault) => Err(Trouble::new(format!("{}: {fault}", path.display()))),
        }
    }

    fn check(&mut self) -> Vec<String> {
        let path = match self.format().and_then(|format| format.map(|format| self.path(&format)).transpose()) {
            Ok(Some(path)) => path,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![error.to_string()],
        };
        cannot_append(&path, &user_name()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::shared::fixture;
    use super::*;
    use crate::mail::{Envelope, Recipient, Spool, SpoolPlace, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};

    fn play(plugin: &mut dyn Plugin, content: &str) -> Answer {
        let mut transaction = Transaction::new(ReversePath::Null, Default::default());
        transaction.recipients.push(Recipient::new(ForwardPath::parse("<a@b>").unwrap(), Default::default()));
        let envelope = Envelope::try_from(transaction).unwrap();
        let mut spool = Spool::new(SpoolPlace { threshold: 1 << 20, dir: "/nonexistent".into() });
        spool.write(content.as_bytes()).unwrap();
        let mut message = Message::new(spool, 1 << 16);
        let session = &mut fixture::session(None);
        plugin.data_post(&Content { session, envelope: &envelope, message: &mut message })
    }

    #[test]
    fn each_message_is_appended_whole() {
        let (world, dir) = fixture::world(&[("mail/x", "")]);
        let mut plugin = fixture::build(&ENTRY, "content_log", &world).unwrap();
        for content in ["Subject: a\r\n\r\none\r\n", "\r\n\r\n", "Subject: open", "Subject: dots\r\n\r\n..\r\n"] {
            let evidence = play(&mut *plugin, content).unwrap().evidence.join("");
            assert!(evidence.contains("octets appended to") && evidence.ends_with("mail/20300101"), "{evidence}");
        }
        let path = dir.path().join("mail/20300101");
        let expected = "Subject: a\n\none\n\n\n\n\nSubject: open\n\nSubject: dots\n\n..\n\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn settings_come_from_line_and_files() {
        let table: [(&str, &[(&str, &str)], Option<&str>); 7] = [
            ("content_log file a-%y", &[], Some("a-30")),
            ("content_log", &[("content_log_file", "b-%H\n")], Some("b-00")),
            ("content_log file a", &[("content_log_file", "b\n")], Some("a")),
            ("content_log file a", &[("content_log_enabled", "0\n")], None),
            ("content_log file a enabled 1", &[("content_log_enabled", "0\n")], Some("a")),
            ("content_log file a enabled 0", &[], None),
            ("content_log file a", &[("content_log_enabled", "Yes\n")], Some("a")),
        ];
        for (line, files, expected) in table {
            let (world, dir) = fixture::world(files);
            let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
            assert_eq!(plugin.check(), [""; 0], "{line}");
            play(&mut *plugin, "\r\n").unwrap();
            let written = expected.is_none_or(|name| dir.path().join(name).is_file());
            let count = std::fs::read_dir(dir.path()).unwrap().count();
            assert!(written && count == files.len() + usize::from(expected.is_some()), "{line} {files:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_trouble_and_leaves_nothing() {
        let (world, dir) = fixture::world(&[("mine", "before\n")]);
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let holder = File::open(dir.path().join("mine")).unwrap();
        holder.lock().unwrap();
        let rows = [
            ("file none/x", "No such file"),
            ("file .", "no plain file"),
            ("file fifo", "no plain file"),
            ("file /dev/full", "no plain file"),
            ("file mine timeout 2", "locked by another process for 2 s"),
        ];
        for (words, fault) in rows {
            let mut plugin = fixture::build(&ENTRY, &format!("content_log {words}"), &world).unwrap();
            let trouble = play(&mut *plugin, "x\r\n").unwrap_err().0;
            assert!(trouble.contains(fault), "{words}: {trouble}");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("mine")).unwrap(), "before\n");
        let (world, _dir) = fixture::world(&[("content_log_file", "%Q\n"), ("content_log_enabled", "perhaps\n")]);
        for words in ["", "enabled 1"] {
            let mut plugin = fixture::build(&ENTRY, &format!("content_log {words}"), &world).unwrap();
            assert!(play(&mut *plugin, "x\r\n").unwrap_err().0.contains(" line 1: "));
            assert_eq!(plugin.check().len(), 1);
        }
        for words in ["file %Q", "file ~/x", "timeout 0", "timeout 61"] {
            assert!(fixture::build(&ENTRY, &format!("content_log {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn writers_at_once_do_not_mix() {
        let (_, dir) = fixture::world(&[]);
        let path = dir.path().join("log");
        let writers: Vec<_> = (0..8_u8)
            .map(|writer| {
                let dir = dir.path().to_owned();
                std::thread::spawn(move || {
                    let world = World::real(std::rc::Rc::new(crate::config::ConfigDir::open_with(&dir, None).unwrap()));
                    let mut plugin = fixture::build(&ENTRY, "content_log file log timeout 60", &world).unwrap();
                    let body = format!("{writer}\r\n").repeat(20_000);
                    for _ in 0..3 {
                        play(&mut *plugin, &format!("\r\n{body}")).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let text = std::fs::read_to_string(path).unwrap();
        let blocks: Vec<&str> = text.split("\n\n").filter(|block| !block.is_empty()).collect();
        assert_eq!(blocks.len(), 24);
        for block in blocks {
            let lines: Vec<&str> = block.trim().lines().collect();
            assert!(lines.len() == 20_000 && lines.iter().all(|line| *line == lines[0]));
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        let shipped: Settings = fixture::shipped("content_log").read().unwrap();
        assert_eq!(shipped, Settings { file: Some(FILE.into()), enabled: Some(true), timeout: Some(5) });
    }
}
