//! The command line: serving is the default, the rest is for people. One file per subcommand.

mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::hook::Entry;
use crate::setup::Options;

/// Exit status: the configuration is wrong.
pub const WRONG: u8 = 100;
/// Exit status: a passing trouble.
pub const TROUBLE: u8 = 111;

/// postern: an SMTP front door. Without a subcommand it serves one connection on descriptors 0 and 1.
#[derive(Parser)]
#[command(name = "postern", version, about, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    at: Where,
    #[command(subcommand)]
    command: Option<Task>,
}

/// Where the configuration is.
#[derive(clap::Args)]
struct Where {
    /// Configuration directory (else $POSTERN_CONFIG, $QPSMTPD_CONFIG, /etc/postern)
    #[arg(long, value_name = "DIR", global = true)]
    config: Option<PathBuf>,
    /// Directory of the plugins' TOML files (else plugins.d inside or beside the configuration directory)
    #[arg(long, value_name = "DIR", global = true)]
    plugins_dir: Option<PathBuf>,
    /// Chain to use: the file plugins.NAME instead of plugins
    #[arg(long, value_name = "NAME", global = true)]
    chain: Option<String>,
}

#[derive(Subcommand)]
enum Task {}

impl Where {
    fn options(self) -> Options {
        Options { config: self.config, plugins_dir: self.plugins_dir, chain: self.chain }
    }
}

/// Runs the program. `extra`: plugins beside postern's own.
pub fn run(extra: &'static [&'static Entry]) -> ExitCode {
    // Before anything can panic or print.
    if crate::launch::protect_descriptors().is_err() {
        return ExitCode::from(TROUBLE);
    }
    // The hot path: serving with no arguments does not enter the command line's parser.
    if std::env::args_os().len() <= 1 {
        return serve::serve(&Options::default(), extra);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return serve::bad_arguments(&error),
    };
    match arguments.command {
        None => serve::serve(&arguments.at.options(), extra),
        Some(task) => match task {},
    }
}
