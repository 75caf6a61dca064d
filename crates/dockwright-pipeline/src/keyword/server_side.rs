//! Keywords that only a GitLab server can act on: they are checked as it checks them, and noted.
//!
//! `id_tokens`, `secrets`, `identity`, `dast_configuration`, `manual_confirmation`.

use super::{
    Reader, present,
    shape::{Shape, UNDESCRIBED},
};
use crate::{
    diagnostic::Diagnostic,
    yaml::{Map, Node, Value},
};

const TOKEN_KEYS: &[&str] = &["aud"];
const SECRET_KEYS: &[&str] = &["file", "token"];
const IDENTITIES: &[(&str, ())] = &[("google_cloud", ())];
const DAST_KEYS: &[&str] = &["site_profile", "scanner_profile"];
const PROVIDERS: &[&str] = &["vault", "azure_key_vault", "gcp_secret_manager", "aws_secrets_manager", "akeyless", "gitlab_secrets_manager"];

/// Checks the keywords of a job, or of `default`.
pub(super) fn check(reader: &mut Reader<'_>, at: &str, map: &Map) {
    // The keyword, how it is checked, and what a local run leaves out.
    type Check = fn(&mut Reader<'_>, &str, &Node);
    let keywords: [(&str, Check, &str); 4] = [
        ("id_tokens", id_tokens, "no server signs the tokens, so their variables are not set; give them by `--variable`"),
        ("secrets", secrets, "no secret is fetched, so the variables are not set; give them by `--variable` or `--variable-file`"),
        ("identity", identity, "no identity is given to the job"),
        ("dast_configuration", dast, "no scan is configured"),
    ];
    for (keyword, check, left_out) in keywords {
        if let Some(entry) = present(map, keyword) {
            check(reader, &format!("{at}:{keyword}"), &entry.value);
            let message = format!("{at}: `{keyword}` is not done locally: {left_out}");
            reader.report(Diagnostic::warning("not-done-locally", message).at(entry.key));
        }
    }
    if let Some(entry) = present(map, "manual_confirmation") {
        reader.text(&format!("{at}:manual_confirmation"), &entry.value);
    }
}

/// Reports keys that are missing.
pub(super) fn required(reader: &mut Reader<'_>, at: &str, node: &Node, map: &Map, keys: &[&str]) {
    for key in keys.iter().filter(|key| present(map, key).is_none()) {
        let message = format!("{at} {} can't be blank", key.replace('_', " "));
        reader.report(Diagnostic::error("missing-key", message).at(node.span).help(format!("add `{key}`")));
    }
}

fn id_tokens(reader: &mut Reader<'_>, at: &str, node: &Node) {
    let Some(map) = reader.map(at, node) else { return };
    for (name, entry) in map {
        let at = format!("{at}:{name}");
        let Some(token) = reader.map(&at, &entry.value) else { continue };
        reader.unknown_keys(&at, token, TOKEN_KEYS);
        required(reader, &at, &entry.value, token, &["aud"]);
        if let Some(aud) = present(token, "aud") {
            reader.text_or_texts(&format!("{at}:aud"), &aud.value);
        }
    }
}

fn secrets(reader: &mut Reader<'_>, at: &str, node: &Node) {
    let Some(map) = reader.map(at, node) else { return };
    for (name, entry) in map {
        let at = format!("{at}:{name}");
        let Some(secret) = reader.map(&at, &entry.value) else { continue };
        reader.unknown_keys(&at, secret, &[PROVIDERS, SECRET_KEYS].concat());
        if PROVIDERS.iter().filter(|provider| present(secret, provider).is_some()).count() != 1 {
            let message = format!("{at} config must use exactly one of these keys: {}", PROVIDERS.join(", "));
            reader.report(Diagnostic::error("exclusive-keys", message).at(entry.key));
        }
    }
}

fn identity(reader: &mut Reader<'_>, at: &str, node: &Node) {
    reader.one_of(at, node, IDENTITIES);
}

fn dast(reader: &mut Reader<'_>, at: &str, node: &Node) {
    let Value::Map(map) = &node.value else { return reader.wrong_type(at, node, "a hash") };
    reader.unknown_keys(at, map, DAST_KEYS);
}

/// Describes `id_tokens`.
pub(super) fn id_tokens_shape() -> Shape {
    Shape::named(Shape::map(TOKEN_KEYS, |key| match key {
        "aud" => ("Who the token is for.", Shape::one_or_list(Shape::Text)),
        _ => UNDESCRIBED,
    }))
}

/// Describes `secrets`.
pub(super) fn secrets_shape() -> Shape {
    Shape::named(Shape::map(&[PROVIDERS, SECRET_KEYS].concat(), |key| match key {
        "file" => ("Whether the variable holds the path of a file with the secret.", Shape::Boolean),
        "token" => ("The ID token that opens the provider.", Shape::Text),
        _ => ("Where the secret lies, at this provider.", Shape::Any),
    }))
}

/// Describes `identity`.
pub(super) fn identity_shape() -> Shape {
    Shape::words(IDENTITIES)
}

/// Describes `dast_configuration`.
pub(super) fn dast_shape() -> Shape {
    Shape::map(DAST_KEYS, |key| match key {
        "site_profile" => ("Profile of the site that is scanned.", Shape::Text),
        "scanner_profile" => ("Profile of the scanner.", Shape::Text),
        _ => UNDESCRIBED,
    })
}
