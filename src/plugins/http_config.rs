//! Fetches the core's settings from a web server, so that many hosts have one configuration.
//!
//! ```text
//! http_config http://config.example/postern/
//! http_config http://10.0.0.1/get?host=mx1&name=%n http://10.0.0.2/get?host=mx1&name=%n names me,databytes
//! ```
//! - `urls`, or the first words of the line (none): where to ask, in this order. `%n` in a URL is the setting's name; without it the name is put
//!   at the end; a comma is written `%2C`. Only `http`: TLS is not spoken yet, so ask hosts that nobody else can pretend to be.
//! - `names` (with commas between; none: all): which settings are asked for. Each is a request of its own, at the beginning of each session, some
//!   twenty for all: name those that you keep there.
//! - `timeout` (seconds, parts of one too, up to 30; 3): for all requests of a session together.
//! - `octets_max` (65536): of one answer.
//!
//! Answers: `200` with a text in UTF-8 is the setting's file, with lines and comments as in one; it stands instead of the file in the
//! configuration directory. An empty one means that the setting is not set, whatever the file says. `204` means the same. `404` and
//! `410`: it is not here; the next URL is asked, and in the end the file counts. What was found is kept for the session.
//!
//! Settings are values of the core (`me`, `databytes`, `timeout`, ...; `postern config` shows them). The chain (`plugins`) and the lists that
//! plugins read (`rcpthosts`, ...) always come from files.
//!
//! Errors: no answer in time, another status (a redirection too), an answer that is too long, cut short or no text. The next URL is
//! asked for all that follows in this session; if there is none, no session begins (`421`), for with half of its settings it might
//! do what it must not. With `on_error decline` the files count. A value that the core does not understand is the same fault as in a
//! file.
//!
//! Differs from qpsmtpd, where any failure means that there is no such setting, and each is waited for as long as the system likes.

mod get;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use self::get::{Url, get};
use crate::config::{ConfigError, Settings as Given};
use crate::hook::{Entry, Hook, Plugin, Trouble};
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry::plugin("http_config", &[Hook::Config], crate::manual!("http_config.rs"), build);

const TIMEOUT_MAX_S: f64 = 30.0;
/// Far more than any value of the core has.
const OCTETS_LIMIT: usize = 1 << 20;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    urls: Vec<String>,
    /// Empty: all.
    names: Vec<String>,
    /// Seconds.
    timeout: f64,
    octets_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { urls: Vec::new(), names: Vec::new(), timeout: 3.0, octets_max: 64 << 10 }
    }
}

fn build(mut given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    while given.words().first().is_some_and(|word| word.contains("://")) {
        let url = given.take_first().unwrap_or_default();
        given.set("urls", url);
    }
    given.repeatable("urls");
    given.repeatable("names");
    let origin = given.origin().clone();
    let settings: Settings = given.read()?;
    let fault = |text: String| origin.error(text).of_plugin(ENTRY.name);
    if !(settings.timeout > 0.0 && settings.timeout <= TIMEOUT_MAX_S) {
        return Err(fault(format!("timeout {} is not more than 0 and at most {TIMEOUT_MAX_S}", settings.timeout)));
    }
    if !(1..=OCTETS_LIMIT).contains(&settings.octets_max) {
        return Err(fault(format!("octets_max {} is not between 1 and {OCTETS_LIMIT}", settings.octets_max)));
    }
    let urls: Result<Vec<Url>, String> = settings.urls.iter().map(|url| Url::parse(url)).collect();
    Ok(Box::new(HttpConfig {
        urls: urls.map_err(fault)?,
        left: Duration::from_secs_f64(settings.timeout),
        settings,
        world: world.clone(),
        down: None,
        known: BTreeMap::new(),
    }))
}

/// A setting's live lines, if it is there.
type Found = Option<Vec<String>>;

struct HttpConfig {
    world: World,
    settings: Settings,
    /// Those that are still asked.
    urls: Vec<Url>,
    /// Time that is left in this session.
    left: Duration,
    /// Why the last of the URLs is not asked any more.
    down: Option<String>,
    known: BTreeMap<String, Found>,
}

impl HttpConfig {
    /// Asks the URLs that have not failed yet, in their order.
    fn fetch(&mut self, name: &str) -> Result<Found, Trouble> {
        let mut at = 0;
        while let Some(url) = self.urls.get(at) {
            let begun = self.world.clock.instant();
            let answer = self.world.within(self.left, || get(&*self.world.net, url, name, self.settings.octets_max));
            self.left = self.left.saturating_sub(self.world.clock.instant() - begun);
            match answer {
                Ok(Some(text)) => return Ok(Some(live_lines(&text))),
                Ok(None) => at += 1,
                // It would fail again, and take its time.
                Err(fault) => {
                    let url = self.urls.remove(at);
                    self.down = Some(format!("{}: {fault}", url.asked(name)));
                }
            }
        }
        // What one does not have, another that is down may.
        self.down.as_ref().map_or(Ok(None), |fault| Err(Trouble::new(fault.clone())))
    }
}

fn live_lines(text: &str) -> Vec<String> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

impl Plugin for HttpConfig {
    fn config(&mut self, name: &str) -> Result<Found, Trouble> {
        let names = &self.settings.names;
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            return Ok(None);
        }
        if let Some(found) = self.known.get(name) {
            return Ok(found.clone());
        }
        let found = self.fetch(name)?;
        self.known.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    fn check(&mut self) -> Vec<String> {
        if self.urls.is_empty() {
            return vec![String::from("it has no URL: no setting is ever fetched")];
        }
        let name = self.settings.names.first().map_or("me", String::as_str).to_owned();
        let failed = |url: &Url| {
            let time = Duration::from_secs_f64(self.settings.timeout);
            let answer = self.world.within(time, || get(&*self.world.net, url, &name, self.settings.octets_max));
            answer.err().map(|fault| format!("{}: {fault}", url.asked(&name)))
        };
        self.urls.iter().filter_map(failed).collect()
    }
}

#[cfg(test)]
#[path = "http_config/tests.rs"]
mod tests;
