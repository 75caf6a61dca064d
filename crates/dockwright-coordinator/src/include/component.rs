//! Versions of components: which tag `~latest`, `1` or `1.2` means.

/// A version that names several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// The numbers that a tag must begin with; none for `~latest`.
    prefix: Vec<u64>,
}

/// Reads a version; full ones, branches and commits are no ranges.
pub(super) fn range(version: &str) -> Option<Range> {
    if version == "~latest" {
        return Some(Range { prefix: Vec::new() });
    }
    let parts: Vec<&str> = version.split('.').collect();
    let is_short = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()));
    let prefix = parts.iter().map(|part| part.parse().ok()).collect::<Option<_>>()?;
    is_short.then_some(Range { prefix })
}

impl Range {
    /// Returns the highest release among tags. Versions before a release (`1.0.0-rc1`) do not count.
    pub(super) fn latest(&self, tags: &[String]) -> Option<String> {
        let fitting = tags.iter().filter_map(|tag| Some((release(tag)?, tag)));
        fitting.filter(|(numbers, _)| numbers.starts_with(&self.prefix)).max().map(|(_, tag)| tag.clone())
    }
}

fn release(tag: &str) -> Option<[u64; 3]> {
    let numbers = tag.strip_prefix('v').unwrap_or(tag).split('+').next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let release = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_the_highest_release() {
        let tags = ["1.0.0", "1.2.0", "v1.10.1", "2.0.0-rc1", "2.0.0", "2.1.0-rc1", "nightly", "3.0"].map(str::to_owned);
        let latest = |version: &str| range(version).expect("a range").latest(&tags);
        assert_eq!(latest("~latest").as_deref(), Some("2.0.0"));
        assert_eq!(latest("1").as_deref(), Some("v1.10.1"));
        assert_eq!(latest("1.2").as_deref(), Some("1.2.0"));
        assert_eq!(latest("3"), None);
        for version in ["1.2.3", "main", "v1", "0123456789012345678901234567890123456789", ""] {
            assert_eq!(range(version), None, "{version}");
        }
    }
}
