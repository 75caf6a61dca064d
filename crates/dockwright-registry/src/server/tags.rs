//! Lists: tags of a repository, and repositories.

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use super::{
    Action, Registry,
    access::Caller,
    respond::{self, Failure, Response},
};
use crate::{blocking::blocking, protocol::ErrorCode};

/// Names in one answer unless the client asks for another number.
const PAGE_DEFAULT: usize = 1000;

impl Registry {
    pub(super) async fn tags(&self, repository: &str, request: &Request<Incoming>) -> Result<Response, Failure> {
        only_get(request)?;
        let (store, name) = (self.store.clone(), repository.to_owned());
        let tags = blocking(move || store.tags(&name)).await?;
        let tags = tags.ok_or_else(|| Failure::new(ErrorCode::NameUnknown, format!("there is no repository `{repository}`")))?;
        let page = Page::of(tags, request)?;
        Ok(page.answer(&json!({ "name": repository, "tags": page.names }), request.uri().path()))
    }

    /// Lists what the caller may pull.
    pub(super) async fn catalog(&self, caller: &Caller, request: &Request<Incoming>) -> Result<Response, Failure> {
        only_get(request)?;
        let store = self.store.clone();
        let mut names = blocking(move || store.repositories()).await?;
        names.retain(|name| caller.could(self, name, Action::Pull));
        let page = Page::of(names, request)?;
        Ok(page.answer(&json!({ "repositories": page.names }), request.uri().path()))
    }
}

fn only_get(request: &Request<Incoming>) -> Result<(), Failure> {
    match *request.method() {
        http::Method::GET | http::Method::HEAD => Ok(()),
        _ => Err(Failure::new(ErrorCode::Unsupported, "a list can only be read")),
    }
}

/// A part of a sorted list.
struct Page {
    names: Vec<String>,
    limit: usize,
    has_more: bool,
}

impl Page {
    fn of(all: Vec<String>, request: &Request<Incoming>) -> Result<Self, Failure> {
        let query = respond::query(request.uri());
        let limit = match respond::parameter(&query, "n").map(str::parse) {
            None => PAGE_DEFAULT,
            Some(Ok(limit)) => limit,
            Some(Err(_)) => return Err(Failure::new(ErrorCode::PaginationNumberInvalid, "`n` is not a number")),
        };
        let last = respond::parameter(&query, "last").unwrap_or_default();
        let mut rest = all.into_iter().filter(|name| last.is_empty() || name.as_str() > last);
        let names: Vec<String> = rest.by_ref().take(limit).collect();
        Ok(Self { has_more: limit > 0 && rest.next().is_some(), names, limit })
    }

    fn answer(&self, body: &serde_json::Value, path: &str) -> Response {
        let mut response = respond::json(StatusCode::OK, body);
        if let Some(last) = self.names.last().filter(|_| self.has_more) {
            let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
            respond::set(&mut response, header::LINK, &format!("<{path}?n={}&last={last}>; rel=\"next\"", self.limit));
        }
        response
    }
}
