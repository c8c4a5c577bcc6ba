//! The settings of the session itself, from one-value files -> typed, with every fault that is in them.
//!
//! Each is a file of its name in the configuration directory whose first live line is the value, as in qpsmtpd. What the
//! launcher says (`DATABYTES`, ...) is not looked at here: it overrides these elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Env;
use super::dir::{ConfigDir, Entry};
use super::dns::DnsSettings;
use super::error::{ConfigError, Fault};

/// The settings of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// `me`: our own name, in the greeting, replies and trace fields. Default: the machine's.
    pub me: String,
    /// `me-auth-results`: the authserv-id of Authentication-Results (RFC 8601 §2.5). Default: `me`; `none`: no such field.
    pub auth_results_id: Option<String>,
    /// `smtpgreeting`: the text after 220, if the administrator wants another than ours.
    pub greeting: Option<String>,
    /// `databytes`: octets of the largest message, or no limit (no file, 0, `none`).
    pub databytes: Option<u64>,
    /// `size_threshold`: octets of a message kept in memory; what is longer goes to a file in `spool_dir`. 0: always a file.
    pub size_threshold: usize,
    /// `spool_dir`: where long messages wait, in files without a name. Default: the directory for temporary files
    /// (`TMPDIR`, `/tmp`); others may write there too, but a file without a name cannot be reached or replaced by them.
    pub spool_dir: PathBuf,
    /// `timeoutsmtpd`, else `timeout`: the wait for a command. Default 300 s (RFC 5321 §4.5.3.2.7).
    pub command_timeout: Duration,
    /// `timeout`: the wait for more of a message's content. Default 300 s (RFC 5321 §4.5.3.2.5 asks for 3 minutes).
    pub data_timeout: Duration,
    /// `message_seconds`: from the reply to DATA to the end of the content. Default 1,800 s.
    pub message_time: Duration,
    /// `session_seconds`: for the whole connection. Default 7,200 s.
    pub session_time: Duration,
    /// `errors_max`: refused commands at which the connection is closed. Default 20.
    pub errors_max: u32,
    /// `commands_max`: commands in one session. Default 10,000.
    pub commands_max: u32,
    /// `recipients_max`: recipients of one message. Default 1,000; at least 100 (RFC 5321 §4.5.3.1.8).
    pub recipients_max: usize,
    /// `header_octets_max`: octets of a message's header. Default 1 MiB.
    pub header_octets_max: u64,
    /// `content_line_octets_max`: octets of a line in a message, its end counted in. Default (0): no limit. RFC 5321
    /// §4.5.3.1.6 says 1,000, but longer ones are common and backends carry them.
    pub content_line_octets_max: Option<u64>,
    /// `command_line_octets_max`: octets of a command line, its end counted in. Default 2,048, room for the parameters of
    /// extensions; at least 512 (RFC 5321 §4.5.3.1.4).
    pub command_line_octets_max: usize,
    /// `bare_newline`: what becomes of content with a CR or LF that stands alone.
    pub bare_newline: BareNewline,
    /// `nul`: what becomes of content with a NUL.
    pub nul: Nul,
    /// `umask`: octal, for the files that we and our children make. Default 077.
    pub umask: u32,
    /// `user`: whom to become when started as root.
    pub user: Option<String>,
    /// `log_format`: for people or for programs.
    pub log_format: LogFormat,
    /// `loglevel`: 0 (emergencies only) to 7 (everything), as qpsmtpd counts; by number or name. None: the log's own.
    pub loglevel: Option<u8>,
    /// What an administrator might want to know of settings that are read and have no effect here.
    pub notes: Vec<String>,
}

/// `bare_newline`: RFC 5321 §2.3.8 forbids CR and LF that stand alone in content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// `refuse`: the message is refused.
    Refuse,
    /// `normalise`: each becomes CRLF.
    Normalise,
}

