//! Real mail servers of a test's own: Postfix as installed, Exim unpacked from its package.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{handover, play, store};

/// A private instance of Postfix that takes mail for here.example; its maildir is `mail/inbox`.
pub struct Postfix {
    dir: TempDir,
    pub qmqp: u16,
    master: Child,
}

const DAEMONS: &str = "/usr/lib/postfix/sbin";

impl Postfix {
    /// Starts one; `None`, with a loud word, where that cannot be. `settings` are further lines of main.cf.
    pub fn start(settings: &str) -> Option<Self> {
        if !super::require_root() || super::require("postfix").is_none() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("pf-").tempdir_in("/tmp").unwrap();
        let root = dir.path().to_str().unwrap();
        let qmqp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for name in ["etc", "spool", "data", "mail"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {root}/spool\ndata_directory = {root}/data\n\
             myhostname = mx.example.test\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmydestination =\n\
             local_recipient_maps =\nalias_maps =\nalias_database =\nvirtual_mailbox_domains = here.example\n\
             virtual_mailbox_base = {root}/mail\nvirtual_mailbox_maps = static:inbox/\nvirtual_uid_maps = static:65534\n\
             virtual_gid_maps = static:65534\ndefault_transport = error:no outside\nrelay_transport = error:no outside\n\
             maillog_file = {root}/maillog\nmaillog_file_prefixes = /var, /dev/stdout, {root}\n{settings}\n"
        );
        let mut master = format!("127.0.0.1:{qmqp} inet n - n - - qmqpd\npickup unix n - n 60 1 pickup\n");
        for line in [
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "virtual unix - n n - - virtual",
            "anvil unix - - n - 1 anvil",
            "postlog unix-dgram n - n - 1 postlogd",
        ] {
            master += &format!("{line}\n");
        }
        fs::write(dir.path().join("etc/main.cf"), main).unwrap();
        fs::write(dir.path().join("etc/master.cf"), master).unwrap();
        let prepare = format!(
            "chown postfix {root}/data; chown nobody:nogroup {root}/mail; chmod 711 {root}; postfix -c {root}/etc check"
        );
        sh(&prepare);
        let etc = dir.path().join("etc");
        let log = fs::File::create(dir.path().join("master.out")).unwrap();
        let master = Command::new("setsid")
            .args([&format!("{DAEMONS}/master"), "-d"])
            .env("MAIL_CONFIG", &etc)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let postfix = Self { dir, qmqp, master };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", qmqp)).is_err() {
            assert!(Instant::now() < until, "postfix does not start: {}", postfix.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(postfix)
    }

    /// Its configuration directory.
    pub fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// What arrived.
    pub fn inbox(&self) -> PathBuf {
        self.dir.path().join("mail/inbox")
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("maillog")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // It leads a session of its own; TERM ends it with all its daemons.
        let master = fs::read_to_string(self.dir.path().join("spool/pid/master.pid")).unwrap_or_default();
        if let Ok(pid) = master.trim().parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        play::wait(&mut self.master, Duration::from_secs(5));
    }
}

/// Exim from Debian's package, unpacked and not installed; it delivers to `mail/inbox` before it ends.
pub struct Exim {
    dir: TempDir,
}

impl Exim {
    /// Unpacks one. `settings` are further main options, `acl` the ACL for mail that does not come by SMTP.
    pub fn unpack(settings: &str, acl: &str) -> Option<Self> {
        Self::delivering(settings, acl, MAILDIR)
    }

