//! What there is to know of one key.

/// Why a key is ignored that nothing else explains.
pub(super) const NOT_DONE: &str = "this version does not do it";

/// A table of `config.toml`.
#[derive(Debug)]
pub struct Table {
    pub keys: &'static [Key],
    /// What flags and variables of its keys begin with; both empty for a table without flags.
    pub flag_prefix: &'static str,
    pub variable_prefix: &'static str,
}

impl Table {
    pub(super) const fn plain(keys: &'static [Key]) -> Self {
        Self { keys, flag_prefix: "", variable_prefix: "" }
    }

    pub(super) const fn with_flags(flag_prefix: &'static str, variable_prefix: &'static str, keys: &'static [Key]) -> Self {
        Self { keys, flag_prefix, variable_prefix }
    }

    /// Returns the key of this name. Like the decoder of GitLab Runner it takes another case when no key has this one.
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        let exact = self.keys.iter().find(|key| key.name == name);
        exact.or_else(|| self.keys.iter().find(|key| key.name.eq_ignore_ascii_case(name)))
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub unset: Unset,
    pub flag: Option<Flag>,
    /// `None`: as the table that it is in.
    pub support: Option<Support>,
    /// The number that GitLab Runner writes by itself where nobody set one.
    pub written_by_itself: Option<i64>,
}

/// Type of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    Boolean,
    Integer,
    Number,
    /// As Go writes it, `1h30m`.
    Duration,
    Time,
    Texts,
    TextOrTexts,
    Numbers,
    TextMap,
    BooleanMap,
    TextsMap,
    Table(&'static Table),
    /// An array of tables.
    Tables(&'static Table),
    /// Not looked into.
    Anything,
}

impl Kind {
    /// Returns the words for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Boolean => "`true` or `false`",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Duration => "a duration in quotes, such as \"1h30m\"",
            Self::Time => "a time, such as 2026-08-22T10:00:00Z",
            Self::Texts => "a list of texts",
            Self::TextOrTexts => "a text or a list of texts",
            Self::Numbers => "a list of numbers",
            Self::TextMap => "a table of texts",
            Self::BooleanMap => "a table of `true` and `false`",
            Self::TextsMap => "a table of lists of texts",
            Self::Table(_) => "a table",
            Self::Tables(_) => "an array of tables",
            Self::Anything => "a value",
        }
    }
}

/// What GitLab Runner's writer does with a value that equals Go's zero value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// `omitempty`, except for numbers, or `omitzero`, except for booleans.
    LeftOut,
    Written,
    /// A pointer: unset is left out, a zero that was set is written.
    Distinct,
}

/// The flag of `register` and `run-single`. Without a name of its own it is called as its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    pub long: Option<&'static str>,
    pub variable: Variable,
}

/// The environment variable of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    AsKey,
    Named(&'static str),
    None,
}

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Honoured,
    /// The value has an effect that differs as the text says.
    Approximated(&'static str),
    /// The value has no effect; the text says why.
    Ignored(&'static str),
}

impl Key {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, unset: Unset::LeftOut, flag: None, support: None, written_by_itself: None }
    }

    pub(super) const fn written(mut self) -> Self {
        self.unset = Unset::Written;
        self
    }

    pub(super) const fn optional(mut self) -> Self {
        self.unset = Unset::Distinct;
        self
    }

    pub(super) const fn flag(mut self) -> Self {
        self.flag = Some(Flag { long: None, variable: Variable::AsKey });
        self
    }

    /// Gives the flag a name that its key does not suggest.
    pub(super) const fn long(mut self, name: &'static str) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.long = Some(name);
        }
        self
    }

    pub(super) const fn variable(mut self, name: &'static str) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.variable = Variable::Named(name);
        }
        self
    }

    pub(super) const fn no_variable(mut self) -> Self {
        if let Some(flag) = &mut self.flag {
            flag.variable = Variable::None;
        }
        self
    }

    pub(super) const fn written_by_itself(mut self, number: i64) -> Self {
        self.written_by_itself = Some(number);
        self
    }

    pub(super) const fn honoured(mut self) -> Self {
        self.support = Some(Support::Honoured);
        self
    }

    pub(super) const fn approximated(mut self, how: &'static str) -> Self {
        self.support = Some(Support::Approximated(how));
        self
    }

    pub(super) const fn ignored(mut self, why: &'static str) -> Self {
        self.support = Some(Support::Ignored(why));
        self
    }

    /// A key of old files that GitLab Runner itself no longer reads.
    pub(super) const fn outdated(self) -> Self {
        self.ignored("GitLab Runner no longer reads it here; it belongs in `[runners.cache.s3]`")
    }

    /// Returns the name of the flag in `table`, without dashes in front.
    pub fn flag_name(&self, table: &Table) -> Option<String> {
        let flag = self.flag?;
        let name = flag.long.map_or_else(|| self.name.replace('_', "-"), str::to_owned);
        Some(format!("{}{name}", table.flag_prefix))
    }

    /// Returns the environment variable of the flag in `table`.
    pub fn variable_name(&self, table: &Table) -> Option<String> {
        match self.flag?.variable {
            Variable::AsKey => Some(format!("{}{}", table.variable_prefix, self.name.to_uppercase())),
            Variable::Named(name) => Some(name.to_owned()),
            Variable::None => None,
        }
    }
}

macro_rules! constructors {
    ($($function:ident $kind:ident;)*) => {
        $(pub(super) const fn $function(name: &'static str) -> Key {
            Key::new(name, Kind::$kind)
        })*
    };
}

constructors! {
    text Text;
    boolean Boolean;
    integer Integer;
    number Number;
    duration Duration;
    time Time;
    texts Texts;
    text_or_texts TextOrTexts;
    numbers Numbers;
    text_map TextMap;
    boolean_map BooleanMap;
    texts_map TextsMap;
    anything Anything;
}

pub(super) const fn table(name: &'static str, inner: &'static Table) -> Key {
    Key::new(name, Kind::Table(inner))
}

pub(super) const fn tables(name: &'static str, inner: &'static Table) -> Key {
    Key::new(name, Kind::Tables(inner))
}
