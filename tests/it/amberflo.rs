//! The contract `amberflo.md`, sections 0 to 6.5, row by row: every method and path in every form of the path, its status, and the members of
//! its answer. What their values mean is tested where the parts are.

use serde_json::{Value, json};

use crate::harness::api::{Api, Form, in_each_form};
use crate::harness::{DAY_0_S, DAY_S, Gateway, event};

/// What a path may look like: as it stands, with a slash behind it, doubled ones, and below the prefix.
const FORMS: [Form; 4] =
    [str::to_owned, |path| format!("{path}/"), |path| format!("{}//", path.replace('/', "//")), |path| format!("/amberflo{path}")];

/// What Amberflo's answers have in common.
trait Amberflos {
    /// Exactly 200, and a body of JSON: what the SDKs take for a success.
    fn ok(&self, method: &str, path: &str, body: Value) -> Value;
    /// The error body of the seed.
    fn no(&self, method: &str, path: &str, body: Value, status: u16, code: &str) -> Value;
    /// The same of a mistake, with its details.
    fn bad(&self, method: &str, path: &str, body: Value, details: &str);
}

impl Amberflos for Api {
    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        self.json(method, path, body, 200)
    }

    #[track_caller]
    fn no(&self, method: &str, path: &str, body: Value, status: u16, code: &str) -> Value {
        let error = self.json(method, path, body, status);
        let known = ["code", "details", "message"];
        assert!(error.as_object().is_some_and(|members| members.keys().all(|key| known.contains(&key.as_str()))), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert_eq!(error["code"], code, "{method} {path}: {error}");
        error
    }

    #[track_caller]
    fn bad(&self, method: &str, path: &str, body: Value, details: &str) {
        assert_eq!(self.no(method, path, body, 400, "BAD_REQUEST")["details"], details, "{method} {path}");
    }
}

fn in_every_form(rows: fn(&Api)) {
    in_each_form(&FORMS, rows);
}

/// The names of an object's members, sorted.
#[track_caller]
fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

#[test]
fn section_0_what_holds_of_every_path() {
    in_every_form(|api| {
        let stranger = |key| api.with_key(key);
        for key in [None, Some("tg_0000000000000000_unknown")] {
            for (method, path) in
                [("GET", "/customers"), ("POST", "/ingest"), ("POST", "/usage"), ("GET", "/meter-definition"), ("GET", "/nothing-here")]
            {
                stranger(key).no(method, path, Value::Null, 401, "UNAUTHORIZED");
            }
        }
        api.no("GET", "/nothing-here", Value::Null, 404, "NOT_FOUND");
        api.no("PATCH", "/customers", json!({}), 405, "METHOD_NOT_ALLOWED");
        api.no("GET", "/ingest", Value::Null, 405, "METHOD_NOT_ALLOWED");
        api.no("POST", "/customers", Value::from("x".repeat(8 << 20)), 413, "PAYLOAD_TOO_LARGE");
        let coded = api.client.post(&(api.form)("/ingest"), &[("content-encoding", "br")], "[]").refused(415);
        assert_eq!(coded.json()["code"], "UNSUPPORTED_MEDIA_TYPE");
        for path in ["/customers", "/usage", "/meter-definition", "/meter-event-filtering-rules"] {
            api.client.post(&(api.form)(path), &[], "{\"customerId\":").refused(400);
        }
    });
}

