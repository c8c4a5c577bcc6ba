//! A private Postfix: its own configuration, queue, ports and log in one directory, and a maildir for all mail to `here.example`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{play, store};

/// How long Postfix may take for anything. Generous: a loaded machine is no failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Postfix at work. It ends when this is dropped.
pub struct Postfix {
    dir: TempDir,
    master: Child,
    /// The port of a cleanup service over TCP.
    pub cleanup_port: u16,
    /// smtpd's.
    pub smtp_port: u16,
    /// qmqpd's; `qmqpd_authorized_clients` says who may use it.
    pub qmqp_port: u16,
}

impl Postfix {
    /// Starts one, with these further lines of main.cf; `{DIR}` is its directory. `None`, with a word, where it cannot be.
    pub fn start(main_cf: &str) -> Option<Postfix> {
        Self::launch("", main_cf, "")
    }

    /// As [`Postfix::start`], with these further services in master.cf.
    pub fn start_with(main_cf: &str, master_cf: &str) -> Option<Postfix> {
        Self::launch("", main_cf, master_cf)
    }

    /// As [`Postfix::start`], in a mount namespace of its own, where this shell command runs before the queue is made; `{DIR}`
    /// is the directory.
    pub fn start_after(mount: &str, main_cf: &str) -> Option<Postfix> {
        Self::launch(mount, main_cf, "")
    }

    fn launch(mount: &str, main_cf: &str, master_cf: &str) -> Option<Postfix> {
        if !super::require_root() {
            return None;
        }
        super::require("postfix")?;
        let dir = tempfile::Builder::new().prefix("pf-").tempdir_in("/tmp").unwrap();
        let root = dir.path().to_str().unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
        for name in ["etc", "spool", "data", "mail"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let run = |words: &[&str]| {
            let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
            assert!(done.status.success(), "{words:?}: {done:?}");
        };
        run(&["chown", "postfix", &format!("{root}/data")]);
        run(&["chown", "nobody:nogroup", &format!("{root}/mail")]);
        // All three at once, so that they differ.
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [cleanup_port, smtp_port, qmqp_port] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let services = format!(
            "127.0.0.1:{cleanup_port} inet n - n - 0 cleanup\n127.0.0.1:{smtp_port} inet n - n - - smtpd\n\
             127.0.0.1:{qmqp_port} inet n - n - - qmqpd\n{MASTER_CF}{master_cf}\n"
        );
        fs::write(dir.path().join("etc/main.cf"), format!("{MAIN_CF}{main_cf}\n").replace("{DIR}", root)).unwrap();
        fs::write(dir.path().join("etc/master.cf"), services.replace("{DIR}", root)).unwrap();
        let check = format!("postfix -c {root}/etc check && exec setsid /usr/lib/postfix/sbin/master -d");
        let words = match mount {
            "" => vec!["sh", "-ec"],
            _ => vec!["unshare", "-m", "sh", "-ec"],
        };
        let log = fs::File::create(dir.path().join("master.out")).unwrap();
        // One process from first to last: each becomes the next.
        let master = Command::new(words[0])
            .args(&words[1..])
            .arg(format!("{}\n{check}", mount.replace("{DIR}", root)))
            .env("MAIL_CONFIG", format!("{root}/etc"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let postfix = Postfix { dir, master, cleanup_port, smtp_port, qmqp_port };
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let all = || [cleanup_port, smtp_port, qmqp_port].into_iter().all(listens);
        // In a namespace of its own its directory cannot be seen.
        postfix.wait_for(|| all() && (!mount.is_empty() || postfix.socket().exists()), "sockets");
        Some(postfix)
    }

    /// A path of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The cleanup socket.
    pub fn socket(&self) -> PathBuf {
        self.path("spool/public/cleanup")
    }

    /// Its first process, which has all others for children.
    pub fn id(&self) -> u32 {
        self.master.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("maillog")).unwrap_or_default()).into_owned()
    }

    /// Every mail that has arrived.
    pub fn arrived(&self) -> Vec<Vec<u8>> {
        let new = self.path("mail/inbox/new");
        store::names(&new).iter().filter_map(|name| fs::read(name).ok()).collect()
    }

    /// The only mail that holds `mark`, once it is there.
    pub fn mail(&self, mark: &str) -> Vec<u8> {
        let holds = |mail: &Vec<u8>| memchr::memmem::find(mail, mark.as_bytes()).is_some();
        self.wait_for(|| self.arrived().iter().any(holds), mark);
        let mut mails: Vec<Vec<u8>> = self.arrived().into_iter().filter(holds).collect();
        assert_eq!(mails.len(), 1, "{mark}");
        mails.remove(0)
    }

    /// Waits until nothing is in the queue any more: all has been delivered, or thrown away.
    pub fn idle(&self) {
        let files = || {
            let count = |name| super::store::names(&self.path("spool").join(name)).len();
            ["incoming", "active", "maildrop", "deferred"].into_iter().map(count).sum::<usize>()
        };
        self.wait_for(|| files() == 0, "an empty queue");
    }

    fn wait_for(&self, done: impl Fn() -> bool, what: &str) {
        let until = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < until, "Postfix: no {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let id = Pid::from_raw(self.master.id().cast_signed());
        let _ = kill(id, Signal::SIGTERM);
        if play::wait_until(&mut self.master, Instant::now() + Duration::from_secs(5)).is_none() {
            // It leads its own session, with all its services.
            let _ = killpg(id, Signal::SIGKILL);
            let _ = self.master.wait();
        }
    }
}

const MAIN_CF: &str = "compatibility_level = 3.6
queue_directory = {DIR}/spool
data_directory = {DIR}/data
myhostname = mx.here.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = here.example
virtual_mailbox_base = {DIR}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
default_transport = error:no outside
relay_transport = error:no outside
smtpd_relay_restrictions = permit_mynetworks, reject
qmqpd_authorized_clients = 127.0.0.1
maillog_file = {DIR}/maillog
maillog_file_prefixes = /var, /dev/stdout, {DIR}
";

const MASTER_CF: &str = "pickup    unix  n - n 5 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
";
