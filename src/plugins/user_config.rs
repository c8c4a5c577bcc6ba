//! Reads settings of single recipients from files of theirs, for other plugins to use.
//!
//! ```text
//! user_config names greylisting,spamassassin_reject_threshold
//! user_config pattern /srv/mail/%h/%u/settings names denysoft_greylist
//! ```
//! - `names` (with commas between; none): which settings are read. Each is an option of the recipient, as the alias file attaches
//!   them; the manual of the plugin that reads it says what it means. Without names this plugin does nothing.
//! - `pattern` (/home/%u/.qpsmtpd): the directory. `%u` is the local-part, `%h` the domain, `%a` the whole address, `%%` a percent sign.
//!   A relative path starts at the configuration directory.
//!
//! For each recipient and name the file `DIRECTORY/NAME` is read, of at most 4,096 octets. Its first line that is neither empty nor a
//! comment (`#`) is the option's value; without such a line it is 1. No file, no option. Hidden from users nothing can be: whoever
//! writes the files decides. So list in `names` only what users may decide.
//!
//! The address is the one that the client named, in small letters, the domain in A-labels; an extension (`pat+list`) is part of it. Parts
//! come from outside: each must be a plain name of one directory. One that is empty, `.` or `..`, begins with a `.`, is longer than 255
//! octets, or has a `/` or a control character in it belongs to nobody, and no file is opened; the record says so. A file that is a
//! link, or no plain file (a pipe, a device), is not read either: that is an error. Directories may be links.
//!
//! List it before `rcpt_ok`, which ends the asking. After `aliases`, a user's file wins over the alias file; before it, the alias file does.
//!
//! Errors: a file that is there and cannot be read, is too long, or is no text. The recipient is deferred (`on_error decline`: taken
//! without that user's settings).
//!
//! Differs from qpsmtpd, which reads any name that a plugin asks for, does not take comments out, tells upper from lower case, and lets
//! `<"../../x"@here.example>` lead it to any directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{ConfigError, Settings as Given, foreign_text};
use crate::hook::{Answer, Change, Entry, Hook, Plugin, Rcpt, Ruling};
use crate::smtp::address::Mailbox;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("user_config", &[Hook::Rcpt], crate::manual!("user_config.rs"), build);

const FILE_OCTETS_MAX: usize = 4096;
/// NAME_MAX of Linux.
const PART_OCTETS_MAX: usize = 255;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    pattern: String,
    names: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pattern: "/home/%u/.qpsmtpd".into(), names: Vec::new() }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    given.repeatable("names");
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| origin.error(text).of_plugin(ENTRY.name);
    if let Some(name) = settings.names.iter().find(|name| !is_name(name)) {
        return Err(fault(format!("names: {name:?} is no setting: write letters, digits, - and _")));
    }
    let pattern = world.config.resolve(&settings.pattern).map_err(|error| error.or_at(&origin))?;
    let Some(pattern) = pattern.to_str().map(str::to_owned) else {
        return Err(fault(format!("pattern {:?} is not UTF-8", pattern.display())));
    };
    check_pattern(&settings.pattern).map_err(fault)?;
    // What stands before it is a path of ours, not a pattern.
    let before = pattern[..pattern.len() - settings.pattern.len()].replace('%', "%%");
    Ok(Box::new(UserConfig { pattern: before + &settings.pattern, names: settings.names }))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let mut characters = pattern.chars();
    let mut parts = 0;
    while let Some(character) = characters.next() {
        if character != '%' {
            continue;
        }
        match characters.next() {
            Some('u' | 'h' | 'a') => parts += 1,
            Some('%') => {}
            _ => return Err(format!("pattern {pattern:?}: only %u, %h, %a and %% are known")),
        }
    }
    if parts == 0 {
        return Err(format!("pattern {pattern:?} is the same for everybody: it needs %u, %h or %a"));
    }
    Ok(())
}

struct UserConfig {
    pattern: String,
    names: Vec<String>,
}

