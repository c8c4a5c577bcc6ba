//! The program `postern`. Everything is in the library, so that a program with plugins of its own can be built on it
//! (`examples/own_plugin.rs`).

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::cli::run(&[])
}
