//! `dockwright image rm`.

use dockwright_store::{ImageId, ImageRef, Store};

use crate::{
    cli::ImageRemoveArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::Streams,
};

/// Shortest beginning of an id that is taken for one.
const MIN_ID_DIGITS: usize = 4;

pub(super) fn run(arguments: &ImageRemoveArgs, store: &Store, streams: Streams) -> Result<ExitCode, CommandError> {
    let names = store.list_names().explain(ErrorKind::Environment, || "list the images of the store".to_owned())?;
    for wanted in &arguments.names {
        for name in matching(wanted, &names)? {
            store.remove_name(name).explain(ErrorKind::Environment, || format!("remove `{}`", name.familiar()))?;
            streams.data(format!("removed {}", name.familiar()));
        }
    }
    Ok(ExitCode::Success)
}

/// Returns the names that `wanted` means: one name, or all names of an id.
fn matching<'names>(wanted: &str, names: &'names [(ImageRef, ImageId)]) -> Result<Vec<&'names ImageRef>, CommandError> {
    if let Ok(reference) = wanted.parse::<ImageRef>()
        && let Some((name, _)) = names.iter().find(|(name, _)| *name == reference)
    {
        return Ok(vec![name]);
    }
    let of_id: Vec<_> = names.iter().filter(|(_, id)| is_id(wanted, id)).collect();
    match of_id.split_first() {
        None => Err(CommandError::environment(format!("no image `{wanted}`")).hint("`dockwright image ls` shows what there is")),
        Some(((_, first), rest)) if rest.iter().any(|(_, id)| id != first) => {
            Err(CommandError::usage(format!("`{wanted}` begins the ids of several images")).hint("write more digits of the id"))
        }
        Some(_) => Ok(of_id.into_iter().map(|(name, _)| name).collect()),
    }
}

fn is_id(wanted: &str, id: &ImageId) -> bool {
    let digits = wanted.trim_start_matches("sha256:");
    digits.len() >= MIN_ID_DIGITS && id.to_string().trim_start_matches("sha256:").starts_with(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<(ImageRef, ImageId)> {
        let id = |first: &str| format!("sha256:{first}{}", "0".repeat(64 - first.len())).parse().expect("an id");
        let name = |text: &str| text.parse().expect("a name");
        vec![(name("a"), id("abcd1")), (name("b:2"), id("abcd1")), (name("c"), id("abcd2"))]
    }

    fn removed(wanted: &str) -> Option<Vec<String>> {
        matching(wanted, &names()).ok().map(|found| found.into_iter().map(ImageRef::familiar).collect())
    }

    #[test]
    fn a_name_means_itself_and_an_id_all_its_names() {
        assert_eq!(removed("a"), Some(vec!["a:latest".to_owned()]));
        assert_eq!(removed("sha256:abcd1"), Some(vec!["a:latest".to_owned(), "b:2".to_owned()]));
        assert_eq!(removed("abcd2"), Some(vec!["c:latest".to_owned()]));
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_an_error() {
        assert_eq!(removed("b"), None, "b:latest does not exist");
        assert_eq!(removed("abcd"), None, "two images");
        assert_eq!(removed("abc"), None, "too short for an id");
    }
}
