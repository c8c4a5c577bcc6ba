//! A maildir's files: written to `tmp`, synced, linked to `new`, and undone if that cannot be finished.
//!
//! In: a maildir's path, fields, a message. Out: deliveries, or what failed where. Which maildirs and which fields is
//! `maildir.rs`'s to say.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use crate::mail::{LineEnds, Message};
use crate::queue::QueueError;
use crate::world::user_name;

/// In the order in which they are made: where there is a `tmp` there are the others.
const PARTS: [&str; 3] = ["new", "cur", "tmp"];

/// Names that are tried for one file. One is enough unless another machine of the same name writes here.
const NAMES_MAX: u32 = 10;

/// Makes files and directories.
pub(super) struct Files {
    /// Rights of new directories, whatever the umask is; files have the same without x.
    pub(super) mode: u32,
}

impl Files {
    /// Writes one copy to `tmp`, and syncs it.
    pub(super) fn write(
        &self,
        maildir: PathBuf,
        next_name: &mut dyn FnMut() -> String,
        fields: &str,
        message: &Message,
    ) -> Result<Delivery, QueueError> {
        let (mut file, copy) = self.create(maildir, next_name)?;
        let written = message.write_below(fields, &mut file, LineEnds::Lf);
        written.map_err(|error| failed("write", &copy.tmp(), &error))?;
        // After this, closing the file has nothing to say.
        file.sync_all().map_err(|error| failed("sync", &copy.tmp(), &error))?;
        Ok(copy)
    }

    /// A new file in `tmp`. Makes the maildir if that is what is missing.
    fn create(&self, maildir: PathBuf, next_name: &mut dyn FnMut() -> String) -> Result<(File, Delivery), QueueError> {
        let mode = self.mode & !0o111;
        let mut made = false;
        let mut tries = 0;
        loop {
            let mut copy = Delivery { maildir: maildir.clone(), name: next_name(), stage: Stage::Nowhere };
            let tmp = copy.tmp();
            tries += 1;
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&tmp) {
                Ok(file) => {
                    copy.stage = Stage::Tmp;
                    // The umask may have taken rights that the setting gives.
                    if mode & 0o077 != 0 {
                        let set = file.set_permissions(Permissions::from_mode(mode));
                        set.map_err(|error| failed("chmod", &tmp, &error))?;
                    }
                    return Ok((file, copy));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !made => {
                    self.make(&maildir)?;
                    made = true;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < NAMES_MAX => {}
                Err(error) => return Err(failed("create", &tmp, &error)),
            }
        }
    }

    /// Makes a copy visible in `new`.
    pub(super) fn link(&self, copy: &mut Delivery) -> Result<(), QueueError> {
        let (tmp, new) = (copy.tmp(), copy.new_path());
        let mut linked = fs::hard_link(&tmp, &new);
        if linked.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.make(&copy.maildir)?;
            linked = fs::hard_link(&tmp, &new);
        }
        match linked {
            Ok(()) => {}
            // Over NFS the answer can be lost, and the retry finds the link there.
            Err(_) if fs::metadata(&tmp).is_ok_and(|file| file.nlink() == 2) => {}
            Err(error) => return Err(failed("link", &new, &error)),
        }
        copy.stage = Stage::New;
        Ok(())
    }

    fn make(&self, maildir: &Path) -> Result<(), QueueError> {
        PARTS.iter().try_for_each(|part| self.make_dir(&maildir.join(part)))
    }

    /// Makes a directory with what is missing above it, each of them synced into the one above.
    fn make_dir(&self, dir: &Path) -> Result<(), QueueError> {
        let above = above(dir);
        let make = || DirBuilder::new().mode(self.mode).create(dir);
        let mut made = make();
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) && above != dir {
            self.make_dir(above)?;
            made = make();
        }
        match made {
            Ok(()) if self.mode & 0o077 != 0 => {
                // As with files; and what the directory above hands down (set-group-ID) stays.
                let inherited = fs::metadata(dir).map(|found| found.permissions().mode() & 0o7000);
                let set = inherited.and_then(|bits| fs::set_permissions(dir, Permissions::from_mode(bits | self.mode)));
                set.map_err(|error| failed("chmod", dir, &error))?;
            }
            Ok(()) => {}
            // Perhaps by another process a moment ago: then it may not be synced yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("mkdir", dir, &error)),
        }
        sync(above).map_err(|error| failed("sync", above, &error))
    }
}

