//! What the client reads: the replies of the core, and the one table from (hook, severity, then) to a reply code.

use super::Step;
use super::state::State;
use crate::hook::{Denial, Hook, Receipt, Severity, Then};
use crate::smtp::command::SyntaxError;
use crate::smtp::reply::{Enhanced, Reply};

/// The basic code and the enhanced code of a refusal (RFC 5321 §4.2, RFC 3463).
pub(super) fn codes(hook: Hook, denial: &Denial) -> (u16, Enhanced) {
    use Hook as H;
    let permanent = match hook {
        H::PreConnection | H::Connect => 554,
        H::Data | H::DataHeadersEnd | H::DataPostHeaders | H::ReceivedLine | H::DataPost | H::QueuePre | H::Queue => {
            554
        }
        H::UnrecognizedCommand => 500,
        // RFC 5321 §4.3.2 knows no 550 for HELP.
        H::Help => 502,
        H::Auth | H::AuthPlain | H::AuthLogin | H::AuthCramMd5 => 535,
        _ => 550,
    };
    let transient = match hook {
        H::PreConnection | H::Connect => 421,
        H::Data | H::DataHeadersEnd | H::DataPostHeaders | H::ReceivedLine | H::DataPost | H::QueuePre | H::Queue => {
            451
        }
        H::Auth | H::AuthPlain | H::AuthLogin | H::AuthCramMd5 => 454,
        _ => 450,
    };
    let (subject, detail) = denial.enhanced.unwrap_or(match hook {
        H::UnrecognizedCommand => (5, 2),
        H::Queue => (3, 0),
        _ => (7, 1),
    });
    match (denial.severity, denial.then) {
        (Severity::Permanent, _) => (permanent, Enhanced(5, subject, detail)),
        (Severity::Transient, Then::Continue) => (transient, Enhanced(4, subject, detail)),
        (Severity::Transient, Then::Disconnect) => (421, Enhanced(4, subject, detail)),
    }
}

/// The text of a refusal, with the session's id for whoever asks about it.
pub(super) fn with_id(text: &str, id: &str) -> String {
    if text.is_empty() { format!("refused ({id})") } else { format!("{text} ({id})") }
}

fn reply(code: u16, enhanced: (u8, u16, u16), text: impl AsRef<str>) -> Reply {
    Reply::new(code, Some(Enhanced(enhanced.0, enhanced.1, enhanced.2)), text.as_ref())
}

pub(super) fn greeting(text: &str) -> Reply {
    Reply::new(220, None, text)
}

pub(super) fn ok() -> Reply {
    reply(250, (2, 0, 0), "ok")
}

pub(super) fn sender_ok() -> Reply {
    reply(250, (2, 1, 0), "sender ok")
}

pub(super) fn recipient_ok() -> Reply {
    reply(250, (2, 1, 5), "recipient ok")
}

pub(super) fn go_ahead() -> Reply {
    Reply::new(354, None, "go ahead")
}

pub(super) fn chunk_ok(octets: u64) -> Reply {
    reply(250, (2, 0, 0), format!("{octets} octets received"))
}

/// With the backend's own name for the message, where it tells one.
pub(super) fn queued(receipt: &Receipt, id: &str) -> Reply {
    match &receipt.id {
        Some(name) => reply(250, (2, 0, 0), format!("{} as {name} ({id})", receipt.text)),
        None => reply(250, (2, 0, 0), format!("{} ({id})", receipt.text)),
    }
}

pub(super) fn bye(text: &str) -> Reply {
    reply(221, (2, 0, 0), text)
}

pub(super) fn sequence(text: &str) -> Reply {
    reply(503, (5, 5, 1), text)
}

pub(super) fn out_of_order(text: &str, state: State) -> Step {
    Step::Go(sequence(text), state)
}

pub(super) fn no_recipients(refused: u32) -> Reply {
    if refused > 0 { reply(554, (5, 5, 1), "no valid recipients") } else { sequence("RCPT first") }
}

pub(super) fn not_welcome() -> Reply {
    reply(503, (5, 5, 1), "refused above: only QUIT is left")
}

pub(super) fn not_implemented(verb: &str) -> Reply {
    reply(502, (5, 5, 1), format!("{verb} is not implemented"))
}

pub(super) fn unrecognized() -> Reply {
    reply(500, (5, 5, 2), "unrecognized command")
}