/// `nul`: RFC 5322 §2.2 and RFC 5321 §4.5.2 leave no room for NUL in content that is not binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nul {
    /// `refuse`: the message is refused.
    Refuse,
    /// `accept`: it stays in the message.
    Accept,
}

/// `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `human`: lines for people.
    Human,
    /// `json`: one object a line.
    Json,
}

/// Answers for a setting's name: the lines instead of the file's, or None for the file.
pub type Ask<'a> = &'a mut dyn FnMut(&str) -> Option<Vec<String>>;

/// Seconds of a day: no single wait needs more, and no value of this kind is without a limit.
const DAY_S: u64 = 86_400;

impl Core {
    /// Reads them all. The error lists every fault, not only the first.
    pub fn read(dir: &ConfigDir, env: Env<'_>) -> Result<Self, Vec<ConfigError>> {
        Self::read_asking(dir, env, &mut |_| None)
    }

    /// The same, but `ask` is asked for each setting by its name before the file is (qpsmtpd's `config` hook).
    pub fn read_asking(dir: &ConfigDir, env: Env<'_>, ask: Ask<'_>) -> Result<Self, Vec<ConfigError>> {
        match Self::collect(dir, env, ask) {
            (core, faults) if faults.is_empty() => Ok(core),
            (_, faults) => Err(faults),
        }
    }

    /// Reads them all, for `check`: what is at fault has its default.
    pub fn survey(dir: &ConfigDir, env: Env<'_>) -> (Self, Vec<ConfigError>) {
        Self::collect(dir, env, &mut |_| None)
    }

    fn collect(dir: &ConfigDir, env: Env<'_>, ask: Ask<'_>) -> (Self, Vec<ConfigError>) {
        let mut files = Files { dir, ask, faults: Vec::new() };
        let me = files.word("me", 255).unwrap_or_else(hostname);
        let auth_results_id = match files.word("me-auth-results", 255) {
            Some(none) if none == "none" => None,
            id => Some(id.unwrap_or_else(|| me.clone())),
        };
        let timeout = files.seconds("timeout", 300);
        let spool_dir = files.path("spool_dir").unwrap_or_else(|| temporary(env));
        let core = Self {
            greeting: files.text("smtpgreeting", 400),
            databytes: files.databytes(),
            size_threshold: files.number("size_threshold", 65_536, 0, 1 << 30) as usize,
            spool_dir,
            command_timeout: files.seconds("timeoutsmtpd", timeout.as_secs()),
            data_timeout: timeout,
            message_time: files.seconds("message_seconds", 1_800),
            session_time: files.seconds("session_seconds", 7_200),
            errors_max: files.number("errors_max", 20, 1, 1_000_000) as u32,
            commands_max: files.number("commands_max", 10_000, 1, 1_000_000_000) as u32,
            recipients_max: files.number("recipients_max", 1_000, 100, 1_000_000) as usize,
            header_octets_max: files.number("header_octets_max", 1 << 20, 1_000, 1 << 30),
            content_line_octets_max: Some(files.number("content_line_octets_max", 0, 0, 1 << 30))
                .filter(|max| *max > 0),
            command_line_octets_max: files.number("command_line_octets_max", 2_048, 512, 1 << 16) as usize,
            bare_newline: files
                .choice("bare_newline", &[("refuse", BareNewline::Refuse), ("normalise", BareNewline::Normalise)]),
            nul: files.choice("nul", &[("refuse", Nul::Refuse), ("accept", Nul::Accept)]),
            umask: files.octal("umask").unwrap_or(0o077),
            user: files.word("user", 64),
            log_format: files.choice("log_format", &[("human", LogFormat::Human), ("json", LogFormat::Json)]),
            loglevel: files.loglevel(),
            notes: files.notes(),
            me,
            auth_results_id,
        };
        // Read again by whoever asks the first question; a fault is told before anybody is greeted.
        if let Err(faults) = DnsSettings::read(dir) {
            files.faults.extend(faults);
        }
        (core, files.faults)
    }
}

