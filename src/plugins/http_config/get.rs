//! One GET by HTTP/1.1 (RFC 9112), without TLS, redirections or connections that are kept.

use std::io::{self, Read, Write};

use crate::smtp::escape::safe;
use crate::world::{Net, Stream};

/// Octets of an answer's header, and of what stands between its chunks.
const HEAD_OCTETS_MAX: usize = 16 << 10;
const URL_OCTETS_MAX: usize = 2048;

/// Where a setting is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    host: String,
    port: u16,
    /// Host and port as written.
    authority: String,
    /// Path and query, in which `%n` stands once or more.
    target: String,
}

impl Url {
    /// Reads a URL; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = |what: &str| Err(format!("{text:?} cannot be fetched: {what}"));
        let Some((scheme, rest)) = text.split_once("://") else { return fault("it does not begin with http://") };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return fault("https is not spoken until postern has TLS; use http over a network that you trust");
            }
            _ => return fault("it is no http URL"),
        }
        if rest.len() > URL_OCTETS_MAX || !rest.bytes().all(|octet| octet.is_ascii_graphic()) || rest.contains('#') {
            return fault("write printable ASCII without blanks or #, at most 2048 octets");
        }
        let start = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(start);
        if authority.contains('@') {
            return fault("no name and password in it, they would be sent in the clear");
        }
        // The colon of a port comes after the bracket of an IPv6 address.
        let colon = authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
        let (host, port) = match colon {
            Some(colon) => (&authority[..colon], authority[colon + 1..].parse().ok().filter(|port| *port > 0)),
            None => (authority, Some(80)),
        };
        let (Some(port), false) = (port, host.is_empty()) else { return fault("its host or port is none") };
        let mut target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if !target.contains("%n") {
            target.push_str("%n");
        }
        Ok(Self { host: host.to_owned(), port, authority: authority.to_owned(), target })
    }

    /// The whole, for this setting.
    pub(super) fn asked(&self, name: &str) -> String {
        format!("http://{}{}", self.authority, self.target.replace("%n", name))
    }
}

/// Fetches a setting. `None`: it is not there (404, 410).
///
/// # Errors
/// Why there is no answer, or none that could be used.
pub(super) fn get(net: &dyn Net, url: &Url, name: &str, octets_max: usize) -> Result<Option<String>, String> {
    let (status, body) = exchange(net, url, name, octets_max).map_err(|error| safe(&error.to_string(), 200))?;
    match status {
        200 | 204 => {}
        404 | 410 => return Ok(None),
        301 | 302 | 303 | 307 | 308 => return Err(format!("status {status}, and redirections are not followed")),
        _ => return Err(format!("status {status}")),
    }
    String::from_utf8(body).map(Some).map_err(|_| "the answer is not UTF-8".into())
}