    /// As [`Exim::unpack`], with these options of the transport; `{DIR}` is its directory.
    pub fn delivering(settings: &str, acl: &str, transport: &str) -> Option<Self> {
        if !super::require_root() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ex-").tempdir_in("/tmp").unwrap();
        let root = dir.path().to_str().unwrap();
        let from = std::env::var("POSTERN_TESTS_EXIM").unwrap_or_default();
        let got = format!(
            "cd {root} && if [ -n '{from}' ]; then cp '{from}'/*.deb .; else apt-get -qq download exim4-daemon-light libidn12; fi \
             && for f in *.deb; do dpkg -x $f x; done && cp x/usr/sbin/exim4 exim && chmod 755 exim && mkdir spool log mail && \
             chown -R nobody:nogroup spool log mail && chmod 755 ."
        );
        let done = Command::new("sh").args(["-c", &got]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if !done.success() {
            super::skip("Debian's exim4-daemon-light cannot be had");
            return None;
        }
        let conf = format!(
            "exim_path = {root}/exim\ndeliver_drop_privilege = true\nexim_user = nobody\nexim_group = nogroup\n\
             spool_directory = {root}/spool\nlog_file_path = {root}/log/%slog\npid_file_path = {root}/exim.pid\n\
             primary_hostname = mx.example.test\ndomainlist local_domains = here.example : [192.0.2.25]\ntrusted_users = nobody\nnever_users =\n\
             host_lookup =\ntls_advertise_hosts =\nkeep_environment =\nacl_not_smtp = acl_batch\n{settings}\nbegin acl\nacl_batch:\n\
             {acl}\nbegin routers\nlocal:\n  driver = accept\n  domains = +local_domains\n  caseful_local_part\n  \
             transport = ours\nbegin transports\nours:\n{transport}  user = nobody\n  group = nogroup\nbegin retry\n\
             begin rewrite\n"
        )
        .replace("{DIR}", root);
        fs::write(dir.path().join("exim.conf"), conf).unwrap();
        for (file, line) in
            [("passwd", "Debian-exim:x:65533:65533::/:/bin/false\n"), ("group", "Debian-exim:x:65533:\n")]
        {
            let text = fs::read_to_string(format!("/etc/{file}")).unwrap();
            fs::write(dir.path().join(file), text + line).unwrap();
        }
        Some(Self { dir })
    }

    /// A program that calls it as nobody, with the arguments that it is given.
    pub fn program(&self) -> String {
        let root = self.dir.path().display();
        // Debian's wants a user of its own by name: it sees one in a file of ours, so that the machine's stays as it is.
        format!(
            "#!/bin/sh\nexport LD_LIBRARY_PATH={root}/x/usr/lib/$(uname -m)-linux-gnu\nexec unshare -m sh -c '\n\
             mount --bind {root}/passwd /etc/passwd && mount --bind {root}/group /etc/group &&\n\
             exec setpriv --reuid=65534 --regid=65534 --clear-groups {root}/exim -C {root}/exim.conf -odi \"$@\"' sh \"$@\"\n"
        )
    }

    /// Lets every user write where it writes, before it has.
    pub fn open_to_all(&self) {
        sh(&format!(
            "cd {} && mkdir -p spool/db spool/input spool/msglog && chmod -R 777 spool log mail",
            self.dir.path().display()
        ));
    }

    /// What arrived.
    pub fn inbox(&self) -> PathBuf {
        self.dir.path().join("mail/inbox")
    }

    /// A path of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log/mainlog")).unwrap_or_default()
    }
}

const MAILDIR: &str =
    "  driver = appendfile\n  directory = {DIR}/mail/inbox\n  create_directory\n  maildir_format\n  return_path_add\n";

fn sh(command: &str) {
    let done = Command::new("sh").args(["-c", command]).env("PATH", super::PATH).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits for the next message in a maildir, and takes it out.
pub fn next(inbox: &Path, log: &dyn Fn() -> String) -> Vec<u8> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(path) = store::names(&inbox.join("new")).first() {
            let message = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            return message;
        }
        assert!(Instant::now() < until, "nothing arrives: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Hands every message over, and compares what arrives.
pub fn byte_for_byte(backend: &str, room: &super::room::Room, inbox: &Path, log: &dyn Fn() -> String) {
    for (name, message) in handover::messages() {
        let input = handover::session("-a@client.example", "x@here.example", &message);
        let outcome = play::Play::new(room).run(&input);
        let reply = handover::decided(backend, name, &outcome);
        assert_eq!(reply.code, 250, "{name}: {}\n{}", outcome.log, log());
        let stored = next(inbox, log);
        assert!(handover::is_whole(&stored, &message), "{name}: {}", String::from_utf8_lossy(&stored));
        let stored = String::from_utf8_lossy(&stored).to_ascii_lowercase();
        assert!(stored.contains("return-path: <-a@client.example>"), "{name}: the reverse-path: {stored}");
    }
}
