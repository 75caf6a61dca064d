//! Masking of secret values in a trace.
//!
//! Output arrives in arbitrary chunks, so a value may be cut in two. A masker holds back only a tail that could still become a
//! secret, so ordinary output is never delayed. Everything is matched as bytes: a trace need not be UTF-8.
//!
//! Three maskers follow each other, as in GitLab's runner: the values of masked variables, the values of known URL parameters, and
//! what follows a known token prefix. Values that overlap each other in the output are hidden as one.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};

/// What stands in place of a secret.
pub(crate) const MASK: &[u8] = b"[MASKED]";

const URL_PARAMETERS: [&str; 6] =
    ["private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"];
const TOKEN_PREFIXES: [&str; 1] = ["glpat-"];

/// What tokens of GitLab begin with, beside personal access tokens.
pub(crate) const FURTHER_TOKEN_PREFIXES: [&str; 13] = [
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// What a job wants hidden. Cheap to instantiate as often as there are streams.
#[derive(Debug, Clone)]
pub(crate) struct MaskRules {
    phrases: PhraseRules,
    url_parameters: RunRules,
    token_prefixes: RunRules,
}

impl MaskRules {
    /// Takes the secret values and the further token prefixes that the coordinator named.
    pub(crate) fn new<'a>(phrases: impl IntoIterator<Item = &'a str>, token_prefixes: &[String]) -> Self {
        let parameters = URL_PARAMETERS.iter().flat_map(|name| [format!("?{name}="), format!("&{name}=")]).collect();
        let mut prefixes: Vec<String> = TOKEN_PREFIXES.iter().map(|&prefix| prefix.to_owned()).collect();
        prefixes.extend(token_prefixes.iter().map(|prefix| prefix.trim().to_owned()).filter(|prefix| !prefix.is_empty()));
        Self {
            phrases: PhraseRules::new(phrases),
            url_parameters: RunRules::new(parameters, true, is_url_value),
            token_prefixes: RunRules::new(prefixes, false, is_token_value),
        }
    }
}

/// Hides the secrets of one stream of output.
#[derive(Debug)]
pub(crate) struct Masker {
    phrases: PhraseMasker,
    url_parameters: RunMasker,
    token_prefixes: RunMasker,
}

impl Masker {
    pub(crate) fn new(rules: &MaskRules) -> Self {
        Self {
            phrases: PhraseMasker::new(rules.phrases.clone()),
            url_parameters: RunMasker::new(rules.url_parameters.clone()),
            token_prefixes: RunMasker::new(rules.token_prefixes.clone()),
        }
    }

    /// Returns what can be shown so far.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let bytes = self.phrases.push(bytes);
        let bytes = self.url_parameters.push(&bytes);
        self.token_prefixes.push(&bytes)
    }

    /// Returns what was held back; the stream has ended.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let rest = self.phrases.finish();
        let mut rest = self.url_parameters.push(&rest);
        rest.extend(self.url_parameters.finish());
        let mut rest = self.token_prefixes.push(&rest);
        rest.extend(self.token_prefixes.finish());
        rest
    }
}

fn is_url_value(byte: u8) -> bool {
    !(byte == b'?' || byte == b'&' || byte.is_ascii_whitespace() || byte.is_ascii_control())
}

fn is_token_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}

/// Sorted patterns, for the question whether some bytes begin one of them.
#[derive(Debug, Clone)]
struct Prefixes {
    sorted: Vec<Vec<u8>>,
    longest: usize,
    ignore_case: bool,
}

impl Prefixes {
    fn new(mut patterns: Vec<Vec<u8>>, ignore_case: bool) -> Self {
        patterns.sort();
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        Self { sorted: patterns, longest, ignore_case }
    }

    /// Returns where the first tail begins that is a proper beginning of a pattern; the length when there is none.
    fn first_open_tail(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (from..bytes.len()).find(|&at| self.begins_pattern(&bytes[at..])).unwrap_or(bytes.len())
    }

    fn begins_pattern(&self, tail: &[u8]) -> bool {
        let lowered;
        let tail = if self.ignore_case {
            lowered = tail.to_ascii_lowercase();
            &lowered
        } else {
            tail
        };
        let at = self.sorted.partition_point(|pattern| pattern.as_slice() <= tail);
        self.sorted.get(at).is_some_and(|pattern| pattern.starts_with(tail))
    }
}

