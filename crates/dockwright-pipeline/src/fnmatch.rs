//! Wildcards of `rules:changes` and `rules:exists`: Ruby's `File.fnmatch` with the flags that GitLab sets (`PATHNAME`, `DOTMATCH`,
//! `EXTGLOB`).
//!
//! | Pattern | Matches |
//! |---|---|
//! | `*`, `?`, `[a-c]`, `[!a]` | within one part of a path, a leading dot too |
//! | `**/` at the start of a part | any number of directories, also none |
//! | `**` elsewhere | the same as `*`, so `docs/**` reaches one level only |
//! | `{a,b}` | one of several, also nested; with a brace that has no partner, nothing |
//! | `\x` | that character itself |

/// Most alternatives that the braces of one pattern make. More are not looked at.
const MAX_ALTERNATIVES: usize = 1000;

/// A compiled pattern: for each alternative of its braces, its parts between slashes.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    alternatives: Vec<Vec<Part>>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**/`
    Directories,
    Name(Vec<Token>),
}

#[derive(Debug, Clone)]
enum Token {
    Star,
    Any,
    Literal(char),
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// A class without an end.
    Never,
}

impl Glob {
    /// Compiles a pattern. Every text is one.
    pub(crate) fn new(pattern: &str) -> Self {
        let mut expanded = Vec::new();
        expand_braces(pattern, &mut expanded);
        Self { alternatives: expanded.iter().map(|pattern| parts(pattern)).collect() }
    }

    /// Tells whether the whole path matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let path: Vec<Vec<char>> = path.split('/').map(|part| part.chars().collect()).collect();
        self.alternatives.iter().any(|parts| parts_match(parts, &path))
    }
}

/// Writes out the first group of braces, and those left in each result.
fn expand_braces(pattern: &str, output: &mut Vec<String>) {
    if output.len() >= MAX_ALTERNATIVES {
        return;
    }
    match braces(pattern) {
        Braces::Absent => output.push(pattern.to_owned()),
        Braces::Unbalanced => {}
        Braces::Group { before, alternatives, after } => {
            for alternative in alternatives {
                expand_braces(&format!("{before}{alternative}{after}"), output);
            }
        }
    }
}

enum Braces<'a> {
    Absent,
    Unbalanced,
    Group { before: &'a str, alternatives: Vec<&'a str>, after: &'a str },
}

fn braces(pattern: &str) -> Braces<'_> {
    let mut depth = 0_u32;
    let mut open = None;
    let mut commas = Vec::new();
    let mut is_escaped = false;
    for (at, next) in pattern.char_indices() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match next {
            '\\' => is_escaped = true,
            '{' => {
                open.get_or_insert(at);
                depth += 1;
            }
            ',' if depth == 1 => commas.push(at),
            '}' if depth > 0 => {
                depth -= 1;
                if let (0, Some(open)) = (depth, open) {
                    let mut starts = vec![open + 1];
                    starts.extend(commas.iter().map(|comma| comma + 1));
                    commas.push(at);
                    let alternatives = starts.iter().zip(&commas).map(|(start, end)| &pattern[*start..*end]).collect();
                    return Braces::Group { before: &pattern[..open], alternatives, after: &pattern[at + 1..] };
                }
            }
            _ => {}
        }
    }
    if open.is_some() { Braces::Unbalanced } else { Braces::Absent }
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(after) = rest.strip_prefix("**/") {
        parts.push(Part::Directories);
        rest = after;
    }
    let mut name = Vec::new();
    let mut chars: Vec<char> = rest.chars().collect();
    chars.reverse();
    while let Some(next) = chars.pop() {
        match next {
            '/' => {
                parts.push(Part::Name(std::mem::take(&mut name)));
                while chars.len() >= 3 && chars[chars.len() - 3..] == ['/', '*', '*'] {
                    parts.push(Part::Directories);
                    chars.truncate(chars.len() - 3);
                }
            }
            '*' => name.push(Token::Star),
            '?' => name.push(Token::Any),
            '[' => name.push(class(&mut chars)),
            '\\' => match chars.pop() {
                Some('/') => chars.push('/'),
                Some(escaped) => name.push(Token::Literal(escaped)),
                None => {}
            },
            other => name.push(Token::Literal(other)),
        }
    }
    parts.push(Part::Name(name));
    parts
}

