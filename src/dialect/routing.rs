//! Which dialect a request speaks, and where in it (contract `README.md`, "Dialect routing"): the one place that decides it. A prefix
//! always says; without one the path says, for some paths together with headers, and for one with the body.

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The header with which Octane's Python client brings its key.
pub const X_AUTHORIZATION: &str = "x-authorization";

/// Whose words a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Our own and Amberflo's, which share one set of routes and one form of error.
    Amberflo,
    /// Octane's.
    Octane,
    /// Stigg's.
    Stigg,
    /// CloudEvents, as OpenMeter takes them, and OpenMeter's meters.
    CloudEvents,
}

impl Dialect {
    /// The prefix under which it is always reached, and under which its routes stand in the router.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Amberflo => "/amberflo",
            Self::Octane => "/octane",
            Self::Stigg => "/stigg",
            Self::CloudEvents => "/openmeter",
        }
    }

    const ALL: [Self; 4] = [Self::Amberflo, Self::Octane, Self::Stigg, Self::CloudEvents];
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// `None`: events of Stigg or of OpenMeter, as [the body](of_body) says.
    pub dialect: Option<Dialect>,
    /// The path in the dialect: without a prefix, [normalised](normalise).
    pub path: String,
}

impl Routed {
    /// Whose words the answer is in, and the path in the router. Events that nobody says the dialect of are Stigg's, as all that is below
    /// `/api/v1` and nobody else's.
    pub fn target(self) -> (Dialect, String) {
        match self.dialect.unwrap_or(Dialect::Stigg) {
            Dialect::Amberflo => (Dialect::Amberflo, self.path),
            dialect => (dialect, format!("{}{}", dialect.prefix(), self.path)),
        }
    }
}

/// Collapses runs of `/` and drops one at the end (contract `README.md`, path normalising). Percent escapes stay as they are: they are
/// decoded a segment at a time, once.
pub fn normalise(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() { "/".into() } else { normal }
}

/// Whether a path is this one, or lies below it.
pub fn is_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where a request with this head goes.
pub fn route(method: &Method, path: &str, headers: &HeaderMap) -> Routed {
    let path = normalise(path);
    for dialect in Dialect::ALL {
        if is_in(&path, dialect.prefix()) {
            let rest = &path[dialect.prefix().len()..];
            return Routed { dialect: Some(dialect), path: if rest.is_empty() { "/".into() } else { rest.into() } };
        }
    }
    Routed { dialect: at_root(method, &path, headers), path }
}

fn at_root(method: &Method, path: &str, headers: &HeaderMap) -> Option<Dialect> {
    if path == "/api/v1/events" && method == Method::POST {
        return posted_events(headers);
    }
    let is_read = path == "/api/v1/events" && matches!(*method, Method::GET | Method::HEAD);
    if is_read || is_in(path, "/api/v1/meters") {
        return Some(Dialect::CloudEvents);
    }
    if is_in(path, "/api/v1") || is_in(path, "/api/v1-beta") {
        return Some(Dialect::Stigg);
    }
    if ["/measurements", "/meters", "/price_plans", "/live_measurements"].into_iter().any(|place| is_in(path, place)) {
        return Some(Dialect::Octane);
    }
    if is_in(path, "/customers") && has_bearer(headers) {
        return Some(Dialect::Octane);
    }
    Some(Dialect::Amberflo)
}

