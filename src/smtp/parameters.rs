//! The arguments of MAIL and RCPT: path and parameters (RFC 5321 §4.1.1.11; SIZE RFC 1870, BODY RFC 6152 and 3030, SMTPUTF8
//! RFC 6531, RET, ENVID, NOTIFY and ORCPT RFC 3461 with RFC 6533).
//!
//! In: the argument's text, perhaps corrected by a plugin. Out: typed values. Whether an extension is on offer, and whether
//! a size is too great, is asked elsewhere (extension.rs, session).

use std::fmt::{self, Write as _};

use super::address::{AddressError, ForwardPath, ReversePath, is_atext};
use super::command::{BLANKS, SyntaxError};
use super::escape::safe;
use super::reply::Enhanced;

/// Octets of ENVID in xtext (RFC 3461 §4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
/// Octets of ORCPT in xtext with its type (RFC 3461 §4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;
/// Digits of SIZE (RFC 1870 §6.1).
pub const SIZE_DIGITS_MAX: usize = 20;

/// What MAIL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailArgument {
    /// Where failures are told.
    pub reverse_path: ReversePath,
    /// Its parameters.
    pub parameters: MailParameters,
}

/// The parameters of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// Octets that the client means to send.
    pub size: Option<u64>,
    /// What kind of content.
    pub body: Option<Body>,
    /// Addresses or header may be UTF-8.
    pub smtputf8: bool,
    /// How much of the message goes into a failure notice.
    pub ret: Option<Ret>,
    /// The sender's mark for notices, decoded: printable ASCII.
    pub envid: Option<String>,
}

/// BODY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// `7BIT`
    SevenBit,
    /// `8BITMIME`
    EightBitMime,
    /// `BINARYMIME`: content that only BDAT can bring.
    BinaryMime,
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevenBit => "7BIT",
            Self::EightBitMime => "8BITMIME",
            Self::BinaryMime => "BINARYMIME",
        })
    }
}

/// RET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ret {
    /// `FULL`: the whole message.
    Full,
    /// `HDRS`: its header.
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        })
    }
}

/// What RCPT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptArgument {
    /// Whom the message is for.
    pub forward_path: ForwardPath,
    /// Its parameters.
    pub parameters: RcptParameters,
}

/// The parameters of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptParameters {
    /// What the sender wants to be told of.
    pub notify: Option<Notify>,
    /// The recipient that the sender named first.
    pub orcpt: Option<Orcpt>,
}

/// NOTIFY. None of the three is `NEVER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Notify {
    /// `SUCCESS`
    pub success: bool,
    /// `FAILURE`
    pub failure: bool,
    /// `DELAY`
    pub delay: bool,
}

impl Notify {
    /// `NEVER`
    pub const NEVER: Self = Self {
        success: false,
        failure: false,
        delay: false,
    };
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let words: Vec<&str> = words
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, word)| *word)
            .collect();
        f.write_str(
            if words.is_empty() {
                "NEVER".to_owned()
            } else {
                words.join(",")
            }
            .as_str(),
        )
    }
}

/// ORCPT.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Orcpt {
    /// The address's kind, as written: mostly `rfc822`, or `utf-8` (RFC 6533).
    pub addr_type: String,
    /// The address, decoded. No control characters; ASCII unless the type is `utf-8`.
    pub address: String,
}

impl Orcpt {
    fn is_utf8(addr_type: &str) -> bool {
        addr_type.eq_ignore_ascii_case("utf-8")
    }
}

impl fmt::Display for Orcpt {
    /// As a parameter's value, encoded, in ASCII.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};", self.addr_type)?;
        if !Self::is_utf8(&self.addr_type) {
            return f.write_str(&xtext(&self.address));
        }
        for character in self.address.chars() {
            // RFC 6533 §3: utf-8-addr-xtext.
            if character.is_ascii_graphic() && !matches!(character, '+' | '=' | '\\') {
                f.write_char(character)?;
            } else {
                write!(f, "\\x{{{:X}}}", character as u32)?;
            }
        }
        Ok(())
    }
}

/// Reads the argument of MAIL: `FROM:<a@b> SIZE=10`. A blank after the colon is let through, as everybody does.
pub fn mail_argument(text: &str) -> Result<MailArgument, SyntaxError> {
    let (path, rest) =
        split_path(text, "FROM").ok_or_else(|| syntax("MAIL FROM:<address> [parameters]"))?;
    let reverse_path =
        ReversePath::parse(path).map_err(|error| bad_path(error, Enhanced(5, 1, 7)))?;
    let mut parameters = MailParameters::default();
    for parameter in split_parameters(rest)? {
        parameters.take(&parameter)?;
    }
    if reverse_path.needs_smtputf8() && !parameters.smtputf8 {
        return Err(SyntaxError::smtputf8_needed());
    }
    Ok(MailArgument {
        reverse_path,
        parameters,
    })
}

