//! The file `plugins`: which plugins are asked, in which order, with which arguments.
//!
//! In: `plugins`, or `plugins.NAME` for `--chain NAME`, or another file of the same form (`logging`). Out: its lines, split
//! into words. Which names exist, and what the words mean, is the registry's and each plugin's matter. Names keep their
//! spelling: `My::Module` (Perl) stands there as written, for the caller to say that it cannot be run.

use std::path::Path;
use std::rc::Rc;

use super::dir::{ConfigDir, Entry};
use super::error::{ConfigError, Fault, Origin};

/// One line of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLine {
    /// The plugin's name as written, without the instance.
    pub name: String,
    /// The number after the name (`name:1`): a further instance of the same plugin.
    pub instance: Option<u32>,
    /// The words after the name. There are no quotes and no comments in here: a `#` is a word like any other, as in
    /// qpsmtpd (see [`ChainLine::looks_commented`]).
    pub arguments: Vec<String>,
    /// The file it stands in.
    pub file: Rc<Path>,
    /// Its line there, counted from 1.
    pub line: usize,
}

impl ChainLine {
    /// Where it stands.
    pub fn origin(&self) -> Origin {
        Origin {
            file: Rc::clone(&self.file),
            line: self.line,
        }
    }

    /// Name and instance, as written: `name:1`.
    pub fn label(&self) -> String {
        match self.instance {
            Some(instance) => format!("{}:{instance}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether the arguments seem to hold a comment. They are arguments all the same; worth a warning.
    pub fn looks_commented(&self) -> bool {
        self.arguments.iter().any(|word| word.starts_with('#'))
    }

    /// An error at this line, about this plugin.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        self.origin().error(fault).of_plugin(&self.label())
    }
}

/// Whether two plugin names are the same: `queue/qmail-queue` and `queue/qmail_queue` are.
pub fn same_name(a: &str, b: &str) -> bool {
    let plain = |octet: u8| if octet == b'-' { b'_' } else { octet };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// The chain `plugins`, or `plugins.NAME`. It must exist. All faults, not only the first.
pub fn read_chain(
    dir: &ConfigDir,
    chain: Option<&str>,
) -> Result<Vec<ChainLine>, Vec<ConfigError>> {
    let file = match chain {
        None => "plugins".to_owned(),
        Some(name) if name.is_empty() || name.contains('/') => {
            return Err(vec![ConfigError::new(format!(
                "--chain {name:?}: not a name"
            ))]);
        }
        Some(name) => format!("plugins.{name}"),
    };
    read_lines(dir, &file)?
        .ok_or_else(|| vec![ConfigError::at(&dir.path().join(file), 0, Fault::Missing)])
}

/// Any file of plugin lines (`logging` is one); `None` if there is no such file.
pub fn read_lines(dir: &ConfigDir, name: &str) -> Result<Option<Vec<ChainLine>>, Vec<ConfigError>> {
    if !dir.exists(name) {
        return Ok(None);
    }
    let entries = dir.list(name).map_err(|error| vec![error])?;
    let mut lines = Vec::with_capacity(entries.len());
    let mut errors = Vec::new();
    for entry in entries {
        match parse(&entry) {
            Ok(line) => lines.push(line),
            Err(fault) => errors.push(entry.error(fault)),
        }
    }
    if errors.is_empty() {
        Ok(Some(lines))
    } else {
        Err(errors)
    }
}

fn parse(entry: &Entry) -> Result<ChainLine, Fault> {
    let blank = |c: char| c == ' ' || c == '\t';
    if entry.text.chars().any(|c| c.is_control() && !blank(c)) {
        return Err(Fault::Other(format!(
            "{:?}: there is a control character in it",
            entry.text
        )));
    }
    let mut words = entry
        .text
        .split(blank)
        .filter(|word| !word.is_empty())
        .map(str::to_owned);
    let label = words.next().unwrap_or_default();
    let (name, instance) = split_instance(&label)?;
    Ok(ChainLine {
        name,
        instance,
        arguments: words.collect(),
        file: Rc::clone(&entry.file),
        line: entry.line,
    })
}

fn split_instance(label: &str) -> Result<(String, Option<u32>), Fault> {
    // A Perl module's name, which has no instance.
    if label.contains("::") {
        return Ok((label.to_owned(), None));
    }
    let Some((name, number)) = label.split_once(':') else {
        return Ok((label.to_owned(), None));
    };
    let digits = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
    match number.parse() {
        Ok(instance) if digits && !name.is_empty() => Ok((name.to_owned(), Some(instance))),
        _ => Err(Fault::bad_value(
            label,
            "a plugin's name, or a name, a colon and a number",
        )),
    }
}
