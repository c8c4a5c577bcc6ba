//! Asks servers: hickory's UDP and TCP clients, one socket with a port of its own for each question.
//!
//! hickory sees to ids, ports, the case of names, and to answers that are not to our question; which server is asked, how
//! often, and what an answer means is decided here and in `answer`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use trust_dns_resolver::net::NetError;
use trust_dns_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime};
use trust_dns_resolver::net::tcp::TcpClientStream;
use trust_dns_resolver::net::udp::UdpClientStream;
use trust_dns_resolver::net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use trust_dns_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query, ResponseCode};
use trust_dns_resolver::proto::rr::{Name, RecordType};

use super::answer::Search;
use super::{Answer, Question};
use crate::smtp::escape::safe;

/// Octets of what is told of a failure.
const WHY_OCTETS_MAX: usize = 200;

/// Whom to ask, and how.
pub(super) struct Servers {
    pub(super) servers: Vec<Server>,
    /// For one server's answer.
    pub(super) timeout: Duration,
    /// How often each is asked.
    pub(super) attempts: u32,
    pub(super) tcp_only: bool,
    pub(super) mixed_case: bool,
}

/// One of them.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// Whether it once refused, or was silent for its whole time: then it is asked last.
    doubted: AtomicBool,
}

impl Server {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, doubted: AtomicBool::new(false) }
    }
}

impl Servers {
    /// Answers a question. `sent` becomes true once it is on its way to a server, or needs none.
    pub(super) async fn answer(self: Arc<Self>, question: Question, sent: Arc<AtomicBool>) -> Answer {
        let provider = Provider { sockets: TokioRuntimeProvider::new(), sent: Arc::clone(&sent) };
        let answer = match Search::new(&question) {
            Some(search) => self.search(search, &provider).await,
            None => Answer::failed("a name that cannot be asked"),
        };
        sent.store(true, Relaxed);
        answer
    }

    async fn search(&self, mut search: Search, provider: &Provider) -> Answer {
        loop {
            let query = Query::query(search.name().clone(), search.record_type());
            match self.ask(&query, provider).await {
                Ok(message) => {
                    if let Some(answer) = search.read(&message) {
                        return answer;
                    }
                }
                Err(why) => return Answer::Failed { why: safe(&why, WHY_OCTETS_MAX) },
            }
        }
    }

    /// One message, from the first server that says yes or no; or what kept each from that. A server that says that it cannot
    /// tell is not asked again, and neither is one that nobody serves.
    async fn ask(&self, query: &Query, provider: &Provider) -> Result<Message, String> {
        let mut left: Vec<&Server> = self.servers.iter().collect();
        left.sort_by_key(|server| server.doubted.load(Relaxed));
        let mut troubles: Vec<String> = Vec::new();
        for _ in 0..self.attempts {
            for server in std::mem::take(&mut left) {
                let address = server.address;
                let trouble = match self.ask_one(address, query, provider).await {
                    Ok(message) => match message.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(message),
                        code => format!("{} from {address}", code_name(code)),
                    },
                    Err(error) => {
                        let refused = is_refused(&error);
                        if refused || matches!(error, NetError::Timeout) {
                            server.doubted.store(true, Relaxed);
                        }
                        if !refused {
                            left.push(server);
                        }
                        format!("{address}: {}", told(&error))
                    }
                };
                if !troubles.contains(&trouble) {
                    troubles.push(trouble);
                }
            }
        }
        Err(troubles.join("; "))
    }

    /// Whether the server of this number answers at all: if not, its address and why.
    pub(super) async fn probe(self: Arc<Self>, number: usize) -> Option<String> {
        let address = self.servers.get(number)?.address;
        let provider = Provider { sockets: TokioRuntimeProvider::new(), sent: Arc::default() };
        let error = self.ask_one(address, &Query::query(Name::root(), RecordType::NS), &provider).await.err()?;
        Some(format!("{address} does not answer: {}", told(&error)))
    }

    /// By UDP; by TCP if that is too small for the answer, or gave what cannot be read or may be forged.
    async fn ask_one(&self, server: SocketAddr, query: &Query, provider: &Provider) -> Result<Message, NetError> {
        let mut options = DnsRequestOptions::default();
        options.case_randomization = self.mixed_case && !self.tcp_only;
        if !self.tcp_only {
            let client = UdpClientStream::builder(server, provider.clone()).with_timeout(Some(self.timeout));
            // One packet: it is us who repeat.
            let mut client = client.with_max_retries(1).build();
            match client.send_message(DnsRequest::from_query(query.clone(), options)).first_answer().await {
                Ok(response) if !response.truncation => return Ok(response.into_message()),
                Ok(_) | Err(NetError::QueryCaseMismatch | NetError::Proto(_)) => {}
                Err(error) => return Err(error),
            }
            options.case_randomization = false;
        }
        let by_tcp = async {
            let client = TcpClientStream::exchange(server, None, self.timeout, None, provider.clone()).await?;
            client.send(DnsRequest::from_query(query.clone(), options)).first_answer().await
        };
        match tokio::time::timeout(self.timeout, by_tcp).await {
            Ok(response) => response.map(|response| response.into_message()),
            Err(_) => Err(NetError::Timeout),
        }
    }
}

fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        code => format!("response code {}", u16::from(code)),
    }
}

fn is_refused(error: &NetError) -> bool {
    matches!(error, NetError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

fn told(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no answer in time".to_owned(),
        error if is_refused(error) => "connection refused".to_owned(),
        NetError::Io(error) => error.to_string(),
        NetError::Proto(error) => format!("an answer that cannot be read ({error})"),
        error => error.to_string(),
    }
}

/// hickory's way to sockets, which also notes that something was sent.
#[derive(Clone)]
struct Provider {
    sockets: TokioRuntimeProvider,
    sent: Arc<AtomicBool>,
}

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Provider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Socket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.sockets.create_handle()
    }

    fn connect_tcp(&self, to: SocketAddr, from: Option<SocketAddr>, within: Option<Duration>) -> Opening<Self::Tcp> {
        self.sockets.connect_tcp(to, from, within)
    }

    /// Connected, so that the kernel takes packets of this server only, and says if nobody is there.
    fn bind_udp(&self, from: SocketAddr, server: SocketAddr) -> Opening<Socket> {
        let sent = Arc::clone(&self.sent);
        Box::pin(async move {
            let socket = UdpSocket::bind(from).await?;
            socket.connect(server).await?;
            Ok(Socket { socket, server, sent })
        })
    }
}

struct Socket {
    socket: UdpSocket,
    server: SocketAddr,
    sent: Arc<AtomicBool>,
}

impl DnsUdpSocket for Socket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, octets: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut room = tokio::io::ReadBuf::new(octets);
        let polled = self.socket.poll_recv(cx, &mut room);
        polled.map_ok(|()| (room.filled().len(), self.server))
    }

    /// As hickory has it, but tokio's `poll_recv` does not wake for an error alone, such as that nobody is there.
    fn recv_from<'socket, 'octets, 'both>(
        &'socket self,
        octets: &'octets mut [u8],
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<(usize, SocketAddr)>> + 'both>>
    where
        'socket: 'both,
        'octets: 'both,
        Self: 'both,
    {
        Box::pin(async move {
            loop {
                self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
                let failed = self.socket.try_io(Interest::ERROR, || {
                    Err(self.socket.take_error()?.unwrap_or(io::ErrorKind::WouldBlock.into()))
                });
                let is_nothing = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
                let tried = match failed {
                    Err(error) if is_nothing(&error) => self.socket.try_recv(octets),
                    failed => failed,
                };
                match tried {
                    Err(error) if is_nothing(&error) => {}
                    tried => return tried.map(|len| (len, self.server)),
                }
            }
        })
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, octets: &[u8], _to: SocketAddr) -> Poll<io::Result<usize>> {
        let polled = self.socket.poll_send(cx, octets);
        if polled.is_ready() {
            self.sent.store(true, Relaxed);
        }
        polled
    }
}
