use serde_json::json;

use super::*;

/// 2026-01-01, in ms since 1970.
const DAY_0_MS: i64 = 1_767_225_600_000;

fn new(body: &Value) -> Result<NewSubscription, ApiError> {
    NewSubscription::parse(body.to_string().as_bytes())
}

fn row(body: &Value) -> Assignment {
    new(body).unwrap_or_else(|error| panic!("{body}: {error:?}")).row(UnixMillis(7))
}

fn details<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.expect_err("a bad body").details.expect("details")
}

fn subscription(row: Assignment, end: Option<(i64, CancelReason)>) -> Subscription {
    let customer = CustomerId::parse("acme").expect("a good id");
    Subscription { id: "sub-1".into(), customer, row, status: SubscriptionStatus::Active, end, index: 0 }
}

fn shown(body: &Value) -> Value {
    let row = row(body);
    let end = row.end_ms.map(|end_ms| (end_ms, row.canceled.unwrap_or(CancelReason::Expired)));
    render(&subscription(row, end))
}

#[test]
fn what_a_post_says_is_in_the_row_and_the_rest_is_kept() {
    let body = json!({
        "customerId": "acme", "planId": "pro", "id": "sub-1", "startDate": "2026-01-01T01:00:00+01:00", "billingPeriod": "MONTHLY",
        "metadata": {"k": "v"}, "resourceId": "site-1", "addons": [{"id": "a", "quantity": 2}], "budget": {"hasSoftLimit": true, "limit": 5},
        "billingCycleAnchor": "NOW", "awaitPaymentConfirmation": true, "unitQuantity": 3, "of the future": [null, 1.5],
        "salesforceId": null, "status": "EXPIRED",
    });
    let row = row(&body);
    assert_eq!((row.plan_id.as_str(), row.id.as_deref(), row.start_ms, row.end_ms), ("pro", Some("sub-1"), DAY_0_MS, None));
    let shown = shown(&body);
    for name in
        ["customerId", "planId", "id", "billingPeriod", "metadata", "resourceId", "addons", "budget", "unitQuantity", "of the future"]
    {
        assert_eq!(shown[name], body[name], "{name}");
    }
    assert_eq!((&shown["startDate"], &shown["status"]), (&json!("2026-01-01T00:00:00.000Z"), &json!("ACTIVE")));
    assert_eq!(
        (&shown["pricingType"], &shown["paymentCollection"], &shown["billingId"]),
        (&json!("FREE"), &json!("NOT_REQUIRED"), &Value::Null)
    );
    for left_out in ["billingCycleAnchor", "awaitPaymentConfirmation", "salesforceId", "cancellationDate", "trial"] {
        assert_eq!(shown.get(left_out), None, "{left_out}");
    }
    assert_eq!(self::row(&json!({"customerId": "acme", "planId": "pro"})).start_ms, 7, "now");
}

