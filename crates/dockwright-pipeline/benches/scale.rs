//! How long large configurations take, from bytes to jobs. Run it with `cargo xtask bench language`.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "../tests/it/generated.rs"]
mod generated;

use generated::{generated, time};

const FILES: usize = 50;

fn main() {
    println!("| Generated configuration in {FILES} files, parsed and evaluated | time |");
    println!("|---|---|");
    for jobs in [200, 2000, 20_000] {
        let files = generated(jobs, FILES);
        let bytes: usize = files.values().map(String::len).sum();
        let millis = time(&files, jobs).as_secs_f64() * 1000.0;
        println!("| {jobs} jobs, {} kB | {millis:.1} ms |", bytes / 1000);
    }
}
