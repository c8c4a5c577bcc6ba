//! The least that a Rust program can do for a connection: 220, and 221 to whatever comes.

use std::io::{Read, Write};

fn main() {
    let mut out = std::io::stdout();
    let _ = out.write_all(b"220 floor ESMTP\r\n");
    let _ = out.flush();
    let mut line = [0; 512];
    if std::io::stdin().read(&mut line).unwrap_or(0) > 0 {
        let _ = out.write_all(b"221 bye\r\n");
        let _ = out.flush();
    }
}
