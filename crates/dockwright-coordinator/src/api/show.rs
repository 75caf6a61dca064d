//! Records in GitLab's fields.

use serde_json::{Value, json};

use crate::{
    event::JobStatus,
    server::{ArtifactRecord, JobRecord, PipelineRecord, ProjectRecord, RunnerRecord, Server, ServerError, seconds_since},
};

pub(super) fn project_json(project: &ProjectRecord) -> Value {
    json!({
        "id": project.id,
        "name": project.path.rsplit('/').next(),
        "path_with_namespace": project.path,
        "repository": project.repository,
        "created_at": project.created_at,
    })
}

pub(super) fn pipeline_json(pipeline: &PipelineRecord) -> Value {
    json!({
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project_id,
        "sha": pipeline.sha,
        "ref": pipeline.ref_name,
        "tag": pipeline.is_tag,
        "before_sha": pipeline.before_sha,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": pipeline.created_at,
        "finished_at": pipeline.finished_at,
    })
}

pub(super) fn runner_json(runner: &RunnerRecord) -> Value {
    json!({
        "id": runner.id,
        "description": runner.description,
        "tag_list": runner.tags,
        "run_untagged": runner.run_untagged,
        "locked": runner.locked,
        "paused": runner.paused,
        "access_level": if runner.ref_protected { "ref_protected" } else { "not_protected" },
        "contacted_at": runner.contacted_at,
    })
}

/// A job with `trigger`, as `/bridges` shows it.
pub(super) fn bridge_json(server: &Server, job: &JobRecord, pipeline: &PipelineRecord) -> Result<Value, ServerError> {
    let mut shown = job_json(server, job, pipeline)?;
    shown["downstream_pipeline"] = server.downstream_of(job.id)?.as_ref().map_or(Value::Null, pipeline_json);
    Ok(shown)
}

/// A job that no runner has confirmed yet still waits, and one that is being stopped is called so.
pub(super) fn shown_status(job: &JobRecord) -> &'static str {
    match job.status {
        JobStatus::Running if job.is_canceling => "canceling",
        JobStatus::Running if !job.is_acknowledged => JobStatus::Pending.as_str(),
        status => status.as_str(),
    }
}

pub(super) fn job_json(server: &Server, job: &JobRecord, pipeline: &PipelineRecord) -> Result<Value, ServerError> {
    let artifacts = server.artifacts(job.id)?;
    let artifact = |artifact: &ArtifactRecord| json!({ "file_type": artifact.kind, "size": artifact.size, "filename": artifact.filename, "file_format": artifact.format });
    let archive = artifacts.iter().find(|artifact| artifact.kind == "archive");
    let seconds = |from: &Option<String>, to: &Option<String>| {
        let from = from.as_deref().map(seconds_since)?;
        Some(from - to.as_deref().map_or(0.0, seconds_since)).filter(|seconds| *seconds >= 0.0)
    };
    Ok(json!({
        "id": job.id,
        "name": job.name,
        "stage": job.stage,
        "status": shown_status(job),
        "ref": pipeline.ref_name,
        "tag": pipeline.is_tag,
        "allow_failure": job.is_allowed_to_fail,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "duration": seconds(&job.started_at, &job.finished_at),
        "queued_duration": seconds(&job.queued_at, &job.started_at),
        "failure_reason": job.failure_reason,
        "exit_code": job.exit_code,
        "tag_list": job.tags,
        "commit": { "id": pipeline.sha },
        "pipeline": pipeline_json(pipeline),
        "runner": job.runner_id.map(|id| json!({ "id": id })),
        "artifacts": artifacts.iter().map(artifact).collect::<Vec<_>>(),
        "artifacts_expire_at": artifacts.iter().find_map(|artifact| artifact.expires_at.as_deref()),
        "artifacts_file": archive.map(|archive| json!({ "filename": archive.filename, "size": archive.size })),
    }))
}
