//! `cargo xtask bench archives`: packing and unpacking artifacts and caches, beside Info-ZIP and what the machine can do at all.
//!
//! Our side is what a job uses, process and pipes included: this program starts itself as the helper. The limit is one thread that only
//! reads the tree, or only writes it; everything is in the page cache. Unpacking always goes into a directory that never was: ext4
//! takes ten times as long where many files were just removed.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What GitLab Runner's archiver publishes for one thread: the README of its library, Go's sources, deflate 5.
const PUBLISHED_ARCHIVE_MB_PER_SEC: f64 = 55.3;
const PUBLISHED_EXTRACT_MB_PER_SEC: f64 = 25.9;
const MB: f64 = 1e6;
/// `/proc` counts in these, on every Linux.
const TICKS_PER_SEC: f64 = 100.0;
const WORDS: &[&str] = &[
    "return", "error", "value", "let", "fn", "struct", "self", "index", "buffer", "match", "result", "length", "write", "(", ")", "{", "}",
    ";", "\n", "    ", "=", "+", ".", "&mut", "String", "Option", "Some", "None", "while", "for", "in", "0", "1", "//", "the", "of", "a",
];

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "internal") {
        return dockwright_runner::helper::main(arguments.into_iter().skip(2));
    }
    // `cargo bench` adds `--bench`.
    let trees: Vec<PathBuf> = arguments.into_iter().filter(|argument| argument != "--bench").map(PathBuf::from).collect();
    match run(&trees) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(given: &[PathBuf]) -> Result<()> {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("processors: {}; load before: {}", std::thread::available_parallelism()?, load.split(' ').next().unwrap_or_default());
    println!("{:<34} {:>9} {:>12} {:>9} {:>8} {:>8} {:>7}", "", "MB/s", "MB/cpu-sec", "published", "zip", "limit", "size");
    let mut trees = given.to_vec();
    if trees.is_empty() {
        let mut random = Random(1);
        trees.push(make(&scratch.path().join("small files"), 8000, |random| 2000 + random.next() % 24_000, Content::Text, &mut random)?);
        trees.push(make(&scratch.path().join("large files"), 4, |_| 48_000_000, Content::Text, &mut random)?);
        trees.push(make(&scratch.path().join("incompressible"), 150, |_| 1_000_000, Content::Noise, &mut random)?);
    }
    for (number, tree) in trees.iter().enumerate() {
        let place = scratch.path().join(number.to_string());
        fs::create_dir(&place)?;
        measure(&tree.canonicalize()?, &place)?;
    }
    Ok(())
}

fn measure(tree: &Path, place: &Path) -> Result<()> {
    let name = tree.file_name().unwrap_or_default().display().to_string();
    let (parent, base) = (tree.parent().unwrap_or(Path::new("/")), tree.file_name().unwrap_or_default());
    let files = read_all(tree)?;
    let bytes = files.iter().map(|(_, content)| content.len() as f64).sum::<f64>();
    let mb = bytes / MB;
    let read = timed(|| read_all(tree).map(drop))?;
    let write = timed(|| write_all(&files, tree, &place.join("limit")))?;
    drop(files);

    let archive = place.join("ours.zip");
    let zip = Some(place.join("zip.zip")).filter(|_| has("zip") && has("unzip"));
    let pack_zip = |to: &Path| command(Command::new("zip").args(["-q", "-r", "-y", "-5"]).arg(to).arg(base).current_dir(parent));
    let theirs = zip.as_deref().map(|to| timed(|| pack_zip(to))).transpose()?;
    for format in ["zip", "tar_zstd"] {
        let request = serde_json::json!({ "archive": {
            "selection": { "directory": parent, "paths": [base.to_string_lossy()], "exclude": [], "untracked": false },
            "options": { "format": format, "level": "default", "fingerprint": false, "unless": null, "statement": null },
        }});
        let used = timed(|| helper(&request, None, Some(&archive)))?;
        let ratio = fs::metadata(&archive)?.len() as f64 / bytes;
        row(&format!("{name}: pack {format}"), mb, used, PUBLISHED_ARCHIVE_MB_PER_SEC, theirs, read, Some(ratio));
        let to = place.join(format);
        fs::create_dir(&to)?;
        let request = serde_json::json!({ "extract": { "directory": to } });
        let used = timed(|| helper(&request, Some(&archive), None))?;
        let theirs = match zip.as_deref().filter(|_| format == "zip") {
            Some(zip) => Some(timed(|| command(Command::new("unzip").arg("-q").arg(zip).arg("-d").arg(place.join("theirs"))))?),
            None => None,
        };
        row(&format!("{name}: unpack {format}"), mb, used, PUBLISHED_EXTRACT_MB_PER_SEC, theirs, write, None);
    }
    Ok(())
}

