//! Appends log lines to a file, or gives them to a command.
//!
//! ```text
//! logging/file [loglevel L] [reopen] [nosplit] [tsformat F] PATH
//! logging/file [loglevel L] [tsformat F] |COMMAND WORD...
//! logging/file loglevel LOGINFO /var/log/qpsmtpd/qpsmtpd.log
//! logging/file:1 loglevel LOGDEBUG tsformat %FT%T%z /var/log/postern/%Y-%m-%d.log
//! ```
//! In `config/logging`. Each line is one write of at most 4,096 octets to the end of the file: `TIME HOST[PID]: TEXT`. With
//! `log_format` json the line is the JSON object, its first member the time with its zone.
//!
//! - `loglevel`: the least grave level that is written, 0 to 7 or LOGDEBUG, LOGINFO, ... (LOGWARN). Lines of the decision record
//!   are written whatever it is.
//! - `tsformat`: the time, by the letters of strftime(3) (`%a %b %d %T %Y`: Tue Jan 01 13:00:00 2030, in local time). Known:
//!   a A b B h c C d D e F H I j m M n p R s S t T u w y Y z %. `%z` adds the zone, as in `%F %T %z`. With blanks in it, it must
//!   stand in `plugins.d/logging/file.toml`, for a line's words are split at blanks.
//! - `path`: the file. It takes the same letters, and `%i` for the session's id; `%Y%m%d` begins a new file each day. A relative
//!   path starts at the configuration directory. The file is made with mode 0640 less `umask`; its directory must be there. A
//!   FIFO will do, as long as somebody reads it.
//! - `nosplit`: a session that goes on over midnight stays in the file in which it began.
//! - `reopen`: accepted, and without effect: every connection is a process that opens the file anew, so a rotated file is left
//!   at once.
//! - `|COMMAND`: the words are split at blanks and run as they are, without a shell: a path, then its arguments. Quotes, `>`, `&`,
//!   `$` and the like are refused. One process a connection, started at the first line, with the lines on its standard input; at
//!   the end of the session it gets 1 second to finish.
//!
//! A line that cannot be written (no permission, disk full, a command that reads nothing for a second) falls back to standard
//! error or syslog. Mail never stops for it. A command that failed is not started again in the same session.
//!
//! `logging/file_connection` is an old name.
//!
//! Differs from qpsmtpd: a letter that is not known is an error when the configuration is read; a command does not pass through a
//! shell; lines have no control characters, so none is split.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Entry, Plugin, Trouble};
use crate::log::{self, AppendFile, Level, Line, Moment};
use crate::record::LINE_OCTETS_MAX;
use crate::smtp::escape::safe;
use crate::world::{Child, Job, Pipe, World, user_name};

/// The catalogue's entry.
pub static ENTRY: Entry =
    Entry { aliases: &["logging/file_connection"], ..super::logger("logging/file", crate::manual!("file.rs"), build) };

/// How long a command may read nothing, and how long it may take to finish.
const COMMAND_PACE: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    loglevel: Level,
    tsformat: String,
    path: String,
    nosplit: bool,
    /// Accepted, and without effect.
    #[allow(dead_code)]
    reopen: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            loglevel: Level::Warning,
            tsformat: "%a %b %d %T %Y".to_owned(),
            path: String::new(),
            nosplit: false,
            reopen: false,
        }
    }
}

fn build(mut settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    positional(&mut settings);
    let missing = settings.error("no file is named: logging/file [loglevel L] PATH");
    let wrong = |key: &str, fault: String| settings.error(fault).of_key(key);
    let (tsformat_fault, path_fault) = (|fault| wrong("tsformat", fault), |fault| wrong("path", fault));
    let options: Options = settings.clone().read()?;
    log::check_format(&options.tsformat, "").map_err(tsformat_fault)?;
    log::check_format(&options.path, "i").map_err(path_fault)?;
    let target = match options.path.strip_prefix('|') {
        Some(command) => Target::Command(words(command).map_err(path_fault)?),
        None if options.path.is_empty() => return Err(missing),
        // Judged now; joined when the letters are set in, for %i may be anywhere.
        None => {
            world.config.resolve(&options.path)?;
            Target::File(options.path.clone())
        }
    };
    Ok(Box::new(LogFile { options, target, world: world.clone(), open: Open::Not }))
}

