//! Text from outside, made fit to stand in one line of a reply or a log.
//!
//! In: any text. Out: the same with `?` for every character that could end a line, drive a terminal or turn
//! the reading order round. Quoting for a particular format (JSON, header fields) is that format's own.

/// `text` with `?` for each unsafe character, and cut to at most `octets_max` octets (a cut text ends in `...`
/// where that fits).
pub fn safe(text: &str, octets_max: usize) -> String {
    const CUT: &str = "...";
    if text.len() <= octets_max && is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len().min(octets_max));
    let mut cut_at = 0;
    for character in text.chars() {
        let character = if is_unsafe(character) { '?' } else { character };
        if out.len() + character.len_utf8() > octets_max {
            if CUT.len() <= octets_max {
                out.truncate(cut_at);
                out.push_str(CUT);
            }
            return out;
        }
        out.push(character);
        if out.len() + CUT.len() <= octets_max {
            cut_at = out.len();
        }
    }
    out
}

/// Whether there are only printable ASCII characters in a text, as in most of what we say: then it is safe as it stands.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// Whether a character must not be shown as it is: C0 and C1 controls, DEL, the line and paragraph separators,
/// and those that change the reading order (a log line could be made to say what it does not).
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_cuts() {
        let table = [
            ("", 0, ""),
            ("x", 0, ""),
            ("abcd", 2, "ab"),
            ("abcd", 3, "..."),
            ("abcd", 4, "abcd"),
            ("abcde", 4, "a..."),
            ("a\r\nb\0c\x1b[1m\x7f", 99, "a??b?c?[1m?"),
            ("a\tb", 99, "a?b"),
            ("\u{85}\u{9b}\u{2028}\u{202e}\u{2066}", 99, "?????"),
            ("äöü", 6, "äöü"),
            ("äöü", 5, "ä..."),
            ("äö", 3, "..."),
        ];
        for (text, octets_max, wanted) in table {
            assert_eq!(safe(text, octets_max), wanted, "{text:?} in {octets_max}");
        }
    }

    proptest::proptest! {
        #[test]
        fn is_never_longer_and_never_unsafe(text: String, octets_max in 0usize..40) {
            let out = safe(&text, octets_max);
            proptest::prop_assert!(out.len() <= octets_max);
            proptest::prop_assert!(!out.chars().any(is_unsafe));
        }
    }
}
