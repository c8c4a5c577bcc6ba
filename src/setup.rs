//! Joins configuration and rooms: reads a configuration directory, finds each line's plugin in the catalogue, builds the
//! chain and the log's sinks. All faults are collected, each with file and line; one fault, and nothing is served.

mod names;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use self::names::{PLANNED, RETIRED};
use crate::config::{self, ChainLine, ConfigDir, ConfigError, Core, Origin, Settings, same_name};
use crate::hook::{Chain, Entry, Hook, HookSet, Kind, Link, OnError, Plugin, Remake, Role, Standard};
use crate::log::{Level, Line, Sink};
use crate::world::World;
use crate::world::store::StoreSettings;
use crate::{plugins, queue};

/// What the command line says about where the configuration is.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--plugins-dir`.
    pub plugins_dir: Option<PathBuf>,
    /// `--chain`: `plugins.NAME` instead of `plugins`.
    pub chain: Option<String>,
}

/// A configuration directory as read, and what its lines name.
pub struct Setup {
    /// The directory.
    pub dir: Rc<ConfigDir>,
    /// The core's settings.
    pub core: Core,
    /// The chain's lines.
    pub lines: Vec<ChainLine>,
    /// The lines of `config/logging`.
    pub logging: Vec<ChainLine>,
    plugins_dir: Option<PathBuf>,
    extra: &'static [&'static Entry],
}

/// What the lines came to.
#[derive(Default)]
pub struct Built {
    /// The chain's links, in order.
    pub chain: Vec<Link>,
    /// The log's.
    pub loggers: Vec<Link>,
    /// Every fault of every line. With one of them, nothing may be served.
    pub faults: Vec<ConfigError>,
}

