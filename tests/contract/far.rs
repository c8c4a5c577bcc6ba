//! The far ends: real servers, and readers of what they have.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::dovecot::Dovecot;
use crate::common::mta::Exim;
use crate::common::postfix::Postfix;
use crate::common::room::Room;
use crate::common::store;

/// One Postfix, one Exim and one Dovecot, for all backends.
pub(crate) struct Servers {
    pub(crate) postfix: Postfix,
    pub(crate) exim: Exim,
    pub(crate) dovecot: Dovecot,
    /// A qmqpd of this Postfix that takes nothing from here.
    pub(crate) closed_qmqp_port: u16,
}

/// Called with a directory, a sender and recipients: keeps them and its input in one file, which appears when it is whole.
const STORE: &str = "#!/bin/sh
[ \"$1\" = -- ] && shift
to=$1; from=$2; shift 2
{ printf 'S %s\\n' \"$from\"; for r; do printf 'R %s\\n' \"$r\"; done; echo; cat; } >\"$to/tmp.$$\" && mv \"$to/tmp.$$\" \"$to/mail.$$\"
";

/// What Postfix refuses with; with octets that must not reach a client or a log.
pub(crate) const EVIL: &[u8] = b"no \x1b[31mred\x07 \xff\xc2\x9b ones";

const MAIN_CF: &str = "allow_min_user = yes
transport_maps = static:store:
store_destination_recipient_limit = 1000
message_size_limit = 3000000
hopcount_limit = 20
smtpd_error_sleep_time = 0
smtpd_delay_reject = no
qmqpd_error_delay = 0
header_checks = regexp:{DIR}/etc/header_checks
smtpd_recipient_restrictions = check_recipient_access inline:{{no@here.example=550 5.1.1 nobody}, {later@here.example=450 4.2.1 busy}}
smtpd_sender_restrictions = check_sender_access inline:{{bad@client.example=550 5.7.1 not from you}}
qmqpd_authorized_clients = 127.0.0.1
";

const EXIM: &str = "allow_domain_literals\nmessage_size_limit = 3M\nacl_smtp_rcpt = accept\nacl_smtp_data = acl_batch";

const EXIM_ACL: &str = "  deny message = no bad ones
       condition = ${if match{$h_subject:}{\\N^bad\\N}}
  deny message = no \\x1b[31mred\\x07 \\xff\\xc2\\x9b ones
       condition = ${if match{$h_subject:}{\\N^evil\\N}}
  deny message = not from you
       senders = bad@client.example
  deny message = nobody
       condition = ${if match{$recipients}{\\N^no@\\N}}
  accept";

/// Exim lets no address into the arguments of a command.
const EXIM_TRANSPORT: &str = "  driver = appendfile
  directory = {DIR}/stored
  use_bsmtp
  batch_max = 1000
";

impl Servers {
    /// All of them, or `None` with a word.
    pub(crate) fn start(users: &[String]) -> Option<Servers> {
        let closed_qmqp_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let services = format!(
            "127.0.0.1:{closed_qmqp_port} inet n - n - - qmqpd -o qmqpd_authorized_clients=192.0.2.1\n\
             store unix - n n - 10 pipe\n  flags=qX user=nobody null_sender= argv={{DIR}}/etc/store {{DIR}}/stored \
             ${{sender}} ${{recipient}}"
        );
        let postfix = Postfix::start_with(MAIN_CF, &services)?;
        let checks = [&b"/^Subject: bad/ REJECT no bad ones\n/^Subject: evil/ REJECT "[..], EVIL, b"\n"].concat();
        fs::write(postfix.path("etc/header_checks"), checks).unwrap();
        script(&postfix.path("etc/store"), STORE);
        store_for_all(&postfix.path("stored"));
        for name in ["idle", "idle/maildrop", "idle/public", "idle/etc"] {
            fs::create_dir(postfix.path(name)).unwrap();
        }
        let idle = fs::read_to_string(postfix.path("etc/main.cf")).unwrap().replace("/spool\n", "/idle\n");
        fs::write(postfix.path("idle/etc/main.cf"), idle).unwrap();
        fs::write(postfix.path("idle/etc/master.cf"), "").unwrap();
        let exim = Exim::delivering(EXIM, EXIM_ACL, EXIM_TRANSPORT)?;
        store_for_all(&exim.path("stored"));
        Some(Servers { postfix, exim, dovecot: Dovecot::start(users)?, closed_qmqp_port })
    }
}

impl Servers {
    /// The configuration of a Postfix that does not run: what is dropped there stays.
    pub(crate) fn idle_etc(&self) -> PathBuf {
        self.postfix.path("idle/etc")
    }
}

/// A program that keeps what it is given in `DIR/mail`, for `queue/pipe`.
pub(crate) fn storing_program(room: &Room) {
    script(&room.path("bin/store"), STORE);
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn store_for_all(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Where a backend's mail is to be found.
#[derive(Clone, Debug)]
pub(crate) enum Far {
    /// Nowhere, on purpose.
    Nothing,
    /// In files of the storing program.
    Store(PathBuf),
    /// In files that are batched SMTP each.
    Batches(PathBuf),
    /// In Dovecot's maildirs under this directory, named as their users: the recipient is not in the message.
    Dovecot(PathBuf),
    /// At the room's stand-in for qmail-queue.
    Qmail,
    /// In maildirs under this directory: sender and recipients are header fields.
    Maildirs(PathBuf),
}

/// What a far end has.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: Vec<u8>,
}

impl Far {
    /// All that is there for recipients that begin with `tag`; copies of the same message for several recipients are one.
    pub(crate) fn taken(&self, room: &Room, tag: &str) -> Vec<Stored> {
        let found = match self {
            Far::Nothing => Vec::new(),
            Far::Store(dir) => files(dir, "mail.").iter().map(|file| of_store(file)).collect(),
            Far::Batches(dir) => files(dir, "q").iter().map(|file| of_batch(file)).collect(),
            Far::Dovecot(dir) => {
                let user = |maildir: &PathBuf| vec![maildir.file_name().unwrap().to_string_lossy().into_owned()];
                let all = store::maildirs(dir).into_iter();
                all.flat_map(|maildir| store::delivered(&maildir).into_iter().map(move |file| (user(&maildir), file)))
                    .map(|(recipients, file)| Stored { recipients, ..of_maildir(&file) })
                    .collect()
            }
            Far::Qmail => store::queued(room)
                .into_iter()
                .map(|one| Stored { sender: one.sender(), recipients: one.recipients(), content: one.message })
                .collect(),
            Far::Maildirs(dir) => store::maildirs(dir)
                .iter()
                .flat_map(|maildir| store::delivered(maildir))
                .map(|file| of_maildir(&file))
                .collect::<Vec<_>>(),
        };
        let mut all: Vec<Stored> = Vec::new();
        let ours = |one: &Stored| one.recipients.iter().any(|path| path.trim_start_matches('"').starts_with(tag));
        for one in found.into_iter().filter(ours) {
            // A maildir for each recipient: the same message, delivered apart.
            let same = |other: &&mut Stored| {
                matches!(self, Far::Dovecot(_))
                    && other.sender == one.sender
                    && from_subject(other) == from_subject(&one)
            };
            match all.iter_mut().find(same) {
                Some(other) => other.recipients.extend(one.recipients),
                None => all.push(one),
            }
        }
        all.iter_mut().for_each(|one| one.recipients.sort());
        all
    }
}

/// What does not differ between copies.
fn from_subject(stored: &Stored) -> &[u8] {
    let at = memchr::memmem::find(&stored.content, b"\nSubject:").unwrap_or(0);
    &stored.content[at..]
}

/// The files of this kind, whole.
fn files(dir: &Path, kind: &str) -> Vec<Vec<u8>> {
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
    store::names(dir).into_iter().filter(ours).map(|path| fs::read(path).unwrap()).collect()
}

fn of_store(file: &[u8]) -> Stored {
    let end = memchr::memmem::find(file, b"\n\n").unwrap();
    let head = String::from_utf8_lossy(&file[..end]).into_owned();
    let named = |kind: &str| -> Vec<String> {
        head.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
    };
    Stored { sender: named("S ").concat(), recipients: named("R "), content: file[end + 2..].to_vec() }
}

fn of_batch(file: &[u8]) -> Stored {
    let data = memchr::memmem::find(file, b"\nDATA\n").unwrap();
    let head = String::from_utf8_lossy(&file[..data]).into_owned();
    let named = |kind: &str| -> Vec<String> {
        let paths = head.lines().filter_map(|line| line.strip_prefix(kind)?.strip_suffix('>'));
        paths.map(str::to_owned).collect()
    };
    let content = file[data + 6..].strip_suffix(b".\n").unwrap();
    let lines = content.split_inclusive(|&octet| octet == b'\n');
    let content = lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect();
    Stored { sender: named("MAIL FROM:<").concat(), recipients: named("RCPT TO:<"), content }
}

fn of_maildir(file: &[u8]) -> Stored {
    let head = String::from_utf8_lossy(file).into_owned();
    let head: Vec<&str> = head.lines().take_while(|line| !line.starts_with("Received:") && !line.is_empty()).collect();
    let named = |name: &str| -> Vec<String> {
        let values = head.iter().filter_map(|line| line.strip_prefix(name));
        values.map(|value| value.trim().trim_start_matches('<').trim_end_matches('>').to_owned()).collect()
    };
    Stored { sender: named("Return-Path:").concat(), recipients: named("Delivered-To:"), content: file.to_vec() }
}
