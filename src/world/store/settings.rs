//! `config/store`: one line that says where entries are kept.
//!
//! ```text
//! sqlite [PATH] [timeout S]
//! redis unix:PATH | tcp:HOST:PORT [db N] [user NAME] [password_file PATH] [prefix TEXT] [timeout S]
//! ```
//! Without the file: `sqlite var/store.db`. A relative path begins at the configuration directory. `var/` is made when the
//! first entry is, and must be the serving user's: SQLite writes two more files beside the first.
//! `timeout` (seconds, 1 to 60, default 5) limits a call, and so does the hook's deadline, whichever is sooner.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ConfigDir, ConfigError, Fault, nearest};

/// The file.
const FILE: &str = "store";
/// Where entries are kept unless the file says otherwise.
const DEFAULT: &str = "sqlite var/store.db";
/// Redis's own port.
const REDIS_PORT: u16 = 6379;
const PREFIX_DEFAULT: &str = "postern:";
/// Octets of a prefix, a user's name or a password.
const WORD_OCTETS_MAX: usize = 512;

/// What the line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where entries are kept.
    pub place: Place,
    /// Longest time for one call.
    pub timeout: Duration,
}

/// Where entries are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A Redis server.
    Redis(Server),
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub at: At,
    /// Its database.
    pub db: u32,
    /// The account (Redis 6 on), if not the default one.
    pub user: Option<String>,
    /// The file whose first line is the password, if it wants one. Read when we connect.
    pub password_file: Option<PathBuf>,
    /// What every key there begins with.
    pub prefix: String,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A name or address, and a port.
    Tcp(String, u16),
}

impl StoreSettings {
    /// Reads the configuration directory's line.
    ///
    /// # Errors
    /// It cannot be read or understood; the error names file and line.
    pub fn read(dir: &ConfigDir) -> Result<Self, ConfigError> {
        // A folder of that name is somebody's maildir, and no setting.
        let entry = if dir.path().join(FILE).is_dir() { None } else { dir.value(FILE)? };
        let line = entry.as_ref().map_or(DEFAULT, |entry| &entry.text);
        Self::parse(line, dir).map_err(|error| match &entry {
            Some(entry) => error.or_at(&entry.origin()),
            None => error,
        })
    }

    /// Understands a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str, dir: &ConfigDir) -> Result<Self, ConfigError> {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match kind {
            "sqlite" => sqlite(&words, dir),
            "redis" => redis(&words, dir),
            _ => {
                let nearest = nearest(kind, ["sqlite", "redis"].into_iter()).map(str::to_owned);
                Err(fault(Fault::BadValue { text: kind.to_owned(), expected: "sqlite or redis".to_owned(), nearest }))
            }
        }
    }
}

fn fault(fault: impl Into<Fault>) -> ConfigError {
    ConfigError::new(fault)
}

fn sqlite(words: &[&str], dir: &ConfigDir) -> Result<StoreSettings, ConfigError> {
    // Without a path the settings follow at once.
    let (path, rest) = match words {
        [first, rest @ ..] if *first != "timeout" => (*first, rest),
        rest => ("var/store.db", rest),
    };
    let mut options = Options::new(rest, &["timeout"])?;
    Ok(StoreSettings { place: Place::Sqlite(dir.resolve(path)?), timeout: options.timeout()? })
}

fn redis(words: &[&str], dir: &ConfigDir) -> Result<StoreSettings, ConfigError> {
    const EXPECTED: &str = "unix:PATH or tcp:HOST:PORT";
    let Some((place, rest)) = words.split_first() else {
        return Err(fault(format!("redis: where is it? ({EXPECTED})")));
    };
    let at = match place.split_once(':') {
        Some(("unix", path)) => At::Unix(dir.resolve(path)?),
        Some(("tcp", host)) => tcp(host).ok_or_else(|| fault(Fault::bad_value(*place, EXPECTED)))?,
        _ => return Err(fault(Fault::bad_value(*place, EXPECTED))),
    };
    let mut options = Options::new(rest, &["db", "user", "password_file", "prefix", "timeout"])?;
    let password_file = options.take("password_file").map(|path| dir.resolve(path)).transpose()?;
    let user = options.take("user").map(str::to_owned);
    if user.is_some() && password_file.is_none() {
        return Err(fault("user without password_file"));
    }
    let db = options.number("db", 0, 0, 65_535)? as u32;
    let prefix = options.take("prefix").unwrap_or(PREFIX_DEFAULT).to_owned();
    let server = Server { at, db, user, password_file, prefix };
    Ok(StoreSettings { place: Place::Redis(server), timeout: options.timeout()? })
}

/// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
fn tcp(text: &str) -> Option<At> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (text, REDIS_PORT),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (!host.is_empty() && (bracketed || !host.contains(':'))).then(|| At::Tcp(host.to_owned(), port))
}

