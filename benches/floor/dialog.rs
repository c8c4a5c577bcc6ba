//! The least that can be done for whole messages: every command is answered 250, and what comes after DATA goes through a
//! pipe into the program named by $QMAILQUEUE as it is. No address is looked at, no dot taken out, no line end changed,
//! and the end of data is only seen where a read ends with it. A client must wait for its reply.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};

fn main() {
    // SAFETY: open, and never closed. (std's Stdin and Stdout would copy through buffers of their own.)
    let mut client = ManuallyDrop::new(unsafe { File::from_raw_fd(0) });
    let mut buffer = vec![0; 256 * 1024];
    let _ = client.write_all(b"220 floor ESMTP\r\n");
    let mut filled = 0;
    loop {
        match client.read(&mut buffer[filled..]) {
            Ok(octets) if octets > 0 => filled += octets,
            _ => return,
        }
        let mut replies = Vec::new();
        let mut taken = 0;
        while let Some(end) = buffer[taken..filled].iter().position(|octet| *octet == b'\n') {
            let line = &buffer[taken..taken + end];
            taken += end + 1;
            match line.get(..4) {
                Some(b"QUIT") => {
                    replies.extend_from_slice(b"221 bye\r\n");
                    let _ = client.write_all(&replies);
                    return;
                }
                Some(b"DATA") => {
                    replies.extend_from_slice(b"354 go ahead\r\n");
                    let _ = client.write_all(&replies);
                    replies.clear();
                    content(&mut client, &mut buffer);
                    replies.extend_from_slice(b"250 queued\r\n");
                }
                _ => replies.extend_from_slice(b"250 ok\r\n"),
            }
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        let _ = client.write_all(&replies);
    }
}

fn content(client: &mut File, buffer: &mut [u8]) {
    let (envelope, mut envelope_end) = pipe().expect("a pipe");
    let program = std::env::var_os("QMAILQUEUE").expect("QMAILQUEUE");
    let mut command = Command::new(program);
    let mut queue = command.stdin(Stdio::piped()).stdout(envelope).spawn().expect("the queue program");
    drop(command);
    let mut message = queue.stdin.take().expect("its pipe");
    let mut tail = Vec::new();
    loop {
        let octets = client.read(buffer).unwrap_or(0);
        if octets == 0 {
            return;
        }
        message.write_all(&buffer[..octets]).expect("it reads");
        tail.extend_from_slice(&buffer[octets.saturating_sub(5)..octets]);
        tail.drain(..tail.len().saturating_sub(5));
        if tail == b"\r\n.\r\n" {
            break;
        }
    }
    drop(message);
    envelope_end.write_all(b"Fa@b\0Tc@d\0\0").expect("it reads");
    drop(envelope_end);
    let _ = queue.wait();
}
