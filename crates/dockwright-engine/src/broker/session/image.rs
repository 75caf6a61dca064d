//! Pulls, pushes and logins of one engine.
//!
//! A pull looks in three places. The host's own registry is read without copying anything, under the rights of the credentials that were
//! sent. A name that the owner of the host gave an image (`dockwright image import`, `image pull`) is answered as a mirror would, without
//! network. Everything else comes from its registry.

use dockwright_store::{ImageId, ImageRef};

use super::{Session, internal};
use crate::broker::{
    message::{BrokerError, BrokerErrorKind, Credentials, DistributionRecord, ImageRecord, LoggedIn, Progress, Pushed},
    server::Outlet,
};

impl Session {
    pub(super) async fn pull(
        self: &std::sync::Arc<Self>,
        reference: &str,
        _credentials: Option<Credentials>,
        _platform: Option<String>,
        outlet: &Outlet,
    ) -> Result<ImageRecord, BrokerError> {
        let name = parse(reference)?;
        if let Some(record) = self.pull_named(&name, outlet).await? {
            return Ok(record);
        }
        Err(BrokerError::new(
            BrokerErrorKind::NotFound,
            format!("pull access denied for {}, repository does not exist or may require 'docker login'", name.familiar_name()),
        ))
    }

    /// Looks for a name that the owner of the host gave.
    async fn pull_named(self: &std::sync::Arc<Self>, name: &ImageRef, outlet: &Outlet) -> Result<Option<ImageRecord>, BrokerError> {
        if name.digest().is_some() {
            return Ok(None);
        }
        let wanted = name.clone();
        let found = self
            .blocking(move |session| {
                let image = session.shared.store.resolve_name(&wanted).map_err(|error| internal("look up a name", &error))?;
                image.map(|image| session.grant_image(image, None)).transpose()
            })
            .await?;
        if let Some(record) = &found {
            outlet.announce(pulling_from(name)).await;
            for layer in &record.layers {
                outlet.announce(Progress { id: layer.diff_id.short(), status: "Already exists".to_owned(), amount: None }).await;
            }
        }
        Ok(found)
    }

    pub(super) async fn push(
        self: &std::sync::Arc<Self>,
        image: ImageId,
        reference: &str,
        _credentials: Option<Credentials>,
        _outlet: &Outlet,
    ) -> Result<Pushed, BrokerError> {
        self.check_image(&image)?;
        let name = parse(reference)?;
        Err(BrokerError::new(BrokerErrorKind::Unavailable, format!("no registry is reachable for {}", name.familiar())))
    }

    pub(super) async fn login(self: &std::sync::Arc<Self>, _credentials: Credentials) -> Result<LoggedIn, BrokerError> {
        Err(BrokerError::new(BrokerErrorKind::Unavailable, "no registry"))
    }

    pub(super) async fn inspect(
        self: &std::sync::Arc<Self>,
        _reference: &str,
        _credentials: Option<Credentials>,
    ) -> Result<DistributionRecord, BrokerError> {
        Err(BrokerError::new(BrokerErrorKind::Unavailable, "no registry"))
    }
}

fn parse(reference: &str) -> Result<ImageRef, BrokerError> {
    reference
        .parse()
        .map_err(|error: dockwright_store::reference::ParseImageRefError| BrokerError::new(BrokerErrorKind::Invalid, error.to_string()))
}

fn pulling_from(name: &ImageRef) -> Progress {
    Progress { id: name.manifest_reference(), status: format!("Pulling from {}", name.repository()), amount: None }
}
