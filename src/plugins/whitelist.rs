//! Makes trusted clients, senders and recipients immune: plugins that spare whitelisted mail leave it alone.
//!
//! ```text
//! whitelist
//! whitelist per_recipient 1
//! ```
//! List it before the plugins that shall spare what it lists. Each plugin's manual says whether it does.
//!
//! | file, or variable | a line | who is spared | for how long |
//! |---|---|---|---|
//! | `whitelisthosts` | a client's address, the beginning of one, a network | the client | the session |
//! | WHITELISTCLIENT | (in the environment, set by the launcher's rules for this client, even if empty) | the client | the session |
//! | `whitelisthelo` | a name in HELO or EHLO | the client | that HELO or EHLO |
//! | `whitelistsenders` | a sender's address or domain | the sender | the transaction |
//! | `whitelistrcpt` | a recipient's address or domain | the recipient | this recipient |
//!
//! ```text
//! 192.0.2.1, 192.0.2., 192.0.2.0/24, 2001:db8::1, 2001:db8:, 2001:db8::/32      in whitelisthosts
//! someone@far.example      an address                                           in the others
//! far.example              a domain (not those below it); also @far.example
//! [192.0.2.1], 192.0.2.0/24      an address literal, those of a network
//! ```
//! Upper and lower case are the same, and so are both forms of an international domain. After an address or domain a line may go on
//! with a note; a line of `whitelisthosts` may not.
//!
//! Nobody is accepted or vouched for here, and the asking goes on: who may relay, and which recipients are ours, others say. Deny
//! lists of recipients (`badrcptto`) and relaying are stronger. Plugins that rule on a whole message spare a whitelisted recipient
//! only if all its recipients are whitelisted.
//!
//! Anybody can say any name: a listed HELO name spares its client the plugins that judge that HELO (`helo`), and nothing after it.
//! A sender can be forged as well: list there only what is worth more than the spam that comes in its name. An address cannot.
//!
//! - `per_recipient` (0 or 1; 0): `whitelisthosts`, WHITELISTCLIENT and `whitelistsenders` are asked at RCPT only, and spare that
//!   recipient: plugins at connect, HELO and MAIL rule as for anybody.
//! - `merge` (0 or 1; 1): taken for old configurations. It chooses between our lists and a recipient's own, which postern does
//!   not have yet; without effect.
//!
//! A client in `whitelisthosts` gets 5 points of karma.
//!
//! Old name: `whitelist_soft`.
//!
//! Errors: a list that cannot be read, and a line that cannot be understood, are this plugin's error, and what was asked is
//! deferred; with `on_error decline` nobody is spared by that list. Each list is read when it is first asked. `postern check` names
//! each line.
//!
//! Differs from qpsmtpd, where a listed client, sender or name ends the asking at its hook, and a listed recipient, or with
//! per_recipient any recipient of a listed sender, is accepted wherever it is: an open relay by a name. There WHITELISTCLIENT counts
//! at connect alone.

use serde::Deserialize;

use super::shared::address_list::{AddressList, Line, Lines};
use super::shared::network;
use crate::config::{ConfigDir, ConfigError, Settings as Given};
use crate::hook::{Answer, Change, Connect, Entry, Hello, Hook, Mail, Plugin, Rcpt, Ruling, Session};
use crate::launch::Connection;
use crate::smtp::address::Mailbox;
use crate::world::World;

/// The catalogue's entry.
pub static ENTRY: Entry = Entry {
    aliases: &["whitelist_soft"],
    ..Entry::plugin(
        "whitelist",
        &[Hook::Connect, Hook::Helo, Hook::Ehlo, Hook::Mail, Hook::Rcpt],
        crate::manual!("whitelist.rs"),
        build,
    )
};

const HOSTS: &str = "whitelisthosts";
const HELO: &[(&str, Lines)] = &[("whitelisthelo", Lines::Names)];
const SENDERS: &[(&str, Lines)] = &[("whitelistsenders", Lines::Names)];
const RECIPIENTS: &[(&str, Lines)] = &[("whitelistrcpt", Lines::Names)];

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Whether clients and senders are asked about at RCPT only.
    per_recipient: bool,
    // Here a recipient's own lists would come in, once user_config answers for them.
    #[serde(rename = "merge")]
    _merge: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_recipient: false, _merge: true }
    }
}

