//! Projects, pipelines, jobs and runners for people and their programs, close to GitLab's paths and fields.

use dockwright_job::JobId;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, header_text, personal_token,
    query::{Page, Query},
    respond::{self, Failure, Response, json_body},
    show::{bridge_json, job_json, pipeline_json, project_json, runner_json, shown_status},
};
use crate::{
    predefined::GivenVariable,
    server::{JobRecord, NewPipeline, NewRunner, PipelineFilter, PipelineRecord, ProjectRecord, Push, Server, ServerError},
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

impl Api {
    pub(super) async fn rest(&self, parts: &[&str], request: Request<Incoming>) -> Result<Response, Failure> {
        let method = request.method().clone();
        if !self.may(&method, parts, request.headers()).await? {
            return Err(Failure::plain(StatusCode::UNAUTHORIZED));
        }
        match (&method, parts) {
            (&Method::GET, ["version"]) => Ok(ok(&json!({ "version": env!("CARGO_PKG_VERSION"), "revision": "dockwright" }))),
            (&Method::GET, ["projects"]) => self.list(&request, Server::projects, |_, project| Ok(project_json(project))).await,
            (&Method::POST, ["projects"]) => self.add_project(request).await,
            (_, ["projects", project, rest @ ..]) => {
                let key = (*project).to_owned();
                let project = self.blocking(move |server| server.project(&key)).await?;
                self.of_project(project, &method, rest, request).await
            }
            (&Method::GET, ["runners"] | ["runners", "all"]) => {
                self.list(&request, Server::runners, |_, runner| Ok(runner_json(runner))).await
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

    /// Answers with a page of a list. Only what is on the page is rendered.
    async fn list<T: Send + 'static>(
        &self,
        request: &Request<Incoming>,
        find: impl FnOnce(&Server) -> Result<Vec<T>, ServerError> + Send + 'static,
        render: impl Fn(&Server, &T) -> Result<Value, ServerError> + Send + 'static,
    ) -> Result<Response, Failure> {
        let page = Page::of(request);
        let found = self.blocking(move |server| {
            let (list, headers) = page.cut(find(server)?, &server.options().url);
            Ok((list.iter().map(|item| render(server, item)).collect::<Result<Value, _>>()?, headers))
        });
        let (list, headers) = found.await?;
        let mut response = ok(&list);
        for (name, value) in headers {
            respond::set(&mut response, name, &value);
        }
        Ok(response)
    }

    /// Answers with jobs, of those states that the query asks for.
    async fn list_jobs(
        &self,
        request: &Request<Incoming>,
        find: impl FnOnce(&Server) -> Result<Vec<JobRecord>, ServerError> + Send + 'static,
        render: fn(&Server, &JobRecord, &PipelineRecord) -> Result<Value, ServerError>,
    ) -> Result<Response, Failure> {
        let scopes = Query::of(request).scopes();
        let is_wanted = move |job: &JobRecord| scopes.is_empty() || scopes.iter().any(|scope| scope == shown_status(job));
        let find = move |server: &Server| Ok(find(server)?.into_iter().filter(is_wanted).collect());
        self.list(request, find, move |server, job| render(server, job, &server.pipeline_of(job)?)).await
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
            (&Method::GET, ["pipelines", "latest"]) => {
                let ref_name = Query::of(&request).owned("ref");
                self.show(move |server| Ok(pipeline_json(&server.latest_pipeline(&project, ref_name)?))).await
            }
            (_, ["pipelines", id, rest @ ..]) => self.of_pipeline(project, number(id)?, method, rest, &request).await,
            (&Method::GET, ["jobs"]) => self.list_jobs(&request, move |server| server.project_jobs(project.id), job_json).await,
            (&Method::GET, ["jobs", "artifacts", at, "download"]) => self.archive_of_ref(project, at, &request).await,
            (&Method::GET, ["jobs", "artifacts", at, "raw", path @ ..]) => {
                let job = self.job_of_ref(&project, at, &request).await?;
                self.file_of_archive(job.id, path).await
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
        let filter = PipelineFilter {
            ref_name: query.owned("ref"),
            status: query.owned("status"),
            sha: query.owned("sha"),
            source: query.owned("source"),
        };
        let is_ascending = query.get("sort") == Some("asc");
        let is_in = scope(query.get("scope").unwrap_or_default())?;
        let find = move |server: &Server| {
            let mut list: Vec<PipelineRecord> = server.pipelines(project.id, &filter)?.into_iter().filter(is_in).collect();
            if is_ascending {
                list.reverse();
            }
            Ok(list)
        };
        self.list(request, find, |_, pipeline| Ok(pipeline_json(pipeline))).await
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
                self.list_jobs(request, move |server| server.pipeline_jobs(id, false, with_retried), job_json).await
            }
            (&Method::GET, ["bridges"]) => self.list_jobs(request, move |server| server.pipeline_jobs(id, true, false), bridge_json).await,
            (&Method::GET, ["variables"]) => {
                self.show(move |server| Ok(server.pipeline_variables(id)?.iter().map(variable_json).collect())).await
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
            (&Method::GET, ["artifacts", path @ ..]) => self.file_of_archive(id, path).await,
            (&Method::DELETE, ["artifacts"]) => {
                self.blocking(move |server| server.erase(id, false)).await?;
                Ok(respond::empty(StatusCode::NO_CONTENT))
            }
            (&Method::POST, ["erase"]) => act(|server, job| server.erase(job.id, true).map(|()| job.clone()), StatusCode::CREATED).await,
            (&Method::POST, ["cancel"]) => act(Server::cancel_job, StatusCode::CREATED).await,
            (&Method::POST, ["retry"]) => act(Server::retry_job, StatusCode::CREATED).await,
            (&Method::POST, ["play"]) => act(Server::play_job, StatusCode::OK).await,
            _ => Err(Failure::plain(StatusCode::NOT_FOUND)),
        }
    }

    async fn archive_of_ref(&self, project: ProjectRecord, at: &str, request: &Request<Incoming>) -> Result<Response, Failure> {
        let job = self.job_of_ref(&project, at, request).await?;
        let (_, path) = self.blocking(move |server| server.archive(job.id)).await?;
        Ok(respond::file("application/zip", &path).await?)
    }

    /// Returns the job that the query names, of the last pipeline of a ref that succeeded.
    async fn job_of_ref(&self, project: &ProjectRecord, at: &str, request: &Request<Incoming>) -> Result<JobRecord, Failure> {
        let name = Query::of(request).owned("job").ok_or_else(|| Failure::bad_request("job is missing"))?;
        let (project, at) = (project.id, at.to_owned());
        Ok(self.blocking(move |server| server.successful_job(project, &at, &name)).await?)
    }

    /// Answers with one file of a job's archive.
    async fn file_of_archive(&self, id: JobId, path: &[&str]) -> Result<Response, Failure> {
        let path = path.join("/");
        let file = self.blocking(move |server| server.archived_file(id, &path)).await?;
        Ok(respond::bytes(StatusCode::OK, "application/octet-stream", file))
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

/// Reads GitLab's `scope` of pipelines.
fn scope(name: &str) -> Result<fn(&PipelineRecord) -> bool, Failure> {
    Ok(match name {
        "" => |_| true,
        "running" => |pipeline| pipeline.status == "running",
        "pending" => |pipeline| pipeline.status == "pending",
        "finished" => |pipeline| matches!(pipeline.status.as_str(), "success" | "failed" | "canceled"),
        "branches" => |pipeline| !pipeline.is_tag,
        "tags" => |pipeline| pipeline.is_tag,
        _ => return Err(Failure::bad_request("scope does not have a valid value")),
    })
}

fn variable_json(variable: &GivenVariable) -> Value {
    json!({ "key": variable.key, "value": variable.value, "variable_type": if variable.file { "file" } else { "env_var" }, "raw": false })
}
