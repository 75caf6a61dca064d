//! What a backslash begins.

/// The meaning of an escape.
pub(super) enum Escape {
    Literal(char),
    /// A class of characters, as the `regex` crate writes it.
    Class(String),
    /// A place, as the `regex` crate writes it.
    Assertion(&'static str),
}

/// Reads an escape, with its length in bytes.
pub(super) fn read(text: &str) -> Result<(Escape, usize), String> {
    let Some(next) = text[1..].chars().next() else { return Err("trailing \\".to_owned()) };
    let simple = match next {
        'A' => Escape::Assertion(r"\A"),
        'z' => Escape::Assertion(r"\z"),
        'b' => Escape::Assertion(r"(?-u:\b)"),
        'B' => Escape::Assertion(r"(?-u:\B)"),
        // One byte in RE2; texts are UTF-8 here, and are not cut within a character.
        'C' => Escape::Class("(?s:.)".to_owned()),
        _ => return in_class(text),
    };
    Ok((simple, 2))
}

/// Reads an escape that may also stand in a class.
pub(super) fn in_class(text: &str) -> Result<(Escape, usize), String> {
    let Some(next) = text[1..].chars().next() else { return Err("trailing \\".to_owned()) };
    let escape = match next {
        'd' => Escape::Class("[0-9]".to_owned()),
        'D' => Escape::Class("[^0-9]".to_owned()),
        'w' => Escape::Class("[0-9A-Za-z_]".to_owned()),
        'W' => Escape::Class("[^0-9A-Za-z_]".to_owned()),
        's' => Escape::Class(r"[\t\n\f\r ]".to_owned()),
        'S' => Escape::Class(r"[^\t\n\f\r ]".to_owned()),
        'p' | 'P' => return property(text),
        'x' => return hexadecimal(text),
        '0' => return Ok(octal(text)),
        '1'..='7' if text[2..].starts_with(|second| matches!(second, '0'..='7')) => return Ok(octal(text)),
        'a' => Escape::Literal('\x07'),
        'f' => Escape::Literal('\x0c'),
        'n' => Escape::Literal('\n'),
        'r' => Escape::Literal('\r'),
        't' => Escape::Literal('\t'),
        'v' => Escape::Literal('\x0b'),
        mark if mark.is_ascii() && !mark.is_ascii_alphanumeric() => Escape::Literal(mark),
        other => return Err(format!("invalid escape sequence: \\{other}")),
    };
    Ok((escape, 1 + next.len_utf8()))
}

/// `\pN` or `\p{Greek}`: a general category or a script, by the exact name.
fn property(text: &str) -> Result<(Escape, usize), String> {
    let invalid = |length: usize| format!("invalid character class range: {}", text.get(..length).unwrap_or(text));
    let mut is_negated = text.starts_with("\\P");
    let (mut name, length) = match text[2..].strip_prefix('{') {
        Some(braced) => {
            let end = braced.find('}').ok_or_else(|| invalid(text.len()))?;
            (&braced[..end], "\\p{}".len() + end)
        }
        None => {
            let letter = text[2..].chars().next().ok_or_else(|| invalid(text.len()))?;
            (&text[2..2 + letter.len_utf8()], 2 + letter.len_utf8())
        }
    };
    if let Some(rest) = name.strip_prefix('^') {
        (name, is_negated) = (rest, !is_negated);
    }
    let sign = if is_negated { 'P' } else { 'p' };
    let is_name =
        name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(|next| next.is_ascii_alphabetic() || next == '_');
    let class = match name {
        "Any" => format!("\\{sign}{{Any}}"),
        _ if is_name && name.len() <= 2 => format!("\\{sign}{{General_Category={name}}}"),
        _ if is_name => format!("\\{sign}{{Script={name}}}"),
        _ => return Err(invalid(length)),
    };
    Ok((Escape::Class(class), length))
}

/// `\x7F` or `\x{10FFFF}`.
fn hexadecimal(text: &str) -> Result<(Escape, usize), String> {
    let (digits, length) = match text[2..].strip_prefix('{') {
        Some(braced) => braced.find('}').map(|end| (&braced[..end], "\\x{}".len() + end)),
        None => text.get(2..4).map(|digits| (digits, 4)),
    }
    .unwrap_or_default();
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    let character = u32::from_str_radix(digits, 16).ok().filter(|_| is_number).and_then(char::from_u32);
    match character {
        Some(character) => Ok((Escape::Literal(character), length)),
        None => Err(format!("invalid escape sequence: {}", text.get(..length.max(2)).unwrap_or(text))),
    }
}

/// Up to three octal digits.
fn octal(text: &str) -> (Escape, usize) {
    let digits = text[1..].bytes().take(3).take_while(|digit| matches!(digit, b'0'..=b'7'));
    let (value, count) = digits.fold((0_u32, 0), |(value, count), digit| (value * 8 + u32::from(digit - b'0'), count + 1));
    (Escape::Literal(char::from_u32(value).expect("three octal digits are a character")), 1 + count)
}
