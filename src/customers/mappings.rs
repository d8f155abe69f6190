//! To whom a measurement belongs that names no customer (contract `octane.md` section 1, mapping semantics): to the customer that was
//! created first of all who have a mapping whose label the measurement has, with a value that the mapping's expression matches whole.
//!
//! Expressions come from outside, and so do the values that they are held against. The engine takes time in proportion to the value, whatever
//! the expression is: it never goes back. What an expression becomes in memory has a limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::{Regex, RegexBuilder};

use super::{Customer, CustomerId, Mapping};
use crate::clock::UnixMicros;
use crate::event::DIMENSION_KEY_BYTES_MAX;
use crate::store;

/// Longest label, in bytes: that of a dimension.
pub const LABEL_BYTES_MAX: usize = DIMENSION_KEY_BYTES_MAX;
/// Longest expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 1_024;
/// What an expression may take in memory.
const PROGRAM_BYTES_MAX: usize = 256 << 10;
/// What each thread may keep of it between two values.
const CACHE_BYTES_MAX: usize = 64 << 10;
/// How deep its groups may be nested.
const NESTING_MAX: u32 = 32;
/// Expressions of an account that are more than a text: of a label that an event has, each may be tried.
pub const PATTERNS_MAX: usize = if cfg!(test) { 3 } else { 500 };
/// What is not itself in an expression.
const SPECIAL: &str = r"\.+*?()|[]{}^$";
/// What is itself behind a backslash.
const ESCAPED: &str = r"\.+*?()|[]{}^$/-";

/// An expression that is held against whole values. POSIX's extended expressions mean here what they mean there, but for back references,
/// which no engine without going back can have.
///
/// # Errors
/// What is wrong with it, to be read after the field's name.
pub fn compile(expression: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        // As in POSIX a dot is any character.
        builder.size_limit(PROGRAM_BYTES_MAX).dfa_size_limit(CACHE_BYTES_MAX).nest_limit(NESTING_MAX).dot_matches_new_line(true).build()
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

/// What of a customer decides which measurements are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    place: Place,
    mappings: Vec<Mapping>,
}

/// Where a customer stands among all of its account: by creation, then id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    created_at: UnixMicros,
    customer: CustomerId,
}

impl Mapped {
    /// `None`: no measurement that names no customer can be this one's.
    pub fn of(customer: &Customer) -> Option<Self> {
        let is_mapped = !customer.is_removed() && !customer.mappings.is_empty();
        let place = || Place { created_at: customer.created_at, customer: customer.id().clone() };
        is_mapped.then(|| Self { place: place(), mappings: customer.mappings.clone() })
    }

    /// By what customers are ordered.
    pub fn order(&self) -> (UnixMicros, &CustomerId) {
        (self.place.created_at, &self.place.customer)
    }

    /// The same, of a customer as it is stored.
    ///
    /// # Errors
    /// [`store::Error::Damaged`].
    pub fn read(stored: &[u8]) -> Result<Option<Self>, store::Error> {
        Ok(Self::of(&super::model::read(stored)?))
    }
}

/// All mappings of an account, ready to be asked. What is held against a whole text is looked up; expressions are tried one after the other.
#[derive(Debug, Default)]
pub struct Matcher {
    customers: HashMap<CustomerId, Mapped>,
    labels: HashMap<String, Label>,
    patterns: usize,
}

/// The mappings of one label.
#[derive(Debug, Default)]
struct Label {
    /// By value, those who have it, in their order.
    exact: HashMap<String, Vec<Place>>,
    /// Those to whom any value belongs.
    any: BTreeSet<Place>,
    /// In the order of the customers; the number tells those of one customer apart.
    patterns: BTreeMap<(Place, usize), Regex>,
}

impl Matcher {
    /// The mappings of these customers.
    pub fn of(customers: &[Customer]) -> Self {
        let mut matcher = Self::default();
        for customer in customers {
            matcher.set(customer.id(), Mapped::of(customer));
        }
        matcher
    }

    /// Whether no measurement can be anybody's.
    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Puts these mappings of a customer in the place of those that it had. An expression that this binary does not understand matches
    /// nothing, and neither does one past [`PATTERNS_MAX`].
    pub fn set(&mut self, id: &CustomerId, mapped: Option<Mapped>) {
        if let Some(old) = self.customers.remove(id) {
            self.forget(&old);
        }
        let Some(mapped) = mapped else { return };
        for (at, Mapping { label, value_regex }) in mapped.mappings.iter().enumerate() {
            let entry = self.labels.entry(label.clone()).or_default();
            match value_regex.as_deref().map(|expression| (literal(expression), expression)) {
                None => _ = entry.any.insert(mapped.place.clone()),
                Some((Some(value), _)) => {
                    let places = entry.exact.entry(value).or_default();
                    if let Err(at) = places.binary_search(&mapped.place) {
                        places.insert(at, mapped.place.clone());
                    }
                }
                Some((None, _)) if self.patterns >= PATTERNS_MAX => {
                    tracing::warn!(
                        customer = id.as_str(),
                        "a mapping matches nothing: the account has {PATTERNS_MAX} expressions, the limit"
                    );
                }
                Some((None, expression)) => {
                    if let Ok(regex) = compile(expression) {
                        entry.patterns.insert((mapped.place.clone(), at), regex);
                        self.patterns += 1;
                    }
                }
            }
        }
        self.customers.insert(id.clone(), mapped);
    }

