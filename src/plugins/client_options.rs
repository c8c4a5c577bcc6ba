//! Sets other plugins otherwise for some clients: off, or with other settings, for their sessions.
//!
//! ```text
//! client_options
//! ```
//! List it first: a plugin that was asked already when this one rules is not asked again.
//!
//! File: `client_options`, a pattern of clients and settings a line:
//!
//! ```text
//! 192.0.2.1: greylisting/active=0
//! 2001:db8::/32: greylisting/black_timeout=60, dnsbl/reject=0
//! mail.far.example: greylisting/active=0
//! .far.example: helo/policy=lenient
//! ```
//! - A pattern is an address, a network of either family as in `relayclients` (192.0.2.0/24, 192.0.2.), a name, or `.name` for all names
//!   below it. Names are the client's in the DNS, and count only if they lead back to its address. The DNS is asked only if the
//!   file has names in it, once for all plugins.
//! - `plugin/key=value` is what `key value` would be on that plugin's line, and wins over it. `plugin/active=0` switches the plugin off.
//!   A plugin may be named by an older name, and `plugin:1/...` means that instance alone.
//! - Every line that matches counts; if two set the same key, the later one.
//!
//! What is set stands for the session; the record names this file's line. A plugin that is not in the chain is passed over.
//!
//! Errors: a line that cannot be understood, and a setting that its plugin does not take, are this plugin's error, and the
//! client is told to come again; `postern check` names each. If the DNS cannot say who the client is (SERVFAIL, time over), lines with names do
//! not match, and the record says so.

use std::net::IpAddr;
use std::ops::ControlFlow;

use serde::Deserialize;

use super::shared::network::Network;
use super::shared::{names, place};
use crate::config::{ConfigDir, ConfigError, Settings};
use crate::hook::{Answer, Change, Connect, Entry, Hook, Override, Plugin, Role, Ruling};
use crate::smtp::address::Domain;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    asks_dns: true,
    role: Role::Configures,
    ..Entry::plugin("client_options", &[Hook::Connect], crate::manual!("client_options.rs"), build).without_settings()
};

const NAME: &str = "client_options";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn build(settings: Settings, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let Nothing {} = settings.read()?;
    Ok(Box::new(ClientOptions { world: world.clone() }))
}

struct ClientOptions {
    world: World,
}

/// Which clients a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Network(Network),
    /// In small letters and A-labels; a suffix with its dot.
    Name(String),
}

/// One line.
#[derive(Clone, Debug)]
struct Line {
    pattern: Pattern,
    settings: Vec<Override>,
}

impl Plugin for ClientOptions {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        let Some(ip) = at.session.connection.remote_ip else {
            return Ok(Ruling::skip("no client address"));
        };
        let lines = read(&self.world.config)?;
        let mut ruling = Ruling::decline();
        let named = lines.iter().any(|line| matches!(line.pattern, Pattern::Name(_)));
        let mut confirmed = Vec::new();
        if named {
            let found = names::of_client(&self.world, at.session, ip);
            if let Some(why) = &found.unknown {
                ruling = ruling.because(format!("its name is not known: {why}"));
            }
            confirmed.clone_from(&found.names.confirmed);
            ruling = ruling.change(Change::NoteNames(found.names));
        }
        for line in lines.into_iter().filter(|line| line.pattern.matches(ip, &confirmed)) {
            let first = line.settings.first().map(|setting| setting.origin.clone()).unwrap_or_default();
            let told: Vec<String> = line
                .settings
                .iter()
                .map(|setting| format!("{}/{}={}", setting.plugin, setting.key, setting.value))
                .collect();
            ruling = ruling.because(format!("{first}: {}", told.join(", ")));
            ruling =
                line.settings.into_iter().fold(ruling, |ruling, setting| ruling.change(Change::Configure(setting)));
        }
        Ok(ruling)
    }

    fn check(&mut self) -> Vec<String> {
        match read(&self.world.config) {
            Ok(_) => Vec::new(),
            Err(error) => error.all().iter().map(ToString::to_string).collect(),
        }
    }

    fn overrides(&self) -> Vec<Override> {
        read(&self.world.config)
            .map(|lines| lines.into_iter().flat_map(|line| line.settings).collect())
            .unwrap_or_default()
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let network = Network::parse(text);
        let name = text.strip_prefix('.').unwrap_or(text);
        // 192.0.2. is the beginning of an address, and 192.0.2 a slip of the pen.
        let looks_named =
            name.bytes().any(|octet| octet.is_ascii_alphabetic() || !octet.is_ascii()) && !name.contains([':', '/']);
        match (network, Domain::parse(name)) {
            (Ok(network), _) => Ok(Self::Network(network)),
            (Err(_), Ok(domain)) if looks_named => {
                let dot = if name.len() < text.len() { "." } else { "" };
                Ok(Self::Name(format!("{dot}{}", domain.ascii())))
            }
            (Err(fault), _) => Err(format!("{fault}; or a name, or .name")),
        }
    }

    fn matches(&self, ip: IpAddr, names: &[String]) -> bool {
        match self {
            Self::Network(network) => network.contains(ip),
            Self::Name(suffix) if suffix.starts_with('.') => names.iter().any(|name| name.ends_with(suffix)),
            Self::Name(wanted) => names.contains(wanted),
        }
    }
}

