//! Keys: shown once, usable at once, out within a second once revoked, and nowhere to be read.

use serde_json::json;

use crate::harness::{ADMIN_KEY, Gateway, MadeKey, Setup, event, wait_for};

/// The bytes of a `POST /ingest` with this key.
fn ingest(key: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {key}\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn a_key_is_usable_as_soon_as_it_is_shown_and_does_what_its_scopes_say() {
    let gateway = Gateway::start();
    let key = |scope: &str| gateway.with(&gateway.make_key("default", &[scope]));
    let (ingest, read, admin, operator) = (key("ingest"), key("read"), key("admin"), key("operator"));
    let customer = json!({"customerId": "acme", "customerName": "Acme"}).to_string();
    ingest.send(&[event("u-1")]).logged(1);
    admin.send(&[event("u-2")]).logged(1);
    for client in [&read, &operator] {
        client.send(&[event("u-3")]).refused(403);
    }
    assert_eq!((read.usage("m").count(), admin.usage("m").count()), (2, 2));
    for client in [&ingest, &operator] {
        client.get("/customers").refused(403);
        client.get("/v1/events").refused(403);
    }
    for client in [&ingest, &read, &operator] {
        client.post("/customers", &[], &customer).refused(403);
    }
    admin.post("/customers", &[], &customer).refused(200);
    for client in [&ingest, &read] {
        for path in ["/v1/keys", "/v1/audit", "/v1/accounts"] {
            client.get(path).refused(403);
        }
        client.post("/v1/keys", &[], json!({"scopes": ["admin"]}).to_string()).refused(403);
    }
    admin.get("/v1/accounts").refused(403);
    admin.post("/v1/keys", &[], json!({"scopes": ["operator"]}).to_string()).refused(403);
    operator.get("/v1/accounts").refused(200);
}

#[test]
fn a_revoked_key_is_out_on_a_connection_that_is_open() {
    let gateway = Gateway::start();
    let (key, other) = (gateway.make_key("default", &["admin"]), gateway.make_key("default", &["ingest"]));
    let mut wire = gateway.connect();
    wire.write(ingest(&key.text, &event("u-1").json()));
    wire.answer().logged(1);
    gateway.revoke(&key);
    wire.write(ingest(&key.text, &event("u-2").json()));
    wire.answer().refused(401);
    wire.write(format!("GET /customers HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {}\r\n\r\n", key.text));
    wire.answer().refused(401);
    wire.write(ingest(&other.text, &event("u-3").json()));
    wire.answer().logged(1);
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn a_body_that_was_under_way_when_its_key_was_revoked_is_refused() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    let body = event("u-1").padded_to(50_000).json();
    let request = ingest(&key.text, &body);
    let (begin, rest) = request.split_at(20_000);
    let mut wire = gateway.connect();
    wire.write(begin);
    wait_for("the body to be read", || (gateway.metrics().total("tollgate_in_flight_bytes", &[]) >= 50_000.0).then_some(()));
    gateway.revoke(&key);
    wire.write(rest);
    wire.answer().refused(401);
    assert_eq!(gateway.usage("m").count(), 0);
}

#[test]
fn a_wrong_secret_with_a_right_id_is_nobody_s() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    let (begin, secret) = key.text.rsplit_once('_').expect("id and secret");
    let last = if secret.ends_with('0') { '1' } else { '0' };
    let other = gateway.make_key("default", &["ingest"]);
    let (_, other_secret) = other.text.rsplit_once('_').expect("id and secret");
    let nearly = format!("{}{last}", &key.text[..key.text.len() - 1]);
    let wrong = [
        nearly,
        format!("{begin}_"),
        format!("{begin}_{other_secret}"),
        key.id.clone(),
        secret.into(),
        begin.to_owned(),
        key.text.to_uppercase(),
    ];
    for wrong in wrong {
        let refused = gateway.with_key(Some(&wrong)).send(&[event("u-1")]).refused(401);
        assert!(!refused.text().contains(secret), "{}", refused.shown());
    }
    gateway.with(&key).send(&[event("u-1")]).logged(1);
}