/// Reads a class behind its `[`; `chars` is reversed.
fn class(chars: &mut Vec<char>) -> Token {
    let is_negated = chars.last().is_some_and(|first| matches!(first, '!' | '^'));
    if is_negated {
        chars.pop();
    }
    let mut ranges = Vec::new();
    loop {
        let Some(first) = class_member(chars) else { return Token::Never };
        let Some(first) = first else { return Token::Class { is_negated, ranges } };
        let is_range = chars.last() == Some(&'-') && chars.len() >= 2 && chars[chars.len() - 2] != ']';
        if !is_range {
            ranges.push((first, first));
            continue;
        }
        chars.pop();
        let Some(Some(last)) = class_member(chars) else { return Token::Never };
        ranges.push((first, last));
    }
}

/// Returns a member of a class, nothing inside at its end, and nothing at all at the end of the pattern.
fn class_member(chars: &mut Vec<char>) -> Option<Option<char>> {
    match chars.pop()? {
        ']' => Some(None),
        '\\' => chars.pop().map(Some),
        other => Some(Some(other)),
    }
}

/// Directories are skipped as few as will do; only the last `**/` is ever tried again, as a later one makes up for any earlier choice.
fn parts_match(parts: &[Part], path: &[Vec<char>]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        match parts.get(part) {
            Some(Part::Directories) => {
                part += 1;
                again = Some((part, at));
                continue;
            }
            Some(Part::Name(tokens)) if at < path.len() && name_matches(tokens, &path[at]) => {
                part += 1;
                at += 1;
                if part == parts.len() && at == path.len() {
                    return true;
                }
                if part < parts.len() {
                    continue;
                }
            }
            _ => {}
        }
        match &mut again {
            Some((after, from)) if *from + 1 < path.len() => {
                *from += 1;
                (part, at) = (*after, *from);
            }
            _ => return false,
        }
    }
}

fn name_matches(tokens: &[Token], name: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            None if at == name.len() => return true,
            Some(Token::Star) => {
                token += 1;
                again = Some((token, at));
                continue;
            }
            Some(single) if at < name.len() && single.matches(name[at]) => {
                token += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        match &mut again {
            Some((after, from)) if *from < name.len() => {
                *from += 1;
                (token, at) = (*after, *from);
            }
            _ => return false,
        }
    }
}

impl Token {
    fn matches(&self, next: char) -> bool {
        match self {
            Self::Star | Self::Never => false,
            Self::Any => true,
            Self::Literal(literal) => *literal == next,
            Self::Class { is_negated, ranges } => {
                // A class without members matches nothing, and negated everything.
                ranges.iter().any(|(first, last)| next == *first || next == *last || (*first..=*last).contains(&next)) != *is_negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_follow_ruby() {
        let cases = [
            ("docs/*.md", "docs/a.md", true),
            ("docs/*.md", "docs/a/b.md", false),
            ("docs/**", "docs/a.md", true),
            ("docs/**", "docs/a/b.md", false),
            ("docs/**/*", "docs/a.md", true),
            ("docs/**/*", "docs/a/b/c.md", true),
            ("docs/**/*", "docs", false),
            ("**/*.rs", "main.rs", true),
            ("**/*.rs", "src/.hidden/main.rs", true),
            ("**.rs", "src/main.rs", false),
            ("**/a/**/b", "x/a/y/a/z/b", true),
            ("**/a/b", "a/x/a/b", true),
            ("a/**/b/**/c", "a/b/c", true),
            ("*", ".env", true),
            ("*", "a/b", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]", "b", true),
            ("[a", "a", false),
            ("[]", "]", false),
            ("*.{md,txt}", "a.txt", true),
            ("{a,b{c,d}}/e", "bd/e", true),
            ("{a,b", "a", false),
            ("a}", "a}", true),
            ("{,x}a", "a", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"a\{b", "a{b", true),
            ("Dockerfile", "Dockerfile", true),
            ("Dockerfile", "app/Dockerfile", false),
            ("docs/", "docs/a", false),
            ("*a*b", "xaxxb", true),
            ("ä*", "äö", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        let pattern = "{a,b}".repeat(30);
        assert!(!Glob::new(&pattern).matches(&"c".repeat(30)));
        let stars = "*a".repeat(50) + "b";
        assert!(!Glob::new(&stars).matches(&"a".repeat(2000)));
    }
}
