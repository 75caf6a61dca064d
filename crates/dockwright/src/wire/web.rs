//! Included files from the web, as GitLab fetches them: without credentials, three attempts, a few seconds each.

use std::{error::Error, time::Duration};

use dockwright_coordinator::{Web, WebError};

const MAX_ATTEMPTS: u32 = 3;
/// For one attempt, from the connection to the last byte.
const TIMEOUT_SECS: u64 = 30;
/// Largest file that is taken; a configuration file may hold 2 MiB.
const FILE_SIZE_BYTES: usize = 4 * 1024 * 1024;

/// The web, through the HTTP client of the registry.
#[derive(Debug)]
pub(crate) struct WebClient;

/// Why an attempt failed.
enum Attempt {
    Status(u16),
    Failed(String),
}

impl Web for WebClient {
    /// A thread of its own waits for the answer: the caller may or may not run in an async runtime.
    fn get(&self, url: &str) -> Result<Vec<u8>, WebError> {
        let failed = |reason: String| WebError::Failed { reason, attempts: 1 };
        std::thread::scope(|scope| {
            let fetch = scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
                runtime.block_on(get_with_retries(url))
            });
            fetch.join().unwrap_or_else(|_| Err(failed("the fetching thread panicked".to_owned())))
        })
    }
}

async fn get_with_retries(url: &str) -> Result<Vec<u8>, WebError> {
    let mut attempts = 0;
    loop {
        let outcome = get_once(url).await;
        attempts += 1;
        let may_help = match &outcome {
            Ok(_) => false,
            Err(Attempt::Status(code)) => *code >= 500,
            Err(Attempt::Failed(_)) => true,
        };
        if may_help && attempts < MAX_ATTEMPTS {
            tokio::time::sleep(Duration::from_secs(1 << (attempts - 1))).await;
            continue;
        }
        return outcome.map_err(|failure| match failure {
            Attempt::Status(code) => WebError::Status { code, attempts },
            Attempt::Failed(reason) => WebError::Failed { reason, attempts },
        });
    }
}

async fn get_once(url: &str) -> Result<Vec<u8>, Attempt> {
    let client = dockwright_registry::client::web_client().map_err(|error| Attempt::Failed(innermost(&error)))?;
    let answer = client.get(url).timeout(Duration::from_secs(TIMEOUT_SECS)).send().await;
    let mut answer = answer.map_err(|error| Attempt::Failed(innermost(&error)))?;
    if !answer.status().is_success() {
        return Err(Attempt::Status(answer.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Attempt::Failed(innermost(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > FILE_SIZE_BYTES {
            return Err(Attempt::Failed(format!("it is larger than {FILE_SIZE_BYTES} bytes")));
        }
    }
    Ok(bytes)
}

/// The innermost cause says what happened ("connection refused"), the outer ones that something did.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