/// `key value` pairs at the end of the line.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn new(words: &[&'a str], known: &[&'static str]) -> Result<Self, ConfigError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for pair in words.chunks(2) {
            let key = pair[0];
            if !known.contains(&key) {
                let nearest = nearest(key, known.iter().copied()).map(str::to_owned);
                return Err(fault(Fault::UnknownSetting { key: key.to_owned(), nearest }));
            }
            let Some(value) = pair.get(1) else {
                return Err(fault(Fault::NoValue(key.to_owned())));
            };
            if pairs.iter().any(|(earlier, _)| *earlier == key) {
                return Err(fault(Fault::Twice(key.to_owned(), key.to_owned())));
            }
            if value.len() > WORD_OCTETS_MAX {
                return Err(fault(format!("{key}: longer than {WORD_OCTETS_MAX} octets")));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let index = self.0.iter().position(|(known, _)| *known == key)?;
        Some(self.0.remove(index).1)
    }

    fn number(&mut self, key: &str, default: u64, least: u64, most: u64) -> Result<u64, ConfigError> {
        let Some(text) = self.take(key) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            fault(Fault::bad_value(text, format!("a whole number between {least} and {most}"))).of_key(key)
        })
    }

    fn timeout(&mut self) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(self.number("timeout", 5, 1, 60)?))
    }
}

/// The first line of a password file.
pub(super) fn password(path: &std::path::Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(WORD_OCTETS_MAX as u64).read_to_string(&mut text));
    read.map_err(|error| format!("password_file {}: {error}", path.display()))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("password_file {}: it is empty", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::testing::Scratch;

    fn read(line: &str) -> Result<String, String> {
        let scratch = Scratch::new(&[("store", &format!("# where\n{line}\n"))]);
        let settings = StoreSettings::read(&scratch.open()).map_err(|error| scratch.cut(&error))?;
        let place = format!("{:?} {}", settings.place, settings.timeout.as_secs());
        Ok(place.replace(&scratch.path().display().to_string(), "DIR"))
    }

    #[test]
    fn a_folder_is_no_setting() {
        let scratch = Scratch::new(&[("store/new/mail", "a maildir of that name\n")]);
        let settings = StoreSettings::read(&scratch.open()).unwrap();
        assert!(matches!(settings.place, Place::Sqlite(path) if path.ends_with("var/store.db")));
    }

    #[test]
    fn lines() {
        let redis = |at: &str, db: u32, user: &str, file: &str, prefix: &str| {
            format!("Redis(Server {{ at: {at}, db: {db}, user: {user}, password_file: {file}, prefix: {prefix:?} }}) 5")
        };
        let cases = [
            ("sqlite", Ok(r#"Sqlite("DIR/var/store.db") 5"#.to_owned())),
            ("sqlite timeout 9", Ok(r#"Sqlite("DIR/var/store.db") 9"#.to_owned())),
            ("sqlite /var/x.db  timeout 1", Ok(r#"Sqlite("/var/x.db") 1"#.to_owned())),
            ("redis unix:/r.sock", Ok(redis(r#"Unix("/r.sock")"#, 0, "None", "None", "postern:"))),
            ("redis tcp:h", Ok(redis(r#"Tcp("h", 6379)"#, 0, "None", "None", "postern:"))),
            ("redis tcp:[::1]:7 db 3", Ok(redis(r#"Tcp("[::1]", 7)"#, 3, "None", "None", "postern:"))),
            ("redis tcp:[::1]", Ok(redis(r#"Tcp("[::1]", 6379)"#, 0, "None", "None", "postern:"))),
            (
                "redis tcp:h:1 user u password_file pw prefix x/",
                Ok(redis(r#"Tcp("h", 1)"#, 0, r#"Some("u")"#, r#"Some("DIR/pw")"#, "x/")),
            ),
            ("sqllite x", Err(r#""sqllite" is not sqlite or redis (did you mean "sqlite"?)"#)),
            ("sqlite x y", Err(r#"unknown setting "y""#)),
            ("sqlite x timeout", Err(r#""timeout" has no value"#)),
            ("sqlite x timeout 0", Err(r#"timeout: "0" is not a whole number between 1 and 60"#)),
            ("sqlite ~/x", Err(r#""~/x": ~ is not expanded, write the path in full"#)),
            ("redis", Err("redis: where is it? (unix:PATH or tcp:HOST:PORT)")),
            ("redis /r.sock", Err(r#""/r.sock" is not unix:PATH or tcp:HOST:PORT"#)),
            ("redis tcp:::1:7", Err(r#""tcp:::1:7" is not unix:PATH or tcp:HOST:PORT"#)),
            ("redis tcp:h:0", Err(r#""tcp:h:0" is not unix:PATH or tcp:HOST:PORT"#)),
            ("redis tcp:h db 1 db 2", Err(r#"set twice: "db" and "db""#)),
            ("redis tcp:h pasword_file x", Err(r#"unknown setting "pasword_file" (did you mean "password_file"?)"#)),
            ("redis tcp:h user u", Err("user without password_file")),
        ];
        for (line, want) in cases {
            let want = want.map_err(|text: &str| format!("DIR/store line 2: {text}"));
            assert_eq!(read(line), want, "{line}");
        }
    }

    #[test]
    fn without_the_file_sqlite_below_the_directory() {
        let scratch = Scratch::new(&[]);
        let settings = StoreSettings::read(&scratch.open()).unwrap();
        assert_eq!(settings.place, Place::Sqlite(scratch.path().join("var/store.db")));
    }

    #[test]
    fn passwords_are_first_lines() {
        let scratch = Scratch::new(&[("pw", "s3cret word\nmore\n"), ("empty", "\n")]);
        assert_eq!(password(&scratch.path().join("pw")).unwrap(), "s3cret word");
        assert!(password(&scratch.path().join("empty")).unwrap_err().ends_with("it is empty"));
        assert!(password(&scratch.path().join("none")).is_err());
    }
}
