//! `plugins.d/NAME.toml`: one plugin's settings, every key with its default and unit, commented out as shipped.
//!
//! In: the directory and a plugin's name. Out: the file's keys with their lines. A file in which nothing is set is read, but
//! not parsed.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::dir::ConfigDir;
use super::error::{ConfigError, Fault, Origin};
use super::read::{lines, read_text};
use super::value::{Given, Member};

/// Octets that one such file may hold.
pub const FILE_OCTETS_MAX: usize = 1 << 20;

/// What a plugin's TOML file sets.
#[derive(Debug, Clone)]
pub struct PluginFile {
    pub(super) members: Vec<Member>,
}

/// Where the TOML files are: `--plugins-dir`, else `plugins.d` inside the configuration directory, else beside it if that
/// directory is named `config`, else nowhere.
pub fn find_plugins_dir(option: Option<&Path>, config: &ConfigDir) -> Option<PathBuf> {
    const NAME: &str = "plugins.d";
    if let Some(option) = option {
        return Some(option.to_path_buf());
    }
    if config.names().any(|name| name == NAME) {
        return Some(config.path().join(NAME));
    }
    let named_config = config.path().file_name().is_some_and(|name| name == "config");
    named_config.then(|| config.path().with_file_name(NAME))
}

/// The TOML file of a plugin, or of a further instance of it (`NAME:1.toml`). `None` if it is missing or sets nothing.
pub fn plugin_file(plugins_dir: &Path, name: &str, instance: Option<u32>) -> Result<Option<PluginFile>, ConfigError> {
    // The name comes from a line; it may lead into a folder (`queue/maildir`) but not out of the directory.
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(ConfigError::new(Fault::bad_value(name, "a plugin's name")));
    }
    let file = match instance {
        None => plugins_dir.join(format!("{name}.toml")),
        Some(instance) => plugins_dir.join(format!("{name}:{instance}.toml")),
    };
    let text = match read_text(&file, FILE_OCTETS_MAX) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let live = |line: &str| !matches!(line.trim_ascii_start().as_bytes().first(), None | Some(b'#'));
    if !lines(&text).any(|(_, line)| live(line)) {
        return Ok(None);
    }
    PluginFile::parse(&file, &text).map(Some)
}

impl PluginFile {
    /// Parses the text of such a file; its name is for messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let places = Lines { file: file.into(), text };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(0, |span| places.at(span.start).line);
            ConfigError::at(file, line, Fault::Toml(error.message().to_owned()))
        })?;
        let members = places.members(table.get_ref())?;
        Ok(Self { members })
    }
}

/// Finds the lines of octets.
struct Lines<'a> {
    file: Rc<Path>,
    text: &'a str,
}

impl Lines<'_> {
    fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(offset).filter(|octet| **octet == b'\n').count();
        Origin { file: Rc::clone(&self.file), line: before + 1 }
    }

    fn members(&self, table: &DeTable<'_>) -> Result<Vec<Member>, ConfigError> {
        let mut members = Vec::with_capacity(table.len());
        for (key, value) in table.iter() {
            members.push(Member {
                key: key.get_ref().to_string(),
                value: self.given(value)?,
                origin: self.at(key.span().start),
            });
        }
        Ok(members)
    }

    fn given(&self, value: &Spanned<DeValue<'_>>) -> Result<Given, ConfigError> {
        let number = |text: &str| self.at(value.span().start).error(Fault::bad_value(text, "a number we can hold"));
        Ok(match value.get_ref() {
            DeValue::String(text) => Given::Text(text.to_string()),
            DeValue::Boolean(truth) => Given::Bool(*truth),
            DeValue::Integer(integer) => {
                let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
                Given::Integer(parsed.map_err(|_| number(integer.as_str()))?)
            }
            DeValue::Float(float) => Given::Float(float.as_str().parse().map_err(|_| number(float.as_str()))?),
            DeValue::Datetime(date) => Given::Text(date.to_string()),
            DeValue::Array(items) => Given::List(items.iter().map(|item| self.given(item)).collect::<Result<_, _>>()?),
            DeValue::Table(table) => Given::Table(self.members(table)?),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    #[test]
    fn where_the_directory_is() {
        let with = Scratch::new(&[("plugins.d/loop.toml", "")]);
        let without = Scratch::new(&[("config/me", "mx"), ("other/me", "mx")]);
        let open = |name: &str| ConfigDir::open_with(&without.path().join(name), None).unwrap();
        let option = Some(Path::new("/elsewhere"));
        let cases = [
            (option, with.open(), Some(PathBuf::from("/elsewhere"))),
            (None, with.open(), Some(with.path().join("plugins.d"))),
            (None, open("config"), Some(without.path().join("plugins.d"))),
            (None, open("config/"), Some(without.path().join("plugins.d"))),
            (None, open("other"), None),
        ];
        for (option, dir, want) in cases {
            assert_eq!(find_plugins_dir(option, &dir), want, "{dir:?}");
        }
    }

    #[test]
    fn which_file() {
        let scratch = Scratch::new(&[
            ("loop.toml", "# hops_max = 100\n\n  # another\r\n"),
            ("loop:2.toml", "hops_max = 5"),
            ("queue/maildir.toml", "directory = 'x'\n"),
            ("empty.toml", ""),
            ("secret.toml", "key = 1"),
        ]);
        let keys = |name, instance| {
            let file = plugin_file(&scratch.path().join("."), name, instance).unwrap();
            file.map(|file| file.members.into_iter().map(|member| member.key).collect::<Vec<_>>())
        };
        assert_eq!(keys("loop", None), None, "nothing is set");
        assert_eq!(keys("loop", Some(2)), Some(vec!["hops_max".to_owned()]));
        assert_eq!(keys("loop", Some(3)), None, "missing");
        assert_eq!(keys("queue/maildir", None), Some(vec!["directory".to_owned()]));
        assert_eq!(keys("empty", None), None);
        let inside = scratch.path().join("queue");
        for name in ["../secret", "/secret", "a/../../secret", "", "."] {
            assert!(plugin_file(&inside, name, None).is_err(), "{name:?}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("a = 1\nb = = 2\n", "f.toml line 2: not TOML: "),
            ("a = 1\n\na = 2\n", "f.toml line 3: not TOML: duplicate key"),
            ("a = 1\nb = 'x", "f.toml line 2: not TOML: "),
            ("a = 99999999999999999999\n", "f.toml line 1: \"99999999999999999999\" is not a number we can hold"),
        ];
        for (text, want) in cases {
            let error = PluginFile::parse(Path::new("f.toml"), text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn unreadable_is_an_error() {
        let scratch = Scratch::new(&[("loop.toml/x", "")]);
        let error = plugin_file(scratch.path(), "loop", None).unwrap_err();
        assert_eq!(scratch.cut(&error), "DIR/loop.toml: cannot be read: Is a directory (os error 21)");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[ -~\\n]{0,80}|([a-c] = [0-9a-f_x.'\\[\\]{}, -]{0,9}\\n){0,4}") {
            let _ = PluginFile::parse(Path::new("f.toml"), &text);
        }
    }
}
