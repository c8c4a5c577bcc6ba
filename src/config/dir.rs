//! A qpsmtpd configuration directory: names -> values and lists.
//!
//! In: a directory, and behind it qmail's control directory. Out: the first live line of a file, or all of them, each with
//! its file and line. What a line means is the caller's matter.
//!
//! Opening a directory reads its names, once. After that a file that is not there costs nothing, and one that is there costs
//! an open, a read and a close.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Env;
use super::cdb::Cdb;
use super::error::{ConfigError, Fault, Origin};
use super::folder::{Folder, Name};
use super::read::{lines, read_text};

/// Octets that one list may hold, what it includes counted in. Longer lists belong into a cdb map.
pub const LIST_OCTETS_MAX: usize = 64 << 20;
/// Files open at once in a chain of `$include`.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Files that one list may be made of: two files that include each other's successor twice would double at each step.
pub const INCLUDE_FILES_MAX: usize = 10_000;

/// The key of a map's record of the list that it was made of; no address and no domain is written so.
pub const STAMP_KEY: &str = "\0list";

/// What that record holds. A copy or a backup may bring an older time, so only the same one will do.
pub fn stamp(list: &Path) -> io::Result<String> {
    let of = list.metadata()?;
    Ok(format!("{} octets of {}.{:09}", of.size(), of.mtime(), of.mtime_nsec()))
}

/// Where the configuration is: `--config`, `POSTERN_CONFIG`, `QPSMTPD_CONFIG`, `/etc/postern`, in this order.
pub fn find(option: Option<&Path>, env: Env<'_>) -> PathBuf {
    let named = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
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
        Origin { file: Rc::clone(&self.file), line: self.line }
    }

    /// An error at this line.
    pub fn error(&self, fault: impl Into<Fault>) -> ConfigError {
        ConfigError::at(&self.file, self.line, fault)
    }
}

/// A configuration directory. The names in it are those of the moment it was opened.
#[derive(Debug)]
pub struct ConfigDir {
    folder: Folder,
    control: Option<Control>,
}

