//! What the tests of the relaying backends share: a next hop that can be told to fail, and private instances of real ones.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User};

use crate::common;

/// What a next hop does at one step: `greeting`, `EHLO` (and `LHLO`), `MAIL`, `RCPT`, `DATA`, `content`, `end`, `QUIT`.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Hangs up.
    Closes,
    /// Says this.
    Says(&'static str),
    /// Waits this long, then goes on as usual.
    Waits(Duration),
    /// Never says anything again.
    Stalls,
    /// One octet at a time, for ever.
    Dribbles,
}

/// A next hop that takes everything, but for its faults. It serves until the test's end.
pub struct StandIn {
    pub port: u16,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl StandIn {
    pub fn start(lmtp: bool, step: &'static str, fault: Option<Fault>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let store = Arc::clone(&taken);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (fault, store) = (fault.clone(), Arc::clone(&store));
                // Any error is a client that has gone.
                thread::spawn(move || drop(serve(client, lmtp, step, fault, &store)));
            }
        });
        StandIn { port, taken }
    }

    /// The messages that it took, dots unstuffed.
    pub fn taken(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().clone()
    }
}

/// Says the usual, or what the fault at this step makes of it.
fn say(client: &mut TcpStream, at: &str, step: &str, fault: &Option<Fault>, usual: &str) -> std::io::Result<()> {
    match fault.as_ref().filter(|_| at == step) {
        None => client.write_all(usual.as_bytes()),
        Some(Fault::Closes) => Err(std::io::ErrorKind::BrokenPipe.into()),
        Some(Fault::Says(text)) => client.write_all(text.as_bytes()),
        Some(Fault::Waits(time)) => {
            thread::sleep(*time);
            client.write_all(usual.as_bytes())
        }
        Some(Fault::Stalls) => {
            thread::sleep(Duration::from_secs(60));
            Err(std::io::ErrorKind::TimedOut.into())
        }
        Some(Fault::Dribbles) => loop {
            client.write_all(b"2")?;
            thread::sleep(Duration::from_millis(200));
        },
    }
}

fn serve(
    mut client: TcpStream,
    lmtp: bool,
    step: &str,
    fault: Option<Fault>,
    store: &Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    say(&mut client, "greeting", step, &fault, "220 hop\r\n")?;
    let mut recipients = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().replace("LHLO", "EHLO");
        let usual = match &*verb {
            "EHLO" => "250-hop\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            "DATA" => "354 go ahead\r\n",
            "QUIT" => "221 bye\r\n",
            "RCPT" => {
                recipients += 1;
                "250 ok\r\n"
            }
            _ => "250 ok\r\n",
        };
        say(&mut client, &verb, step, &fault, usual)?;
        if verb == "DATA" && (step != "DATA" || !matches!(fault, Some(Fault::Says(_)))) {
            if step == "content" {
                reader.read_line(&mut String::new())?;
                say(&mut client, "content", step, &fault, "")?;
                return Ok(());
            }
            let message = content(&mut reader)?;
            // As long as it has not said so, it may drop it; ours does not.
            store.lock().unwrap().push(message);
            let times = if lmtp { recipients } else { 1 };
            say(&mut client, "end", step, &fault, &"250 2.0.0 Ok: queued as STANDIN\r\n".repeat(times))?;
        }
    }
}

