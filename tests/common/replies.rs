//! Octets from the server -> replies (RFC 5321 §4.2), strictly: a line that is none is an error.

/// The longest reply line with its CRLF (RFC 5321 §4.5.3.1.5).
const LINE_OCTETS_MAX: usize = 512;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// The text of each line, without code and line end.
    pub lines: Vec<String>,
}

impl Reply {
    /// 2 is yes, 3 is go on, 4 is not now, 5 is no.
    pub fn class(&self) -> u16 {
        self.code / 100
    }
}

/// All replies in `output`, or what is wrong with the first bad line.
pub fn parse(output: &[u8]) -> Result<Vec<Reply>, String> {
    let mut replies = Vec::new();
    let mut open: Option<Reply> = None;
    for line in output.split_inclusive(|&octet| octet == b'\n') {
        let (code, last, text) = reply_line(line)?;
        let reply = match open.take() {
            None => Reply { code, lines: vec![text] },
            Some(begun) if begun.code != code => {
                return Err(format!("{code} within a reply {}", begun.code));
            }
            Some(mut begun) => {
                begun.lines.push(text);
                begun
            }
        };
        if last { replies.push(reply) } else { open = Some(reply) }
    }
    match open {
        None => Ok(replies),
        Some(begun) => Err(format!("the output ends within a reply {}", begun.code)),
    }
}

/// One line -> code, whether it is the reply's last, text.
pub fn reply_line(line: &[u8]) -> Result<(u16, bool, String), String> {
    let wrong = |why: &str| Err(format!("{why}: {:?}", String::from_utf8_lossy(line)));
    if line.len() > LINE_OCTETS_MAX {
        return wrong("a reply line over 512 octets");
    }
    let Some(line_text) = line.strip_suffix(b"\r\n") else {
        return wrong("a reply line without CRLF");
    };
    let Ok(text) = std::str::from_utf8(line_text) else {
        return wrong("a reply that is not UTF-8");
    };
    // RFC 5321 §4.2: textstring = 1*(%d09 / %d32-126); UTF-8 where RFC 6531 allows it.
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return wrong("a control character in a reply");
    }
    let (code, rest) = (text.get(..3).unwrap_or(""), text.get(3..).unwrap_or(""));
    let code: u16 = match code.parse() {
        Ok(code @ 200..=599) if rest.is_empty() || rest.starts_with([' ', '-']) => code,
        _ => return wrong("no reply code"),
    };
    Ok((code, !rest.starts_with('-'), rest.get(1..).unwrap_or("").to_owned()))
}

/// The replies of a run, or a panic that shows why they are none.
pub fn of(output: &[u8]) -> Vec<Reply> {
    parse(output).unwrap_or_else(|why| panic!("{why}\nin: {}", String::from_utf8_lossy(output)))
}

/// The reply after each 354, which decides about a message; `None` where the output ends before it.
pub fn verdicts(replies: &[Reply]) -> Vec<Option<&Reply>> {
    replies.iter().enumerate().filter(|(_, reply)| reply.code == 354).map(|(at, _)| replies.get(at + 1)).collect()
}
