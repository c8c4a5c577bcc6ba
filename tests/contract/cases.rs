//! What every backend is given, and what it has to arrive as.

use crate::common::handover;

/// One message with its envelope.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// As between the brackets; empty is the null reverse-path.
    pub(crate) sender: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: Vec<u8>,
    /// Parameters of MAIL.
    pub(crate) parameters: &'static str,
    /// By BDAT, else by DATA.
    pub(crate) chunk: bool,
}

const SENDER: &str = "-a@client.example";

/// All of them. Every recipient's local-part begins with `tag`, which tells one backend's mail from another's.
pub(crate) fn all(tag: &str) -> Vec<Case> {
    let case = |name, sender: &str, recipients: &[&str], content: Vec<u8>| Case {
        name,
        sender: sender.to_owned(),
        recipients: recipients.iter().map(|recipient| recipient.replace("TAG", tag)).collect(),
        content,
        parameters: "",
        chunk: false,
    };
    let x = "TAGx@here.example";
    let mut cases: Vec<Case> =
        handover::messages().into_iter().map(|(name, content)| case(name, SENDER, &[x], content)).collect();
    cases.iter_mut().for_each(|case| case.parameters = " BODY=8BITMIME");
    let open = b"Subject: open\r\n\r\nno line end after this".to_vec();
    cases.push(Case { chunk: true, ..case("no last line end", SENDER, &[x], open) });
    cases.push(case("NUL", SENDER, &[x], b"Subject: nul\r\n\r\nbefore\0after\r\n".to_vec()));
    let large = [
        &b"Subject: large\r\n\r\n"[..],
        &b".a line of a large message, 64 octets long with its line's end.\r\n".repeat(31_000),
    ];
    cases.push(case("2 MB", SENDER, &[x], large.concat()));
    let marked = |mark: &str| format!("Subject: {mark}\r\n\r\n{mark}\r\n").into_bytes();
    let many: Vec<String> = (0..100).map(|at| format!("TAGm{at}@here.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let verp = format!("bounce-{}=here.example@client.example", "v".repeat(40));
    let verp = verp.replace("bounce-", "bounce-1234567-");
    cases.extend([
        case("100 recipients", SENDER, &many, marked("many")),
        case("null sender", "", &[x], marked("null")),
        case("VERP sender", &verp, &[x], marked("verp")),
        case("quoted local-part", "\"s s\"@client.example", &["\"TAG q,q\"@here.example"], marked("quoted")),
        case("address literal", "a@[192.0.2.7]", &["TAGl@[192.0.2.25]"], marked("literal")),
        case("letter case kept", "MixedCase@client.example", &["TAGMixedCase@here.example"], marked("case")),
    ]);
    cases
}

impl Case {
    /// The commands that send it.
    pub(crate) fn session(&self) -> Vec<u8> {
        let paths: String = self.recipients.iter().map(|path| format!("RCPT TO:<{path}>\r\n")).collect();
        let head = format!("MAIL FROM:<{}>{}\r\n{paths}", self.sender, self.parameters);
        if self.chunk {
            let bdat = format!("BDAT {} LAST\r\n", self.content.len());
            return [head.as_bytes(), bdat.as_bytes(), &self.content].concat();
        }
        let mut input = format!("{head}DATA\r\n").into_bytes();
        for line in self.content.split_inclusive(|&octet| octet == b'\n') {
            input.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
            input.extend_from_slice(line);
        }
        input.extend_from_slice(b".\r\n");
        input
    }

    /// How many replies that has.
    pub(crate) fn replies(&self) -> usize {
        1 + self.recipients.len() + if self.chunk { 1 } else { 2 }
    }
}

/// Fields that a far end or we put into a header.
const ADDED: [&str; 13] = [
    "received",
    "return-path",
    "delivered-to",
    "x-original-to",
    "message-id",
    "date",
    "from",
    "sender",
    "to",
    "envelope-to",
    "delivery-date",
    "authentication-results",
    "resent-from",
];

/// How `stored` (LF line ends) differs from `sent`, if only by added fields and a last line end: their names, and that.
pub(crate) fn whole(stored: &[u8], sent: &[u8]) -> Option<(Vec<String>, bool)> {
    let sent: Vec<u8> = lf(sent);
    // Our messages begin with this field, or have no header at all.
    let (sent_header, sent_body) = if sent.starts_with(b"Subject:") { cut(&sent)? } else { (&b""[..], &sent[..]) };
    let (header, body) = cut(stored)?;
    let open = !sent_body.ends_with(b"\n") && body.strip_suffix(b"\n") == Some(sent_body);
    if body != sent_body && !open {
        return None;
    }
    let (mut kept, mut added, mut ours) = (Vec::new(), Vec::new(), true);
    for line in header.split_inclusive(|&octet| octet == b'\n') {
        if !line.starts_with(b"\t") && !line.starts_with(b" ") {
            let name = String::from_utf8_lossy(line.split(|&octet| octet == b':').next()?).to_ascii_lowercase();
            ours = !ADDED.contains(&&*name);
            if !ours && !added.contains(&name) {
                added.push(name);
            }
        }
        if ours {
            kept.extend_from_slice(line);
        }
    }
    (kept == sent_header).then_some((added, open))
}

/// Header with its last line end, and body.
fn cut(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memmem::find(message, b"\n\n")?;
    Some((&message[..=end], &message[end + 2..]))
}

fn lf(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|octet| *octet != b'\r').collect()
}
