//! The service extensions that EHLO offers (RFC 5321 §2.2), and whether a command keeps to them.
//!
//! In: what the backend can carry, and our limits. Out: EHLO's keyword lines. HELP is not among them: it is a command of RFC 5321.

use super::command::SyntaxError;
use super::parameters::{Body, MailParameters, RcptParameters};
use super::reply::Enhanced;

/// What a backend can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// 8-bit content (RFC 6152).
    pub eight_bit: bool,
    /// Binary content (RFC 3030).
    pub binary: bool,
    /// Non-ASCII addresses and header (RFC 6531).
    pub smtputf8: bool,
    /// NOTIFY, ORCPT, RET and ENVID (RFC 3461).
    pub dsn: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self { eight_bit: true, binary: true, smtputf8: true, dsn: true };
    /// 7-bit text.
    pub const NONE: Self = Self { eight_bit: false, binary: false, smtputf8: false, dsn: false };

    /// What both can carry.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            eight_bit: self.eight_bit && other.eight_bit,
            binary: self.binary && other.binary,
            smtputf8: self.smtputf8 && other.smtputf8,
            dsn: self.dsn && other.dsn,
        }
    }
}

/// What EHLO offers in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// What every configured backend can carry.
    pub capabilities: Capabilities,
    /// Octets of a message (RFC 1870); `None` where there is no fixed limit.
    pub size_max: Option<u64>,
    /// Recipients of a message (RFC 9422); `None` where there is no limit.
    pub recipients_max: Option<u32>,
    /// BDAT (RFC 3030).
    pub chunking: bool,
}

impl Offer {
    /// RFC 6531 §3.1: an SMTPUTF8 server must offer 8BITMIME too.
    fn smtputf8(&self) -> bool {
        self.capabilities.smtputf8 && self.capabilities.eight_bit
    }

    /// RFC 3030 §3: BINARYMIME needs CHUNKING. 8BITMIME is what a client falls back to, so it must be there as well.
    fn binary(&self) -> bool {
        self.capabilities.binary && self.capabilities.eight_bit && self.chunking
    }

    /// Refuses a parameter of MAIL whose extension is not on offer (RFC 5321 §4.1.1.11: 555).
    /// Whether a size is too great is not asked here.
    pub fn admits_mail(&self, parameters: &MailParameters) -> Result<(), SyntaxError> {
        let body = match parameters.body {
            None => true,
            Some(Body::SevenBit | Body::EightBitMime) => self.capabilities.eight_bit,
            Some(Body::BinaryMime) => self.binary(),
        };
        let dsn = self.capabilities.dsn || (parameters.ret.is_none() && parameters.envid.is_none());
        admit(body, "BODY")?;
        admit(self.smtputf8() || !parameters.smtputf8, "SMTPUTF8")?;
        admit(dsn, "RET and ENVID")
    }

    /// The same for RCPT.
    pub fn admits_rcpt(&self, parameters: &RcptParameters) -> Result<(), SyntaxError> {
        let dsn = self.capabilities.dsn || (parameters.notify.is_none() && parameters.orcpt.is_none());
        admit(dsn, "NOTIFY and ORCPT")
    }
}

fn admit(admitted: bool, what: &str) -> Result<(), SyntaxError> {
    if admitted {
        return Ok(());
    }
    Err(SyntaxError::new(555, Enhanced(5, 5, 4), format!("{what}: not offered here")))
}

