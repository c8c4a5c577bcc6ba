//! The names of entries.

use std::fmt;

/// Octets that a key's text may have. Longer ones keep their beginning, and a hash stands for the rest.
pub const KEY_OCTETS_MAX: usize = 512;
/// Octets that a space's name may have.
pub const SPACE_OCTETS_MAX: usize = 32;
/// Hexadecimal digits of the hash.
const HASH_OCTETS: usize = 32;

/// The name of an entry: a space, by custom the plugin's name, and any octets. Ordered by the one, then the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    space: Box<str>,
    octets: Box<[u8]>,
}

impl Key {
    /// The key of these octets in a space. A space's name is of small letters, digits, `_`, `-` and `/`; anything else in
    /// it becomes `_`, and it is cut off after [`SPACE_OCTETS_MAX`].
    ///
    /// A key longer than [`KEY_OCTETS_MAX`] (two long addresses) keeps its first 480 octets and gets a 128-bit FNV-1a hash
    /// of the whole. Whoever can make two such keys meet has chosen the end of both, and has met only himself.
    pub fn new(space: &str, octets: impl AsRef<[u8]>) -> Self {
        let letter = |c: char| if is_of_space(c) { c } else { '_' };
        let octets = octets.as_ref();
        let octets = match octets.len() > KEY_OCTETS_MAX {
            true => {
                let kept = &octets[..KEY_OCTETS_MAX - HASH_OCTETS];
                [kept, format!("{:032x}", fnv_1a(octets)).as_bytes()].concat()
            }
            false => octets.to_vec(),
        };
        Self { space: space.chars().take(SPACE_OCTETS_MAX).map(letter).collect(), octets: octets.into() }
    }

    /// Whether a space can have this name.
    pub fn is_space(name: &str) -> bool {
        (1..=SPACE_OCTETS_MAX).contains(&name.len()) && name.chars().all(is_of_space)
    }

    /// The space.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// The octets in it.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

fn is_of_space(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '/')
}

/// `greylisting 192.0.2.1`, with what could harm a terminal or a log line escaped.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.space, String::from_utf8_lossy(&self.octets).escape_debug())
    }
}

/// FNV-1a of 128 bits (draft-eastlake-fnv).
fn fnv_1a(octets: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    octets.iter().fold(BASIS, |hash, octet| (hash ^ u128::from(*octet)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_cut_and_stay_different() {
        let long = |end: &str| Key::new("s", format!("{}{end}", "x".repeat(KEY_OCTETS_MAX)));
        assert_eq!(long("a").octets().len(), KEY_OCTETS_MAX);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
        assert_eq!(Key::new("s", "x".repeat(KEY_OCTETS_MAX)).octets(), "x".repeat(KEY_OCTETS_MAX).as_bytes());
        // The test vectors of the draft.
        assert_eq!(fnv_1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv_1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn spaces() {
        assert_eq!(Key::new("ident/GeoIP:x", "k").space(), "ident/_eo___x");
        assert_eq!(Key::new(&"s".repeat(99), "k").space().len(), SPACE_OCTETS_MAX);
        for (name, is) in [("karma", true), ("a/b_c-1", true), ("", false), ("A", false), ("a:b", false)] {
            assert_eq!(Key::is_space(name), is, "{name}");
        }
        assert_eq!(Key::new("karma", b"a\x1b[2J\xff").to_string(), "karma a\\u{1b}[2J\u{fffd}");
    }
}
