//! Admission: every request is checked here, before anything else is looked at.
//!
//! A bearer token speaks for itself: it lists what was granted when it was given out. Name and password, sent directly, are looked up
//! each time. Nobody at all is admitted to what the authority gives to anybody.

use http::{Method, Request, header};
use hyper::body::Incoming;

use super::{Action, Identity, Registry, respond::Failure, route::Route};
use crate::{
    credentials::{Credentials, strip_scheme},
    protocol::{ErrorCode, Scope},
};

pub(super) const SERVICE: &str = "container_registry";

/// Who sent a request, and what their token grants.
pub(super) struct Caller {
    pub(super) identity: Identity,
    /// `None` for those who need no token.
    granted: Option<Vec<Scope>>,
}

impl Caller {
    pub(super) fn may(&self, registry: &Registry, repository: &str, action: Action) -> bool {
        match &self.granted {
            Some(granted) => granted.iter().any(|scope| scope.repository == repository && scope.actions.contains(&action)),
            None => registry.authority.access(&self.identity, repository, action),
        }
    }

    /// Whether the caller could get a token for this. Used for repositories that the request does not name: sources of mounts.
    pub(super) fn could(&self, registry: &Registry, repository: &str, action: Action) -> bool {
        self.may(registry, repository, action) || registry.authority.access(&self.identity, repository, action)
    }
}

impl Registry {
    /// Finds out who sends a request and refuses it unless they may do what it asks.
    pub(super) fn admit(&self, route: &Route, request: &Request<Incoming>) -> Result<Caller, Failure> {
        let needed = route.repository().map(|repository| Scope { repository: repository.to_owned(), actions: needed(request.method()) });
        let caller = match self.identify(request) {
            Some(Some(caller)) => caller,
            Some(None) => return Err(challenge(request, needed.as_ref(), Some("invalid_token"))),
            None => Caller { identity: Identity::anonymous(), granted: None },
        };
        let Some(needed) = needed else {
            // Ping and catalogue: anybody who is somebody. This is how `docker login` finds out that there is something to log in to.
            return if caller.identity.is_anonymous() { Err(challenge(request, None, None)) } else { Ok(caller) };
        };
        if needed.actions.iter().all(|action| caller.may(self, &needed.repository, *action)) {
            return Ok(caller);
        }
        match &caller.granted {
            Some(_) => Err(challenge(request, Some(&needed), Some("insufficient_scope"))),
            None if caller.identity.is_anonymous() => Err(challenge(request, Some(&needed), None)),
            None => Err(Failure::new(ErrorCode::Denied, "access forbidden")),
        }
    }

    /// `None`: no credentials. `Some(None)`: bad ones.
    fn identify(&self, request: &Request<Incoming>) -> Option<Option<Caller>> {
        let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
        if let Some(token) = strip_scheme(header, "bearer") {
            let verified = self.tokens.verify(token);
            return Some(verified.map(|(identity, granted)| Caller { identity, granted: Some(granted) }));
        }
        let credentials = Credentials::from_basic_header(header);
        let identity = credentials.and_then(|credentials| self.authority.authenticate(&credentials.username, &credentials.password));
        Some(identity.map(|identity| Caller { identity, granted: None }))
    }
}

fn needed(method: &Method) -> Vec<Action> {
    match *method {
        Method::GET | Method::HEAD => vec![Action::Pull],
        Method::DELETE => vec![Action::Delete],
        _ => vec![Action::Pull, Action::Push],
    }
}

/// 401, and where to get a token.
fn challenge(request: &Request<Incoming>, scope: Option<&Scope>, error: Option<&str>) -> Failure {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let scope = scope.map(|scope| format!(r#",scope="{scope}""#)).unwrap_or_default();
    let error = error.map(|error| format!(r#",error="{error}""#)).unwrap_or_default();
    let host = host.replace(['"', '\\'], "");
    let value = format!(r#"Bearer realm="http://{host}/jwt/auth",service="{SERVICE}"{scope}{error}"#);
    Failure::new(ErrorCode::Unauthorized, "authentication required").with_header(header::WWW_AUTHENTICATE, value)
}
