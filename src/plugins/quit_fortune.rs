//! Says goodbye with a fortune.
//!
//! ```text
//! quit_fortune [path /usr/games/fortune] [arguments -s] [all 0] [timeout 2]
//! ```
//! At QUIT it runs the program and puts what it says below the 221:
//! ```text
//! 221-2.0.0 mx.example closing connection.
//! 221 2.0.0   / You will be surprised by a loud noise.
//! ```
//! - `path`: the program (/usr/games/fortune). A relative path starts at the configuration directory. It runs without a shell.
//! - `arguments`: its words, separated by commas on the line (-s).
//! - `all`: 1 tells everybody; 0 not those who said EHLO, who are too sophisticated to enjoy the fun (0).
//! - `timeout`: seconds that it may take (2, at most 20).
//!
//! Of its output the first 2,048 octets and 20 lines are told, control characters as `?`. A program that is missing, fails, says
//! nothing or is too slow costs the client nothing but the fortune; the record says what was wrong.
//!
//! Differs from qpsmtpd: the three settings beside `path`'s default; the program's time and output have limits.

use std::io;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Settings};
use crate::hook::{Answer, Entry, Hook, OnError, Plugin, Quit, Ruling};
use crate::smtp::escape::safe;
use crate::world::{Exit, Job, Pipe, World};

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    on_error: OnError::Decline,
    ..Entry::plugin("quit_fortune", &[Hook::Quit], crate::manual!("quit_fortune.rs"), build)
};

/// Octets of output that are told.
const OUTPUT_OCTETS_MAX: usize = 2048;
/// Lines of it.
const LINES_MAX: usize = 20;
/// Octets of a line.
const LINE_OCTETS_MAX: usize = 400;
/// Seconds that may be configured.
const TIMEOUT_S_MAX: u64 = 20;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    path: String,
    arguments: Vec<String>,
    all: bool,
    timeout: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { path: "/usr/games/fortune".to_owned(), arguments: vec!["-s".to_owned()], all: false, timeout: 2 }
    }
}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let out_of_range = settings.error(format!("1 to {TIMEOUT_S_MAX} seconds")).of_key("timeout");
    let options: Options = settings.read()?;
    if !(1..=TIMEOUT_S_MAX).contains(&options.timeout) {
        return Err(out_of_range);
    }
    world.config.resolve(&options.path)?;
    Ok(Box::new(QuitFortune { options, world: world.clone() }))
}

struct QuitFortune {
    options: Options,
    world: World,
}

impl Plugin for QuitFortune {
    fn quit(&mut self, at: &Quit<'_>) -> Answer {
        if !self.options.all && at.session.hello.as_ref().is_some_and(|hello| hello.extended) {
            return Ok(Ruling::skip("the client said EHLO"));
        }
        let before = self.world.deadline.get();
        let ours = self.world.clock.instant() + Duration::from_secs(self.options.timeout);
        self.world.deadline.replace(Some(before.map_or(ours, |before| before.min(ours))));
        let said = self.run();
        self.world.deadline.replace(before);
        match said {
            Ok(lines) => Ok(Ruling::answer(format!("{} closing connection.{lines}", at.session.me))),
            Err(error) => Ok(Ruling::decline().because(format!("no fortune: {}: {error}", self.options.path))),
        }
    }

    fn check(&mut self) -> Vec<String> {
        use std::os::unix::fs::PermissionsExt;
        let path = &self.options.path;
        let metadata = self.world.config.resolve(path).map_err(io::Error::other).and_then(std::fs::metadata);
        match metadata {
            Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Vec::new(),
            Ok(_) => vec![format!("{path}: this is no program")],
            Err(error) => {
                vec![format!("{path}: {error}: install fortune, name another program, or leave quit_fortune out")]
            }
        }
    }
}

