//! A network that is not there: for tests of plugins and backends, and for `try`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::{Address, Datagram, Net, Stream, literal};

/// A network of canned answers, in which every other address refuses. For tests and replays.
#[derive(Default)]
pub struct FakeNet {
    answers: RefCell<BTreeMap<Address, VecDeque<io::Result<Vec<u8>>>>>,
    said: Rc<RefCell<Vec<Said>>>,
    names: BTreeMap<String, Vec<IpAddr>>,
}

/// What was sent in one connection to a [`FakeNet`], or as one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Where to.
    pub to: Address,
    /// All of it.
    pub octets: Vec<u8>,
}

impl FakeNet {
    /// Lets one connection to an address read this, or fail so. Several for one address are used up in order.
    pub fn answer(self, to: Address, answer: io::Result<Vec<u8>>) -> Self {
        self.answers.borrow_mut().entry(to).or_default().push_back(answer);
        self
    }

    /// Gives a host these addresses. No other name can be resolved.
    pub fn name(mut self, host: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        self.names.insert(host.to_owned(), addresses);
        self
    }

    /// What was sent so far, in the order in which the connections were opened.
    pub fn said(&self) -> Vec<Said> {
        self.said.borrow().clone()
    }

    fn open(&self, to: &Address) -> io::Result<FakeStream> {
        let answer = self.answers.borrow_mut().get_mut(to).and_then(VecDeque::pop_front);
        let answer = answer.unwrap_or_else(|| Err(io::ErrorKind::ConnectionRefused.into()))?;
        let mut said = self.said.borrow_mut();
        said.push(Said { to: to.clone(), octets: Vec::new() });
        let (said, index) = (self.said.clone(), said.len() - 1);
        Ok(FakeStream { answer: io::Cursor::new(answer), said, index })
    }
}

impl Net for FakeNet {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<Address>> {
        if let Some(address) = literal(host, port) {
            return Ok(vec![address]);
        }
        let found = self.names.get(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(found.iter().map(|ip| Address::Tcp((*ip, port).into())).collect())
    }

    fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.open(to)?))
    }

    fn datagram(&self, to: &Path) -> io::Result<Box<dyn Datagram>> {
        let to = Address::Unix(to.to_owned());
        // The connection itself is nothing that was said.
        self.open(&to)?;
        self.said.borrow_mut().pop();
        Ok(Box::new(FakeDatagram { to, said: self.said.clone() }))
    }
}

struct FakeStream {
    answer: io::Cursor<Vec<u8>>,
    said: Rc<RefCell<Vec<Said>>>,
    index: usize,
}

/// At most a line at a time, as from a far end that waits for us after each.
impl Read for FakeStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.answer.fill_buf()?;
        let line = left.iter().position(|octet| *octet == b'\n').map_or(left.len(), |end| end + 1);
        let taken = line.min(buffer.len());
        buffer[..taken].copy_from_slice(&left[..taken]);
        self.answer.consume(taken);
        Ok(taken)
    }
}

impl Write for FakeStream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if let Some(said) = self.said.borrow_mut().get_mut(self.index) {
            said.octets.extend_from_slice(octets);
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for FakeStream {
    fn set_pace(&mut self, _pace: Duration) {}

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct FakeDatagram {
    to: Address,
    said: Rc<RefCell<Vec<Said>>>,
}

impl Datagram for FakeDatagram {
    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.said.borrow_mut().push(Said { to: self.to.clone(), octets: octets.to_vec() });
        Ok(())
    }

    fn set_pace(&mut self, _pace: Duration) {}
}
