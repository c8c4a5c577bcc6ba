//! What the status of cleanup and postdrop means (cleanup_user.h, cleanup_strerror.c of Postfix).

use crate::hook::Severity;
use crate::queue::QueueError;
use crate::smtp::escape::safe;

/// Octets of a reason that the client is shown.
const REASON_OCTETS_MAX: usize = 400;

/// One bit of the status: severity, enhanced code, text.
type Row = (u32, Severity, (u16, u16), &'static str);

/// The first bit that is set counts, in Postfix's own order.
const TABLE: &[Row] = &[
    (256, Severity::Transient, (7, 1), "service unavailable"),
    (128, Severity::Transient, (3, 0), "queue file write error"),
    (1, Severity::Transient, (3, 0), "internal protocol error"),
    (64, Severity::Permanent, (1, 0), "no recipients specified"),
    (16, Severity::Permanent, (4, 0), "too many hops"),
    (4, Severity::Permanent, (3, 4), "message file too big"),
    (8, Severity::Permanent, (7, 1), "message content rejected"),
    (2, Severity::Transient, (3, 0), "queue file write error"),
    (512, Severity::Permanent, (7, 1), "service denied"),
];

/// Why a message was not queued; `None`: it was. The reason is Postfix's text for the client, perhaps empty.
pub(in crate::queue) fn refusal(status: u32, reason: &str) -> Option<QueueError> {
    if status == 0 {
        return None;
    }
    let unknown = (status, Severity::Transient, (3, 0), "unknown trouble");
    let (_, severity, enhanced, text) = *TABLE.iter().find(|(bit, ..)| status & bit != 0).unwrap_or(&unknown);
    let mut error = QueueError { severity, text: text.to_owned(), enhanced, evidence: String::new(), untouched: false };
    let (class, reason) = reply(reason);
    if class == Some('4') {
        error.severity = Severity::Transient;
    }
    let (given, said) = enhanced_code(&reason);
    if !said.is_empty() {
        error.text = said.to_owned();
        // RFC 3463: its class is that of the reply.
        let fits = |class: char| (class == '5') == (error.severity == Severity::Permanent);
        error.enhanced = match given {
            Some((class, subject, detail)) if fits(class) => (subject, detail),
            _ if class == Some('4') && severity == Severity::Permanent => (3, 0),
            _ => enhanced,
        };
    }
    Some(error)
}

/// A reason may be a whole reply of one or more lines (`550 5.7.1 no`): its class, if so, and the text in one line.
fn reply(reason: &str) -> (Option<char>, String) {
    let code = |line: &str| {
        let octets = line.as_bytes();
        let digits =
            octets.len() >= 3 && octets[..3].iter().all(u8::is_ascii_digit) && matches!(octets[0], b'4' | b'5');
        digits && matches!(octets.get(3), None | Some(b' ' | b'-'))
    };
    let class = code(reason).then(|| reason.chars().next()).flatten();
    let lines =
        reason.lines().map(|line| if class.is_some() && code(line) { line.get(4..).unwrap_or("") } else { line });
    let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
    (class, safe(&lines.join(" "), REASON_OCTETS_MAX))
}

/// `5.7.1 text`.
fn enhanced_code(text: &str) -> (Option<(char, u16, u16)>, &str) {
    let none = (None, text);
    let Some((word, rest)) = text.split_once(' ') else { return none };
    let parts: Vec<&str> = word.split('.').collect();
    let [class @ ("4" | "5"), subject, detail] = parts[..] else { return none };
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() <= 3 && !text.starts_with('+'));
    match (number(subject), number(detail)) {
        (Some(subject), Some(detail)) => (Some((if class == "5" { '5' } else { '4' }, subject, detail)), rest.trim()),
        _ => none,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Severity::{Permanent, Transient};

    #[test]
    fn every_bit_has_its_reply() {
        let table = [
            (1, Transient, (3, 0), "internal protocol error"),
            (2, Transient, (3, 0), "queue file write error"),
            (4, Permanent, (3, 4), "message file too big"),
            (8, Permanent, (7, 1), "message content rejected"),
            (16, Permanent, (4, 0), "too many hops"),
            (32, Transient, (3, 0), "unknown trouble"),
            (64, Permanent, (1, 0), "no recipients specified"),
            (128, Transient, (3, 0), "queue file write error"),
            (256, Transient, (7, 1), "service unavailable"),
            (512, Permanent, (7, 1), "service denied"),
            (1024, Transient, (3, 0), "unknown trouble"),
            // The first of Postfix's order.
            (256 | 8, Transient, (7, 1), "service unavailable"),
            (1 | 64, Transient, (3, 0), "internal protocol error"),
            (2 | 4, Permanent, (3, 4), "message file too big"),
            (u32::MAX, Transient, (7, 1), "service unavailable"),
        ];
        for (status, severity, enhanced, text) in table {
            let error = refusal(status, "").unwrap();
            assert_eq!((error.severity, error.enhanced, &*error.text), (severity, enhanced, text), "{status}");
        }
        assert!(refusal(0, "550 5.7.1 no").is_none());
    }

    #[test]
    fn reasons() {
        let table = [
            (8, "5.7.1 content no", Permanent, (7, 1), "content no"),
            (8, "5.6.0 bad header", Permanent, (6, 0), "bad header"),
            (8, "no code at all", Permanent, (7, 1), "no code at all"),
            (8, "550 5.7.9 from a milter", Permanent, (7, 9), "from a milter"),
            (8, "554 only text", Permanent, (7, 1), "only text"),
            (8, "550", Permanent, (7, 1), "message content rejected"),
            (8, "550-5.7.1 one\r\n550 5.7.1 two", Permanent, (7, 1), "one 5.7.1 two"),
            (8, "450 4.7.1 later", Transient, (7, 1), "later"),
            (8, "450 later", Transient, (3, 0), "later"),
            (8, "4.7.1 the wrong class", Permanent, (7, 1), "the wrong class"),
            (256, "451 4.7.1 come back", Transient, (7, 1), "come back"),
            // Only what both say is permanent.
            (256, "550 5.7.1 never", Transient, (7, 1), "never"),
            (2, "5500 is no reply", Transient, (3, 0), "5500 is no reply"),
            (8, "5.7.1 a\r\n250 ok\x1b", Permanent, (7, 1), "a 250 ok?"),
            (8, "5.+1.2 odd", Permanent, (7, 1), "5.+1.2 odd"),
            (8, "550 \u{e4}", Permanent, (7, 1), "\u{e4}"),
        ];
        for (status, reason, severity, enhanced, text) in table {
            let error = refusal(status, reason).unwrap();
            assert_eq!((error.severity, error.enhanced, &*error.text), (severity, enhanced, text), "{reason:?}");
        }
        let long = refusal(8, &"x".repeat(100_000)).unwrap();
        assert_eq!(long.text.len(), REASON_OCTETS_MAX);
    }
}