fn read(config: &ConfigDir) -> Result<Vec<Line>, ConfigError> {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    config.each(NAME, &mut |text, file, line| {
        match parse(text, &place(file, line)) {
            Ok(parsed) => lines.push(parsed),
            Err(fault) => faults.push(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Continue(())
    })?;
    ConfigError::from_many(faults).map_or(Ok(lines), Err)
}

fn parse(text: &str, origin: &str) -> Result<Line, String> {
    const FORM: &str = "write PATTERN: plugin/key=value, plugin/key=value";
    // The colon that ends the pattern has a blank after it; those of an IPv6 address have none.
    let (pattern, settings) = text.split_once(": ").or_else(|| text.split_once(":\t")).ok_or(FORM)?;
    let pattern = Pattern::parse(pattern.trim_ascii())?;
    let mut parsed = Vec::new();
    for setting in settings.split(',').map(str::trim_ascii) {
        let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting:?}: {FORM}"))?;
        let (plugin, key) = name.trim_ascii().rsplit_once('/').ok_or_else(|| format!("{setting:?}: {FORM}"))?;
        let (value, key) = (value.trim_ascii(), key.trim_ascii());
        if plugin.is_empty() || key.is_empty() || value.is_empty() {
            return Err(format!("{setting:?}: {FORM}"));
        }
        let wanted = Override { plugin: plugin.into(), key: key.into(), value: value.into(), origin: origin.into() };
        if wanted.is_switch() && !matches!(value, "0" | "no" | "off" | "false" | "1" | "yes" | "on" | "true") {
            return Err(format!("{setting:?}: active is 0 or 1"));
        }
        parsed.push(wanted);
    }
    Ok(Line { pattern, settings: parsed })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::shared::fixture;
    use super::*;
    use crate::world::FakeDns;

    const FILE: &str = "192.0.2.1: greylisting/active=0\n2001:db8::/32: greylisting/black_timeout=60, dnsbl/reject=0\n\
                        mail.far.example: greylisting/active=0\n.far.example: helo/policy=lenient\n\
                        MÜLLER.example: ident/p0f/active=0\n";

    /// What is set for a client.
    fn set(world: &World, ip: &str) -> String {
        let mut session = fixture::session(Some(ip));
        let mut plugin = fixture::build(&ENTRY, "client_options", world).unwrap();
        let ruling = plugin.connect(&Connect { session: &mut session, line: &fixture::Silent }).unwrap();
        let told = ruling.changes.iter().filter_map(|change| match change {
            Change::Configure(wanted) => Some(format!("{}/{}={}", wanted.plugin, wanted.key, wanted.value)),
            _ => None,
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_address_network_and_proved_name() {
        let (mut world, _dir) = fixture::world(&[(NAME, FILE)]);
        world.dns = Rc::new(
            FakeDns::default()
                .ptr("192.0.2.7", &["Mail.far.example"])
                .a("mail.far.example", &["192.0.2.7"])
                .ptr("192.0.2.8", &["mail.far.example"])
                .ptr("192.0.2.9", &["xn--mller-kva.example"])
                .a("xn--mller-kva.example", &["192.0.2.9"]),
        );
        let table = [
            ("192.0.2.1", "greylisting/active=0"),
            ("192.0.2.2", ""),
            ("2001:db8::25", "greylisting/black_timeout=60 dnsbl/reject=0"),
            ("192.0.2.7", "greylisting/active=0 helo/policy=lenient"),
            // Its name does not lead back to it.
            ("192.0.2.8", ""),
            ("192.0.2.9", "ident/p0f/active=0"),
        ];
        for (ip, expected) in table {
            assert_eq!(set(&world, ip), expected, "{ip}");
        }
    }

    #[test]
    fn without_names_the_dns_is_not_asked() {
        let (mut world, _dir) = fixture::world(&[(NAME, "192.0.2.1: greylisting/active=0\n")]);
        let dns = Rc::new(FakeDns::default());
        world.dns = Rc::clone(&dns) as _;
        assert_eq!(set(&world, "192.0.2.1"), "greylisting/active=0");
        assert_eq!(dns.asked(), []);
    }

    #[test]
    fn every_line_that_cannot_be_used_is_named() {
        let wrong = [
            "192.0.2.1",
            "192.0.2.1 greylisting/active=0",
            "192.0.2: greylisting/active=0",
            "192.0.2.0/33: greylisting/active=0",
            "a..b: greylisting/active=0",
            "192.0.2.1: greylisting",
            "192.0.2.1: greylisting/active",
            "192.0.2.1: active=0",
            "192.0.2.1: greylisting/active=never",
            "192.0.2.1: greylisting/active=0,",
        ];
        let (world, _dir) = fixture::world(&[(NAME, &wrong.join("\n"))]);
        let faults = fixture::build(&ENTRY, NAME, &world).unwrap().check();
        assert_eq!(faults.len(), wrong.len(), "{faults:#?}");
    }
}
