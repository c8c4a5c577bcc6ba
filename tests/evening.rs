//! The README's evening with Postfix, by its own lines: Debian's Postfix, postern behind xinetd as a user in group postdrop, mail to a
//! local user. The system that it changes is a copy in namespaces of its own (`evening.sh`).
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// `(NAME)` is the case's. A line that begins with From is quoted in a mailbox.
const MESSAGE: &str = "From: a@client.example\nTo: alice@here.example\nSubject: an evening\nMessage-Id: <(NAME)@client.example>\n\n\
                       first\n.dot\n..dots\nna\u{ef}ve\n\nFrom here on\nlast\n";

/// The commands of the README's section, an indented block a step. Packages are installed by `tests/run`.
fn steps() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## An evening with Postfix\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let block = |part: &str| {
        let lines = part.lines().filter_map(|line| line.strip_prefix("    "));
        lines.filter(|line| !line.starts_with("apt-get ")).map(|line| format!("{line}\n")).collect::<String>()
    };
    section.split("\n\n").map(block).filter(|block| !block.is_empty()).collect()
}

/// What was seen.
struct Seen(tempfile::TempDir);

impl Seen {
    fn file(&self, name: &str) -> String {
        let octets = fs::read(self.0.path().join("seen").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        String::from_utf8(octets).unwrap()
    }

    /// The reply to the message, without its mark.
    fn reply(&self, case: &str) -> String {
        let dialog = self.file(&format!("{case}.dialog"));
        let mut replies = dialog.lines().filter_map(|line| line.strip_prefix("<-  ").or(line.strip_prefix("<** ")));
        replies.find(|reply| reply.contains("ueue")).unwrap_or_else(|| panic!("{case}: {dialog}")).to_owned()
    }

    /// The queue id in Postfix's log.
    fn id(&self, case: &str) -> String {
        self.file(&format!("{case}.id")).trim().to_owned()
    }

    /// The trace fields of the only mail in the mailbox. What is below them is what was sent.
    fn trace(&self, case: &str) -> String {
        let mailbox = self.file(&format!("{case}.mailbox"));
        let sent = MESSAGE.replace("(NAME)", case).replace("\nFrom here", "\n>From here");
        // swaks ends the data with a line end of its own, a mailbox every mail with another.
        let trace = mailbox.strip_suffix(&format!("{sent}\n\n")).unwrap_or_else(|| panic!("{case}: {mailbox}"));
        assert!(trace.starts_with("From a@client.example  "), "{case}: {trace}");
        let (_, trace) = trace.split_once('\n').unwrap();
        let head =
            "Return-Path: <a@client.example>\nX-Original-To: alice@here.example\nDelivered-To: alice@here.example\n";
        trace.strip_prefix(head).unwrap_or_else(|| panic!("{case}: {trace}")).to_owned()
    }

    fn row(&self, case: &str, way: &str) {
        let id = fs::read_to_string(self.0.path().join("seen").join(format!("{case}.id"))).unwrap_or_default();
        eprintln!("| {way:<46} | {:<74} | {:<8} |", self.reply(case), id.trim());
    }
}

fn evening() -> Option<Seen> {
    if !common::require_root() {
        return None;
    }
    for program in ["xinetd", "postfix", "swaks", "unshare", "adduser", "ip", "ss"] {
        common::require(program)?;
    }
    if !Path::new("/usr/share/postfix/main.cf.debian").is_file() {
        common::skip("this is not Debian's Postfix");
        return None;
    }
    let namespaces = ["-mn", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(namespaces).arg("true").stderr(Stdio::null()).status().unwrap().success() {
        common::skip("no namespaces of one's own here");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("ev-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    fs::write(dir.path().join("message"), MESSAGE).unwrap();
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120", "unshare"]).args(namespaces).arg("bash").arg(common::tests().join("evening.sh"));
    command.arg(dir.path()).arg(env!("CARGO_MANIFEST_DIR")).arg(common::binary());
    for (at, step) in steps().iter().enumerate() {
        let path = dir.path().join(format!("step{at}"));
        fs::write(&path, step).unwrap();
        command.arg(path);
    }
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let status = command
        .env_clear()
        .env("PATH", common::PATH)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    assert!(status.success(), "{}", fs::read_to_string(dir.path().join("log")).unwrap());
    Some(Seen(dir))
}

#[test]
fn the_evening_of_the_readme() {
    let Some(seen) = evening() else { return };
    eprintln!("| way | reply to the client | id in Postfix's log |\n|---|---|---|");
    for (case, way) in [
        ("cleanup", "queue/postfix-queue, groups = yes"),
        ("group", "queue/postfix-queue, group = postdrop"),
        ("trap", "queue/postfix-queue, without groups = yes"),
        ("postdrop", "queue/postdrop, groups = yes"),
        ("postdrop-trap", "queue/postdrop, without groups = yes"),
        ("back", "Postfix's smtpd again"),
    ] {
        seen.row(case, way);
    }
    let postfix = seen.file("postfix.log");
    let postern = seen.file("postern.log");

    let own = "Received: from client.example (unknown [203.0.113.77])\n\tby mx.here.example (postern) with ESMTP id ";
    for case in ["cleanup", "group"] {
        let (reply, id, trace) = (seen.reply(case), seen.id(case), seen.trace(case));
        assert!(reply.starts_with(&format!("250 2.0.0 queued as {id} (")), "{case}: {reply}, {id}");
        assert!(trace.starts_with(own), "{case}: {trace}");
        assert_eq!(trace.matches("Received:").count(), 1, "{case}: {trace}");
        let known = format!("{id}: info: header Message-Id: <{case}@client.example> from unknown[203.0.113.77]:");
        let about = "; from=<a@client.example> to=<alice@here.example> proto=ESMTP helo=<client.example>";
        assert!(postfix.lines().any(|line| line.contains(&known) && line.ends_with(about)), "{case}: {postfix}");
    }
    for case in ["postdrop", "postdrop-trap"] {
        let (reply, id, trace) = (seen.reply(case), seen.id(case), seen.trace(case));
        assert!(reply.starts_with("250 2.0.0 queued as "), "{case}: {reply}");
        assert!(!reply.contains(&id), "{case}: {reply}: the id is the maildrop's");
        assert!(trace.starts_with("Received: by mx.here.example (Postfix, from userid "), "{case}: {trace}");
        let (postfixes, below) = trace.split_at(trace.find(own).unwrap_or_else(|| panic!("{case}: {trace}")));
        assert_eq!((postfixes.matches("Received:").count(), below.matches("Received:").count()), (1, 1), "{trace}");
    }

    let reply = seen.reply("trap");
    assert!(reply.starts_with("451 4.4.1 Unable to queue message: Postfix's cleanup cannot be reached ("), "{reply}");
    let line =
        postern.lines().find(|line| line.contains("refused client=203.0.113.77")).expect("a line of the refusal");
    eprintln!("\nthe trap's line in the log: {line}");
    assert!(line.contains("public/cleanup: Permission denied") && line.contains("groups = yes"), "{line}");
    assert!(!postfix.contains("<trap@client.example>"), "{postfix}");
    assert!(seen.reply("back").starts_with("250 2.0.0 Ok: queued as "), "{}", seen.reply("back"));
    check_says_what_to_mend(&seen);
}

fn check_says_what_to_mend(seen: &Seen) {
    for (case, told) in [
        ("good", &["further groups (postdrop), which xinetd leaves out without groups = yes", "fit to serve"][..]),
        ("no-rights", &["queue/postfix-queue: /var/spool/postfix/public/cleanup: Permission denied", "group postdrop"]),
        ("nobody-listens", &["queue/postfix-queue: /var/spool/postfix/public/cleanup: ", "start Postfix", "exit 100"]),
        ("no-socket", &["queue/postfix-queue: /var/spool/postfix/public/cleanup: No such file", "start Postfix"]),
        ("no-setgid", &["queue/postdrop: /usr/sbin/postdrop: is not setgid", "postfix set-permissions", "exit 100"]),
    ] {
        let said = seen.file(&format!("{case}.check"));
        let faults: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        eprintln!("| {case} | {} |", faults.first().unwrap_or(&"fit to serve"));
        assert!(told.iter().all(|told| said.contains(told)), "{case}: {said}");
        assert_eq!(faults.len(), usize::from(case != "good"), "{case}: {said}");
    }
}