/// Reads the argument of RCPT: `TO:<a@b> NOTIFY=NEVER`. Whether MAIL said SMTPUTF8 is not known here.
pub fn rcpt_argument(text: &str) -> Result<RcptArgument, SyntaxError> {
    let (path, rest) =
        split_path(text, "TO").ok_or_else(|| syntax("RCPT TO:<address> [parameters]"))?;
    let forward_path =
        ForwardPath::parse(path).map_err(|error| bad_path(error, Enhanced(5, 1, 3)))?;
    let mut parameters = RcptParameters::default();
    for parameter in split_parameters(rest)? {
        parameters.take(&parameter)?;
    }
    Ok(RcptArgument {
        forward_path,
        parameters,
    })
}

/// The text between `FROM:` or `TO:` and the parameters, and the text of these. For plugins that correct what was written:
/// it need not be a path. Quoted strings and brackets are kept whole.
pub fn path_text(text: &str) -> Option<(&str, &str)> {
    let (path, rest) = split_path(text, "FROM").or_else(|| split_path(text, "TO"))?;
    Some((path, rest.trim_matches(BLANKS)))
}

fn split_path<'a>(text: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (word, rest) = text.trim_matches(BLANKS).split_once(':')?;
    if !word.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest.trim_start_matches(BLANKS);
    Some(rest.split_at(path_end(rest)))
}

/// Where a path ends: after the `>` outside quotes if it begins with `<`, otherwise before a blank outside quotes.
fn path_end(text: &str) -> usize {
    let in_brackets = text.starts_with('<');
    let mut quoted = false;
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if in_brackets && !quoted => return at + 1,
            b' ' | b'\t' if !in_brackets && !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

fn syntax(form: &str) -> SyntaxError {
    SyntaxError::argument(format!("syntax: {form}"))
}

fn bad_path(error: AddressError, enhanced: Enhanced) -> SyntaxError {
    SyntaxError::new(501, enhanced, error.to_string())
}

struct Parameter<'a> {
    /// In capitals.
    keyword: String,
    value: Option<&'a str>,
}

/// RFC 5321 §4.1.2: `esmtp-param = esmtp-keyword ["=" esmtp-value]`. The line's length bounds their number.
fn split_parameters(rest: &str) -> Result<Vec<Parameter<'_>>, SyntaxError> {
    if !rest.is_empty() && !rest.starts_with(BLANKS) {
        return Err(SyntaxError::argument("a blank must follow the address"));
    }
    rest.split(BLANKS)
        .filter(|word| !word.is_empty())
        .map(split_parameter)
        .collect()
}

fn split_parameter(word: &str) -> Result<Parameter<'_>, SyntaxError> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let keyword_fits = !keyword.is_empty()
        && !keyword.starts_with('-')
        && keyword
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let fits = |character: char| character != '=' && !character.is_control();
    let value_fits = value.is_none_or(|value| !value.is_empty() && value.chars().all(fits));
    if !keyword_fits || !value_fits {
        return Err(SyntaxError::argument(format!(
            "malformed parameter {}",
            safe(word, WORD_OCTETS_SHOWN)
        )));
    }
    Ok(Parameter {
        keyword: keyword.to_ascii_uppercase(),
        value,
    })
}

/// Octets of a client's word that a reply repeats.
const WORD_OCTETS_SHOWN: usize = 60;

impl Parameter<'_> {
    fn value(&self) -> Result<&str, SyntaxError> {
        self.value.ok_or_else(|| self.wrong("needs a value"))
    }

    fn wrong(&self, what: &str) -> SyntaxError {
        SyntaxError::argument(format!("{} {what}", safe(&self.keyword, WORD_OCTETS_SHOWN)))
    }

    /// RFC 5321 §4.1.1.11.
    fn unknown(&self) -> SyntaxError {
        SyntaxError::new(
            555,
            Enhanced(5, 5, 4),
            format!(
                "{} is not known here",
                safe(&self.keyword, WORD_OCTETS_SHOWN)
            ),
        )
    }

    /// Puts a value where none was yet.
    fn set<T>(&self, place: &mut Option<T>, value: T) -> Result<(), SyntaxError> {
        if place.replace(value).is_some() {
            return Err(self.wrong("is given twice"));
        }
        Ok(())
    }
}

impl MailParameters {
    fn take(&mut self, parameter: &Parameter<'_>) -> Result<(), SyntaxError> {
        match parameter.keyword.as_str() {
            "SIZE" => parameter.set(&mut self.size, size(parameter)?),
            "BODY" => parameter.set(&mut self.body, body(parameter)?),
            "RET" => parameter.set(&mut self.ret, ret(parameter)?),
            "ENVID" => parameter.set(&mut self.envid, envid(parameter)?),
            "SMTPUTF8" if parameter.value.is_some() => Err(parameter.wrong("takes no value")),
            "SMTPUTF8" if self.smtputf8 => Err(parameter.wrong("is given twice")),
            "SMTPUTF8" => {
                self.smtputf8 = true;
                Ok(())
            }
            _ => Err(parameter.unknown()),
        }
    }
}

