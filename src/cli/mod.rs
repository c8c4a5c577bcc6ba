//! The command line: serving is the default, the rest is for people. One file per subcommand.

mod check;
mod compile;
mod conversation;
mod plugins;
mod print;
mod serve;
mod store;
mod try_dialog;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::hook::Entry;
use crate::setup::Options;

/// Exit status: the configuration is wrong.
pub const WRONG: u8 = 100;
/// Exit status: a passing trouble.
pub const TROUBLE: u8 = 111;

/// postern: an SMTP front door
///
/// Without a command it serves one connection on descriptors 0 and 1, as tcpserver, xinetd or
/// systemd start it. The commands are for people: begin with `check`, then `try` a dialog.
#[derive(Parser)]
#[command(
    name = "postern",
    version,
    verbatim_doc_comment,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done; 100 the configuration or the command line is wrong; 111 a passing trouble.\n\
                  A client meets 421 for the last two, and the log says why."
)]
struct Arguments {
    #[command(flatten)]
    at: Where,
    #[command(subcommand)]
    command: Option<Task>,
}

/// Where the configuration is.
#[derive(clap::Args)]
#[command(next_help_heading = "Configuration")]
struct Where {
    /// The directory (else $POSTERN_CONFIG, $QPSMTPD_CONFIG, /etc/postern)
    #[arg(long, value_name = "DIR", global = true)]
    config: Option<PathBuf>,
    /// Where the plugins' TOML files are (else plugins.d inside it, or beside it if it is named config)
    #[arg(long, value_name = "DIR", global = true)]
    plugins_dir: Option<PathBuf>,
    /// The chain: the file plugins.NAME instead of plugins
    #[arg(long, value_name = "NAME", global = true)]
    chain: Option<String>,
}

/// What is for people.
#[derive(Subcommand)]
enum Task {
    Try(try_dialog::Arguments),
    Check(check::Arguments),
    Plugins(plugins::Arguments),
    Compile(compile::Arguments),
    Store(store::Arguments),
}

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
    if std::env::args_os().len() <= 1 && std::io::stdin().is_terminal() {
        print::trouble(Arguments::command().render_help().to_string().trim_end());
        return ExitCode::from(WRONG);
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
    let options = arguments.at.options();
    ExitCode::from(match arguments.command {
        None => serve::serve(&options, extra),
        Some(Task::Try(arguments)) => try_dialog::run(arguments, &options, extra),
        Some(Task::Check(arguments)) => check::run(&arguments, &options, extra),
        Some(Task::Compile(arguments)) => compile::run(&arguments, &options),
        Some(Task::Plugins(arguments)) => plugins::run(&arguments, &options, extra),
        Some(Task::Store(arguments)) => store::run(&arguments, &options),
    })
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
