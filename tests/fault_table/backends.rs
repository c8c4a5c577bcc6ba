//! Every backend with its real far end, as the table wants them.

use std::any::Any;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::mta::Exim;
use crate::common::postfix::Postfix;
use crate::common::{self, store};
use crate::next_hop::Real;

/// What a backend hands over to.
pub enum Far {
    /// This directory.
    Disk(PathBuf),
    /// This program; it runs its work under the words in `$POSTERN_TEST_BEFORE`.
    Program(PathBuf),
    /// This port of 127.0.0.1.
    Server(u16),
}

/// A disk in a bad way: what it is, whether the message is long, the queue's line, words to run the program under.
pub type Full = (&'static str, bool, String, Vec<PathBuf>);

pub struct Backend {
    pub name: &'static str,
    /// Its line, with `{TO}` and `{LIMITS}`.
    pub line: String,
    pub far: Far,
    /// Everything that is stored at the far end.
    pub stored: Box<dyn Fn() -> Vec<Vec<u8>> + Sync>,
    /// The far end's first process, and the name of those children of it that take mail.
    pub daemon: Option<(u32, &'static str)>,
    pub full: Vec<Full>,
    /// Why a message may have landed that was not acknowledged.
    pub twice: &'static str,
    /// What must live as long.
    _far_end: Box<dyn Any + Sync>,
}

const SETTINGS: &str = "in_flow_delay = 0\nservice_throttle_time = 1s\n";

/// Words that run the program in a mount namespace of its own with another file system on `dir`. What is `visible` there, an
/// expression of find, is brought out afterwards.
fn mounted(dir: &Path, options: &str, prepare: &str, visible: &str) -> Vec<PathBuf> {
    let script = "dir=$1 options=$2 prepare=$3 visible=$4; shift 4; out=$(mktemp -d); mount --bind \"$dir\" \"$out\"
        mount -t tmpfs -o \"$options\" none \"$dir\"; cd \"$dir\"; eval \"$prepare\"; cd /; s=0; \"$@\" || s=$?
        cd \"$dir\"; eval \"find . -type f $visible -exec cp -a --parents {} $out ';'\"; cd /; umount \"$out\"; rmdir \"$out\"; exit $s";
    let words = ["unshare", "-m", "sh", "-ec", script, "sh"].map(PathBuf::from);
    words.into_iter().chain([dir.into(), options.into(), prepare.into(), visible.into()]).collect()
}

/// Fills what is left of the file system at hand.
const FILL: &str = "dd if=/dev/zero of=fill bs=4k 2>/dev/null || :";

/// The three ways in which a directory that is written to by the program or its child is bad. `owner` are options of the mount,
/// `made` what must be there.
fn bad(line: &str, dir: &Path, owner: &str, made: &str, visible: &str) -> Vec<Full> {
    let on = |options: &str, prepare: &str| mounted(dir, &format!("{options}{owner}"), prepare, visible);
    vec![
        ("a long message on a small disk", true, line.to_owned(), on("size=64k", made)),
        ("a short message on a full disk", false, line.to_owned(), on("size=64k", &format!("{made}; {FILL}"))),
        ("read only", false, line.to_owned(), on("size=64k", &format!("{made}; mount -o remount,ro \"$dir\""))),
    ]
}

/// A directory of a test's own, and in it a program `take` that runs this one.
fn taking(real: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::Builder::new().prefix("ft-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text.replace("{DIR}", dir.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    program("real", real);
    let take = program("take", "#!/bin/sh\nexec $POSTERN_TEST_BEFORE {DIR}/real \"$@\"\n");
    for name in ["store", "store/new", "store/tmp", "store/cur"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    (dir, take)
}

fn able() -> bool {
    common::require_root() && ["strace", "unshare", "timeout"].iter().all(|name| common::require(name).is_some())
}

pub fn maildir() -> Option<Backend> {
    if !able() {
        return None;
    }
    let (dir, _) = taking("");
    let store = dir.path().join("store");
    let made = "mkdir new tmp cur";
    let full = bad(&format!("queue/maildir {}", store.display()), &store, "", made, "-path './new/*'");
    let inside = store.clone();
    Some(Backend {
        name: "maildir",
        line: "queue/maildir {TO}".to_owned(),
        far: Far::Disk(store),
        stored: Box::new(move || store::delivered(&inside)),
        daemon: None,
        full,
        twice: "postern dies, or its 250 cannot be written, after the link to new",
        _far_end: Box::new(dir),
    })
}

pub fn qmail_queue() -> Option<Backend> {
    if !able() {
        return None;
    }
    let program = common::tests().join("bin/qmail-queue");
    let script = format!("#!/bin/sh\nPOSTERN_TEST_QUEUE={{DIR}}/store exec {} \"$@\"\n", program.display());
    let (dir, take) = taking(&script);
    let store = dir.path().join("store");
    let line = "queue/qmail-queue {TO} {LIMITS}";
    let full = bad(&line.replace("{TO}", take.to_str().unwrap()), &store, "", ":", "-name '*.[em]*'");
    Some(Backend {
        name: "qmail-queue",
        line: line.to_owned(),
        far: Far::Program(take),
        stored: Box::new(move || {
            let names = store::names(&store);
            // A message without its envelope is not queued.
            let queued = names.iter().filter(|path| path.extension().is_some_and(|word| word == "envelope"));
            queued.map(|path| fs::read(path.with_extension("message")).unwrap()).collect()
        }),
        daemon: None,
        full,
        twice: "postern or qmail-queue dies, or a limit is reached, after the envelope was handed over and before the status",
        _far_end: Box::new(dir),
    })
}

pub fn pipe() -> Option<Backend> {
    if !able() {
        return None;
    }
    let script = "#!/bin/sh\numask 077\ncat >{DIR}/store/tmp/$$ && sync -d {DIR}/store/tmp/$$ && \
                  exec mv {DIR}/store/tmp/$$ {DIR}/store/new/$(date +%s.%N).$$ || exit 75\n";
    let (dir, take) = taking(script);
    let store = dir.path().join("store");
    let line = "queue/pipe {LIMITS} {TO}";
    let to = line.replace("{TO}", take.to_str().unwrap());
    let full = bad(&to, &store, "", "mkdir new tmp cur", "-path './new/*'");
    Some(Backend {
        name: "pipe",
        line: line.to_owned(),
        far: Far::Program(take),
        stored: Box::new(move || store::delivered(&store)),
        daemon: None,
        full,
        twice: "postern or the program dies, or a limit is reached, once the program has the message and before its status",
        _far_end: Box::new(dir),
    })
}

pub fn exim_bsmtp() -> Option<Backend> {
    exim("exim-bsmtp", "queue/exim-bsmtp {TO} {LIMITS}")
}

pub fn exim_bs() -> Option<Backend> {
    exim("exim-bsmtp bs", "queue/exim-bsmtp {TO} form bs {LIMITS}")
}

fn exim(name: &'static str, line: &str) -> Option<Backend> {
    if !able() {
        return None;
    }
    let exim = Exim::unpack("check_spool_space = 0\ncheck_spool_inodes = 0\nacl_smtp_rcpt = accept", "  accept")?;
    let (dir, take) = taking(&exim.program());
    let (inbox, again) = (exim.inbox(), dir.path().join("real"));
    let owner = ",uid=65534,gid=65534,mode=750";
    let spool = inbox.parent().unwrap().with_file_name("spool");
    let full = bad(&line.replace("{TO}", take.to_str().unwrap()), &spool, owner, ":", "-name '*-[HD]'");
    Some(Backend {
        name,
        line: line.to_owned(),
        far: Far::Program(take),
        stored: Box::new(move || {
            // Nobody else looks after what a killed one left in the queue.
            let ran = Command::new(&again).arg("-qff").env_clear().env("PATH", common::PATH).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
            store::delivered(&inbox)
        }),
        daemon: None,
        full,
        twice: "postern or Exim dies, or a limit is reached, after the last dot and before the status",
        _far_end: Box::new((dir, exim)),
    })
}

/// postdrop and Postfix's sendmail, which calls it.
fn maildrop(name: &'static str, line: &str, real: &str, twice: &'static str) -> Option<Backend> {
    if !able() {
        return None;
    }
    let postfix = Postfix::start(SETTINGS)?;
    let etc = postfix.path("etc");
    let (dir, take) = taking(&real.replace("{ETC}", etc.to_str().unwrap()));
    let line = line.replace("{ETC}", etc.to_str().unwrap());
    let owner = format!(",uid={},gid={},mode=1730", id("passwd", "postfix"), id("group", "postdrop"));
    // What is ready to be picked up has the right to be run.
    let (to, maildrop) = (line.replace("{TO}", take.to_str().unwrap()), postfix.path("spool/maildrop"));
    let full = bad(&to, &maildrop, &owner, ":", "-perm -100");
    let new = postfix.path("mail/inbox");
    Some(Backend {
        name,
        line,
        far: Far::Program(take),
        stored: Box::new(move || store::delivered(&new)),
        daemon: None,
        full,
        twice,
        _far_end: Box::new((dir, postfix)),
    })
}

/// The number of a name in /etc/passwd or /etc/group.
fn id(file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/etc/{file}")).unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split(':').nth(2)).unwrap_or_else(|| panic!("{name} in /etc/{file}")).to_owned()
}

pub fn postdrop() -> Option<Backend> {
    maildrop(
        "postdrop",
        "queue/postdrop {TO} -c {ETC} {LIMITS}",
        "#!/bin/sh\nexec /usr/sbin/postdrop \"$@\"\n",
        "postern or postdrop dies, or a limit is reached, after the last record and before the status",
    )
}

const SENDMAIL: &str = "#!/bin/sh\nMAIL_CONFIG={ETC} exec /usr/sbin/sendmail \"$@\"\n";

pub fn sendmail() -> Option<Backend> {
    let twice = "postern or sendmail dies, or a limit is reached, after the last dot and before its reply";
    maildrop("sendmail", "queue/sendmail {TO} {LIMITS}", SENDMAIL, twice)
}

pub fn sendmail_oi() -> Option<Backend> {
    let twice = "postern or sendmail dies, or a limit is reached, once sendmail has the message and before its status";
    maildrop("sendmail oi", "queue/sendmail {TO} form oi {LIMITS}", SENDMAIL, twice)
}

/// A Postfix that takes mail at one of its ports.
fn server(name: &'static str, line: &str, port: fn(&Postfix) -> u16, daemon: &'static str) -> Option<Backend> {
    if !able() {
        return None;
    }
    let postfix = Postfix::start(SETTINGS)?;
    // Of the second one the whole queue is on a small disk.
    let mount = "mount -t tmpfs -o size=256k,mode=755 none {DIR}/spool";
    let full = Postfix::start_after(mount, &format!("{SETTINGS}message_size_limit = 150000\n"))?;
    let queue = full.path("spool");
    let to = line.replace("{TO}", &format!("127.0.0.1:{}", port(&full)));
    // In its namespace, as the program itself has nothing to do there.
    let inside = |command: String| -> Vec<PathBuf> {
        let enter = format!("nsenter -m -t {} sh -ec '{command}'; exec \"$@\"", full.id());
        ["sh", "-ec", &enter, "sh"].map(PathBuf::from).into()
    };
    let q = queue.display();
    let fill = format!("dd if=/dev/zero of={q}/fill bs=4k 2>/dev/null || :");
    let bad = vec![
        ("a short message on a full disk", false, to.clone(), inside(fill.clone())),
        ("a long message on a full disk", true, to, inside(fill)),
    ];
    let (new, other) = (postfix.path("mail/inbox"), full.path("mail/inbox"));
    Some(Backend {
        name,
        line: line.to_owned(),
        far: Far::Server(port(&postfix)),
        stored: Box::new(move || [store::delivered(&new), store::delivered(&other)].concat()),
        daemon: Some((postfix.id(), daemon)),
        full: bad,
        twice: "the connection or either end dies, or a limit is reached, after the end of the message and before the answer",
        _far_end: Box::new((postfix, full)),
    })
}

pub fn postfix_queue() -> Option<Backend> {
    server("postfix-queue", "queue/postfix-queue {TO} {LIMITS}", |postfix| postfix.cleanup_port, "cleanup")
}

pub fn smtp_forward() -> Option<Backend> {
    server("smtp-forward", "queue/smtp-forward {TO} {LIMITS}", |postfix| postfix.smtp_port, "smtpd")
}

pub fn qmqp() -> Option<Backend> {
    server("qmqp", "queue/qmqp {TO} {LIMITS}", |postfix| postfix.qmqp_port, "qmqpd")
}

pub fn lmtp() -> Option<Backend> {
    if !able() {
        return None;
    }
    let dovecot = Real::dovecot()?;
    let full = Real::dovecot_after("mount -t tmpfs -o size=64k,uid=65534,gid=65534,mode=700 none {DIR}/mail")?;
    let line = "queue/lmtp {TO} {LIMITS}";
    let to = line.replace("{TO}", &format!("127.0.0.1:{}", full.port));
    let enter = format!(
        "nsenter -m -t {} sh -ec 'dd if=/dev/zero of={}/mail/fill bs=4k 2>/dev/null || :'; exec \"$@\"",
        full.id(),
        full.dir.path().display()
    );
    let filled: Vec<PathBuf> = ["sh", "-ec", &enter, "sh"].map(PathBuf::from).into();
    let bad = vec![
        ("a long message on a small disk", true, to.clone(), Vec::new()),
        ("a short message on a full disk", false, to, filled),
    ];
    let (mail, there) = (dovecot.dir.path().join("mail"), full.id());
    // Seen from inside its namespace.
    let other = PathBuf::from(format!("/proc/{there}/root{}", full.dir.path().join("mail").display()));
    Some(Backend {
        name: "lmtp",
        line: line.to_owned(),
        far: Far::Server(dovecot.port),
        stored: Box::new(move || {
            let maildirs = [store::maildirs(&mail), store::maildirs(&other)].concat();
            maildirs.iter().flat_map(|maildir| store::delivered(maildir)).collect()
        }),
        daemon: Some((dovecot.id(), "lmtp")),
        full: bad,
        twice: "the connection or either end dies, or a limit is reached, after the end of the message and before the answer",
        _far_end: Box::new((dovecot, full)),
    })
}
