//! `--chmod`: octal, or symbolic as `chmod(1)` takes it.

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

/// `u+rw`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits that may be touched.
    who: u32,
    operator: char,
    /// Bits for all three classes; masked by `who`.
    bits: u32,
    /// `X`: execute where it makes sense.
    conditional_execute: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777, or symbolic like `u=rwX,go=rX`")]
pub struct ParseModeError(String);

impl ModeChange {
    pub fn parse(text: &str) -> Result<Self, ParseModeError> {
        const MAX_MODE: u32 = 0o7777;
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= MAX_MODE);
            return mode.map(Self::Octal).ok_or_else(|| ParseModeError(text.to_owned()));
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        clauses.map(|clauses| Self::Symbolic(clauses.concat())).ok_or_else(|| ParseModeError(text.to_owned()))
    }

    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

/// One `who`, then one or more operators with permissions.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for class in text[..start].chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    let mut clauses: Vec<Clause> = Vec::new();
    for character in text[start..].chars() {
        if matches!(character, '+' | '-' | '=') {
            clauses.push(Clause { who, operator: character, bits: 0, conditional_execute: false });
            continue;
        }
        let clause = clauses.last_mut()?;
        match character {
            'r' => clause.bits |= 0o444,
            'w' => clause.bits |= 0o222,
            'x' => clause.bits |= 0o111,
            's' => clause.bits |= 0o6000,
            't' => clause.bits |= 0o1000,
            'X' => clause.conditional_execute = true,
            _ => return None,
        }
    }
    Some(clauses)
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let execute = if self.conditional_execute && (directory || mode & 0o111 != 0) { 0o111 } else { 0 };
        let bits = (self.bits | execute) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic() {
        for (text, mode, directory, expected) in [
            ("755", 0o600, false, 0o755),
            ("04755", 0, false, 0o4755),
            ("+x", 0o644, false, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u+s,g+s,+t", 0o755, true, 0o7755),
            ("go=", 0o777, false, 0o700),
            ("u+r-w", 0o200, false, 0o400),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(mode, directory), expected, "{text}");
        }
        for bad in ["", "8", "77777", "x", "u", "u+y", "z+x", ","] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
