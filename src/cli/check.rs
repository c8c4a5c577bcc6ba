//! `postern check`: everything that is wrong, odd or dangerous in a configuration directory, each with file and line.
//!
//! An error is what keeps mail from being served safely: a configuration that would answer 421, a chain that can take no mail,
//! a backend that is not there, an open relay. A warning is what is served and was probably not meant. A note is for whoever
//! wonders. What there is to find is in `check/`, by where it is found.

mod chain;
mod files;
mod lists;
mod relay;
mod service;
mod user;

pub(super) use user::become_named;

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;

use super::WRONG;
use super::print::{Paint, Screen, harmless};
use crate::config::{ChainLine, ConfigError};
use crate::hook::Entry;
use crate::launch;
use crate::log::{self, Level};
use crate::setup::{self, Options};
use crate::world::World;

/// Judge a configuration directory: every fault, with file and line
///
/// A line for each finding: error, warning or note, the file, its line, what is wrong. Backends are
/// asked whether they are there; nothing is queued. What may be read and written is tried as the user
/// that serves: root becomes that of --user, else of config/user.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Exit status: 0 no error (there may be warnings); 100 errors.")]
pub(super) struct Arguments {
    /// Write JSON: one object for each finding, one for the summary
    #[arg(long)]
    json: bool,
    /// Try it as this user, the one that the launcher serves as (else that of config/user)
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Error,
    Warning,
    Note,
}

/// One thing found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    event: &'static str,
    grade: Grade,
    file: Option<PathBuf>,
    line: Option<usize>,
    plugin: Option<String>,
    text: String,
}

/// All things found, in the order in which they are told.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// A fault of the configuration, with those found along with it.
    fn fault(&mut self, error: ConfigError) {
        for error in error.all() {
            let key = error.key().map(|key| format!("{key}: ")).unwrap_or_default();
            self.put(Finding {
                event: "finding",
                grade: Grade::Error,
                file: error.file().map(Path::to_path_buf),
                line: error.line(),
                plugin: error.plugin().map(str::to_owned),
                text: format!("{key}{}", error.fault()),
            });
        }
    }

    /// Something about a file, or a line of it (0: the file as a whole).
    fn file(&mut self, grade: Grade, file: &Path, line: usize, text: impl Into<String>) {
        let (file, line) = (Some(file.to_path_buf()), (line > 0).then_some(line));
        self.put(Finding { event: "finding", grade, file, line, plugin: None, text: text.into() });
    }

    /// The same, as this plugin says.
    fn plugin(&mut self, grade: Grade, plugin: &str, file: &Path, line: usize, text: impl Into<String>) {
        let (file, line) = (Some(file.to_path_buf()), (line > 0).then_some(line));
        self.put(Finding { event: "finding", grade, file, line, plugin: Some(plugin.to_owned()), text: text.into() });
    }

    /// Something about a plugin's line.
    fn line(&mut self, grade: Grade, line: &ChainLine, text: impl Into<String>) {
        self.plugin(grade, &line.label(), &line.file, line.line, text);
    }

    /// Whether something is wrong on that line already.
    fn tells(&self, file: &Path, line: usize) -> bool {
        self.0.iter().any(|known| known.file.as_deref() == Some(file) && known.line == Some(line))
    }

    /// Some files are looked at twice, as a setting and as a file; what is wrong there is told once.
    fn put(&mut self, finding: Finding) {
        let same =
            |known: &Finding| (&known.file, known.line, &known.text) == (&finding.file, finding.line, &finding.text);
        if !self.0.iter().any(same) {
            self.0.push(finding);
        }
    }

    fn count(&self, grade: Grade) -> usize {
        self.0.iter().filter(|finding| finding.grade == grade).count()
    }
}

/// The counts, as JSON.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl fmt::Display for Finding {
    /// `config/plugins line 7: loop: what is wrong`
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(out, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(out, " line {line}")?;
            }
            write!(out, ": ")?;
        }
        if let Some(plugin) = &self.plugin {
            write!(out, "{plugin}: ")?;
        }
        write!(out, "{}", self.text)
    }
}

/// Judges it.
pub(super) fn run(arguments: &Arguments, options: &Options, extra: &'static [&'static Entry]) -> u8 {
    log::begin(Level::Error, launch::stderr_usable());
    // What would be logged is found, and told, anyway.
    log::mute();
    let findings = find(arguments.user.as_deref(), options, extra);
    show(arguments, &findings);
    if findings.count(Grade::Error) > 0 { WRONG } else { 0 }
}

fn find(user: Option<&str>, options: &Options, extra: &'static [&'static Entry]) -> Findings {
    let mut findings = Findings::default();
    // As a launcher does it, before anything is read.
    if let Some(name) = user
        && let Err(fault) = user::become_named(name)
    {
        findings.fault(ConfigError::new(fault));
        return findings;
    }
    let setup = match setup::inspect(options, extra) {
        Ok((setup, faults)) => {
            faults.into_iter().for_each(|fault| findings.fault(fault));
            setup
        }
        Err(error) => {
            findings.fault(error);
            return findings;
        }
    };
    // What serving reads as root, before it becomes config/user, is read so here too.
    let mut of_files = Findings::default();
    files::check(&setup, options.chain.as_deref(), &mut of_files);
    user::become_configured(user, &setup, &mut findings);
    let world = World::real(Rc::clone(&setup.dir));
    chain::check(&setup, options.chain.as_deref(), &world, &mut findings);
    of_files.0.into_iter().for_each(|finding| findings.put(finding));
    lists::check(&setup, &mut findings);
    relay::check(&setup, &mut findings);
    service::check(&setup, &world, &mut findings);
    findings
}

fn show(arguments: &Arguments, findings: &Findings) {
    let screen = Screen::new();
    let [errors, warnings, notes] = [Grade::Error, Grade::Warning, Grade::Note].map(|grade| findings.count(grade));
    if arguments.json {
        findings.0.iter().for_each(|finding| screen.json(finding));
        screen.json(&Summary { event: "summary", errors, warnings, notes });
        return;
    }
    for finding in &findings.0 {
        let grade = match finding.grade {
            Grade::Error => screen.paint(Paint::Red, "error"),
            Grade::Warning => screen.paint(Paint::Yellow, "warning"),
            Grade::Note => screen.paint(Paint::Dim, "note"),
        };
        screen.line(format!("{grade}: {}", harmless(&finding.to_string())));
    }
    let verdict = match errors {
        0 => screen.paint(Paint::Green, "fit to serve"),
        _ => screen.paint(Paint::Red, "not fit to serve"),
    };
    let count = |number, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    let counts = [count(errors, "error"), count(warnings, "warning"), count(notes, "note")].join(", ");
    screen.line(format!("{counts}: {verdict}"));
}