    fn forget(&mut self, Mapped { place, mappings }: &Mapped) {
        for (at, Mapping { label, value_regex }) in mappings.iter().enumerate() {
            let Some(entry) = self.labels.get_mut(label) else { continue };
            entry.any.remove(place);
            self.patterns -= usize::from(entry.patterns.remove(&(place.clone(), at)).is_some());
            if let Some(value) = value_regex.as_deref().and_then(literal)
                && let Some(places) = entry.exact.get_mut(&value)
            {
                places.retain(|known| known != place);
                if places.is_empty() {
                    entry.exact.remove(&value);
                }
            }
            if entry.exact.is_empty() && entry.any.is_empty() && entry.patterns.is_empty() {
                self.labels.remove(label);
            }
        }
    }

    /// The customer to whom a measurement with these labels belongs.
    pub fn customer<'m>(&'m self, labels: &[(&str, &str)]) -> Option<&'m CustomerId> {
        let known = || labels.iter().filter_map(|(label, value)| Some((self.labels.get(*label)?, *value)));
        let first_of = |(label, value): (&'m Label, &str)| {
            label.exact.get(value).and_then(|places| places.first()).into_iter().chain(label.any.first()).min()
        };
        let mut best = known().filter_map(first_of).min();
        for (label, value) in known() {
            let earlier = label.patterns.iter().take_while(|((place, _), _)| best.is_none_or(|best| place < best));
            if let Some(((place, _), _)) = earlier.into_iter().find(|(_, regex)| regex.is_match(value)) {
                best = Some(place);
            }
        }
        best.map(|place| &place.customer)
    }
}

/// The one text that an expression matches whole, if it is plain enough to tell.
fn literal(expression: &str) -> Option<String> {
    let expression = expression.strip_prefix('^').unwrap_or(expression);
    let mut text = String::with_capacity(expression.len());
    let mut rest = expression.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => text.push(rest.next().filter(|escaped| ESCAPED.contains(*escaped))?),
            '$' if rest.as_str().is_empty() => {}
            special if SPECIAL.contains(special) => return None,
            plain => text.push(plain),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn expressions_past_the_limit_match_nothing_and_room_is_given_back() {
        let with = |id: &str, at: i64| {
            let mut customer = customer(id, &[("user", Some(&format!("{id}.+"))), ("host", Some(id))]);
            customer.created_at = UnixMicros(at);
            customer
        };
        let customers: Vec<_> = (0..5).map(|n| with(&format!("c{n}"), n)).collect();
        let mut matcher = Matcher::of(&customers);
        let found = |matcher: &Matcher, label: &str, value: &str| matcher.customer(&[(label, value)]).map(|id| id.as_str().to_owned());
        assert_eq!((found(&matcher, "user", "c2x"), found(&matcher, "user", "c3x")), (Some("c2".into()), None));
        assert_eq!(found(&matcher, "host", "c4"), Some("c4".into()), "a plain text needs no room");
        matcher.set(customers[0].id(), None);
        matcher.set(customers[3].id(), Mapped::of(&customers[3]));
        assert_eq!((found(&matcher, "user", "c0x"), found(&matcher, "user", "c3x")), (None, Some("c3".into())));
    }

    fn any_expression() -> impl Strategy<Value = Option<String>> {
        proptest::option::weighted(0.8, prop_oneof!["\\^?[ab./-]{0,3}\\$?", "[ab](\\.|\\||\\\\\\.|\\\\-|\\*|\\$|\\^)[ab]?"])
    }

    proptest! {
        #[test]
        fn a_text_is_told_from_an_expression_only_where_they_mean_the_same(expression in "[ab^$.\\\\/|*+?(){}\\[\\]-]{0,5}", value in "[ab^$./|*-]{0,4}") {
            if let (Some(text), Ok(regex)) = (literal(&expression), compile(&expression)) {
                prop_assert_eq!(regex.is_match(&value), text == value);
                prop_assert!(regex.is_match(&text));
            }
        }

        /// As they stood, one after the other, held against every expression in turn.
        #[test]
        fn the_first_is_found_as_if_all_were_tried_in_turn(
            customers in proptest::collection::vec((0..3_i64, proptest::collection::vec(("[xy]", any_expression()), 0..3)), 1..4),
            removed in proptest::collection::vec(any::<bool>(), 4),
            labels in proptest::collection::vec(("[xyz]", "[ab./-]{0,3}"), 0..3),
        ) {
            let mut all = Vec::new();
            let mut patterns = 0;
            for (at, (created_at, mappings)) in customers.iter().enumerate() {
                let mappings: Vec<_> = mappings.iter().map(|(label, expression)| (label.as_str(), expression.as_deref())).collect();
                let mut customer = customer(&format!("c{at}"), &mappings);
                customer.created_at = UnixMicros(*created_at);
                patterns += mappings.iter().filter_map(|(_, expression)| *expression).filter(|expression| literal(expression).is_none()).count();
                all.push(customer);
            }
            prop_assume!(patterns <= PATTERNS_MAX);
            let mut matcher = Matcher::of(&all);
            for (customer, _) in all.iter().zip(&removed).filter(|(_, removed)| **removed) {
                matcher.set(customer.id(), None);
            }
            let mut left: Vec<_> = all.iter().zip(&removed).filter(|(_, removed)| !**removed).map(|(customer, _)| customer).collect();
            left.sort_by_key(|customer| customer.created_at);
            let labels: Vec<_> = labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            let is_met = |mapping: &Mapping| labels.iter().any(|(label, value)| {
                mapping.label == **label && mapping.value_regex.as_deref().is_none_or(|regex| compile(regex).is_ok_and(|regex| regex.is_match(value)))
            });
            let expected = left.iter().find(|customer| customer.mappings.iter().any(is_met)).map(|customer| customer.id());
            prop_assert_eq!(matcher.customer(&labels), expected);
        }
    }
}