#[derive(Debug, Clone)]
struct PhraseRules {
    matcher: AhoCorasick,
    prefixes: Prefixes,
}

impl PhraseRules {
    fn new<'a>(phrases: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: Vec<Vec<u8>> =
            phrases.into_iter().map(|phrase| phrase.trim().as_bytes().to_vec()).filter(|phrase| !phrase.is_empty()).collect();
        patterns.sort();
        patterns.dedup();
        Self { matcher: build_matcher(&patterns, false), prefixes: Prefixes::new(patterns, false) }
    }
}

fn build_matcher(patterns: &[Vec<u8>], ignore_case: bool) -> AhoCorasick {
    AhoCorasickBuilder::new()
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(ignore_case)
        .build(patterns)
        .expect("the variables of a job are far smaller than the matcher's limit of 2^31 states")
}

/// Replaces phrases. A match is shown as a mask as soon as it is complete; `covered` then remembers how much of the carried tail
/// it hides already, so that a longer or overlapping phrase extends the same mask.
#[derive(Debug)]
struct PhraseMasker {
    rules: PhraseRules,
    carry: Vec<u8>,
    covered: usize,
}

impl PhraseMasker {
    fn new(rules: PhraseRules) -> Self {
        Self { rules, carry: Vec::new(), covered: 0 }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.carry.extend_from_slice(bytes);
        let keep_from = self.rules.prefixes.first_open_tail(&self.carry);
        self.emit(keep_from)
    }

    fn finish(&mut self) -> Vec<u8> {
        let end = self.carry.len();
        self.emit(end)
    }

    /// Shows the carried bytes before `end` and keeps the rest.
    fn emit(&mut self, end: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(end);
        // Bytes before `shown` are in `out`, or hidden by a mask that is.
        let mut shown = self.covered;
        let mut mask_is_last = self.covered > 0;
        for (start, stop) in self.hidden_ranges() {
            if start >= end {
                break;
            }
            let extends_mask = mask_is_last && start < shown;
            if !extends_mask {
                out.extend_from_slice(&self.carry[shown..start]);
                out.extend_from_slice(MASK);
            }
            shown = shown.max(stop);
            mask_is_last = true;
        }
        if shown < end {
            out.extend_from_slice(&self.carry[shown..end]);
            shown = end;
        }
        self.covered = shown - end;
        self.carry.drain(..end);
        out
    }

    /// All matches, those that overlap joined, in order.
    fn hidden_ranges(&self) -> Vec<(usize, usize)> {
        let mut matches: Vec<(usize, usize)> =
            self.rules.matcher.find_overlapping_iter(&self.carry).map(|found| (found.start(), found.end())).collect();
        matches.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::with_capacity(matches.len());
        for (start, stop) in matches {
            match joined.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(stop),
                _ => joined.push((start, stop)),
            }
        }
        joined
    }
}

#[derive(Debug, Clone)]
struct RunRules {
    matcher: AhoCorasick,
    prefixes: Prefixes,
    is_value: fn(u8) -> bool,
}

impl RunRules {
    fn new(triggers: Vec<String>, ignore_case: bool, is_value: fn(u8) -> bool) -> Self {
        let patterns: Vec<Vec<u8>> = triggers.into_iter().map(String::into_bytes).collect();
        Self { matcher: build_matcher(&patterns, ignore_case), prefixes: Prefixes::new(patterns, ignore_case), is_value }
    }
}

/// Hides the run of value bytes that follows a trigger, and leaves the trigger itself.
#[derive(Debug)]
struct RunMasker {
    rules: RunRules,
    carry: Vec<u8>,
    state: RunState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunState {
    Outside,
    /// After a trigger; nothing of the value has been seen.
    AtValue,
    /// The mask is out, the rest of the value is swallowed.
    InValue,
}

impl RunMasker {
    fn new(rules: RunRules) -> Self {
        Self { rules, carry: Vec::new(), state: RunState::Outside }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.carry.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.carry);
        let mut out = Vec::with_capacity(input.len());
        let mut rest = input.as_slice();
        loop {
            rest = self.swallow_value(rest, &mut out);
            let Some(found) = self.rules.matcher.find(rest) else { break };
            out.extend_from_slice(&rest[..found.end()]);
            rest = &rest[found.end()..];
            self.state = RunState::AtValue;
        }
        let open = self.rules.prefixes.first_open_tail(rest);
        out.extend_from_slice(&rest[..open]);
        self.carry = rest[open..].to_vec();
        out
    }

