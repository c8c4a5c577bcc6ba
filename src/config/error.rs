//! What can be wrong with a configuration, and where.
//!
//! Every fault names the file and, where there is one, the line. The text is the administrator's own, quoted with `{:?}`,
//! so that no control character of a file reaches a log line. Who logs it, and what the client is told, is main's matter.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file, spelled as it was found (`--config` as given, then the name).
    pub file: Rc<Path>,
    /// The line, counted from 1; 0 where there is no line to name (a built-in plugin, a file as a whole).
    pub line: usize,
}

impl Origin {
    /// A place from its parts.
    pub fn new(file: impl Into<Rc<Path>>, line: usize) -> Self {
        Self { file: file.into(), line }
    }

    /// An error at this place.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        ConfigError::at(&self.file, self.line, fault)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 { write!(f, " line {}", self.line) } else { Ok(()) }
    }
}

/// What is wrong, without the place.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is there, but reading it failed. Never taken for an empty file.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Larger than we are willing to read.
    #[error("is larger than the {octets_max} octets it may have")]
    TooLarge {
        /// The bound, in octets: for the list as a whole, less what was read of it before.
        octets_max: usize,
    },
    /// A live line that is not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// A file that must exist does not.
    #[error("there is no such file")]
    Missing,
    /// `$include` of something that is not there.
    #[error("$include {0:?}: there is no such file")]
    IncludeMissing(String),
    /// `$include` with nothing after it.
    #[error("$include names no file")]
    IncludeNothing,
    /// A file that includes itself, perhaps by way of others.
    #[error("$include goes in a circle: {0}")]
    IncludeCircle(String),
    /// Nested too deep.
    #[error("$include is nested deeper than {0} files")]
    IncludeDeep(usize),
    /// Too many files.
    #[error("$include leads to more than {0} files")]
    IncludeMany(usize),
    /// A key that the plugin does not know.
    #[error("unknown setting {key:?}{}", did_you_mean(nearest))]
    UnknownSetting {
        /// The key as written.
        key: String,
        /// The known key that resembles it most, if one does.
        nearest: Option<String>,
    },
    /// A value that does not fit.
    #[error("{text:?} is not {expected}{}", did_you_mean(nearest))]
    BadValue {
        /// The value as written.
        text: String,
        /// What would fit, with its article: "a whole number".
        expected: String,
        /// The valid word that resembles it most, if one does.
        nearest: Option<String>,
    },
    /// A key without a value at the end of a line.
    #[error("{0:?} has no value")]
    NoValue(String),
    /// Two settings of one key on one line.
    #[error("set twice: {0:?} and {1:?}")]
    Twice(String, String),
    /// A setting that must be there is not.
    #[error("the setting {0:?} is missing")]
    NoSetting(String),
    /// Not TOML.
    #[error("not TOML: {0}")]
    Toml(String),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|word| format!(" (did you mean {word:?}?)")).unwrap_or_default()
}

impl Fault {
    /// A value that does not fit, with nothing to suggest.
    pub fn bad_value(text: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::BadValue { text: text.into(), expected: expected.into(), nearest: None }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self::Other(text.to_owned())
    }
}

/// A fault and its place: `config/plugins line 7: badmailfrom: unknown setting "rejct" (did you mean "reject"?)`.
///
/// One reading may find several faults: the first is shown, [`ConfigError::all`] gives the rest (for `check`).
#[derive(Debug)]
pub struct ConfigError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    file: Option<PathBuf>,
    line: usize,
    plugin: Option<String>,
    key: Option<String>,
    fault: Fault,
    more: Vec<ConfigError>,
}

impl ConfigError {
    /// A fault without a place; who knows the place adds it with [`ConfigError::or_at`].
    pub fn new(fault: impl Into<Fault>) -> Self {
        Self(Box::new(Inner { file: None, line: 0, plugin: None, key: None, fault: fault.into(), more: Vec::new() }))
    }