fn content(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match &line[..] {
            b".\r\n" => return Ok(message),
            [b'.', rest @ ..] => message.extend_from_slice(rest),
            line => message.extend_from_slice(line),
        }
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real server in a directory of its own.
pub struct Real {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Drop for Real {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Gone already is as good.
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The command must bring its own variables; it gets no others but PATH.
fn spawn(dir: &Path, command: &mut Command) -> Child {
    let log = File::create(dir.join("output")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .env("PATH", common::PATH)
        .process_group(0)
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("ph-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

fn make(dir: &Path, name: &str, owner: Option<&str>) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    if let Some(owner) = owner {
        let user = User::from_name(owner).unwrap().unwrap();
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    path
}

/// The files in every `new` below a directory.
fn below(dir: &Path) -> Vec<Vec<u8>> {
    common::store::maildirs(dir).iter().flat_map(|maildir| common::store::delivered(maildir)).collect()
}

impl Real {
    /// A Postfix whose smtpd has these further options. Recipients `no@` and `later@here.example` are refused there.
    pub fn postfix(options: &str) -> Option<Real> {
        let master = Path::new("/usr/lib/postfix/sbin/master");
        common::require("postfix")?;
        if !common::require_root() {
            return None;
        }
        let (dir, port) = (directory(), free_port());
        let shown = dir.path().to_str().unwrap().to_owned();
        make(dir.path(), "etc", None);
        make(dir.path(), "spool", None);
        make(dir.path(), "data", Some("postfix"));
        make(dir.path(), "mail", Some("nobody"));
        let main = MAIN.replace("{DIR}", &shown) + options;
        fs::write(dir.path().join("etc/main.cf"), main).unwrap();
        fs::write(dir.path().join("etc/master.cf"), MASTER.replace("{PORT}", &port.to_string())).unwrap();
        fs::write(
            dir.path().join("etc/judge"),
            "no@here.example 550 5.1.1 nobody\nlater@here.example 450 4.2.1 busy\n",
        )
        .unwrap();
        let etc = dir.path().join("etc");
        let made = Command::new("postfix").arg("-c").arg(&etc).arg("check").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let child = spawn(dir.path(), Command::new(master).arg("-d").env_clear().env("MAIL_CONFIG", &etc));
        let real = Real { dir, port, child };
        wait_for("Postfix does not listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(real)
    }

    /// A Dovecot that takes mail for `x@` and `y@here.example` by LMTP: a Unix socket `lmtp`, and the port.
    pub fn dovecot() -> Option<Real> {
        Self::dovecot_after("")
    }

    /// The same, in a mount namespace of its own if this shell command, which runs first, is not empty; `{DIR}` is its directory.
    pub fn dovecot_after(mount: &str) -> Option<Real> {
        let program = common::require("dovecot")?;
        if !common::require_root() {
            return None;
        }
        let (dir, port) = (directory(), free_port());
        for name in ["run", "state", "mail"] {
            make(dir.path(), name, Some("nobody"));
        }
        let shown = dir.path().to_str().unwrap().to_owned();
        let user = |name: &str, further: &str| {
            format!("{name}@here.example:{{PLAIN}}x:65534:65534::{shown}/mail/{name}@here.example::{further}\n")
        };
        let users = [user("x", ""), user("y", ""), user("full", "userdb_quota_rule=*:bytes=1")].concat();
        fs::write(dir.path().join("passwd"), users).unwrap();
        let config = DOVECOT.replace("{DIR}", &shown).replace("{PORT}", &port.to_string());
        fs::write(dir.path().join("dovecot.conf"), config).unwrap();
        let words = match mount {
            "" => vec!["sh", "-ec"],
            _ => vec!["unshare", "-m", "sh", "-ec"],
        };
        // One process from first to last: each becomes the next.
        let script = format!("{mount}\nexec {} -F -c {{DIR}}/dovecot.conf", program.display()).replace("{DIR}", &shown);
        let child = spawn(dir.path(), Command::new(words[0]).env_clear().args(&words[1..]).arg(script));
        let real = Real { dir, port, child };
        wait_for("Dovecot does not listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok() && real.dir.path().join("lmtp").exists()
        });
        Some(real)
    }

    /// Its first process, which has all others for children.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this many messages have arrived.
    pub fn mail(&self, count: usize) -> Vec<Vec<u8>> {
        let mail = self.dir.path().join("mail");
        let until = Instant::now() + Duration::from_secs(20);
        while below(&mail).len() < count && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        below(&mail)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("maillog")).unwrap_or_default()
    }
}

const MAIN: &str = "compatibility_level = 3.6
queue_directory = {DIR}/spool
data_directory = {DIR}/data
myhostname = hop.example
inet_interfaces = 127.0.0.1
inet_protocols = all
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
smtpd_relay_restrictions = permit_mynetworks, permit_auth_destination, reject
smtpd_recipient_restrictions = check_recipient_access texthash:{DIR}/etc/judge
maillog_file = {DIR}/maillog
maillog_file_prefixes = /var, /dev/stdout, {DIR}
";

const MASTER: &str = "127.0.0.1:{PORT} inet n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
error     unix  - - n - - error
retry     unix  - - n - - error
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
";

const DOVECOT: &str = "base_dir = {DIR}/run
state_dir = {DIR}/state
instance_name = postern-test
log_path = {DIR}/maillog
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
protocols = lmtp
listen = 127.0.0.1
ssl = no
mail_location = maildir:{DIR}/mail/%u
mail_uid = 65534
mail_gid = 65534
first_valid_uid = 1
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
