//! The arguments of MAIL and RCPT: path and parameters (RFC 5321 §4.1.1.11; SIZE RFC 1870, BODY RFC 6152 and 3030, SMTPUTF8
//! RFC 6531, RET, ENVID, NOTIFY and ORCPT RFC 3461 with RFC 6533).
//!
//! In: the argument's text, perhaps corrected by a plugin. Out: typed values. Whether an extension is on offer, and whether
//! a size is too great, is asked elsewhere (extension.rs, session).

use std::fmt;

use super::address::{AddressError, ForwardPath, ReversePath};
use super::command::{BLANKS, SyntaxError};
use super::escape::safe;
use super::reply::Enhanced;
use super::xtext::{ORCPT_OCTETS_MAX, Orcpt, from_xtext, is_printable_ascii};

/// Octets of ENVID in xtext (RFC 3461 §4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
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
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        f.write_str(if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }.as_str())
    }
}

/// Reads the argument of MAIL: `FROM:<a@b> SIZE=10`. A blank after the colon is let through, as everybody does.
pub fn mail_argument(text: &str) -> Result<MailArgument, SyntaxError> {
    let (path, rest) = split_path(text, "FROM").ok_or_else(|| syntax("MAIL FROM:<address> [parameters]"))?;
    let reverse_path = ReversePath::parse(path).map_err(|error| bad_path(error, Enhanced(5, 1, 7)))?;
    let mut parameters = MailParameters::default();
    for parameter in split_parameters(rest)? {
        parameters.take(&parameter)?;
    }
    if reverse_path.needs_smtputf8() && !parameters.smtputf8 {
        return Err(SyntaxError::smtputf8_needed());
    }
    Ok(MailArgument { reverse_path, parameters })
}

/// Reads the argument of RCPT: `TO:<a@b> NOTIFY=NEVER`. Whether MAIL said SMTPUTF8 is not known here.
pub fn rcpt_argument(text: &str) -> Result<RcptArgument, SyntaxError> {
    let (path, rest) = split_path(text, "TO").ok_or_else(|| syntax("RCPT TO:<address> [parameters]"))?;
    let forward_path = ForwardPath::parse(path).map_err(|error| bad_path(error, Enhanced(5, 1, 3)))?;
    let mut parameters = RcptParameters::default();
    for parameter in split_parameters(rest)? {
        parameters.take(&parameter)?;
    }
    Ok(RcptArgument { forward_path, parameters })
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
    rest.split(BLANKS).filter(|word| !word.is_empty()).map(split_parameter).collect()
}

fn split_parameter(word: &str) -> Result<Parameter<'_>, SyntaxError> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let keyword_fits = !keyword.is_empty()
        && !keyword.starts_with('-')
        && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let fits = |character: char| character != '=' && !character.is_control();
    let value_fits = value.is_none_or(|value| !value.is_empty() && value.chars().all(fits));
    if !keyword_fits || !value_fits {
        return Err(SyntaxError::argument(format!("malformed parameter {}", safe(word, WORD_OCTETS_SHOWN))));
    }
    Ok(Parameter { keyword: keyword.to_ascii_uppercase(), value })
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
            format!("{} is not known here", safe(&self.keyword, WORD_OCTETS_SHOWN)),
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
    from_xtext(value).filter(|envid| is_printable_ascii(envid)).ok_or_else(|| parameter.wrong("is not xtext"))
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

