use super::*;
use crate::billing::prepaid::{Interval, Recurrence};
use crate::clock::UnixMillis;
use prepaid::{OrderRequest, PaymentRequest};
use pricing::AssignRequest;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn details<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.expect_err("refused");
    assert_eq!((error.status.as_u16(), error.code), (400, "BAD_REQUEST"));
    error.details.expect("details")
}

#[test]
fn both_shapes_of_an_assignment_are_read() {
    let parse = |body: &str| AssignRequest::parse(body.as_bytes()).map(|request| request.new);
    let seed = parse(r#"{"customerId":"c","productId":"plan","startTime":1767225600123}"#).expect("good");
    assert_eq!((seed.plan_id.as_str(), seed.product_id.as_deref(), seed.start_ms), ("plan", Some("plan"), Some(1_767_225_600_123)));
    let go =
        parse(r#"{"customerId":"c","productId":"1","productPlanId":"plan","startTimeInSeconds":0,"endTimeInSeconds":0}"#).expect("good");
    assert_eq!((go.plan_id.as_str(), go.product_id.as_deref(), go.start_ms, go.end_ms), ("plan", Some("1"), None, None));
    let nulls = parse(r#"{"customerId":"c","productId":null,"productPlanId":"plan","startTime":null}"#).expect("good");
    assert_eq!((nulls.product_id, nulls.start_ms), (None, None));
    let end =
        parse(r#"{"customerId":"c","productPlanId":"p","startTimeInSeconds":1767225600.0,"endTimeInSeconds":1767225601}"#).expect("good");
    assert_eq!((end.start_ms, end.end_ms), (Some(1_767_225_600_000), Some(1_767_225_601_000)));
    for (body, expected) in [
        ("[]", "the body must be a JSON object"),
        (r#"{"productId":"p"}"#, "customerId is missing"),
        (r#"{"customerId":"","productId":"p"}"#, "customerId must not be empty"),
        (r#"{"customerId":7,"productId":"p"}"#, "customerId must be a string"),
        (r#"{"customerId":"c"}"#, "productPlanId is missing, and so is productId"),
        (r#"{"customerId":"c","productId":1}"#, "productId must be a string"),
        (r#"{"customerId":"c","productId":"p","startTime":"soon"}"#, "startTime must be a whole number"),
        (
            r#"{"customerId":"c","productId":"p","startTime":-1}"#,
            "startTime must be a time between the years 1970 and 9999, in ms since 1970",
        ),
        (
            r#"{"customerId":"c","productId":"p","startTimeInSeconds":1767225600000}"#,
            "startTimeInSeconds must be a time between the years 1970 and 9999, in s since 1970",
        ),
    ] {
        assert_eq!(details(parse(body)), expected, "{body}");
    }
}

#[test]
fn both_shapes_of_a_prepaid_order_are_read() {
    let parse = |family, body: &str| OrderRequest::parse(body.as_bytes(), family, NOW);
    let seed = parse(Family::Dashed, r#"{"customerId":"c","amount":500.00,"expirationTime":1798761600000}"#).expect("good");
    assert_eq!((seed.id, seed.terms.amount.to_string(), seed.terms.currency.code()), (None, "500".to_owned(), "USD"));
    assert_eq!((seed.terms.start_ms, seed.terms.expires_ms), (NOW.0, Some(1_798_761_600_000)));
    let go = r#"{"id":"o","customerId":"c","startTimeInSeconds":1767225600,"prepaidPrice":9.5,"prepaidOfferVersion":0,"externalPayment":false,
                 "originalWorth":0,"originalCurrency":"","productId":"1","recurrenceFrequency":{"interval":"","intervalsCount":0}}"#;
    let go = parse(Family::Slashed, go).expect("good");
    assert_eq!((go.id.as_deref(), go.terms.recurrence, go.terms.original_worth), (Some("o"), None, go.terms.amount));
    let ts = r#"{"id":"o","customerId":"c","startTimeInSeconds":1767225600,"prepaidPrice":9.5,"originalWorth":10.25,
                 "recurrenceFrequency":{"interval":"month","intervalsCount":2}}"#;
    let ts = parse(Family::Slashed, ts).expect("good").terms;
    assert_eq!(
        (ts.recurrence, ts.original_worth.to_string()),
        (Some(Recurrence { interval: Interval::Month, count: 2 }), "10.25".to_owned())
    );
    // Each path takes the other's shape.
    assert!(parse(Family::Slashed, r#"{"customerId":"c","amount":5}"#).is_ok());
    assert!(parse(Family::Dashed, r#"{"customerId":"c","prepaidPrice":5,"id":"o","startTimeInSeconds":1}"#).is_ok());
    for (family, body, expected) in [
        (Family::Dashed, r#"{"customerId":"c"}"#, "amount is missing"),
        (Family::Dashed, r#"{"amount":5}"#, "customerId is missing"),
        (Family::Dashed, r#"{"customerId":"c","amount":0}"#, "amount must be more than 0"),
        (Family::Dashed, r#"{"customerId":"c","amount":"5"}"#, "amount must be a number below 10^20"),
        (Family::Dashed, r#"{"customerId":"c","amount":5.001}"#, "amount has more than the 2 places that USD has"),
        (Family::Dashed, r#"{"customerId":"c","amount":5,"currency":"XYZ"}"#, "currency must be a code of ISO 4217 with minor units"),
        (Family::Dashed, r#"{"customerId":"c","amount":5,"expirationTime":1}"#, "expirationTime must be after the start"),
        (Family::Slashed, r#"{"customerId":"c","startTimeInSeconds":1,"prepaidPrice":5}"#, "id is missing"),
        (Family::Slashed, r#"{"customerId":"c","id":"o","prepaidPrice":5}"#, "startTimeInSeconds is missing"),
        (Family::Slashed, r#"{"customerId":"c","id":"o","startTimeInSeconds":1}"#, "prepaidPrice is missing"),
        (
            Family::Slashed,
            r#"{"customerId":"c","id":"o","startTimeInSeconds":1,"prepaidPrice":5,"recurrenceFrequency":{"interval":"WEEK"}}"#,
            "recurrenceFrequency.interval must be one of DAY, MONTH, YEAR",
        ),
        (
            Family::Slashed,
            r#"{"customerId":"c","id":"o","startTimeInSeconds":1,"prepaidPrice":5,"recurrenceFrequency":{"interval":"DAY","intervalsCount":0}}"#,
            "recurrenceFrequency.intervalsCount must be between 1 and 1000",
        ),
    ] {
        assert_eq!(details(parse(family, body)), expected, "{body}");
    }
}

#[test]
fn a_payment_names_its_order_by_id_or_by_path() {
    let parse = |uri: &str| {
        let body = serde_json::json!({"prepaidUri": uri, "paymentStatus": "SETTLED", "systemName": "bank", "paymentId": "p", "paymentTimeInSeconds": 7});
        PaymentRequest::parse(body.to_string().as_bytes()).map(|request| (request.customer.map(String::from), request.order))
    };
    assert_eq!(parse("o").expect("good"), (None, "o".into()));
    assert_eq!(parse("c/o").expect("good"), (Some("c".into()), "o".into()));
    assert_eq!(parse("/1/c/o/").expect("good"), (Some("c".into()), "o".into()));
    assert_eq!(details(parse("//")), "prepaidUri names no order");
    assert_eq!(details(parse("")), "prepaidUri is missing");
    let echo = PaymentRequest::parse(br#"{"prepaidUri":"o","paymentStatus":"failed","other":1}"#).expect("good").echo;
    assert_eq!(echo, serde_json::json!({"prepaidUri": "o", "paymentStatus": "failed"}));
}
