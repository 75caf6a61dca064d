//! Projects, pipelines, jobs and runners for people and their programs, close to GitLab's paths and fields.

use dockwright_job::JobId;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, header_text, personal_token,
    respond::{self, Failure, Response, json_body},
};
use crate::{
    event::JobStatus,
    predefined::GivenVariable,
    server::{
        ArtifactRecord, JobRecord, NewPipeline, NewRunner, PipelineRecord, ProjectRecord, Push, RunnerRecord, Server, ServerError,
        seconds_since,
    },
};

#[derive(Deserialize)]
struct ProjectBody {
    path: String,
    repository: std::path::PathBuf,
}

#[derive(Deserialize)]
struct PipelineBody {
    #[serde(rename = "ref")]
    ref_name: String,
    #[serde(default)]
    variables: Vec<VariableBody>,
}

#[derive(Deserialize)]
struct VariableBody {
    key: String,
    value: String,
    #[serde(default)]
    variable_type: String,
}

#[derive(Deserialize)]
struct PushBody {
    before: String,
    after: String,
    #[serde(rename = "ref")]
    full_ref: String,
}

#[derive(Deserialize)]
#[serde(default)]
struct RunnerBody {
    description: String,
    tag_list: Value,
    run_untagged: bool,
    locked: bool,
    paused: bool,
    access_level: String,
}

impl Default for RunnerBody {
    fn default() -> Self {
        let text = String::new;
        Self { description: text(), tag_list: Value::Null, run_untagged: true, locked: false, paused: false, access_level: text() }
    }
}

/// The query of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        Self(url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// `scope=a` and `scope[]=a&scope[]=b`.
    fn scopes(&self) -> Vec<String> {
        self.0.iter().filter(|(key, _)| matches!(key.as_str(), "scope" | "scope[]")).map(|(_, value)| value.clone()).collect()
    }
}