impl UserConfig {
    /// The directory of a mailbox; the error says why it has none.
    fn dir(&self, mailbox: &Mailbox) -> Result<PathBuf, String> {
        let local_part = mailbox.local_part().to_lowercase();
        let domain = mailbox.domain().ascii();
        let mut path = String::with_capacity(self.pattern.len() + local_part.len());
        let mut characters = self.pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                path.push(character);
                continue;
            }
            match characters.next() {
                Some('u') => path.push_str(plain("local-part", &local_part)?),
                Some('h') => path.push_str(plain("domain", domain)?),
                Some('a') => path.push_str(plain("address", &format!("{local_part}@{domain}"))?),
                other => path.extend(other),
            }
        }
        Ok(path.into())
    }

    /// The settings of a mailbox that has this directory.
    fn read(&self, dir: &Path) -> Result<Vec<(String, String)>, ConfigError> {
        let mut found = Vec::new();
        for name in &self.names {
            if let Some(text) = foreign_text(&dir.join(name), FILE_OCTETS_MAX)? {
                let mut live = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                let value = live.next().unwrap_or("1");
                // As in the alias file: options stand in one line of the record.
                if value.chars().any(char::is_control) {
                    return Err(ConfigError::at(&dir.join(name), 0, "a control character in its value"));
                }
                found.push((name.clone(), value.to_owned()));
            }
        }
        Ok(found)
    }
}

/// A part of an address that is the name of one directory and of none above it.
fn plain<'a>(what: &str, part: &'a str) -> Result<&'a str, String> {
    let odd = part.is_empty()
        || part.starts_with('.')
        || part.len() > PART_OCTETS_MAX
        || part.chars().any(|character| character == '/' || character.is_control());
    if odd { Err(format!("the {what} is no plain name of a directory")) } else { Ok(part) }
}