fn build(given: Given, world: &World) -> Result<Box<dyn Plugin>, ConfigError> {
    let settings: Settings = given.read()?;
    Ok(Box::new(Whitelist {
        per_recipient: settings.per_recipient,
        world: world.clone(),
        helo: List::new(HELO),
        senders: List::new(SENDERS),
        recipients: List::new(RECIPIENTS),
    }))
}

struct Whitelist {
    per_recipient: bool,
    world: World,
    helo: List,
    senders: List,
    recipients: List,
}

/// A list, read when it is first asked.
struct List {
    files: &'static [(&'static str, Lines)],
    read: Option<AddressList>,
}

impl List {
    fn new(files: &'static [(&'static str, Lines)]) -> Self {
        Self { files, read: None }
    }

    fn get(&mut self, config: &ConfigDir) -> Result<&AddressList, ConfigError> {
        match &mut self.read {
            Some(list) => Ok(list),
            none => Ok(none.insert(AddressList::read(config, self.files)?)),
        }
    }

    /// Where an address is listed.
    fn find(&mut self, config: &ConfigDir, mailbox: Option<&Mailbox>) -> Result<Option<String>, ConfigError> {
        let Some(mailbox) = mailbox else { return Ok(None) };
        Ok(self.get(config)?.find(mailbox).map(Line::evidence))
    }
}

/// Spared for this reason, by this change; or nothing.
fn spare(reason: Option<String>, change: fn(String) -> Change) -> Ruling {
    match reason {
        Some(reason) => Ruling::decline().because(format!("whitelisted: {reason}")).change(change(reason)),
        None => Ruling::decline(),
    }
}

impl Whitelist {
    /// Where a client's address is listed.
    // A name that fcrdns has proved (`Session::names`) could stand in this list as well, once that plugin is there.
    fn host(&self, connection: &Connection) -> Result<Option<String>, ConfigError> {
        let Some(ip) = connection.remote_ip else { return Ok(None) };
        network::find(&self.world.config, HOSTS, &[ip])
    }

    fn hello(&mut self, at: &Hello<'_>) -> Answer {
        let Some(domain) = at.hello.domain() else { return Ok(Ruling::decline()) };
        let line = self.helo.get(&self.world.config)?.find_domain(domain);
        Ok(spare(line.map(Line::evidence), Change::WhitelistHello))
    }

    /// Why all that comes from this client or sender is to be spared.
    fn origin(&mut self, session: &Session, sender: Option<&Mailbox>) -> Result<Option<String>, ConfigError> {
        if session.connection.whitelist_client {
            return Ok(Some(String::from("WHITELISTCLIENT")));
        }
        match self.host(&session.connection)? {
            None => self.senders.find(&self.world.config, sender),
            host => Ok(host),
        }
    }
}

impl Plugin for Whitelist {
    fn connect(&mut self, at: &Connect<'_>) -> Answer {
        if self.per_recipient {
            return Ok(Ruling::decline());
        }
        let connection = &at.session.connection;
        if let Some(line) = self.host(connection)? {
            return Ok(spare(Some(line), Change::Whitelist).change(Change::AdjustKarma(5)));
        }
        let by_launcher = connection.whitelist_client.then(|| String::from("WHITELISTCLIENT"));
        Ok(spare(by_launcher, Change::Whitelist))
    }

    fn helo(&mut self, at: &Hello<'_>) -> Answer {
        self.hello(at)
    }

    fn ehlo(&mut self, at: &Hello<'_>) -> Answer {
        self.hello(at)
    }

    fn mail(&mut self, at: &Mail<'_>) -> Answer {
        if self.per_recipient {
            return Ok(Ruling::decline());
        }
        let line = self.senders.find(&self.world.config, at.reverse_path.mailbox())?;
        Ok(spare(line, Change::WhitelistSender))
    }

