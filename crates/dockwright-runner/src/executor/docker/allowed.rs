//! Holding a job to what its runner allows. What is refused fails the job before anything is pulled or started.

use dockwright_job::Image;

use super::{job_image, job_services};
use crate::{
    config::restrictions::allow,
    executor::{ExecuteError, ExecutorContext},
};

/// Checks what a job asks for.
pub(super) async fn check(context: &ExecutorContext) -> Result<(), ExecuteError> {
    let docker = &context.config.docker;
    let restrictions = &docker.restrictions;
    if let Some(image) = &context.payload.image {
        let default = docker.default_image.as_ref().map(|name| context.variables.expand(name));
        let name = context.variables.expand(&image.name);
        if default.as_ref() != Some(&name) {
            check_image(context, &name, "images", &restrictions.images).await?;
        }
    }
    let own_services: Vec<String> = docker.services.iter().map(|service| context.variables.expand(&service.name)).collect();
    for service in &context.payload.services {
        let name = context.variables.expand(&service.name);
        if !own_services.contains(&name) {
            check_image(context, &name, "services", &restrictions.services).await?;
        }
    }
    let requested = job_services(context).count();
    if let Some(allowed) = docker.services_limit.filter(|limit| requested > *limit) {
        return Err(ExecuteError::TooManyServices { requested, allowed });
    }
    check_user(context)
}

/// GitLab Runner shows the whole list, and so does this: who writes jobs cannot see the runner's configuration.
async fn check_image(context: &ExecutorContext, image: &str, kind: &'static str, patterns: &[String]) -> Result<(), ExecuteError> {
    if allow(patterns, image) {
        return Ok(());
    }
    let trace = &context.trace;
    trace.line("").await;
    trace.error(format!("The {image:?} image is not present on list of allowed {kind}:")).await;
    for pattern in patterns {
        trace.line(format!("- {pattern}")).await;
    }
    trace.line("").await;
    trace
        .line("Please check runner's allowed_images configuration: https://docs.gitlab.com/runner/configuration/advanced-configuration/")
        .await;
    Err(ExecuteError::DisallowedImage)
}

fn check_user(context: &ExecutorContext) -> Result<(), ExecuteError> {
    let restrictions = &context.config.docker.restrictions;
    match job_image(context).and_then(|image| build_user(context, &image)) {
        Some(user) if !restrictions.allow_user(&user) => Err(ExecuteError::DisallowedUser { user, allowed: restrictions.users.join(" ") }),
        _ => Ok(()),
    }
}

/// Returns the user of the job's container: the runner's word counts more than the job's. `None` is the image's own.
pub(super) fn build_user(context: &ExecutorContext, image: &Image) -> Option<String> {
    let of_job = || image.executor_opts.docker.user.as_ref().map(|user| context.variables.expand(user));
    context.config.docker.user.clone().or_else(of_job).filter(|user| !user.is_empty())
}

/// Returns a job's entry point, if it has one and may have one.
pub(super) async fn entrypoint(context: &ExecutorContext, image: &Image) -> Option<Vec<String>> {
    if image.entrypoint.is_empty() {
        return None;
    }
    if context.config.docker.restrictions.keep_entrypoints {
        context.trace.warning("Entrypoint override disabled").await;
        return None;
    }
    Some(image.entrypoint.clone())
}
