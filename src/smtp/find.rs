//! Where an octet stands, by the vector instructions that every processor of the target has.
//!
//! memchr would ask the processor for wider ones at its first call as soon as any dependency switches its feature `std` on: seven
//! CPUIDs, each a trap on a virtual machine, which costs a short session more than wider ones can save.

#[cfg(target_arch = "x86_64")]
use memchr::arch::x86_64::sse2::memchr::{One, Two};

/// The first place of an octet.
pub fn find(octet: u8, octets: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(searcher) = One::new(octet) {
        return searcher.find(octets);
    }
    memchr::memchr(octet, octets)
}

/// The last place of an octet.
pub fn find_last(octet: u8, octets: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(searcher) = One::new(octet) {
        return searcher.rfind(octets);
    }
    memchr::memrchr(octet, octets)
}

/// The first place of either octet.
pub fn find_either(one: u8, other: u8, octets: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(searcher) = Two::new(one, other) {
        return searcher.find(octets);
    }
    memchr::memchr2(one, other, octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_by_looking_at_each(octets in proptest::collection::vec(0u8..6, 0..200), one in 0u8..6, other in 0u8..6) {
            prop_assert_eq!(find(one, &octets), octets.iter().position(|octet| *octet == one));
            prop_assert_eq!(find_last(one, &octets), octets.iter().rposition(|octet| *octet == one));
            let either = octets.iter().position(|octet| *octet == one || *octet == other);
            prop_assert_eq!(find_either(one, other, &octets), either);
        }
    }
}