/// A line's plugin, or why it has none.
pub enum Found {
    /// This one.
    Entry(&'static Entry),
    /// Retired on purpose, for this reason.
    Retired(&'static str),
    /// Not built yet; this is what it is about.
    Planned(&'static str),
    /// We have no such plugin; this is the nearest name.
    Unknown(Option<&'static str>),
}

/// Reads a configuration directory.
///
/// # Errors
/// Every fault of it.
pub fn read(options: &Options, extra: &'static [&'static Entry]) -> Result<Setup, Vec<ConfigError>> {
    let env = |name: &str| std::env::var_os(name);
    let path = config::find(options.config.as_deref(), &env);
    let dir = Rc::new(ConfigDir::open(&path).map_err(|error| vec![error])?);
    let plugins_dir = config::find_plugins_dir(options.plugins_dir.as_deref(), &dir);
    let mut errors = Vec::new();
    let mut keep = |more: Vec<ConfigError>| errors.extend(more);
    let core = Core::read(&dir, &env).map_err(&mut keep).ok();
    let lines = config::read_chain(&dir, options.chain.as_deref()).map_err(&mut keep).unwrap_or_default();
    let logging = config::read_lines(&dir, "logging").map_err(&mut keep).ok().flatten().unwrap_or_default();
    errors.extend(store_fault(&dir));
    match core {
        Some(core) if errors.is_empty() => Ok(Setup { dir, core, lines, logging, plugins_dir, extra }),
        _ => Err(errors),
    }
}

/// Reads a configuration directory for `check`: what can be read of it, the core's faulty settings at their defaults, and
/// every fault.
///
/// # Errors
/// There is no such directory.
pub fn inspect(options: &Options, extra: &'static [&'static Entry]) -> Result<(Setup, Vec<ConfigError>), ConfigError> {
    let env = |name: &str| std::env::var_os(name);
    let path = config::find(options.config.as_deref(), &env);
    let dir = Rc::new(ConfigDir::open(&path)?);
    let plugins_dir = config::find_plugins_dir(options.plugins_dir.as_deref(), &dir);
    let (core, mut faults) = Core::survey(&dir, &env);
    let (lines, more) = config::survey_chain(&dir, options.chain.as_deref());
    faults.extend(more);
    let (logging, more) = config::survey_lines(&dir, "logging");
    faults.extend(more);
    faults.extend(store_fault(&dir));
    Ok((Setup { dir, core, lines, logging, plugins_dir, extra }, faults))
}

/// What cannot be understood in the file `store`: told before anybody is greeted, as for `dns`. (A store that is not there is the
/// plugins' trouble.) Read again by whoever needs the store.
fn store_fault(dir: &ConfigDir) -> Option<ConfigError> {
    if dir.exists("store") { StoreSettings::read(dir).err() } else { None }
}

impl Setup {
    /// The plugin that a line names.
    pub fn find(&self, name: &str) -> Found {
        find(name, self.extra)
    }

    /// Where the plugins' TOML files are, if anywhere.
    pub fn plugins_dir(&self) -> Option<&Path> {
        self.plugins_dir.as_deref()
    }

    /// Builds the chain, and the loggers that `config/logging` (or a logging line of the chain) names. What could be built is
    /// there although other lines are at fault, so that the log can tell where it was meant to.
    pub fn build(&self, world: &World) -> Built {
        let mut built = Built::default();
        let company = self.company();
        for line in self.lines.iter().chain(&self.logging) {
            match self.link_in(line, world, &company) {
                Ok(Some(link)) if link.hooks == HookSet::of(&[Hook::Logging]) => built.loggers.push(link),
                Ok(Some(link)) => built.chain.push(link),
                Ok(None) => {}
                Err(error) => built.faults.extend(error.all()),
            }
        }
        built
    }

    /// Builds one line's plugin. `None`: retired.
    ///
    /// # Errors
    /// Every fault of the line.
    pub fn link(&self, line: &ChainLine, world: &World) -> Result<Option<Link>, ConfigError> {
        self.link_in(line, world, &self.company())
    }

    fn link_in(&self, line: &ChainLine, world: &World, company: &Company) -> Result<Option<Link>, ConfigError> {
        let entry = match self.find(&line.name) {
            Found::Entry(entry) => entry,
            // `check` tells why; the log of every connection need not.
            Found::Retired(_) => return Ok(None),
            Found::Planned(about) => return Err(line.error(planned(about))),
            Found::Unknown(nearest) => return Err(line.error(unknown(&line.name, nearest))),
        };
        let file = match &self.plugins_dir {
            Some(dir) => config::plugin_file(dir, entry.name, line.instance)?,
            None => None,
        };
        let settings = Settings::new(&line.label(), line.origin(), line.arguments.clone(), file);
        // Only for chains that need it: it copies the settings.
        let remake = company.configures.then(|| remake(entry, settings.clone()));
        let naughty = if company.naughty { Ok(()) } else { needs_naughty(&settings, entry) };
        let (standard, plugin) = match (naughty, make(entry, settings, world)) {
            (Ok(()), Ok(made)) => made,
            (Err(first), Err(second)) => return Err(first.and(second)),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let name = match line.instance {
            Some(instance) => format!("{}:{instance}", entry.name),
            None => entry.name.to_owned(),
        };
        let hooks = entry.hooks.iter().filter(|hook| plugin.wants(**hook));
        Ok(Some(Link {
            name: name.into(),
            origin: place(&company.shown(self, &line.file), line.line).into(),
            hooks: hooks.fold(HookSet::default(), |all, hook| all.union(HookSet::of(&[*hook]))),
            entry,
            standard,
            plugin,
            remake,
            off: None,
            broken: false,
        }))
    }

    /// What a line's plugin must know of the others.
    fn company(&self) -> Company {
        let stands = |name: &str| self.lines.iter().any(|line| same_name(&line.name, name));
        let mut all = catalogue().chain(self.extra.iter().copied());
        let named = |entry: &Entry| stands(entry.name) || entry.aliases.iter().any(|alias| stands(alias));
        let configures = all.any(|entry| entry.role == Role::Configures && named(entry));
        Company { naughty: stands("naughty"), configures, shown: RefCell::default() }
    }

    /// Reads the core's settings again, for plugins that answer for them (hook `config`).
    ///
    /// # Errors
    /// Every fault of what they answered, or why they could not.
    pub fn ask_plugins(&mut self, chain: &mut Chain) -> Result<(), Vec<ConfigError>> {
        if !chain.wants(Hook::Config) {
            return Ok(());
        }
        let mut trouble = None;
        let mut ask = |name: &str| {
            // One is enough.
            if trouble.is_some() {
                return None;
            }
            chain.config(name).unwrap_or_else(|error| {
                trouble = Some(ConfigError::new(error.0));
                None
            })
        };
        let read = Core::read_asking(&self.dir, &|name| std::env::var_os(name), &mut ask);
        if let Some(trouble) = trouble {
            return Err(vec![trouble]);
        }
        self.core = read?;
        Ok(())
    }

    /// Where a line stands, as the record shows it: "config/plugins line 7".
    pub fn origin(&self, line: &ChainLine) -> String {
        place(&self.shown(&line.file), line.line)
    }

    /// A file's path as the record shows it: from the configuration directory's name on.
    fn shown(&self, file: &Path) -> String {
        // By octets: asked for every line of the chain, and taking paths apart costs more than the rest of it.
        let octets = |path: &Path| path.as_os_str().as_encoded_bytes().len();
        let dir = self.dir.path();
        let above = dir.parent().map_or(0, octets);
        let text = file.to_string_lossy();
        let within = above > 0 && file.as_os_str().as_encoded_bytes().starts_with(dir.as_os_str().as_encoded_bytes());
        let inside = if within { text.get(above..).map(|inside| inside.trim_start_matches('/')) } else { None };
        inside.map_or_else(|| text.to_string(), str::to_owned)
    }
}

/// Every plugin of postern's own.
pub fn catalogue() -> impl Iterator<Item = &'static Entry> {
    plugins::ENTRIES.iter().chain(queue::ENTRIES).copied()
}

/// The plugin of that name, among ours and those of the program that embeds us.
pub fn find(name: &str, extra: &'static [&'static Entry]) -> Found {
    let all = || catalogue().chain(extra.iter().copied());
    let named =
        |entry: &&Entry| same_name(entry.name, name) || entry.aliases.iter().any(|alias| same_name(alias, name));
    if let Some(entry) = all().find(named) {
        return Found::Entry(entry);
    }
    if name.starts_with("async/") {
        return Found::Retired("postern has no asynchronous plugins; use the one without async/");
    }
    let among = |table: &[(&str, &'static str)]| {
        table.iter().find(|(known, _)| same_name(known, name)).map(|(_, reason)| *reason)
    };
    if let Some(reason) = among(RETIRED) {
        return Found::Retired(reason);
    }
    if let Some(about) = among(PLANNED) {
        return Found::Planned(about);
    }
    let ours = all().flat_map(|entry| std::iter::once(entry.name).chain(entry.aliases.iter().copied()));
    Found::Unknown(config::nearest(name, ours.chain(PLANNED.iter().map(|(planned, _)| *planned))))
}

/// What is said of a line whose plugin we do not have yet.
fn planned(about: &str) -> String {
    format!("postern does not have this plugin yet ({about}): until it does, take the line out, or no mail is taken")
}

fn unknown(name: &str, nearest: Option<&str>) -> String {
    let perl = if name.contains("::") { " (a Perl module cannot be run here)" } else { "" };
    match nearest {
        Some(nearest) => format!("there is no plugin \"{name}\"{perl} (did you mean \"{nearest}\"?)"),
        None => format!("there is no plugin \"{name}\"{perl}"),
    }
}

/// What there is in the chain beside a line's plugin.
struct Company {
    /// The plugin `naughty`.
    naughty: bool,
    /// One that may set others otherwise for a session.
    configures: bool,
    /// The file of the line before, and how the record shows it: most lines stand in one file.
    shown: RefCell<Option<(Rc<Path>, Rc<str>)>>,
}

impl Company {
    fn shown(&self, setup: &Setup, file: &Rc<Path>) -> Rc<str> {
        let mut last = self.shown.borrow_mut();
        match &*last {
            Some((known, shown)) if Rc::ptr_eq(known, file) => Rc::clone(shown),
            _ => {
                let shown: Rc<str> = setup.shown(file).into();
                *last = Some((Rc::clone(file), Rc::clone(&shown)));
                shown
            }
        }
    }
}

/// "config/plugins line 7".
fn place(file: &str, line: usize) -> String {
    [file, " line ", &line.to_string()].concat()
}

/// `reject naughty` leaves the refusal to the plugin `naughty`: without it, the policy would be dropped silently.
fn needs_naughty(settings: &Settings, entry: &Entry) -> Result<(), ConfigError> {
    if entry.kind == Kind::Logger || !(entry.leaves_to_naughty || settings.mentions("naughty")) {
        return Ok(());
    }
    // What is not understood here the plugin will tell.
    match settings.clone().take::<String>("reject") {
        Ok(Some((word, origin))) if word == "naughty" => {
            let fault = "without the plugin naughty in the chain nobody would be refused: say reject 1, or 0";
            Err(origin.error(fault).of_plugin(settings.plugin()).of_key("reject"))
        }
        Ok(None) if entry.leaves_to_naughty => {
            let fault = "is naughty unless told otherwise, and without that plugin in the chain nobody would be refused: \
                         list naughty, or say reject 1, or 0";
            Err(settings.error(fault).of_key("reject"))
        }
        _ => Ok(()),
    }
}

/// A line's plugin from its settings.
fn make(entry: &Entry, mut settings: Settings, world: &World) -> Result<(Standard, Box<dyn Plugin>), ConfigError> {
    let standard = standard(&mut settings, entry);
    match (standard, (entry.build)(settings, world)) {
        (Ok(standard), Ok(plugin)) => Ok((standard, plugin)),
        (Err(first), Err(second)) => Err(first.and(second)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The same again, later and with some settings otherwise.
fn remake(entry: &'static Entry, settings: Settings) -> Remake {
    Box::new(move |overrides, world| {
        let mut settings = settings.clone();
        for wanted in overrides {
            let origin = Origin::new(Path::new(&wanted.origin), 0);
            settings.override_with(&wanted.key, &wanted.value, origin);
        }
        make(entry, settings, world)
    })
}

/// What every line may say, whatever its plugin.
fn standard(settings: &mut Settings, entry: &Entry) -> Result<Standard, ConfigError> {
    let mut standard = Standard { on_error: entry.on_error, ..Standard::default() };
    if entry.kind == Kind::Queue {
        // The hand-over has its own limits: the backend's `timeout` and `deadline`.
        standard.budget = std::time::Duration::from_secs(3600);
    }
    if let Some((observe, _)) = settings.take::<bool>("observe")? {
        standard.observe = observe;
    }
    // The own matter of loggers, and of connection_time, which only logs. Any other plugin's decisions are in the record whatever
    // their level.
    if entry.kind != Kind::Logger
        && entry.name != "connection_time"
        && let Some((level, origin)) = settings.take::<String>("loglevel")?
        && let Err(fault) = level.trim_start_matches(['+', '-']).parse::<Level>()
    {
        return Err(origin.error(fault).of_plugin(settings.plugin()));
    }
    if let Some((on_error, _)) = settings.take::<OnError>("on_error")? {
        standard.on_error = on_error;
    }
    if let Some((budget_s, origin)) = settings.take::<u64>("budget")? {
        if budget_s == 0 {
            return Err(origin.error("budget 0 leaves no time at all").of_plugin(settings.plugin()));
        }
        standard.budget = std::time::Duration::from_secs(budget_s);
    }
    Ok(standard)
}

/// The loggers as the log's sinks.
pub fn sinks(loggers: Vec<Link>) -> Vec<Sink> {
    let sink = |mut link: Link| {
        let (name, level) = (Rc::clone(&link.name), link.plugin.loglevel());
        Sink::new(&name, level, Box::new(move |line: &Line<'_>| link.plugin.logging(line).map_err(|trouble| trouble.0)))
    };
    loggers.into_iter().map(sink).collect()
}
