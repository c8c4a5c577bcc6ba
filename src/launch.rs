//! Who is at the other end, and who started us: from the launcher's environment and the socket to a [`Connection`].
//!
//! In: environment variables of tcpserver, tcpsvd, s6, xinetd, inetd and systemd, descriptors 0 to 2. Out: addresses, names,
//! what the administrator's rules say about this client, and notes about what could not be understood, for the log.
//! Whether any of it grants something is for `plugins/` to say. Nothing here trusts the client: names come out bounded and
//! reduced to harmless characters.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::dup2_stderr;

/// Longest host name kept, in octets (RFC 1035 §2.3.4).
const HOST_OCTETS_MAX: usize = 255;
/// Longest of the other texts kept, in octets: an ident answer (RFC 1413), RELAYCLIENT, RBLSMTPD.
const TEXT_OCTETS_MAX: usize = 255;

/// What is known of a connection before the first word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The client's address, never an IPv4-mapped one. None: a pipe, or a launcher that said something unintelligible.
    pub remote_ip: Option<IpAddr>,
    /// The client's port.
    pub remote_port: Option<u16>,
    /// The client's name as the launcher looked it up: letters, digits, `.`, `_` and `-`. Whether it was verified, it did not say.
    pub remote_host: Option<String>,
    /// What the client's ident server claims (RFC 1413): printable ASCII.
    pub remote_info: Option<String>,
    /// Our address in this connection.
    pub local_ip: Option<IpAddr>,
    /// Our port.
    pub local_port: Option<u16>,
    /// Our name for that address, as the launcher says.
    pub local_host: Option<String>,
    /// What started us, as far as can be told.
    pub launcher: Launcher,
    /// RELAYCLIENT, set by the administrator's rules for this client; may be empty. qmail appends it to forward-paths.
    pub relay_client: Option<String>,
    /// DATABYTES: octets that a message may have; 0 is no limit.
    pub databytes: Option<u64>,
    /// RBLSMTPD: non-empty to refuse with this text, empty to skip block lists.
    pub rblsmtpd: Option<String>,
    /// WHITELISTCLIENT is set.
    pub whitelist_client: bool,
    /// Connections from this address, this one included, where the launcher counts them (s6, tcpsvd -C).
    pub connections_from_client: Option<u64>,
    /// What could not be understood, for the log.
    pub notes: Vec<String>,
}

/// What started us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// tcpserver, tcpsvd, s6-tcpserver, sslserver, inetutils inetd: they set TCPREMOTEIP or the like.
    Ucspi,
    /// systemd, Accept=yes: REMOTE_ADDR.
    Systemd,
    /// xinetd: REMOTE_HOST, an address despite its name.
    Xinetd,
    /// Another inetd: no variables, and descriptor 2 is the client too.
    Inetd,
    /// A socket, and no word about it.
    Socket,
    /// No socket: a test run, or a wrapper that told nothing.
    Pipe,
}

impl Launcher {
    /// Its name in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ucspi => "ucspi",
            Self::Systemd => "systemd",
            Self::Xinetd => "xinetd",
            Self::Inetd => "inetd",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
        }
    }
}

/// Who a socket's peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// This one.
    Address(SocketAddr),
    /// A socket without an internet address, or whose client has gone already.
    Unknown,
    /// Not a socket.
    NoSocket,
}

/// What descriptor 0 can say of itself. Asked only if the environment leaves something open: each answer is a system call.
pub trait Ends {
    /// The far end.
    fn peer(&self) -> Peer;
    /// The near end.
    fn local(&self) -> Option<SocketAddr>;
    /// Whether descriptor 2 was the client when we started.
    fn stderr_was_client(&self) -> bool;
}

/// Descriptor 0.
pub struct Standard;

