//! The program `postern`. Everything is in the library, so that a program with plugins of its own can be built on it
//! (`examples/own_plugin.rs`).

use std::process::ExitCode;

#[global_allocator]
static MEMORY: postern::sys::arena::Arena = postern::sys::arena::Arena;

fn main() -> ExitCode {
    postern::cli::run(&[])
}