/// EHLO's lines after the first, in an order that does not change. Plugins' keywords come after these.
pub fn keywords(offer: &Offer) -> Vec<String> {
    let size = offer.size_max.map_or("SIZE".to_owned(), |octets| format!("SIZE {octets}"));
    let limits = offer.recipients_max.map(|recipients| format!("LIMITS RCPTMAX={recipients}"));
    let word = |offered: bool, keyword: &str| offered.then(|| keyword.to_owned());
    [
        word(true, "PIPELINING"),
        Some(size),
        word(offer.capabilities.eight_bit, "8BITMIME"),
        word(offer.smtputf8(), "SMTPUTF8"),
        word(offer.chunking, "CHUNKING"),
        word(offer.binary(), "BINARYMIME"),
        word(true, "ENHANCEDSTATUSCODES"),
        word(offer.capabilities.dsn, "DSN"),
        limits,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::parameters::{mail_argument, rcpt_argument};

    const NONE: Offer =
        Offer { capabilities: Capabilities::NONE, size_max: None, recipients_max: None, chunking: false };
    const ALL: Offer =
        Offer { capabilities: Capabilities::ALL, size_max: Some(1_000), recipients_max: Some(100), chunking: true };

    fn with(change: impl FnOnce(&mut Offer)) -> Offer {
        let mut offer = ALL;
        change(&mut offer);
        offer
    }

    #[test]
    fn offers_what_can_be_carried() {
        let all =
            "PIPELINING,SIZE 1000,8BITMIME,SMTPUTF8,CHUNKING,BINARYMIME,ENHANCEDSTATUSCODES,DSN,LIMITS RCPTMAX=100";
        let table = [
            (NONE, "PIPELINING,SIZE,ENHANCEDSTATUSCODES".to_owned()),
            (ALL, all.to_owned()),
            (with(|offer| offer.chunking = false), all.replace("CHUNKING,BINARYMIME,", "")),
            (with(|offer| offer.capabilities.binary = false), all.replace("BINARYMIME,", "")),
            (with(|offer| offer.capabilities.smtputf8 = false), all.replace("SMTPUTF8,", "")),
            (with(|offer| offer.capabilities.dsn = false), all.replace("DSN,", "")),
            // What rests on 8BITMIME goes with it.
            (
                with(|offer| offer.capabilities.eight_bit = false),
                all.replace("8BITMIME,SMTPUTF8,", "").replace("BINARYMIME,", ""),
            ),
        ];
        for (offer, wanted) in table {
            assert_eq!(keywords(&offer).join(","), wanted);
        }
    }

    #[test]
    fn both_must_carry_it() {
        let dsn = Capabilities { dsn: true, ..Capabilities::NONE };
        assert_eq!(Capabilities::ALL.and(dsn), dsn);
        assert_eq!(dsn.and(Capabilities::NONE), Capabilities::NONE);
    }

    #[test]
    fn admits_only_what_it_offers() {
        let no_eight_bit = with(|offer| offer.capabilities.eight_bit = false);
        let table = [
            (NONE, "FROM:<> SIZE=10", true),
            (NONE, "FROM:<> BODY=7BIT", false),
            (NONE, "FROM:<> SMTPUTF8", false),
            (NONE, "FROM:<> RET=FULL", false),
            (NONE, "FROM:<> ENVID=a", false),
            (ALL, "FROM:<> BODY=BINARYMIME SMTPUTF8 RET=HDRS ENVID=a", true),
            (with(|offer| offer.chunking = false), "FROM:<> BODY=BINARYMIME", false),
            (with(|offer| offer.chunking = false), "FROM:<> BODY=8BITMIME", true),
            (no_eight_bit, "FROM:<> SMTPUTF8", false),
        ];
        for (offer, text, wanted) in table {
            let result = offer.admits_mail(&mail_argument(text).unwrap().parameters);
            assert_eq!(result.is_ok(), wanted, "{text}");
            assert!(result.err().is_none_or(|error| error.code == 555 && error.enhanced == Enhanced(5, 5, 4)));
        }
        for (offer, text, wanted) in [
            (NONE, "TO:<a@b>", true),
            (NONE, "TO:<a@b> NOTIFY=NEVER", false),
            (NONE, "TO:<a@b> ORCPT=rfc822;a", false),
            (ALL, "TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a", true),
        ] {
            let parameters = rcpt_argument(text).unwrap().parameters;
            assert_eq!(offer.admits_rcpt(&parameters).is_ok(), wanted, "{text}");
        }
    }
}
