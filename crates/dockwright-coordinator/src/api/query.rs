//! What the query of a request asks for.

use http::Request;
use hyper::body::Incoming;

/// Entries of a page, and the most that one may have: GitLab's figures.
const SIZE: usize = 20;
const SIZE_MAX: usize = 100;

/// The query of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request<Incoming>) -> Self {
        Self(url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn owned(&self, key: &str) -> Option<String> {
        self.get(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// `scope=a` and `scope[]=a&scope[]=b`.
    pub(super) fn scopes(&self) -> Vec<String> {
        self.0.iter().filter(|(key, _)| matches!(key.as_str(), "scope" | "scope[]")).map(|(_, value)| value.clone()).collect()
    }
}

/// A part of a list, by GitLab's `page` and `per_page`.
pub(super) struct Page {
    number: usize,
    size: usize,
    /// Path and query of the request.
    target: String,
}

impl Page {
    pub(super) fn of(request: &Request<Incoming>) -> Self {
        let query = Query::of(request);
        let number = |key: &str, default: usize| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
        Self {
            number: number("page", 1).max(1),
            size: number("per_page", SIZE).clamp(1, SIZE_MAX),
            target: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        }
    }

    /// Takes this page out of a list; the headers tell how to get the others.
    pub(super) fn cut<T>(&self, list: Vec<T>, url: &str) -> (Vec<T>, Vec<(&'static str, String)>) {
        let total = list.len();
        let pages = total.div_ceil(self.size).max(1);
        let next = (self.number < pages).then(|| self.number + 1);
        let previous = (self.number > 1).then(|| self.number - 1);
        let link = |number: Option<usize>, rel: &str| number.map(|number| format!("<{}>; rel=\"{rel}\"", self.address(url, number)));
        let links = [link(previous, "prev"), link(next, "next"), link(Some(1), "first"), link(Some(pages), "last")];
        let text = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
        let headers = vec![
            ("link", links.into_iter().flatten().collect::<Vec<_>>().join(", ")),
            ("x-page", self.number.to_string()),
            ("x-per-page", self.size.to_string()),
            ("x-next-page", text(next)),
            ("x-prev-page", text(previous)),
            ("x-total", total.to_string()),
            ("x-total-pages", pages.to_string()),
        ];
        (list.into_iter().skip((self.number - 1).saturating_mul(self.size)).take(self.size).collect(), headers)
    }

    fn address(&self, url: &str, number: usize) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut written = url::form_urlencoded::Serializer::new(String::new());
        let others = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| !matches!(key.as_ref(), "page" | "per_page"));
        written.extend_pairs(others);
        written.append_pair("page", &number.to_string()).append_pair("per_page", &self.size.to_string());
        format!("{}{path}?{}", url.trim_end_matches('/'), written.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_tell_of_their_neighbours() {
        let page = |number| Page { number, size: 2, target: "/api/v4/projects?scope%5B%5D=failed&page=7".to_owned() };
        let (list, headers) = page(2).cut(vec![1, 2, 3, 4, 5], "http://ci:1/");
        assert_eq!(list, [3, 4]);
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).expect("a header");
        assert_eq!(["x-page", "x-next-page", "x-prev-page", "x-total", "x-total-pages"].map(header), ["2", "3", "1", "5", "3"]);
        let next = "<http://ci:1/api/v4/projects?scope%5B%5D=failed&page=3&per_page=2>; rel=\"next\"";
        assert!(header("link").contains(next), "{}", header("link"));
        assert_eq!(page(9).cut(vec![1], "").0, [0; 0]);
    }
}
