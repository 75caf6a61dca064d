use std::{path::Path, sync::Mutex};

use dockwright_job::{Dependency, JobId, JobPayload, JobToken, JobUpdate, Variable};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::*;
use crate::coordinator::{ArtifactUpload, JobSignals};

/// Keeps what it is sent, after refusing the first so many requests.
#[derive(Default)]
struct Recorder {
    received: Mutex<Vec<u8>>,
    unreachable_for: Mutex<u32>,
    /// How often there is no room for a piece; once it is through, there is again.
    full_for: Mutex<u32>,
}

impl Coordinator for Recorder {
    fn request_job(&self) -> BoxFuture<'_, Result<Option<JobPayload>, CoordinatorError>> {
        async { Ok(None) }.boxed()
    }

    fn update_job(&self, _job: JobId, _update: JobUpdate) -> BoxFuture<'_, Result<(), CoordinatorError>> {
        async { Ok(()) }.boxed()
    }

    fn append_trace<'a>(&'a self, _job: &'a JobAccess, offset: u64, bytes: Bytes) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async move {
            let mut left = self.unreachable_for.lock().expect("not poisoned");
            if *left > 0 {
                *left -= 1;
                return Err(CoordinatorError::Unreachable { source: "down".into() });
            }
            let mut left = self.full_for.lock().expect("not poisoned");
            if *left > 0 {
                *left -= 1;
                return Err(CoordinatorError::File { path: "/spool".into(), source: io::ErrorKind::StorageFull.into() });
            }
            let mut received = self.received.lock().expect("not poisoned");
            assert_eq!(offset, received.len() as u64, "pieces follow each other");
            received.extend_from_slice(&bytes);
            Ok(())
        }
        .boxed()
    }

    fn upload_artifacts<'a>(&'a self, _job: &'a JobAccess, _upload: ArtifactUpload) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async { Ok(()) }.boxed()
    }

    fn download_artifacts<'a>(&'a self, _dependency: &'a Dependency, _to: &'a Path) -> BoxFuture<'a, Result<(), CoordinatorError>> {
        async { Ok(()) }.boxed()
    }

    fn signals(&self, _job: JobId) -> JobSignals {
        JobSignals::default()
    }
}

fn start(recorder: &Arc<Recorder>, limit_bytes: u64) -> (Trace, JoinHandle<Result<TraceChecksum, CoordinatorError>>) {
    start_with(recorder, limit_bytes, &CancellationToken::new())
}

fn start_with(
    recorder: &Arc<Recorder>,
    limit_bytes: u64,
    lost: &CancellationToken,
) -> (Trace, JoinHandle<Result<TraceChecksum, CoordinatorError>>) {
    let coordinator: Arc<dyn Coordinator> = Arc::<Recorder>::clone(recorder);
    let options = TraceOptions {
        coordinator,
        access: JobAccess { id: JobId(1), token: JobToken::new("job-token") },
        timestamps: false,
        sections: true,
        limit_bytes,
        interval: Duration::ZERO,
        retry_delay: Duration::from_millis(1),
        lost: lost.clone(),
    };
    let secret = Variable { key: "S".to_owned(), value: "tulip".to_owned(), masked: true, ..Variable::default() };
    Trace::start(options, &JobVariables::new(vec![secret]), &["rosebud"], &[])
}

async fn text(recorder: &Recorder, delivered: JoinHandle<Result<TraceChecksum, CoordinatorError>>) -> String {
    let checksum = delivered.await.expect("the task ends").expect("the trace is delivered");
    let received = recorder.received.lock().expect("not poisoned").clone();
    assert_eq!(checksum.bytesize, Some(received.len() as u64));
    assert_eq!(checksum.checksum, Some(format!("crc32:{:08x}", crc32fast::hash(&received))));
    String::from_utf8(received).expect("text")
}

#[tokio::test]
async fn secrets_of_both_streams_are_masked_and_a_cut_end_is_shown_with_its_phase() {
    let recorder = Arc::<Recorder>::default();
    let (trace, delivered) = start(&recorder, 1000);
    trace.write(Stream::Stdout, "a rosebud tu").await;
    trace.write(Stream::Stderr, "b tulip\n").await;
    trace.write(Stream::Stdout, "lip job-token tul").await;
    trace.end_section(&Phase::AfterScript).await;
    trace.finish().await;
    let text = text(&recorder, delivered).await;
    assert!(text.starts_with("a [MASKED] b [MASKED]\n[MASKED] [MASKED] tulsection_end:"), "{text}");
}

#[tokio::test]
async fn an_unreachable_coordinator_gets_everything_later() {
    let recorder = Arc::<Recorder>::default();
    *recorder.unreachable_for.lock().expect("not poisoned") = 4;
    let (trace, delivered) = start(&recorder, 10_000_000);
    let line = "x".repeat(99_999) + "\n";
    for _ in 0..30 {
        trace.write(Stream::Stdout, line.clone()).await;
    }
    trace.finish().await;
    assert_eq!(text(&recorder, delivered).await.len(), 3_000_000);
}

#[tokio::test]
async fn a_long_trace_is_cut_between_characters() {
    let recorder = Arc::<Recorder>::default();
    let (trace, delivered) = start(&recorder, 4);
    trace.write(Stream::Stdout, "abcé and more").await;
    trace.write(Stream::Stdout, "even more").await;
    trace.finish().await;
    let text = text(&recorder, delivered).await;
    assert!(text.starts_with("abc\n\u{1b}[33;1mJob's log exceeded limit of 4 bytes.\n"), "{text}");
    assert!(!text.contains("more\n") && !text.contains("even more"), "{text}");
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_moment_costs_nothing() {
    let recorder = Arc::<Recorder>::default();
    *recorder.full_for.lock().expect("not poisoned") = STORE_ATTEMPTS - 1;
    let (trace, delivered) = start(&recorder, 1000);
    trace.write(Stream::Stdout, "everything").await;
    trace.finish().await;
    assert_eq!(text(&recorder, delivered).await, "everything");
}

#[tokio::test]
async fn a_disk_that_stays_full_ends_the_job_with_the_runners_last_words() {
    let recorder = Arc::<Recorder>::default();
    let lost = CancellationToken::new();
    let (trace, delivered) = start_with(&recorder, 1000, &lost);
    trace.write(Stream::Stdout, "kept ").await;
    while recorder.received.lock().expect("not poisoned").is_empty() {
        tokio::task::yield_now().await;
    }
    *recorder.full_for.lock().expect("not poisoned") = STORE_ATTEMPTS;
    trace.write(Stream::Stdout, "no room").await;
    lost.cancelled().await;
    trace.write(Stream::Stdout, "too late").await;
    trace.write(Stream::Runner, "the end").await;
    trace.finish().await;
    let error = delivered.await.expect("the task ends").expect_err("the trace is not whole");
    assert!(matches!(error, CoordinatorError::File { .. }), "{error:?}");
    assert_eq!(*recorder.received.lock().expect("not poisoned"), b"kept the end");
}
