//! What the lines of the relaying backends have in common: `HOST [PORT] [KEY VALUE]...`.

use std::time::Duration;

use serde::Deserialize;

use super::super::IfDown;
use super::place::Place;
use super::{Client, Protocol};
use crate::config::{ConfigError, Settings};
use crate::smtp::extension::Capabilities;
use crate::world::World;

/// Next hops of one line.
const HOSTS_MAX: usize = 20;

/// Seconds that either limit may have: the chain ends a hand-over after an hour.
const LIMIT_S_MAX: u64 = 3600;

/// The keys of these backends.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::queue) struct Options {
    host: Vec<String>,
    port: Option<u16>,
    helo: Option<String>,
    timeout: u64,
    deadline: u64,
    chunking: bool,
    binarymime: bool,
    pub(in crate::queue) ask_recipients: bool,
    smtputf8: bool,
    dsn: bool,
    pub(in crate::queue) if_down: IfDown,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Vec::new(),
            port: None,
            helo: None,
            timeout: 60,
            deadline: 300,
            chunking: true,
            binarymime: false,
            ask_recipients: false,
            smtputf8: true,
            dsn: false,
            if_down: IfDown::Defer,
        }
    }
}

impl Options {
    /// What is offered to clients.
    pub(in crate::queue) fn capabilities(&self) -> Capabilities {
        Capabilities { eight_bit: true, binary: self.binarymime, smtputf8: self.smtputf8, dsn: self.dsn }
    }
}

/// A first word that is one of these is no host.
const KEYS: [&str; 13] = [
    "host",
    "port",
    "helo",
    "timeout",
    "deadline",
    "chunking",
    "binarymime",
    "ask_recipients",
    "smtputf8",
    "dsn",
    "xclient",
    "xforward",
    "if_down",
];

/// Takes the positional words: host and port.
pub(in crate::queue) fn positional(settings: &mut Settings) {
    settings.repeatable("host");
    if settings.words().first().is_some_and(|word| !KEYS.contains(&&**word))
        && let Some(host) = settings.take_first()
    {
        settings.set("host", host);
        let digits = |word: &String| word.bytes().all(|octet| octet.is_ascii_digit());
        if settings.words().first().is_some_and(digits)
            && let Some(port) = settings.take_first()
        {
            settings.set("port", port);
        }
    }
}

/// A client of the line's settings, from which the backend has taken its own.
pub(in crate::queue) fn read(
    settings: Settings,
    world: &World,
    protocol: Protocol,
    port: u16,
) -> Result<(Client, Options), ConfigError> {
    let (origin, name) = (settings.origin().clone(), settings.plugin().to_owned());
    let fault = |text: String| origin.error(text).of_plugin(&name);
    let options: Options = settings.read()?;
    for (key, limit_s) in [("timeout", options.timeout), ("deadline", options.deadline)] {
        if !(1..=LIMIT_S_MAX).contains(&limit_s) {
            return Err(fault(format!("{key} {limit_s}: from 1 to {LIMIT_S_MAX} seconds")));
        }
    }
    let named = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
    if let Some(helo) = options.helo.as_ref().filter(|helo| helo.is_empty() || !helo.bytes().all(named)) {
        return Err(fault(format!("helo {helo:?} is no name")));
    }
    if options.binarymime && !options.chunking {
        return Err(fault("binarymime 1 needs chunking 1: binary content goes by BDAT alone".to_owned()));
    }
    if options.host.is_empty() || options.host.len() > HOSTS_MAX {
        return Err(fault(format!("from 1 to {HOSTS_MAX} hosts must be named, not {}", options.host.len())));
    }
    let port = options.port.unwrap_or(port);
    if port == 0 {
        return Err(fault("port 0 is none".to_owned()));
    }
    let places = options.host.iter().map(|host| Place::parse(host, port)).collect::<Result<Vec<_>, _>>();
    let client = Client {
        world: world.clone(),
        name: if protocol == Protocol::Lmtp { "lmtp" } else { "smtp-forward" },
        protocol,
        places: places.map_err(fault)?,
        helo: options.helo.clone(),
        xclient: false,
        xforward: false,
        chunking: options.chunking,
        pace: Duration::from_secs(options.timeout),
        deadline: Duration::from_secs(options.deadline),
    };
    Ok((client, options))
}
