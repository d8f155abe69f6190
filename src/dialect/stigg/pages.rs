//! Lists: the query's page and filters, cursors, and the envelope (contract `stigg.md` section 0).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::fields::time;
use crate::clock::UnixMicros;
use crate::customers::page::{Edge, Page, Place, Window};
use crate::dialect::ApiError;

/// Entries of a page, unless it says otherwise, and at most.
pub const LIMIT: usize = 20;
/// See [`LIMIT`].
pub const LIMIT_MAX: usize = 100;
/// Longest cursor: of a time and an id of 300 bytes, with room.
const CURSOR_BYTES_MAX: usize = 512;

/// Of what a list is. A cursor of one is none of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Customers.
    Customers,
    /// Subscriptions.
    Subscriptions,
}

impl Listed {
    fn letter(self) -> char {
        match self {
            Self::Customers => 'c',
            Self::Subscriptions => 's',
        }
    }
}

/// The parameters of a query; of several with one name the first.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Those that were sent.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// One of them.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A list: comma-joined, or given several times.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        let found = self.0.iter().filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name);
        let items: Vec<_> = found.flat_map(|(_, value)| value.split(',')).filter(|item| !item.is_empty()).collect();
        (!items.is_empty()).then_some(items)
    }

    /// Which page is wanted.
    ///
    /// # Errors
    /// 400.
    pub fn window(&self, of: Listed) -> Result<Window, ApiError> {
        let limit = match self.text("limit") {
            None => LIMIT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                limit.ok_or_else(|| ApiError::bad_field("limit", format!("must be a whole number between 1 and {LIMIT_MAX}")))?
            }
        };
        let (after, before) = (self.cursor(&["after", "starting_after"], of)?, self.cursor(&["before", "ending_before"], of)?);
        let edge = match (after, before) {
            (None, None) => Edge::Start,
            (Some(place), None) => Edge::After(place),
            (None, Some(place)) => Edge::Before(place),
            (Some(_), Some(_)) => return Err(ApiError::bad_field("before", "cannot be given together with after")),
        };
        Ok(Window { edge, limit })
    }

    fn cursor(&self, names: &[&'static str], of: Listed) -> Result<Option<Place>, ApiError> {
        let given = names.iter().find_map(|name| Some((name, self.text(name).filter(|text| !text.is_empty())?)));
        let read = |(name, text)| {
            let reason = "must be a cursor from the pagination of an answer to this list";
            read_cursor(text, of).ok_or_else(|| ApiError::bad_field(name, reason))
        };
        given.map(read).transpose()
    }

    /// When what is wanted was made.
    ///
    /// # Errors
    /// 400.
    pub fn created(&self) -> Result<Created, ApiError> {
        let mut bounds = Vec::new();
        for (name, text) in &self.0 {
            let Some(op) = name.strip_prefix("createdAt") else { continue };
            let op = match op.strip_prefix('[').and_then(|op| op.strip_suffix(']')) {
                Some("gt") => Op::After,
                Some("gte") => Op::From,
                Some("lt") => Op::Before,
                Some("lte") => Op::Until,
                _ => return Err(ApiError::bad_field(shown(name), "is no filter here; createdAt[gt], [gte], [lt] and [lte] are")),
            };
            if bounds.len() == BOUNDS_MAX {
                return Err(ApiError::bad_field("createdAt", format!("is given more than {BOUNDS_MAX} times")));
            }
            bounds.push((op, time(text).map_err(|reason| ApiError::bad_field(name, reason))?));
        }
        Ok(Created(bounds))
    }
}

/// Most bounds of a time.
const BOUNDS_MAX: usize = 8;

/// What somebody else called it, for an error.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    name.chars().take(CHARS_MAX).collect()
}

#[derive(Debug, Clone, Copy)]
enum Op {
    After,
    From,
    Before,
    Until,
}

/// Bounds of a time, in ns since 1970.
#[derive(Debug, Clone)]
pub struct Created(Vec<(Op, i128)>);

impl Created {
    /// Whether a time, as it is shown (in ms), lies within the bounds.
    pub fn has(&self, made_at: UnixMicros) -> bool {
        let shown_ns = i128::from(made_at.millis().0) * 1_000_000;
        self.0.iter().all(|(op, bound)| match op {
            Op::After => shown_ns > *bound,
            Op::From => shown_ns >= *bound,
            Op::Before => shown_ns < *bound,
            Op::Until => shown_ns <= *bound,
        })
    }
}

fn cursor(place: &Place, of: Listed) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{}:{}", of.letter(), place.made_at.0, place.id))
}

fn read_cursor(text: &str, of: Listed) -> Option<Place> {
    if text.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let place = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (made_at, id) = place.strip_prefix(of.letter())?.split_once(':')?;
    Some(Place { made_at: UnixMicros(made_at.parse().ok()?), id: id.to_owned() })
}

