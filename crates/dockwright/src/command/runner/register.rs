//! `runner register`: from a token to an entry of config.toml.
//!
//! ```text
//! flags, template ─► url ─► token ─► GitLab ─► name ─► executor ─► its options ─► entry appended
//!                                      └── a failure behind this point takes the registration back
//! ```

mod prompt;
mod template;

use dockwright_job::{RegisteredRunner, Registration, RunnerToken};
use dockwright_runner::{
    api::{self, ApiError, Client, ExecutorKind},
    config::{
        append_runner,
        file::RunnerEntry,
        schema::{EXECUTORS, ExecutorName},
    },
};

use self::prompt::Prompt;
use super::{config_file::RunnerConfigFile, server, unregister};
use crate::{
    cli::RegisterArgs,
    error::{CommandError, ErrorKind},
    exit_code::ExitCode,
    report::Streams,
    wire::Stop,
};

const ACCESS_LEVELS: [&str; 3] = ["", "not_protected", "ref_protected"];
/// Where the docker executor keeps caches between jobs.
const CACHE_VOLUME: &str = "/cache";

pub(super) fn run(arguments: &RegisterArgs, streams: Streams) -> Result<ExitCode, CommandError> {
    let access_level = arguments.access_level.as_deref().unwrap_or_default();
    if !ACCESS_LEVELS.contains(&access_level) {
        return Err(CommandError::usage("Given access-level is not valid. Refer to gitlab-runner register -h for the correct options."));
    }
    let mut values = arguments.options.values.clone();
    if let Some(path) = &arguments.template_config {
        template::merge(&mut values, path)?;
    }
    let file = RunnerConfigFile::decide(&arguments.config);
    let existing = file.load_or_default()?.file;
    let system_id = file.system_id();
    let mut prompt = Prompt::new(arguments.non_interactive != Some(true), streams);
    let url = prompt.text("url", "Enter the GitLab instance URL (for example, https://gitlab.com/)", text(&values, "url"), false)?;
    values.insert("url".to_owned(), url.into());
    let path = TokenPath::decide(arguments, &values, &mut prompt)?;
    if existing.runners.iter().any(|entry| entry.token.expose() == path.token().expose()) {
        tracing::warn!("A runner with this system ID and token has already been registered.");
    }
    let runtime = server::runtime()?;
    runtime.block_on(async {
        let mut stop = Stop::listen().map_err(|error| CommandError::new(ErrorKind::Environment, error))?;
        let mut registering = Registering { arguments, values, prompt, system_id, file: &file };
        let registered = tokio::select! {
            registered = registering.enter(&path) => registered?,
            _ = stop.wait() => return Err(CommandError::environment("canceled before the runner was registered")),
        };
        let finished = tokio::select! {
            finished = registering.finish() => finished,
            _ = stop.wait() => Err(CommandError::environment("canceled")),
        };
        if finished.is_err() && arguments.leave_runner != Some(true) && registered.is_new {
            registered.take_back(&registering.system_id).await;
        }
        finished
    })?;
    warn_of_concurrency(existing.concurrent, &arguments.options.values);
    streams.say(
        "Runner registered successfully. Feel free to start it, but if it's running already the config should be automatically reloaded!",
    );
    streams.say(format!("\nConfiguration (with the authentication token) was saved in \"{}\"", file.path().display()));
    Ok(ExitCode::Success)
}

/// Which kind of token there is; each has its own way.
enum TokenPath {
    /// `--token glrt-…`, or the same as a registration token: the runner exists, and GitLab owns its settings.
    Created(RunnerToken),
    /// `--token` of another kind: the runner exists.
    Known(RunnerToken),
    /// A registration token: the runner is made now.
    New(RunnerToken),
}

impl TokenPath {
    fn decide(arguments: &RegisterArgs, values: &toml::Table, prompt: &mut Prompt) -> Result<Self, CommandError> {
        let token = text(values, "token");
        if !token.is_empty() {
            let token = RunnerToken::new(token);
            if !token.is_created_at_server() {
                return Ok(Self::Known(token));
            }
            if uses_server_settings(arguments) {
                return Err(CommandError::usage(
                    "Runner configuration other than name and executor configuration is reserved (specifically --locked, --access-level, \
                     --run-untagged, --maximum-timeout, --paused, --tag-list, and --maintenance-note) and cannot be specified when \
                     registering with a runner authentication token. This configuration is specified on the GitLab server.",
                ));
            }
            return Ok(Self::Created(token));
        }
        let given = arguments.registration_token.clone().unwrap_or_default();
        let token = RunnerToken::new(prompt.text("registration-token", "Enter the registration token", given, false)?);
        if !token.is_created_at_server() {
            return Ok(Self::New(token));
        }
        if uses_server_settings(arguments) {
            tracing::warn!(
                "This has triggered the 'legacy-compatible registration process'. --locked, --access-level, --run-untagged, \
                 --maximum-timeout, --paused, --tag-list, and --maintenance-note are ignored: GitLab has these settings."
            );
        }
        Ok(Self::Created(token))
    }

