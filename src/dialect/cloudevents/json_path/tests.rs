use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::event::parse::{Members, Parser, Way};

/// Where a path leads, said in the plainest way.
fn found<'j>(steps: &[Step], root: &'j Json) -> Option<&'j Json> {
    steps.iter().try_fold(root, |value, step| match step {
        Step::Name(name) => value.as_object()?.get(&**name),
        Step::Index(index) => {
            let items = value.as_array()?;
            let at = if *index < 0 { items.len() as i64 + index } else { *index };
            items.get(usize::try_from(at).ok()?)
        }
    })
}

/// A value as the reader has it, back as JSON.
pub(in super::super) fn json_of(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(is) => is.into(),
        Value::Number(digits) => serde_json::from_slice(digits).expect("a number"),
        Value::String(text) => text.into(),
        Value::Array(items) => items.map(json_of).collect(),
        Value::Object(members) => Json::Object(members.map(|(name, value)| (name.to_owned(), json_of(value))).collect()),
    }
}

/// The members of an object, as the reader has them.
pub(in super::super) fn with_data<T>(body: &str, with: impl FnOnce(Members<'_>) -> T) -> T {
    let mut parser = Parser::default();
    let parsed = parser.parse(body.as_bytes(), 1).expect("an object");
    let element = parsed.elements().next().expect("one");
    with(element.members.expect("an object"))
}

/// What a path finds in an object, on all ways that a body is read.
fn read_all_ways(path: &JsonPath, root: &Json) -> [Option<Json>; 3] {
    let body = root.to_string();
    let find = |way: Way| {
        let mut parser = Parser::default();
        let parsed = parser.parse_from(way, body.as_bytes(), 1).expect("an object");
        let element = parsed.elements().next().expect("one");
        path.find(Value::Object(element.members.expect("an object"))).map(json_of)
    };
    Way::ALL.map(find)
}

fn steps(text: &str) -> Result<String, String> {
    let path = JsonPath::parse(text).map_err(|error| error.to_string())?;
    let shown = |step: &Step| match step {
        Step::Name(name) => format!("{name:?}"),
        Step::Index(index) => index.to_string(),
    };
    Ok(path.steps().iter().map(shown).collect::<Vec<_>>().join(" "))
}

#[test]
fn names_and_indexes_are_read_in_all_their_forms() {
    for (path, expected) in [
        ("$", ""),
        ("$.a", r#""a""#),
        ("$.a.b_2", r#""a" "b_2""#),
        ("$._é['x y'][0][-1]", r#""_é" "x y" 0 -1"#),
        ("$ .a\t[ 'b' ]\n[ 7 ]", r#""a" "b" 7"#),
        (r#"$["a'b"]['c"d']"#, r#""a'b" "c\"d""#),
        (r#"$['a\'b']["c\"d"]"#, r#""a'b" "c\"d""#),
        (r"$['\b\f\n\r\t\/\\']", r#""\u{8}\u{c}\n\r\t/\\""#),
        (r"$['\u00e9\uD83D\ude00']", r#""é😀""#),
        ("$['']", r#""""#),
        ("$[9007199254740991][-9007199254740991]", "9007199254740991 -9007199254740991"),
    ] {
        assert_eq!(steps(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn what_could_name_several_values_and_what_is_no_path_is_refused() {
    let several = |at: usize| format!("may name several values (at byte {at}): give names and indexes only, as in $.a['b'][0]");
    for (path, reason) in [
        ("", "must begin with $".to_owned()),
        ("a.b", "must begin with $".to_owned()),
        ("@.a", "must begin with $".to_owned()),
        ("$..a", several(1)),
        ("$.*", several(1)),
        ("$.a[*]", several(3)),
        ("$[0,1]", several(1)),
        ("$['a', 'b']", several(1)),
        ("$[1:2]", several(1)),
        ("$[:2]", several(1)),
        ("$[?@.a == 1]", several(1)),
        ("$[9007199254740992]", "has an index of more than 9007199254740991 (at byte 2)".to_owned()),
    ] {
        assert_eq!(steps(path), Err(reason), "{path}");
    }
    for no_path in [
        "$.",
        "$. a",
        "$.1",
        "$.a-b",
        "$a",
        "$.a ",
        "$ ",
        "$[",
        "$[]",
        "$[a]",
        "$[0",
        "$['a",
        "$['a\"]",
        "$[01]",
        "$[-0]",
        "$[--1]",
        "$[+1]",
        "$[1.0]",
        "$['\n']",
        r"$['\x']",
        r#"$['\"']"#,
        r#"$["\'"]"#,
        r"$['\u12']",
        r"$['\ud800']",
        r"$['\ud800\u0041']",
        r"$['\udc00']",
        r"$['\u00é0']",
        "$.a]",
        "$.a.b..",
        "$$",
    ] {
        let refused = steps(no_path).expect_err(no_path);
        assert!(refused.starts_with("is no JSONPath") || refused.starts_with("may name several"), "{no_path}: {refused}");
    }
}

#[test]
fn a_path_has_an_end() {
    assert_eq!(steps(&format!("$['{}']", "x".repeat(1_020))), Err("has 1025 bytes, the limit is 1024".into()));
    assert!(JsonPath::parse(&format!("$['{}']", "x".repeat(1_019))).is_ok());
    assert!(JsonPath::parse(&format!("${}", ".a".repeat(STEPS_MAX))).is_ok());
    assert_eq!(steps(&format!("${}", "[0]".repeat(17))), Err("has more than 16 steps, the limit".into()));
    assert_eq!(JsonPath::parse(&format!("${}", ".a".repeat(1_000))), Err(Error::TooLong(2_001)));
    assert_eq!(JsonPath::parse(&format!("${}", ".a".repeat(500))), Err(Error::TooDeep));
}

#[test]
fn one_step_names_a_member() {
    let member = |path: &str| JsonPath::parse(path).expect("a path").member().map(str::to_owned);
    assert_eq!((member("$.a"), member("$['a b']")), (Some("a".into()), Some("a b".into())));
    assert_eq!((member("$"), member("$[0]"), member("$.a.b")), (None, None, None));
}

#[test]
fn what_is_not_there_is_not_found() {
    let root = json!({"a": {"b": [1, {"c": 2}], "n": null}, "t": "x"});
    for (path, expected) in [
        ("$.a.b[0]", Some(json!(1))),
        ("$.a.b[-1].c", Some(json!(2))),
        ("$.a.b[-2]", Some(json!(1))),
        ("$.a.n", Some(json!(null))),
        ("$", Some(root.clone())),
        ("$.a.b[2]", None),
        ("$.a.b[-3]", None),
        ("$.a.b.c", None),
        ("$.a[0]", None),
        ("$.t[0]", None),
        ("$.t.x", None),
        ("$.b", None),
    ] {
        let path = JsonPath::parse(path).expect("a path");
        assert_eq!(read_all_ways(&path, &root), [expected.clone(), expected.clone(), expected]);
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (0..9_u8).prop_map(Json::from),
        "[a-c\"\\\\é]{0,3}".prop_map(Json::from)
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[a-c]{0,1}|'|\\\\|é", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

pub(in super::super) fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => "[a-c]{0,1}|'|\\\\|é|\"|\n|😀".prop_map(|name| Step::Name(name.into())),
        2 => (-4..4_i64).prop_map(Step::Index),
    ]
}

/// A step in one of its forms.
fn written(step: &Step, form: usize) -> String {
    match step {
        Step::Index(index) => format!("[{index}]"),
        Step::Name(name) if form == 0 && matches!(&**name, "a" | "b" | "c" | "é") => format!(".{name}"),
        Step::Name(name) if form == 1 => format!("[ {} ]", Json::from(&**name)),
        Step::Name(name) if form == 2 => {
            format!("['{}']", name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
        }
        Step::Name(name) => format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")),
    }
}

pub(in super::super) fn any_members() -> impl Strategy<Value = Json> {
    let members = proptest::collection::btree_map("[a-c]{0,1}|'|\\\\|é", any_json(), 0..4);
    members.prop_map(|members| Json::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_path_is_what_its_text_says(steps in proptest::collection::vec((any_step(), 0..4_usize), 0..8)) {
        let text: String = std::iter::once("$".to_owned()).chain(steps.iter().map(|(step, form)| written(step, *form))).collect();
        let path = JsonPath::parse(&text).expect(&text);
        prop_assert!(path.steps().iter().eq(steps.iter().map(|(step, _)| step)));
    }

    #[test]
    fn a_path_finds_what_the_plain_way_finds(
        root in any_members(),
        steps in proptest::collection::vec(any_step(), 0..5),
    ) {
        let path = JsonPath::of(steps);
        let expected = found(path.steps(), &root).cloned();
        prop_assert_eq!(read_all_ways(&path, &root), [expected.clone(), expected.clone(), expected]);
    }

    #[test]
    fn any_text_is_a_path_or_is_refused(text in "\\$?[.\\[\\]'\"\\\\a-c0-9*:?, -]{0,30}|\\PC{0,30}") {
        if let Ok(path) = JsonPath::parse(&text) {
            prop_assert!(path.steps().len() <= STEPS_MAX);
        }
    }
}
