//! A stage while it is built: the image as it is after the last step.

use dockwright_store::{DiffId, ImageConfig, ImageId, config::History};

use super::{args::BuildArgs, empty_image};
use crate::{
    backend::BaseImage,
    cache::{CacheImages, Inputs},
};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage while it is built, and what it left.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// As it would be if this were the last step.
    pub(super) image: ImageConfig,
    /// `None` while there is nothing: `FROM scratch`.
    pub(super) id: Option<ImageId>,
    /// The image that the chain of stages started from: its id, or `scratch`.
    pub(super) base: String,
    /// Whether `image` differs from what is stored.
    pub(super) changed: bool,
    /// Whether this stage has a `CMD` of its own, which `ENTRYPOINT` then leaves alone.
    pub(super) has_cmd: bool,
    pub(super) args: BuildArgs,
    pub(super) cache_images: CacheImages,
}

impl StageState {
    pub(super) fn scratch(platform: Option<&str>, args: BuildArgs, cache_images: CacheImages) -> Self {
        let image = empty_image(platform);
        Self { image, id: None, base: "scratch".to_owned(), changed: false, has_cmd: false, args, cache_images }.with_default_path()
    }

    pub(super) fn from_image(base: BaseImage, platform: Option<&str>, args: BuildArgs, cache_images: CacheImages) -> Self {
        let BaseImage { id, config: mut image } = base;
        // What described the making of the base is not true of what is made from it.
        for key in ["container", "container_config", "docker_version", "moby.buildkit.cache.v0", "moby.buildkit.buildinfo.v1"] {
            image.extra.remove(key);
        }
        image.author = None;
        let empty = empty_image(platform);
        if image.os.is_empty() {
            image.os = empty.os;
        }
        if image.architecture.is_empty() {
            image.architecture = empty.architecture;
        }
        Self { image, id: Some(id), base: id.to_string(), changed: false, has_cmd: false, args, cache_images }.with_default_path()
    }

    /// A stage that starts where this one ended.
    pub(super) fn continued(&self, cache_images: CacheImages) -> Self {
        let mut next = Self { changed: false, has_cmd: false, cache_images, ..self.clone() };
        next.image.author = None;
        next.with_default_path()
    }

    fn with_default_path(mut self) -> Self {
        if self.env("PATH").is_none() {
            self.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        self
    }

    /// Adds a finished step.
    pub(super) fn push(&mut self, created_by: &str, created: String, layer: Option<DiffId>) {
        self.image.history.push(History {
            created: Some(created.clone()),
            created_by: Some(created_by.to_owned()),
            author: self.image.author.clone(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
        self.image.rootfs.diff_ids.extend(layer);
        self.image.created = Some(created);
        self.changed = true;
        self.id = Some(self.image.image_id());
    }

    pub(super) fn layers(&self) -> &[DiffId] {
        &self.image.rootfs.diff_ids
    }

    pub(super) fn shell(&self) -> Vec<String> {
        self.image.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    /// A variable of the image's environment.
    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.image.config.env.iter().find_map(|entry| entry.split_once('=').filter(|(other, _)| *other == name).map(|(_, value)| value))
    }

    /// What `$name` stands for: the environment, then the build arguments.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.env(name).map(str::to_owned).or_else(|| self.args.value(name))
    }

    /// Sets a variable where it stands, or adds it.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = &mut self.image.config.env;
        match env.iter_mut().find(|other| other.split_once('=').is_some_and(|(other, _)| other == name)) {
            Some(existing) => *existing = entry,
            None => env.push(entry),
        }
    }

    pub(super) fn platform(&self) -> String {
        let variant = self.image.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", self.image.os, self.image.architecture)
    }

    /// The inputs of every step that depends on the files below.
    pub(super) fn inputs(&self) -> Inputs {
        let layers: String = self.layers().iter().map(|layer| format!("{layer}\n")).collect();
        Inputs::new().with("base image", &self.base).with_digest("layers below", layers.as_bytes())
    }
}
