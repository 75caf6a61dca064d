//! Pulls, pushes and logins of one engine.
//!
//! A pull looks in three places. The host's own registry is read without copying anything, under the rights of the credentials that were
//! sent. A name that the owner of the host gave an image (`dockwright image import`, `image pull`) is answered as a mirror would, without
//! network. Everything else comes from its registry.
//!
//! Messages are Docker's where clients or scripts look at them.

use std::sync::Arc;

use dockwright_registry::{
    ClientError,
    client::{self, ErrorKind as ClientErrorKind, OnProgress},
    local::{PushedLocally, pull_local, push_local},
};
use dockwright_store::{DiffId, ImageId, ImageRef, ManifestReference, manifest::Platform, reference::ParseImageRefError};

use super::{Session, internal};
use crate::{
    broker::{
        message::{
            Amount, BrokerError, BrokerErrorKind, Credentials, DistributionRecord, ImageRecord, LoggedIn, PlatformRecord, Progress, Pushed,
        },
        server::Outlet,
    },
    error::chain,
    host::{Access, PushedImage},
};

/// Address that `docker login` uses when none is given.
const HUB_ADDRESS: &str = "https://index.docker.io/v1/";

impl Session {
    pub(super) async fn pull(
        self: &Arc<Self>,
        reference: &str,
        credentials: Option<Credentials>,
        platform: Option<String>,
        outlet: &Outlet,
    ) -> Result<ImageRecord, BrokerError> {
        let name = parse(reference)?;
        if self.is_own_registry(name.registry()) {
            return self.pull_own(&name, credentials, outlet).await;
        }
        if let Some(record) = self.pull_named(&name, outlet).await? {
            return Ok(record);
        }
        self.pull_remote(&name, credentials, platform, outlet).await
    }

    /// Reads the host's own registry.
    async fn pull_own(
        self: &Arc<Self>,
        name: &ImageRef,
        credentials: Option<Credentials>,
        outlet: &Outlet,
    ) -> Result<ImageRecord, BrokerError> {
        self.check_own(name, credentials, Access::Pull)?;
        let wanted = manifest_reference(name);
        let repository = name.repository().to_owned();
        let found = self
            .blocking(move |session| {
                let pulled = pull_local(&session.shared.store, &repository, &wanted).map_err(|error| internal("pull an image", &error))?;
                pulled.map(|pulled| session.grant_image(pulled.image, Some(pulled.digest))).transpose()
            })
            .await?;
        let record = found.ok_or_else(|| no_manifest(name, "manifest unknown: manifest unknown"))?;
        announce_present(name, &record, outlet).await;
        Ok(record)
    }

