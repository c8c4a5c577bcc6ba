//! The command line: serving is the default, the rest is for people. One file per subcommand.

mod serve;

use std::ffi::OsString;
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
    // The hot path: a launcher's command line does not enter the parser for people.
    if let Some(options) = launcher_options(std::env::args_os().skip(1)) {
        // Everything is written and closed: what std would still tidy up dies with the process.
        crate::sys::exit_now(serve::serve(&options, extra).into());
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return serve::bad_arguments(&error),
    };
    match arguments.command {
        None => ExitCode::from(serve::serve(&arguments.at.options(), extra)),
        Some(task) => match task {},
    }
}

/// What a launcher's line holds: nothing, or `--config DIR`, `--plugins-dir DIR`, `--chain NAME`, and nothing else.
fn launcher_options(mut words: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--config" => options.config = Some(words.next()?.into()),
            "--plugins-dir" => options.plugins_dir = Some(words.next()?.into()),
            "--chain" => options.chain = Some(words.next()?.into_string().ok()?),
            _ => return None,
        }
    }
    Some(options)
}