    fn token(&self) -> &RunnerToken {
        let (Self::Created(token) | Self::Known(token) | Self::New(token)) = self;
        token
    }
}

/// Settings that only GitLab has for a runner that was made there.
fn uses_server_settings(arguments: &RegisterArgs) -> bool {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    arguments.locked == Some(false)
        || arguments.run_untagged == Some(true)
        || arguments.paused == Some(true)
        || arguments.maximum_timeout.is_some_and(|timeout| timeout != 0)
        || given(&arguments.access_level)
        || given(&arguments.tag_list)
        || given(&arguments.maintenance_note)
}

struct Registering<'a> {
    arguments: &'a RegisterArgs,
    /// The entry as far as it is known.
    values: toml::Table,
    prompt: Prompt,
    system_id: String,
    file: &'a RunnerConfigFile,
}

/// A runner that GitLab knows.
struct Registered {
    client: Client,
    token: RunnerToken,
    /// GitLab has to forget it when the entry cannot be written.
    is_new: bool,
}

impl Registered {
    async fn take_back(&self, system_id: &str) {
        tracing::warn!("Removing the registration again");
        if let Err(error) = unregister::take_back(&self.client, &self.token, system_id).await {
            tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "Unregistering runner from GitLab failed");
        }
    }
}

impl Registering<'_> {
    /// Tells GitLab, and takes its answer into the entry.
    async fn enter(&mut self, path: &TokenPath) -> Result<Registered, CommandError> {
        let entry = toml::Value::Table(self.values.clone()).try_into::<RunnerEntry>().unwrap_or_default();
        let client = server::client(&entry, &self.file.certificates())?;
        let runner = match path {
            TokenPath::Created(token) => {
                let runner = self.verify(&client, token).await?;
                if runner.id == 0 {
                    return Err(CommandError::environment("Failed to verify the runner."));
                }
                self.take(&runner, token);
                self.ask_name()?;
                token.clone()
            }
            TokenPath::Known(token) => {
                tracing::info!("Token specified trying to verify runner...");
                tracing::warn!("If you want to register use the '-r' instead of '-t'.");
                self.verify(&client, token).await?;
                self.values.insert("token".to_owned(), token.expose().into());
                token.clone()
            }
            TokenPath::New(token) => {
                self.ask_name()?;
                let registration = self.registration(token)?;
                tracing::warn!(
                    "Support for registration tokens and runner parameters in the 'register' command has been deprecated in GitLab Runner \
                     15.6 and will be replaced with support for authentication tokens."
                );
                let runner = client.register(&registration).await.map_err(|error| explain(error, "Failed to register the runner."))?;
                self.take(&runner, &runner.token);
                tracing::info!(runner = runner.token.short(), "Registering runner... succeeded");
                runner.token
            }
        };
        let is_new = !matches!(path, TokenPath::Known(_));
        Ok(Registered { client, token: runner, is_new })
    }

    async fn verify(&self, client: &Client, token: &RunnerToken) -> Result<RegisteredRunner, CommandError> {
        let kind = match ExecutorName::find(&text(&self.values, "executor")) {
            Some(executor) if executor.is_docker() => Some(ExecutorKind::Docker),
            Some(executor) if executor.name == "custom" => Some(ExecutorKind::Custom),
            Some(_) => Some(ExecutorKind::Shell),
            None => None,
        };
        let answer = client.verify(token, &self.system_id, &api::details(kind)).await;
        let runner = answer.map_err(|error| explain(error, "Failed to verify the runner. You may be having network problems."))?;
        tracing::info!(runner = token.short(), "Verifying runner... is valid");
        Ok(runner)
    }

    /// Takes what GitLab answered.
    fn take(&mut self, runner: &RegisteredRunner, token: &RunnerToken) {
        self.values.insert("id".to_owned(), i64::try_from(runner.id).unwrap_or_default().into());
        self.values.insert("token".to_owned(), token.expose().into());
        self.values.insert("token_obtained_at".to_owned(), server::obtained_now());
        self.values.insert("token_expires_at".to_owned(), server::expiry(runner));
    }

    fn registration(&mut self, token: &RunnerToken) -> Result<Registration, CommandError> {
        let typed = self.arguments;
        let ask = |value: &Option<String>| value.clone().unwrap_or_default();
        let tag_list = self.prompt.text("tag-list", "Enter tags for the runner (comma-separated)", ask(&typed.tag_list), true)?;
        let maintenance_note =
            self.prompt.text("maintenance-note", "Enter optional maintenance note for the runner", ask(&typed.maintenance_note), true)?;
        Ok(Registration {
            token: token.clone(),
            description: text(&self.values, "name"),
            run_untagged: typed.run_untagged == Some(true) || tag_list.is_empty(),
            maintenance_note,
            tag_list,
            locked: typed.locked.unwrap_or(true),
            access_level: ask(&typed.access_level),
            maximum_timeout: typed.maximum_timeout.unwrap_or_default(),
            paused: typed.paused == Some(true),
            info: api::details(None),
        })
    }

    fn ask_name(&mut self) -> Result<(), CommandError> {
        let given = match text(&self.values, "name") {
            name if name.is_empty() => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            name => name,
        };
        let name = self.prompt.text("name", "Enter a name for the runner", given, false)?;
        self.values.insert("name".to_owned(), name.into());
        Ok(())
    }

    /// Decides the executor with its options and writes the entry.
    async fn finish(&mut self) -> Result<(), CommandError> {
        let executor = self.ask_executor()?;
        keep_tables_of(executor, &mut self.values);
        if executor.is_docker() {
            self.complete_docker()?;
        }
        if !executor.runs {
            tracing::warn!(executor = executor.name, "This version runs no jobs with this executor");
        }
        for table in ["s3", "gcs", "azure"] {
            inner(inner(&mut self.values, "cache"), table);
        }
        self.file.change(|text| append_runner(text, &self.values))
    }

    fn ask_executor(&mut self) -> Result<ExecutorName, CommandError> {
        let names = EXECUTORS.map(|executor| executor.name).join(", ");
        loop {
            let name = self.prompt.text("executor", &format!("Enter an executor: {names}"), text(&self.values, "executor"), true)?;
            if let Some(executor) = ExecutorName::find(&name) {
                self.values.insert("executor".to_owned(), name.into());
                return Ok(executor);
            }
            if !self.prompt.asks() {
                return Err(CommandError::usage("Invalid executor specified").hint(format!("one of {names}")));
            }
            tracing::error!("Invalid executor specified");
            self.values.remove("executor");
        }
    }

    fn complete_docker(&mut self) -> Result<(), CommandError> {
        let given = text(inner(&mut self.values, "docker"), "image");
        let image = self.prompt.text("docker-image", "Enter the default Docker image (for example, ruby:3.3)", given, false)?;
        let docker = inner(&mut self.values, "docker");
        docker.insert("image".to_owned(), image.into());
        let disabled = docker.get("disable_cache").and_then(toml::Value::as_bool) == Some(true);
        let volumes = docker.entry("volumes").or_insert_with(|| toml::Value::Array(Vec::new()));
        let Some(volumes) = volumes.as_array_mut() else { return Ok(()) };
        let is_cache = |volume: &toml::Value| volume.as_str().and_then(|volume| volume.rsplit(':').next()) == Some(CACHE_VOLUME);
        if !disabled && !volumes.iter().any(is_cache) {
            volumes.push(CACHE_VOLUME.into());
        }
        Ok(())
    }
}