/// A log level by qpsmtpd's number (0 to 7) or name (`LOGINFO`, `info`).
pub fn loglevel(text: &str) -> Option<u8> {
    const NAMES: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG"];
    if let Ok(number) = text.parse::<u8>() {
        return (number < 8).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("LOG").unwrap_or(&upper);
    let level = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(level).ok()
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| is_word(name)).unwrap_or_else(|| "localhost".to_owned())
}

fn temporary(env: Env<'_>) -> PathBuf {
    env("TMPDIR").filter(|dir| !dir.is_empty()).map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// One-value files, and the faults found in them. Each method gives what the file says, or the default after a fault.
struct Files<'a> {
    dir: &'a ConfigDir,
    ask: Ask<'a>,
    faults: Vec<ConfigError>,
}

impl Files<'_> {
    fn value(&mut self, name: &str) -> Option<Entry> {
        if let Some(lines) = (self.ask)(name) {
            let file = Path::new("config hook").join(name).into();
            return lines.into_iter().next().map(|text| Entry { text, file, line: 1 });
        }
        self.dir.value(name).unwrap_or_else(|error| {
            self.faults.push(error);
            None
        })
    }

    fn fault(&mut self, entry: &Entry, expected: impl Into<String>) {
        self.faults.push(entry.error(Fault::bad_value(entry.text.as_str(), expected)));
    }

    fn number(&mut self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        let Some(entry) = self.value(name) else {
            return default;
        };
        match entry.text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => return number,
            Ok(_) => self.fault(&entry, format!("a whole number between {least} and {most}")),
            Err(_) => self.fault(&entry, "a whole number"),
        }
        default
    }

    fn seconds(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_secs(self.number(name, default, 1, DAY_S))
    }

    fn databytes(&mut self) -> Option<u64> {
        let entry = self.value("databytes")?;
        if entry.text.eq_ignore_ascii_case("none") {
            return None;
        }
        match entry.text.parse() {
            Ok(octets) => Some(octets).filter(|octets| *octets > 0),
            Err(_) => {
                self.fault(&entry, "a whole number of octets, or none");
                None
            }
        }
    }

    fn octal(&mut self, name: &str) -> Option<u32> {
        let entry = self.value(name)?;
        let number = u32::from_str_radix(&entry.text, 8).ok().filter(|number| *number <= 0o777);
        if number.is_none() || entry.text.starts_with('+') {
            self.fault(&entry, "an octal number up to 777");
        }
        number
    }

    fn text(&mut self, name: &str, octets_max: usize) -> Option<String> {
        let entry = self.value(name)?;
        if entry.text.len() > octets_max || entry.text.chars().any(char::is_control) {
            self.fault(&entry, format!("printable text of at most {octets_max} octets"));
        }
        Some(entry.text)
    }

    fn word(&mut self, name: &str, octets_max: usize) -> Option<String> {
        let entry = self.value(name)?;
        if entry.text.len() > octets_max || !is_word(&entry.text) {
            self.fault(&entry, format!("a single word of at most {octets_max} octets"));
        }
        Some(entry.text)
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        let entry = self.value(name)?;
        match self.dir.resolve(&entry.text) {
            Ok(path) => Some(path),
            Err(error) => {
                self.faults.push(error.or_at(&entry.origin()));
                None
            }
        }
    }

    /// The first choice is the default.
    fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let default = choices[0].1;
        let Some(entry) = self.value(name) else {
            return default;
        };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| entry.text.eq_ignore_ascii_case(word)) {
            return *choice;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.fault(&entry, words.join(" or "));
        default
    }

    fn loglevel(&mut self) -> Option<u8> {
        let entry = self.value("loglevel")?;
        let level = loglevel(&entry.text);
        if level.is_none() {
            self.fault(&entry, "a log level, 0 to 7 or a name from EMERG to DEBUG");
        }
        level
    }

    /// Files that are understood, and without effect.
    fn notes(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(entry) = self.value("spool_perms") {
            self.octal("spool_perms");
            notes.push(format!("{}: no effect: a spooled message has no name that others could open", entry.origin()));
        }
        notes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::known::known;
    use super::super::testing::Scratch;
    use super::*;

    fn read(scratch: &Scratch) -> Result<Core, Vec<String>> {
        let env = |name: &str| (name == "TMPDIR").then(|| "/big/tmp".into());
        let texts = |errors: Vec<ConfigError>| errors.iter().map(|error| scratch.cut(error)).collect();
        Core::read(&scratch.open(), &env).map_err(texts)
    }

    #[test]
    fn a_plugins_answer_replaces_the_file_and_is_judged_like_it() {
        let scratch = Scratch::new(&[("databytes", "10\n"), ("timeout", "20\n")]);
        let dir = scratch.open();
        let read = |answer: &str| {
            let mut ask = |name: &str| (name == "databytes").then(|| vec![answer.to_owned()]);
            Core::read_asking(&dir, &|_| None, &mut ask)
        };
        let core = read("77").unwrap();
        assert_eq!((core.databytes, core.data_timeout), (Some(77), Duration::from_secs(20)));
        let faults = read("many").unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().contains("config hook/databytes"), "{}", faults[0]);
    }

    #[test]
    fn defaults() {
        let core = read(&Scratch::new(&[("databytes", "# none\n")])).unwrap();
        let want = Core {
            me: hostname(),
            auth_results_id: Some(hostname()),
            greeting: None,
            databytes: None,
            size_threshold: 65_536,
            spool_dir: PathBuf::from("/big/tmp"),
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(300),
            message_time: Duration::from_secs(1_800),
            session_time: Duration::from_secs(7_200),
            errors_max: 20,
            commands_max: 10_000,
            recipients_max: 1_000,
            header_octets_max: 1_048_576,
            content_line_octets_max: None,
            command_line_octets_max: 2_048,
            bare_newline: BareNewline::Refuse,
            nul: Nul::Refuse,
            umask: 0o077,
            user: None,
            log_format: LogFormat::Human,
            loglevel: None,
            notes: Vec::new(),
        };
        assert_eq!(core, want);
        assert!(is_word(&core.me));
        let core = Core::read(&Scratch::new(&[]).open(), &|_| None).unwrap();
        assert_eq!(core.spool_dir, PathBuf::from("/tmp"));
    }

    #[test]
    fn values() {
        type Same = fn(&Core) -> bool;
        let cases: [(&str, &str, Same); 24] = [
            ("me", "mx.example", |core| {
                core.me == "mx.example" && core.auth_results_id.as_deref() == Some("mx.example")
            }),
            ("me-auth-results", "none", |core| core.auth_results_id.is_none()),
            ("me-auth-results", "id.example", |core| core.auth_results_id.as_deref() == Some("id.example")),
            ("smtpgreeting", "mx.example no spam", |core| core.greeting.as_deref() == Some("mx.example no spam")),
            ("databytes", "0", |core| core.databytes.is_none()),
            ("databytes", "None", |core| core.databytes.is_none()),
            ("databytes", "26214400\r", |core| core.databytes == Some(26_214_400)),
            ("databytes", "18446744073709551615", |core| core.databytes == Some(u64::MAX)),
            ("size_threshold", "0", |core| core.size_threshold == 0),
            ("spool_dir", "spool", |core| core.spool_dir.is_absolute() && core.spool_dir.ends_with("spool")),
            ("spool_dir", "/var/spool/qpsmtpd", |core| core.spool_dir == *"/var/spool/qpsmtpd"),
            ("spool_perms", "0700", |core| {
                core.notes.len() == 1 && core.notes[0].contains("spool_perms line 1: no effect")
            }),
            ("timeout", "1200", |core| core.command_timeout.as_secs() == 1200 && core.data_timeout.as_secs() == 1200),
            ("timeoutsmtpd", "60", |core| core.command_timeout.as_secs() == 60 && core.data_timeout.as_secs() == 300),
            ("recipients_max", "100", |core| core.recipients_max == 100),
            ("content_line_octets_max", "1000", |core| core.content_line_octets_max == Some(1000)),
            ("command_line_octets_max", "512", |core| core.command_line_octets_max == 512),
            ("bare_newline", "Normalise", |core| core.bare_newline == BareNewline::Normalise),
            ("nul", "accept", |core| core.nul == Nul::Accept),
            ("umask", "022", |core| core.umask == 0o022),
            ("user", "smtpd", |core| core.user.as_deref() == Some("smtpd")),
            ("log_format", "json", |core| core.log_format == LogFormat::Json),
            ("loglevel", "6", |core| core.loglevel == Some(6)),
            ("loglevel", "LOGINFO", |core| core.loglevel == Some(6)),
        ];
        for (name, text, same) in cases {
            let core = read(&Scratch::new(&[(name, &format!("{text}\n# comment\n"))])).unwrap();
            assert!(same(&core), "{name} {text:?}: {core:?}");
            assert!(known(name).is_some(), "{name} is not among the known files");
        }
    }

    #[test]
    fn faults() {
        let cases = [
            ("databytes", "10M", "\"10M\" is not a whole number of octets, or none"),
            ("databytes", "-1", "\"-1\" is not a whole number of octets, or none"),
            ("timeout", "300 # s", "\"300 # s\" is not a whole number"),
            ("timeout", "0", "\"0\" is not a whole number between 1 and 86400"),
            ("timeoutsmtpd", "86401", "\"86401\" is not a whole number between 1 and 86400"),
            ("recipients_max", "99", "\"99\" is not a whole number between 100 and 1000000"),
            ("command_line_octets_max", "511", "\"511\" is not a whole number between 512 and 65536"),
            ("me", "mx example", "\"mx example\" is not a single word of at most 255 octets"),
            ("smtpgreeting", "a\u{7}b", "\"a\\u{7}b\" is not printable text of at most 400 octets"),
            ("spool_dir", "~/tmp", "\"~/tmp\": ~ is not expanded, write the path in full"),
            ("spool_perms", "rwx", "\"rwx\" is not an octal number up to 777"),
            ("umask", "088", "\"088\" is not an octal number up to 777"),
            ("umask", "+22", "\"+22\" is not an octal number up to 777"),
            ("umask", "7777", "\"7777\" is not an octal number up to 777"),
            ("bare_newline", "normalize", "\"normalize\" is not refuse or normalise"),
            ("log_format", "xml", "\"xml\" is not human or json"),
            ("loglevel", "8", "\"8\" is not a log level, 0 to 7 or a name from EMERG to DEBUG"),
        ];
        for (name, text, want) in cases {
            let scratch = Scratch::new(&[(name, &format!("\n{text}\n"))]);
            assert_eq!(read(&scratch).unwrap_err(), [format!("DIR/{name} line 2: {want}")]);
        }
    }

    #[test]
    fn every_fault_is_told() {
        let scratch = Scratch::new(&[("me/x", ""), ("timeout", "x"), ("nul", "x"), ("umask", "9"), ("user", "a b")]);
        let errors = read(&scratch).unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:?}");
        assert_eq!(errors[0], "DIR/me: cannot be read: Is a directory (os error 21)");
    }

    #[test]
    fn log_levels() {
        for (text, want) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("logdebug", Some(7)),
            ("LOGWARN", Some(4)),
            ("ERROR", Some(3)),
            ("8", None),
            ("256", None),
            ("-1", None),
            ("LOG", None),
            ("", None),
        ] {
            assert_eq!(loglevel(text), want, "{text:?}");
        }
    }
}