/// A list as it goes out.
pub fn envelope<T>(page: &Page<T>, of: Listed, mut render: impl FnMut(&T) -> Value) -> Value {
    let next = page.items.last().filter(|_| page.has_after).map(|(place, _)| cursor(place, of));
    let prev = page.items.first().filter(|_| page.has_before).map(|(place, _)| cursor(place, of));
    let data: Vec<Value> = page.items.iter().map(|(_, item)| render(item)).collect();
    json!({"data": data, "pagination": {"next": next, "prev": prev}})
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn details<T>(result: Result<T, ApiError>) -> String {
        result.err().and_then(|error| error.details).expect("a refusal")
    }

    #[test]
    fn a_page_has_1_to_100_entries() {
        let limit = |text| query(&[("limit", text)]).window(Listed::Customers).map(|window| window.limit);
        assert_eq!(query(&[]).window(Listed::Customers), Ok(Window { edge: Edge::Start, limit: 20 }));
        assert_eq!((limit("1"), limit("100")), (Ok(1), Ok(100)));
        for wrong in ["0", "-1", "101", "", "1.0", "ten", "99999999999999999999999"] {
            assert_eq!(details(limit(wrong)), "limit must be a whole number between 1 and 100", "{wrong}");
        }
    }

    #[test]
    fn what_is_no_cursor_of_this_list_is_refused_by_its_name() {
        let place = Place { made_at: UnixMicros(5), id: "a".into() };
        let good = cursor(&place, Listed::Customers);
        let edge = |name, text| query(&[(name, text)]).window(Listed::Customers).map(|window| window.edge);
        assert_eq!(edge("after", &good), Ok(Edge::After(place.clone())));
        assert_eq!(edge("starting_after", &good), Ok(Edge::After(place.clone())));
        assert_eq!(edge("before", &good), Ok(Edge::Before(place.clone())));
        assert_eq!(edge("ending_before", &good), Ok(Edge::Before(place.clone())));
        assert_eq!(edge("after", ""), Ok(Edge::Start));
        let other = cursor(&place, Listed::Subscriptions);
        for wrong in ["x", "YzU6", "====", &other, &"A".repeat(600)] {
            let found = edge("before", wrong);
            // `YzU6` is a place with an empty id: where nothing stands, but a place.
            assert!(wrong == "YzU6" || details(found).starts_with("before must be a cursor"), "{wrong}");
        }
        let both = query(&[("after", &good), ("before", &good)]).window(Listed::Customers);
        assert_eq!(details(both), "before cannot be given together with after");
    }

    #[test]
    fn bounds_of_times_are_those_of_what_is_shown() {
        let has = |op: &str, bound: &str| {
            let created = query(&[(op, bound)]).created().expect("a bound");
            // Shown as …00.001Z.
            created.has(UnixMicros(1_767_225_600_001_900))
        };
        let (at, before, after) = ("2026-01-01T01:00:00.001+01:00", "2026-01-01T00:00:00.000999Z", "2026-01-01T00:00:00.0010001Z");
        assert_eq!([before, at, after].map(|bound| has("createdAt[gt]", bound)), [true, false, false]);
        assert_eq!([before, at, after].map(|bound| has("createdAt[gte]", bound)), [true, true, false]);
        assert_eq!([before, at, after].map(|bound| has("createdAt[lt]", bound)), [false, false, true]);
        assert_eq!([before, at, after].map(|bound| has("createdAt[lte]", bound)), [false, true, true]);
        assert!(details(query(&[("createdAt[gte]", "yesterday")]).created()).starts_with("createdAt[gte] must be a time in RFC 3339"));
        assert!(details(query(&[("createdAt[eq]", at)]).created()).starts_with("createdAt[eq] is no filter"));
        assert!(details(query(&[("createdAt", at)]).created()).starts_with("createdAt is no filter"));
        assert!(details(query(&[("createdAt[lt]", "1969-12-31T23:59:59Z")]).created()).contains("between the years"));
    }

    #[test]
    fn a_list_is_comma_joined_or_repeated() {
        assert_eq!(query(&[("status", "A,B"), ("status[]", "C"), ("other", "D")]).list("status"), Some(vec!["A", "B", "C"]));
        assert_eq!(query(&[("status", "")]).list("status"), None);
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_back(made_at in any::<i64>(), id in "\\PC{0,9}") {
            let place = Place { made_at: UnixMicros(made_at), id };
            for of in [Listed::Customers, Listed::Subscriptions] {
                prop_assert_eq!(read_cursor(&cursor(&place, of), of), Some(place.clone()));
            }
        }
    }
}