    /// Looks for a name that the owner of the host gave.
    async fn pull_named(self: &Arc<Self>, name: &ImageRef, outlet: &Outlet) -> Result<Option<ImageRecord>, BrokerError> {
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
            announce_present(name, record, outlet).await;
        }
        Ok(found)
    }

    async fn pull_remote(
        self: &Arc<Self>,
        name: &ImageRef,
        credentials: Option<Credentials>,
        platform: Option<String>,
        outlet: &Outlet,
    ) -> Result<ImageRecord, BrokerError> {
        let credentials = self.credentials_for(name.registry(), credentials);
        let platform = platform.as_deref().map(parse_platform);
        let told = progress_to(outlet);
        let pulled = self.shared.client.pull(&self.shared.store, name, platform.as_ref(), credentials.as_ref(), &told).await;
        let pulled = pulled.map_err(|error| pull_error(name, &error))?;
        self.blocking(move |session| session.grant_image(pulled.image, Some(pulled.digest))).await
    }

    pub(super) async fn push(
        self: &Arc<Self>,
        image: ImageId,
        reference: &str,
        credentials: Option<Credentials>,
        outlet: &Outlet,
    ) -> Result<Pushed, BrokerError> {
        self.check_image(&image)?;
        let name = parse(reference)?;
        if self.is_own_registry(name.registry()) {
            return self.push_own(image, name, credentials, outlet).await;
        }
        let credentials = self.credentials_for(name.registry(), credentials);
        let told = progress_to(outlet);
        let pushed = self.shared.client.push(&self.shared.store, &image, &name, credentials.as_ref(), &told).await;
        let pushed = pushed.map_err(|error| registry_error(&error))?;
        Ok(Pushed { digest: pushed.digest, manifest_size_bytes: pushed.size })
    }

    /// Writes to the host's own registry: the image's layers are linked there, nothing is copied.
    async fn push_own(
        self: &Arc<Self>,
        image: ImageId,
        name: ImageRef,
        credentials: Option<Credentials>,
        outlet: &Outlet,
    ) -> Result<Pushed, BrokerError> {
        self.check_own(&name, credentials, Access::Push)?;
        let tag = name.tag().ok_or_else(|| BrokerError::new(BrokerErrorKind::Invalid, "cannot push a digest reference"))?.to_owned();
        let repository = name.repository().to_owned();
        let layers = self.blocking(move |session| session.layers_of(&image)).await?;
        for layer in &layers {
            outlet.announce(about_layer(&layer.short(), "Preparing")).await;
        }
        let PushedLocally { manifest: pushed, added } = self
            .blocking(move |session| {
                push_local(&session.shared.store, &image, &repository, &tag).map_err(|error| internal("push an image", &error))
            })
            .await?;
        for layer in &layers {
            let status = if added.contains(layer) { "Pushed" } else { "Layer already exists" };
            outlet.announce(about_layer(&layer.short(), status)).await;
        }
        // Nobody may be listening.
        let _ = self.shared.pushes.send(PushedImage { engine: self.engine().to_owned(), name, digest: pushed.digest });
        Ok(Pushed { digest: pushed.digest, manifest_size_bytes: pushed.size })
    }

    fn layers_of(&self, image: &ImageId) -> Result<Vec<DiffId>, BrokerError> {
        let found = self.shared.store.image(image).map_err(|error| internal("read an image", &error))?;
        Ok(found.map(|image| image.layers.clone()).unwrap_or_default())
    }

    pub(super) async fn login(self: &Arc<Self>, credentials: Credentials) -> Result<LoggedIn, BrokerError> {
        let server = if credentials.server.is_empty() { HUB_ADDRESS } else { &credentials.server };
        if self.is_own_registry(&host_of(server)) {
            let known = self.shared.authority.identify(&credentials.username, &credentials.password);
            let denied = || {
                let message = format!("Get \"http://{server}/v2/\": unauthorized: HTTP Basic: Access denied");
                BrokerError::new(BrokerErrorKind::Unauthorized, message)
            };
            return known.map(|_| LoggedIn { identity_token: String::new() }).ok_or_else(denied);
        }
        let logged_in = self.shared.client.login(server, &for_client(&credentials)).await;
        let failed = |error: ClientError| {
            let base = registry_error(&error);
            BrokerError::new(base.kind, format!("Get \"https://{}/v2/\": {}", host_of(server), base.message))
        };
        logged_in.map(|logged_in| LoggedIn { identity_token: logged_in.identity_token }).map_err(failed)
    }

    pub(super) async fn inspect(
        self: &Arc<Self>,
        reference: &str,
        credentials: Option<Credentials>,
    ) -> Result<DistributionRecord, BrokerError> {
        let name = parse(reference)?;
        // The host's own registry is asked like any other: its name leads the client to its port.
        let credentials = if self.is_own_registry(name.registry()) {
            self.check_own(&name, credentials.clone(), Access::Pull)?;
            credentials.map(|credentials| for_client(&credentials)).or_else(|| self.own_credentials())
        } else {
            self.credentials_for(name.registry(), credentials)
        };
        let inspected = self.shared.client.inspect(&name, credentials.as_ref()).await.map_err(|error| pull_error(&name, &error))?;
        let platform = |platform: Platform| PlatformRecord {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant.unwrap_or_default(),
        };
        Ok(DistributionRecord {
            media_type: inspected.descriptor.media_type,
            digest: inspected.descriptor.digest,
            size_bytes: inspected.descriptor.size,
            platforms: inspected.platforms.into_iter().map(platform).collect(),
        })
    }

    fn is_own_registry(&self, registry: &str) -> bool {
        self.shared.registry_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(registry))
    }

    /// Checks what somebody may do at the host's own registry: whoever the credentials are of, else the engine's own user.
    fn check_own(&self, name: &ImageRef, credentials: Option<Credentials>, access: Access) -> Result<(), BrokerError> {
        let authority = &self.shared.authority;
        let who = match credentials {
            Some(credentials) => authority.identify(&credentials.username, &credentials.password),
            None => self.spec.registry_user.as_ref().map(|_| self.engine().to_owned()),
        };
        let Some(who) = who else {
            return Err(BrokerError::new(BrokerErrorKind::Unauthorized, "unauthorized: authentication required"));
        };
        if authority.may(&who, access, name.repository()) {
            return Ok(());
        }
        let message = match access {
            Access::Pull => denied_pull(name, "denied: requested access to the resource is denied"),
            Access::Push => "denied: requested access to the resource is denied".to_owned(),
        };
        Err(BrokerError::new(BrokerErrorKind::Forbidden, message))
    }

    fn own_credentials(&self) -> Option<dockwright_registry::Credentials> {
        let user = self.spec.registry_user.as_ref()?;
        Some(dockwright_registry::Credentials::basic(&user.name, &user.password))
    }

    /// Chooses what to show a registry: what the client sent, else what the engine was given for it.
    fn credentials_for(&self, registry: &str, sent: Option<Credentials>) -> Option<dockwright_registry::Credentials> {
        let given = || self.spec.credentials.iter().find(|credentials| credentials.are_for(registry)).cloned();
        sent.or_else(given).as_ref().map(for_client)
    }
}

