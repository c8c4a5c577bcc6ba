//! The envelope: a `Transaction` while it is open (MAIL, RCPT), an `Envelope` from DATA on. Only the second can be queued,
//! and it is never without a forward-path, so that no code after DATA need check again.

use std::collections::{BTreeMap, HashSet};

use crate::smtp::address::{ForwardPath, ReversePath};
use crate::smtp::parameters::{MailParameters, RcptParameters};

/// One accepted RCPT.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// What the client said. Limits, deny lists and ORCPT look at this.
    pub asked: ForwardPath,
    /// RCPT's parameters.
    pub parameters: RcptParameters,
    /// Where the mail goes: what was asked, unless a plugin retargeted it. May be empty: accepted and dropped.
    pub targets: Vec<ForwardPath>,
    /// Options that plugins attached for other plugins to read.
    pub options: BTreeMap<String, String>,
    /// Why plugins that spare whitelisted clients are not asked about this recipient.
    pub whitelisted: Option<String>,
}

impl Recipient {
    /// A recipient as the client asked for it.
    pub fn new(asked: ForwardPath, parameters: RcptParameters) -> Self {
        Self { targets: vec![asked.clone()], asked, parameters, options: BTreeMap::new(), whitelisted: None }
    }
}

/// From MAIL to DATA.
#[derive(Debug)]
pub struct Transaction {
    /// MAIL's reverse-path.
    pub reverse_path: ReversePath,
    /// MAIL's parameters.
    pub parameters: MailParameters,
    /// The recipients accepted so far.
    pub recipients: Vec<Recipient>,
    /// How many RCPT commands were refused.
    pub refused: u32,
}

impl Transaction {
    /// A transaction as MAIL opens it.
    pub fn new(reverse_path: ReversePath, parameters: MailParameters) -> Self {
        Self { reverse_path, parameters, recipients: Vec::new(), refused: 0 }
    }
}

/// What is queued beside the message. Has at least one forward-path.
#[derive(Debug)]
pub struct Envelope(Transaction);

impl TryFrom<Transaction> for Envelope {
    type Error = Transaction;

    fn try_from(open: Transaction) -> Result<Self, Transaction> {
        let somebody = open.recipients.iter().any(|recipient| !recipient.targets.is_empty());
        if somebody { Ok(Self(open)) } else { Err(open) }
    }
}

impl Envelope {
    /// MAIL's reverse-path.
    pub fn reverse_path(&self) -> &ReversePath {
        &self.0.reverse_path
    }

    /// MAIL's parameters.
    pub fn parameters(&self) -> &MailParameters {
        &self.0.parameters
    }

    /// The recipients as accepted.
    pub fn recipients(&self) -> &[Recipient] {
        &self.0.recipients
    }

    /// Where the mail goes, each place once, in the order of RCPT.
    pub fn forward_paths(&self) -> Vec<&ForwardPath> {
        let mut seen = HashSet::new();
        let targets = self.0.recipients.iter().flat_map(|recipient| &recipient.targets);
        targets.filter(|target| seen.insert(target.address())).collect()
    }

    /// Whether a path of it can be carried only by SMTPUTF8 (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        let reverse = self.0.reverse_path.mailbox().is_some_and(|mailbox| mailbox.needs_smtputf8());
        reverse
            || self.forward_paths().iter().any(|path| path.mailbox().is_some_and(|mailbox| mailbox.needs_smtputf8()))
    }
}