#[test]
fn section_1_customers() {
    in_every_form(|api| {
        assert_eq!(api.get("/customers"), json!([]));
        assert_eq!(api.get("/customers?customerId=acme"), json!({}));
        api.no("GET", "/customers/acme", Value::Null, 404, "NOT_FOUND");
        api.no("DELETE", "/customers/acme", Value::Null, 404, "NOT_FOUND");
        let sent = json!({"customerId": "acme", "customerName": "Acme", "customerEmail": "", "description": null, "traits": {"tier": "gold"},
            "address": {"line1": "1 Road", "city": "Town", "country": "XX", "verified": true}, "createTime": 7, "unknown": [1]});
        let made = api.ok("POST", "/customers?autoCreateCustomerInStripe=False", sent);
        assert_eq!(
            names(&made),
            ["address", "createTime", "customerId", "customerName", "enabled", "id", "lifecycleStage", "test", "traits", "updateTime"]
        );
        assert_eq!(
            (&made["id"], &made["enabled"], &made["test"], &made["lifecycleStage"]),
            (&json!("acme"), &json!(true), &json!(false), &json!("ACTIVE"))
        );
        assert!(made["createTime"].as_i64().is_some_and(|ms| ms > DAY_0_S * 1_000));
        assert_eq!(api.get("/customers/acme"), made);
        assert_eq!(api.get("/customers?customerId=acme"), made);
        assert_eq!(api.get("/customers"), json!([made]));
        api.no("POST", "/customers", json!({"customerId": "acme", "customerName": "Other"}), 400, "DUPLICATE");
        customers_that_are_refused(api);
        let put =
            api.ok("PUT", "/customers", json!({"customerId": "acme", "customerName": "New", "enabled": false, "lifecycleStage": "trial"}));
        assert_eq!(
            names(&put),
            ["createTime", "customerId", "customerName", "deactivateTimeStamp", "enabled", "id", "lifecycleStage", "test", "updateTime"]
        );
        assert_eq!((&put["lifecycleStage"], &put["createTime"]), (&json!("TRAIL"), &made["createTime"]));
        for (stage, shown) in [("Trail", "TRAIL"), ("active", "ACTIVE"), ("OFFBOARDED", "OFFBOARDED")] {
            let staged = api.ok("PUT", "/customers/stage", json!({"customerId": "acme", "lifecycleStage": stage}));
            assert_eq!(staged["lifecycleStage"], shown);
        }
        let gone = api.ok("DELETE", "/customers/acme", Value::Null);
        assert!(gone["deleteTime"].is_i64() && gone["customerId"] == "acme", "{gone}");
        assert_eq!(api.get("/customers"), json!([]));
        assert_eq!(api.get("/customers?customerId=acme"), json!({}));
        api.no("GET", "/customers/acme", Value::Null, 404, "NOT_FOUND");
        api.ok("POST", "/customers?autoCreateCustomerInStripe=if_payment_provider", json!({"customerId": "acme", "customerName": "Again"}));
    });
}

fn customers_that_are_refused(api: &Api) {
    let named = |more: Value| {
        let mut customer = json!({"customerId": "b", "customerName": "B"});
        customer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        customer
    };
    for (body, details) in [
        (json!({"customerName": "B"}), "customerId is missing"),
        (json!({"customerId": "b"}), "customerName is missing"),
        (named(json!({"customerName": null})), "customerName is missing"),
        (named(json!({"traits": {"n": 1}})), "traits.n must be a string"),
        (named(json!({"address": {"line1": "1", "city": "T"}})), "address.country is missing"),
        (named(json!({"enabled": "yes"})), "enabled must be true or false"),
    ] {
        api.bad("POST", "/customers", body.clone(), details);
        if details != "customerId is missing" && body["customerName"].is_string() {
            api.no("PUT", "/customers", body, 400, "BAD_REQUEST");
        }
    }
    api.no("POST", "/customers", named(json!({"lifecycleStage": "GONE"})), 400, "BAD_REQUEST");
    api.no("POST", "/customers?autoCreateCustomerInStripe=maybe", named(json!({})), 400, "BAD_REQUEST");
    api.no("POST", "/customers?autoCreateCustomerInStripe=true", named(json!({})), 400, "PAYMENT_PROVIDER_NOT_CONFIGURED");
    api.no("PUT", "/customers", named(json!({})), 400, "NOT_FOUND");
    api.no("PUT", "/customers/stage", json!({"customerId": "b", "lifecycleStage": "ACTIVE"}), 400, "NOT_FOUND");
    api.bad("PUT", "/customers/stage", json!({"customerId": "acme"}), "lifecycleStage is missing");
    api.no("PUT", "/customers/stage", json!({"customerId": "acme", "lifecycleStage": "ONBOARDING"}), 400, "BAD_REQUEST");
}

/// An event of the contract's example.
fn tokens(id: &str, more: Value) -> Value {
    let mut event = json!({"uniqueId": id, "meterApiName": "tokens", "customerId": "acme-7", "meterValue": 12.5,
        "meterTimeInMillis": DAY_0_S * 1_000 + 123, "dimensions": {"region": "eu-1"}});
    event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event
}