#[test]
fn a_trial_and_a_cancellation_have_their_times() {
    let base = |more: Value| {
        let mut body = json!({"customerId": "acme", "planId": "pro"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let trial = |is_trial: bool, behavior: &str| json!({"trialOverrideConfiguration": {"isTrial": is_trial, "trialEndBehavior": behavior, "trialEndDate": "2026-01-02T00:00:00Z"}});
    let until = Some(Trial { end_ms: Some(DAY_0_MS + 86_400_000) });
    let (converts, ends) = (row(&base(trial(true, "CONVERT_TO_PAID"))), row(&base(trial(true, "CANCEL_SUBSCRIPTION"))));
    assert_eq!((converts.trial, converts.end_ms, converts.canceled), (until, None, None));
    assert_eq!((ends.trial, ends.end_ms, ends.canceled), (until, Some(DAY_0_MS + 86_400_000), Some(CancelReason::TrialEnded)));
    assert_eq!(row(&base(trial(false, "CANCEL_SUBSCRIPTION"))).trial, None);
    let shown = shown(&base(trial(true, "CANCEL_SUBSCRIPTION")));
    assert_eq!((&shown["trialEndDate"], &shown["cancelReason"]), (&json!("2026-01-02T00:00:00.000Z"), &json!("TRIAL_ENDED")));
    assert_eq!(shown["trial"], json!({"trialEndBehavior": "CANCEL_SUBSCRIPTION"}));
    assert_eq!(row(&base(json!({"trialOverrideConfiguration": {"isTrial": true}}))).trial, Some(Trial { end_ms: None }));
    let canceled = row(&base(json!({"cancellationDate": "2026-01-01T00:00:00.5Z"})));
    assert_eq!((canceled.end_ms, canceled.canceled), (Some(DAY_0_MS + 500), Some(CancelReason::Scheduled)));
    let expired = render(&subscription(Assignment::default(), Some((0, CancelReason::Expired))));
    assert_eq!((&expired["endDate"], expired.get("cancellationDate")), (&json!("1970-01-01T00:00:00.000Z"), None));
}

#[test]
fn a_bad_post_names_the_field() {
    let mut deep = json!(1);
    (0..16).for_each(|_| deep = json!([deep.take()]));
    for (more, expected) in [
        (json!({"customerId": null}), "customerId is missing"),
        (json!({"customerId": 7}), "customerId must be a string"),
        (json!({"planId": null}), "planId is missing"),
        (json!({"planId": ""}), "planId must not be empty"),
        (json!({"id": "x".repeat(256)}), "id has 256 bytes, the limit is 255"),
        (json!({"id": "sub_7_acme"}), "id has the form sub_<number>_<customer>, which only those have that bring none"),
        (json!({"startDate": "today"}), "startDate must be a time in RFC 3339, such as 2026-01-01T00:00:00Z"),
        (json!({"startDate": 7}), "startDate must be a string"),
        (json!({"cancellationDate": "1960-01-01T00:00:00Z"}), "cancellationDate must be a time between the years 1970 and 9999"),
        (json!({"metadata": {"k": 7}}), "metadata.k must be a string"),
        (json!({"resourceId": 7}), "resourceId must be a string"),
        (json!({"trialOverrideConfiguration": 7}), "trialOverrideConfiguration must be an object"),
        (json!({"trialOverrideConfiguration": {}}), "trialOverrideConfiguration.isTrial is missing"),
        (json!({"trialOverrideConfiguration": {"isTrial": 7}}), "trialOverrideConfiguration.isTrial must be true or false"),
        (
            json!({"trialOverrideConfiguration": {"isTrial": true, "trialEndBehavior": "?"}}),
            "trialOverrideConfiguration.trialEndBehavior must be CONVERT_TO_PAID or CANCEL_SUBSCRIPTION",
        ),
        (json!({"charges": deep}), "charges is nested more than 16 deep"),
        (json!({"charges": "a\0"}), "charges has a text that contains U+0000"),
        (json!({"charges": ["x".repeat(1_025)]}), "charges has a text that has 1025 bytes, the limit is 1024"),
        (json!({"charges": vec!["x".repeat(1_000); 9]}), "the body has 9040 bytes of fields that are kept as they are, the limit is 8192"),
    ] {
        let mut body = json!({"customerId": "acme", "planId": "pro"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(details(new(&body)), expected);
    }
    assert_eq!(details(NewSubscription::parse(b"[]")), "the body must be a JSON object");
    let number = br#"{"customerId":"acme","planId":"pro","unitQuantity":1e400}"#;
    assert_eq!(details(NewSubscription::parse(number)), "unitQuantity has a number out of range");
}

#[test]
fn a_patch_changes_what_it_names() {
    let stored = row(&json!({"customerId": "acme", "planId": "pro", "metadata": {"k": "v"}, "salesforceId": "s", "addons": []}));
    let change = |body: Value| SubscriptionChange::parse(body.to_string().as_bytes());
    let changed = |body: Value| {
        let mut row = stored.clone();
        change(body).expect("a good body").apply(&mut row);
        row
    };
    assert_eq!(changed(json!({})), stored);
    let after = changed(json!({"metadata": {"a": "b"}, "salesforceId": null, "trialEndDate": "2026-01-01T00:00:00Z"}));
    assert_eq!(Value::from(after.ext.stigg), json!({"metadata": {"a": "b"}, "addons": []}));
    assert_eq!(after.trial, Some(Trial { end_ms: Some(DAY_0_MS) }));
    assert_eq!(change(json!({"cancellationDate": null})).map(|change| change.end), Ok(Some(None)));
    assert_eq!(change(json!({"cancellationDate": "2026-01-01T00:00:00Z"})).map(|change| change.end), Ok(Some(Some(DAY_0_MS))));
    for fixed in ["id", "customerId", "planId", "startDate", "trialOverrideConfiguration"] {
        assert_eq!(details(change(json!({fixed: "x"}))), format!("{fixed} cannot be changed"));
    }
    assert_eq!(details(change(json!({"metadata": []}))), "metadata must be an object");
    let half = change(json!({"charges": vec!["x".repeat(1_000); 5]})).expect("a good body");
    let mut row = stored.clone();
    row.ext.stigg.insert("entitlements".into(), json!(vec!["x".repeat(1_000); 5]));
    assert_eq!(half.check(&stored), Ok(()));
    assert!(details(half.check(&row)).starts_with("the body would leave 10"));
}

#[test]
fn a_cancellation_says_when() {
    let cancel = |body: Value| parse_cancel(body.to_string().as_bytes());
    assert_eq!(parse_cancel(b""), Ok(CancelTime::Immediate));
    assert_eq!(cancel(json!({})), Ok(CancelTime::Immediate));
    assert_eq!(cancel(json!({"cancellationTime": "IMMEDIATE"})), Ok(CancelTime::Immediate));
    assert_eq!(cancel(json!({"cancellationTime": "END_OF_BILLING_PERIOD"})), Ok(CancelTime::EndOfPeriod));
    let date = "2026-01-01T00:00:00Z";
    assert_eq!(cancel(json!({"cancellationTime": "SPECIFIC_DATE", "endDate": date})), Ok(CancelTime::At(DAY_0_MS)));
    assert_eq!(cancel(json!({"endDate": date})), Ok(CancelTime::At(DAY_0_MS)));
    assert_eq!(details(cancel(json!({"cancellationTime": "SPECIFIC_DATE"}))), "endDate is missing");
    let expected = "cancellationTime must be IMMEDIATE, END_OF_BILLING_PERIOD or SPECIFIC_DATE";
    assert_eq!(details(cancel(json!({"cancellationTime": "SOON"}))), expected);
}
