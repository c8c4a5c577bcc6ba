//! `config/dns`: which resolver the plugins' questions go to, and how long its answers are waited for.
//!
//! One setting a line, each `KEY VALUE`; without the file the resolver is that of `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{ConfigDir, ConfigError, Entry, Fault, nearest};

const KEYS: [&str; 6] = ["server", "timeout", "attempts", "total", "tcp_only", "mixed_case"];
/// Servers that one file may name.
const SERVERS_MAX: usize = 8;
const PORT: u16 = 53;

/// What `config/dns` says.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsSettings {
    /// `server ADDRESS[:PORT]`, once for each, asked in this order. Empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// `timeout`: seconds to wait for one server's answer. None: as `/etc/resolv.conf` says, but at most 3.
    pub timeout: Option<Duration>,
    /// `attempts`: how often each server is asked. None: as `/etc/resolv.conf` says.
    pub attempts: Option<u32>,
    /// `total`: seconds to wait for all that a plugin asks at once. Default 8.
    pub total: Duration,
    /// `tcp_only 1`: never ask by UDP.
    pub tcp_only: bool,
    /// `mixed_case 0`: do not mix the case of names, for a resolver that does not give it back as it was
    /// (draft-vixie-dnsext-dns0x20).
    pub mixed_case: bool,
}

impl Default for DnsSettings {
    fn default() -> Self {
        let total = Duration::from_secs(8);
        Self { servers: Vec::new(), timeout: None, attempts: None, total, tcp_only: false, mixed_case: true }
    }
}

impl DnsSettings {
    /// Reads the file; the defaults if there is none.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn read(dir: &ConfigDir) -> Result<Self, Vec<ConfigError>> {
        let lines = dir.list("dns").map_err(|error| vec![error])?;
        let (mut settings, mut faults) = (Self::default(), Vec::new());
        let mut said: Vec<&str> = Vec::new();
        for line in &lines {
            if let Err(fault) = settings.line(line, &mut said) {
                faults.push(line.error(fault));
            }
        }
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }

    fn line<'a>(&mut self, line: &'a Entry, said: &mut Vec<&'a str>) -> Result<(), Fault> {
        let mut words = line.text.split_ascii_whitespace();
        let key = words.next().unwrap_or_default();
        if !KEYS.contains(&key) {
            let nearest = nearest(key, KEYS.into_iter()).map(str::to_owned);
            return Err(Fault::UnknownSetting { key: key.to_owned(), nearest });
        }
        let (Some(value), None) = (words.next(), words.next()) else {
            return Err(format!("{key} takes one word").into());
        };
        if key != "server" && said.contains(&key) {
            return Err(format!("{key} is said twice").into());
        }
        said.push(key);
        match key {
            "server" if self.servers.len() == SERVERS_MAX => {
                return Err(format!("more than {SERVERS_MAX} servers").into());
            }
            "server" => self.servers.push(server(value)?),
            "timeout" => self.timeout = Some(seconds(value)?),
            "total" => self.total = seconds(value)?,
            "attempts" => self.attempts = Some(number(value, 1, 5)?),
            "tcp_only" => self.tcp_only = number(value, 0, 1)? == 1,
            _ => self.mixed_case = number(value, 0, 1)? == 1,
        }
        Ok(())
    }
}

/// `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`.
fn server(text: &str) -> Result<SocketAddr, Fault> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    alone
        .or_else(|_| text.parse::<SocketAddr>())
        .ok()
        .filter(|server| server.port() > 0)
        .ok_or_else(|| Fault::bad_value(text, "an address, or an address and port"))
}

fn seconds(text: &str) -> Result<Duration, Fault> {
    let number = text.parse::<f64>().ok().filter(|number| (0.1..=60.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| Fault::bad_value(text, "a number of seconds between 0.1 and 60"))
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, Fault> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Fault::bad_value(text, format!("a whole number between {least} and {most}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    fn read(text: &str) -> Result<DnsSettings, Vec<String>> {
        let scratch = Scratch::new(&[("dns", text)]);
        let cut = |faults: Vec<ConfigError>| faults.iter().map(|fault| scratch.cut(fault)).collect();
        DnsSettings::read(&scratch.open()).map_err(cut)
    }

    #[test]
    fn without_a_file_or_a_live_line_all_is_default() {
        assert_eq!(DnsSettings::read(&Scratch::new(&[]).open()).unwrap(), DnsSettings::default());
        assert_eq!(read("# server 127.0.0.1\n\n").unwrap(), DnsSettings::default());
    }

    #[test]
    fn all_settings() {
        let text =
            "# two\nserver 127.0.0.1\nserver [::1]:5353\ntimeout 0.5\nattempts 1\ntotal 3\ntcp_only 1\nmixed_case 0\n";
        let want = DnsSettings {
            servers: vec!["127.0.0.1:53".parse().unwrap(), "[::1]:5353".parse().unwrap()],
            timeout: Some(Duration::from_millis(500)),
            attempts: Some(1),
            total: Duration::from_secs(3),
            tcp_only: true,
            mixed_case: false,
        };
        assert_eq!(read(text).unwrap(), want);
    }

    #[test]
    fn faults() {
        let table = [
            ("server ns.example", "\"ns.example\" is not an address, or an address and port"),
            ("server 127.0.0.1:0", "\"127.0.0.1:0\" is not an address, or an address and port"),
            ("server 127.0.0.1 53", "server takes one word"),
            ("server", "server takes one word"),
            ("servr 127.0.0.1", "unknown setting \"servr\" (did you mean \"server\"?)"),
            ("timeout 0", "\"0\" is not a number of seconds between 0.1 and 60"),
            ("timeout NaN", "\"NaN\" is not a number of seconds between 0.1 and 60"),
            ("total inf", "\"inf\" is not a number of seconds between 0.1 and 60"),
            ("attempts 6", "\"6\" is not a whole number between 1 and 5"),
            ("tcp_only yes", "\"yes\" is not a whole number between 0 and 1"),
        ];
        for (line, want) in table {
            assert_eq!(read(&format!("\n{line}\n")).unwrap_err(), [format!("DIR/dns line 2: {want}")]);
        }
        let both = read("timeout 1\ntimeout 2\nattempts x\n").unwrap_err();
        assert_eq!(both[0], "DIR/dns line 2: timeout is said twice");
        assert_eq!(both.len(), 2, "{both:?}");
        assert_eq!(read(&"server ::1\n".repeat(9)).unwrap_err(), ["DIR/dns line 9: more than 8 servers"]);
    }
}