fn sum(api: &Api, meter: &str) -> Value {
    let query = json!({"meterApiName": meter, "aggregation": "sum", "timeGroupingInterval": "day", "timeRange": range()});
    api.ok("POST", "/usage", query)["clientMeters"][0]["groupValue"].clone()
}

fn range() -> Value {
    json!({"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + 2 * DAY_S})
}

#[test]
fn section_2_ingest() {
    in_every_form(|api| {
        let ingest = |path: &str, body: &Value| {
            let answer = api.call("POST", path, body).refused(200);
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            answer
        };
        let send = |body: Value| ingest("/ingest", &body);
        assert_eq!(send(tokens("u-1", json!({}))).text(), "1 records were ingested");
        assert_eq!(send(json!([tokens("u-1", json!({})), tokens("u-2", json!({"meterValue": -2}))])).text(), "2 records were ingested");
        assert_eq!(send(json!([])).text(), "0 records were ingested");
        assert_eq!(sum(api, "tokens"), json!(10.5));
        let values = json!({"uniqueId": "v", "customerId": "acme-7", "meterTimeInMillis": DAY_0_S * 1_000, "values": {"a": 1, "b": 2}});
        assert_eq!(send(values).text(), "1 records were ingested");
        assert_eq!((sum(api, "a"), sum(api, "b")), (json!(1), json!(2)));
        let mixed = send(json!([tokens("u-3", json!({"meterValue": 1})), tokens("u-4", json!({"meterTimeInMillis": "now"}))]));
        assert_eq!((mixed.text(), mixed.header("tollgate-rejected")), ("1 records were ingested", Some("1")));
        for (body, details) in [
            (tokens("u-5", json!({"meterTimeInMillis": null})), "meterTimeInMillis is missing"),
            (tokens("u-5", json!({"customerId": ""})), "customerId must not be empty"),
            (tokens("u-5", json!({"dimensions": {"a": 1}})), "dimensions.a must be a string"),
            (json!([tokens("u-5", json!({"meterValue": "1"}))]), "[0].meterValue must be a number"),
        ] {
            api.bad("POST", "/ingest", body, details);
        }
        let custom = json!({"customer": "acme-7", "type": "tokens", "usage": 4, "ts": DAY_0_S, "region": "x"});
        assert_eq!(ingest("/ingest?schemaDetection=AUTO", &custom).text(), "1 records were ingested");
        assert_eq!(ingest("/ingest?ingestSchemaId=s", &json!([custom])).text(), "1 records were ingested");
        assert_eq!(sum(api, "tokens"), json!(15.5));
    });
}

#[test]
fn section_3_meter_definitions() {
    in_every_form(|api| {
        assert_eq!(api.get("/meter-definition"), json!([]));
        let sent = json!({"meterApiName": "calls", "displayName": "Calls", "type": "sum_of_all_usage", "dimensions": ["region"]});
        let made = api.ok("POST", "/meter-definition", sent.clone());
        assert_eq!(names(&made), ["dimensions", "displayName", "label", "meterApiName", "meterTimeInMillis", "type"]);
        assert_eq!((&made["label"], &made["type"]), (&json!("calls"), &json!("SUM_OF_ALL_USAGE")));
        assert_eq!(api.get("/meter-definition"), json!([made]));
        assert_eq!(api.get("/meter-definition/calls"), made);
        api.no("POST", "/meter-definition", sent, 400, "DUPLICATE");
        for missing in ["meterApiName", "displayName", "type"] {
            let mut body = json!({"meterApiName": "other", "displayName": "O", "type": "MAX_IN_PERIOD"});
            body.as_object_mut().expect("an object").remove(missing);
            api.bad("POST", "/meter-definition", body, &format!("{missing} is missing"));
        }
        let other = json!({"meterApiName": "other", "displayName": "O", "type": "MAX_IN_PERIOD"});
        api.no("PUT", "/meter-definition", other, 400, "NOT_FOUND");
        let put = api.ok(
            "PUT",
            "/meter-definition",
            json!({"meterApiName": "calls", "displayName": "C", "type": "UNIQUE_CUSTOMERS_COUNT", "label": "c"}),
        );
        assert_eq!((&put["type"], &put["meterTimeInMillis"]), (&json!("UNIQUE_CUSTOMERS_COUNT"), &made["meterTimeInMillis"]));
        assert_eq!(api.ok("DELETE", "/meter-definition/calls", Value::Null), put);
        api.no("GET", "/meter-definition/calls", Value::Null, 404, "NOT_FOUND");
        api.no("DELETE", "/meter-definition/calls", Value::Null, 404, "NOT_FOUND");
    });
}

#[test]
fn section_4_filtering_rules() {
    in_every_form(|api| {
        let path = "/meter-event-filtering-rules";
        assert_eq!(api.get(&format!("{path}?meterApiName=tokens")), json!([]));
        api.bad("GET", path, Value::Null, "meterApiName is missing");
        let sent = json!({"meterApiName": "tokens", "dimensionName": "region", "dimensionValues": ["eu-1"], "action": "include"});
        let made = api.ok("POST", path, sent);
        assert_eq!(names(&made), ["action", "dimensionName", "dimensionValues", "meterApiName", "ruleId"]);
        assert_eq!(made["action"], "INCLUDE");
        assert_eq!(api.get(&format!("{path}?meterApiName=tokens")), json!([made]));
        api.bad("POST", path, json!({"dimensionName": "region"}), "meterApiName is missing");
        let dropped = tokens("dropped", json!({"dimensions": {"region": "us-1"}}));
        let taken = api.call("POST", "/ingest", &json!([tokens("u", json!({})), dropped])).refused(200);
        assert_eq!(taken.text(), "2 records were ingested");
        assert_eq!(sum(api, "tokens"), json!(12.5));
        let mut changed = made.clone();
        changed["action"] = json!("EXCLUDE");
        assert_eq!(api.ok("POST", path, changed.clone()), changed);
        assert_eq!(api.get(&format!("{path}?meterApiName=tokens")), json!([changed]));
    });
}

#[test]
fn section_5_usage() {
    in_every_form(|api| {
        api.call("POST", "/ingest", &json!([tokens("u-1", json!({}))])).refused(200);
        let days = [DAY_0_S, DAY_0_S + DAY_S];
        let mut form_a = json!({"meterApiName": "tokens", "aggregation": "Sum", "timeGroupingInterval": "Day", "startTimeInSeconds": days[0],
            "endTimeInSeconds": days[1] + DAY_S, "groupBy": ["customerId"], "customerFilter": ["acme-7"], "filter": {"region": ["eu-1", "x"]}});
        let answer_a =
            json!({"clientMeters": {"tokens": [{"groupInfo": {"customerId": "acme-7"}, "records": [{days[0].to_string(): 12.5}]}]}});
        assert_eq!(api.ok("POST", "/usage", form_a.clone()), answer_a);
        let mut form_b = json!({"meterApiName": "tokens", "aggregation": "SUM", "timeGroupingInterval": "DAY", "timeRange": range(),
            "groupBy": ["customerId"], "filter": {"customerId": ["acme-7"]}, "take": {"limit": 5, "isAscending": false}});
        let value = |value, at: i64, percentage| json!({"value": value, "secondsSinceEpochUtc": at, "percentageFromPrevious": percentage});
        let answer_b = json!({"metadata": form_b, "secondsSinceEpochIntervals": days, "clientMeters": [{"group": {"groupInfo": {"customerId": "acme-7"}},
            "groupValue": 12.5, "values": [value(json!(12.5), days[0], 0), value(json!(0), days[1], -100)]}]});
        assert_eq!(api.ok("POST", "/usage", form_b.clone()), answer_b);
        assert_eq!(api.ok("POST", "/usage/batch", json!([form_a, form_b])), json!([answer_a, answer_b]));
        let sparse = api.ok("POST", "/usage/sparse", form_b.clone());
        assert_eq!(sparse["clientMeters"][0]["values"], json!([value(json!(12.5), days[0], 0)]));
        assert_eq!(api.ok("POST", "/usage/sparse/batch", json!([form_b])), json!([sparse]));
        let all = api.get(&format!(
            "/usage/all?startTimeInSeconds={}&endTimeInSeconds={}&timeGroupingInterval=DAY&groupBy=customerId&customerId=acme-7",
            days[0],
            days[1] + DAY_S
        ));
        assert_eq!((&all[0]["clientMeters"], all.as_array().map(Vec::len)), (&answer_b["clientMeters"], Some(1)));
        api.bad("GET", "/usage/all?timeGroupingInterval=DAY", Value::Null, "startTimeInSeconds is missing");
        for name in ["meterApiName", "aggregation", "timeGroupingInterval", "startTimeInSeconds", "endTimeInSeconds"] {
            let mut without = form_a.clone();
            without.as_object_mut().expect("an object").remove(name);
            api.bad("POST", "/usage", without, &format!("{name} is missing"));
        }
        form_a["meterApiName"] = json!("unknown");
        assert_eq!(api.ok("POST", "/usage", form_a), json!({"clientMeters": {"unknown": []}}));
        form_b["meterApiName"] = json!("unknown");
        let empty = api.ok("POST", "/usage", form_b.clone());
        assert_eq!((&empty["clientMeters"], &empty["secondsSinceEpochIntervals"]), (&json!([]), &json!(days)));
        form_b["timeRange"]["endTimeInSeconds"] = json!(DAY_0_S);
        api.no("POST", "/usage", form_b, 400, "BAD_REQUEST");
    });
}

#[test]
fn section_6_payments() {
    in_every_form(|api| {
        let (dashed, slashed) = ("/payments-pricing-amberflo-customer-pricing", "/payments/pricing/amberflo/customer-pricing");
        let seed = json!({"customerId": "acme", "productId": "pro", "startTime": DAY_0_S * 1_000});
        assert_eq!(api.ok("POST", dashed, seed.clone()), seed);
        let sdk = json!({"customerId": "b", "productPlanId": "pro", "productId": "1", "startTimeInSeconds": DAY_0_S});
        assert_eq!(api.ok("POST", slashed, sdk.clone()), sdk);
        assert_eq!(api.get(&format!("{slashed}?CustomerId=b")), sdk);
        assert_eq!(api.get(&format!("{slashed}?customerId=nobody")), Value::Null);
        assert_eq!(api.get(&format!("{slashed}/list?CustomerId=b")), json!([sdk]));
        api.no("POST", dashed, json!({"customerId": "acme"}), 400, "BAD_REQUEST");
        let plans = "/payments/pricing/amberflo/account-pricing/product-plans";
        let listed = api.get(&format!("{plans}/list"));
        let ids: Vec<_> = listed.as_array().expect("an array").iter().map(|plan| plan["id"].clone()).collect();
        assert_eq!(ids, ["default", "pro"]);
        let member_names = ["billingPeriod", "id", "isDefault", "lastUpdateTimeInMillis", "lockingStatus", "productId", "productPlanName"];
        assert_eq!(names(&listed[1]), member_names);
        assert_eq!(api.get(&format!("{plans}?productPlanId=pro")), listed[1]);
        api.no("GET", &format!("{plans}?productPlanId=other"), Value::Null, 404, "NOT_FOUND");
        prepaid(api);
        invoices(api);
        let cost = api.ok("POST", "/payments/cost/usage-cost", json!({"customerId": "acme"}));
        assert_eq!(cost["lines"], json!([]));
        for path in [
            "/payments/pricing/amberflo/customer-promotions",
            "/payments/pricing/amberflo/customer-promotions/list",
            "/payments/pricing/amberflo/account-pricing/promotions",
            "/payments/pricing/amberflo/account-pricing/promotions/list",
            "/notification",
            "/notification/7",
        ] {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                api.no(method, path, Value::Null, 404, "NOT_FOUND");
            }
        }
    });
}

fn prepaid(api: &Api) {
    let (dashed, slashed) = ("/payments-pricing-amberflo-customer-prepaid", "/payments/pricing/amberflo/customer-prepaid");
    let seed = api.ok("POST", dashed, json!({"customerId": "acme", "amount": 10.5, "expirationTime": 4_102_444_800_000_i64}));
    assert_eq!(names(&seed), ["amount", "createTime", "currency", "customerId", "expirationTime", "orderId"]);
    assert_eq!(seed["currency"], "USD");
    for amount in [json!(0), json!(-1), json!("1"), Value::Null] {
        api.no("POST", dashed, json!({"customerId": "acme", "amount": amount}), 400, "BAD_REQUEST");
    }
    let order = json!({"id": "o", "customerId": "b", "startTimeInSeconds": DAY_0_S, "prepaidPrice": 5, "productId": "1", "externalPayment": true,
        "prepaidOfferVersion": -1, "recurrenceFrequency": {"interval": "YEAR", "intervalsCount": 9}});
    let made = api.ok("POST", slashed, order.clone());
    for name in ["endTimeInSeconds", "firstCardEndTimeSeconds", "originalWorth", "originalCurrency", "internalStatus", "paymentStatus"] {
        assert!(!made[name].is_null(), "{name}: {made}");
    }
    assert_eq!(made["recurrenceFrequency"]["interval"], "year");
    assert_eq!(api.ok("POST", slashed, order), made);
    assert_eq!(api.get(&format!("{slashed}/list?CustomerId=b&ProductId=1")), json!([made]));
    let paid =
        json!({"prepaidUri": "b/o", "paymentStatus": "SETTLED", "systemName": "s", "paymentId": "p", "paymentTimeInSeconds": DAY_0_S});
    assert_eq!(api.ok("POST", "/payments/external/prepaid-payment-status", paid.clone()), paid);
    let one_off = api.ok("POST", slashed, json!({"id": "p", "customerId": "b", "startTimeInSeconds": DAY_0_S, "prepaidPrice": 5}));
    assert_eq!((one_off.get("recurrenceFrequency"), &one_off["paymentStatus"]), (Some(&Value::Null), &json!("not_needed")));
    assert_eq!(api.ok("DELETE", &format!("{slashed}?Id=o&CustomerId=b"), Value::Null)["id"], "o");
    api.no("DELETE", &format!("{slashed}?Id=o&CustomerId=b"), Value::Null, 404, "NOT_FOUND");
}

fn invoices(api: &Api) {
    let (dashed, slashed) = ("/payments-billing-customer-product-invoice", "/payments/billing/customer-product-invoice");
    api.bad("GET", dashed, Value::Null, "customerId is missing");
    assert_eq!(api.get(&format!("{dashed}?customerId=nobody")), json!([]));
    let seed = api.get(&format!("{dashed}?customerId=acme"));
    assert_eq!(names(&seed[0]), ["currency", "customerId", "endTime", "invoiceId", "startTime", "status", "totalAmount"]);
    assert_eq!((&seed[0]["startTime"], &seed[0]["totalAmount"]), (&json!(DAY_0_S), &json!(0)));
    let more = "customerId=acme&productId=1&fromCache=True&withPaymentStatus=false";
    let all = api.get(&format!("{slashed}/all?{more}"));
    assert_eq!(all[0]["invoiceUri"], seed[0]["invoiceId"]);
    assert_eq!(names(&all[0]["invoiceKey"]), ["accountId", "customerId", "day", "month", "productId", "productPlanId", "year"]);
    for name in
        ["planBillingPeriod", "planName", "gracePeriodInHours", "productItemInvoices", "appliedPromotions", "productPlanFees", "totalBill"]
    {
        assert!(!all[0][name].is_null(), "{name}: {}", all[0]);
    }
    assert_eq!(api.get(&format!("{slashed}?{more}&productPlanId=pro&year=2026&month=1&day=1")), all[0]);
    assert_eq!(api.get(&format!("{slashed}?{more}&productPlanId=pro&year=2025&month=1&day=1")), Value::Null);
    assert_eq!(api.get(&format!("{slashed}?{more}&latest=true"))["invoicePriceStatus"], "open");
    assert_eq!(api.get(&format!("{slashed}?customerId=nobody&latest=true")), Value::Null);
}

/// Section 0: `RATE_LIMITED` and `UNAVAILABLE`, with the time to wait.
#[test]
fn who_has_to_wait_is_told_how_long() {
    let gateway = Gateway::start();
    gateway.make_account("slow");
    let key = gateway.make_key_with("slow", json!({"scopes": ["ingest"], "rateLimit": {"eventsPerSecond": 1, "eventBurst": 1}}));
    let slow = gateway.with(&key);
    // An overdraft of a thousand seconds.
    let events: Vec<_> = (0..1_000).map(|at| event(&format!("u-{at}"))).collect();
    slow.send(&events).logged(1_000);
    let limited = slow.send(&events[..1]).refused(429);
    assert_eq!(limited.json()["code"], "RATE_LIMITED");
    assert!(limited.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
}
