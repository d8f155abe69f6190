//! To whom a measurement belongs that names no customer (contract `octane.md` section 1, mapping semantics): to the customer that was
//! created first of all who have a mapping whose label the measurement has, with a value that the mapping's expression matches whole.
//!
//! Expressions come from outside, and so do the values that they are held against. The engine takes time in proportion to the value, whatever
//! the expression is: it never goes back. What an expression becomes in memory has a limit.

use regex::{Regex, RegexBuilder};

use super::{Customer, CustomerId};
use crate::event::DIMENSION_KEY_BYTES_MAX;

/// Longest label, in bytes: that of a dimension.
pub const LABEL_BYTES_MAX: usize = DIMENSION_KEY_BYTES_MAX;
/// Longest expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 1_024;
/// What an expression may take in memory.
const PROGRAM_BYTES_MAX: usize = 256 << 10;
/// How deep its groups may be nested.
const NESTING_MAX: u32 = 32;

/// An expression that is held against whole values. POSIX's extended expressions mean here what they mean there, but for back references,
/// which no engine without going back can have.
///
/// # Errors
/// What is wrong with it, to be read after the field's name.
pub fn compile(expression: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        // As in POSIX a dot is any character.
        builder.size_limit(PROGRAM_BYTES_MAX).nest_limit(NESTING_MAX).dot_matches_new_line(true).build()
    };
    // Alone first: `a)|(b` is one only with the group around it.
    build(expression).map_err(|error| reason(&error))?;
    build(&format!(r"\A(?:{expression})\z")).map_err(|error| reason(&error))
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("is too large a regular expression: it takes more than {PROGRAM_BYTES_MAX} bytes"),
        // The last line says what is wrong, the others where, in a drawing.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("is no regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}

/// All mappings of an account, ready to be asked.
#[derive(Debug, Default)]
pub struct Matcher {
    /// In the order of their customers' creation.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    label: String,
    /// `None`: any value.
    value: Option<Regex>,
    customer: CustomerId,
}

impl Matcher {
    /// The mappings of customers that are ordered by creation, as [`super::Customers::list`] has them. An expression that this binary does not
    /// understand matches nothing.
    pub fn of(customers: &[Customer]) -> Self {
        let mut entries = Vec::new();
        for customer in customers {
            for mapping in &customer.mappings {
                let Ok(value) = mapping.value_regex.as_deref().map(compile).transpose() else { continue };
                entries.push(Entry { label: mapping.label.clone(), value, customer: customer.id().clone() });
            }
        }
        Self { entries }
    }

    /// The customer to whom a measurement with these labels belongs.
    pub fn customer<'m>(&'m self, labels: &[(&str, &str)]) -> Option<&'m CustomerId> {
        let is_met = |entry: &&Entry| {
            let mut values = labels.iter().filter(|(label, _)| *label == entry.label).map(|(_, value)| *value);
            values.any(|value| entry.value.as_ref().is_none_or(|regex| regex.is_match(value)))
        };
        self.entries.iter().find(is_met).map(|entry| &entry.customer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::customers::Mapping;

    fn customer(id: &str, mappings: &[(&str, Option<&str>)]) -> Customer {
        let mut customer = Customer::new(CustomerId::parse(id).expect("a good id"), UnixMicros(1));
        let made = |(label, regex): &(&str, Option<&str>)| Mapping { label: (*label).into(), value_regex: regex.map(str::to_owned) };
        customer.mappings = mappings.iter().map(made).collect();
        customer
    }

    #[test]
    fn an_expression_is_held_against_the_whole_value() {
        for (expression, value, matches) in [
            ("u-7", "u-7", true),
            ("u-7", "u-77", false),
            ("u-7", "xu-7", false),
            ("a|ab", "ab", true),
            ("a|b", "ba", false),
            ("^u-[[:digit:]]+$", "u-42", true),
            ("u.v", "u\nv", true),
            ("u.v", "u\u{e9}v", true),
            ("(?i)acme", "ACME", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(compile(expression).expect("an expression").is_match(value), matches, "{expression} {value}");
        }
    }

    #[test]
    fn what_cannot_be_one_is_refused_with_its_reason() {
        for (expression, words) in [
            ("(", "is no regular expression: unclosed group"),
            ("a)|(b", "is no regular expression: unopened group"),
            (r"(a)\1", "is no regular expression: backreferences are not supported"),
            ("(?x)a # c", "is no regular expression: unclosed group"),
            (r"\w{100}{100}", "is too large a regular expression: it takes more than 262144 bytes"),
            (&format!("{}a{}", "(".repeat(40), ")".repeat(40)), "is no regular expression: exceed the maximum number of nested"),
        ] {
            let refused = compile(expression).expect_err("no expression");
            assert!(refused.starts_with(words), "{expression}: {refused}");
        }
    }

    #[test]
    fn an_expression_for_which_others_would_go_back_for_ever_is_held_against_a_long_value_at_once() {
        let regex = compile("(a*)*b|(a|a)*c|(.*)(.*)(.*)(.*)d").expect("an expression");
        assert!(!regex.is_match(&"a".repeat(100_000)));
    }

    #[test]
    fn the_first_customer_with_a_mapping_that_is_met_is_it() {
        let matcher = Matcher::of(&[
            customer("first", &[("user", Some("u-1")), ("host", None)]),
            customer("second", &[("user", Some("u-.*"))]),
            customer("third", &[("user", None), ("host", Some("("))]),
        ]);
        for (labels, found) in [
            (vec![("user", "u-1")], Some("first")),
            (vec![("user", "u-2")], Some("second")),
            (vec![("user", "x")], Some("third")),
            (vec![("host", "")], Some("first")),
            (vec![("region", "eu")], None),
            (vec![], None),
        ] {
            assert_eq!(matcher.customer(&labels).map(CustomerId::as_str), found, "{labels:?}");
        }
    }
}