    fn rcpt(&mut self, at: &Rcpt<'_>) -> Answer {
        let mut reason = self.recipients.find(&self.world.config, at.recipient.asked.mailbox())?;
        if reason.is_none() && self.per_recipient {
            reason = self.origin(at.session, at.transaction.reverse_path.mailbox())?;
        }
        Ok(spare(reason, Change::WhitelistRecipient))
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = network::faults(&self.world.config, HOSTS);
        for files in [HELO, SENDERS, RECIPIENTS] {
            if let Err(error) = AddressList::read(&self.world.config, files) {
                faults.extend(error.all().iter().map(ToString::to_string));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::fixture;
    use super::*;
    use crate::hook::changes::Facts;
    use crate::hook::facts::Listen;
    use crate::hook::{Trouble, Verdict};
    use crate::mail::{Recipient, Transaction};
    use crate::smtp::address::{ForwardPath, ReversePath};
    use crate::smtp::command::hello_argument;
    use crate::smtp::parameters::{MailParameters, RcptParameters};

    const LISTS: [(&str, &str); 4] = [
        ("whitelisthosts", "# ours\n192.0.2.0/24\n198.51.100.\n2001:db8:1::/48\n203.0.113.7\n"),
        ("whitelisthelo", "Mail.Far.example\n[192.0.2.1]\n198.51.100.0/24\n"),
        ("whitelistsenders", "good@far.example\nBücher.example\n@list.example\n"),
        ("whitelistrcpt", "open@here.example a note\nfree.example\n"),
    ];

    struct Silence;
    impl Listen for Silence {
        fn client_speaks_within(&self, _: std::time::Duration) -> bool {
            false
        }
    }

    /// What a ruling made of the session or recipient: every one has to leave the decision to others.
    fn apply(at: &mut impl Facts, answer: Answer) -> Result<(), Trouble> {
        let ruling = answer?;
        assert!(matches!(ruling.verdict, Verdict::Decline), "{:?}", ruling.verdict);
        at.apply(ruling.changes, "whitelist").unwrap();
        Ok(())
    }

    fn connect(line: &str, ip: Option<&str>, variable: bool) -> (Option<String>, i32) {
        let (world, _dir) = fixture::world(&LISTS);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let mut session = fixture::session(ip);
        session.connection.whitelist_client = variable;
        let mut at = Connect { session: &mut session, line: &Silence };
        let answer = plugin.connect(&at);
        apply(&mut at, answer).unwrap();
        (session.whitelisted, session.karma)
    }

    #[test]
    fn a_client_is_spared_by_address_or_by_the_launcher() {
        let table = [
            (None, false, None),
            (Some("192.0.2.0"), false, Some("whitelisthosts line 2: 192.0.2.0/24")),
            (Some("192.0.2.255"), true, Some("whitelisthosts line 2: 192.0.2.0/24")),
            (Some("192.0.3.0"), false, None),
            (Some("192.0.3.0"), true, Some("WHITELISTCLIENT")),
            (Some("198.51.100.9"), false, Some("whitelisthosts line 3: 198.51.100.")),
            (Some("::ffff:203.0.113.7"), false, Some("whitelisthosts line 5: 203.0.113.7")),
            (Some("203.0.113.70"), false, None),
            (Some("2001:db8:1:ffff::1"), false, Some("whitelisthosts line 4: 2001:db8:1::/48")),
            (Some("2001:db8:2::1"), false, None),
        ];
        for (ip, variable, reason) in table {
            let karma = if reason.is_some_and(|reason| reason.contains("line")) { 5 } else { 0 };
            let (whitelisted, points) = connect("whitelist", ip, variable);
            assert_eq!((whitelisted.as_deref(), points), (reason, karma), "{ip:?} {variable}");
            assert_eq!(connect("whitelist_soft per_recipient 1", ip, variable), (None, 0));
        }
    }

    #[test]
    fn a_helo_name_is_spared_at_helo_and_nowhere_else() {
        let (world, _dir) = fixture::world(&LISTS);
        let mut plugin = fixture::build(&ENTRY, "whitelist", &world).unwrap();
        let table = [
            ("mail.far.EXAMPLE", Some("whitelisthelo line 1: Mail.Far.example")),
            ("x.mail.far.example", None),
            ("far.example", None),
            ("[192.0.2.1]", Some("whitelisthelo line 2: [192.0.2.1]")),
            ("[198.51.100.255]", Some("whitelisthelo line 3: 198.51.100.0/24")),
            ("198.51.100.255", None),
            ("!", None),
        ];
        for (name, reason) in table {
            let (mut session, name) = (fixture::session(Some("203.0.113.9")), hello_argument(name).unwrap());
            let mut keywords = Vec::new();
            let mut at = Hello { session: &mut session, hello: &name, keywords: &mut keywords };
            let answer = plugin.ehlo(&at);
            apply(&mut at, answer).unwrap();
            assert_eq!(at.immune(), reason, "{name}");
            assert_eq!(session.immune(), None, "{name}");
        }
    }

    /// Why the sender and then the recipient are spared.
    fn envelope(
        line: &str,
        files: &[(&str, &str)],
        client: Option<&str>,
        (sender, recipient): (&str, &str),
    ) -> Result<(Option<String>, Option<String>), Trouble> {
        let (world, _dir) = fixture::world(files);
        let mut plugin = fixture::build(&ENTRY, line, &world).unwrap();
        let mut session = fixture::session(client);
        let (path, parameters) = (ReversePath::parse(sender).unwrap(), MailParameters::default());
        let mut at = Mail { session: &mut session, reverse_path: &path, parameters: &parameters };
        let answer = plugin.mail(&at);
        apply(&mut at, answer)?;
        let transaction = Transaction::new(path, parameters);
        let mut recipient = Recipient::new(ForwardPath::parse(recipient).unwrap(), RcptParameters::default());
        let mut at = Rcpt { session: &mut session, transaction: &transaction, recipient: &mut recipient };
        let answer = plugin.rcpt(&at);
        apply(&mut at, answer)?;
        Ok((session.sender_whitelisted, recipient.whitelisted))
    }

    #[test]
    fn senders_and_recipients_are_spared_by_address_or_domain() {
        let table = [
            (("<>", "<postmaster>"), (None, None)),
            (("<Good@FAR.example>", "<x@here.example>"), (Some("whitelistsenders line 1: good@far.example"), None)),
            (("<bad@far.example>", "<Open@here.example>"), (None, Some("whitelistrcpt line 1: open@here.example"))),
            (
                ("<a@xn--bcher-kva.example>", "<x@Free.example>"),
                (Some("whitelistsenders line 2: Bücher.example"), Some("whitelistrcpt line 2: free.example")),
            ),
            (("<a@list.example>", "<x@a.free.example>"), (Some("whitelistsenders line 3: @list.example"), None)),
            (("<a@a.list.example>", "<x@xfree.example>"), (None, None)),
        ];
        for (paths, expected) in table {
            let (sender, recipient) = envelope("whitelist", &LISTS, Some("192.0.2.1"), paths).unwrap();
            assert_eq!((sender.as_deref(), recipient.as_deref()), expected, "{paths:?}");
        }
    }

    #[test]
    fn per_recipient_spares_the_recipient_alone() {
        let listed = Some("whitelisthosts line 2: 192.0.2.0/24");
        let table = [
            (Some("192.0.2.1"), ("<a@b.example>", "<x@here.example>"), listed),
            (Some("203.0.113.9"), ("<a@b.example>", "<x@here.example>"), None),
            (
                Some("203.0.113.9"),
                ("<good@far.example>", "<x@here.example>"),
                Some("whitelistsenders line 1: good@far.example"),
            ),
            (Some("192.0.2.1"), ("<>", "<open@here.example>"), Some("whitelistrcpt line 1: open@here.example")),
        ];
        for (client, paths, expected) in table {
            let (sender, recipient) = envelope("whitelist per_recipient 1 merge 0", &LISTS, client, paths).unwrap();
            assert_eq!((sender, recipient.as_deref()), (None, expected), "{client:?} {paths:?}");
        }
    }

    #[test]
    fn no_lists_spare_nobody_and_broken_ones_are_trouble() {
        let paths = ("<a@b.example>", "<x@here.example>");
        assert_eq!(envelope("whitelist", &[], Some("192.0.2.1"), paths).unwrap(), (None, None));
        for (name, line) in [("whitelistsenders", "a@"), ("whitelistrcpt", "^x")] {
            let trouble = envelope("whitelist", &[(name, line)], None, paths).unwrap_err();
            assert!(trouble.0.contains(&format!("{name} line 1")), "{trouble}");
        }
        let wrong = [("whitelisthosts", "x\n192.0.2\n"), ("whitelisthelo", "a b\n*\n"), ("whitelistrcpt", "@\n")];
        let (world, _dir) = fixture::world(&wrong);
        let faults = fixture::build(&ENTRY, "whitelist", &world).unwrap().check();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(fixture::build(&ENTRY, "whitelist merge maybe", &world).is_err());
    }

    #[test]
    fn the_shipped_file_tells_the_defaults() {
        assert_eq!(fixture::shipped("whitelist").read::<Settings>().unwrap(), Settings::default());
    }
}