#[test]
fn key_strings_stand_in_no_log_line_no_list_and_no_file() {
    let mut gateway = Setup::with("[logging]\nfilter = 'trace'").start();
    let key = gateway.make_key_with("default", json!({"scopes": ["admin"], "name": "biller"}));
    let client = gateway.with(&key);
    client.send(&[event("u-1"), event("bad").at(0)]).logged(1).rejected(1);
    client.send(&[]);
    client.post("/ingest", &[], "{").refused(400);
    client.get("/nowhere").refused(404);
    // Somebody gives the key in place of its id.
    client.call("DELETE", &format!("/v1/keys/{}", key.text), "").refused(404);
    client.call("POST", &format!("/v1/keys/{}/revoke", key.text), "").refused(404);
    client.call("POST", &format!("/v1/accounts/{}/disable", key.text), "").refused(403);
    gateway.call("POST", &format!("/v1/accounts/{}/disable", key.text), "").refused(404);
    let secret = key.text.rsplit_once('_').expect("id and secret").1;
    for path in ["/v1/keys", "/v1/audit", "/metrics"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 200, "{}", answer.shown());
        assert!(!answer.text().contains(secret) && !answer.text().contains(ADMIN_KEY), "{path}");
    }
    gateway.stop();
    // Lines of the libraries below ours stand at the level trace: what they show of a request's head is theirs, and off by default.
    let stderr = gateway.stderr();
    let ours = stderr.lines().filter(|line| line.contains("tollgate"));
    for line in ours {
        assert!(!line.contains(secret) && !line.contains(ADMIN_KEY), "{line}");
    }
    let mut dirs = vec![gateway.data_dir()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).expect("a file");
                for text in [secret, ADMIN_KEY] {
                    let found = memchr::memmem::find(&bytes, text.as_bytes()).is_some();
                    assert!(!found, "a key stands in {}", path.display());
                }
            }
        }
    }
}

#[test]
fn a_restart_keeps_accounts_keys_and_what_was_revoked() {
    let mut gateway = Gateway::start();
    gateway.make_account("acme");
    gateway.make_account("closed");
    let (kept, revoked) = (gateway.make_key("acme", &["ingest", "read"]), gateway.make_key("acme", &["ingest"]));
    let closed = gateway.make_key("closed", &["ingest"]);
    gateway.revoke(&revoked);
    gateway.call("POST", "/v1/accounts/closed/disable", "").refused(200);
    gateway.with(&kept).send(&[event("u-1")]).logged(1);
    let shown =
        |gateway: &Gateway| ["/v1/accounts", "/v1/keys?account=acme", "/v1/keys?account=closed"].map(|path| gateway.get(path).json());
    let before = shown(&gateway);
    for stop in [Gateway::kill_and_restart, Gateway::stop_and_restart] {
        stop(&mut gateway);
        assert_eq!(shown(&gateway), before);
        gateway.with(&kept).send(&[event("u-1")]).logged(1);
        gateway.with(&revoked).send(&[event("u-2")]).refused(401);
        gateway.with(&closed).send(&[event("u-3")]).refused(403);
        assert_eq!(gateway.with(&kept).usage("m").count(), 1);
    }
}

#[test]
fn nobody_can_lock_everybody_out() {
    let mut gateway = Gateway::start();
    gateway.call("DELETE", "/v1/keys/bootstrap", "").refused(400);
    gateway.call("POST", "/v1/accounts/default/disable", "").refused(400);
    let second = gateway.make_key("default", &["operator"]);
    let bootstrap = MadeKey { id: "bootstrap".into(), text: ADMIN_KEY.into() };
    gateway.with(&second).revoke(&bootstrap);
    gateway.get("/v1/accounts").refused(401);
    gateway.with(&second).call("DELETE", &format!("/v1/keys/{}", second.id), "").refused(400);
    gateway.stop_and_restart();
    gateway.get("/v1/accounts").refused(401);
    gateway.with(&second).get("/v1/accounts").refused(200);
    // Whoever may start the process gets in.
    gateway.stop();
    gateway.change_variable("TOLLGATE_ADMIN_KEY", Some("another-key-of-the-tests"));
    gateway.restart();
    gateway.with_key(Some("another-key-of-the-tests")).get("/v1/accounts").refused(200);
}