/// qpsmtpd's form: flags and pairs in any order, then all that is left is the path, blanks and all.
fn positional(settings: &mut Settings) {
    let mut words = settings.take_words().into_iter();
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_str() {
            key @ ("loglevel" | "tsformat" | "path") => match words.next() {
                Some(value) => settings.set(key, value),
                None => settings.set(key, ""),
            },
            flag @ ("reopen" | "nosplit") => settings.set(flag, "1"),
            _ => {
                let rest: Vec<String> = std::iter::once(word).chain(words.by_ref()).collect();
                settings.set("path", rest.join(" "));
            }
        }
    }
}

/// A command's words.
fn words(command: &str) -> Result<Vec<String>, String> {
    if let Some(sign) = command.chars().find(|sign| "\"'`$\\<>|&;()".contains(*sign)) {
        return Err(format!(
            "|{command}: {sign} is for a shell, and none is used: write the program's path and plain words"
        ));
    }
    let words: Vec<String> = command.split_ascii_whitespace().map(str::to_owned).collect();
    match words.first() {
        Some(program) if program.contains('/') => Ok(words),
        Some(program) => Err(format!("|{command}: {program} needs its path: programs are not searched for")),
        None => Err("a | without a command".to_owned()),
    }
}

/// Where lines go, with letters still to be set in.
enum Target {
    File(String),
    Command(Vec<String>),
}

/// What is open.
enum Open {
    Not,
    File(String, AppendFile),
    Command(Running),
    /// A command that failed, and is not started again.
    Broken(String),
}

struct LogFile {
    options: Options,
    target: Target,
    world: World,
    open: Open,
}

impl Plugin for LogFile {
    fn logging(&mut self, line: &Line<'_>) -> Result<(), Trouble> {
        let moment = Moment::new(self.world.clock.now(), self.world.clock.utc_offset_s());
        let octets = self.octets(line, moment);
        let set_in = |text: &str| {
            let session = if line.session.is_empty() { "none" } else { line.session };
            moment.text_with(text, Some(('i', session)))
        };
        match &self.target {
            Target::File(path) => {
                let path = set_in(path);
                self.append(path, &octets)
            }
            Target::Command(words) => {
                let words = words.iter().map(|word| set_in(word)).collect();
                self.give(words, &octets)
            }
        }
    }

    fn loglevel(&self) -> Level {
        self.options.loglevel
    }

    fn check(&mut self) -> Vec<String> {
        let fault = match &self.target {
            Target::File(path) => self.cannot_write(path),
            Target::Command(words) => self.world.config.resolve(&words[0]).ok().and_then(|path| not_a_program(&path)),
        };
        fault.into_iter().collect()
    }
}

impl LogFile {
    /// For `check`: the file of a line that is written now.
    fn cannot_write(&self, path: &str) -> Option<String> {
        let moment = Moment::new(self.world.clock.now(), self.world.clock.utc_offset_s());
        let now = self.world.config.resolve(&moment.text_with(path, Some(('i', "none")))).ok()?;
        self.world.config.resolve(path).ok().and_then(|path| missing_directory(&path)).or_else(|| {
            // Directories whose names have letters in them may be made later, each day for instance.
            let later = now.parent().is_some_and(|above| !above.exists());
            (!later).then(|| log::cannot_append(&now, &user_name())).flatten()
        })
    }

    /// The whole line, with its end.
    fn octets(&self, line: &Line<'_>, moment: Moment) -> Vec<u8> {
        let octets_max = LINE_OCTETS_MAX - 1;
        let mut whole = if let Some(members) = line.text.strip_prefix('{').filter(|_| line.json) {
            let timed = format!("{{\"time\":\"{}\",{members}", moment.rfc3339());
            // A JSON object cannot be cut. The log leaves room for the time; if it did not, the time is what goes.
            if timed.len() > octets_max { line.text.to_owned() } else { timed }
        } else {
            let (time, host) = (moment.text(&self.options.tsformat), self.world.host.name());
            safe(&format!("{time} {host}[{}]: {}", self.world.host.pid(), line.text), octets_max)
        };
        whole.push('\n');
        whole.into_bytes()
    }

