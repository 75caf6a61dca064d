//! Patterns of `artifacts:paths` and `cache:paths`, and of the images that a runner allows: `*`, `?`, `[…]`, `{a,b}` and `**`.

use regex::Regex;

/// A pattern that is matched against paths relative to the project directory, with slashes, or against names of images.
#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The leading components without wildcards: the only place where matches can be.
    base: String,
}

impl Pattern {
    /// Compiles a pattern. One that is malformed matches only itself, as text.
    pub(crate) fn new(text: &str) -> Self {
        let translated = translate(text).and_then(|source| Regex::new(&source).ok());
        let regex = translated.unwrap_or_else(|| Regex::new(&format!("^{}$", regex::escape(text))).expect("escaped text is a pattern"));
        Self { regex, base: base(text) }
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

fn base(text: &str) -> String {
    let plain = |component: &&str| !component.contains(['*', '?', '[', '{', '\\']);
    text.split('/').take_while(plain).collect::<Vec<_>>().join("/")
}

fn translate(text: &str) -> Option<String> {
    let mut out = String::from("^");
    let mut braces = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at_component = out == "^" || out.ends_with('/') || out.ends_with("/)?") || out.ends_with("/)*");
        if at_component && rest.starts_with("**/") {
            out.push_str("(?:[^/]+/)*");
            rest = &rest[3..];
            continue;
        }
        if at_component && rest == "**" {
            out.push_str(".*");
            break;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => rest = translate_class(rest, &mut out)?,
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '\\' => {
                let escaped = rest.chars().next()?;
                out.push_str(&regex::escape(&escaped.to_string()));
                rest = &rest[escaped.len_utf8()..];
            }
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    (braces == 0).then_some(out)
}

fn translate_class<'a>(rest: &'a str, out: &mut String) -> Option<&'a str> {
    let (negated, rest) = match rest.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let end = rest.char_indices().skip(1).find(|&(_, c)| c == ']')?.0;
    let members = rest[..end].replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace('&', "\\&").replace('~', "\\~");
    out.push_str(if negated { "[^/" } else { "[" });
    out.push_str(&members);
    out.push(']');
    Some(&rest[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_doublestar() {
        for (pattern, path, expected) in [
            ("dist", "dist", true),
            ("dist", "dist/a", false),
            ("*.log", "a.log", true),
            ("*.log", "d/a.log", false),
            ("**/*.log", "a.log", true),
            ("**/*.log", "d/e/a.log", true),
            ("d/**", "d/e/f", true),
            ("d/**/f", "d/f", true),
            ("d/**/f", "d/e/g/f", true),
            ("d/**/f", "e/f", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("{a,b}.txt", "b.txt", true),
            ("{a,b}.txt", "c.txt", false),
            ("a[", "a[", true),
            ("{a", "{a", true),
            (r"\*", "*", true),
            ("a+b(c)", "a+b(c)", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_base_has_no_wildcards() {
        assert_eq!(Pattern::new("a/b/*.c").base(), "a/b");
        assert_eq!(Pattern::new("**/x").base(), "");
        assert_eq!(Pattern::new("a/b").base(), "a/b");
    }
}