/// qmail's control directory, read only when a name is first missed in ours.
#[derive(Debug)]
struct Control {
    path: PathBuf,
    folder: OnceCell<Folder>,
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
        let folder = Folder::open(path).map_err(|error| ConfigError::at(path, 0, error))?;
        let control = control.map(|path| Control { path, folder: OnceCell::new() });
        Ok(Self { folder, control })
    }

    /// The directory, spelled as it was given.
    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    /// The names in the directory, in no order. Those of qmail's control directory are not among them.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.folder.names.iter().map(|name| name.as_os_str())
    }

    /// Whether there is something of that name, here or in qmail's control directory. One that cannot be read exists too.
    pub fn exists(&self, name: &str) -> bool {
        !matches!(self.locate(name), Ok(None))
    }

    /// The first live line of a file; `None` if there is no such file or no such line.
    pub fn value(&self, name: &str) -> Result<Option<Entry>, ConfigError> {
        let mut first = None;
        self.each(name, &mut |text, file, line| {
            first = Some(Entry { text: text.to_owned(), file: Rc::clone(file), line });
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// All live lines of a file and of what it includes, in order; none if there is no such file.
    pub fn list(&self, name: &str) -> Result<Vec<Entry>, ConfigError> {
        let mut entries = Vec::new();
        self.each(name, &mut |text, file, line| {
            entries.push(Entry { text: text.to_owned(), file: Rc::clone(file), line });
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
        let mut walk =
            Walk { dir: self, visit, chain: Vec::new(), files: 0, octets_left: LIST_OCTETS_MAX, survey: None };
        walk.file(path).map(|_| true)
    }

    /// All that is to be said of a file, for `check`: goes on after a fault, and tells which files were read.
    pub fn survey(&self, name: &str) -> Survey {
        let mut survey = Survey::default();
        let path = match self.locate(name) {
            Ok(Some(path)) => path,
            Ok(None) => return survey,
            Err(error) => {
                survey.faults.push(error);
                return survey;
            }
        };
        let mut entries = Vec::new();
        let mut walk = Walk {
            dir: self,
            visit: &mut |text, file, line| {
                entries.push(Entry { text: text.to_owned(), file: Rc::clone(file), line });
                ControlFlow::Continue(())
            },
            chain: Vec::new(),
            files: 0,
            octets_left: LIST_OCTETS_MAX,
            survey: Some(&mut survey),
        };
        if let Err(error) = walk.file(path) {
            survey.faults.push(error);
        }
        survey.entries = entries;
        survey
    }

    /// The map `NAME.cdb`, if there is one.
    pub fn map(&self, name: &str) -> Result<Option<Cdb>, ConfigError> {
        let Some(path) = self.locate(&format!("{name}.cdb"))? else {
            return Ok(None);
        };
        Cdb::open(&path).map(Some)
    }

    /// The map `NAME.cdb` that `postern compile` made of the list `NAME`; `None` if there is none, or it was not made of the list as
    /// it is now, for the list says what is meant. What the list includes is not looked at. Without a list the map counts.
    pub fn compiled(&self, name: &str) -> Result<Option<Cdb>, ConfigError> {
        let Some(map) = self.map(name)? else { return Ok(None) };
        let Some(list) = self.locate(name)? else { return Ok(Some(map)) };
        let now = stamp(&list).map_err(|error| ConfigError::at(&list, 0, error))?;
        let made_of = map.get(STAMP_KEY.as_bytes()).map_err(|error| ConfigError::new(error.to_string()))?;
        Ok((made_of.as_deref() == Some(now.as_bytes())).then_some(map))
    }

    /// A path from a setting: a relative one starts at the configuration directory, wherever the process was started.
    /// (If that directory was itself given as a relative path, the process must not change directory afterwards.)
    pub fn resolve(&self, path: &str) -> Result<PathBuf, ConfigError> {
        if path.is_empty() {
            return Err(ConfigError::new("a path is empty"));
        }
        // A shell's business, and nothing here goes through a shell. A directory of that name would surprise later.
        if path.starts_with('~') {
            return Err(ConfigError::new(format!("{path:?}: ~ is not expanded, write the path in full")));
        }
        if path.contains('\0') {
            return Err(ConfigError::new(format!("{path:?}: a path cannot hold a NUL")));
        }
        Ok(self.path().join(path))
    }

    /// Where the file of that name is: here, else in qmail's control directory, else nowhere.
    fn locate(&self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        let wanted = Name::new(name);
        if self.folder.lists(&wanted) {
            return Ok(Some(self.folder.path.join(name)));
        }
        let control = self.control.as_ref().map(Control::folder).transpose()?;
        if let Some(control) = control.filter(|control| control.lists(&wanted)) {
            return Ok(Some(control.path.join(name)));
        }
        // What lies deeper is in no listing.
        if !name.as_bytes().contains(&b'/') {
            return Ok(None);
        }
        let paths = [Some(&self.folder), control].into_iter().flatten().map(|folder| folder.path.join(name));
        Ok(paths.into_iter().find(|path| path.symlink_metadata().is_ok()))
    }
}

impl Control {
    fn folder(&self) -> Result<&Folder, ConfigError> {
        if let Some(folder) = self.folder.get() {
            return Ok(folder);
        }
        let folder = match Folder::open(&self.path) {
            Ok(folder) => folder,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Folder::empty(&self.path)
            }
            Err(error) => return Err(ConfigError::at(&self.path, 0, error)),
        };
        Ok(self.folder.get_or_init(|| folder))
    }
}

/// Sees one live line: its text, its file, its line there.
pub type Visit<'a> = dyn FnMut(&str, &Rc<Path>, usize) -> ControlFlow<()> + 'a;

/// What [`ConfigDir::survey`] found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The live lines that could be read.
    pub entries: Vec<Entry>,
    /// The files that were read, or could not be.
    pub files: Vec<PathBuf>,
    /// Everything that is wrong.
    pub faults: Vec<ConfigError>,
}

/// One reading of a list, across what it includes.
struct Walk<'a, 'v> {
    dir: &'a ConfigDir,
    visit: &'a mut Visit<'v>,
    /// The files that are being read, outermost first.
    chain: Vec<Rc<Path>>,
    files: usize,
    octets_left: usize,
    /// Faults are kept here, and do not end the reading.
    survey: Option<&'a mut Survey>,
}

type Step = Result<ControlFlow<()>, ConfigError>;

impl Walk<'_, '_> {
    fn file(&mut self, path: PathBuf) -> Step {
        if let Some(survey) = &mut self.survey {
            survey.files.push(path.clone());
        }
        let file: Rc<Path> = path.into();
        let text = read_text(&file, self.octets_left)?;
        self.octets_left -= text.len().min(self.octets_left);
        self.lines(file, &text)
    }

    fn lines(&mut self, file: Rc<Path>, text: &str) -> Step {
        for (number, line) in lines(text) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let flow = match include_target(line) {
                Some(target) => {
                    self.chain.push(Rc::clone(&file));
                    let origin = Origin { file: Rc::clone(&file), line: number };
                    let flow = self.include(target, &origin);
                    self.chain.pop();
                    match (flow, &mut self.survey) {
                        (Err(error), Some(survey)) => {
                            survey.faults.push(error);
                            ControlFlow::Continue(())
                        }
                        (flow, _) => flow?,
                    }
                }
                None => (self.visit)(line, &file, number),
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn include(&mut self, target: &str, at: &Origin) -> Step {
        let fail = |fault: Fault| Err(at.error(fault));
        if target.is_empty() {
            return fail(Fault::IncludeNothing);
        }
        let path = if target.starts_with('/') { Some(PathBuf::from(target)) } else { self.dir.locate(target)? };
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
    (rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())).then(|| rest.trim_ascii_start())
}

/// The plain files of a directory, sorted, without hidden ones.
fn plain_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // Follows links, as qpsmtpd's -f does. What a dangling link was to give would be missing unsaid: an error.
        if !hidden && fs::metadata(&path)?.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    /// The lines of a list as `file:line text`, or the error, both with DIR for the directory.
    fn list(scratch: &Scratch, dir: &ConfigDir, name: &str) -> Result<Vec<String>, String> {
        let show = |entry: Entry| {
            let file = entry.file.strip_prefix(scratch.path()).unwrap().display().to_string();
            format!("{file}:{} {}", entry.line, entry.text)
        };
        let entries = dir.list(name).map_err(|error| scratch.cut(&error))?;
        Ok(entries.into_iter().map(show).collect())
    }

    #[test]
    fn where_it_is() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(Pairs, Option<&str>, &str); 6] = [
            (&[], None, "/etc/postern"),
            (&[("POSTERN_CONFIG", ""), ("QPSMTPD_CONFIG", "")], None, "/etc/postern"),
            (&[("QPSMTPD_CONFIG", "/q")], None, "/q"),
            (&[("POSTERN_CONFIG", "p"), ("QPSMTPD_CONFIG", "/q")], None, "p"),
            (&[("POSTERN_CONFIG", "p")], Some("o"), "o"),
            (&[], Some("o"), "o"),
        ];
        for (pairs, option, want) in cases {
            let env =
                |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            assert_eq!(find(option.map(Path::new), &env), Path::new(want));
        }
    }

    #[test]
    fn live_lines() {
        let cases: [(&[u8], &[&str]); 13] = [
            (b"", &[]),
            (b"\n\r\n \t\n", &[]),
            (b"# one\n\t # two\n", &[]),
            (b"one", &["1 one"]),
            (b"one\r\ntwo\r\n", &["1 one", "2 two"]),
            (b"\n  foo 2 # c \t\n\n#x\n\x0cbar\n", &["2 foo 2 # c", "5 bar"]),
            (b"foo#bar\n", &["1 foo#bar"]),
            (b"a \\\nb\n", &["1 a \\", "2 b"]),
            (b"\"q\" 'r'\n", &["1 \"q\" 'r'"]),
            (b"\xef\xbb\xbfmx.example\n", &["1 mx.example"]),
            (b"# gr\xfc\xdfe\nmx.example\n  #\xff\n", &["2 mx.example"]),
            ("gr\u{fc}n\n".as_bytes(), &["1 gr\u{fc}n"]),
            (b"$includes are\n", &["1 $includes are"]),
        ];
        for (octets, want) in cases {
            let scratch = Scratch::new(&[]);
            scratch.write("f", octets);
            let dir = scratch.open();
            let want: Vec<String> = want.iter().map(|line| format!("f:{line}")).collect();
            assert_eq!(list(&scratch, &dir, "f").unwrap(), want, "{:?}", octets.escape_ascii());
            let first = dir.value("f").unwrap().map(|entry| format!("f:{} {}", entry.line, entry.text));
            assert_eq!(first.as_ref(), want.first(), "{:?}", octets.escape_ascii());
        }
    }

    #[test]
    fn search_order() {
        let scratch = Scratch::new(&[
            ("config/me", "ours"),
            ("config/empty", "# nothing\n"),
            ("control/me", "qmail"),
            ("control/empty", "qmail"),
            ("control/rcpthosts", "qmail.example\n$include me\n"),
            ("config/sub/x", "sub"),
        ]);
        let config = scratch.path().join("config");
        let dir = ConfigDir::open_with(&config, Some(scratch.path().join("control"))).unwrap();
        let value = |name: &str| dir.value(name).unwrap().map(|entry| entry.text);
        assert_eq!(value("me").as_deref(), Some("ours"));
        // A file that says nothing is still the file that was asked for.
        assert_eq!(value("empty"), None);
        assert_eq!(value("nowhere"), None);
        assert_eq!(value("sub/x").as_deref(), Some("sub"));
        assert_eq!(value("sub/y"), None);
        // What an included name means does not depend on where the including file lies.
        let want = ["control/rcpthosts:1 qmail.example", "config/me:1 ours"];
        assert_eq!(list(&scratch, &dir, "rcpthosts").unwrap(), want);
        assert!(dir.exists("rcpthosts") && dir.exists("sub") && !dir.exists("nowhere"));
        let mut names: Vec<_> = dir.names().collect();
        names.sort();
        assert_eq!(names, ["empty", "me", "sub"]);

        // Without qmail, and with a file in place of its directory.
        for control in ["absent", "config/me"] {
            let dir = ConfigDir::open_with(&config, Some(scratch.path().join(control))).unwrap();
            assert_eq!(dir.value("rcpthosts").unwrap(), None);
        }
    }

    #[test]
    fn includes() {
        let scratch = Scratch::new(&[
            ("one", "1\n$include two\n5\n"),
            ("two", "  $include\tfour  \n3\n"),
            ("four", "2"),
            ("twice", "$include four\n$include two\n$include four"),
            ("folder", "$include parts\nlast"),
            ("parts/b", "b\n"),
            ("parts/a", "a\n$include four\n"),
            ("parts/.hidden", "$include nowhere"),
            ("parts/deeper/x", "x"),
            ("slash", "$include parts/deeper/x"),
            ("with space", "w"),
            ("spaced", "$include with space"),
            ("nothing", "$include four.empty"),
            ("four.empty", "# none\n"),
        ]);
        symlink("../four", scratch.path().join("parts/link")).unwrap();
        scratch.write("absolute", format!("$include {}/four\n", scratch.path().display()).as_bytes());
        let dir = scratch.open();
        let cases: [(&str, &[&str]); 8] = [
            ("one", &["one:1 1", "four:1 2", "two:2 3", "one:3 5"]),
            ("twice", &["four:1 2", "four:1 2", "two:2 3", "four:1 2"]),
            ("folder", &["parts/a:1 a", "four:1 2", "parts/b:1 b", "parts/link:1 2", "folder:2 last"]),
            ("slash", &["parts/deeper/x:1 x"]),
            ("spaced", &["with space:1 w"]),
            ("nothing", &[]),
            ("absolute", &["four:1 2"]),
            ("absent", &[]),
        ];
        for (name, want) in cases {
            assert_eq!(list(&scratch, &dir, name).unwrap(), want, "{name}");
        }
        assert_eq!(dir.value("two").unwrap().unwrap().text, "2", "a value may be included");
        assert_eq!(dir.value("nothing").unwrap(), None);
    }

    #[test]
    fn errors() {
        let scratch = Scratch::new(&[
            ("self", "a\n\n$include self\n"),
            ("a", "$include b"),
            ("b", "x\n$include c"),
            ("c", "$include a"),
            ("gone", "# c\n$include nowhere\n"),
            ("gone_too", "$include /nowhere/at/all\n"),
            ("bare", "$include   \n"),
            ("dir/x", "$include folder_again"),
            ("folder_again", "$include dir"),
            ("bad_part", "ok\n$include octets"),
            ("links", "$include linked"),
        ]);
        scratch.write("octets", b"one\ntwo \xff\n");
        symlink("nowhere", scratch.path().join("dangling")).unwrap();
        std::fs::create_dir(scratch.path().join("linked")).unwrap();
        symlink("nowhere", scratch.path().join("linked/part")).unwrap();
        let dir = scratch.open();
        let cases = [
            ("self", "DIR/self line 3: $include goes in a circle: DIR/self -> DIR/self"),
            ("a", "DIR/c line 1: $include goes in a circle: DIR/a -> DIR/b -> DIR/c -> DIR/a"),
            ("gone", "DIR/gone line 2: $include \"nowhere\": there is no such file"),
            ("gone_too", "DIR/gone_too line 1: $include \"/nowhere/at/all\": there is no such file"),
            ("bare", "DIR/bare line 1: $include names no file"),
            (
                "folder_again",
                "DIR/dir/x line 1: $include goes in a circle: DIR/folder_again -> DIR/dir/x -> DIR/folder_again",
            ),
            ("octets", "DIR/octets line 2: the line is not UTF-8"),
            ("bad_part", "DIR/octets line 2: the line is not UTF-8"),
            ("dir", "DIR/dir: cannot be read: Is a directory (os error 21)"),
            ("dangling", "DIR/dangling: cannot be read: No such file or directory (os error 2)"),
            ("links", "DIR/linked: cannot be read: No such file or directory (os error 2)"),
        ];
        for (name, want) in cases {
            assert_eq!(list(&scratch, &dir, name).unwrap_err(), want, "{name}");
        }
        // Only as much is read as is needed, so the first value is good although a later line is not.
        assert_eq!(dir.value("self").unwrap().unwrap().text, "a");
        assert!(dir.value("gone").is_err());

        let error = ConfigDir::open_with(&scratch.path().join("no"), None).unwrap_err();
        assert_eq!(scratch.cut(&error), "DIR/no: cannot be read: No such file or directory (os error 2)");
    }

    #[test]
    fn bounds() {
        let scratch = Scratch::new(&[("leaf", "leaf"), ("many", &"$include leaf\n".repeat(INCLUDE_FILES_MAX + 1))]);
        for depth in 1..=INCLUDE_DEPTH_MAX {
            let next = if depth == INCLUDE_DEPTH_MAX { "leaf".to_owned() } else { format!("deep{}", depth + 1) };
            scratch.write(&format!("deep{depth}"), format!("$include {next}").as_bytes());
        }
        // A circle by way of a link has ever new names.
        symlink(".", scratch.path().join("here")).unwrap();
        scratch.write("round", format!("$include {}\n", "here/round").as_bytes());
        let large = std::fs::File::create(scratch.path().join("large")).unwrap();
        large.set_len(LIST_OCTETS_MAX as u64 + 1).unwrap();
        let dir = scratch.open();
        assert_eq!(list(&scratch, &dir, "deep2").unwrap(), ["leaf:1 leaf"]);
        let cases = [
            ("deep1", "DIR/deep16 line 1: $include is nested deeper than 16 files"),
            ("many", "DIR/many line 10001: $include leads to more than 10000 files"),
            (
                "round",
                "DIR/here/round line 1: $include goes in a circle: DIR/round -> DIR/here/round -> DIR/here/round",
            ),
            ("large", "DIR/large: is larger than the 67108864 octets it may have"),
        ];
        for (name, want) in cases {
            assert_eq!(list(&scratch, &dir, name).unwrap_err(), want, "{name}");
        }
    }

    /// Around the size of the first read, and of the later ones.
    #[test]
    fn files_of_every_length() {
        let scratch = Scratch::new(&[]);
        for octets in [4095, 4096, 4097, 4096 + 65_535, 4096 + 65_536, 4096 + 65_537, 200_000] {
            scratch.write("f", &[b'x'].repeat(octets));
            assert_eq!(scratch.open().value("f").unwrap().unwrap().text.len(), octets);
        }
    }

    #[test]
    fn paths_start_at_the_directory() {
        let dir = Scratch::new(&[]).open();
        let at = |path: &str| dir.resolve(path).map_err(|error| error.to_string());
        assert_eq!(at("mail"), Ok(dir.path().join("mail")));
        assert_eq!(at("../mail"), Ok(dir.path().join("../mail")));
        assert_eq!(at("/var/mail"), Ok(PathBuf::from("/var/mail")));
        assert_eq!(at("~/mail"), Err("\"~/mail\": ~ is not expanded, write the path in full".to_owned()));
        assert_eq!(at(""), Err("a path is empty".to_owned()));
        assert_eq!(at("a\0b"), Err("\"a\\0b\": a path cannot hold a NUL".to_owned()));
    }

    #[test]
    fn maps() {
        let scratch = Scratch::new(&[("bad.cdb", "short"), ("plain", "x")]);
        scratch.write("good.cdb", &[0; 2048]);
        let dir = scratch.open();
        assert!(dir.map("plain").unwrap().is_none());
        assert!(dir.map("good").unwrap().unwrap().get(b"x").unwrap().is_none());
        let error = dir.map("bad").unwrap_err();
        assert_eq!(scratch.cut(&error), "DIR/bad.cdb: not a sound cdb file: it is shorter than its header");
    }

    #[test]
    fn a_survey_goes_on_after_a_fault() {
        let scratch = Scratch::new(&[
            ("list", "one\n$include gone\ntwo\n$include other\n$include list\nthree\n"),
            ("other", "four\n$include gone\n"),
        ]);
        let survey = scratch.open().survey("list");
        let texts: Vec<&str> = survey.entries.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "four", "three"]);
        let faults: Vec<String> = survey.faults.iter().map(|fault| scratch.cut(fault)).collect();
        assert_eq!(
            faults,
            [
                "DIR/list line 2: $include \"gone\": there is no such file",
                "DIR/other line 2: $include \"gone\": there is no such file",
                "DIR/list line 5: $include goes in a circle: DIR/list -> DIR/list",
            ]
        );
        assert_eq!(survey.files.len(), 2);
        assert!(scratch.open().list("list").is_err());
        let none = scratch.open().survey("none");
        assert!(none.entries.is_empty() && none.files.is_empty() && none.faults.is_empty());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let scratch = Scratch::new(&[]);
            scratch.write("f", &octets);
            if let Ok(entries) = scratch.open().list("f") {
                for entry in entries {
                    prop_assert!(!entry.text.is_empty() && !entry.text.starts_with('#'));
                    prop_assert_eq!(entry.text.trim_ascii(), entry.text.as_str());
                    let line = octets.split(|octet| *octet == b'\n').nth(entry.line - 1);
                    prop_assert!(line.is_some_and(|line| line.windows(entry.text.len()).any(|part| part == entry.text.as_bytes())));
                }
            }
        }
    }
}
