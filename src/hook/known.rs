//! What plugins find out about a client and leave for others: values that stay for the session.

use super::Hook;
use super::ruling::Denial;

/// A client that some plugin found bad and did not refuse itself (`reject naughty`).
#[derive(Clone, Debug)]
pub struct Naughty {
    /// How it is to be refused.
    pub denial: Denial,
    /// The plugin.
    pub by: String,
}

/// A refusal that waits for a recipient (plugin `delay_deny`).
#[derive(Clone, Debug)]
pub struct Delayed {
    /// The refusal.
    pub denial: Denial,
    /// The plugin.
    pub by: String,
    /// Where it was ruled.
    pub hook: Hook,
    /// What it rests on.
    pub evidence: Vec<String>,
    /// Whether relaying and whitelisted clients are none of that plugin's business: who becomes one later is spared.
    pub spares_immune: bool,
}

/// The client's names in the DNS (plugin `fcrdns`), without a final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientNames {
    /// What its address points to.
    pub reverse: Vec<String>,
    /// Those of them that lead back to the address.
    pub confirmed: Vec<String>,
}

/// Where the client's address is (plugin `ident/geoip`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientPlace {
    /// ISO 3166 code of the country: "DE".
    pub country: Option<String>,
    /// The country's name in English.
    pub country_name: Option<String>,
    /// Code of the continent: "EU".
    pub continent: Option<String>,
    /// The city's name in English.
    pub city: Option<String>,
    /// The number of the autonomous system.
    pub asn: Option<u32>,
    /// Kilometres from where we are.
    pub distance_km: Option<f64>,
}

/// What the client runs on, by its packets (plugin `ident/p0f`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSystem {
    /// The system: "Linux", "Windows".
    pub genre: String,
    /// Its version: "3.11 and newer".
    pub detail: String,
    /// The kind of link: "Ethernet or modem".
    pub link: String,
    /// Routers between us.
    pub distance: Option<u32>,
    /// Minutes since it was started.
    pub uptime_minutes: Option<u64>,
}

/// A setting of a plugin for this session alone (plugin `client_options`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The plugin, by any name that a line may use; with `:N` that instance only.
    pub plugin: String,
    /// The setting; `active` switches the plugin off (0).
    pub key: String,
    /// Its value.
    pub value: String,
    /// Who says so: "client_options line 3".
    pub origin: String,
}

impl Override {
    /// Whether it switches the plugin on or off as a whole.
    pub fn is_switch(&self) -> bool {
        self.key == "active"
    }

    /// Whether it switches it off.
    pub fn is_off(&self) -> bool {
        self.is_switch() && matches!(self.value.as_str(), "0" | "no" | "off" | "false")
    }
}