/// Seconds by the clock, and of processor time of the processes that were waited for.
#[derive(Clone, Copy)]
struct Used {
    wall: f64,
    cpu: f64,
}

fn row(what: &str, mb: f64, ours: Used, published: f64, theirs: Option<Used>, limit: Used, ratio: Option<f64>) {
    let per_cpu = mb / ours.cpu.max(1.0 / TICKS_PER_SEC);
    let zip = theirs.map_or_else(|| "-".to_owned(), |theirs| format!("{:.1}x", theirs.wall / ours.wall));
    let size = ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
    println!(
        "{what:<34} {:>9.0} {per_cpu:>12.0} {:>8.1}x {zip:>8} {:>7.0}% {size:>7}",
        mb / ours.wall,
        per_cpu / published,
        100.0 * limit.wall / ours.wall,
    );
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Used> {
    let (cpu, began) = (children_cpu_secs()?, Instant::now());
    work()?;
    let wall = began.elapsed().as_secs_f64();
    Ok(Used { wall, cpu: children_cpu_secs()? - cpu })
}

/// Reads `cutime` and `cstime`: fields 14 and 15 after the name.
fn children_cpu_secs() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or("too few fields in /proc/self/stat")?.parse()?) };
    Ok((ticks(13)? + ticks(14)?) / TICKS_PER_SEC)
}

fn helper(request: &serde_json::Value, input: Option<&Path>, output: Option<&Path>) -> Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["internal", "helper", "stdin"]).stdin(Stdio::piped()).stderr(Stdio::null());
    command.stdout(match output {
        Some(path) => File::create(path)?.into(),
        None => Stdio::null(),
    });
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or("the helper has no input")?;
    writeln!(stdin, "{request}")?;
    if let Some(path) = input {
        io::copy(&mut File::open(path)?, &mut stdin)?;
    }
    drop(stdin);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the helper ended with {status}").into()) }
}

fn command(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

fn has(program: &str) -> bool {
    dockwright_testing::find_command(program).is_some()
}

fn read_all(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), fs::read(entry.path())?));
            }
        }
    }
    Ok(files)
}

fn write_all(files: &[(PathBuf, Vec<u8>)], from: &Path, to: &Path) -> Result<()> {
    for (path, content) in files {
        let path = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(path.parent().unwrap_or(to))?;
        fs::write(path, content)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Content {
    /// Words as in sources.
    Text,
    Noise,
}

fn make(directory: &Path, count: u64, size: impl Fn(&mut Random) -> u64, content: Content, random: &mut Random) -> Result<PathBuf> {
    for number in 0..count {
        let parent = directory.join(format!("{}", number / 50));
        fs::create_dir_all(&parent)?;
        let size = usize::try_from(size(random))?;
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            match content {
                Content::Text => {
                    // Few words are frequent, and names are everywhere.
                    let [first, second] = [random.next(), random.next()];
                    let word = WORDS[usize::try_from((first % 37).min(second % 37))?];
                    bytes.extend(word.bytes());
                    if first.is_multiple_of(11) {
                        bytes.extend(format!("{:x}", second % 50_000).bytes());
                    }
                    bytes.push(b' ');
                }
                // The upper bytes of a number are not as random.
                Content::Noise => bytes.extend(&random.next().to_le_bytes()[..4]),
            }
        }
        fs::write(parent.join(format!("file-{number}.rs")), bytes)?;
    }
    Ok(directory.to_owned())
}

/// The same numbers every time: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
}