#[test]
fn what_is_wrong_with_a_request_is_said_of_the_field() {
    let gateway = Gateway::start();
    gateway.make_account("acme");
    let name = "name is required: 1 to 64 lower case letters, digits, and `-`, `_`, `.` in between";
    let scopes = "scopes is required: an array of ingest, read, admin, operator";
    for (path, body, details) in [
        ("/v1/accounts", json!({}), name),
        ("/v1/accounts", json!({"name": "Acme"}), name),
        ("/v1/accounts", json!({"name": 7}), "name must be a text"),
        ("/v1/accounts", json!({"name": "b", "identity": "hash"}), "identity must be unique_id or all_attributes"),
        ("/v1/accounts", json!({"name": "b", "scope": 1}), "scope is no field here; there are: name, identity"),
        ("/v1/accounts?account=acme", json!({"name": "b"}), "account is no parameter here; there are none"),
        ("/v1/keys", json!({}), scopes),
        ("/v1/keys", json!({"scopes": []}), scopes),
        ("/v1/keys", json!({"scopes": ["write"]}), scopes),
        ("/v1/keys", json!({"scopes": "read"}), "scopes must be an array of texts"),
        ("/v1/keys", json!({"scopes": ["read"], "name": ""}), "name must have 1 to 128 bytes and no control characters"),
        ("/v1/keys", json!({"scopes": ["read"], "rateLimit": 5}), "rateLimit must be an object"),
        (
            "/v1/keys",
            json!({"scopes": ["read"], "rateLimit": {"requests": 5}}),
            "rateLimit.requests is no field here; there are: requestsPerSecond, requestBurst, eventsPerSecond, eventBurst",
        ),
        (
            "/v1/keys",
            json!({"scopes": ["read"], "rateLimit": {"requestsPerSecond": 0}}),
            "rateLimit.requestsPerSecond must be a whole number between 1 and 100000000",
        ),
        ("/v1/keys", json!({"scopes": ["read"], "rateLimit": {"eventBurst": 5}}), "rateLimit.eventsPerSecond is required with eventBurst"),
        ("/v1/keys?account=acme", json!({"scopes": ["operator"]}), "scopes may have operator only in the account default"),
    ] {
        gateway.post(path, &[], body.to_string()).refused(400).details(details);
    }
    for (method, path, body, status) in [
        ("POST", "/v1/accounts", json!({"name": "acme"}).to_string(), 400),
        ("POST", "/v1/accounts", "[]".into(), 400),
        ("POST", "/v1/accounts", "{".into(), 400),
        ("POST", "/v1/accounts", "x".repeat(20_000), 413),
        ("POST", "/v1/accounts/nobody/disable", String::new(), 404),
        ("POST", "/v1/keys?account=nobody", json!({"scopes": ["read"]}).to_string(), 404),
        ("GET", "/v1/keys?account=nobody", String::new(), 404),
        ("GET", "/v1/keys?account=acme&account=default", String::new(), 400),
        ("GET", "/v1/audit?account=nobody", String::new(), 404),
        ("GET", "/v1/audit?limit=0", String::new(), 400),
        ("GET", "/v1/audit?before=x", String::new(), 400),
        ("DELETE", "/v1/keys/0123456789abcdef", String::new(), 404),
        ("PUT", "/v1/keys", String::new(), 405),
    ] {
        gateway.call(method, path, &body).refused(status);
    }
    assert_eq!(gateway.get("/v1/keys").json()["keys"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_identity_of_an_account_is_fixed_when_it_is_made() {
    let gateway = Gateway::start();
    gateway.post("/v1/accounts", &[], json!({"name": "attributes", "identity": "all_attributes"}).to_string()).refused(201);
    gateway.make_account("ids");
    for (account, counted) in [("attributes", 2), ("ids", 1)] {
        let client = gateway.with(&gateway.make_key(account, &["admin"]));
        client.send(&[event("u-1"), event("u-1").customer("other")]).logged(2);
        assert_eq!(client.usage("m").count(), counted, "{account}");
    }
    let accounts = gateway.get("/v1/accounts").json();
    let identities: Vec<_> = accounts["accounts"].as_array().expect("an array").iter().map(|account| account["identity"].clone()).collect();
    assert_eq!(identities, ["all_attributes", "unique_id", "unique_id"]);
    let page = gateway.get("/v1/accounts?limit=1").json();
    assert_eq!((page["accounts"].as_array().map(Vec::len), &page["next"]), (Some(1), &json!("attributes")));
    assert_eq!(gateway.get("/v1/accounts?after=default").json()["accounts"][0]["name"], "ids");
}

#[test]
fn the_key_is_taken_from_either_header() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    let client = gateway.with_key(None);
    let bearer = format!("Bearer {}", key.text);
    client.send_with(&[("authorization", &bearer)], &[event("u-1")]).logged(1);
    gateway.revoke(&key);
    client.send_with(&[("authorization", &bearer)], &[event("u-2")]).refused(401);
}
