//! `dockwright image ls`.

use dockwright_store::{ImageId, ImageRef, Store};
use serde::Serialize;

use crate::{
    cli::ImageListArgs,
    error::{CommandError, ErrorKind, Explain as _},
    exit_code::ExitCode,
    report::Streams,
};

/// One name of an image.
#[derive(Serialize)]
struct Line {
    name: String,
    id: String,
    size_bytes: u64,
    created: Option<String>,
}

pub(super) fn run(arguments: &ImageListArgs, store: &Store, streams: Streams) -> Result<ExitCode, CommandError> {
    let lines = read_lines(store).explain(ErrorKind::Environment, || "list the images of the store".to_owned())?;
    if arguments.json {
        streams.json(&serde_json::json!({ "images": lines }));
    } else if arguments.quiet {
        for line in &lines {
            streams.data(&line.id);
        }
    } else {
        print_table(&lines, streams);
    }
    Ok(ExitCode::Success)
}

fn read_lines(store: &Store) -> Result<Vec<Line>, dockwright_store::StoreError> {
    let mut lines = Vec::new();
    for (name, id) in store.list_names()? {
        if let Some(line) = line(store, &name, &id)? {
            lines.push(line);
        }
    }
    Ok(lines)
}

fn line(store: &Store, name: &ImageRef, id: &ImageId) -> Result<Option<Line>, dockwright_store::StoreError> {
    let image = store.image(id)?;
    Ok(image.map(|image| Line { name: name.familiar(), id: id.to_string(), size_bytes: image.size, created: image.config.created }))
}

fn print_table(lines: &[Line], streams: Streams) {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0).max("NAME".len());
    streams.data(format!("{:width$}  {:12}  {:>9}  CREATED", "NAME", "ID", "SIZE"));
    for Line { name, id, size_bytes, created } in lines {
        let short = id.trim_start_matches("sha256:").get(..12).unwrap_or(id);
        let created = created.as_deref().and_then(|time| time.get(..10)).unwrap_or("");
        streams.data(format!("{name:width$}  {short:12}  {:>9}  {created}", size(*size_bytes)));
    }
}

/// Says a size in decimal units, as Docker does.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog10() / 3).min(4);
    format!("{:.1} {}", bytes as f64 / 1000f64.powi(power.cast_signed()), UNITS[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        let said: Vec<_> = [0, 999, 1_000, 1_230_000, 5_000_000_000, u64::MAX].map(size).into();
        assert_eq!(said, ["0 B", "999 B", "1.0 kB", "1.2 MB", "5.0 GB", "18446744.1 TB"]);
    }
}
