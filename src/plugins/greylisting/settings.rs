//! The settings, in their form of today and those of old.

use serde::Deserialize;

use super::system::Condition;
use super::{ENTRY, OLD_NAME};
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::Reject;

/// Ten years.
const WHITE_TIMEOUT_MAX_S: u64 = 3650 * 86_400;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) remote_ip: bool,
    pub(super) network: bool,
    pub(super) sender: bool,
    pub(super) recipient: bool,
    /// Seconds.
    pub(super) black_timeout: u64,
    /// Seconds.
    pub(super) white_timeout: u64,
    pub(super) reject: Reject,
    pub(super) deny_late: bool,
    pub(super) per_recipient: bool,
    pub(super) by_option: bool,
    /// Names and values in turn.
    pub(super) p0f: Vec<String>,
    /// ISO 3166 codes.
    pub(super) geoip: Vec<String>,
    pub(super) mode: Option<Mode>,
    pub(super) grey_timeout: Option<String>,
    pub(super) db_dir: Option<String>,
    pub(super) nfslock: Option<String>,
    pub(super) redis: Option<String>,
    pub(super) upgrade: Option<String>,
    #[serde(rename = "loglevel")]
    pub(super) _loglevel: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            remote_ip: true,
            network: false,
            sender: false,
            recipient: false,
            black_timeout: 3000,
            white_timeout: 36 * 86_400,
            reject: Reject::Refuse,
            deny_late: false,
            per_recipient: false,
            by_option: false,
            p0f: Vec::new(),
            geoip: Vec::new(),
            mode: None,
            grey_timeout: None,
            db_dir: None,
            nfslock: None,
            redis: None,
            upgrade: None,
            _loglevel: None,
        }
    }
}

/// qpsmtpd's before 0.90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    DenySoft,
    TestOnly,
    Off,
}

impl Settings {
    /// From the line, plugins.d and the file of old, with the conditions of `p0f`.
    pub(super) fn take(mut given: Given, config: &ConfigDir) -> Result<(Self, Vec<Condition>), ConfigError> {
        for line in config.list(OLD_NAME)? {
            let Some((key, value)) = line.text.split_once(char::is_whitespace) else {
                return Err(line.error(format!("{:?}: write KEY VALUE", line.text)));
            };
            given.default_to(key, value.trim_ascii(), line.origin());
        }
        let origin = given.origin().clone();
        let settings: Self = given.read()?;
        let wrong = |fault: String| origin.error(fault).of_plugin(ENTRY.name);
        if !(settings.remote_ip || settings.network || settings.sender || settings.recipient) {
            return Err(wrong("remote_ip, network, sender and recipient are all 0: all mail would be one".to_owned()));
        }
        let (black, white) = (settings.black_timeout, settings.white_timeout);
        if white > WHITE_TIMEOUT_MAX_S {
            return Err(wrong(format!("white_timeout {white} is more than ten years")));
        }
        if black >= white {
            return Err(wrong(format!(
                "black_timeout {black} is not below white_timeout {white}: no mail would ever pass"
            )));
        }
        let conditions = settings.p0f.chunks(2).map(Condition::parse).collect::<Result<_, String>>().map_err(wrong)?;
        Ok((settings, conditions))
    }

    /// What of them is of old, for `check`.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.grey_timeout.is_some() {
            notes.push(
                "grey_timeout is without effect: who does not come again is forgotten after white_timeout".into(),
            );
        }
        let places = [&self.db_dir, &self.nfslock, &self.redis, &self.upgrade];
        if places.into_iter().any(Option::is_some) {
            let text = "db_dir, nfslock, redis and upgrade are without effect: config/store says where the greylist is, \
                        and postern store import --from-qpsmtpd greylisting brings the old one over";
            notes.push(text.into());
        }
        if let Some(mode) = self.mode {
            let means = match mode {
                Mode::DenySoft => "reject 1",
                Mode::TestOnly => "reject 0",
                Mode::Off => "no such line",
            };
            notes.push(format!("mode is the old form of reject: here {means}"));
        }
        notes
    }
}
