//! A plugin's entry in the catalogue: its names, hooks, manual and how it is built. One const in the plugin's own file.

use super::link::OnError;
use super::{Hook, Plugin};
use crate::config::{ConfigDir, ConfigError, Settings};
use crate::world::World;

/// What the catalogue knows of a plugin.
pub struct Entry {
    /// The name in `config/plugins`.
    pub name: &'static str,
    /// Older names that mean the same.
    pub aliases: &'static [&'static str],
    /// What kind of line it is.
    pub kind: Kind,
    /// The hooks at which it wants to be asked.
    pub hooks: &'static [Hook],
    /// Whether relaying and whitelisted clients are none of its business.
    pub spares_immune: bool,
    /// Whether `reject naughty` is what it does unless told otherwise.
    pub leaves_to_naughty: bool,
    /// Whether it needs the store (file `store`), so that `check` tries it.
    pub stores: bool,
    /// Whether it has settings of its own, and so a file in plugins.d.
    pub settings: bool,
    /// What it is to the chain.
    pub role: Role,
    /// What its trouble leads to, where the line does not say.
    pub on_error: OnError,
    /// Whether an accepting answer of it vouches for recipients (so that `check` can say that nobody does).
    pub vouches: bool,
    /// Whether it asks the DNS (so that `check` asks whether its servers answer).
    pub asks_dns: bool,
    /// The lists of which `postern compile` can make maps.
    pub maps: &'static [Map],
    /// The `//!` head of its source file (macro `manual`): its manual.
    pub head: &'static str,
    /// Builds it from its settings.
    pub build: fn(Settings, &World) -> Result<Box<dyn Plugin>, ConfigError>,
}

impl Entry {
    /// What most plugins are: asked about everybody, trouble defers.
    pub const fn plugin(
        name: &'static str,
        hooks: &'static [Hook],
        head: &'static str,
        build: fn(Settings, &World) -> Result<Box<dyn Plugin>, ConfigError>,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            kind: Kind::Plugin,
            hooks,
            spares_immune: false,
            leaves_to_naughty: false,
            stores: false,
            settings: true,
            role: Role::Ordinary,
            on_error: OnError::Defer,
            vouches: false,
            asks_dns: false,
            maps: &[],
            head,
            build,
        }
    }

    /// The same, of a plugin that has no settings of its own.
    pub const fn without_settings(mut self) -> Self {
        self.settings = false;
        self
    }

    /// The manual: the head of the plugin's file.
    pub fn manual(&self) -> String {
        let head = self.head.lines().take_while(|line| line.starts_with("//!"));
        let lines: Vec<_> = head.map(|line| line[3..].strip_prefix(' ').unwrap_or(&line[3..])).collect();
        lines.join("\n")
    }

    /// The manual's first line.
    pub fn summary(&self) -> &'static str {
        let first = self.head.lines().next().unwrap_or_default();
        first.trim_start_matches("//!").trim()
    }
}

/// The manual of a plugin: the `//!` head of the file that is named, as [`Entry::plugin`] wants it. The rest of the file stays out of
/// the program: the texts of all plugins would stand between what a session uses.
#[macro_export]
macro_rules! manual {
    ($file:literal) => {{
        const SOURCE: &[u8] = include_bytes!($file);
        const HEAD: &[u8] = &$crate::hook::entry::head::<{ $crate::hook::entry::head_octets(SOURCE) }>(SOURCE);
        const TEXT: &str = match std::str::from_utf8(HEAD) {
            Ok(text) => text,
            Err(_) => panic!("the manual is not UTF-8"),
        };
        TEXT
    }};
}

/// For `manual`: octets of the lines at the start that begin with `//!`.
pub const fn head_octets(source: &[u8]) -> usize {
    let mut at = 0;
    while at + 2 < source.len() && source[at] == b'/' && source[at + 1] == b'/' && source[at + 2] == b'!' {
        while at < source.len() && source[at] != b'\n' {
            at += 1;
        }
        at += 1;
    }
    if at < source.len() { at } else { source.len() }
}

/// For `manual`: the first octets.
pub const fn head<const OCTETS: usize>(source: &[u8]) -> [u8; OCTETS] {
    let mut head = [0; OCTETS];
    let mut at = 0;
    while at < OCTETS {
        head[at] = source[at];
        at += 1;
    }
    head
}

/// Keys and values of a map.
pub type Records = Vec<(String, String)>;

/// A list that may be long, and the map that stands for it.
#[derive(Debug)]
pub struct Map {
    /// The list's file; the map is `NAME.cdb`.
    pub name: &'static str,
    /// Reads the list.
    pub records: fn(&ConfigDir) -> Result<Records, ConfigError>,
}

/// What a plugin is to the chain, beside being asked at its hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing else.
    Ordinary,
    /// Refusals at connect, HELO, EHLO and MAIL that leave the connection open wait for it (`Session::delayed`). At rcpt it is
    /// asked after all others, also when one of them accepted.
    Delays,
    /// It may set other plugins otherwise for a session (`Change::Configure`).
    Configures,
}

/// What kind of line of `config/plugins` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asked in the dialog.
    Plugin,
    /// Takes the mail.
    Queue,
    /// Writes log lines; belongs in `config/logging`.
    Logger,
}
