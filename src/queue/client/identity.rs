//! Who our client is, told to the next hop: XCLIENT and XFORWARD (Postfix's XCLIENT_README, XFORWARD_README).

use std::net::IpAddr;

use crate::hook::facts::Session;
use crate::smtp::xtext::xtext;

/// Octets of a command line without its CRLF. Postfix takes 512 with it.
const LINE_OCTETS_MAX: usize = 500;

/// Octets of a value; Postfix takes 255.
const VALUE_OCTETS_MAX: usize = 255;

/// What is not known.
const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// The command lines that tell the names that the next hop lists, NAME and ADDR last: after ADDR we may be nobody any more.
pub(super) fn lines(verb: &str, offered: &[String], session: &Session) -> Vec<String> {
    let known =
        ["PORT", "PROTO", "HELO", "IDENT", "SOURCE", "REVERSE_NAME", "LOGIN", "DESTADDR", "DESTPORT", "NAME", "ADDR"];
    let mut lines: Vec<String> = Vec::new();
    for name in known.into_iter().filter(|name| offered.iter().any(|offer| offer.eq_ignore_ascii_case(name))) {
        let word = format!(" {name}={}", value(name, session));
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= LINE_OCTETS_MAX => line.push_str(&word),
            _ => lines.push(format!("{verb}{word}")),
        }
    }
    lines
}

fn value(name: &str, session: &Session) -> String {
    let connection = &session.connection;
    let hello = session.hello.as_ref();
    let address = |ip: Option<IpAddr>| match ip {
        Some(IpAddr::V6(ip)) => Some(format!("IPV6:{ip}")),
        Some(IpAddr::V4(ip)) => Some(ip.to_string()),
        None => None,
    };
    let found = match name {
        "PORT" => connection.remote_port.map(|port| port.to_string()),
        "PROTO" => Some(if hello.is_some_and(|hello| hello.extended) { "ESMTP" } else { "SMTP" }.to_owned()),
        "HELO" => hello.map(|hello| hello.name.text().to_owned()),
        "IDENT" => Some(session.id.clone()),
        "SOURCE" => {
            let local = connection.remote_ip.is_none_or(|ip| ip.is_loopback());
            Some(if local { "LOCAL" } else { "REMOTE" }.to_owned())
        }
        "NAME" | "REVERSE_NAME" => connection.remote_host.clone(),
        "ADDR" => address(connection.remote_ip),
        "DESTADDR" => address(connection.local_ip),
        "DESTPORT" => connection.local_port.map(|port| port.to_string()),
        _ => None,
    };
    match found.map(|found| xtext(&found)) {
        Some(found) if !found.is_empty() && found.len() <= VALUE_OCTETS_MAX => found,
        _ => UNAVAILABLE.to_owned(),
    }
}