    /// A fault in a file; line 0 means the file as a whole.
    pub fn at(file: &Path, line: usize, fault: impl Into<Fault>) -> Self {
        let mut error = Self::new(fault);
        error.0.file = Some(file.to_path_buf());
        error.0.line = line;
        error
    }

    /// The same error at this place, unless it has one already.
    #[must_use]
    pub fn or_at(mut self, origin: &Origin) -> Self {
        if self.0.file.is_none() {
            self.0.file = Some(origin.file.to_path_buf());
            self.0.line = origin.line;
        }
        self
    }

    /// The same error, naming the plugin it concerns.
    #[must_use]
    pub fn of_plugin(mut self, name: &str) -> Self {
        self.0.plugin = Some(name.to_owned());
        self
    }

    /// The same error, naming the setting it concerns.
    #[must_use]
    pub fn of_key(mut self, key: &str) -> Self {
        self.0.key = Some(key.to_owned());
        self
    }

    /// Two errors as one.
    #[must_use]
    pub fn and(mut self, other: ConfigError) -> Self {
        self.0.more.push(other);
        self
    }

    /// Many errors as one. `None` if there are none.
    pub fn from_many(errors: Vec<ConfigError>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.more.extend(errors);
        Some(first)
    }

    /// This error and all that were found with it.
    pub fn all(mut self) -> Vec<ConfigError> {
        let more = std::mem::take(&mut self.0.more);
        let mut all = vec![self];
        all.extend(more.into_iter().flat_map(ConfigError::all));
        all
    }

    /// Whether the file at fault is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(&self.0.fault, Fault::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The file, if known.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The line, counted from 1, if known.
    pub fn line(&self) -> Option<usize> {
        (self.0.line > 0).then_some(self.0.line)
    }

    /// The plugin, if it concerns one.
    pub fn plugin(&self) -> Option<&str> {
        self.0.plugin.as_deref()
    }

    /// The setting, if it concerns one.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What is wrong.
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.0;
        match (&error.file, error.line) {
            (Some(file), 0) => write!(f, "{}: ", file.display())?,
            (Some(file), line) => write!(f, "{} line {line}: ", file.display())?,
            (None, _) => {}
        }
        for word in [&error.plugin, &error.key].into_iter().flatten() {
            write!(f, "{word}: ")?;
        }
        write!(f, "{}", error.fault)?;
        match error.more.len() {
            0 => Ok(()),
            1 => write!(f, " (and one more fault)"),
            more => write!(f, " (and {more} more faults)"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.fault {
            Fault::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn display() {
        let origin = Origin::new(Path::new("config/plugins"), 7);
        let unknown = Fault::UnknownSetting { key: "rejct".into(), nearest: Some("reject".into()) };
        let whole = ConfigError::at(Path::new("config/me"), 0, io::Error::from(io::ErrorKind::PermissionDenied));
        let cases = [
            (
                origin.error(unknown).of_plugin("badmailfrom"),
                "config/plugins line 7: badmailfrom: unknown setting \"rejct\" (did you mean \"reject\"?)",
            ),
            (
                origin.error(Fault::bad_value("x\ny", "a whole number")).of_plugin("loop").of_key("hops_max"),
                "config/plugins line 7: loop: hops_max: \"x\\ny\" is not a whole number",
            ),
            (whole, "config/me: cannot be read: permission denied"),
            (ConfigError::new("plain"), "plain"),
            (ConfigError::new("plain").or_at(&origin), "config/plugins line 7: plain"),
            (origin.error("a").or_at(&Origin::new(Path::new("elsewhere"), 1)), "config/plugins line 7: a"),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn many_are_one_and_come_apart_again() {
        assert!(ConfigError::from_many(Vec::new()).is_none());
        let inner = ConfigError::from_many(vec![ConfigError::new("b"), ConfigError::new("c")]).unwrap();
        let outer = ConfigError::from_many(vec![ConfigError::new("a"), inner]).unwrap();
        assert_eq!(outer.to_string(), "a (and one more fault)");
        let all: Vec<String> = outer.all().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["a", "b", "c"]);
    }
}