fn posted_events(headers: &HeaderMap) -> Option<Dialect> {
    let content_type =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().trim_ascii().to_ascii_lowercase();
    if content_type.starts_with("application/cloudevents") || headers.contains_key("ce-specversion") {
        return Some(Dialect::CloudEvents);
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim_ascii_end();
    (essence != "application/json").then_some(Dialect::Stigg)
}

/// Only Octane's clients bring their key so.
fn has_bearer(headers: &HeaderMap) -> bool {
    let values = [AUTHORIZATION.as_str(), X_AUTHORIZATION].into_iter().flat_map(|name| headers.get_all(name));
    values.into_iter().any(|value| value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer ")))
}

/// Whose events a JSON body has that was posted to `/api/v1/events` and says so in no header. A body that is neither's is Stigg's, as all
/// that is below `/api/v1` and nobody else's.
pub fn of_body(body: &[u8]) -> Dialect {
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Dialect::CloudEvents;
    }
    match serde_json::Deserializer::from_slice(body).deserialize_map(IsCloudEvent) {
        Ok(true) => Dialect::CloudEvents,
        _ => Dialect::Stigg,
    }
}

/// Whether an object has `specversion` and not `events`.
struct IsCloudEvent;

impl<'de> Visitor<'de> for IsCloudEvent {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has_specversion = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "events" {
                // Whatever follows. That it was not read is an error, which means the same.
                return Ok(false);
            }
            has_specversion |= key == "specversion";
            map.next_value::<IgnoredAny>()?;
        }
        Ok(has_specversion)
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect::{Amberflo, CloudEvents, Octane, Stigg};
    use super::*;

    fn routed(method: &str, path: &str, headers: &[(&'static str, &'static str)]) -> (Option<Dialect>, String) {
        let method = method.parse().expect("a method");
        let headers = headers.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect();
        let Routed { dialect, path } = route(&method, path, &headers);
        (dialect, path)
    }

    /// The table of the contract, row by row.
    #[test]
    fn at_the_root_the_path_decides() {
        let json = ("content-type", "application/json; charset=utf-8");
        for (method, path, headers, dialect) in [
            ("GET", "/v1/events", vec![], Some(Amberflo)),
            ("GET", "/healthz", vec![], Some(Amberflo)),
            ("GET", "/openapi.json", vec![], Some(Amberflo)),
            ("GET", "/docs/page", vec![], Some(Amberflo)),
            ("GET", "/portal/x", vec![("authorization", "Bearer k")], Some(Amberflo)),
            ("GET", "/", vec![], Some(Amberflo)),
            ("POST", "/api/v1/events", vec![("content-type", "Application/CloudEvents-batch+json")], Some(CloudEvents)),
            ("POST", "/api/v1/events", vec![json, ("ce-specversion", "1.0")], Some(CloudEvents)),
            ("POST", "/api/v1/events", vec![json], None),
            ("POST", "/api/v1/events", vec![("content-type", "application/jsonx")], Some(Stigg)),
            ("POST", "/api/v1/events", vec![], Some(Stigg)),
            ("GET", "/api/v1/events", vec![], Some(CloudEvents)),
            ("PUT", "/api/v1/events", vec![], Some(Stigg)),
            ("POST", "/api/v1/meters", vec![json], Some(CloudEvents)),
            ("GET", "/api/v1/meters/m/query", vec![], Some(CloudEvents)),
            ("GET", "/api/v1/metersx", vec![], Some(Stigg)),
            ("POST", "/api/v1/usage", vec![json], Some(Stigg)),
            ("POST", "/api/v1/customers", vec![("authorization", "Bearer k")], Some(Stigg)),
            ("GET", "/api/v1-beta/x", vec![], Some(Stigg)),
            ("POST", "/measurements", vec![], Some(Octane)),
            ("POST", "/measurements/multi", vec![], Some(Octane)),
            ("GET", "/meters/m", vec![], Some(Octane)),
            ("GET", "/price_plans", vec![], Some(Octane)),
            ("POST", "/live_measurements", vec![], Some(Octane)),
            ("GET", "/customers", vec![("authorization", "bearer k")], Some(Octane)),
            ("PUT", "/customers/a", vec![("x-authorization", "Bearer k"), ("x-api-key", "k")], Some(Octane)),
            ("GET", "/customers", vec![("x-api-key", "k")], Some(Amberflo)),
            ("GET", "/customers/a", vec![("authorization", "Basic k")], Some(Amberflo)),
            ("POST", "/ingest", vec![("authorization", "Bearer k")], Some(Amberflo)),
            ("GET", "/meter-definition", vec![], Some(Amberflo)),
            ("GET", "/payments/cost/usage-cost", vec![], Some(Amberflo)),
            ("POST", "/session", vec![], Some(Amberflo)),
            ("GET", "/api", vec![], Some(Amberflo)),
        ] {
            assert_eq!(routed(method, path, &headers), (dialect, path.to_owned()), "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn a_prefix_decides_whatever_else_is_there() {
        for (path, dialect, rest) in [
            ("/amberflo/customers/", Amberflo, "/customers"),
            ("//octane//customers//a%2Fb/", Octane, "/customers/a%2Fb"),
            ("/stigg/api/v1/events", Stigg, "/api/v1/events"),
            ("/openmeter/api/v1/events", CloudEvents, "/api/v1/events"),
            ("/openmeter", CloudEvents, "/"),
            ("/amberflow", Amberflo, "/amberflow"),
        ] {
            for headers in [vec![], vec![("authorization", "Bearer k"), ("content-type", "application/json")]] {
                assert_eq!(routed("POST", path, &headers), (Some(dialect), rest.to_owned()), "{path}");
            }
        }
    }

    #[test]
    fn a_body_says_whose_events_it_has() {
        for (body, dialect) in [
            (r#"{"events":[{"specversion":"1.0"}]}"#, Stigg),
            (r#"{"events":[],"specversion":"1.0"}"#, Stigg),
            (r#"{"specversion":"1.0","events":[]}"#, Stigg),
            (r#"{"ev\u0065nts":7,"specversion":"1.0"}"#, Stigg),
            (r#"{"events":[{"specversion":"#, Stigg),
            (r#" [{"events":[]}]"#, CloudEvents),
            (r#"{"id":"1","spec\u0076ersion":"1.0"}"#, CloudEvents),
            (r#"{"data":{"specversion":"1.0"}}"#, Stigg),
            (r#"{"specversion":"1.0""#, Stigg),
            ("", Stigg),
            ("7", Stigg),
        ] {
            assert_eq!(of_body(body.as_bytes()), dialect, "{body}");
        }
    }

    #[test]
    fn paths_are_normalised_once() {
        for (path, normal) in [("/customers/", "/customers"), ("//customers//a%2Fb/", "/customers/a%2Fb"), ("/", "/"), ("", "/")] {
            assert_eq!(normalise(path), normal, "{path}");
        }
    }
}
