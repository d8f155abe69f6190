//! Several paths looked up in one walk over the data of an event: what they have in common is walked once, and what none of them asks for is
//! passed over.

use super::json_path::{JsonPath, Step, place};
use crate::dialect::draft::repeated;
use crate::event::Rejection;
use crate::event::parse::{Members, Value};

/// Paths, each with a number.
#[derive(Debug, Default)]
pub struct Paths {
    root: Node,
    paths: Vec<JsonPath>,
    nodes: usize,
}

#[derive(Debug, Default)]
struct Node {
    number: usize,
    /// The path that ends here.
    path: Option<usize>,
    /// Sorted by name.
    names: Vec<(Box<str>, Self)>,
    indexes: Vec<(i64, Self)>,
}

/// What was found, by the paths' numbers. Used again and again.
#[derive(Default)]
pub struct Found<'t> {
    values: Vec<Option<Value<'t>>>,
    /// By the nodes' numbers: whoever comes to one twice came over a name that was given twice.
    visited: Vec<bool>,
}

impl<'t> Found<'t> {
    /// What a path names, if it is there.
    pub fn get(&self, path: usize) -> Option<&Value<'t>> {
        self.values.get(path)?.as_ref()
    }
}

impl Paths {
    /// The number of a path, which is a new one unless it is there.
    pub fn add(&mut self, path: &JsonPath) -> usize {
        let mut node = &mut self.root;
        for step in path.steps() {
            node = node.child(step, &mut self.nodes);
        }
        if let Some(known) = node.path {
            return known;
        }
        let number = self.paths.len();
        node.path = Some(number);
        self.paths.push(path.clone());
        number
    }

    /// Forgets what was found of another event.
    pub fn clear(&self, found: &mut Found<'_>) {
        found.values.clear();
        found.values.resize_with(self.paths.len(), || None);
        found.visited.clear();
        found.visited.resize(self.nodes + 1, false);
    }

    /// Takes note of the data itself, which a path without steps names.
    pub fn see_root<'t>(&self, data: &Members<'t>, found: &mut Found<'t>) {
        if let Some(path) = self.root.path {
            found.values[path] = Some(Value::Object(data.clone()));
        }
    }

    /// Looks at one member of the data.
    ///
    /// # Errors
    /// A member that a path leads over is given twice.
    pub fn see<'t>(&self, name: &str, value: &Value<'t>, found: &mut Found<'t>) -> Result<(), Rejection> {
        match self.root.named(name) {
            Some(child) => child.visit(name, value.clone(), found),
            None => Ok(()),
        }
    }
}

impl Node {
    fn child(&mut self, step: &Step, nodes: &mut usize) -> &mut Self {
        let new = |nodes: &mut usize| {
            *nodes += 1;
            Self { number: *nodes, ..Self::default() }
        };
        match step {
            Step::Name(name) => {
                let at = self.names.binary_search_by(|(known, _)| known.cmp(name)).unwrap_or_else(|at| {
                    self.names.insert(at, (name.clone(), new(nodes)));
                    at
                });
                &mut self.names[at].1
            }
            Step::Index(index) => {
                let at = self.indexes.iter().position(|(known, _)| known == index).unwrap_or_else(|| {
                    self.indexes.push((*index, new(nodes)));
                    self.indexes.len() - 1
                });
                &mut self.indexes[at].1
            }
        }
    }

    fn named(&self, name: &str) -> Option<&Self> {
        let at = self.names.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.names[at].1)
    }

    fn visit<'t>(&self, name: &str, value: Value<'t>, found: &mut Found<'t>) -> Result<(), Rejection> {
        if std::mem::replace(&mut found.visited[self.number], true) {
            return Err(repeated(&format!("data.{}", name.escape_default())));
        }
        match &value {
            Value::Object(members) if !self.names.is_empty() => {
                for (name, value) in members.clone() {
                    if let Some(child) = self.named(name) {
                        child.visit(name, value, found)?;
                    }
                }
            }
            Value::Array(items) if !self.indexes.is_empty() => {
                // One after the other: each element is passed over to get to the next.
                for (at, value) in items.clone().enumerate() {
                    let here = self.indexes.iter().filter(|(index, _)| place(*index, items.len()) == Some(at));
                    for (_, child) in here {
                        child.visit(name, value.clone(), found)?;
                    }
                }
            }
            _ => {}
        }
        if let Some(path) = self.path {
            found.values[path] = Some(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json_path::tests::{any_members, any_step, json_of, with_data};
    use super::*;

    #[test]
    fn a_name_that_is_given_twice_is_refused_where_a_path_leads_over_it() {
        let mut paths = Paths::default();
        for path in ["$.a.x", "$.a.y", "$.b[0]"] {
            paths.add(&JsonPath::parse(path).expect("a path"));
        }
        for (body, refused) in [
            (r#"{"a":{"x":1},"a":{"y":2}}"#, Some("data.a")),
            (r#"{"a":{"x":1,"x":1}}"#, Some("data.x")),
            (r#"{"b":[1],"b":[2]}"#, Some("data.b")),
            (r#"{"a":{"z":1,"z":1},"c":1,"c":{}}"#, None),
            (r#"{"a":{"x":1,"y":1},"b":[{"x":1,"x":1}]}"#, None),
        ] {
            with_data(body, |data| {
                let mut found = Found::default();
                paths.clear(&mut found);
                let seen = data.into_iter().try_for_each(|(name, value)| paths.see(name, &value, &mut found));
                assert_eq!(seen.err().map(|rejection| rejection.field).as_deref(), refused, "{body}");
            });
        }
    }

    proptest! {
        #[test]
        fn paths_find_together_what_each_finds_alone(
            data in any_members(),
            all in proptest::collection::vec(proptest::collection::vec(any_step(), 0..5), 1..8),
        ) {
            let all: Vec<_> = all.into_iter().map(JsonPath::of).collect();
            let mut paths = Paths::default();
            let numbers: Vec<_> = all.iter().map(|path| paths.add(path)).collect();
            with_data(&data.to_string(), |data| {
                let mut found = Found::default();
                // What was found before makes no difference.
                for _ in 0..2 {
                    paths.clear(&mut found);
                    paths.see_root(&data, &mut found);
                    data.clone().try_for_each(|(name, value)| paths.see(name, &value, &mut found)).expect("no name is given twice");
                }
                for (path, number) in all.iter().zip(numbers) {
                    let alone = path.find(Value::Object(data.clone())).map(json_of);
                    prop_assert_eq!(found.get(number).cloned().map(json_of), alone);
                }
                Ok(())
            })?;
        }
    }
}