impl Api {
    pub(super) async fn rest(&self, parts: &[&str], request: Request<Incoming>) -> Result<Response, Failure> {
        let method = request.method().clone();
        if !self.may(&method, parts, request.headers()).await? {
            return Err(Failure::plain(StatusCode::UNAUTHORIZED));
        }
        match (&method, parts) {
            (&Method::GET, ["version"]) => Ok(ok(&json!({ "version": env!("CARGO_PKG_VERSION"), "revision": "dockwright" }))),
            (&Method::GET, ["projects"]) => self.show(|server| Ok(server.projects()?.iter().map(project_json).collect())).await,
            (&Method::POST, ["projects"]) => self.add_project(request).await,
            (_, ["projects", project, rest @ ..]) => {
                let key = (*project).to_owned();
                let project = self.blocking(move |server| server.project(&key)).await?;
                self.of_project(project, &method, rest, request).await
            }
            (&Method::GET, ["runners"] | ["runners", "all"]) => {
                self.show(|server| Ok(server.runners()?.iter().map(runner_json).collect())).await
            }
            (&Method::POST, ["user", "runners"]) => self.create_runner(request).await,
            (&Method::DELETE, ["runners", id]) => {
                let id = number(id)?;
                self.blocking(move |server| server.delete_runner(id)).await?;
                Ok(respond::empty(StatusCode::NO_CONTENT))
            }
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    /// The personal token may everything; a job's token may read artifacts of its project.
    async fn may(&self, method: &Method, parts: &[&str], headers: &HeaderMap) -> Result<bool, Failure> {
        if self.server.is_personal_token(personal_token(headers)) {
            return Ok(true);
        }
        let ["projects", _, "jobs", job, "artifacts"] = parts else { return Ok(false) };
        let (job, token) = (JobId(number(job)?), header_text(headers, "job-token").to_owned());
        if *method != Method::GET || token.is_empty() {
            return Ok(false);
        }
        Ok(self.blocking(move |server| server.may_read_artifacts(job, &token)).await?)
    }

    async fn show(&self, make: impl FnOnce(&Server) -> Result<Value, ServerError> + Send + 'static) -> Result<Response, Failure> {
        Ok(ok(&self.blocking(make).await?))
    }

    async fn of_project(
        &self,
        project: ProjectRecord,
        method: &Method,
        rest: &[&str],
        request: Request<Incoming>,
    ) -> Result<Response, Failure> {
        match (method, rest) {
            (&Method::GET, []) => Ok(ok(&project_json(&project))),
            (&Method::POST, ["pipeline"]) => self.create_pipeline(project, request).await,
            (&Method::POST, ["push"]) => self.push(project, request).await,
            (&Method::GET, ["pipelines"]) => self.list_pipelines(project, &request).await,
            (_, ["pipelines", id, rest @ ..]) => self.of_pipeline(project, number(id)?, method, rest, &request).await,
            (&Method::GET, ["jobs"]) => {
                let scopes = Query::of(&request).scopes();
                self.show(move |server| jobs_json(server, server.project_jobs(project.id)?, &scopes)).await
            }
            (_, ["jobs", id, rest @ ..]) => self.of_job(project, JobId(number(id)?), method, rest).await,
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    async fn add_project(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let body: ProjectBody = json_body(request).await?;
        let project = self.blocking(move |server| server.add_project(&body.path, &body.repository)).await?;
        Ok(respond::json(StatusCode::CREATED, &project_json(&project)))
    }

    async fn create_pipeline(&self, project: ProjectRecord, request: Request<Incoming>) -> Result<Response, Failure> {
        let query_ref = Query::of(&request).get("ref").map(str::to_owned);
        let body: PipelineBody = match query_ref {
            Some(ref_name) => PipelineBody { ref_name, variables: Vec::new() },
            None => json_body(request).await?,
        };
        let variables = body.variables.into_iter().map(|given| GivenVariable {
            file: given.variable_type == "file",
            key: given.key,
            value: given.value,
            masked: false,
        });
        let new = NewPipeline { ref_name: body.ref_name, source: "api".to_owned(), variables: variables.collect(), before_sha: None };
        let pipeline = self.blocking(move |server| server.create_pipeline(&project, &new)).await?;
        Ok(respond::json(StatusCode::CREATED, &pipeline_json(&pipeline)))
    }

    async fn push(&self, project: ProjectRecord, request: Request<Incoming>) -> Result<Response, Failure> {
        let body: PushBody = json_body(request).await?;
        let push = Push { before: body.before, after: body.after, full_ref: body.full_ref };
        match self.blocking(move |server| server.push(&project, &push)).await? {
            Some(pipeline) => Ok(respond::json(StatusCode::CREATED, &pipeline_json(&pipeline))),
            None => Ok(respond::empty(StatusCode::NO_CONTENT)),
        }
    }

    async fn list_pipelines(&self, project: ProjectRecord, request: &Request<Incoming>) -> Result<Response, Failure> {
        let query = Query::of(request);
        self.show(move |server| {
            let list = server.pipelines(project.id, query.get("ref"), query.get("status"))?;
            Ok(list.iter().map(pipeline_json).collect())
        })
        .await
    }

    async fn of_pipeline(
        &self,
        project: ProjectRecord,
        id: u64,
        method: &Method,
        rest: &[&str],
        request: &Request<Incoming>,
    ) -> Result<Response, Failure> {
        let query = Query::of(request);
        let project_id = project.id;
        let show = move |server: &Server| Ok(pipeline_json(&server.pipeline(project_id, id)?));
        self.blocking(move |server| server.pipeline(project_id, id)).await?;
        match (method, rest) {
            (&Method::GET, []) => self.show(show).await,
            (&Method::GET, ["jobs"]) => {
                let with_retried = query.get("include_retried") == Some("true");
                self.show(move |server| jobs_json(server, server.pipeline_jobs(id, with_retried)?, &query.scopes())).await
            }
            (&Method::POST, ["cancel"]) => {
                let canceled = self.blocking(move |server| server.cancel_pipeline(id).and_then(|()| show(server)));
                Ok(ok(&canceled.await?))
            }
            (&Method::POST, ["retry"]) => {
                let retried = self.blocking(move |server| server.retry_pipeline(id).and_then(|()| show(server)));
                Ok(respond::json(StatusCode::CREATED, &retried.await?))
            }
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    async fn of_job(&self, project: ProjectRecord, id: JobId, method: &Method, rest: &[&str]) -> Result<Response, Failure> {
        let (job, _) = self.blocking(move |server| server.project_job(project.id, id)).await?;
        let act = async |act: fn(&Server, &JobRecord) -> Result<JobRecord, ServerError>, status| {
            let acted = self.blocking(move |server| {
                let job = act(server, &job)?;
                let (job, pipeline) = server.project_job(project.id, job.id)?;
                job_json(server, &job, &pipeline)
            });
            Ok(respond::json(status, &acted.await?))
        };
        match (method, rest) {
            (&Method::GET, []) => act(|_, job| Ok(job.clone()), StatusCode::OK).await,
            (&Method::GET, ["trace"]) => Ok(respond::file("text/plain", &self.server.trace_path(id)).await?),
            (&Method::GET, ["artifacts"]) => {
                let (_, path) = self.blocking(move |server| server.archive(id)).await?;
                Ok(respond::file("application/zip", &path).await?)
            }
            (&Method::POST, ["artifacts", "keep"]) => act(Server::keep_artifacts, StatusCode::OK).await,
            (&Method::POST, ["cancel"]) => act(Server::cancel_job, StatusCode::CREATED).await,
            (&Method::POST, ["retry"]) => act(Server::retry_job, StatusCode::CREATED).await,
            (&Method::POST, ["play"]) => act(Server::play_job, StatusCode::OK).await,
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    async fn create_runner(&self, request: Request<Incoming>) -> Result<Response, Failure> {
        let body: RunnerBody = json_body(request).await?;
        let tags = match &body.tag_list {
            Value::String(list) => NewRunner::tags(list),
            Value::Array(list) => list.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let new = NewRunner {
            description: body.description,
            tags,
            run_untagged: body.run_untagged,
            locked: body.locked,
            paused: body.paused,
            ref_protected: body.access_level == "ref_protected",
        };
        let runner = self.blocking(move |server| server.create_runner(&new)).await?;
        Ok(respond::json(StatusCode::CREATED, &runner))
    }
}

fn ok(value: &Value) -> Response {
    respond::json(StatusCode::OK, value)
}

fn number(text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::plain(StatusCode::NOT_FOUND))
}

fn project_json(project: &ProjectRecord) -> Value {
    json!({
        "id": project.id,
        "name": project.path.rsplit('/').next(),
        "path_with_namespace": project.path,
        "repository": project.repository,
        "created_at": project.created_at,
    })
}

fn pipeline_json(pipeline: &PipelineRecord) -> Value {
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

fn runner_json(runner: &RunnerRecord) -> Value {
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

fn jobs_json(server: &Server, jobs: Vec<JobRecord>, scopes: &[String]) -> Result<Value, ServerError> {
    let wanted = jobs.into_iter().filter(|job| scopes.is_empty() || scopes.iter().any(|scope| scope == shown_status(job)));
    wanted.map(|job| job_json(server, &job, &server.pipeline_of(&job)?)).collect()
}

/// A job that no runner has confirmed yet still waits, and one that is being stopped is called so.
fn shown_status(job: &JobRecord) -> &'static str {
    match job.status {
        JobStatus::Running if job.is_canceling => "canceling",
        JobStatus::Running if !job.is_acknowledged => JobStatus::Pending.as_str(),
        status => status.as_str(),
    }
}

fn job_json(server: &Server, job: &JobRecord, pipeline: &PipelineRecord) -> Result<Value, ServerError> {
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
