//! A link between postern and a real server that is cut, or goes dead, after a number of octets.
//!
//! To postern a cut after the server's work and before its answer is what a server looks like that is killed there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Where a link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After so many octets from postern.
    Asked(usize),
    /// After so many octets from the server.
    Answered(usize),
    Never,
}

/// How a link breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends are told.
    Closed,
    /// Nobody is told, and nothing goes either way.
    Dead,
}

/// How long a dead link is held at most, beyond any limit that postern has.
const DEAD: Duration = Duration::from_secs(30);

/// One link; it serves until the test's end.
pub struct Link {
    pub port: u16,
    asked: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Link {
    pub fn new(server: u16, at: At, how: Break) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = [Arc::clone(&asked), Arc::clone(&answered)];
        thread::spawn(move || {
            let Ok((near, _)) = listener.accept() else { return };
            let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else { return };
            let broken = Arc::new(AtomicBool::new(false));
            let limits = match at {
                At::Asked(octets) => [octets, usize::MAX],
                At::Answered(octets) => [usize::MAX, octets],
                At::Never => [usize::MAX; 2],
            };
            let ends = [(&near, &far), (&far, &near)].map(|(from, to)| (from.try_clone(), to.try_clone()));
            for (((from, to), limit), count) in ends.into_iter().zip(limits).zip(counts) {
                let (Ok(from), Ok(to)) = (from, to) else { return };
                let broken = Arc::clone(&broken);
                thread::spawn(move || carry(from, to, limit, how, &count, &broken));
            }
        });
        Link { port, asked, answered }
    }

    /// Octets that went over it, from postern and from the server.
    pub fn carried(&self) -> (usize, usize) {
        (self.asked.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, limit: usize, how: Break, count: &AtomicUsize, broken: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut left = limit;
    while left > 0 {
        let octets = match from.read(&mut buffer) {
            Ok(octets @ 1..) => octets.min(left),
            // It is done: what still comes the other way is let through.
            _ => return drop(to.shutdown(Shutdown::Write)),
        };
        if broken.load(Ordering::Relaxed) && how == Break::Dead {
            return hold();
        }
        if to.write_all(&buffer[..octets]).is_err() {
            return;
        }
        count.fetch_add(octets, Ordering::Relaxed);
        left -= octets;
    }
    broken.store(true, Ordering::Relaxed);
    match how {
        Break::Dead => hold(),
        Break::Closed => [from, to].iter().for_each(|end| drop(end.shutdown(Shutdown::Both))),
    }
}

fn hold() {
    let until = Instant::now() + DEAD;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
    }
}
