//! The nearest known word to one that is not known.

/// The word of `known` that `word` is most likely meant to be, if any is near enough to be worth naming.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        // Up to a third of the letters may be wrong: beyond that the suggestion is noise.
        .filter(|&(distance, candidate)| distance * 3 <= candidate.len().max(word.len()))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean 'X'?`, or nothing.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, prefix: &str) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean '{prefix}{near}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        let words = ["monitor", "machine", "m", "serial", "nographic"];
        assert_eq!(nearest("moniter", words), Some("monitor"));
        assert_eq!(nearest("nographics", words), Some("nographic"));
        assert_eq!(nearest("Machnie", words), Some("machine"));
        assert_eq!(nearest("zzz", words), None);
        assert_eq!(hint("serail", words, "-"), "; did you mean '-serial'?");
        assert_eq!(hint("q", ["m"], "-"), "");
    }
}
