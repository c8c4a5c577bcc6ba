//! The command lines of one transaction, as far as the next hop can carry what they say.
//!
//! | the message has | the next hop lacks | what becomes of it |
//! |---|---|---|
//! | more octets than SIZE names | | refused, 5.3.4 |
//! | BODY=8BITMIME and 8-bit octets | 8BITMIME | refused, 5.6.3 |
//! | BODY=BINARYMIME | BINARYMIME or CHUNKING | refused, 5.6.3 |
//! | 8-bit octets that nobody declared | 8BITMIME | sent as they are, as they came |
//! | a non-ASCII address | SMTPUTF8 | refused, 5.6.7 |
//! | SMTPUTF8 and a non-ASCII header | SMTPUTF8 | refused, 5.6.9 |
//! | SMTPUTF8, but no use of it | SMTPUTF8 | sent without |
//! | NOTIFY with SUCCESS | DSN | refused, 5.3.3: who drops it owes a notice (RFC 3461 §5.2.2) |
//! | other DSN parameters | DSN | sent without |

use std::io::{self, Write};

use super::offers::Offers;
use crate::mail::{Envelope, LineEnds, Message};
use crate::queue::QueueError;
use crate::smtp::address::ForwardPath;
use crate::smtp::parameters::Body;
use crate::smtp::xtext::xtext;

/// MAIL, then RCPT for every forward-path.
pub(super) fn lines(offers: &Offers, envelope: &Envelope, message: &Message) -> Result<Vec<String>, QueueError> {
    let refused = |text: &str, code: (u16, u16)| Err(QueueError::permanent(text, "").code(code.0, code.1));
    let octets = message.octets_out().map_err(|error| super::spool(&error))?;
    if offers.size_max.is_some_and(|max| octets > max) {
        return refused("the message is too big for the next hop", (3, 4));
    }
    let parameters = envelope.parameters();
    let mut mail = format!("MAIL FROM:{}", envelope.reverse_path());
    if offers.size {
        mail.push_str(&format!(" SIZE={octets}"));
    }
    match parameters.body {
        Some(Body::BinaryMime) if !offers.binary => {
            return refused("the next hop does not take binary content", (6, 3));
        }
        Some(body) if offers.eight_bit || body == Body::BinaryMime => mail.push_str(&format!(" BODY={body}")),
        Some(Body::EightBitMime) if eight_bit(message)? => {
            return refused("the next hop does not take 8-bit content", (6, 3));
        }
        _ => {}
    }
    let utf8_paths = envelope.needs_smtputf8();
    if offers.smtputf8 && (parameters.smtputf8 || utf8_paths) {
        mail.push_str(" SMTPUTF8");
    } else if utf8_paths {
        return refused("the next hop does not take internationalized addresses", (6, 7));
    } else if parameters.smtputf8 && !message.header().is_ok_and(|header| header.octets().is_ascii()) {
        return refused("the next hop does not take an internationalized header", (6, 9));
    }
    if offers.dsn {
        parameters.ret.iter().for_each(|ret| mail.push_str(&format!(" RET={ret}")));
        parameters.envid.iter().for_each(|envid| mail.push_str(&format!(" ENVID={}", xtext(envid))));
    }
    let mut lines = vec![mail];
    for path in envelope.forward_paths() {
        lines.push(rcpt(offers, envelope, path)?);
    }
    // Paths cannot hold these; nothing that does may get out.
    if lines.iter().any(|line| line.contains(char::is_control)) {
        return refused("an address holds a control character", (1, 3));
    }
    Ok(lines)
}

fn rcpt(offers: &Offers, envelope: &Envelope, path: &ForwardPath) -> Result<String, QueueError> {
    let mut line = format!("RCPT TO:{path}");
    let asked = envelope.recipients().iter().find(|recipient| recipient.targets.contains(path));
    let Some(parameters) = asked.map(|recipient| &recipient.parameters) else { return Ok(line) };
    if offers.dsn {
        parameters.notify.iter().for_each(|notify| line.push_str(&format!(" NOTIFY={notify}")));
        parameters.orcpt.iter().for_each(|orcpt| line.push_str(&format!(" ORCPT={orcpt}")));
    } else if parameters.notify.is_some_and(|notify| notify.success) {
        let text = "the next hop cannot tell of a successful delivery (NOTIFY=SUCCESS)";
        return Err(QueueError::permanent(text, "").code(3, 3));
    }
    Ok(line)
}

fn eight_bit(message: &Message) -> Result<bool, QueueError> {
    let mut seen = EightBit(false);
    message.write_to(&mut seen, LineEnds::Crlf).map_err(|error| super::spool(&error))?;
    Ok(seen.0)
}

/// Notes whether any octet is not ASCII.
struct EightBit(bool);

impl Write for EightBit {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 |= !octets.is_ascii();
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
