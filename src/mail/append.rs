//! The rule for appending text (a signature, a notice) to a body: where it would be read as text and harm nothing.
//!
//! In: a message and a text. Out: the octets to add, or the reason why not. The text goes after the body of a message
//! whose whole content is one plain text: no MIME header or `text/plain`, encoded as 7bit or 8bit, in a charset that
//! can hold the text, and signed by nobody (DKIM, ARC, Content-MD5, inline PGP; S/MIME and PGP/MIME are no text/plain).
//! What is not understood is declined: a message without our text is better than a broken one.
//!
//! A `format=flowed` body (RFC 3676) takes the text as fixed lines: they are stuffed where they must be (§4.4) and lose
//! blanks at their end (but for `-- `), so that `DelSp` does not touch them. Only a body whose last line is flowed
//! itself is declined: the text would flow into it.

use std::io::Read;

use memchr::memmem;

use super::edit::EditError;
use super::header::{Header, HeaderError, LINE_OCTETS_MAX};
use super::message::{Message, fill};

/// Octets of body that are searched for a PGP signature; a longer body is left alone.
pub const SEARCH_OCTETS_MAX: u64 = 1024 * 1024;

const SEARCH_CHUNK_OCTETS: usize = 64 * 1024;

const PGP: &[u8] = b"-----BEGIN PGP";

/// Fields that a changed body makes false.
const BODY_SIGNATURES: &[&str] =
    &["DKIM-Signature", "DomainKey-Signature", "ARC-Message-Signature", "ARC-Seal", "Content-MD5"];

/// Charsets whose octets 0 to 127 are ASCII whatever stands before them, as prefixes of their names.
const ASCII_SUPERSETS: &[&str] =
    &["us-ascii", "utf-8", "iso-8859-", "windows-125", "koi8-", "euc-", "gb2312", "gbk", "big5"];

const TOO_LONG: EditError = EditError::Declined("the body is too long to be searched for a PGP signature");

/// What stands after the body once the text is appended.
pub(super) fn octets_to_add(message: &Message, text: &str) -> Result<Vec<u8>, EditError> {
    check_text(text)?;
    let part = text_part(message.header()?).map_err(EditError::Declined)?;
    let holds_utf8 = part.utf8 && part.eight_bit;
    if !holds_utf8 && !text.is_ascii() {
        return Err(EditError::Declined("the text is not ASCII, and the body is not labelled utf-8 and 8bit"));
    }
    let end = search_body(message)?;
    if part.flowed && end.flowed {
        return Err(EditError::Declined("the last line of the body flows on (format=flowed)"));
    }
    let mut octets = Vec::with_capacity(text.len() + 16);
    if end.open && !text.is_empty() {
        octets.extend_from_slice(b"\r\n");
    }
    for line in text.lines() {
        let stuffed = part.flowed && (line.starts_with([' ', '>']) || line.starts_with("From "));
        let fixed = if part.flowed && line != "-- " { line.trim_end_matches(' ') } else { line };
        octets.extend_from_slice(if stuffed { b" " } else { b"" });
        octets.extend_from_slice(fixed.as_bytes());
        octets.extend_from_slice(b"\r\n");
    }
    Ok(octets)
}

fn check_text(text: &str) -> Result<(), EditError> {
    let wrong = |what| Err(EditError::Value { name: "text".to_owned(), what });
    for line in text.lines() {
        if line.contains(['\r', '\0']) {
            return wrong("a bare CR or a NUL");
        }
        // One octet less than RFC 5322 §2.1.1 has, for the blank that format=flowed may add.
        if line.len() >= LINE_OCTETS_MAX {
            return wrong("a line that is too long");
        }
    }
    if text.ends_with('\r') { wrong("a bare CR or a NUL") } else { Ok(()) }
}

/// What the header says about a body of plain text.
#[derive(Debug, PartialEq, Eq)]
struct TextPart {
    utf8: bool,
    eight_bit: bool,
    flowed: bool,
}

fn text_part(header: &Header) -> Result<TextPart, &'static str> {
    if header.malformed().next().is_some() {
        return Err("the header has malformed lines");
    }
    if BODY_SIGNATURES.iter().any(|name| header.count(name) > 0) {
        return Err("the body is signed");
    }
    let encoding = only(header, "Content-Transfer-Encoding")?.unwrap_or_else(|| "7bit".to_owned());
    let eight_bit = encoding.eq_ignore_ascii_case("8bit");
    if !eight_bit && !encoding.eq_ignore_ascii_case("7bit") {
        return Err("the body is encoded, or binary");
    }
    if let Some(disposition) = only(header, "Content-Disposition")? {
        let kind = disposition.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("inline") {
            return Err("the body is an attachment");
        }
    }
    let Some(content_type) = only(header, "Content-Type")? else {
        return Ok(TextPart { utf8: false, eight_bit, flowed: false });
    };
    let parameters = text_plain(&content_type)?;
    let value = |name| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let charset = value("charset").unwrap_or("us-ascii");
    if !ASCII_SUPERSETS.iter().any(|prefix| charset.starts_with(prefix)) {
        return Err("the charset may not hold the text");
    }
    Ok(TextPart { utf8: charset == "utf-8", eight_bit, flowed: value("format") == Some("flowed") })
}

