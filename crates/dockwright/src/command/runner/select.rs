//! Which entries of the file a command is about.

use dockwright_runner::config::file::RunnerEntry;

/// What an entry must match; what is absent matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selection<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) url: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) id: Option<i64>,
}

impl Selection<'_> {
    /// Nothing was asked for in particular.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.url.is_none() && self.token.is_none() && self.id.is_none()
    }

    /// Returns the entries that match, with their numbers.
    pub(super) fn of<'e>(&self, entries: &'e [RunnerEntry]) -> Vec<(usize, &'e RunnerEntry)> {
        entries.iter().enumerate().filter(|(_, entry)| self.matches(entry)).collect()
    }

    fn matches(&self, entry: &RunnerEntry) -> bool {
        self.name.is_none_or(|name| entry.name == name)
            && self.token.is_none_or(|token| entry.token.expose() == token)
            && self.url.is_none_or(|url| same_url(&entry.url, url))
            && self.id.is_none_or(|id| entry.id == id)
    }
}

/// An address that is empty or `*` stands for any.
fn same_url(left: &str, right: &str) -> bool {
    let any = |url: &str| url.is_empty() || url == "*";
    any(left) || any(right) || left.trim_end_matches('/') == right.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_selected_by_all_that_is_given() {
        let entry = |name: &str, url: &str| RunnerEntry { name: name.to_owned(), url: url.to_owned(), ..RunnerEntry::default() };
        let entries = [entry("a", "https://x/"), entry("b", "https://x"), entry("a", "")];
        let numbers = |selection: Selection<'_>| selection.of(&entries).iter().map(|(index, _)| *index).collect::<Vec<_>>();
        assert_eq!(numbers(Selection::default()), [0, 1, 2]);
        assert_eq!(numbers(Selection { name: Some("a"), ..Selection::default() }), [0, 2]);
        assert_eq!(numbers(Selection { url: Some("https://x"), ..Selection::default() }), [0, 1, 2]);
        assert_eq!(numbers(Selection { name: Some("b"), url: Some("https://y"), ..Selection::default() }), [0_usize; 0]);
    }
}