impl Ends for Standard {
    fn peer(&self) -> Peer {
        match crate::sys::client_socket().peer_addr() {
            Ok(address) => Peer::Address(address),
            Err(error) if error.raw_os_error() == Some(Errno::ENOTSOCK as i32) => Peer::NoSocket,
            Err(_) => Peer::Unknown,
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        crate::sys::client_socket().local_addr().ok()
    }

    fn stderr_was_client(&self) -> bool {
        !stderr_usable()
    }
}

static STDERR_WAS_CLIENT: AtomicBool = AtomicBool::new(false);

/// Points descriptor 2 at /dev/null if it is the client's socket or pipe, as under xinetd and inetd: the first thing in main,
/// before anything can panic. A terminal or a file stays, for there a person looks.
///
/// That 0, 1 and 2 are open at all std has seen to before main (it opens /dev/null).
pub fn protect_descriptors() -> io::Result<()> {
    let stderr = fstat(io::stderr())?;
    if !is_channel(&stderr) {
        return Ok(());
    }
    let same = |other: nix::Result<FileStat>| {
        other.is_ok_and(|other| (other.st_dev, other.st_ino) == (stderr.st_dev, stderr.st_ino))
    };
    // In this order: descriptor 0 is the one that mostly settles it.
    if same(fstat(crate::sys::INPUT)) || same(fstat(crate::sys::OUTPUT)) {
        STDERR_WAS_CLIENT.store(true, Relaxed);
        dup2_stderr(File::options().read(true).write(true).open("/dev/null")?)?;
    }
    Ok(())
}

/// Whether descriptor 2 leads to a log and not to the client, as [`protect_descriptors`] found it.
pub fn stderr_usable() -> bool {
    !STDERR_WAS_CLIENT.load(Relaxed)
}

fn is_channel(stat: &FileStat) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    kind == SFlag::S_IFSOCK || kind == SFlag::S_IFIFO
}

impl Connection {
    /// A connection of which nothing is known.
    pub fn unknown(launcher: Launcher) -> Self {
        Self {
            remote_ip: None,
            remote_port: None,
            remote_host: None,
            remote_info: None,
            local_ip: None,
            local_port: None,
            local_host: None,
            launcher,
            relay_client: None,
            databytes: None,
            rblsmtpd: None,
            whitelist_client: false,
            connections_from_client: None,
            notes: Vec::new(),
        }
    }

    /// Puts together what environment and socket say.
    pub fn from_environment(env: &dyn Fn(&str) -> Option<OsString>, ends: &dyn Ends) -> Self {
        let mut reader = Reader { env, notes: Vec::new() };
        let mut connection = reader.far_end(ends);
        reader.near_end(&mut connection, ends);
        reader.rules(&mut connection);
        connection.notes = reader.notes;
        connection
    }
}

/// Reads the environment, and notes what it cannot understand.
struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<OsString>,
    notes: Vec<String>,
}