fn orcpt(parameter: &Parameter<'_>) -> Result<Orcpt, SyntaxError> {
    let value = parameter.value()?;
    if value.len() > ORCPT_OCTETS_MAX {
        return Err(parameter.wrong("is too long"));
    }
    let form = "is a kind of address, a semicolon, and the address in xtext";
    Orcpt::parse(value).ok_or_else(|| parameter.wrong(form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::Command;
    use proptest::prelude::*;

    type Parsed = Result<(&'static str, MailParameters), (u16, Enhanced)>;

    const NONE: MailParameters = MailParameters { size: None, body: None, smtputf8: false, ret: None, envid: None };
    const ARGUMENT: (u16, Enhanced) = (501, Enhanced(5, 5, 4));
    const UNKNOWN: (u16, Enhanced) = (555, Enhanced(5, 5, 4));

    #[test]
    fn reads_mail() {
        let size = |octets| Ok(("<a@b>", MailParameters { size: Some(octets), ..NONE }));
        let envid = |text: &str| Ok(("<a@b>", MailParameters { envid: Some(text.to_owned()), ..NONE }));
        let all = MailParameters {
            size: Some(1),
            body: Some(Body::BinaryMime),
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("x".to_owned()),
        };
        let table: Vec<(String, Parsed)> = vec![
            ("".into(), Err(ARGUMENT)),
            ("FROM".into(), Err(ARGUMENT)),
            ("<a@b>".into(), Err(ARGUMENT)),
            ("TO:<a@b>".into(), Err(ARGUMENT)),
            ("FROM :<a@b>".into(), Err(ARGUMENT)),
            ("FROM=<a@b>".into(), Err(ARGUMENT)),
            ("FROM:".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:a@b".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<a@b".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<a b@x>".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<a@b SIZE=1>".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<a\0@b>".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<a\r\n@b>".into(), Err((501, Enhanced(5, 1, 7)))),
            ("FROM:<>".into(), Ok(("<>", NONE))),
            ("from: \t<a@b> ".into(), Ok(("<a@b>", NONE))),
            // `>` and blanks in a quoted string end nothing.
            (r#"FROM:<"> \" x"@b> SIZE=1"#.into(), Ok((r#"<"> \" x"@b>"#, MailParameters { size: Some(1), ..NONE }))),
            ("FROM:<a@b>SIZE=1".into(), Err(ARGUMENT)),
            ("FROM:<a@b>>".into(), Err(ARGUMENT)),
            ("FROM:<a@b>\tsize=1  ".into(), size(1)),
            ("FROM:<a@b> SIZE=0".into(), size(0)),
            ("FROM:<a@b> SIZE=00000000000000000001".into(), size(1)),
            ("FROM:<a@b> SIZE=000000000000000000001".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=18446744073709551615".into(), size(u64::MAX)),
            ("FROM:<a@b> SIZE=99999999999999999999".into(), size(u64::MAX)),
            ("FROM:<a@b> SIZE".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=+1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=-1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=1k".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE=1 SIZE=1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE==1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SIZE =1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> BODY=9BIT".into(), Err(ARGUMENT)),
            ("FROM:<a@b> BODY=7bit BODY=7bit".into(), Err(ARGUMENT)),
            ("FROM:<a@b> BODY=7bit".into(), Ok(("<a@b>", MailParameters { body: Some(Body::SevenBit), ..NONE }))),
            ("FROM:<a@b> SMTPUTF8=1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> SMTPUTF8 smtputf8".into(), Err(ARGUMENT)),
            ("FROM:<ä@b> SMTPUTF8".into(), Ok(("<ä@b>", MailParameters { smtputf8: true, ..NONE }))),
            ("FROM:<ä@b>".into(), Err((550, Enhanced(5, 6, 7)))),
            ("FROM:<a@ä.example> SIZE=1".into(), Err((550, Enhanced(5, 6, 7)))),
            ("FROM:<a@b> RET=HDRS RET=FULL".into(), Err(ARGUMENT)),
            ("FROM:<a@b> RET=HEADERS".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=a+20b".into(), envid("a b")),
            (format!("FROM:<a@b> ENVID={}", "x".repeat(99)), envid(&"x".repeat(99))),
            (format!("FROM:<a@b> ENVID={}", "x".repeat(100)), envid(&"x".repeat(100))),
            (format!("FROM:<a@b> ENVID={}", "x".repeat(101)), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=a+0A".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=a+00".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=+C3+A4".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=a ENVID=a".into(), Err(ARGUMENT)),
            ("FROM:<a@b> ENVID=x ret=hdrs SMTPUTF8 Body=BinaryMIME SIZE=1".into(), Ok(("<a@b>", all))),
            // One for RCPT, one that needs AUTH, one that nobody has heard of, and some that are none.
            ("FROM:<a@b> NOTIFY=NEVER".into(), Err(UNKNOWN)),
            ("FROM:<a@b> AUTH=<>".into(), Err(UNKNOWN)),
            ("FROM:<a@b> X-1=y".into(), Err(UNKNOWN)),
            ("FROM:<a@b> X".into(), Err(UNKNOWN)),
            ("FROM:<a@b> -X".into(), Err(ARGUMENT)),
            ("FROM:<a@b> =X".into(), Err(ARGUMENT)),
            ("FROM:<a@b> x_y=1".into(), Err(ARGUMENT)),
            ("FROM:<a@b> <c@d>".into(), Err(ARGUMENT)),
            ("FROM:<a@b> X=\u{85}".into(), Err(ARGUMENT)),
        ];
        for (text, wanted) in table {
            let result = mail_argument(&text);
            let got = result.map(|mail| (mail.reverse_path.to_string(), mail.parameters));
            let got = got.map_err(|error| (error.code, error.enhanced));
            let wanted = wanted.map(|(path, parameters)| (path.to_owned(), parameters));
            assert_eq!(got, wanted, "{text:?}");
        }
    }

    #[test]
    fn reads_rcpt() {
        type Parsed = Result<(&'static str, &'static str, &'static str), (u16, Enhanced)>;
        let bad_path = Err((501, Enhanced(5, 1, 3)));
        let table: Vec<(String, Parsed)> = vec![
            ("FROM:<a@b>".into(), Err(ARGUMENT)),
            ("TO:<>".into(), bad_path),
            ("TO:postmaster".into(), bad_path),
            ("TO:<abuse>".into(), bad_path),
            ("to:<PostMaster> NOTIFY=NEVER".into(), Ok(("<PostMaster>", "NEVER", ""))),
            // SMTPUTF8 is said at MAIL, which is not known here.
            ("TO:<ä@b>".into(), Ok(("<ä@b>", "", ""))),
            ("TO:<@x,@y:a@b>".into(), Ok(("<a@b>", "", ""))),
            ("TO:<a@b> NOTIFY=success,Delay".into(), Ok(("<a@b>", "SUCCESS,DELAY", ""))),
            ("TO:<a@b> NOTIFY=DELAY,FAILURE,SUCCESS".into(), Ok(("<a@b>", "SUCCESS,FAILURE,DELAY", ""))),
            ("TO:<a@b> NOTIFY=SUCCESS,NEVER".into(), Err(ARGUMENT)),
            ("TO:<a@b> NOTIFY=NEVER,NEVER".into(), Err(ARGUMENT)),
            ("TO:<a@b> NOTIFY=SUCCESS,".into(), Err(ARGUMENT)),
            ("TO:<a@b> NOTIFY=,".into(), Err(ARGUMENT)),
            ("TO:<a@b> NOTIFY".into(), Err(ARGUMENT)),
            ("TO:<a@b> NOTIFY=NEVER NOTIFY=DELAY".into(), Err(ARGUMENT)),
            ("TO:<a@b> ORCPT=rfc822;a+2Bc@d".into(), Ok(("<a@b>", "", "rfc822;a+2Bc@d"))),
            ("TO:<a@b> ORCPT=rfc822;a+0Ac@d".into(), Err(ARGUMENT)),
            ("TO:<a@b> ORCPT=a ORCPT=b".into(), Err(ARGUMENT)),
            ("TO:<a@b> ORCPT=x;a ORCPT=x;a".into(), Err(ARGUMENT)),
            (format!("TO:<a@b> ORCPT=x;{}", "y".repeat(499)), Err(ARGUMENT)),
            ("TO:<a@b> SIZE=1".into(), Err(UNKNOWN)),
        ];
        for (text, wanted) in table {
            let got = rcpt_argument(&text).map(|rcpt| {
                let notify = rcpt.parameters.notify.map_or(String::new(), |notify| notify.to_string());
                let orcpt = rcpt.parameters.orcpt.map_or(String::new(), |orcpt| orcpt.to_string());
                (rcpt.forward_path.to_string(), notify, orcpt)
            });
            let got = got.map_err(|error| (error.code, error.enhanced));
            let wanted = wanted.map(|(path, notify, orcpt)| (path.to_owned(), notify.to_owned(), orcpt.to_owned()));
            assert_eq!(got, wanted, "{text:?}");
        }
        for octets in [499, 500] {
            let address = "y".repeat(octets - "x;".len());
            let rcpt = rcpt_argument(&format!("TO:<a@b> ORCPT=x;{address}")).unwrap();
            assert_eq!(rcpt.parameters.orcpt.unwrap().address, address);
        }
    }

    #[test]
    fn finds_the_path_text() {
        let table = [
            ("", None),
            ("<a@b>", None),
            ("CC:<a@b>", None),
            ("FROM:", Some(("", ""))),
            ("FROM:<>", Some(("<>", ""))),
            ("to: <a@b>  X=1 Y ", Some(("<a@b>", "X=1 Y"))),
            ("FROM:a@b SIZE=1", Some(("a@b", "SIZE=1"))),
            (r#"FROM:"a b>"@c SIZE=1"#, Some((r#""a b>"@c"#, "SIZE=1"))),
            (r#"FROM:<"a\"> "@c>SIZE=1"#, Some((r#"<"a\"> "@c>"#, "SIZE=1"))),
            ("FROM:<a b@c> SIZE=1", Some(("<a b@c>", "SIZE=1"))),
            // Not ended: all of it.
            ("FROM:<a@b SIZE=1", Some(("<a@b SIZE=1", ""))),
            (r#"FROM:<"a@b> SIZE=1"#, Some((r#"<"a@b> SIZE=1"#, ""))),
            ("FROM:<ä@b> ö", Some(("<ä@b>", "ö"))),
        ];
        for (text, wanted) in table {
            assert_eq!(path_text(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn repeats_a_clients_word_safely() {
        let error = mail_argument(&format!("FROM:<a@b> X{}\u{202e}=", "y".repeat(1_000))).unwrap_err();
        assert!(error.text.len() < 100, "{error}");
        let error = mail_argument("FROM:<a@b> X\u{202e}\u{7}").unwrap_err();
        assert_eq!(error.text, "malformed parameter X??");
    }

    /// A valid mailbox in SMTP form. Quoted strings need their quotes here, as smtp-proto gives them back without.
    fn mailbox() -> impl Strategy<Value = String> {
        let atoms = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,6}(\\.[a-z0-9+=]{1,5}){0,3}";
        let quoted = r#""[ a-z@<>,:;.()]{1,12}""#;
        let domain = "[a-zA-Z0-9]{1,5}(\\.[a-z0-9]{1,4}-[a-z0-9]{1,4}){0,3}(\\.[a-z]{2,4})?";
        (prop_oneof![atoms, quoted], domain).prop_map(|(local_part, domain)| format!("{local_part}@{domain}"))
    }

    fn parameters(words: &'static [&'static str]) -> impl Strategy<Value = String> {
        let picked = prop::sample::subsequence(words, 0..=words.len()).prop_shuffle();
        picked.prop_map(|words| words.iter().map(|word| format!(" {word}")).collect())
    }

    proptest! {
        #[test]
        fn agrees_with_smtp_proto_on_mail(
            mailbox in mailbox(), route in "(@a\\.example(,@b-c)?:)?", size: Option<u64>,
            words in parameters(&["BODY=8BITMIME", "smtputf8", "RET=FULL", "ENVID=a+2Bb+3Dc"]),
        ) {
            let size_word = size.map_or(String::new(), |size| format!(" SIZE={size}"));
            let line = format!("MAIL FROM:<{route}{mailbox}>{words}{size_word}");
            let Ok(Command::Mail(text)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
            let ours = mail_argument(&text).unwrap();
            let sent = format!("{line}\r\n");
            let theirs = smtp_proto::Request::parse(&mut sent.as_bytes().iter()).unwrap();
            let smtp_proto::Request::Mail { from } = theirs else { panic!("{line}") };
            prop_assert_eq!(ours.reverse_path.address(), from.address);
            let parameters = ours.parameters;
            prop_assert_eq!(parameters.size, size);
            // It keeps usize::MAX for errors.
            prop_assert_eq!(parameters.size.unwrap_or(0), from.size as u64);
            prop_assert_eq!(parameters.smtputf8, from.flags & smtp_proto::MAIL_SMTPUTF8 != 0);
            prop_assert_eq!(parameters.body.is_some(), from.flags & smtp_proto::MAIL_BODY_8BITMIME != 0);
            prop_assert_eq!(parameters.ret.is_some(), from.flags & smtp_proto::MAIL_RET_FULL != 0);
            prop_assert_eq!(parameters.envid.as_deref(), from.env_id.as_deref());
        }

        #[test]
        fn agrees_with_smtp_proto_on_rcpt(
            mailbox in mailbox(),
            words in parameters(&["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;a+2Bb+40c"]),
        ) {
            let line = format!("RCPT TO:<{mailbox}>{words}");
            let Ok(Command::Rcpt(text)) = Command::parse(line.as_bytes()) else { panic!("{line}") };
            let ours = rcpt_argument(&text).unwrap();
            let sent = format!("{line}\r\n");
            let theirs = smtp_proto::Request::parse(&mut sent.as_bytes().iter()).unwrap();
            let smtp_proto::Request::Rcpt { to } = theirs else { panic!("{line}") };
            prop_assert_eq!(ours.forward_path.address(), to.address);
            let notify = smtp_proto::RCPT_NOTIFY_SUCCESS | smtp_proto::RCPT_NOTIFY_DELAY;
            let wanted = Notify { success: true, failure: false, delay: true };
            prop_assert_eq!(ours.parameters.notify, (to.flags & notify == notify).then_some(wanted));
            let orcpt = ours.parameters.orcpt.map(|orcpt| orcpt.address);
            prop_assert_eq!(orcpt.as_deref(), to.orcpt.as_deref());
        }

        #[test]
        fn takes_any_text(text: String, octets in prop::collection::vec(any::<u8>(), 0..300)) {
            for text in [&text[..], &String::from_utf8_lossy(&octets)] {
                for front in ["", "FROM:", "TO:<", "FROM:<a@b> ", "TO:<a@b> ORCPT=", "FROM:<\""] {
                    let text = format!("{front}{text}");
                    let _ = (mail_argument(&text), rcpt_argument(&text));
                    if let Some((path, parameters)) = path_text(&text) {
                        prop_assert!(text.contains(path) && text.contains(parameters));
                    }
                }
            }
        }
    }
}
