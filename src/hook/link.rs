//! One line of `config/plugins` at work: the plugin, and what the chain does for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Answer, Entry, Hook, HookSet, Override, Plugin, Trouble};
use crate::config::{ConfigError, same_name};
use crate::sys::watchdog;
use crate::world::World;

/// How far a plugin may overrun its budget outside the world's calls before the process ends.
const OVERRUN: Duration = Duration::from_secs(5);

/// A call that stops at its deadline comes back this much later, and that is in time.
const TOLERATED_LATE: Duration = Duration::from_millis(200);

/// What a plugin's error or panic leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The command is refused transiently.
    #[default]
    Defer,
    /// As if the plugin had no opinion.
    Decline,
}

/// What every line may say, whatever its plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// Shadow mode: denials are recorded and withheld.
    pub observe: bool,
    /// What an error leads to.
    pub on_error: OnError,
    /// Time for one call.
    pub budget: Duration,
}

impl Default for Standard {
    fn default() -> Self {
        Self { observe: false, on_error: OnError::Defer, budget: Duration::from_secs(30) }
    }
}

/// Builds a line's plugin again, with some settings otherwise.
pub type Remake = Box<dyn Fn(&[Override], &World) -> Result<(Standard, Box<dyn Plugin>), ConfigError>>;

/// A plugin in the chain.
pub struct Link {
    /// The plugin's name, with `:N` for a further instance.
    pub name: Rc<str>,
    /// Where its line stands: "config/plugins line 7".
    pub origin: Rc<str>,
    /// When it is asked.
    pub hooks: HookSet,
    /// What the catalogue knows of it.
    pub entry: &'static Entry,
    /// What the line says beside the plugin's own settings.
    pub standard: Standard,
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// How it is built again; only where a plugin of the chain may ask for it.
    pub remake: Option<Remake>,
    /// Why it is switched off for this session.
    pub off: Option<String>,
    /// It panicked: not asked again in this session, and whatever it would be asked is trouble. It cannot be known what it would
    /// have said, and a client must not get past it by making it panic first.
    pub broken: bool,
}

impl Link {
    /// Whether this name means it: the plugin's, an older one, or with `:N` this instance.
    pub fn answers_to(&self, name: &str) -> bool {
        let mut names = std::iter::once(self.entry.name).chain(self.entry.aliases.iter().copied());
        same_name(&self.name, name) || names.any(|known| same_name(known, name))
    }

    /// Takes up what a plugin of the chain sets otherwise for this session.
    ///
    /// # Errors
    /// A setting that the plugin does not have, or a value that it does not take. Then it is as it was.
    pub fn configure(&mut self, wanted: &[Override], world: &World) -> Result<(), ConfigError> {
        let (switches, settings): (Vec<_>, Vec<_>) =
            wanted.iter().filter(|wanted| self.answers_to(&wanted.plugin)).cloned().partition(Override::is_switch);
        if let Some(remake) = self.remake.as_ref().filter(|_| !settings.is_empty()) {
            (self.standard, self.plugin) = remake(&settings, world)?;
        }
        if let Some(last) = switches.last() {
            self.off = last.is_off().then(|| last.origin.clone());
        }
        Ok(())
    }

    /// Whether its word counts at this hook.
    pub fn has(&self, hook: Hook) -> bool {
        self.hooks.contains(hook)
    }

    /// Whether it is told what happens at this hook.
    pub fn wants(&self, hook: Hook) -> bool {
        self.has(hook) && !self.broken && self.off.is_none()
    }

    /// Asks the plugin, within its budget and never past `until`. A panic is trouble like any other, but its last.
    pub fn put(
        &mut self,
        world: &World,
        until: Option<Instant>,
        question: impl FnOnce(&mut dyn Plugin) -> Answer,
    ) -> Answer {
        if self.broken {
            return Err(Trouble::new("not asked: it panicked before"));
        }
        let now = world.clock.instant();
        let own = now + self.standard.budget;
        let deadline = until.map_or(own, |until| own.min(until));
        if deadline <= now {
            return Err(Trouble::new("no time left for it"));
        }
        let before = world.deadline.replace(Some(deadline));
        let plugin = &mut *self.plugin;
        let answer = {
            watchdog::name(&self.name);
            let _guard = watchdog::guard(deadline + OVERRUN);
            catch_unwind(AssertUnwindSafe(|| question(plugin)))
        };
        world.deadline.replace(before);
        let late = world.clock.instant().saturating_duration_since(deadline);
        if late > TOLERATED_LATE {
            tracing::warn!("{}: over its time by {} ms", self.name, late.as_millis());
        }
        answer.unwrap_or_else(|payload| {
            self.broken = true;
            Err(Trouble::new(format!("panic: {}", panic_text(&*payload))))
        })
    }

    /// Asks the plugin for a core setting.
    ///
    /// # Errors
    /// What kept it from answering, if its `on_error` is not to do without.
    pub fn config(&mut self, world: &World, name: &str) -> Result<Option<Vec<String>>, Trouble> {
        let mut found = None;
        let asked = self.put(world, None, |plugin| {
            found = plugin.config(name)?;
            Ok(super::Ruling::decline())
        });
        let Err(trouble) = asked else { return Ok(found) };
        tracing::error!("{}: error, at config: {name}: {trouble}", self.name);
        match self.standard.on_error {
            OnError::Defer => Err(Trouble::new(format!("{}: {name}: {trouble}", self.name))),
            OnError::Decline => Ok(None),
        }
    }

    /// Tells the plugin of an event whose answer would be ignored.
    pub fn tell(&mut self, world: &World, message: impl FnOnce(&mut dyn Plugin)) {
        let told = self.put(world, None, |plugin| {
            message(plugin);
            Ok(super::Ruling::decline())
        });
        if let Err(trouble) = told {
            tracing::error!("{}: error, {trouble}", self.name);
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}