impl Plugin for UserConfig {
    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let Some(mailbox) = at.recipient.asked.mailbox().filter(|_| !self.names.is_empty()) else {
            return Ok(Ruling::decline());
        };
        let dir = match self.dir(mailbox) {
            Ok(dir) => dir,
            Err(reason) => return Ok(Ruling::skip(reason)),
        };
        let mut ruling = Ruling::decline();
        for (name, value) in self.read(&dir)? {
            ruling = ruling.because(format!("{name}={value}")).change(Change::SetOption(name, value));
        }
        Ok(ruling)
    }

    fn check(&mut self) -> Vec<String> {
        if self.names.is_empty() { vec![String::from("names is empty: no setting is ever read")] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::shared::fixture;
    use super::*;
    use crate::hook::Verdict;
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};

    fn rule(plugin: &mut dyn Plugin, recipient: &str) -> Answer {
        let transaction = Transaction::new(ReversePath::Null, Default::default());
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), Default::default());
        let session = &mut fixture::session(None);
        plugin.rcpt(&Rcpt { session, transaction: &transaction, recipient: &mut recipient })
    }

    fn options(answer: Answer) -> Vec<(String, String)> {
        let option = |change| match change {
            Change::SetOption(name, value) => (name, value),
            other => panic!("{other:?}"),
        };
        answer.unwrap().changes.into_iter().map(option).collect()
    }

    #[test]
    fn each_recipient_has_the_settings_of_its_directory() {
        let files = [
            ("users/pat/greylisting", "# mine\n\n  0  \n1\n"),
            ("users/pat/other", "read by nobody\n"),
            ("users/pat/flag", "# nothing live\n"),
            ("users/pat+list/greylisting", "1"),
            ("users/100%/greylisting", "full"),
            ("h/xn--bcher-kva.example/a@xn--bcher-kva.example%/greylisting", "7\r\n"),
        ];
        let (world, _dir) = fixture::world(&files);
        let table: [(&str, &str, &[(&str, &str)]); 9] = [
            ("users/%u", "<pat@here.example>", &[("greylisting", "0"), ("flag", "1")]),
            ("users/%u", "<PAT@there.example>", &[("greylisting", "0"), ("flag", "1")]),
            ("users/%u", "<\"pat\"@here.example>", &[("greylisting", "0"), ("flag", "1")]),
            ("users/%u", "<pat+list@here.example>", &[("greylisting", "1")]),
            ("users/%u", "<100%@here.example>", &[("greylisting", "full")]),
            ("users/%u", "<kim@here.example>", &[]),
            ("users/%u", "<postmaster>", &[]),
            ("h/%h/%a%%", "<A@bücher.example>", &[("greylisting", "7")]),
            ("users/%u/greylisting", "<pat@here.example>", &[]),
        ];
        for (pattern, recipient, expected) in table {
            let line = format!("user_config pattern {pattern} names greylisting,flag");
            let mut plugin = fixture::build(&ENTRY, &line, &world).unwrap();
            let found = options(rule(&mut *plugin, recipient));
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{pattern} {recipient}");
        }
        let mut plugin = fixture::build(&ENTRY, "user_config pattern users/%u", &world).unwrap();
        assert!(options(rule(&mut *plugin, "<pat@here.example>")).is_empty() && plugin.check().len() == 1);
    }

    #[test]
    fn no_address_leads_out_of_its_directory() {
        // Each leads to a file that is there.
        let files = [
            ("greylisting", "no"),
            ("users/greylisting", "no"),
            ("users/.hidden/greylisting", "no"),
            ("users/a/b/greylisting", "no"),
            ("other/greylisting", "no"),
        ];
        let (world, dir) = fixture::world(&files);
        let long = format!("<{}@b.example>", "a".repeat(64));
        let absolute = format!("<\"{}\"@b>", dir.path().join("other").display());
        let recipients = [
            "<\"..\"@b.example>",
            "<\".\"@b.example>",
            "<\"\"@b.example>",
            "<\"../other\"@b.example>",
            "<\"../users/../other\"@b.example>",
            "<\".hidden\"@b.example>",
            "<\"a/b\"@b.example>",
            "<a/b@b.example>",
            "<../other@b.example>",
            "<\"a\\/b\"@b.example>",
            &absolute,
            &long,
        ];
        let mut plugin = fixture::build(&ENTRY, "user_config pattern users/%u names greylisting", &world).unwrap();
        for recipient in recipients {
            // Some are no address at all.
            if ForwardPath::parse(recipient).is_ok() {
                let ruling = rule(&mut *plugin, recipient).unwrap();
                assert!(ruling.changes.is_empty(), "{recipient}");
                assert!(matches!(ruling.verdict, Verdict::Skip) || recipient == long, "{recipient}");
            }
        }
        for part in ["", ".", "..", "a/b", "/", "a\0", "a\n", ".a", &"a".repeat(256)] {
            assert!(plain("local-part", part).is_err(), "{part:?}");
        }
        for part in ["a", "a..", "a b", "-a", "\\", "ä", &"a".repeat(255)] {
            assert!(plain("local-part", part).is_ok(), "{part:?}");
        }
    }

    #[test]
    fn what_is_no_plain_file_is_trouble_and_nothing_waits_for_it() {
        let long = "x".repeat(FILE_OCTETS_MAX + 1);
        let files = [("u/long/n", long.as_str()), ("u/dir/n/x", ""), ("u/bell/n", "a\u{7}b"), ("secret", "s")];
        let (world, dir) = fixture::world(&files);
        for name in ["link", "fifo", "bytes"] {
            std::fs::create_dir(dir.path().join("u").join(name)).unwrap();
        }
        symlink(dir.path().join("secret"), dir.path().join("u/link/n")).unwrap();
        symlink(dir.path().join("u/bell"), dir.path().join("u/linked")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("u/fifo/n"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(dir.path().join("u/bytes/n"), b"\xff\n").unwrap();
        let mut plugin = fixture::build(&ENTRY, "user_config pattern u/%u names n", &world).unwrap();
        for (user, fault) in [
            ("long", "larger"),
            ("dir", "no plain file"),
            ("bell", "control"),
            ("linked", "control"),
            ("link", "link"),
            ("fifo", "no plain file"),
            ("bytes", "UTF-8"),
        ] {
            let trouble = rule(&mut *plugin, &format!("<{user}@b>")).unwrap_err().0;
            assert!(trouble.contains(&format!("u/{user}/n")) && trouble.contains(fault), "{trouble}");
        }
    }

    #[test]
    fn settings_that_make_no_sense() {
        let (world, _dir) = fixture::world(&[]);
        for words in [
            "pattern /etc",
            "pattern /home/%x",
            "pattern /home/%u%",
            "pattern ~/%u",
            "names ../x",
            "names a/b",
            "users 1",
        ] {
            assert!(fixture::build(&ENTRY, &format!("user_config {words}"), &world).is_err(), "{words}");
        }
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("user_config").read::<Settings>().unwrap(), Settings::default());
    }
}
