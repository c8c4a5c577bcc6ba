//! `postern plugins [NAME]`: the catalogue, and each plugin's manual, from the plugin's own file.

use serde::Serialize;

use super::WRONG;
use super::print::{Paint, Screen, trouble};
use crate::config::{self, ConfigDir};
use crate::hook::{Entry, Hook, Kind, OnError};
use crate::setup::{self, Found, Options};

/// List the plugins, or print the manual of one
///
/// Without a name: every plugin, the hooks at which it is asked, and what it is for.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 done; 100 there is no such plugin.")]
pub(super) struct Arguments {
    /// The plugin; old names will do
    name: Option<String>,
    /// Write JSON: one object for each plugin
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub(super) fn run(arguments: &Arguments, options: &Options, extra: &'static [&'static Entry]) -> u8 {
    let screen = Screen::new();
    let Some(name) = &arguments.name else {
        let all: Vec<&Entry> = setup::catalogue().chain(extra.iter().copied()).collect();
        match arguments.json {
            true => all.iter().for_each(|entry| screen.json(&About::of(entry))),
            false => table(&screen, &all),
        }
        return 0;
    };
    let why = match setup::find(name, extra) {
        Found::Entry(entry) if arguments.json => {
            screen.json(&About::of(entry));
            return 0;
        }
        Found::Entry(entry) => {
            manual(&screen, entry, options);
            return 0;
        }
        Found::Retired(reason) => format!("retired, a line that names it does nothing: {reason}"),
        Found::Planned(about) => format!("postern does not have this plugin yet ({about})"),
        Found::Unknown(Some(nearest)) => format!("there is no such plugin (did you mean \"{nearest}\"?)"),
        Found::Unknown(None) => "there is no such plugin; `postern plugins` lists them".to_owned(),
    };
    trouble(&format!("postern plugins: {}: {why}", super::print::harmless(name)));
    WRONG
}

/// A line each: name, summary, hooks.
fn table(screen: &Screen, all: &[&Entry]) {
    let width = |text: fn(&Entry) -> usize| all.iter().map(|entry| text(entry)).max().unwrap_or(0);
    let name_width = width(|entry| entry.name.len());
    let hooks_width = width(|entry| hooks(entry).len()).min(40);
    for entry in all {
        let name = format!("{:name_width$}", entry.name);
        let hooks = format!("{:hooks_width$}", hooks(entry));
        let line =
            format!("{}  {}  {}", screen.paint(Paint::Bold, name), screen.paint(Paint::Dim, hooks), entry.summary());
        screen.line(line.trim_end());
    }
}

fn hooks(entry: &Entry) -> String {
    entry.hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(" ")
}

fn manual(screen: &Screen, entry: &Entry, options: &Options) {
    screen.line(screen.paint(Paint::Bold, entry.name));
    screen.line("");
    let mut inside = false;
    for line in entry.manual().lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside {
            screen.line(format!("    {line}").trim_end());
        } else {
            screen.line(line);
        }
    }
    screen.line("");
    let about = |name: &str, text: &str| screen.line(format!("{name:<10} {text}").trim_end());
    if !entry.aliases.is_empty() {
        about("Old names:", &entry.aliases.join(", "));
    }
    about("Asked at:", &hooks(entry));
    if entry.spares_immune {
        about("Spared:", "clients that may relay, and whitelisted ones");
    }
    about("On error:", on_error(entry));
    if entry.settings {
        about("Settings:", &settings(entry, options));
    }
    if entry.kind == Kind::Plugin {
        about("Any line:", "observe 1 (only record what it would refuse), on_error defer|decline, budget SECONDS");
    }
}

fn on_error(entry: &Entry) -> &'static str {
    match entry.on_error {
        OnError::Defer => "defer",
        OnError::Decline => "decline",
    }
}

/// Where its TOML file is, as far as that can be known.
fn settings(entry: &Entry, options: &Options) -> String {
    let file = format!("{}.toml", entry.name);
    let config = config::find(options.config.as_deref(), &|name| std::env::var_os(name));
    let dir = ConfigDir::open(&config).ok();
    let dir = dir.and_then(|dir| config::find_plugins_dir(options.plugins_dir.as_deref(), &dir));
    match dir.map(|dir| dir.join(&file)) {
        Some(path) if path.is_file() => path.display().to_string(),
        Some(path) => format!("{} (there is no such file)", path.display()),
        None => format!("plugins.d/{file}, inside the configuration directory or beside it"),
    }
}

/// A plugin as JSON.
#[derive(Serialize)]
struct About {
    name: &'static str,
    aliases: &'static [&'static str],
    kind: &'static str,
    summary: &'static str,
    hooks: Vec<&'static str>,
    spares_immune: bool,
    on_error: &'static str,
    vouches: bool,
    settings: Option<String>,
    manual: String,
}

impl About {
    fn of(entry: &Entry) -> Self {
        let kind = match entry.kind {
            Kind::Plugin => "plugin",
            Kind::Queue => "queue",
            Kind::Logger => "logger",
        };
        Self {
            name: entry.name,
            aliases: entry.aliases,
            kind,
            summary: entry.summary(),
            hooks: entry.hooks.iter().copied().map(Hook::name).collect(),
            spares_immune: entry.spares_immune,
            on_error: on_error(entry),
            vouches: entry.vouches,
            settings: entry.settings.then(|| format!("plugins.d/{}.toml", entry.name)),
            manual: entry.manual(),
        }
    }
}