pub(super) fn cannot_vrfy() -> Reply {
    reply(252, (2, 5, 2), "cannot tell; try sending a mail")
}

pub(super) fn binary_needs_bdat() -> Reply {
    reply(503, (5, 5, 1), "BODY=BINARYMIME was promised: use BDAT")
}

pub(super) fn too_many_recipients() -> Reply {
    reply(452, (4, 5, 3), "too many recipients for one message")
}

pub(super) fn too_big(size_max: u64, id: &str) -> Reply {
    reply(552, (5, 3, 4), with_id(&format!("message too big: the limit is {size_max} octets"), id))
}

pub(super) fn header_too_big(octets_max: u64, id: &str) -> Reply {
    reply(552, (5, 3, 4), with_id(&format!("message header too big: the limit is {octets_max} octets"), id))
}

pub(super) fn content_line_too_long(octets_max: u64, id: &str) -> Reply {
    reply(554, (5, 6, 0), with_id(&format!("a line of the message is over {octets_max} octets"), id))
}

pub(super) fn bare_newline(what: &str, id: &str) -> Reply {
    reply(550, (5, 5, 2), with_id(&format!("the message holds a bare {what}: lines end in CRLF (RFC 5321 2.3.8)"), id))
}

pub(super) fn nul(id: &str) -> Reply {
    reply(550, (5, 5, 2), with_id("the message holds a NUL octet (RFC 5322 2.2)", id))
}

pub(super) fn spool_trouble(full: bool, id: &str) -> Reply {
    let (code, detail, text) =
        if full { (452, 1, "no room for the message now") } else { (451, 0, "the message cannot be spooled now") };
    reply(code, (4, 3, detail), with_id(&format!("{text}, try again later"), id))
}

pub(super) fn nobody_vouched(path: &str, id: &str) -> Reply {
    reply(450, (4, 7, 1), with_id(&format!("{path}: nobody vouched for this recipient"), id))
}

pub(super) fn nobody_queued(id: &str) -> Reply {
    reply(451, (4, 3, 0), with_id("no queue took the message, try again later", id))
}

pub(super) fn timed_out(id: &str) -> Reply {
    reply(421, (4, 4, 2), with_id("timed out, closing", id))
}

pub(super) fn terminated(id: &str) -> Reply {
    reply(421, (4, 3, 2), with_id("shutting down, try again later", id))
}

pub(super) fn limit(what: &str, id: &str) -> Reply {
    reply(421, (4, 7, 0), with_id(&format!("{what}, closing"), id))
}

pub(super) fn line_too_long() -> SyntaxError {
    SyntaxError { code: 500, enhanced: Enhanced(5, 5, 6), text: String::from("line too long") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_follows_from_hook_severity_and_then() {
        let hard = Denial::permanent("no");
        let soft = Denial::transient("not now");
        let rows = [
            (Hook::Connect, hard.clone(), 554, Enhanced(5, 7, 1)),
            (Hook::Connect, soft.clone(), 421, Enhanced(4, 7, 1)),
            (Hook::Ehlo, hard.clone(), 550, Enhanced(5, 7, 1)),
            (Hook::Rcpt, soft.clone(), 450, Enhanced(4, 7, 1)),
            (Hook::Rcpt, soft.clone().disconnect(), 421, Enhanced(4, 7, 1)),
            (Hook::Rcpt, hard.clone().disconnect(), 550, Enhanced(5, 7, 1)),
            (Hook::DataPost, hard.clone(), 554, Enhanced(5, 7, 1)),
            (Hook::Queue, soft.clone(), 451, Enhanced(4, 3, 0)),
            (Hook::UnrecognizedCommand, hard.clone(), 500, Enhanced(5, 5, 2)),
            (Hook::Help, hard.clone().code(5, 1), 502, Enhanced(5, 5, 1)),
            (Hook::Mail, hard.code(1, 8), 550, Enhanced(5, 1, 8)),
        ];
        for (hook, denial, code, enhanced) in rows {
            assert_eq!(codes(hook, &denial), (code, enhanced), "{} {denial:?}", hook.name());
        }
    }

    #[test]
    fn an_empty_text_still_makes_a_reply() {
        assert_eq!(with_id("", "abc"), "refused (abc)");
    }
}
