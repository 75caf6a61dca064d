//! What a job says of how its artifacts came to be: SLSA's provenance, with the fields of GitLab Runner's `PROVENANCE.md`.

use serde_json::{Map, Value, json};
use url::Url;

use crate::executor::ExecutorContext;

/// Returns an in-toto statement without its subjects. Variables are named; their values, which may be secret, are left out.
pub(super) fn body(context: &ExecutorContext, executor: &str) -> Value {
    let (payload, config, variables) = (&context.payload, &context.config, &context.variables);
    let source = without_credentials(&payload.git_info.repo_url);
    let mut external: Map<String, Value> = variables.iter().map(|variable| (variable.key.clone(), json!(""))).collect();
    external.insert("entryPoint".to_owned(), json!(payload.job_info.name));
    external.insert("source".to_owned(), json!(source));
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let started = Some(variables.text("CI_JOB_STARTED_AT")).filter(|text| !text.is_empty()).unwrap_or(&now);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/PROVENANCE.md",
                "externalParameters": external,
                "internalParameters": {
                    "name": config.name,
                    "executor": executor,
                    "architecture": std::env::consts::ARCH,
                    "job": payload.id.to_string(),
                },
                "resolvedDependencies": [{ "uri": source, "digest": { "gitCommit": payload.git_info.sha } }],
            },
            "runDetails": {
                "builder": {
                    "id": format!("{source}/-/runners/{}", variables.text("CI_RUNNER_ID")),
                    "version": { "dockwright": config.version },
                },
                "metadata": { "invocationId": payload.id.to_string(), "startedOn": started, "finishedOn": now },
            },
        },
    })
}

/// Job tokens come in the address of the repository.
fn without_credentials(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return address.to_owned() };
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return address.to_owned();
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stay_out() {
        assert_eq!(without_credentials("https://gitlab-ci-token:glcbt-1@host/a/b.git"), "https://host/a/b.git");
        assert_eq!(without_credentials("/srv/repository"), "/srv/repository");
    }
}
