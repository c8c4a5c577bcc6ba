//! A qpsmtpd configuration directory: names -> values and lists.
//!
//! In: a directory, and behind it qmail's control directory. Out: the first live line of a file, or all of them, each with
//! its file and line. What a line means is the caller's matter.
//!
//! Opening a directory reads its names, once. After that a file that is not there costs nothing, and one that is there costs
//! an open, a read and a close.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Env;
use super::cdb::Cdb;
use super::error::{ConfigError, Fault, Origin};
use super::read::read_text;

/// Octets that one list may hold, what it includes counted in. Longer lists belong into a cdb map.
pub const LIST_OCTETS_MAX: usize = 64 << 20;
/// Files open at once in a chain of `$include`.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Files that one list may be made of: two files that include each other's successor twice would double at each step.
pub const INCLUDE_FILES_MAX: usize = 10_000;

/// Where the configuration is: `--config`, `POSTERN_CONFIG`, `QPSMTPD_CONFIG`, `/etc/postern`, in this order.
pub fn find(option: Option<&Path>, env: Env<'_>) -> PathBuf {
    let named = |name| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    option
        .map(Path::to_path_buf)
        .or_else(|| named("POSTERN_CONFIG"))
        .or_else(|| named("QPSMTPD_CONFIG"))
        .unwrap_or_else(|| PathBuf::from("/etc/postern"))
}

/// One live line of a file: trimmed, neither empty nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line without the blanks around it.
    pub text: String,
    /// The file it stands in (an included one, where that is so).
    pub file: Rc<Path>,
    /// Its line there, counted from 1.
    pub line: usize,
}

impl Entry {
    /// Where it stands.
    pub fn origin(&self) -> Origin {
        Origin {
            file: Rc::clone(&self.file),
            line: self.line,
        }
    }

    /// An error at this line.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        ConfigError::at(&self.file, self.line, fault)
    }
}

/// A configuration directory. The names in it are those of the moment it was opened.
#[derive(Debug)]
pub struct ConfigDir {
    path: PathBuf,
    names: Vec<OsString>,
    control: Option<Control>,
}

/// qmail's control directory, read only when a name is first missed in ours.
#[derive(Debug)]
struct Control {
    path: PathBuf,
    names: OnceCell<Vec<OsString>>,
}