impl RcptParameters {
    fn take(&mut self, parameter: &Parameter<'_>) -> Result<(), SyntaxError> {
        match parameter.keyword.as_str() {
            "NOTIFY" => parameter.set(&mut self.notify, notify(parameter)?),
            "ORCPT" => parameter.set(&mut self.orcpt, orcpt(parameter)?),
            _ => Err(parameter.unknown()),
        }
    }
}

fn size(parameter: &Parameter<'_>) -> Result<u64, SyntaxError> {
    let digits = parameter.value()?;
    if digits.len() > SIZE_DIGITS_MAX || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(parameter.wrong("is no number"));
    }
    // Only a number of 20 digits can be too great for an u64, and then it is too great for us as well.
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn body(parameter: &Parameter<'_>) -> Result<Body, SyntaxError> {
    let value = parameter.value()?;
    [Body::SevenBit, Body::EightBitMime, Body::BinaryMime]
        .into_iter()
        .find(|body| body.to_string().eq_ignore_ascii_case(value))
        .ok_or_else(|| parameter.wrong("is 7BIT, 8BITMIME or BINARYMIME"))
}

fn ret(parameter: &Parameter<'_>) -> Result<Ret, SyntaxError> {
    let value = parameter.value()?;
    [Ret::Full, Ret::Headers]
        .into_iter()
        .find(|ret| ret.to_string().eq_ignore_ascii_case(value))
        .ok_or_else(|| parameter.wrong("is FULL or HDRS"))
}

fn envid(parameter: &Parameter<'_>) -> Result<String, SyntaxError> {
    let value = parameter.value()?;
    if value.len() > ENVID_OCTETS_MAX {
        return Err(parameter.wrong("is too long"));
    }
    from_xtext(value)
        .filter(|envid| is_printable_ascii(envid))
        .ok_or_else(|| parameter.wrong("is not xtext"))
}

fn notify(parameter: &Parameter<'_>) -> Result<Notify, SyntaxError> {
    let value = parameter.value()?;
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::NEVER);
    }
    let mut notify = Notify::default();
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            // NEVER stands alone (RFC 3461 §4.1).
            _ => return Err(parameter.wrong("is NEVER, or some of SUCCESS,FAILURE,DELAY")),
        }
    }
    Ok(notify)
}

/// RFC 3461 §4.2: `addr-type ";" xtext`.
fn orcpt(parameter: &Parameter<'_>) -> Result<Orcpt, SyntaxError> {
    let value = parameter.value()?;
    if value.len() > ORCPT_OCTETS_MAX {
        return Err(parameter.wrong("is too long"));
    }
    let wrong = || parameter.wrong("is a kind of address, a semicolon, and the address in xtext");
    let (addr_type, encoded) = value.split_once(';').ok_or_else(wrong)?;
    let is_atom = !addr_type.is_empty() && addr_type.is_ascii() && addr_type.chars().all(is_atext);
    let address = if Orcpt::is_utf8(addr_type) {
        from_xtext(encoded)
            .and_then(|text| from_unitext(&text))
            .filter(|text| !text.contains(char::is_control))
    } else {
        from_xtext(encoded).filter(|text| is_printable_ascii(text))
    };
    match address {
        Some(address) if is_atom && !address.is_empty() => Ok(Orcpt {
            addr_type: addr_type.to_owned(),
            address,
        }),
        _ => Err(wrong()),
    }
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// Encodes by RFC 3461 §4: `+` and two hexadecimal digits for what may not stand in a parameter's value.
pub fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            _ => out.push_str(&format!("+{octet:02X}")),
        }
    }
    out
}

/// Decodes xtext. Digits may be in either case, although RFC 3461 writes capitals. What is not ASCII stays (RFC 6533).
fn from_xtext(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        if octet == b'+' {
            let high = char::from(octets.next()?).to_digit(16)?;
            let low = char::from(octets.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(octet);
        }
    }
    String::from_utf8(out).ok()
}

/// Decodes `\x{...}` (RFC 6533 §3: EmbeddedUnicodeChar).
fn from_unitext(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        let (digits, further) = after.strip_prefix("x{")?.split_once('}')?;
        if !(2..=6).contains(&digits.len())
            || !digits.bytes().all(|octet| octet.is_ascii_hexdigit())
        {
            return None;
        }
        out.push_str(before);
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = further;
    }
    out.push_str(rest);
    Some(out)
}