impl Reader<'_> {
    /// In the order of who knows best: UCSPI variables, systemd's, xinetd's, the socket. The first that is set decides, even
    /// if it cannot be understood: the address of a proxy in front, which the socket would give, may be one that may relay.
    fn far_end(&mut self, ends: &dyn Ends) -> Connection {
        if let Some((prefix, text)) = self.ucspi() {
            let mut connection = Connection::unknown(Launcher::Ucspi);
            connection.remote_ip = self.address(&format!("{prefix}REMOTEIP"), &text);
            self.ucspi_details(&prefix, &mut connection);
            return connection;
        }
        if let Some(text) = (self.env)("REMOTE_ADDR") {
            let mut connection = Connection::unknown(Launcher::Systemd);
            connection.remote_ip = self.address("REMOTE_ADDR", &text);
            connection.remote_port = self.number("REMOTE_PORT");
            return connection;
        }
        if let Some(ip) = (self.env)("REMOTE_HOST").and_then(|text| parse_ip(text.to_str()?)) {
            let mut connection = Connection::unknown(Launcher::Xinetd);
            connection.remote_ip = Some(ip);
            // The socket has the port as well, but only if nothing stands between.
            if let Peer::Address(address) = ends.peer()
                && address.ip().to_canonical() == ip
            {
                connection.remote_port = Some(address.port());
            }
            return connection;
        }
        let peer = ends.peer();
        let mut connection = Connection::unknown(match peer {
            Peer::NoSocket => Launcher::Pipe,
            _ if ends.stderr_was_client() => Launcher::Inetd,
            _ => Launcher::Socket,
        });
        match peer {
            Peer::Address(address) => {
                connection.remote_ip = Some(address.ip().to_canonical());
                connection.remote_port = Some(address.port());
            }
            Peer::Unknown => self.notes.push("the socket has no internet peer".to_owned()),
            Peer::NoSocket => self.notes.push("no socket and no launcher's variables".to_owned()),
        }
        connection
    }

    /// The prefix that the launcher uses, and the address it gives.
    fn ucspi(&self) -> Option<(String, OsString)> {
        let given = |prefix: &str| {
            let text = (self.env)(&format!("{prefix}REMOTEIP"))?;
            Some((prefix.to_owned(), text))
        };
        let own = || {
            let prefix = (self.env)("PROTO")?.into_string().ok()?;
            let harmless = |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit();
            (!prefix.is_empty() && prefix.len() <= 16 && prefix.bytes().all(harmless)).then_some(prefix)
        };
        given("TCP").or_else(|| given(&own()?)).or_else(|| given("TCP6"))
    }

    fn ucspi_details(&mut self, prefix: &str, connection: &mut Connection) {
        let name = |suffix: &str| format!("{prefix}{suffix}");
        connection.remote_port = self.number(&name("REMOTEPORT"));
        connection.remote_host = self.host(&name("REMOTEHOST"));
        connection.remote_info = self.printable(&name("REMOTEINFO")).filter(|text| !text.is_empty());
        // s6 gives a listening socket's wildcard address, tcpsvd a service's name as the port: then the socket is asked.
        connection.local_ip =
            (self.env)(&name("LOCALIP")).and_then(|text| parse_ip(text.to_str()?)).filter(|ip| !ip.is_unspecified());
        connection.local_port = (self.env)(&name("LOCALPORT")).and_then(|text| text.to_str()?.parse().ok());
        connection.local_host = self.host(&name("LOCALHOST"));
        // s6 counts the others, tcpsvd counts this one too.
        let others = self.number::<u32>(&name("CONNNUM")).map(|others| u64::from(others) + 1);
        connection.connections_from_client = others.or_else(|| self.number::<u32>(&name("CONCURRENCY")).map(u64::from));
    }

    fn near_end(&self, connection: &mut Connection, ends: &dyn Ends) {
        let complete = connection.local_ip.is_some() && connection.local_port.is_some();
        if complete || connection.launcher == Launcher::Pipe {
            return;
        }
        if let Some(address) = ends.local() {
            connection.local_ip.get_or_insert(address.ip().to_canonical());
            connection.local_port.get_or_insert(address.port());
        }
    }

    /// What the administrator's rules (tcprules, ipsvd-instruct, xinetd's `env`) say about this client.
    fn rules(&mut self, connection: &mut Connection) {
        connection.databytes = self.number("DATABYTES");
        connection.rblsmtpd = self.printable("RBLSMTPD");
        // Both grant something to whoever connects from the address that the rules looked at. Without an address no rule can
        // have looked at one: the variable was left over in the launcher's environment (all of them pass it on), and would
        // make an open relay of every pipe.
        let relay_client = self.printable("RELAYCLIENT");
        let whitelist_client = (self.env)("WHITELISTCLIENT").is_some();
        if connection.remote_ip.is_some() {
            connection.relay_client = relay_client;
            connection.whitelist_client = whitelist_client;
        } else if relay_client.is_some() || whitelist_client {
            let what = "RELAYCLIENT and WHITELISTCLIENT are ignored: no client address is known";
            self.notes.push(what.to_owned());
        }
    }

    fn address(&mut self, name: &str, text: &OsString) -> Option<IpAddr> {
        let ip = text.to_str().and_then(parse_ip);
        if ip.is_none() {
            self.note(name, "an IP address", text);
        }
        ip
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        let text = (self.env)(name)?;
        let number = text.to_str().and_then(|text| text.parse().ok());
        if number.is_none() {
            self.note(name, "a number in range", &text);
        }
        number
    }

    /// A name from the DNS is the client's to choose, so only what a host name may hold is kept.
    fn host(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?.into_string().ok()?;
        let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let host: String = text.chars().filter(kept).take(HOST_OCTETS_MAX).collect();
        (!host.is_empty()).then_some(host)
    }

    /// Printable ASCII. Set to anything is still set.
    fn printable(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?;
        let kept = |c: &char| c.is_ascii_graphic() || *c == ' ';
        Some(text.to_string_lossy().chars().filter(kept).take(TEXT_OCTETS_MAX).collect())
    }

    fn note(&mut self, name: &str, wanted: &str, text: &OsString) {
        let shown: String = text.to_string_lossy().chars().take(64).collect();
        self.notes.push(format!("{name} is not {wanted}: {shown:?}"));
    }
}

