//! What the tests of the relaying backends share: a next hop that can be told to fail, and private instances of real ones.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User};

use crate::common::mta;
use crate::common::play::{End, Play};
use crate::common::room::Room;
use crate::common::{self, replies, workers};

/// What a next hop does at one step: `greeting`, `EHLO` (and `LHLO`), `MAIL`, `RCPT`, `DATA`, `content`, `first`, `middle` and
/// `last` (the reply to that chunk), `end`, `QUIT`.
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

/// A next hop that takes everything, but for its faults, and for recipients whose name begins with `no` (550) or `later` (450).
/// It serves until the test's end.
pub struct StandIn {
    /// 0 where it listens on a Unix socket.
    pub port: u16,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    said: Arc<Mutex<Vec<String>>>,
}

/// What a stand-in does.
#[derive(Clone, Debug)]
pub struct Ways {
    pub lmtp: bool,
    /// Offers CHUNKING and BINARYMIME.
    pub chunking: bool,
    /// Recipients of one connection that it refuses before it hangs up with 421.
    pub refusals_max: usize,
    pub step: &'static str,
    pub fault: Option<Fault>,
}

pub const WELL: Ways = Ways { lmtp: false, chunking: false, refusals_max: usize::MAX, step: "", fault: None };

impl StandIn {
    pub fn start(lmtp: bool, step: &'static str, fault: Option<Fault>) -> StandIn {
        StandIn::with(Ways { lmtp, step, fault, ..WELL })
    }

    pub fn with(ways: Ways) -> StandIn {
        StandIn::at("127.0.0.1:0", ways).unwrap()
    }