impl ConfigDir {
    /// Opens a directory, with `$QMAIL/control` (`/var/qmail/control`) behind it, as qpsmtpd does.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let qmail = std::env::var_os("QMAIL").filter(|value| !value.is_empty());
        let qmail = qmail.map_or_else(|| PathBuf::from("/var/qmail"), PathBuf::from);
        Self::open_with(path, Some(qmail.join("control")))
    }

    /// Opens a directory with this control directory behind it, or with none.
    pub fn open_with(path: &Path, control: Option<PathBuf>) -> Result<Self, ConfigError> {
        let names = names_in(path).map_err(|error| ConfigError::at(path, 0, error))?;
        let control = control.map(|path| Control {
            path,
            names: OnceCell::new(),
        });
        Ok(Self {
            path: path.to_path_buf(),
            names,
            control,
        })
    }

    /// The directory, spelled as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in the directory, in no order. Those of qmail's control directory are not among them.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.names.iter().map(OsString::as_os_str)
    }

    /// Whether there is something of that name, here or in qmail's control directory. One that cannot be read exists too.
    pub fn exists(&self, name: &str) -> bool {
        !matches!(self.locate(name), Ok(None))
    }

    /// The first live line of a file; `None` if there is no such file or no such line.
    pub fn value(&self, name: &str) -> Result<Option<Entry>, ConfigError> {
        let mut first = None;
        self.each(name, &mut |text, file, line| {
            first = Some(Entry {
                text: text.to_owned(),
                file: Rc::clone(file),
                line,
            });
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// All live lines of a file and of what it includes, in order; none if there is no such file.
    pub fn list(&self, name: &str) -> Result<Vec<Entry>, ConfigError> {
        let mut entries = Vec::new();
        self.each(name, &mut |text, file, line| {
            entries.push(Entry {
                text: text.to_owned(),
                file: Rc::clone(file),
                line,
            });
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }

    /// Shows every live line of a file to `visit`, until it breaks, without storing them. For long lists.
    /// Tells whether there is such a file.
    pub fn each(&self, name: &str, visit: &mut Visit<'_>) -> Result<bool, ConfigError> {
        let Some(path) = self.locate(name)? else {
            return Ok(false);
        };
        let mut walk = Walk {
            dir: self,
            visit,
            chain: Vec::new(),
            files: 0,
            octets_left: LIST_OCTETS_MAX,
        };
        walk.file(path).map(|_| true)
    }

    /// The map `NAME.cdb`, if there is one.
    pub fn map(&self, name: &str) -> Result<Option<Cdb>, ConfigError> {
        let Some(path) = self.locate(&format!("{name}.cdb"))? else {
            return Ok(None);
        };
        Cdb::open(&path)
            .map(Some)
            .map_err(|error| ConfigError::at(&path, 0, error))
    }

    /// A path from a setting: a relative one starts at the configuration directory, wherever the process was started.
    /// (If that directory was itself given as a relative path, the process must not change directory afterwards.)
    pub fn resolve(&self, path: &str) -> Result<PathBuf, ConfigError> {
        if path.is_empty() {
            return Err(ConfigError::new("a path is empty"));
        }
        // A shell's business, and nothing here goes through a shell. A directory of that name would surprise later.
        if path.starts_with('~') {
            return Err(ConfigError::new(format!(
                "{path:?}: ~ is not expanded, write the path in full"
            )));
        }
        if path.contains('\0') {
            return Err(ConfigError::new(format!(
                "{path:?}: a path cannot hold a NUL"
            )));
        }
        Ok(self.path.join(path))
    }

    /// Where the file of that name is: here, else in qmail's control directory, else nowhere.
    fn locate(&self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        if has(&self.path, &self.names, name) {
            return Ok(Some(self.path.join(name)));
        }
        let Some(control) = &self.control else {
            return Ok(None);
        };
        let names = match control.names.get() {
            Some(names) => names,
            None => {
                let names = match names_in(&control.path) {
                    Ok(names) => names,
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::NotFound | ErrorKind::NotADirectory
                        ) =>
                    {
                        Vec::new()
                    }
                    Err(error) => return Err(ConfigError::at(&control.path, 0, error)),
                };
                control.names.get_or_init(|| names)
            }
        };
        Ok(has(&control.path, names, name).then(|| control.path.join(name)))
    }
}

/// Sees one live line: its text, its file, its line there.
pub type Visit<'a> = dyn FnMut(&str, &Rc<Path>, usize) -> ControlFlow<()> + 'a;

fn names_in(path: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn has(path: &Path, names: &[OsString], name: &str) -> bool {
    // A name in a subdirectory is not in the listing. A dangling link counts as there: it is an error, not an empty list.
    if name.contains('/') {
        return path.join(name).symlink_metadata().is_ok();
    }
    names.iter().any(|candidate| candidate == name)
}

/// One reading of a list, across what it includes.
struct Walk<'a, 'v> {
    dir: &'a ConfigDir,
    visit: &'a mut Visit<'v>,
    /// The files that are being read, outermost first.
    chain: Vec<Rc<Path>>,
    files: usize,
    octets_left: usize,
}

type Step = Result<ControlFlow<()>, ConfigError>;

impl Walk<'_, '_> {
    fn file(&mut self, path: PathBuf) -> Step {
        let file: Rc<Path> = path.into();
        let text = read_text(&file, self.octets_left)?;
        self.octets_left -= text.len().min(self.octets_left);
        self.lines(file, &text)
    }

    fn lines(&mut self, file: Rc<Path>, text: &str) -> Step {
        self.chain.push(Rc::clone(&file));
        for (index, line) in text.split('\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let flow = match include_target(line) {
                Some(target) => self.include(
                    target,
                    &Origin {
                        file: Rc::clone(&file),
                        line: index + 1,
                    },
                )?,
                None => (self.visit)(line, &file, index + 1),
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        self.chain.pop();
        Ok(ControlFlow::Continue(()))
    }

    fn include(&mut self, target: &str, at: &Origin) -> Step {
        let fail = |fault: Fault| Err(at.error(fault));
        if target.is_empty() {
            return fail(Fault::IncludeNothing);
        }
        let path = if target.starts_with('/') {
            Some(PathBuf::from(target))
        } else {
            self.dir.locate(target)?
        };
        let Some(path) = path else {
            return fail(Fault::IncludeMissing(target.to_owned()));
        };
        // qpsmtpd silently includes nothing where the target is missing: a chain without its queue line, or a list
        // without half of its entries, is worse than a refusal to start.
        let kind = match fs::metadata(&path) {
            Ok(kind) => kind,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return fail(Fault::IncludeMissing(target.to_owned()));
            }
            Err(error) => return Err(ConfigError::at(&path, 0, error)),
        };
        if !kind.is_dir() {
            return self.included(path, at);
        }
        for path in plain_files(&path).map_err(|error| ConfigError::at(&path, 0, error))? {
            if self.included(path, at)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn included(&mut self, path: PathBuf, at: &Origin) -> Step {
        let fail = |fault: Fault| Err(at.error(fault));
        // The same file twice is fine (qpsmtpd empties the whole list then); only a file inside itself is not.
        if self.chain.iter().any(|open| **open == *path) {
            let names = self.chain.iter().map(|file| file.display().to_string());
            let circle: Vec<String> = names.chain([path.display().to_string()]).collect();
            return fail(Fault::IncludeCircle(circle.join(" -> ")));
        }
        // Catches circles by way of links too.
        if self.chain.len() >= INCLUDE_DEPTH_MAX {
            return fail(Fault::IncludeDeep(INCLUDE_DEPTH_MAX));
        }
        self.files += 1;
        if self.files > INCLUDE_FILES_MAX {
            return fail(Fault::IncludeMany(INCLUDE_FILES_MAX));
        }
        self.file(path)
    }
}

/// The target of an `$include` line, or `None` if it is an ordinary line.
fn include_target(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("$include")?;
    (rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace()))
        .then(|| rest.trim_ascii_start())
}

/// The plain files of a directory, sorted, without hidden ones.
fn plain_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Follows links, as qpsmtpd's -f does. What a dangling link was to give would be missing unsaid: an error.
        if !hidden && fs::metadata(&path)?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
