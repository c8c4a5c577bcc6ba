//! Files -> text, lines, maps, typed settings. `std::fs` only.
//!
//! An administrator points postern at a qpsmtpd configuration directory and it works: `dir.rs` reads its files, `cdb.rs` its
//! maps, `chain_file.rs` the chain of plugins, `core.rs` what the session itself needs. `settings.rs` makes one typed struct
//! from a plugin's line and from `plugins.d/NAME.toml` (`plugin_file.rs`); `value.rs` turns their words into what the
//! struct's fields ask for. Every error names file and line (`error.rs`); `known.rs` lists the files that have a meaning.

use std::ffi::OsString;

pub mod cdb;
pub mod cdb_writer;
pub mod chain_file;
pub mod core;
pub mod dir;
pub mod dns;
pub mod error;
mod folder;
pub mod known;
mod misfit;
pub mod nearest;
pub mod plugin_file;
mod read;
pub mod settings;
mod value;

pub use cdb::Cdb;
pub use chain_file::{ChainLine, read_chain, read_lines, same_name, survey_chain, survey_lines};
pub use core::{BareNewline, Core, LogFormat, Nul};
pub use dir::{ConfigDir, Entry, STAMP_KEY, Survey, find, stamp};
pub use dns::DnsSettings;
pub use error::{ConfigError, Fault, Origin};
pub use nearest::nearest;
pub use plugin_file::{PluginFile, find_plugins_dir, plugin_file};
pub use read::foreign_text;
pub use settings::Settings;

/// The environment, asked by name; a test brings its own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A configuration directory of a test's own.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing {
    use super::{ConfigDir, ConfigError};
    use std::path::Path;

    /// Goes away with its files when dropped.
    pub(crate) struct Scratch(tempfile::TempDir);

    impl Scratch {
        /// Files by name (folders are made) and content.
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let scratch = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                scratch.write(name, text.as_bytes());
            }
            scratch
        }

        pub(crate) fn write(&self, name: &str, octets: &[u8]) {
            let path = self.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, octets).unwrap();
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }

        /// Opens it with no control directory behind it.
        pub(crate) fn open(&self) -> ConfigDir {
            ConfigDir::open_with(self.path(), None).unwrap()
        }

        /// An error's text with `DIR` for this directory.
        pub(crate) fn cut(&self, error: &ConfigError) -> String {
            error.to_string().replace(&self.path().display().to_string(), "DIR")
        }
    }
}
