//! Answers HELP: with texts from files, or that it is not implemented.
//!
//! ```text
//! help [help_dir DIR] [COMMAND FILE]...
//! help not_implemented 1
//! ```
//! - `help_dir`: a directory of texts, one file a command, named as it in lower case: `HELP Mail` tells the file `mail`. With no
//!   argument at all it is `help`.
//! - `COMMAND FILE`: the text for one command; it wins over `help_dir`. A FILE without a slash stands in `help`. In
//!   `plugins.d/help.toml` these are the table `commands`.
//! - `not_implemented`: 1 answers `502 Not implemented.` to all of it (0).
//!
//! Relative paths start at the configuration directory. `HELP` alone gets `214 Try 'HELP COMMAND' for getting help on COMMAND`,
//! a word that is no command name `502 Invalid command name`, a command without a text `214 No help available for SMTP command:
//! x`. Of a text the first 100 lines and 16,384 octets are told, control characters as `?`.
//!
//! What the client says never leads to a file: its word is looked up among the names that the line and the directory have, and
//! those are read when the first client asks. A text that cannot be read counts as none, and the record says why.
//!
//! Differs from qpsmtpd: paths start at the configuration directory, not where the process was started.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Command, Denial, Entry, Hook, OnError, Plugin, Ruling};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry { on_error: OnError::Decline, ..Entry::plugin("help", &[Hook::Help], crate::manual!("help.rs"), build) };

/// Octets of a text.
const TEXT_OCTETS_MAX: u64 = 16 * 1024;
/// Files of the directory.
const FILES_MAX: usize = 1000;
/// Octets of a command's name; those of RFC 5321 have four.
const NAME_OCTETS_MAX: usize = 32;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    not_implemented: bool,
    help_dir: Option<String>,
    commands: BTreeMap<String, String>,
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let on_line = commands(&mut settings)?;
    let no_name = |name: &str| settings.error(format!("{name:?} is no name of a command")).of_key("commands");
    let mut options: Options = settings.clone().read()?;
    options.commands.extend(on_line);
    let mut texts = BTreeMap::new();
    for (name, file) in &options.commands {
        let name = command_name(name).ok_or_else(|| no_name(name))?;
        let file = if file.contains('/') { file.clone() } else { format!("help/{file}") };
        texts.insert(name, world.config.resolve(&file)?);
    }
    if options.help_dir.is_none() && texts.is_empty() {
        options.help_dir = Some("help".to_owned());
    }
    let dir = options.help_dir.map(|dir| world.config.resolve(&dir)).transpose()?;
    Ok(Box::new(Help { not_implemented: options.not_implemented, texts, dir, listed: false }))
}

/// Takes the pairs that name a command out of the line.
fn commands(settings: &mut Settings) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut words = settings.take_words().into_iter();
    let mut commands = BTreeMap::new();
    while let Some(key) = words.next() {
        let Some(value) = words.next() else {
            return Err(settings.error(format!("{key:?} has no file")));
        };
        match key.replace('-', "_").as_str() {
            "not_implemented" | "help_dir" => settings.set(&key, value),
            _ if commands.contains_key(&key.to_ascii_lowercase()) => {
                return Err(settings.error(format!("{key:?} is there twice")));
            }
            _ => {
                commands.insert(key.to_ascii_lowercase(), value);
            }
        }
    }
    Ok(commands)
}

/// A command's name in lower case, if it could be one.
fn command_name(word: &str) -> Option<String> {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    ((1..=NAME_OCTETS_MAX).contains(&word.len()) && word.bytes().all(fits)).then(|| word.to_ascii_lowercase())
}

struct Help {
    not_implemented: bool,
    /// Command and file: the line's; and the directory's, once it is listed.
    texts: BTreeMap<String, PathBuf>,
    dir: Option<PathBuf>,
    listed: bool,
}

impl Plugin for Help {
    fn help(&mut self, at: &Command<'_>) -> Answer {
        if self.not_implemented {
            return Ok(Ruling::deny(Denial::permanent("Not implemented.").code(5, 1)).because("not_implemented is set"));
        }
        let Some(word) = at.argument.split_ascii_whitespace().next() else {
            return Ok(Ruling::answer("Try 'HELP COMMAND' for getting help on COMMAND"));
        };
        let Some(name) = command_name(word) else {
            return Ok(Ruling::deny(Denial::permanent("Invalid command name").code(5, 4)));
        };
        let listed = self.list();
        let none = Ruling::answer(format!("No help available for SMTP command: {name}"));
        match self.texts.get(&name).map(|path| (path, read(path))) {
            None => Ok(match listed {
                Ok(()) => none,
                Err(error) => none.because(error),
            }),
            Some((path, Ok(text))) if text.trim().is_empty() => Ok(none.because(format!("{}: empty", path.display()))),
            Some((path, Ok(text))) => Ok(Ruling::answer(text.trim_end()).because(path.display().to_string())),
            Some((path, Err(error))) => Ok(none.because(format!("{}: {error}", path.display()))),
        }
    }

    fn check(&mut self) -> Vec<String> {
        if self.not_implemented {
            return Vec::new();
        }
        let mut faults: Vec<String> = self.list().err().into_iter().collect();
        let unread = self.texts.values().filter_map(|path| Some(format!("{}: {}", path.display(), read(path).err()?)));
        faults.extend(unread);
        faults
    }
}

