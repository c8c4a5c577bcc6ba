//! The known word that a misspelt one resembles most.

/// The candidate nearest to `word`, if one is near enough to be what was meant. Case and `-` for `_` cost nothing.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells a word of this length; and it bounds the work.
    const OCTETS_MAX: usize = 64;
    if word.len() > OCTETS_MAX {
        return None;
    }
    let plain = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let word = plain(word);
    candidates
        .filter(|candidate| candidate.len() <= OCTETS_MAX)
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(word.len().max(candidate.len()) / 3))
        // A word of one or two letters is near to every other.
        .filter(|(distance, _)| *distance == 0 || word.len() > 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop, change or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let known = ["reject", "reject_type", "loglevel", "wait", "check_at", "x"];
        let cases = [
            ("", None),
            ("y", None),
            ("X", Some("x")),
            ("rejct", Some("reject")),
            ("rejetc", Some("reject")),
            ("reject-typ", Some("reject_type")),
            ("Check-At", Some("check_at")),
            ("wiat", Some("wait")),
            ("zonk", None),
            ("timeout", None),
            ("lokleval", Some("loglevel")),
            ("größe", None),
        ];
        for (word, want) in cases {
            assert_eq!(nearest(word, known.into_iter()), want, "{word:?}");
        }
        assert_eq!(nearest(&"reject".repeat(100), known.into_iter()), None);
    }
}