fn exchange(net: &dyn Net, url: &Url, name: &str, octets_max: usize) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = open(net, url)?;
    let target = url.target.replace("%n", name);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: postern\r\nAccept: text/plain, */*\r\nConnection: close\r\n\r\n",
        url.authority
    );
    stream.write_all(request.as_bytes())?;
    let mut octets = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        octets.extend_from_slice(&buffer[..read]);
        if let Some(response) = response(&octets, read == 0, octets_max).map_err(io::Error::other)? {
            return Ok(response);
        }
    }
}

/// The first of the host's addresses that answers.
fn open(net: &dyn Net, url: &Url) -> io::Result<Box<dyn Stream>> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in net.resolve(&url.host, url.port)? {
        match net.connect(&address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body, once they are there. `ended`: nothing more comes.
fn response(octets: &[u8], ended: bool, octets_max: usize) -> Result<Option<(u16, Vec<u8>)>, String> {
    let Some(end) = octets.windows(4).position(|window| window == b"\r\n\r\n") else {
        return match ended {
            true => Err("the answer ends within its header, or is no HTTP".into()),
            false if octets.len() > HEAD_OCTETS_MAX => Err(format!("a header of over {HEAD_OCTETS_MAX} octets")),
            false => Ok(None),
        };
    };
    let (head, body) = (String::from_utf8_lossy(&octets[..end]), &octets[end + 4..]);
    if end > HEAD_OCTETS_MAX {
        return Err(format!("a header of over {HEAD_OCTETS_MAX} octets"));
    }
    let mut lines = head.split("\r\n");
    let status = status(lines.next().unwrap_or_default())?;
    match status {
        // Not the answer yet.
        100..200 => return response(body, ended, octets_max),
        200 => {}
        _ => return Ok(Some((status, Vec::new()))),
    }
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let values = |name: &'static str| {
        fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    // RFC 9112 §6.3: chunks go before a length.
    if let Some(coding) = values("Transfer-Encoding").next() {
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(format!("transfer coding {coding:?} is not known here"));
        }
        return Ok(unchunked(body, ended, octets_max)?.map(|body| (status, body)));
    }
    let mut lengths = values("Content-Length");
    let length =
        lengths.next().map(|text| text.parse::<usize>().map_err(|_| format!("length {text:?}"))).transpose()?;
    if lengths.any(|other| Some(other.to_owned()) != length.map(|length| length.to_string())) {
        return Err("two lengths".into());
    }
    if body.len().max(length.unwrap_or(0)) > octets_max && length.is_none_or(|length| length > octets_max) {
        return Err(too_long(octets_max));
    }
    match length {
        Some(length) if body.len() >= length => Ok(Some((status, body[..length].to_vec()))),
        Some(_) if ended => Err("the answer is cut short".into()),
        None if ended => Ok(Some((status, body.to_vec()))),
        _ => Ok(None),
    }
}

fn too_long(octets_max: usize) -> String {
    format!("an answer of over {octets_max} octets")
}

/// `HTTP/1.1 200 OK`
fn status(line: &str) -> Result<u16, String> {
    let number = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let number = number.and_then(|number| number.parse().ok()).filter(|number| (100..600).contains(number));
    number.ok_or_else(|| format!("an answer that is no HTTP/1: {:?}", safe(line, 60)))
}

/// RFC 9112 §7.1. `None`: not all of it is there.
fn unchunked(mut rest: &[u8], ended: bool, octets_max: usize) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    let mut between = 0;
    let missing = || if ended { Err("the answer is cut short".to_owned()) } else { Ok(None) };
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return if rest.len() > HEAD_OCTETS_MAX { Err("a chunk without end".into()) } else { missing() };
        };
        between += end;
        if between > HEAD_OCTETS_MAX {
            return Err("more between the chunks than in them".into());
        }
        let line = String::from_utf8_lossy(&rest[..end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| format!("a chunk of size {:?}", safe(digits, 20)))?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(Some(body));
        }
        if size > octets_max - body.len() {
            return Err(too_long(octets_max));
        }
        let Some((chunk, after)) = rest.split_at_checked(size) else { return missing() };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', after @ ..] => after,
            [] | [b'\r'] => return missing(),
            _ => return Err("a chunk that is longer than it says".into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let table = [
            ("http://a.example", Ok(("a.example", 80, "http://a.example/me"))),
            ("http://a.example/c/", Ok(("a.example", 80, "http://a.example/c/me"))),
            ("HTTP://a.example:8080?name=", Ok(("a.example", 8080, "http://a.example:8080/?name=me"))),
            ("http://[::1]:81/%n.txt", Ok(("[::1]", 81, "http://[::1]:81/me.txt"))),
            ("http://[::1]/x", Ok(("[::1]", 80, "http://[::1]/xme"))),
            ("https://a.example/", Err("https is not spoken")),
            ("ftp://a.example/", Err("no http URL")),
            ("a.example/", Err("begin with http://")),
            ("http:///x", Err("host or port")),
            ("http://a:0/", Err("host or port")),
            ("http://a:65536/", Err("host or port")),
            ("http://me:pw@a/", Err("no name and password")),
            ("http://a/#x", Err("printable ASCII")),
            ("http://a/\r\nX: y", Err("printable ASCII")),
            ("http://ä.example/", Err("printable ASCII")),
        ];
        for (text, expected) in table {
            match (Url::parse(text), expected) {
                (Ok(url), Ok(wanted)) => assert_eq!((&*url.host, url.port, &*url.asked("me")), wanted),
                (Err(fault), Err(wanted)) => assert!(fault.contains(wanted), "{fault}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn answers() {
        let long = "x".repeat(21);
        let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD_OCTETS_MAX));
        let table: Vec<(String, Result<(u16, &str), &str>)> = vec![
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".into(), Ok((200, "abc"))),
            ("HTTP/1.1 200 OK\r\ncontent-length:3\r\nContent-Length: 3\r\n\r\nabcd".into(), Ok((200, "abc"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), Ok((200, ""))),
            ("HTTP/1.0 200\r\n\r\nabc".into(), Ok((200, "abc"))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Gone\r\n\r\n".into(), Ok((404, ""))),
            ("HTTP/1.1 500 Oh\r\nContent-Length: 9999999\r\n\r\n".into(), Ok((500, ""))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n".into(),
                Ok((200, "abc")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 99\r\n\r\n0\r\n".into(), Ok((200, ""))),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", &long[1..]), Ok((200, &long[1..]))),
            (format!("HTTP/1.1 200 OK\r\n\r\n{long}"), Err("over 20 octets")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n".into(), Err("over 20 octets")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n".into(), Err("over 20 octets")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n".into(), Err("longer than it says")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), Err("a chunk of size")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab".into(), Err("cut short")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".into(), Err("gzip")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".into(), Err("cut short")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nab".into(), Err("two lengths")),
            ("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nab".into(), Err("length \"-3\"")),
            ("HTTP/1.1 200 OK\r\n".into(), Err("within its header")),
            ("220 mx.example ESMTP\r\n\r\n".into(), Err("no HTTP/1: \"220 mx.example ESMTP\"")),
            ("HTTP/1.1 99999 x\r\n\r\n".into(), Err("no HTTP/1")),
            (String::new(), Err("within its header")),
            (head, Err("a header of over")),
        ];
        for (octets, expected) in table {
            let found = response(octets.as_bytes(), true, 20);
            match (found, expected) {
                (Ok(Some((status, body))), Ok(wanted)) => {
                    assert_eq!((status, &*String::from_utf8(body).unwrap()), wanted, "{octets}");
                    // Cut anywhere, it is never anything else.
                    for cut in 0..octets.len() {
                        let early = response(&octets.as_bytes()[..cut], false, 20).unwrap();
                        let early = early.map(|(status, body)| (status, String::from_utf8(body).unwrap()));
                        assert!(early.is_none_or(|(status, body)| (status, &*body) == wanted), "{octets} at {cut}");
                    }
                }
                (Err(fault), Err(wanted)) => assert!(fault.contains(wanted), "{fault}"),
                (found, _) => panic!("{octets:?}: {found:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(octets: Vec<u8>, ended: bool) {
            let _ = response(&octets, ended, 20);
            let _ = unchunked(&octets, ended, 20);
            let _ = response(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &octets[..]].concat(), ended, 20);
        }
    }
}
