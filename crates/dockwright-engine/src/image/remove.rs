//! Taking names away, and images with their last name, under Docker's rules.

use dockwright_store::{ImageId, ImageRef};
use serde::Serialize;

use super::{ImageTable, Listed, State};
use crate::error::{EngineError, Result};

/// One line of an answer to `docker rmi`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Removed {
    /// A name was taken away.
    Untagged(String),
    /// An image is gone.
    Deleted(String),
}

/// A container that keeps an image from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The image it was made from.
    pub image: ImageId,
    /// The container's id.
    pub container: String,
    /// Whether it runs; a running one cannot be overruled by force.
    pub running: bool,
}

impl ImageTable {
    /// Removes a name, or an image with all its names.
    pub fn remove(&self, text: &str, force: bool, users: &[ImageUser]) -> Result<Vec<Removed>> {
        let mut state = self.state();
        let (id, name) = state.resolve(text)?;
        match name {
            Some(name) => state.remove_name(id, &name, force, users),
            None => state.remove_image(id, force, users),
        }
    }

    /// Removes the images that `unwanted` picks and no container uses. Returns what was removed and the bytes of their layers.
    pub fn prune(&self, users: &[ImageUser], unwanted: impl Fn(&Listed) -> bool) -> (Vec<Removed>, u64) {
        let mut state = self.state();
        let candidates = state.all_listed();
        let mut removed = Vec::new();
        let mut freed_bytes = 0;
        for listed in candidates {
            let id = listed.image.id();
            if users.iter().any(|user| user.image == id) || !unwanted(&listed) {
                continue;
            }
            freed_bytes += listed.image.size_bytes();
            removed.extend(state.drop_names(id));
            removed.extend(state.drop_image(id));
        }
        (removed, freed_bytes)
    }
}

impl State {
    fn remove_name(&mut self, id: ImageId, name: &ImageRef, force: bool, users: &[ImageUser]) -> Result<Vec<Removed>> {
        let is_last = self.names_of(id).filter(|known| known.digest().is_none()).count() <= 1;
        if !is_last {
            return Ok(self.drop_name(id, name));
        }
        let user = users.iter().find(|user| user.image == id);
        match user {
            Some(user) if !force => Err(EngineError::conflict(format!(
                "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
                name.familiar(),
                short(&user.container),
                id.short(),
            ))),
            // The image stays for the container, without names.
            Some(_) => Ok(self.drop_names(id)),
            None => {
                let mut removed = self.drop_names(id);
                removed.extend(self.drop_image(id));
                Ok(removed)
            }
        }
    }

    fn remove_image(&mut self, id: ImageId, force: bool, users: &[ImageUser]) -> Result<Vec<Removed>> {
        self.check_users(id, force, users)?;
        let repositories: std::collections::BTreeSet<String> = self.names_of(id).map(ImageRef::name).collect();
        if repositories.len() > 1 && !force {
            let message =
                format!("conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories", id.short());
            return Err(EngineError::conflict(message));
        }
        let mut removed = self.drop_names(id);
        removed.extend(self.drop_image(id));
        Ok(removed)
    }

    fn check_users(&self, id: ImageId, force: bool, users: &[ImageUser]) -> Result<()> {
        let using = || users.iter().filter(|user| user.image == id);
        let conflict = |how: &str, state: &str, user: &ImageUser| {
            let container = short(&user.container);
            let message =
                format!("conflict: unable to delete {} ({how}) - image is being used by {state} container {container}", id.short());
            Err(EngineError::conflict(message))
        };
        if let Some(user) = using().find(|user| user.running) {
            return conflict("cannot be forced", "running", user);
        }
        match using().next() {
            Some(user) if !force => conflict("must be forced", "stopped", user),
            _ => Ok(()),
        }
    }

    /// Takes one name away, and with a repository's last tag its digests.
    fn drop_name(&mut self, id: ImageId, name: &ImageRef) -> Vec<Removed> {
        let of_repository = |known: &&ImageRef| known.name() == name.name();
        let has_other_tag = self.names_of(id).filter(of_repository).any(|known| known.digest().is_none() && known != name);
        let digests = self.names_of(id).filter(of_repository).filter(|known| known.digest().is_some() && !has_other_tag);
        let dropped: Vec<ImageRef> = [name].into_iter().chain(digests).cloned().collect();
        for name in &dropped {
            self.names.remove(name);
        }
        dropped.iter().map(|name| Removed::Untagged(name.familiar())).collect()
    }

    fn drop_names(&mut self, id: ImageId) -> Vec<Removed> {
        let names: Vec<ImageRef> = self.names_of(id).cloned().collect();
        for name in &names {
            self.names.remove(name);
        }
        names.into_iter().map(|name| Removed::Untagged(name.familiar())).collect()
    }

    /// Besides the image, Docker lists the layers that nobody else needs, by the identity of the stack up to there; scripts look only at
    /// the image, so ours lists that.
    fn drop_image(&mut self, id: ImageId) -> Option<Removed> {
        self.images.remove(&id).map(|_| Removed::Deleted(id.to_string()))
    }
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}