impl Help {
    /// Takes the names of the directory's files, once.
    fn list(&mut self) -> Result<(), String> {
        let Some(dir) = self.dir.as_ref().filter(|_| !self.listed) else { return Ok(()) };
        self.listed = true;
        let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for entry in entries.take(FILES_MAX).flatten() {
            if let Some(name) = entry.file_name().to_str().and_then(command_name) {
                self.texts.entry(name).or_insert_with(|| entry.path());
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(TEXT_OCTETS_MAX).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::shared::fixture::{self, world};
    use super::*;
    use crate::config::{Origin, PluginFile};
    use crate::hook::Verdict;
    use crate::hook::facts::Session;
    use crate::launch::{Connection, Launcher};

    const FILES: &[(&str, &str)] = &[
        ("help/mail", "MAIL FROM:<sender>\nbegins a message\n"),
        ("help/RCPT", "names a recipient\n"),
        ("help/data", " \n"),
        ("help/vrfy.txt", "of no use"),
        ("help/noop/x", "a directory"),
        ("own/rset", "from own\n"),
        ("secret", "secret"),
    ];

    fn plugin(line: &str, toml: &str, world: &World) -> Result<Box<dyn Plugin>, String> {
        let words = line.split_ascii_whitespace().map(str::to_owned).collect();
        let file = (!toml.is_empty()).then(|| PluginFile::parse(Path::new("help.toml"), toml).unwrap());
        let settings = Settings::new("help", Origin::new(Path::new("config/plugins"), 1), words, file);
        build(settings, world).map_err(|error| error.to_string())
    }

    /// What HELP with this argument gets, and on what evidence.
    fn help(plugin: &mut dyn Plugin, argument: &str) -> String {
        let mut session = Session::new("abc".into(), "mx.example".into(), Connection::unknown(Launcher::Pipe));
        let ruling = plugin.help(&Command { session: &mut session, verb: "HELP", argument }).unwrap();
        match ruling.verdict {
            Verdict::Answer(text) => text,
            Verdict::Deny(denial) => format!("denied: {}", denial.text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_clients_word_is_looked_up_and_never_a_path() {
        let (world, dir) = world(FILES);
        let mut plugin = plugin("", "", &world).unwrap();
        let rows = [
            ("", "Try 'HELP COMMAND' for getting help on COMMAND"),
            ("mail", "MAIL FROM:<sender>\nbegins a message"),
            ("MAIL from", "MAIL FROM:<sender>\nbegins a message"),
            ("rcpt", "names a recipient"),
            ("data", "No help available for SMTP command: data"),
            ("NOOP", "No help available for SMTP command: noop"),
            ("rset", "No help available for SMTP command: rset"),
            ("vrfy", "No help available for SMTP command: vrfy"),
            ("vrfy.txt", "denied: Invalid command name"),
            ("../secret", "denied: Invalid command name"),
            ("secret", "No help available for SMTP command: secret"),
            ("/etc/passwd", "denied: Invalid command name"),
            ("\u{e4}", "denied: Invalid command name"),
            (&"x".repeat(33), "denied: Invalid command name"),
        ];
        for (argument, text) in rows {
            assert_eq!(help(&mut *plugin, argument), text, "{argument}");
        }
        // Names are those of the moment when the first client asked.
        std::fs::write(dir.path().join("help/ehlo"), "new").unwrap();
        assert_eq!(help(&mut *plugin, "ehlo"), "No help available for SMTP command: ehlo");
    }

    #[test]
    fn the_line_names_files_as_in_qpsmtpd() {
        let (world, _dir) = world(FILES);
        let rows = [
            ("help_dir own", "", "rset", "from own"),
            ("help_dir own", "", "mail", "No help available for SMTP command: mail"),
            ("QUIT vrfy.txt", "", "quit", "of no use"),
            ("quit vrfy.txt", "", "mail", "No help available for SMTP command: mail"),
            ("quit ./secret help-dir help", "", "quit", "secret"),
            ("quit ./secret help-dir help", "", "rcpt", "names a recipient"),
            ("", "help_dir = \"own\"\n[commands]\nmail = \"mail\"", "mail", "MAIL FROM:<sender>\nbegins a message"),
            ("mail ./secret", "[commands]\nmail = \"mail\"", "mail", "secret"),
            ("not_implemented 1", "", "mail", "denied: Not implemented."),
            ("not_implemented 0", "", "mail", "MAIL FROM:<sender>\nbegins a message"),
        ];
        for (line, toml, argument, text) in rows {
            assert_eq!(help(&mut *plugin(line, toml, &world).unwrap(), argument), text, "{line} {toml}");
        }
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("help").read().unwrap();
        assert_eq!(shipped.help_dir.as_deref(), Some("help"));
        assert_eq!(Options { help_dir: None, commands: BTreeMap::new(), ..shipped }, Options::default());
    }

    #[test]
    fn a_faulty_line_is_named_and_check_reads_every_text() {
        let (world, _dir) = world(FILES);
        for (line, fault) in [
            ("mail", "has no file"),
            ("a-b x", "no name"),
            ("mail x MAIL y", "twice"),
            ("not_implemented x", "not_implemented"),
        ] {
            let said = plugin(line, "", &world).err().unwrap_or_default();
            assert!(said.contains(fault), "{line}: {said}");
        }
        let faults = |line: &str| plugin(line, "", &world).unwrap().check();
        assert_eq!(faults("").len(), 1, "help/noop is a directory: {:?}", faults(""));
        assert_eq!(faults("help_dir none").len(), 1);
        assert_eq!(faults("quit none").len(), 1);
        assert!(faults("help_dir own").is_empty());
        assert!(faults("not_implemented 1").is_empty());
    }
}
