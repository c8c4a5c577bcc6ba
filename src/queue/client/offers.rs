//! What a next hop offers in its reply to EHLO or LHLO.

use super::reply::Reply;

/// The service extensions that matter to us. None after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::queue) struct Offers {
    pub(super) pipelining: bool,
    /// SIZE is offered.
    pub(super) size: bool,
    /// Octets that a message may have, where it says so.
    pub(super) size_max: Option<u64>,
    pub(super) eight_bit: bool,
    /// BDAT is offered, and we are to use it.
    pub(super) chunking: bool,
    /// BINARYMIME is, and BDAT, without which there is none.
    pub(super) binary: bool,
    pub(super) smtputf8: bool,
    pub(super) dsn: bool,
    /// The names that XCLIENT takes.
    pub(super) xclient: Vec<String>,
    /// The names that XFORWARD takes.
    pub(super) xforward: Vec<String>,
}

impl Offers {
    /// The first line is the host's name. `chunking`: whether BDAT may be used.
    pub(super) fn of(reply: &Reply, chunking: bool) -> Self {
        let mut offers = Self::default();
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let rest = words.clone().skip(1);
            let names = || rest.clone().map(str::to_owned).collect();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "SIZE" => {
                    offers.size = true;
                    // RFC 1870 §4: 0 is no fixed limit.
                    offers.size_max = rest.clone().next().and_then(|octets| octets.parse().ok()).filter(|max| *max > 0);
                }
                "CHUNKING" => offers.chunking = chunking,
                "BINARYMIME" => offers.binary = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "DSN" => offers.dsn = true,
                "XCLIENT" => offers.xclient = names(),
                "XFORWARD" => offers.xforward = names(),
                _ => {}
            }
        }
        offers.binary &= offers.chunking;
        offers
    }
}