fn parse(reference: &str) -> Result<ImageRef, BrokerError> {
    reference.parse().map_err(|error: ParseImageRefError| BrokerError::new(BrokerErrorKind::Invalid, error.to_string()))
}

fn manifest_reference(name: &ImageRef) -> ManifestReference {
    match (name.digest(), name.tag()) {
        (Some(digest), _) => ManifestReference::Digest(*digest),
        (None, tag) => ManifestReference::Tag(tag.unwrap_or("latest").to_owned()),
    }
}

fn parse_platform(text: &str) -> Platform {
    let host = Platform::host();
    let mut parts = text.split('/').map(str::to_owned);
    Platform {
        os: parts.next().unwrap_or(host.os),
        architecture: parts.next().unwrap_or(host.architecture),
        variant: parts.next(),
        ..Platform::default()
    }
}

fn for_client(credentials: &Credentials) -> dockwright_registry::Credentials {
    dockwright_registry::Credentials {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
        identity_token: credentials.identity_token.clone(),
        registry_token: credentials.registry_token.clone(),
    }
}

/// Returns the host of an address as `docker login` writes it.
fn host_of(server: &str) -> String {
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    bare.split('/').next().unwrap_or_default().to_owned()
}

async fn announce_present(name: &ImageRef, record: &ImageRecord, outlet: &Outlet) {
    // Docker leaves the host out here.
    let status = format!("Pulling from {}", name.repository());
    outlet.announce(Progress { id: name.manifest_reference(), status, amount: None }).await;
    for layer in &record.layers {
        outlet.announce(about_layer(&layer.diff_id.short(), "Already exists")).await;
    }
}

fn about_layer(id: &str, status: &str) -> Progress {
    Progress { id: id.to_owned(), status: status.to_owned(), amount: None }
}

fn progress_to(outlet: &Outlet) -> OnProgress {
    let outlet = outlet.clone();
    Arc::new(move |line: client::Progress| {
        // The engine tells the digest itself, when the image has its name.
        if line.id.is_empty() && line.status.starts_with("Digest: ") {
            return;
        }
        let amount = line.amount.map(|(current_bytes, total)| Amount { current_bytes, total_bytes: Some(total) });
        outlet.tell(Progress { id: line.id, status: line.status, amount });
    })
}

fn no_manifest(name: &ImageRef, reason: &str) -> BrokerError {
    BrokerError::new(BrokerErrorKind::NotFound, format!("manifest for {} not found: {reason}", name.familiar()))
}

fn denied_pull(name: &ImageRef, reason: &str) -> String {
    format!("pull access denied for {}, repository does not exist or may require 'docker login': {reason}", name.familiar_name())
}

/// Docker says for a refused pull that the repository may not exist, because registries do not tell.
fn pull_error(name: &ImageRef, error: &ClientError) -> BrokerError {
    match (error, error.kind()) {
        (ClientError::NotFound { message, .. }, _) => no_manifest(name, message),
        (ClientError::NoToken { .. }, _) => BrokerError::new(BrokerErrorKind::Internal, error.to_string()),
        (_, ClientErrorKind::Unauthorized) => BrokerError::new(BrokerErrorKind::Internal, chain(error)),
        (_, ClientErrorKind::Forbidden) => BrokerError::new(BrokerErrorKind::NotFound, denied_pull(name, &chain(error))),
        // Docker answers both with 500.
        (_, ClientErrorKind::Unavailable) => {
            let hint = format!("`dockwright image import` gives this machine {} without a registry", name.familiar());
            BrokerError::new(BrokerErrorKind::Internal, format!("{}\nhint: {hint}", chain(error)))
        }
        _ => registry_error(error),
    }
}

fn registry_error(error: &ClientError) -> BrokerError {
    let kind = match error.kind() {
        ClientErrorKind::Unauthorized => BrokerErrorKind::Unauthorized,
        ClientErrorKind::Forbidden => BrokerErrorKind::Forbidden,
        ClientErrorKind::NotFound => BrokerErrorKind::NotFound,
        ClientErrorKind::Unavailable => BrokerErrorKind::Unavailable,
        ClientErrorKind::Invalid => BrokerErrorKind::Invalid,
        ClientErrorKind::Internal => BrokerErrorKind::Internal,
    };
    BrokerError::new(kind, chain(error))
}
