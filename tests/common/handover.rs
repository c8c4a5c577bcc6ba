//! What every backend's test hands over, and how it looks at what came of it.

use std::fs;

use super::play::Outcome;
use super::replies::{self, Reply};
use super::room::Room;

/// Messages that a careless hand-over changes: dots, long lines, 8-bit, no header, no line end but the last.
pub fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("dots", b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n...\r\n\r\n.\r\n".to_vec()),
        ("long lines", format!("Subject: long\r\n\r\n{}\r\n{}\r\n", "x".repeat(990), ".".repeat(990)).into_bytes()),
        ("8-bit", b"Subject: 8-bit\r\n\r\n\xe4\xf6\xfc \xc3\xa4 \xff\xfe\r\n".to_vec()),
        ("no header", b"only a body: no, a line with a blank before its colon\r\nmore\r\n".to_vec()),
        ("empty body", b"Subject: empty\r\n\r\n".to_vec()),
        ("300 KiB", [&b"Subject: big\r\n\r\n"[..], &b".12345678901234567890\r\n".repeat(14_000)].concat()),
    ]
}

/// A session that sends one message to one recipient.
pub fn session(sender: &str, recipient: &str, message: &[u8]) -> Vec<u8> {
    let mut input =
        format!("EHLO client.example\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n").into_bytes();
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            input.push(b'.');
        }
        input.extend_from_slice(line);
    }
    input.extend_from_slice(b".\r\nQUIT\r\n");
    input
}

/// A small message that can be told from others.
pub fn marked(mark: &str) -> Vec<u8> {
    format!("Subject: {mark}\r\n\r\nbegin\r\n{}end {mark}\r\n", "line\r\n".repeat(20)).into_bytes()
}

/// Whether `stored` (LF line ends) is `sent` with nothing but further header fields.
pub fn is_whole(stored: &[u8], sent: &[u8]) -> bool {
    let sent = String::from_utf8_lossy(sent).replace("\r\n", "\n");
    let stored = String::from_utf8_lossy(stored).into_owned();
    let (header, body) = match sent.split_once("\n\n") {
        Some((header, body)) if header.starts_with("Subject:") => (header, body),
        _ => ("", &*sent),
    };
    let stored_body = stored.split_once("\n\n").map(|(_, body)| body);
    stored_body == Some(body) && header.lines().all(|line| stored.lines().any(|other| other == line))
}

/// The reply that decided about the only message.
pub fn verdict(outcome: &Outcome) -> Option<Reply> {
    let end = outcome.output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    let replies = replies::of(&outcome.output[..end]);
    replies::verdicts(&replies).into_iter().flatten().next().cloned()
}

/// As [`verdict`] of a run that came to its end; prints a row of the table.
pub fn decided(backend: &str, far_end: &str, outcome: &Outcome) -> Reply {
    let reply = verdict(outcome).unwrap_or_else(|| panic!("{far_end}: nothing decided: {outcome:?}"));
    assert!(outcome.released, "{far_end}: something holds the client's descriptor");
    eprintln!("| {backend:<10} | {far_end:<44} | {} {} |", reply.code, reply.lines[0]);
    reply
}

/// Writes a program into the room.
pub fn script(room: &Room, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = room.path("bin").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}
