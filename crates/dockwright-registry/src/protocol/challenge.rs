//! `WWW-Authenticate`: what a registry wants to see before it answers.

use std::collections::BTreeMap;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    /// `realm`, `service`, `scope`, `error`; keys in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Returns a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Reads the value of a header, which may hold several challenges. What cannot be read is passed over.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let word_length = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_length);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = parse_value(value);
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let header =
            r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push", Basic realm="x \"y\"""#;
        let challenges = parse_challenges(header);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(challenges[1].get("realm"), Some(r#"x "y""#));
        assert_eq!(parse_challenges("Basic")[0].scheme, "basic");
        assert_eq!(parse_challenges("Bearer realm=abc, service=d")[0].get("service"), Some("d"));
    }

    proptest! {
        #[test]
        fn no_header_panics_or_hangs(header in ".{0,80}") {
            parse_challenges(&header);
        }
    }
}