/// The value of a field that must not be there twice.
fn only(header: &Header, name: &str) -> Result<Option<String>, &'static str> {
    if header.count(name) > 1 { Err("a MIME field is there twice") } else { Ok(header.text(name)) }
}

/// The parameters of a Content-Type that is text/plain (RFC 2045 §5.1), names and values in lower case. Comments,
/// quoted pairs, RFC 2231 forms and repeated names are taken as not understood.
fn text_plain(content_type: &str) -> Result<Vec<(String, String)>, &'static str> {
    let (kind, mut rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("text/plain") {
        return Err("the body is not text/plain");
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    while !rest.trim().is_empty() {
        let (name, value, after) = parameter(rest).ok_or("the Content-Type is not understood")?;
        let name = name.to_ascii_lowercase();
        if name.contains('*') || parameters.iter().any(|(earlier, _)| *earlier == name) {
            return Err("the Content-Type is not understood");
        }
        parameters.push((name, value.to_ascii_lowercase()));
        rest = after;
    }
    Ok(parameters)
}

/// Takes `name=value` or `name="value"` from the front, and the semicolon after it.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => {
            let end = rest.find(';').unwrap_or(rest.len());
            let value = rest[..end].trim_end();
            if !is_token(value) {
                return None;
            }
            (value, &rest[end..])
        }
    };
    let rest = rest.trim_start();
    let after = if rest.is_empty() { rest } else { rest.strip_prefix(';')? };
    is_token(name).then_some((name, value, after))
}

/// RFC 2045 §5.1.
fn is_token(word: &str) -> bool {
    let special = |octet| b"()<>@,;:\\\"/[]?=".contains(&octet);
    !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic() && !special(octet))
}

/// How the body ends.
struct End {
    /// Without a line end.
    open: bool,
    /// In a line that flows on, by RFC 3676 §4.1; the signature separator `-- ` does not.
    flowed: bool,
}