    fn append(&mut self, path: String, octets: &[u8]) -> Result<(), Trouble> {
        let trouble = |error: std::io::Error, path: &str| Trouble::new(format!("{path}: {error}"));
        let stays = |name: &String| self.options.nosplit || *name == path;
        if !matches!(&self.open, Open::File(name, _) if stays(name)) {
            let file = AppendFile::open(&self.world.config.resolve(&path)?).map_err(|error| trouble(error, &path))?;
            self.open = Open::File(path, file);
        }
        let Open::File(name, file) = &mut self.open else { return Ok(()) };
        let Err(error) = file.append(octets) else { return Ok(()) };
        let trouble = trouble(error, name);
        // The next line tries anew: the disk may have room, the FIFO a reader.
        self.open = Open::Not;
        Err(trouble)
    }

    fn give(&mut self, words: Vec<String>, octets: &[u8]) -> Result<(), Trouble> {
        if let Open::Broken(reason) = &self.open {
            return Err(Trouble::new(reason));
        }
        let written = self.command(&words).and_then(|running| running.write(octets));
        written.map_err(|error| {
            let reason = format!("|{}: {error}", words.join(" "));
            self.open = Open::Broken(reason.clone());
            Trouble::new(reason)
        })
    }

    /// The command, started if it is not yet.
    fn command(&mut self, words: &[String]) -> std::io::Result<&mut Running> {
        if !matches!(self.open, Open::Command(_)) {
            let program = self.world.config.resolve(&words[0]).map_err(std::io::Error::other)?;
            let mut job = Job::new(program);
            job.arguments = words[1..].iter().map(Into::into).collect();
            job.pipes = vec![Pipe::to_child(&[0])];
            job.pace = COMMAND_PACE;
            let child = self.world.process.spawn(&job)?;
            self.open = Open::Command(Running { child, world: self.world.clone() });
        }
        match &mut self.open {
            Open::Command(running) => Ok(running),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// A command that reads lines.
struct Running {
    child: Box<dyn Child>,
    world: World,
}

impl Running {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        // A plugin that is out of time must be told of all the same.
        let before = self.world.deadline.replace(None);
        let written = self.child.write(0, octets);
        self.world.deadline.replace(before);
        written
    }
}

/// Lets the command read to the end. One that does not end is killed as its `Child` is dropped.
impl Drop for Running {
    fn drop(&mut self) {
        let before = self.world.deadline.replace(None);
        self.child.close(0);
        // How it ends changes nothing any more.
        let _ = self.child.wait();
        self.world.deadline.replace(before);
    }
}

/// Nothing is opened by a check: whoever runs it would be the owner of the file.
fn missing_directory(path: &Path) -> Option<String> {
    // A letter in a directory's name is set in only when a line is written.
    let directory: PathBuf =
        path.parent()?.components().take_while(|part| !part.as_os_str().to_string_lossy().contains('%')).collect();
    let found = std::fs::metadata(&directory);
    if let Some(error) = found.as_ref().err().filter(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        return Some(format!("the log's directory {} cannot be reached: {error}", directory.display()));
    }
    let there = found.is_ok_and(|found| found.is_dir());
    (!there).then(|| {
        format!("the log's directory {} is not there: make it, writable for the service's user", directory.display())
    })
}

fn not_a_program(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("{}: this is no program", path.display())),
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::shared::fixture;
    use super::super::trial;
    use super::*;
    use crate::record;
    use crate::world::{Canned, FakeProcess, ManualClock};
    use std::fs;
    use std::io::ErrorKind;
    use std::rc::Rc;
    use std::time::UNIX_EPOCH;

    fn build(line: &str, toml: &str, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
        trial::build(&ENTRY, line, toml, world)
    }

    /// 2030-01-01 00:30 in a place an hour ahead of UTC.
    fn clock() -> Rc<ManualClock> {
        Rc::new(ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_893_454_200), 3600))
    }

    #[test]
    fn the_line_is_qpsmtpds_with_time_host_and_process() {
        let (mut world, dir) = trial::world();
        world.clock = clock();
        let path = dir.path().join("log");
        let rows = [
            (format!("logging/file {}", path.display()), "", "Tue Jan 01 00:30:00 2030 host.example[3999]: text\n"),
            (
                "logging/file_connection loglevel 3 log".into(),
                "",
                "Tue Jan 01 00:30:00 2030 host.example[3999]: text\n",
            ),
            ("logging/file reopen tsformat %s nosplit log".into(), "", "1893454200 host.example[3999]: text\n"),
            (
                "logging/file".into(),
                "path = \"log\"\ntsformat = \"%F %T %z\"",
                "2030-01-01 00:30:00 +0100 host.example[3999]: text\n",
            ),
        ];
        for (line, toml, expected) in rows {
            let _ = fs::remove_file(&path);
            build(&line, toml, &world).unwrap().logging(&Line::text(Level::Error, "text")).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_json_line_stays_json_and_gets_the_time() {
        let (mut world, dir) = trial::world();
        world.clock = clock();
        let mut plugin = build("logging/file log", "", &world).unwrap();
        let long = "x".repeat(5000);
        let entry = record::Entry::new("queued", "id").with("a", &*long).with("b", &*long).with("c", &*long);
        let json = entry.json();
        plugin.logging(&Line { json: true, entry: Some(&entry), ..Line::text(Level::Info, &json) }).unwrap();
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(text.starts_with("{\"time\":\"2030-01-01T00:30:00+01:00\","), "{text}");
        assert!(text.len() <= LINE_OCTETS_MAX, "{}", text.len());
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_line_has_at_most_4096_octets_with_its_end() {
        let (world, dir) = trial::world();
        let mut plugin = build("logging/file log", "", &world).unwrap();
        plugin.logging(&Line::text(Level::Error, &"ä".repeat(4000))).unwrap();
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(text.len() <= LINE_OCTETS_MAX && text.len() > LINE_OCTETS_MAX - 8 && text.ends_with("...\n"));
    }

    #[test]
    fn the_name_takes_date_and_session_and_changes_with_them() {
        let (mut world, dir) = trial::world();
        let time = clock();
        world.clock = Rc::clone(&time) as Rc<dyn crate::world::Clock>;
        let mut plugin = build("logging/file %Y%m%d.%i.%%", "", &world).unwrap();
        let mut stays = build("logging/file nosplit stays.%d", "", &world).unwrap();
        let line = Line { session: "abc", ..Line::text(Level::Error, "text") };
        for _ in 0..2 {
            plugin.logging(&line).unwrap();
            stays.logging(&line).unwrap();
            time.advance(Duration::from_secs(86_400));
        }
        plugin.logging(&Line::text(Level::Error, "before the session")).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["20300101.abc.%", "20300102.abc.%", "20300103.none.%", "me", "stays.01"]);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_the_next_line_tries_anew() {
        let (world, dir) = trial::world();
        let line = Line::text(Level::Error, "text");
        let mut full = build("logging/file /dev/full", "", &world).unwrap();
        for _ in 0..2 {
            assert!(full.logging(&line).unwrap_err().0.starts_with("/dev/full: No space left"));
        }
        let mut nowhere = build("logging/file sub/log", "", &world).unwrap();
        assert!(nowhere.logging(&line).is_err());
        assert!(nowhere.check()[0].contains("make it"), "{:?}", nowhere.check());
        fs::create_dir(dir.path().join("sub")).unwrap();
        nowhere.logging(&line).unwrap();
        assert!(nowhere.check().is_empty());
        // Rotated away: this session's file is kept, as for any daemon; the next session opens anew.
        fs::rename(dir.path().join("sub/log"), dir.path().join("old")).unwrap();
        nowhere.logging(&line).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("old")).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_faulty_line_is_named() {
        let (world, _dir) = trial::world();
        let rows = [
            ("logging/file", "", "no file is named"),
            ("logging/file loglevel", "", "log level"),
            ("logging/file loglevel LOGLOUD log", "", "log level"),
            ("logging/file tsformat %Q log", "", "tsformat: \"%Q\": there is no %Q"),
            ("logging/file log%", "", "path: \"log%\" ends in a %"),
            ("logging/file ~/log", "", "~ is not expanded"),
            ("logging/file |", "", "without a command"),
            ("logging/file |cat", "", "needs its path"),
            ("logging/file |/bin/cat >> x", "", "> is for a shell"),
            ("logging/file |/usr/bin/multilog t '-*' ./x", "", "' is for a shell"),
            ("logging/file log", "pathh = \"x\"", "pathh"),
        ];
        for (line, toml, fault) in rows {
            let said = build(line, toml, &world).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(fault), "{line}: {said}");
        }
    }

    #[test]
    fn a_command_gets_its_words_and_lines_and_is_started_once() {
        let (mut world, dir) = trial::world();
        let process = Rc::new(FakeProcess::default().answer(Canned::default()));
        world.process = Rc::clone(&process) as Rc<dyn crate::world::Process>;
        let mut plugin = build("logging/file tsformat %s loglevel 7 |bin/multilog t * ./%Y", "", &world).unwrap();
        assert_eq!(plugin.loglevel(), Level::Debug);
        assert!(process.ran().is_empty(), "not before there is a line");
        for text in ["one", "two"] {
            plugin.logging(&Line::text(Level::Error, text)).unwrap();
        }
        drop(plugin);
        let ran = &process.ran()[0];
        assert_eq!(ran.job.program, dir.path().join("bin/multilog"));
        assert_eq!(ran.job.arguments, ["t", "*", "./2030"]);
        assert_eq!(ran.written[0], b"1893456000 host.example[3999]: one\n1893456000 host.example[3999]: two\n");
        assert!(ran.closed[0] && ran.waited && !ran.killed);
        assert_eq!(process.ran().len(), 1);
    }

    #[test]
    fn a_command_that_fails_is_not_started_again() {
        for canned in [
            Canned { cannot_start: Some(ErrorKind::PermissionDenied), ..Canned::default() },
            Canned { reads_octets: 0, ..Canned::default() },
        ] {
            let (mut world, _dir) = trial::world();
            let process = Rc::new(FakeProcess::default().answer(canned).answer(Canned::default()));
            world.process = Rc::clone(&process) as Rc<dyn crate::world::Process>;
            let mut plugin = build("logging/file |/bin/x", "", &world).unwrap();
            for _ in 0..2 {
                assert!(plugin.logging(&Line::text(Level::Error, "text")).unwrap_err().0.starts_with("|/bin/x: "));
            }
            assert!(process.ran().len() <= 1);
        }
    }

    #[test]
    fn a_real_command_has_written_everything_when_the_session_ends() {
        let (world, dir) = trial::real_world();
        let mut plugin = build("logging/file tsformat %s |/usr/bin/tee out", "", &world).unwrap();
        let out = dir.path().join("out");
        let mut plugin_to =
            build(&format!("logging/file tsformat %s |/usr/bin/tee {}", out.display()), "", &world).unwrap();
        assert!(plugin.check().is_empty(), "{:?}", plugin.check());
        world.deadline.replace(Some(world.clock.instant()));
        for _ in 0..100 {
            plugin_to.logging(&Line::text(Level::Error, &"x".repeat(1000))).unwrap();
        }
        drop(plugin_to);
        assert_eq!(fs::read_to_string(out).unwrap().lines().count(), 100);
        assert!(world.deadline.get().is_some(), "the hook's deadline is as it was");
    }

    #[test]
    fn a_command_that_reads_nothing_costs_a_second_or_two_and_no_more() {
        let (world, _dir) = trial::real_world();
        let mut plugin = build("logging/file |/bin/sleep 60", "", &world).unwrap();
        let begun = world.clock.instant();
        let (line, mut failed) = ("x".repeat(4000), 0);
        for _ in 0..100 {
            failed += u32::from(plugin.logging(&Line::text(Level::Error, &line)).is_err());
        }
        assert!(failed > 50, "{failed}");
        drop(plugin);
        assert!(world.clock.instant() - begun < Duration::from_secs(4));
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        let shipped: Options = fixture::shipped("logging/file").read().unwrap();
        assert_eq!(Options { path: String::new(), ..shipped }, Options::default());
    }
}