    fn swallow_value<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        if self.state == RunState::Outside || bytes.is_empty() {
            return bytes;
        }
        let end = bytes.iter().position(|&byte| !(self.rules.is_value)(byte)).unwrap_or(bytes.len());
        if end > 0 && self.state == RunState::AtValue {
            out.extend_from_slice(MASK);
            self.state = RunState::InValue;
        }
        if end < bytes.len() {
            self.state = RunState::Outside;
        }
        &bytes[end..]
    }

    fn finish(&mut self) -> Vec<u8> {
        self.state = RunState::Outside;
        std::mem::take(&mut self.carry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(phrases: &[&str], chunks: &[&str]) -> String {
        let rules = MaskRules::new(phrases.iter().copied(), &["acme_".to_owned()]);
        let mut masker = Masker::new(&rules);
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend(masker.push(chunk.as_bytes()));
        }
        out.extend(masker.finish());
        String::from_utf8(out).expect("text in, text out")
    }

    #[test]
    fn values_are_hidden_also_across_chunks() {
        assert_eq!(mask(&["hunter22"], &["pw=hunter22\n"]), "pw=[MASKED]\n");
        assert_eq!(mask(&["hunter22"], &["pw=hun", "ter", "22\n"]), "pw=[MASKED]\n");
        assert_eq!(mask(&["hunter22"], &["pw=hunter2", "3\n"]), "pw=hunter23\n");
    }

    #[test]
    fn the_longest_value_wins_and_overlaps_are_one_mask() {
        assert_eq!(mask(&["secret", "secret-longer"], &["a secret-lon", "ger b secret"]), "a [MASKED] b [MASKED]");
        assert_eq!(mask(&["abcd", "cdef"], &["xabcdefx"]), "x[MASKED]x");
        assert_eq!(mask(&["abcd"], &["abcdabcd"]), "[MASKED][MASKED]");
    }

    #[test]
    fn blank_values_hide_nothing_and_values_are_trimmed() {
        assert_eq!(mask(&["", "  ", " key\n"], &["a key b"]), "a [MASKED] b");
    }

    #[test]
    fn ordinary_output_is_not_held_back() {
        let rules = MaskRules::new(["secret"], &[]);
        let mut masker = Masker::new(&rules);
        assert_eq!(masker.push(b"step 1 done"), b"step 1 done");
        assert_eq!(masker.push(b"... se"), b"... ");
        assert_eq!(masker.push(b"cond"), b"second");
    }

    #[test]
    fn url_parameters_and_tokens_are_hidden() {
        assert_eq!(
            mask(&[], &["GET /x?Private_Token=abc&y=1&rss_to", "ken=zz end"]),
            "GET /x?Private_Token=[MASKED]&y=1&rss_token=[MASKED] end"
        );
        assert_eq!(mask(&[], &["glpat-", "Ab_1 x glpat- acme_77\n"]), "glpat-[MASKED] x glpat- acme_[MASKED]\n");
    }

    proptest! {
        /// Whatever the cuts, the result is that of the whole text, and no secret survives in it.
        #[test]
        fn cuts_do_not_matter(
            phrases in prop::collection::vec("[ab]{2,5}", 0..4),
            text in "[abc?&=]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let rules = MaskRules::new(phrases.iter().map(String::as_str), &["cab".to_owned()]);
            let mut whole = Masker::new(&rules);
            let mut expected = whole.push(text.as_bytes());
            expected.extend(whole.finish());

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut pieces = Masker::new(&rules);
            let mut out = Vec::new();
            for pair in cuts.windows(2) {
                out.extend(pieces.push(&text.as_bytes()[pair[0]..pair[1]]));
            }
            out.extend(pieces.finish());
            prop_assert_eq!(&out, &expected);

            let shown = String::from_utf8(out).expect("text in, text out");
            for phrase in &phrases {
                prop_assert!(!shown.contains(phrase.as_str()), "{} is visible in {}", phrase, shown);
            }
        }
    }
}
