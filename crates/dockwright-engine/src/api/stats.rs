//! `GET /containers/{id}/stats`: what a container uses, each second.

use std::{sync::Arc, time::Duration};

use dockwright_container::spawner::Usage;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Engine,
    api::{Request, Response, stream},
    container::Container,
    error::Result,
    time,
};

const PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn stats(request: Request) -> Result<Response> {
    let container = request.engine.containers().find(request.param("id"))?;
    let engine = request.engine.clone();
    let first = Sample::take(&engine, &container).await;
    if !request.query.bool_or("stream", true) {
        if request.query.bool("one-shot") {
            return Ok(stream::ok(&shown(&container, &Sample::default(), &first)));
        }
        // The processor's share is a difference, so two samples are needed.
        tokio::time::sleep(PERIOD).await;
        let second = Sample::take(&engine, &container).await;
        return Ok(stream::ok(&shown(&container, &first, &second)));
    }
    let (sender, response) = stream::channel("application/json");
    tokio::spawn(async move {
        let mut before = first;
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = Sample::take(&engine, &container).await;
            if sender.send_json(&shown(&container, &before, &now)).await.is_err() || container.watch().borrow().removed {
                return;
            }
            before = now;
        }
    });
    Ok(response)
}

#[derive(Debug, Default)]
struct Sample {
    read: Option<Timestamp>,
    usage: Usage,
    system_ns: u64,
}

impl Sample {
    async fn take(engine: &Engine, container: &Arc<Container>) -> Self {
        let id = container.id.clone();
        // A container that does not run uses nothing.
        let usage = engine.sandbox().ask(move |spawner| spawner.usage(&id)).await.unwrap_or_default();
        Self { read: Some(Timestamp::now()), usage, system_ns: system_ns() }
    }
}

/// Returns the processor time of the whole machine.
fn system_ns() -> u64 {
    const NS_PER_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let total: u64 =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).filter_map(|word| word.parse::<u64>().ok()).sum();
    total * NS_PER_TICK
}

fn shown(container: &Container, before: &Sample, now: &Sample) -> Value {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = |sample: &Sample| {
        json!({
            "cpu_usage": { "total_usage": sample.usage.cpu_ns, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "system_cpu_usage": sample.system_ns,
            "online_cpus": cpus,
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        })
    };
    json!({
        "name": format!("/{}", container.name()),
        "id": container.id,
        "read": time::or_never(now.read),
        "preread": time::or_never(before.read),
        "pids_stats": { "current": now.usage.pids },
        "blkio_stats": { "io_service_bytes_recursive": null },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before),
        "memory_stats": { "usage": now.usage.memory_bytes, "limit": now.usage.memory_limit_bytes, "stats": {} },
        "networks": {},
    })
}
