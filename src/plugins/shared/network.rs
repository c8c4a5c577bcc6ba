//! Networks as `relayclients` writes them, and the search for an address in such a list.
//!
//! ```text
//! 192.0.2.1              one address
//! 192.0.2.               every address that begins so; also 192.0. and 192.
//! 192.0.2.0/24           a network; its first and last address belong to it
//! 2001:db8::1            one address
//! 2001:db8:              every address that begins so, in groups; qpsmtpd's sample writes 2001:DB8 for it
//! 2001:db8::/32          a network
//! ```

use std::net::{IpAddr, Ipv6Addr};
use std::ops::ControlFlow;

use super::place;
use crate::config::{ConfigDir, ConfigError};

/// A block of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Network {
    /// The address's bits, at the top of the number; those beyond `length` are 0.
    bits: u128,
    length: u32,
    v6: bool,
}

impl Network {
    /// Reads one line. The error says how it could be written.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        if let Some((address, length)) = text.split_once('/') {
            return Self::cidr(address, length).ok_or_else(|| {
                format!("{text:?} is no network: write 192.0.2.0/24, with at most 32 (IPv6: 128) after the slash")
            });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            // An address with zeros at its end, or a network whose length was forgotten: too much hangs on it to guess.
            if text.ends_with("::") {
                return Err(format!(
                    "{text:?} could be an address or a network: write {text}/64, or {text}0 for the address"
                ));
            }
            return Ok(Self::of(ip.to_canonical(), 128));
        }
        Self::beginning(text).ok_or_else(|| {
            format!("{text:?} is no address, no beginning of one (192.0.2. or 2001:db8:) and no network (192.0.2.0/24)")
        })
    }

    /// Whether an address belongs to it. An IPv4 address mapped into IPv6 is that IPv4 address.
    pub(in super::super) fn contains(&self, ip: IpAddr) -> bool {
        let other = Self::of(ip.to_canonical(), 128);
        other.v6 == self.v6 && (other.bits ^ self.bits) & mask(self.length) == 0
    }

    /// The first `length` bits of an address; more than it has are all of them.
    fn of(ip: IpAddr, length: u32) -> Self {
        let (bits, most, v6) = match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32, false),
            IpAddr::V6(ip) => (ip.to_bits(), 128, true),
        };
        let length = length.min(most);
        Self { bits: bits & mask(length), length, v6 }
    }

    /// RFC 4632 §3.1. Bits beyond the length may be set: 192.0.2.1/24 is 192.0.2.0/24.
    fn cidr(address: &str, length: &str) -> Option<Self> {
        let ip: IpAddr = address.parse().ok()?;
        // `parse` alone would take a sign.
        let digits = (1..=3).contains(&length.len()) && length.bytes().all(|octet| octet.is_ascii_digit());
        let length: u32 = length.parse().ok().filter(|_| digits)?;
        match (ip, ip.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if (96..=128).contains(&length) => {
                Some(Self::of(mapped.into(), length - 96))
            }
            // A block of addresses that no client has.
            (IpAddr::V6(_), IpAddr::V4(_)) => None,
            (IpAddr::V4(_), _) if length > 32 => None,
            _ if length > 128 => None,
            _ => Some(Self::of(ip, length)),
        }
    }

    /// Whole octets, each with its dot, or whole groups, the last with or without its colon.
    fn beginning(text: &str) -> Option<Self> {
        if let Some(octets) = text.strip_suffix('.') {
            let octets: Vec<&str> = octets.split('.').collect();
            let missing = 4_usize.checked_sub(octets.len()).filter(|missing| *missing > 0)?;
            let whole = format!("{}{}", octets.join("."), ".0".repeat(missing));
            let IpAddr::V4(ip) = whole.parse().ok()? else { return None };
            return Some(Self::of(ip.into(), 32 - 8 * missing as u32));
        }
        let groups = text.strip_suffix(':').unwrap_or(text);
        let count = groups.split(':').count();
        let is_group =
            |group: &str| (1..=4).contains(&group.len()) && group.bytes().all(|octet| octet.is_ascii_hexdigit());
        // One group without a colon could be anything.
        if count > 7 || !text.contains(':') || !groups.split(':').all(is_group) {
            return None;
        }
        let whole: Ipv6Addr = format!("{groups}::").parse().ok()?;
        Some(Self::of(whole.into(), 16 * count as u32))
    }
}