/// An address as launchers write it: no brackets; an interface may follow (`fe80::1%eth0`); IPv4-mapped becomes IPv4.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address = match text.split_once('%') {
        Some((address, _interface)) if address.contains(':') => address,
        _ => text,
    };
    address.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::ffi::OsStringExt;

    /// A descriptor 0 with given answers, which counts how often it is asked.
    struct Fake {
        peer: Peer,
        local: Option<&'static str>,
        stderr_was_client: bool,
        asked: Cell<u32>,
    }

    impl Ends for Fake {
        fn peer(&self) -> Peer {
            self.asked.set(self.asked.get() + 1);
            self.peer
        }
        fn local(&self) -> Option<SocketAddr> {
            self.asked.set(self.asked.get() + 1);
            self.local.map(|text| text.parse().expect("an address"))
        }
        fn stderr_was_client(&self) -> bool {
            self.stderr_was_client
        }
    }

    fn pipe() -> Fake {
        Fake { peer: Peer::NoSocket, local: None, stderr_was_client: false, asked: Cell::new(0) }
    }

    fn socket(peer: &str) -> Fake {
        let peer = Peer::Address(peer.parse().expect("an address"));
        Fake { peer, local: Some("[::ffff:192.0.2.25]:25"), ..pipe() }
    }

    fn gone() -> Fake {
        Fake { peer: Peer::Unknown, ..pipe() }
    }

    type Env<'a> = &'a [(&'a str, &'a str)];

    fn read(env: Env<'_>, ends: &Fake) -> Connection {
        let lookup = |name: &str| {
            let found = env.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Connection::from_environment(&lookup, ends)
    }

    /// launcher, ip and port of the far end, of the near end, number of notes.
    fn summary(connection: &Connection) -> String {
        fn show<T: ToString>(value: Option<T>) -> String {
            value.map_or("-".to_owned(), |value| value.to_string())
        }
        format!(
            "{:?} {} {} {} {} {}",
            connection.launcher,
            show(connection.remote_ip),
            show(connection.remote_port),
            show(connection.local_ip),
            show(connection.local_port),
            connection.notes.len()
        )
    }

    #[test]
    fn far_and_near_end_by_launcher() {
        let proxy = || socket("127.0.0.1:999");
        #[rustfmt::skip]
        let table: Vec<(Env<'_>, Fake, &str)> = vec![
            // What a launcher says and we cannot read is unknown, and the socket is not believed instead.
            (&[("TCPREMOTEIP", "")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "unknown")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "192.0.2.256")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "192.0.2.1 ")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "010.0.0.1")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "1.2.3.4%eth0")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("TCPREMOTEIP", "[2001:db8::1]")], proxy(), "Ucspi - - 192.0.2.25 25 1"),
            (&[("REMOTE_ADDR", "/run/client.sock")], gone(), "Systemd - - - - 1"),
            (&[("TCPREMOTEIP", "192.0.2.1"), ("TCPREMOTEPORT", "65536")], pipe(), "Ucspi 192.0.2.1 - - - 1"),
            // tcpserver, tcpsvd with a service's name, s6 with a wildcard.
            (&[("PROTO", "TCP"), ("TCPREMOTEIP", "192.0.2.1"), ("TCPREMOTEPORT", "1025"), ("TCPLOCALIP", "192.0.2.9"),
               ("TCPLOCALPORT", "587")], proxy(), "Ucspi 192.0.2.1 1025 192.0.2.9 587 0"),
            (&[("TCPREMOTEIP", "192.0.2.1"), ("TCPLOCALIP", "192.0.2.9"), ("TCPLOCALPORT", "smtp")], proxy(),
               "Ucspi 192.0.2.1 - 192.0.2.9 25 0"),
            (&[("TCPREMOTEIP", "2001:DB8::1"), ("TCPLOCALIP", "::"), ("TCPLOCALPORT", "25")], proxy(),
               "Ucspi 2001:db8::1 - 192.0.2.25 25 0"),
            // Behind a wrapper with pipes only the environment counts.
            (&[("TCPREMOTEIP", "192.0.2.1")], pipe(), "Ucspi 192.0.2.1 - - - 0"),
            // Other prefixes; an IPv4-mapped address in both spellings.
            (&[("PROTO", "SSL"), ("SSLREMOTEIP", "192.0.2.1"), ("SSLREMOTEPORT", "7")], pipe(), "Ucspi 192.0.2.1 7 - - 0"),
            (&[("PROTO", "TCP6"), ("TCP6REMOTEIP", "::ffff:192.0.2.1")], pipe(), "Ucspi 192.0.2.1 - - - 0"),
            (&[("TCP6REMOTEIP", "::ffff:c000:0201")], pipe(), "Ucspi 192.0.2.1 - - - 0"),
            (&[("PROTO", "TCP6"), ("TCPREMOTEIP", "192.0.2.1"), ("TCP6REMOTEIP", "::1")], pipe(), "Ucspi 192.0.2.1 - - - 0"),
            (&[("PROTO", "LD_"), ("LD_REMOTEIP", "192.0.2.1")], pipe(), "Pipe - - - - 1"),
            (&[("PROTO", ""), ("REMOTEIP", "192.0.2.1")], pipe(), "Pipe - - - - 1"),
            // s6-ipcserver: a local socket.
            (&[("PROTO", "IPC"), ("IPCREMOTEEUID", "0")], gone(), "Socket - - - - 1"),
            // systemd.
            (&[("REMOTE_ADDR", "fe80::1%eth0"), ("REMOTE_PORT", "99")], socket("[fe80::1]:99"), "Systemd fe80::1 99 192.0.2.25 25 0"),
            // xinetd: REMOTE_HOST is an address, or nothing of use.
            (&[("REMOTE_HOST", "::ffff:192.0.2.1")], socket("[::ffff:192.0.2.1]:99"), "Xinetd 192.0.2.1 99 192.0.2.25 25 0"),
            (&[("REMOTE_HOST", "192.0.2.1")], proxy(), "Xinetd 192.0.2.1 - 192.0.2.25 25 0"),
            (&[("REMOTE_HOST", "mail.example")], socket("192.0.2.1:99"), "Socket 192.0.2.1 99 192.0.2.25 25 0"),
            // No word from the launcher.
            (&[], Fake { stderr_was_client: true, ..socket("192.0.2.1:99") }, "Inetd 192.0.2.1 99 192.0.2.25 25 0"),
            (&[], socket("[::ffff:192.0.2.1]:99"), "Socket 192.0.2.1 99 192.0.2.25 25 0"),
            (&[], gone(), "Socket - - - - 1"),
            (&[], pipe(), "Pipe - - - - 1"),
        ];
        for (env, ends, expected) in table {
            assert_eq!(summary(&read(env, &ends)), expected, "{env:?}");
        }
        let long = read(&[("TCPREMOTEIP", &"9".repeat(100_000))], &pipe());
        assert!(long.notes.iter().all(|note| note.len() < 200), "a note is for a log line");
    }

    #[test]
    fn a_full_environment_costs_no_system_call() {
        let ends = socket("192.0.2.7:1");
        let names = ["TCPREMOTEIP", "TCPLOCALIP"].map(|name| (name, "192.0.2.1"));
        let ports = ["TCPREMOTEPORT", "TCPLOCALPORT"].map(|name| (name, "25"));
        read(&[names, ports].concat(), &ends);
        assert_eq!(ends.asked.get(), 0);
    }

    #[test]
    fn names_are_made_harmless() {
        let long = "a".repeat(1000);
        #[rustfmt::skip]
        let table = [
            ("", None),
            ("\r\n250 ok", Some("250ok")),
            ("<script>.example", Some("script.example")),
            ("a_b-c.example", Some("a_b-c.example")),
            ("b\u{fc}cher.example", Some("bcher.example")),
            (&long, Some(&long[..255])),
        ];
        for (text, expected) in table {
            let env = [("TCPREMOTEIP", "192.0.2.1"), ("TCPREMOTEHOST", text), ("TCPLOCALHOST", text)];
            let connection = read(&env, &pipe());
            assert_eq!(connection.remote_host.as_deref(), expected);
            assert_eq!(connection.local_host.as_deref(), expected);
        }
        let env = [("TCPREMOTEIP", "192.0.2.1"), ("TCPREMOTEINFO", "user\r\n\u{1b}[31m 7")];
        assert_eq!(read(&env, &pipe()).remote_info.as_deref(), Some("user[31m 7"));
        // Not UTF-8 at all.
        let env = |name: &str| match name {
            "TCPREMOTEIP" | "TCPREMOTEHOST" | "RELAYCLIENT" => Some(OsString::from_vec(vec![0xff, b'1'])),
            _ => None,
        };
        let connection = Connection::from_environment(&env, &pipe());
        assert_eq!((connection.remote_ip, connection.remote_host), (None, None));
        assert_eq!(connection.relay_client, None);
    }

    #[test]
    fn rules_of_the_administrator() {
        const TCP: (&str, &str) = ("TCPREMOTEIP", "192.0.2.1");
        #[rustfmt::skip]
        let table: Vec<(Env<'_>, Fake, Option<&str>, bool, usize)> = vec![
            // Without an address nothing is granted, whatever the variables say.
            (&[("RELAYCLIENT", "")], pipe(), None, false, 2),
            (&[("RELAYCLIENT", ""), ("WHITELISTCLIENT", "1")], gone(), None, false, 2),
            (&[("TCPREMOTEIP", "junk"), ("RELAYCLIENT", "@x")], pipe(), None, false, 2),
            (&[("WHITELISTCLIENT", "")], pipe(), None, false, 2),
            // Set but empty is set.
            (&[TCP, ("RELAYCLIENT", "")], pipe(), Some(""), false, 0),
            (&[TCP, ("RELAYCLIENT", "@relay.example")], pipe(), Some("@relay.example"), false, 0),
            (&[TCP, ("WHITELISTCLIENT", "")], pipe(), None, true, 0),
            (&[("RELAYCLIENT", "")], socket("192.0.2.1:9"), Some(""), false, 0),
        ];
        for (env, ends, relay, whitelist, notes) in table {
            let connection = read(env, &ends);
            assert_eq!(connection.relay_client.as_deref(), relay, "{env:?}");
            assert_eq!(connection.whitelist_client, whitelist, "{env:?}");
            assert_eq!(connection.notes.len(), notes, "{env:?}: {:?}", connection.notes);
        }
        let others: [(&str, &str, Option<u64>); 5] = [
            ("DATABYTES", "", None),
            ("DATABYTES", "-1", None),
            ("DATABYTES", "18446744073709551616", None),
            ("DATABYTES", "0", Some(0)),
            ("DATABYTES", "1000", Some(1000)),
        ];
        for (name, text, expected) in others {
            let connection = read(&[TCP, (name, text)], &pipe());
            assert_eq!(connection.databytes, expected, "{text}");
            assert_eq!(connection.notes.is_empty(), expected.is_some(), "{text}");
        }
        assert_eq!(read(&[TCP, ("RBLSMTPD", "")], &pipe()).rblsmtpd.as_deref(), Some(""));
        assert_eq!(read(&[TCP, ("TCPCONNNUM", "0")], &pipe()).connections_from_client, Some(1));
        assert_eq!(read(&[TCP, ("TCPCONNNUM", "4294967295")], &pipe()).connections_from_client, Some(1 << 32));
        assert_eq!(read(&[TCP, ("TCPCONCURRENCY", "3")], &pipe()).connections_from_client, Some(3));
    }
}
