//! Making a job's images available: pull policies and credentials.

use bollard::{Docker, errors::Error, models::ImageInspect, query_parameters::CreateImageOptionsBuilder};
use dockwright_job::Image;
use futures_util::StreamExt as _;

use super::{auth::Keyring, image_name::with_tag};
use crate::{
    config::PullPolicy,
    executor::{ExecuteError, PullFailure},
    outcome::chain,
    trace::Trace,
};

/// Finds and pulls images for one job.
pub(super) struct ImageSource<'a> {
    pub(super) docker: &'a Docker,
    pub(super) keyring: &'a Keyring,
    pub(super) default_policies: &'a [PullPolicy],
    /// None allows all.
    pub(super) allowed_policies: &'a [PullPolicy],
    pub(super) trace: &'a Trace,
}

impl ImageSource<'_> {
    /// Returns an image that is on the engine, pulled if its policies want that. `name` is the image's name with variables expanded.
    pub(super) async fn provide(&self, name: &str, image: &Image) -> Result<ImageInspect, ExecuteError> {
        let policies = self.policies(name, image)?;
        let words = words(&policies);
        let platform = image.executor_opts.docker.platform.as_deref().unwrap_or_default();
        self.trace.line(format!("Using effective pull policy of [{words}] for container {name}")).await;
        let mut last = None;
        for (index, &policy) in policies.iter().enumerate() {
            if index > 0 {
                self.trace.line(format!("Attempt #{}: Trying \"{}\" pull policy", index + 1, policy.as_str())).await;
            }
            match self.provide_by(policy, name, platform).await {
                Ok(found) => {
                    self.say_found(name, &found).await;
                    return Ok(found);
                }
                Err(error) => {
                    let text = chain(&error);
                    self.trace.warning(format!("Failed to pull image with policy \"{}\": {text}", policy.as_str())).await;
                    last = Some(text);
                }
            }
        }
        let reason = last.unwrap_or_default();
        Err(ExecuteError::PullImage { image: name.to_owned(), policies: words, failure: classify(&reason), reason })
    }

    fn policies(&self, name: &str, image: &Image) -> Result<Vec<PullPolicy>, ExecuteError> {
        let wanted: Result<Vec<PullPolicy>, ExecuteError> = image
            .pull_policy
            .iter()
            .map(|word| PullPolicy::parse(word).ok_or_else(|| ExecuteError::PullPolicy { image: name.to_owned(), policy: word.clone() }))
            .collect();
        let (wanted, origin) = match (wanted?, self.default_policies) {
            (wanted, _) if !wanted.is_empty() => (wanted, "GitLab pipeline config"),
            (_, []) => (vec![PullPolicy::Always], "Runner config (default)"),
            (_, policies) => (policies.to_vec(), "Runner config"),
        };
        let is_allowed = |policy: &PullPolicy| self.allowed_policies.is_empty() || self.allowed_policies.contains(policy);
        let policies: Vec<PullPolicy> = wanted.iter().copied().filter(is_allowed).collect();
        if policies.is_empty() {
            let (wanted, allowed) = (words(&wanted), words(self.allowed_policies));
            return Err(ExecuteError::DisallowedPullPolicy { image: name.to_owned(), wanted, origin, allowed });
        }
        Ok(policies)
    }

    async fn provide_by(&self, policy: PullPolicy, name: &str, platform: &str) -> Result<ImageInspect, Error> {
        match policy {
            PullPolicy::Never => self.docker.inspect_image(name).await,
            PullPolicy::Always => self.pull(name, platform).await,
            PullPolicy::IfNotPresent => match self.docker.inspect_image(name).await {
                Ok(found) => {
                    self.trace.line("Using locally found image version due to \"if-not-present\" pull policy").await;
                    Ok(found)
                }
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => self.pull(name, platform).await,
                Err(error) => Err(error),
            },
        }
    }

    async fn pull(&self, name: &str, platform: &str) -> Result<ImageInspect, Error> {
        let (found, problems) = self.keyring.find(name).await;
        for problem in problems {
            self.trace.warning(problem.to_string()).await;
        }
        if let Some(found) = &found {
            self.trace.line(format!("Authenticating with credentials from {}", found.source)).await;
        }
        let for_platform = if platform.is_empty() { String::new() } else { format!(" for platform {platform}") };
        self.trace.line(format!("Pulling docker image {name}{for_platform} ...")).await;
        let full_name = with_tag(name);
        let mut options = CreateImageOptionsBuilder::new().from_image(&full_name);
        if !platform.is_empty() {
            options = options.platform(platform);
        }
        let mut progress = self.docker.create_image(Some(options.build()), None, found.map(|found| found.credentials)).boxed();
        while let Some(step) = progress.next().await {
            step?;
        }
        self.docker.inspect_image(name).await
    }

    async fn say_found(&self, name: &str, found: &ImageInspect) {
        let id = found.id.as_deref().unwrap_or_default();
        let digest = found.repo_digests.as_ref().and_then(|digests| digests.first());
        let with_digest = digest.map(|digest| format!(" with digest {digest}")).unwrap_or_default();
        self.trace.line(format!("Using docker image {id} for {name}{with_digest} ...")).await;
    }
}

fn words(policies: &[PullPolicy]) -> String {
    policies.iter().map(|policy| policy.as_str()).collect::<Vec<_>>().join(" ")
}

/// Sorts an engine's message. Registries and engines word them differently, so this looks for the words that they share.
fn classify(message: &str) -> PullFailure {
    const UNREACHABLE: [&str; 8] = [
        "dial tcp",
        "connection refused",
        "no such host",
        "i/o timeout",
        "tls handshake",
        "client.timeout exceeded",
        "request canceled",
        "connection reset",
    ];
    const REFUSED: [&str; 9] = [
        "not found",
        "no such image",
        "invalid reference format",
        "manifest unknown",
        "no basic auth credentials",
        "unauthorized",
        "authentication required",
        "access denied",
        "denied:",
    ];
    let message = message.to_ascii_lowercase();
    let contains = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if contains(&UNREACHABLE) {
        PullFailure::Unreachable
    } else if contains(&REFUSED) {
        PullFailure::Refused
    } else {
        PullFailure::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sorted() {
        for (message, expected) in [
            ("Get https://reg/v2/: dial tcp: lookup reg: no such host", PullFailure::Unreachable),
            ("manifest for busybox:9 not found: manifest unknown", PullFailure::Refused),
            ("pull access denied for x, repository does not exist", PullFailure::Refused),
            ("no space left on device", PullFailure::Other),
        ] {
            assert_eq!(classify(message), expected, "{message}");
        }
    }
}
