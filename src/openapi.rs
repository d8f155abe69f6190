//! The description of what is served, in OpenAPI 3.1, made from the table that requests are routed by.
//!
//! [`Routes`] takes a handler and its [`Operation`] in one call, so nothing is routed that is not described. Bodies are read and written field
//! by field, so there are no types to derive a [`Schema`] from: each stands in a file `openapi.rs` beside the routes, with the limits of the
//! code in it. What holds it to the code: `tests/it/openapi.rs` walks the description over a real gateway, and schemathesis
//! (`tests/clients/test_openapi.py`) sends what it allows and what it does not, and checks every answer.
//!
//! Why not utoipa or aide: both describe types that serde reads and writes. Here they would describe a second set of types that nothing uses.

mod operation;
mod refusal;
mod routes;
mod schema;

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::{Map, Value, json};

pub use operation::Operation;
pub use refusal::ErrorForm;
pub use routes::Routes;
pub use schema::Schema;

/// One method of one path.
#[derive(Debug, Clone)]
pub struct Described {
    /// As it is routed.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: String,
    /// The group that it is shown in.
    pub tag: &'static str,
    /// What it does.
    pub operation: Operation,
}

/// What the whole description says beside its operations.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// For people, in Markdown.
    pub description: &'static str,
    /// Groups, in their order: name and description.
    pub tags: &'static [(&'static str, &'static str)],
    /// Base URLs, relative to where the description is: URL and description.
    pub servers: &'static [(&'static str, &'static str)],
}

/// The description as JSON. Paths are in the order of their text, so that equal tables give equal documents.
pub fn document(about: About, operations: &[Described]) -> Value {
    let mut forms = BTreeMap::from([(ErrorForm::OWN.prefix, ErrorForm::OWN)]);
    let mut schemas = BTreeMap::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for described in operations {
        let form = described.operation.errors();
        forms.insert(form.prefix, form);
        schemas.extend(described.operation.schemas());
        let path = paths.entry(camel_case(&described.path)).or_default();
        path.insert(described.method.as_str().to_ascii_lowercase(), described.operation.render(described.tag));
    }
    let mut responses = Map::new();
    for form in forms.values() {
        schemas.extend(form.schemas());
        responses.extend(form.common_responses());
    }
    let tags = about.tags.iter().map(|(name, description)| json!({"name": name, "description": description}));
    let servers = about.servers.iter().map(|(url, description)| json!({"url": url, "description": description}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": about.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": servers.collect::<Vec<_>>(),
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "parameters": operation::common_parameters(),
            "securitySchemes": operation::security_schemes(),
        },
    })
}

/// The names of a path's parameters as the rest of the interface writes names: `{customer_id}` becomes `{customerId}`.
fn camel_case(path: &str) -> String {
    let (mut name, mut in_braces, mut is_upper) = (String::with_capacity(path.len()), false, false);
    for letter in path.chars() {
        match letter {
            '{' | '}' => in_braces = letter == '{',
            '_' if in_braces => {
                is_upper = true;
                continue;
            }
            _ => {}
        }
        name.push(if is_upper { letter.to_ascii_uppercase() } else { letter });
        is_upper = false;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::camel_case;

    #[test]
    fn parameters_of_a_path_are_named_as_everything_is() {
        assert_eq!(camel_case("/a_b/{customer_id}/x_y/{the_other_id}"), "/a_b/{customerId}/x_y/{theOtherId}");
    }
}