/// Says why GitLab did not take the runner.
fn explain(error: ApiError, message: &str) -> CommandError {
    let forbidden = error.is_forbidden();
    let error = CommandError::new(ErrorKind::Environment, anyhow::Error::from(error).context(message.to_owned()));
    if forbidden { error.hint("GitLab does not know this token; check it, and that it is for this GitLab") } else { error }
}

/// Removes what other executors would read.
fn keep_tables_of(executor: ExecutorName, values: &mut toml::Table) {
    let others = EXECUTORS.iter().flat_map(|other| other.tables).filter(|table| !executor.tables.contains(table));
    for table in others {
        values.remove(*table);
    }
}

fn text(values: &toml::Table, key: &str) -> String {
    values.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
}

/// Returns a table in a table, which is made when it is missing.
fn inner<'v>(values: &'v mut toml::Table, key: &str) -> &'v mut toml::Table {
    let value = values.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if !value.is_table() {
        *value = toml::Value::Table(toml::Table::new());
    }
    value.as_table_mut().expect("made a table above")
}

fn warn_of_concurrency(concurrent: i64, values: &toml::Table) {
    for key in ["limit", "request_concurrency"] {
        let value = values.get(key).and_then(toml::Value::as_integer).unwrap_or_default();
        if value > concurrent {
            tracing::warn!(
                "The specified runner job {key} ({value}) is larger than current global concurrent limit ({concurrent}). The global concurrent limit will not be increased and takes precedence."
            );
        }
    }
}