fn search_body(message: &Message) -> Result<End, EditError> {
    let mut body = message.body()?.take(SEARCH_OCTETS_MAX + 1);
    let mut buffer = vec![0; SEARCH_CHUNK_OCTETS];
    let (mut searched, mut kept) = (0, 0);
    loop {
        let filled = fill(&mut body, &mut buffer[kept..]).map_err(HeaderError::from)?;
        if filled == 0 {
            break;
        }
        searched += filled as u64;
        if searched > SEARCH_OCTETS_MAX {
            return Err(TOO_LONG);
        }
        let content = kept + filled;
        if memmem::find(&buffer[..content], PGP).is_some() {
            return Err(EditError::Declined("the body is signed"));
        }
        // The marker may begin in this chunk and end in the next.
        let keep = content.min(PGP.len());
        buffer.copy_within(content - keep..content, 0);
        kept = keep;
    }
    let end = &buffer[..kept];
    let line = end.strip_suffix(b"\n").map_or(end, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let separator = line == b"-- " || line.ends_with(b"\n-- ");
    Ok(End { open: !end.is_empty() && line.len() == end.len(), flowed: line.ends_with(b" ") && !separator })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mail_parser::parsers::MessageStream;
    use proptest::prelude::*;

    use super::*;
    use crate::mail::{Edit, LineEnds, Spool, SpoolPlace};

    fn message(octets: &str) -> Message {
        let place = SpoolPlace { threshold: usize::MAX, dir: PathBuf::new() };
        let mut spool = Spool::new(place);
        spool.write(octets.as_bytes()).unwrap();
        Message::new(spool, 10_000)
    }

    fn written(message: &Message) -> String {
        let mut out = Vec::new();
        message.write_to(&mut out, LineEnds::Crlf).unwrap();
        assert_eq!(message.octets_out().unwrap(), out.len() as u64);
        String::from_utf8(out).unwrap()
    }

    /// What the message is after the text, or why it did not take it.
    fn appended(octets: &str, text: &str) -> Result<String, EditError> {
        let mut message = message(octets);
        let judged = message.takes_text(text);
        let result = message.edit(Edit::AppendText(text.to_owned()));
        assert_eq!(judged.is_ok(), result.is_ok());
        let out = written(&message);
        assert!(out.contains(octets), "{out:?}");
        if result.is_err() {
            assert_eq!(out, octets);
        }
        result.map(|()| out)
    }

    #[test]
    fn where_the_text_goes() {
        for (octets, text, expected) in [
            ("A: b\r\n\r\nbody\r\n", "x\ny", "A: b\r\n\r\nbody\r\nx\r\ny\r\n"),
            ("A: b\r\n\r\nbody\r\n", "x\r\ny\r\n", "A: b\r\n\r\nbody\r\nx\r\ny\r\n"),
            ("A: b\r\n\r\nbody", "x", "A: b\r\n\r\nbody\r\nx\r\n"),
            ("A: b\r\n\r\nbody\n", "x", "A: b\r\n\r\nbody\nx\r\n"),
            ("A: b\r\n\r\nbody\r", "x", "A: b\r\n\r\nbody\r\r\nx\r\n"),
            ("A: b\r\n\r\nbody", "", "A: b\r\n\r\nbody"),
            ("A: b\r\n\r\n", "x", "A: b\r\n\r\nx\r\n"),
            ("A: b\r\n", "x", "A: b\r\n\r\nx\r\n"),
            ("A: b", "x", "A: b\r\n\r\nx\r\n"),
            ("", "x", "\r\nx\r\n"),
            ("\r\n", "x", "\r\nx\r\n"),
            ("no header", "x", "no header\r\nx\r\n"),
            ("A: b\r\n\r\nbody\r\n", "\nx", "A: b\r\n\r\nbody\r\n\r\nx\r\n"),
        ] {
            assert_eq!(appended(octets, text).unwrap(), expected);
        }
    }

    #[test]
    fn a_text_below_a_text_and_a_field_on_top() {
        for octets in ["A: b", "A: b\r\n\r\n", ""] {
            let mut message = message(octets);
            message.edit(Edit::AppendText("1".to_owned())).unwrap();
            message.edit(Edit::AppendText("2".to_owned())).unwrap();
            message.prepend("T: t\r\n").unwrap();
            let field = Edit::AppendField { name: "Z".to_owned(), value: "z".to_owned() };
            message.edit(field).unwrap();
            let a = if octets.is_empty() { "" } else { "A: b\r\n" };
            assert_eq!(written(&message), format!("T: t\r\n{a}Z: z\r\n\r\n1\r\n2\r\n"));
            let mut body = String::new();
            message.body().unwrap().read_to_string(&mut body).unwrap();
            assert_eq!(body, "1\r\n2\r\n");
        }
    }

    const TAKEN: &[&str] = &[
        "",
        "MIME-Version: 1.0\r\n",
        "Content-Type: text/plain\r\n",
        "content-type: TEXT/Plain ; Charset=\"UTF-8\" ;\r\n",
        "Content-Type: text/plain;\r\n\tcharset=iso-8859-15; format=fixed\r\n",
        "Content-Type: text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: 8BIT\r\n",
        "Content-Transfer-Encoding:  7bit \r\n",
        "Content-Disposition: inline; filename=\"x;y\"\r\n",
        "Content-Type: text/plain; name=\"a;b=c\"\r\n",
        "Content-Type: text/plain; format=flowed; delsp=yes\r\n",
    ];

    const DECLINED: &[&str] = &[
        "DKIM-Signature: v=1\r\n",
        "dkim-signature : v=1\r\n",
        "ARC-Seal: i=1\r\n",
        "ARC-Message-Signature: i=1\r\n",
        "DomainKey-Signature: a\r\n",
        "Content-MD5: x\r\n",
        "Content-Type: text/html\r\n",
        "Content-Type: text/plainer\r\n",
        "Content-Type:\r\n",
        "Content-Type: multipart/signed; boundary=x\r\n",
        "Content-Type: multipart/mixed; boundary=x\r\n",
        "Content-Type: application/pkcs7-mime\r\n",
        "Content-Type: text/plain (comment)\r\n",
        "Content-Type: text/plain; charset\r\n",
        "Content-Type: text/plain; charset=us-ascii (comment)\r\n",
        "Content-Type: text/plain; charset=\"us-ascii\r\n",
        "Content-Type: text/plain; charset=\"us-ascii\"x\r\n",
        "Content-Type: text/plain; charset=utf-8; charset=utf-8\r\n",
        "Content-Type: text/plain; charset*=us-ascii'en'us-ascii\r\n",
        "Content-Type: text/plain; =x\r\n",
        "Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
        "Content-Type: text/plain; charset=utf-16\r\n",
        "Content-Type: text/plain; charset=utf-7\r\n",
        "Content-Type: text/plain; charset=iso-2022-jp\r\n",
        "Content-Type: text/plain; charset=\"\"\r\n",
        "Content-Transfer-Encoding: base64\r\n",
        "Content-Transfer-Encoding: quoted-printable\r\n",
        "Content-Transfer-Encoding: binary\r\n",
        "Content-Transfer-Encoding: 7bit (really)\r\n",
        "Content-Transfer-Encoding: 7bit\r\ncontent-transfer-encoding: base64\r\n",
        "Content-Disposition: attachment\r\n",
        "Content-Disposition:\r\n",
        "what is this\r\n",
    ];

    #[test]
    fn headers_that_take_ascii_text() {
        for fields in TAKEN {
            let octets = format!("A: b\r\n{fields}\r\nbody\r\n");
            assert_eq!(appended(&octets, "-- \nx").unwrap(), format!("{octets}-- \r\nx\r\n"));
        }
        for fields in DECLINED {
            let result = appended(&format!("A: b\r\n{fields}\r\nbody\r\n"), "x");
            assert!(matches!(result, Err(EditError::Declined(_))), "{fields:?}");
        }
    }

    #[test]
    fn text_that_is_not_ascii_needs_utf8_and_8bit() {
        for (charset, encoding, taken) in [
            ("utf-8", "8bit", true),
            ("utf-8", "7bit", false),
            ("iso-8859-1", "8bit", false),
            ("us-ascii", "8bit", false),
        ] {
            let octets = format!(
                "Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\nbody\r\n"
            );
            assert_eq!(appended(&octets, "gr\u{fc}n").is_ok(), taken, "{charset} {encoding}");
        }
        assert!(appended("\r\nbody\r\n", "gr\u{fc}n").is_err());
    }

    #[test]
    fn texts_that_are_refused() {
        let longest = "x".repeat(LINE_OCTETS_MAX - 1);
        assert!(appended("\r\nbody\r\n", &longest).is_ok());
        for text in ["a\rb", "a\r", "a\r\r\nb", "\0", &format!("{longest}x")] {
            let result = appended("\r\nbody\r\n", text);
            assert!(matches!(result, Err(EditError::Value { .. })), "{text:?}");
        }
    }

    #[test]
    fn flowed_bodies() {
        const FLOWED: &str = "Content-Type: text/plain; format=flowed\r\n\r\n";
        for (body, text, expected) in [
            ("a\r\n", "b  ", Some("a\r\nb\r\n")),
            ("a \r\nb\r\n", " c\n>d\nFrom e", Some("a \r\nb\r\n  c\r\n >d\r\n From e\r\n")),
            ("a\r\n-- \r\n", "b", Some("a\r\n-- \r\nb\r\n")),
            ("-- \r\n", "-- \nb", Some("-- \r\n-- \r\nb\r\n")),
            ("a \r\n", "b", None),
            ("a ", "b", None),
            ("a-- \r\n", "b", None),
        ] {
            let result = appended(&format!("{FLOWED}{body}"), text).ok();
            assert_eq!(result, expected.map(|body| format!("{FLOWED}{body}")), "{body:?} {text:?}");
            // The same where lines do not flow: only the line ends are ours.
            let plain = appended(&format!("A: b\r\n\r\n{body}"), text).unwrap();
            assert!(plain.ends_with(&format!("{}\r\n", text.replace('\n', "\r\n"))));
        }
    }

    #[test]
    fn a_pgp_signature_is_found_wherever_it_stands() {
        let start = SEARCH_CHUNK_OCTETS - PGP.len();
        for before in [0, 1, start - 1, start, start + 1, start + PGP.len(), 2 * start + 9, 1024 * 1024 - 20] {
            let octets = format!("\r\n{}-----BEGIN PGP\r\n", "x".repeat(before));
            let result = message(&octets).takes_text("x");
            assert!(matches!(result, Err(EditError::Declined("the body is signed"))), "{before}");
        }
        let longest = format!("\r\n{}", "x".repeat(1024 * 1024));
        assert!(message(&longest).takes_text("x").is_ok());
        let over = message(&format!("{longest}x")).takes_text("x");
        assert!(matches!(over, Err(EditError::Declined("the body is too long to be searched for a PGP signature"))));
    }

    proptest! {
        // What we take as text/plain, a parser that takes more must see so, too.
        #[test]
        fn content_types_agree_with_mail_parser(
            text in "text/plain( |;|=|\"|charset|format|utf-8|x|\t){0,9}",
        ) {
            if let Ok(parameters) = text_plain(&text) {
                let line = format!("{text}\r\n");
                let parsed = MessageStream::new(line.as_bytes()).parse_content_type();
                let parsed = parsed.as_content_type().unwrap();
                prop_assert_eq!((parsed.ctype(), parsed.subtype()), ("text", Some("plain")));
                for (name, value) in parameters.iter().filter(|(_, value)| !value.trim().is_empty()) {
                    prop_assert_eq!(parsed.attribute(name), Some(value.as_str()));
                }
            }
        }
    }
}