/// After the last link: removes the names in `tmp`, and syncs each `new`. Then the deliveries are done.
pub(super) fn finish(copies: &mut [Delivery]) -> Result<(), QueueError> {
    for copy in &*copies {
        // The message is stored, whether or not this name of it goes.
        let _ = fs::remove_file(copy.tmp());
    }
    let mut synced: Vec<&Path> = Vec::new();
    for copy in &*copies {
        if !synced.contains(&copy.maildir.as_path()) {
            let new = copy.maildir.join("new");
            sync(&new).map_err(|error| failed("sync", &new, &error))?;
            synced.push(&copy.maildir);
        }
    }
    copies.iter_mut().for_each(|copy| copy.stage = Stage::Done);
    Ok(())
}

/// A copy of the message on its way.
pub(super) struct Delivery {
    maildir: PathBuf,
    name: String,
    stage: Stage,
}

/// Where a copy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not there yet.
    Nowhere,
    /// In `tmp`.
    Tmp,
    /// In `new`, and perhaps still in `tmp`.
    New,
    /// In `new` for good.
    Done,
}

impl Delivery {
    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn tmp(&self) -> PathBuf {
        self.maildir.join("tmp").join(&self.name)
    }

    fn new_path(&self) -> PathBuf {
        self.maildir.join("new").join(&self.name)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // Nothing can be done about a file that cannot be removed, or that a reader has moved.
        if self.stage == Stage::New {
            let _ = fs::remove_file(self.new_path());
        }
        if matches!(self.stage, Stage::Tmp | Stage::New) {
            let _ = fs::remove_file(self.tmp());
        }
    }
}

/// For `check`: what is wrong with a maildir. Makes files of this name in it for a moment, and no directories.
pub(super) fn check(maildir: &Path, name: &str) -> Vec<String> {
    // A missing part is the maildir's own fault, and told once.
    let place = |part| Some(maildir.join(part)).filter(|path| path.exists()).unwrap_or_else(|| maildir.to_path_buf());
    let faults: Vec<String> = PARTS.iter().filter_map(|part| cannot_write(&place(part), name)).collect();
    let (tmp, new) = (maildir.join("tmp"), maildir.join("new"));
    if !faults.is_empty() || !tmp.is_dir() || !new.is_dir() {
        // Missing parts have the same directory above.
        let mut told = faults;
        told.dedup();
        return told;
    }
    cannot_link(&tmp.join(name), &new.join(name)).into_iter().collect()
}

/// For `check`: why no file can be made here, or in the first directory above that is there, found out by making one.
pub(super) fn cannot_write(dir: &Path, name: &str) -> Option<String> {
    if let Some(error) = fs::metadata(dir).err().filter(|error| error.kind() == ErrorKind::PermissionDenied) {
        let (user, dir) = (user_name(), dir.display());
        return Some(format!(
            "{user} cannot reach the maildir {dir} ({error}): not every directory above lets that user in"
        ));
    }
    // What is missing is made at the first delivery.
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let file = there.join(name);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let synced = made.and_then(|_| sync(there));
    let _ = fs::remove_file(&file);
    let error = synced.err()?;
    let (user, real) = (user_name(), real(there));
    let real = real.display();
    // `/a/b/..` may be a directory of the system's: nobody should be led to give that away.
    match missing_part(dir, there) {
        None => Some(format!(
            "the maildir's {real} cannot be written to by {user} ({error}): give it to the user that serves if it is \
             a maildir, else name another directory"
        )),
        Some(missing) => {
            let missing = missing.display();
            Some(format!(
                "the maildir {missing} is not there, and {user} cannot write to {real} to make it ({error}): make the \
                 directory {missing} with mode 0700, and give that one to the user that serves"
            ))
        }
    }
}

/// Where a directory will be, without `..` and links, if it is not there; `there` is the first above that is.
fn missing_part(dir: &Path, there: &Path) -> Option<PathBuf> {
    let mut path = real(there);
    let below = dir.strip_prefix(there).ok().filter(|below| below.components().next().is_some())?;
    for part in below.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    Some(path)
}

fn real(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf())
}

/// Why no file can be linked from `tmp` to `new`, found out in the same way.
fn cannot_link(tmp: &Path, new: &Path) -> Option<String> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(tmp);
    let linked = made.and_then(|_| fs::hard_link(tmp, new));
    let _ = (fs::remove_file(new), fs::remove_file(tmp));
    let error = linked.err()?;
    let new = above(new).display();
    Some(format!("the maildir's {new} cannot be linked to from tmp ({error}): both must be on one file system"))
}

/// The directory that holds this one's name.
fn above(dir: &Path) -> &Path {
    match dir.parent() {
        None => dir,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}

/// Writes a directory's names to the disk.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(step: &str, path: &Path, error: &io::Error) -> QueueError {
    let evidence = format!("{step} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            QueueError::transient("no room to store the message now, try again later", evidence).code(3, 1)
        }
        _ => QueueError::transient("the message cannot be stored now, try again later", evidence),
    }
}