impl QuitFortune {
    /// What the program says, each line after a line end and `  / `.
    fn run(&self) -> io::Result<String> {
        let mut job = Job::new(self.world.config.resolve(&self.options.path).map_err(io::Error::other)?);
        job.arguments = self.options.arguments.iter().map(Into::into).collect();
        job.pipes = vec![Pipe::from_child(&[1])];
        let mut child = self.world.process.spawn(&job)?;
        let output = child.read(0, OUTPUT_OCTETS_MAX)?;
        match child.wait()? {
            Exit::Code(0) => {}
            Exit::Code(code) => return Err(io::Error::other(format!("it ended with status {code}"))),
            Exit::Signal(signal) => return Err(io::Error::other(format!("it was killed by signal {signal}"))),
        }
        let text = String::from_utf8_lossy(&output);
        let lines = text.trim_end().lines().take(LINES_MAX);
        let lines: String =
            lines.map(|line| format!("\n  / {}", safe(&line.replace('\t', " "), LINE_OCTETS_MAX))).collect();
        if lines.is_empty() { Err(io::Error::other("it said nothing")) } else { Ok(lines) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::shared::fixture::{self, world};
    use super::*;
    use crate::config::Origin;
    use crate::hook::Verdict;
    use crate::hook::facts::{Greeting, Session};
    use crate::launch::{Connection, Launcher};
    use crate::smtp::command::hello_argument;
    use crate::world::{Canned, FakeProcess, RealClock, RealProcess};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::rc::Rc;

    fn plugin(line: &str, world: &World) -> Result<Box<dyn Plugin>, String> {
        let words = line.split_ascii_whitespace().map(str::to_owned).collect();
        let settings = Settings::new("quit_fortune", Origin::new(Path::new("config/plugins"), 1), words, None);
        build(settings, world).map_err(|error| error.to_string())
    }

    /// The answer's text, or the evidence. `extended`: none before any hello.
    fn quit(plugin: &mut dyn Plugin, extended: Option<bool>) -> Result<String, String> {
        let mut session = Session::new("abc".into(), "mx.example".into(), Connection::unknown(Launcher::Pipe));
        session.hello = extended.map(|extended| Greeting { name: hello_argument("c.example").unwrap(), extended });
        let ruling = plugin.quit(&Quit { session: &mut session }).unwrap();
        match ruling.verdict {
            Verdict::Answer(text) => Ok(text),
            _ => Err(ruling.evidence.join("; ")),
        }
    }

    fn says(output: &[u8]) -> Canned {
        Canned { output: output.to_vec(), ..Canned::default() }
    }

    #[test]
    fn what_it_says_is_told_below_the_goodbye_and_made_safe() {
        let long = "x".repeat(5000);
        let rows: [(&[u8], &str); 5] = [
            (b"one\n\ttwo\n\n", "mx.example closing connection.\n  / one\n  /  two"),
            (b"\x1b[2J\r\n250 forged\xff\0", "mx.example closing connection.\n  / ?[2J\n  / 250 forged\u{fffd}?"),
            (b"no end", "mx.example closing connection.\n  / no end"),
            (&b"l\n".repeat(30), &format!("mx.example closing connection.{}", "\n  / l".repeat(LINES_MAX))),
            (long.as_bytes(), &format!("mx.example closing connection.\n  / {}...", "x".repeat(LINE_OCTETS_MAX - 3))),
        ];
        for (output, text) in rows {
            let (mut world, _dir) = world(&[]);
            let process = Rc::new(FakeProcess::default().answer(says(output)));
            world.process = Rc::clone(&process) as Rc<dyn crate::world::Process>;
            assert_eq!(quit(&mut *plugin("", &world).unwrap(), None).unwrap(), text);
            let job = &process.ran()[0].job;
            assert_eq!((job.program.to_str(), &*job.arguments), (Some("/usr/games/fortune"), &["-s".into()][..]));
        }
    }

    #[test]
    fn who_said_ehlo_is_told_only_if_all_are() {
        for (line, extended, told) in
            [("", Some(true), false), ("", Some(false), true), ("", None, true), ("all 1", Some(true), true)]
        {
            let (mut world, _dir) = world(&[]);
            world.process = Rc::new(FakeProcess::default().answer(says(b"x")));
            assert_eq!(quit(&mut *plugin(line, &world).unwrap(), extended).is_ok(), told, "{line} {extended:?}");
        }
    }

    #[test]
    fn without_a_fortune_the_record_says_why() {
        let rows = [
            (Canned { cannot_start: Some(io::ErrorKind::NotFound), ..says(b"x") }, "entity not found"),
            (Canned { exit: Ok(Exit::Code(1)), ..says(b"x") }, "status 1"),
            (Canned { exit: Ok(Exit::Signal(9)), ..says(b"x") }, "signal 9"),
            (Canned { exit: Err(io::ErrorKind::TimedOut), ..says(b"x") }, "timed out"),
            (says(b" \n\n"), "it said nothing"),
        ];
        for (canned, reason) in rows {
            let (mut world, _dir) = world(&[]);
            world.process = Rc::new(FakeProcess::default().answer(canned));
            let said = quit(&mut *plugin("", &world).unwrap(), None).unwrap_err();
            assert!(said.starts_with("no fortune: /usr/games/fortune: ") && said.contains(reason), "{said}");
        }
    }

    #[test]
    fn a_program_that_never_ends_is_stopped_in_time() {
        let (mut world, _dir) = world(&[]);
        world.process = Rc::new(RealProcess::new(world.deadline.clone()));
        world.clock = Rc::new(RealClock::new(world.deadline.clone()));
        let mut fortune = plugin("path /usr/bin/tail arguments -f,/dev/null timeout 1", &world).unwrap();
        let begun = world.clock.instant();
        assert!(quit(&mut *fortune, None).unwrap_err().contains("timed out"));
        let took = world.clock.instant() - begun;
        assert!(took < Duration::from_secs(4), "{took:?}");
        assert_eq!(world.deadline.get(), None);
    }

    #[test]
    fn check_says_that_the_program_is_missing() {
        let (world, dir) = world(&[("fortune", "#!/bin/sh\n")]);
        let check = |line| plugin(line, &world).unwrap().check();
        assert!(check("path none")[0].contains("install fortune"));
        assert_eq!(check("path fortune"), ["fortune: this is no program"]);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("fortune"), mode).unwrap();
        assert!(check("path fortune").is_empty());
    }

    #[test]
    fn the_shipped_settings_are_the_defaults() {
        assert_eq!(fixture::shipped("quit_fortune").read::<Options>().unwrap(), Options::default());
    }

    #[test]
    fn a_faulty_line_is_named() {
        let (world, _dir) = world(&[]);
        for (line, fault) in [
            ("timeout 0", "timeout"),
            ("timeout 21", "timeout"),
            ("path", "path"),
            ("pth x", "path"),
            ("path ~/f", "~"),
        ] {
            let said = plugin(line, &world).err().unwrap_or_default();
            assert!(said.contains(fault), "{line}: {said}");
        }
    }
}
