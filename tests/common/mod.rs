//! What the tests of the binary share: rooms to run it in, ways to talk to it, and readers of what it left.
//!
//! Each file of tests is a program of its own and uses a part of this, hence `dead_code`. A test may panic and print.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

pub mod client;
pub mod dovecot;
pub mod handover;
pub mod knot;
pub mod launch;
pub mod load;
pub mod mta;
pub mod normal;
pub mod play;
pub mod postfix;
pub mod replies;
pub mod room;
pub mod store;
pub mod workers;

use std::path::{Path, PathBuf};

/// Where programs are looked for: the environment of whoever runs the tests does not matter.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program under test; `POSTERN_TEST_BINARY` names another build of it.
pub fn binary() -> PathBuf {
    std::env::var_os("POSTERN_TEST_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_postern")), PathBuf::from)
}

/// A program of the package's `[[example]]`s, which `cargo test` builds beside the one under test.
pub fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_postern")).with_file_name("examples").join(name);
    assert!(program.is_file(), "{} is not there: cargo build --examples", program.display());
    program
}

/// The repository's `tests` directory.
pub fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Whether a missing service fails the test instead of skipping it, as in CI.
pub fn strict() -> bool {
    std::env::var_os("POSTERN_TESTS_STRICT").is_some_and(|value| value != "0")
}

/// Where `program` is. Without it: a panic when strict, else a loud word, and the caller returns.
pub fn require(program: &str) -> Option<PathBuf> {
    let found = PATH.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// As [`require`], for what only root may do.
pub fn require_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Says that a test does not run, or fails it where none may be left out.
pub fn skip(why: &str) {
    assert!(!strict(), "{why}, and POSTERN_TESTS_STRICT allows no skipping");
    eprintln!("*** SKIPPED: {why} ***");
}
