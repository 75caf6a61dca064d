//! Wildcards of `include:local`: `*` within a directory, `**` across directories. There are no `?`, braces or classes.

use regex::Regex;

/// Compiles a path with wildcards; it must match a whole path.
pub(crate) fn include_pattern(pattern: &str) -> Regex {
    let mut regex = String::from(r"\A");
    let mut rest = pattern;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("**/") {
            regex.push_str("(?:.*/)?");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("**") {
            regex.push_str(".*");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('*') {
            regex.push_str("[^/]*");
            rest = after;
        } else {
            let end = rest.find('*').unwrap_or(rest.len());
            regex.push_str(&regex::escape(&rest[..end]));
            rest = &rest[end..];
        }
    }
    regex.push_str(r"\z");
    Regex::new(&regex).expect("an escaped pattern is valid")
}

/// Tells which paths a pattern of `include:local` or `cache:key:files` matches.
pub fn matching_paths<'p>(pattern: &str, paths: impl IntoIterator<Item = &'p str>) -> Vec<&'p str> {
    let pattern = include_pattern(pattern);
    paths.into_iter().filter(|path| pattern.is_match(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::include_pattern;

    #[test]
    fn wildcards() {
        let cases = [
            ("ci/*.yml", "ci/a.yml", true),
            ("ci/*.yml", "ci/sub/a.yml", false),
            ("ci/**/*.yml", "ci/a.yml", true),
            ("ci/**/*.yml", "ci/x/y/a.yml", true),
            ("ci/**.yml", "ci/x/a.yml", true),
            ("*.yml", "a+yml", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(include_pattern(pattern).is_match(path), expected, "{pattern} on {path}");
        }
    }
}