/// The network around an address that is taken for one sender: 192.0.2.0/24, 2001:db8:0:1::/64.
pub(in super::super) fn around(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(ip) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

fn mask(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

/// The first line of a list with one of these addresses in it, as evidence: "relayclients line 3: 192.0.2.0/24".
/// Nothing is kept, for a connection asks once. A line before it that cannot be understood is an error.
pub(in super::super) fn find(config: &ConfigDir, name: &str, ips: &[IpAddr]) -> Result<Option<String>, ConfigError> {
    let mut outcome = Ok(None);
    config.each(name, &mut |text, file, line| {
        match Network::parse(text) {
            Ok(network) if ips.iter().any(|ip| network.contains(*ip)) => {
                outcome = Ok(Some(format!("{}: {text}", place(file, line))));
            }
            Ok(_) => return ControlFlow::Continue(()),
            Err(fault) => outcome = Err(ConfigError::at(file, line, fault)),
        }
        ControlFlow::Break(())
    })?;
    outcome
}

/// What is wrong with a list, a line a fault.
pub(in super::super) fn faults(config: &ConfigDir, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let read = config.each(name, &mut |text, file, line| {
        if let Err(fault) = Network::parse(text) {
            faults.push(ConfigError::at(file, line, fault).to_string());
        }
        ControlFlow::Continue(())
    });
    faults.extend(read.err().map(|error| error.to_string()));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contains(text: &str, ip: &str) -> bool {
        Network::parse(text).unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_first_and_last_address_and_none_beyond() {
        let table = [
            ("0.0.0.0/0", "0.0.0.0", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("::/0", "192.0.2.1", false),
            // qpsmtpd's CIDR test leaves out both ends.
            ("192.0.2.0/24", "192.0.2.0", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.1.255", false),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.77/24", "192.0.2.1", true),
            ("192.0.2.4/32", "192.0.2.4", true),
            ("192.0.2.4/32", "192.0.2.5", false),
            ("192.0.2.4/31", "192.0.2.5", true),
            ("192.0.2.4/31", "192.0.2.6", false),
            ("2001:db8::/32", "2001:db8::", true),
            ("2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("2001:db8::/32", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("2001:db8::1/128", "2001:db8::1", true),
            ("2001:db8::1/128", "2001:db8::2", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.10", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.255", true),
            ("::ffff:192.0.2.0/120", "192.0.3.0", false),
            ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1", true),
            ("192.0.2.", "192.0.2.0", true),
            ("192.0.2.", "192.0.2.255", true),
            ("192.0.2.", "192.0.20.1", false),
            ("192.", "192.255.0.1", true),
            ("192.", "19.2.0.1", false),
            ("2001:db8:", "2001:db8::1", true),
            ("2001:db8:", "2001:db80::1", false),
            ("2001:DB8", "2001:db8:1::", true),
            ("2001:DB8", "2001:db80::", false),
            ("fdda:b13d:e431:ae06:", "fdda:b13d:e431:ae06:a1::", true),
            ("fdda:b13d:e431:ae06:", "fdda:b13d:e431:ae07::", false),
            ("2001:", "2001::1", true),
        ];
        for (network, ip, inside) in table {
            assert_eq!(contains(network, ip), inside, "{ip} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        let table = [
            "",
            ".",
            ":",
            "::",
            "/",
            "/24",
            "192.0.2.0/",
            "192.0.2.0/33",
            "192.0.2.0/+8",
            "192.0.2.0/0024",
            "192.0.2.0/255.255.255.0",
            "2001:db8::/129",
            "192.0.2",
            "192",
            "192.0.2.1.",
            "192..",
            "256.",
            "192.0.2.1 ",
            "here.example",
            ".here.example",
            "localhost",
            "2001:db8::",
            "2001",
            "2001:db8::1:",
            "12345:",
            "fe80::1%eth0",
            "[::1]",
            "0x7f.1",
            "010.0.0.1",
            "::ffff:0:0/90",
            "1:2:3:4:5:6:7:8:",
            "*",
        ];
        for text in table {
            let fault = Network::parse(text).expect_err(text);
            assert!(fault.starts_with(&format!("{text:?}")), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(text in ".{0,40}") {
            let _ = Network::parse(&text);
        }

        #[test]
        fn a_network_is_the_addresses_whose_first_bits_agree(ip: u32, other: u32, length in 0_u32..=32) {
            let (ip, other) = (std::net::Ipv4Addr::from_bits(ip), std::net::Ipv4Addr::from_bits(other));
            let same = (0..length).all(|bit| (ip.to_bits() ^ other.to_bits()) >> (31 - bit) & 1 == 0);
            let network = Network::parse(&format!("{ip}/{length}")).unwrap();
            prop_assert_eq!(network.contains(other.into()), same);
            prop_assert!(network.contains(ip.into()));
        }
    }
}
