//! How soon a queued job has run, with a coordinator, a runner and HTTP between them. Run it with `cargo xtask bench coordinator`.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[expect(dead_code, reason = "the tests of the coordinator need more of it")]
#[path = "../tests/coordinator/world.rs"]
mod world;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use world::World;

const PIPELINES: usize = 20;
const JOBS: usize = 500;
const SLOTS: usize = 8;
/// So that the runner waits for a job again before the next one comes.
const PAUSE: Duration = Duration::from_millis(150);

fn main() {
    tokio::runtime::Runtime::new().expect("tokio runtime").block_on(async {
        measure().await;
        measure_many().await;
    });
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

/// Every job leaves a line: one that is missing was lost, two mean that it ran twice.
async fn measure_many() {
    let mut config = String::new();
    for number in 0..JOBS {
        writeln!(config, "job-{number}: {{script: 'echo ran >> $MARKS/$CI_JOB_NAME'}}").expect("writing to a string");
    }
    let world = World::new(&config);
    let marks = world.root.path().join("marks");
    std::fs::create_dir(&marks).expect("a directory");
    let body = format!(r#"{{"ref":"main","variables":[{{"key":"MARKS","value":"{}"}}]}}"#, marks.display());
    let pipeline = world.json("POST", "/projects/1/pipeline", &body)["id"].as_u64().expect("a number");
    let begin = Instant::now();
    let runner = world.runner("", SLOTS).await;
    while world.json("GET", &format!("/projects/1/pipelines/{pipeline}"), "")["finished_at"].is_null() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = begin.elapsed();
    runner.end().await;
    let runs = |number: usize| std::fs::read_to_string(marks.join(format!("job-{number}"))).map_or(0, |text| text.lines().count());
    let lost = (0..JOBS).filter(|number| runs(*number) == 0).count();
    let twice = (0..JOBS).filter(|number| runs(*number) > 1).count();
    println!();
    println!("| {JOBS} queued shell jobs, {SLOTS} at once | lost | twice | seconds | ms a job and slot |");
    println!("|---|---|---|---|---|");
    let each = took.as_millis() * SLOTS as u128 / JOBS as u128;
    println!("| all of them | {lost} | {twice} | {:.1} | {each} |", took.as_secs_f64());
}

fn print_row(title: &str, mut millis: Vec<u128>) {
    millis.sort_unstable();
    let (least, median, most) = (millis[0], millis[PIPELINES / 2], millis[PIPELINES - 1]);
    println!("| {title} | {median} ms | {least} ms | {most} ms |");
}
