//! The machine and the process that we are: name, process id, environment.

use std::ffi::OsString;

use nix::unistd::{Uid, User};

/// What the machine and our launcher say of us.
pub trait Host {
    /// The machine's name (gethostname(2)); `localhost` if it has none that could be shown.
    fn name(&self) -> String;
    /// Our process id.
    fn pid(&self) -> u32;
    /// A variable of our environment. Set to nothing is taken as not set.
    fn variable(&self, name: &str) -> Option<OsString>;
}

/// This machine and this process.
#[derive(Debug)]
pub struct RealHost;

impl Host for RealHost {
    fn name(&self) -> String {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }
}

/// Our effective user's name, or its number.
pub fn user_name() -> String {
    let id = Uid::effective();
    User::from_uid(id).ok().flatten().map_or_else(|| format!("user {id}"), |user| user.name)
}

/// A machine that is made up. For tests and replays.
#[derive(Debug)]
pub struct FakeHost {
    name: String,
    variables: Vec<(String, OsString)>,
}

/// `host.example`, with an empty environment.
impl Default for FakeHost {
    fn default() -> Self {
        Self::new("host.example")
    }
}

impl FakeHost {
    /// A machine of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), variables: Vec::new() }
    }

    /// Sets one more variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }
}

impl Host for FakeHost {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pid(&self) -> u32 {
        3999
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }
}
