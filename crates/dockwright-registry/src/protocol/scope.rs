//! Scopes: what a token is asked for and grants.

use std::{fmt, str::FromStr};

/// What may be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Read.
    Pull,
    /// Write.
    Push,
    /// Remove.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// Returns the action as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// `repository:group/app:pull,push`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The repository.
    pub repository: String,
    /// What is asked for.
    pub actions: Vec<Action>,
}

impl Scope {
    /// Returns the scope for reading a repository.
    pub fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), actions: vec![Action::Pull] }
    }

    /// Returns the scope for writing, which includes reading.
    pub fn push(repository: &str) -> Self {
        Self { repository: repository.to_owned(), actions: vec![Action::Pull, Action::Push] }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<&str> = self.actions.iter().map(|action| action.as_str()).collect();
        write!(f, "repository:{}:{}", self.repository, actions.join(","))
    }
}

/// The text is no scope of a repository. Other types are dropped silently, as GitLab does.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the scope of a repository")]
pub struct ParseScopeError;

impl FromStr for Scope {
    type Err = ParseScopeError;

    /// The name may contain a colon, so the type is split off from the left and the actions from the right.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').ok_or(ParseScopeError)?;
        let (repository, actions) = rest.rsplit_once(':').ok_or(ParseScopeError)?;
        if kind.split('(').next() != Some("repository") || repository.is_empty() {
            return Err(ParseScopeError);
        }
        let asked: Vec<&str> = actions.split(',').map(str::trim).collect();
        let actions = Action::ALL.into_iter().filter(|action| asked.contains(&action.as_str()) || asked.contains(&"*")).collect();
        Ok(Self { repository: repository.to_owned(), actions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_print_and_parse() {
        for text in ["repository:a/b:pull,push", "repository:host:5000/a:pull", "repository:a:"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        assert_eq!("repository(plugin):a:*".parse::<Scope>().unwrap().actions, Action::ALL);
        assert_eq!("registry:catalog:*".parse::<Scope>(), Err(ParseScopeError));
        assert_eq!("repository:".parse::<Scope>(), Err(ParseScopeError));
    }
}
