//! How soon a queued job has run, with a coordinator, a runner and HTTP between them. Run it with `cargo xtask bench coordinator`.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[expect(dead_code, reason = "the tests of the coordinator need more of it")]
#[path = "../tests/coordinator/world.rs"]
mod world;

use std::time::{Duration, Instant};

use world::World;

const PIPELINES: usize = 20;
/// So that the runner waits for a job again before the next one comes.
const PAUSE: Duration = Duration::from_millis(150);

fn main() {
    tokio::runtime::Runtime::new().expect("tokio runtime").block_on(measure());
}

async fn measure() {
    let world = World::new("job: {script: 'true'}\n");
    let runner = world.runner("", 1).await;
    let (mut created, mut queued) = (Vec::new(), Vec::new());
    for _ in 0..PIPELINES {
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        let pipeline = world.create_pipeline();
        let end_of_creation = Instant::now();
        while world.json("GET", &format!("/projects/1/pipelines/{pipeline}"), "")["status"] != "success" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        created.push(begin.elapsed().as_millis());
        queued.push(end_of_creation.elapsed().as_millis());
    }
    runner.end().await;
    println!("| A pipeline of one shell job, {PIPELINES} times | median | least | most |");
    println!("|---|---|---|---|");
    print_row("queued to success", queued);
    print_row("asked for to success", created);
}

fn print_row(title: &str, mut millis: Vec<u128>) {
    millis.sort_unstable();
    let (least, median, most) = (millis[0], millis[PIPELINES / 2], millis[PIPELINES - 1]);
    println!("| {title} | {median} ms | {least} ms | {most} ms |");
}
