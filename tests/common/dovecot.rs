//! A private Dovecot that takes mail by LMTP: its own configuration, users, mail and log in one directory.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

use super::{play, store};

/// A Dovecot at work. It ends when this is dropped.
pub struct Dovecot {
    dir: TempDir,
    master: Child,
    /// LMTP over TCP; the Unix socket is `lmtp` in its directory.
    pub port: u16,
}

impl Dovecot {
    /// Starts one that knows these users (`local-part@domain`, not quoted), each with a maildir of that name in `mail`, and the
    /// user `full@here.example`, who has no room, and `broken@here.example`, who cannot have a maildir.
    pub fn start(users: &[String]) -> Option<Dovecot> {
        let program = super::require("dovecot")?;
        if !super::require_root() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("dc-").tempdir_in("/tmp").unwrap();
        let root = dir.path().to_str().unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        for name in ["run", "state", "mail"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            chown(dir.path().join(name), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        }
        let row = |name: &str, home: &str, more: &str| format!("{name}:{{PLAIN}}x:65534:65534::{home}::{more}\n");
        let mut passwd: String = users.iter().map(|name| row(name, &format!("{root}/mail/{name}"), "")).collect();
        passwd += &row("full@here.example", &format!("{root}/mail/full"), "userdb_quota_rule=*:bytes=1");
        passwd += &row("broken@here.example", "/proc", "userdb_mail=maildir:/proc/nowhere");
        fs::write(dir.path().join("passwd"), passwd).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = CONFIG.replace("{DIR}", root).replace("{PORT}", &port.to_string());
        fs::write(dir.path().join("dovecot.conf"), config).unwrap();
        let log = File::create(dir.path().join("output")).unwrap();
        let master = Command::new(program)
            .arg("-F")
            .arg("-c")
            .arg(dir.path().join("dovecot.conf"))
            .env_clear()
            .env("PATH", super::PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let dovecot = Dovecot { dir, master, port };
        let until = Instant::now() + Duration::from_secs(20);
        while !dovecot.path("lmtp").exists() || TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "Dovecot does not listen: {}", dovecot.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(dovecot)
    }

    /// A path of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every mail that has arrived, one for each recipient.
    pub fn arrived(&self) -> Vec<Vec<u8>> {
        store::maildirs(&self.path("mail")).iter().flat_map(|maildir| store::delivered(maildir)).collect()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("maillog")).unwrap_or_default()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Gone already is as good. On TERM it ends its services.
        let _ = kill(Pid::from_raw(self.master.id().cast_signed()), Signal::SIGTERM);
        play::wait(&mut self.master, Duration::from_secs(5));
    }
}

const CONFIG: &str = "base_dir = {DIR}/run
state_dir = {DIR}/state
instance_name = postern-test
log_path = {DIR}/maillog
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:~
mail_uid = 65534
mail_gid = 65534
first_valid_uid = 1
auth_username_chars =
auth_username_format = %u
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {DIR}/passwd
}
userdb {
  driver = passwd-file
  args = username_format=%u {DIR}/passwd
}
service auth {
  chroot =
  user = nobody
  unix_listener auth-userdb {
    mode = 0666
  }
}
service lmtp {
  unix_listener {DIR}/lmtp {
    mode = 0666
  }
  inet_listener lmtp {
    address = 127.0.0.1
    port = {PORT}
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
protocol lmtp {
  mail_plugins = quota
}
plugin {
  quota = maildir:User quota
}
";
