//! A room: one temporary directory with a configuration, a queue, a maildir and the stand-in for qmail-queue.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Everything that one run of the program may touch. It goes when this is dropped.
pub struct Room {
    dir: TempDir,
    program: PathBuf,
}

/// The directories of a room that the program and its children write to.
const WRITTEN: [&str; 5] = ["queue", "mail", "spool", "tmp", "log"];

impl Room {
    /// An empty configuration directory, and everything beside it.
    pub fn bare() -> Room {
        // Short, because a path of a unix socket may have 107 octets.
        let dir = tempfile::Builder::new().prefix("pt-").tempdir_in("/tmp").unwrap();
        let room = Room { dir, program: super::binary() };
        for name in WRITTEN.iter().chain(&["config", "bin"]) {
            fs::create_dir(room.path(name)).unwrap();
        }
        symlink(super::tests().join("bin/qmail-queue"), room.stand_in()).unwrap();
        room
    }

    /// A host `mx.example` that takes mail for `here.example`, with this chain; `{ROOM}` is the room's path.
    pub fn new(plugins: &str) -> Room {
        let room = Room::bare();
        room.config("me", "mx.example\n");
        room.config("rcpthosts", "here.example\n");
        room.config("spool_dir", "{ROOM}/spool\n");
        room.config("plugins", plugins);
        room
    }

    /// The usual chain in front of the stand-in for qmail-queue.
    pub fn with_queue() -> Room {
        Room::new("rcpt_ok\nqueue/qmail-queue {ROOM}/bin/qmail-queue\n")
    }

    /// The usual chain in front of the maildir `mail`.
    pub fn with_maildir() -> Room {
        Room::new("rcpt_ok\nqueue/maildir {ROOM}/mail\n")
    }

    /// Shortens the hand-over's time limits, so that a hanging queue costs a test `timeout_s` and not a minute.
    pub fn impatient(self, timeout_s: u32, deadline_s: u32) -> Room {
        let settings = format!("timeout = {timeout_s}\ndeadline = {deadline_s}\n");
        self.config("plugins.d/queue/qmail-queue.toml", &settings);
        self
    }

    /// Runs another program in place of the one under test.
    pub fn running(mut self, program: PathBuf) -> Room {
        self.program = program;
        self
    }

    /// The program that runs in this room.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Writes a file of the configuration; `{ROOM}` in the text is the room's path.
    pub fn config(&self, name: &str, text: &str) {
        let file = self.path("config").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text.replace("{ROOM}", self.root().to_str().unwrap())).unwrap();
    }

    /// Copies a whole configuration directory in, as it is.
    pub fn copy_config(&self, from: &Path) {
        copy_tree(from, &self.path("config"));
    }

    /// Lets every user in, and brings the programs to where every user may run them.
    /// Needed where a launcher started by root runs the program as nobody.
    pub fn open_to_all(&self) {
        // By cp, because a file that this process has open for writing cannot be run (ETXTBSY), and another
        // thread's fork at the wrong moment would hold it open.
        fs::remove_file(self.stand_in()).unwrap();
        let stand_in = super::tests().join("bin/qmail-queue");
        for (from, to) in [(stand_in.as_path(), self.stand_in()), (self.program(), self.own_binary())] {
            assert!(Command::new("cp").arg(from).arg(&to).status().unwrap().success(), "cp {}", from.display());
        }
        let mode = |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        mode(self.root(), 0o755);
        WRITTEN.iter().for_each(|name| mode(&self.path(name), 0o777));
    }

    /// The room's own directory.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the room.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The stand-in for qmail-queue, as this room calls it.
    pub fn stand_in(&self) -> PathBuf {
        self.path("bin/qmail-queue")
    }

    /// The program's copy after [`Room::open_to_all`].
    pub fn own_binary(&self) -> PathBuf {
        self.path("bin/postern")
    }

    /// The only variables that a run gets, besides those that its test adds.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let in_room = |name: &str| self.path(name).into_os_string();
        vec![
            ("PATH".into(), super::PATH.into()),
            ("HOME".into(), self.root().into()),
            ("TMPDIR".into(), in_room("tmp")),
            ("TZ".into(), "UTC".into()),
            ("LC_ALL".into(), "C".into()),
            ("POSTERN_TEST_QUEUE".into(), in_room("queue")),
        ]
    }

    /// Files left in the spool or the temporary directory: there must be none after a run.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        ["spool", "tmp"].iter().flat_map(|name| super::store::names(&self.path(name))).collect()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