    /// An IPv6 address may be missing from the machine.
    pub fn at(address: &str, ways: Ways) -> std::io::Result<StandIn> {
        let listener = TcpListener::bind(address)?;
        let hop = StandIn { port: listener.local_addr()?.port(), taken: Arc::default(), said: Arc::default() };
        let (taken, said) = (Arc::clone(&hop.taken), Arc::clone(&hop.said));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let reader = Box::new(BufReader::new(client.try_clone().unwrap()));
                let (taken, said) = (Arc::clone(&taken), Arc::clone(&said));
                let ways = ways.clone();
                thread::spawn(move || Serving { reader, writer: Box::new(client), ways, taken, said }.serve());
            }
        });
        Ok(hop)
    }

    /// On a Unix socket.
    pub fn on_socket(path: &Path, ways: Ways) -> StandIn {
        let listener = UnixListener::bind(path).unwrap();
        let hop = StandIn { port: 0, taken: Arc::default(), said: Arc::default() };
        let (taken, said) = (Arc::clone(&hop.taken), Arc::clone(&hop.said));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let reader = Box::new(BufReader::new(client.try_clone().unwrap()));
                let (taken, said) = (Arc::clone(&taken), Arc::clone(&said));
                let ways = ways.clone();
                thread::spawn(move || Serving { reader, writer: Box::new(client), ways, taken, said }.serve());
            }
        });
        hop
    }

    /// The messages that it took, dots unstuffed.
    pub fn taken(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().clone()
    }

    /// The commands that it was given, of all connections; waits for this one.
    pub fn said(&self, last: &str) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.last().is_some_and(|line| line == last) || Instant::now() > until {
                return said;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One connection.
struct Serving {
    reader: Box<dyn BufRead + Send>,
    writer: Box<dyn Write + Send>,
    ways: Ways,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    /// Any error is a client that has gone.
    fn serve(mut self) {
        drop(self.talk());
    }

    /// Says the usual, or what the fault at this step makes of it. Whether it was the usual, or as good.
    fn say(&mut self, at: &str, usual: &str) -> std::io::Result<bool> {
        match self.ways.fault.as_ref().filter(|_| at == self.ways.step) {
            None => self.writer.write_all(usual.as_bytes()).map(|()| true),
            Some(Fault::Closes) => Err(std::io::ErrorKind::BrokenPipe.into()),
            Some(Fault::Says(text)) => self.writer.write_all(text.as_bytes()).map(|()| text.starts_with('2')),
            Some(Fault::Waits(time)) => {
                thread::sleep(*time);
                self.writer.write_all(usual.as_bytes()).map(|()| true)
            }
            Some(Fault::Stalls) => {
                thread::sleep(Duration::from_secs(60));
                Err(std::io::ErrorKind::TimedOut.into())
            }
            Some(Fault::Dribbles) => loop {
                self.writer.write_all(b"2")?;
                thread::sleep(Duration::from_millis(200));
            },
        }
    }

    fn talk(&mut self) -> std::io::Result<()> {
        self.say("greeting", "220 hop\r\n")?;
        let (mut recipients, mut refused) = (0, 0);
        let (mut binary, mut chunks, mut message, mut broken) = (false, 0, Vec::new(), false);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            self.said.lock().unwrap().push(line.trim_end().to_owned());
            let verb = line.get(..4).unwrap_or_default().replace("LHLO", "EHLO");
            let usual = match &*verb {
                "EHLO" if self.ways.chunking => {
                    "250-hop\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 8BITMIME\r\n"
                }
                "EHLO" => "250-hop\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                "DATA" if binary => "503 5.5.1 BDAT is wanted\r\n",
                "DATA" => "354 go ahead\r\n",
                "QUIT" => "221 bye\r\n",
                "RCPT" if line.contains("<no") && refused >= self.ways.refusals_max => "421 4.7.0 too many errors\r\n",
                "RCPT" if line.contains("<no") => {
                    refused += 1;
                    "550 5.1.1 nobody of that name\r\n"
                }
                "RCPT" if line.contains("<later") => "450 4.2.1 busy\r\n",
                "RCPT" => {
                    recipients += 1;
                    "250 ok\r\n"
                }
                _ => "250 ok\r\n",
            };
            if verb == "BDAT" && self.ways.chunking {
                let mut words = line.split_ascii_whitespace().skip(1);
                let octets: u64 = words.next().unwrap().parse().unwrap();
                let last = words.next() == Some("LAST");
                let read = Read::by_ref(&mut self.reader).take(octets).read_to_end(&mut message)?;
                if read as u64 != octets {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                chunks += 1;
                let step = if last { "last" } else { ["middle", "first"][usize::from(chunks == 1)] };
                if broken {
                    self.writer.write_all(b"503 5.5.1 no transaction\r\n")?;
                    continue;
                }
                if last {
                    self.taken.lock().unwrap().push(std::mem::take(&mut message));
                }
                let times = if self.ways.lmtp && last { recipients } else { 1 };
                let usual = if last { "250 2.0.0 Ok: queued as STANDIN\r\n" } else { "250 ok\r\n" };
                broken = !self.say(step, &usual.repeat(times))?;
                continue;
            }
            if verb == "MAIL" {
                (binary, chunks, broken) = (line.contains("BINARYMIME"), 0, false);
                message.clear();
            }
            self.say(&verb, usual)?;
            if usual.starts_with("421") {
                return Ok(());
            }
            let said = matches!(self.ways.fault, Some(Fault::Says(_)));
            if verb == "DATA" && !binary && !(self.ways.step == "DATA" && said) {
                if self.ways.step == "content" {
                    self.reader.read_line(&mut String::new())?;
                    self.say("content", "")?;
                    return Ok(());
                }
                let message = content(&mut self.reader)?;
                // As long as it has not said so, it may drop it; ours does not.
                self.taken.lock().unwrap().push(message);
                let times = if self.ways.lmtp { recipients } else { 1 };
                self.say("end", &"250 2.0.0 Ok: queued as STANDIN\r\n".repeat(times))?;
            }
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
        Real::postfix_on("127.0.0.1", options)
    }

    /// The same on this address, in brackets if it is an IPv6 one.
    pub fn postfix_on(address: &str, options: &str) -> Option<Real> {
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
        let main = MAIN.replace("{DIR}", &shown).replace("{ADDRESS}", address) + options;
        fs::write(dir.path().join("etc/main.cf"), main).unwrap();
        fs::write(
            dir.path().join("etc/master.cf"),
            MASTER.replace("{PORT}", &port.to_string()).replace("{ADDRESS}", address),
        )
        .unwrap();
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
        wait_for("Postfix does not listen", || TcpStream::connect(format!("{address}:{port}")).is_ok());
        Some(real)
    }

    /// Debian's Exim, unpacked, that listens. Recipients `no@` and `later@here.example` are refused there.
    pub fn exim(exim: &mta::Exim) -> Real {
        let (dir, port) = (directory(), free_port());
        let program = dir.path().join("exim");
        fs::write(&program, exim.program()).unwrap();
        let child = spawn(
            dir.path(),
            Command::new("sh").env_clear().arg(&program).args(["-bdf", "-oX", &format!("127.0.0.1.{port}")]),
        );
        let real = Real { dir, port, child };
        wait_for("Exim does not listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        real
    }

    /// Debian's OpenSMTPD, unpacked: it conflicts with Postfix. It takes mail for `u@here.example`, up to 5000 octets a message
    /// where `small`. It sees users, directories and a socket of its own in a mount namespace; the machine stays as it is.
    pub fn opensmtpd(small: bool) -> Option<Real> {
        if !common::require_root() {
            return None;
        }
        let (dir, port) = (directory(), free_port());
        let shown = dir.path().to_str().unwrap().to_owned();
        let from = std::env::var("POSTERN_TESTS_OPENSMTPD").unwrap_or_default();
        let got = format!(
            "cd {shown} && if [ -n '{from}' ]; then cp '{from}'/*.deb .; else apt-get -qq download opensmtpd libevent-2.1-7 libdb5.3; fi \
             && for f in *.deb; do dpkg -x $f x; done && test -x x/usr/sbin/smtpd"
        );
        let done = Command::new("sh").args(["-c", &got]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if !done.success() {
            common::skip("Debian's opensmtpd cannot be had");
            return None;
        }
        let limit = if small { "smtp max-message-size 5000\n" } else { "" };
        let config = OPENSMTPD.replace("{DIR}", &shown).replace("{PORT}", &port.to_string()).replace("{LIMIT}", limit);
        fs::write(dir.path().join("smtpd.conf"), config).unwrap();
        for (file, lines) in [
            (
                "passwd",
                format!(
                    "opensmtpd:x:6401:6401::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n\
                     opensmtpq:x:6402:6402::/var/lib/opensmtpd/empty:/usr/sbin/nologin\nu:x:3001:65534::{shown}/home:/bin/sh\n"
                ),
            ),
            ("group", "opensmtpd:x:6401:\nopensmtpq:x:6402:\n".to_owned()),
        ] {
            let text = fs::read_to_string(format!("/etc/{file}")).unwrap();
            fs::write(dir.path().join(file), text + &lines).unwrap();
        }
        for name in ["home", "mail"] {
            chown(make(dir.path(), name, None), Some(3001), Some(65534)).unwrap();
        }
        let script = format!(
            "set -e\nfor d in /var/spool /var/lib /run; do mount -t tmpfs t $d; done\nmkdir -p /var/lib/opensmtpd/empty\n\
             mkdir -p /usr/libexec\nmount -t tmpfs t /usr/libexec\ncp -a {shown}/x/usr/libexec/. /usr/libexec/\n\
             mount --bind {shown}/passwd /etc/passwd\nmount --bind {shown}/group /etc/group\n\
             export LD_LIBRARY_PATH={shown}/x/usr/lib/$(uname -m)-linux-gnu\nexec {shown}/x/usr/sbin/smtpd -d -f {shown}/smtpd.conf\n"
        );
        let child = spawn(
            dir.path(),
            Command::new("unshare").env_clear().args(["--mount", "--propagation", "private", "sh", "-c", &script]),
        );
        let real = Real { dir, port, child };
        wait_for("OpenSMTPD does not listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(real)
    }

    /// What it said on its standard output and error.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
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
inet_interfaces = {ADDRESS}
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

const MASTER: &str = "{ADDRESS}:{PORT} inet n - n - - smtpd
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

/// For [`Real::exim`]: main options, and the ACLs.
pub const EXIM: (&str, &str) = (
    "acl_smtp_rcpt = acl_rcpt\nacl_smtp_data = acl_data\nmessage_size_limit = 1M\naccept_8bitmime = true\nchunking_advertise_hosts = *",
    "  accept\nacl_rcpt:\n  deny local_parts = no\n       message = nobody\n  defer local_parts = later\n        message = busy\n  \
     accept\nacl_data:\n  deny condition = ${if eq{$h_Subject:}{bad}}\n       message = no bad ones\n  accept",
);

const OPENSMTPD: &str = "listen on 127.0.0.1 port {PORT}
{LIMIT}table d { here.example }
action \"md\" maildir \"{DIR}/mail\"
match from any for domain <d> action \"md\"
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

/// Killed at system calls from the connect on: what was acknowledged is there.
pub fn killed_in_the_hand_over(backend: &str, input: &[u8], content: &[u8]) {
    let start = || StandIn::with(WELL);
    let Some(strace) = common::require("strace") else { return };
    let line = |hop: &StandIn| Room::new(&format!("rcpt_ok\n{backend} 127.0.0.1:{}\n", hop.port));
    let hop = start();
    let traced = line(&hop);
    let trace = traced.path("log/trace");
    let words = [strace.as_os_str(), "-qq".as_ref(), "-f".as_ref(), "-o".as_ref(), trace.as_os_str()];
    let outcome = Play::new(&traced).under(words).run(input);
    assert_eq!(hop.taken().len(), 1, "the run without a kill: {outcome:?}");
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut seen = BTreeMap::<String, usize>::new();
    let mut calls = Vec::new();
    let mut begun = false;
    for line in text.lines() {
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        let Some((name, _)) = call.split_once('(') else { continue };
        if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_') {
            continue;
        }
        let number = seen.entry(name.to_owned()).or_default();
        *number += 1;
        begun |= name == "connect" && call.contains(&format!("htons({})", hop.port));
        if begun {
            calls.push((name.to_owned(), *number));
        }
    }
    assert!(calls.len() > 10, "{text}");
    let runs = workers::each(&calls, |(name, number)| {
        let hop = start();
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let words = [
            strace.as_os_str(),
            "-qq".as_ref(),
            "-f".as_ref(),
            "-o".as_ref(),
            "/dev/null".as_ref(),
            "-e".as_ref(),
            OsStr::new(&inject),
        ];
        let room = line(&hop);
        let outcome = Play::new(&room).under(words).run(input);
        let end = outcome.output.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let replies = replies::of(&outcome.output[..end]);
        let accepted = replies::verdicts(&replies).into_iter().flatten().next().is_some_and(|reply| reply.class() == 2);
        (accepted, hop.taken(), outcome.end)
    });
    let killed = runs.iter().filter(|(_, _, end)| *end == End::Signal(9)).count();
    let accepted = runs.iter().filter(|(accepted, ..)| *accepted).count();
    let lost = runs.iter().filter(|(accepted, taken, _)| *accepted && taken.is_empty()).count();
    let half = runs.iter().flat_map(|(_, taken, _)| taken).filter(|message| !message.ends_with(content)).count();
    let repeated = runs.iter().filter(|(accepted, taken, _)| !*accepted && !taken.is_empty()).count();
    eprintln!(
        "| kill -9 | {backend} by DATA | tried {} | killed {killed} | accepted {accepted} | acknowledged but lost {lost} | \
         half visible {half} | may be doubled {repeated} |",
        runs.len()
    );
    assert!(lost + half == 0 && killed * 10 >= runs.len() * 8, "{killed} of {}", runs.len());
}
