//! Customers (contract `stigg.md` section 2).

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, By, InPath, Parts, Shared, blocking, changed, customer_in, of_billing, of_customer, one, query, read};
use crate::accounts::Scope;
use crate::api::fields::{Parameters, Received};
use crate::api::refusals::check_scope;
use crate::billing::Subscription;
use crate::customers::{Customer, CustomerId};
use crate::dialect::ApiError;
use crate::dialect::stigg::customers::{CustomerFields, NewCustomer, PaymentMethod, render};
use crate::dialect::stigg::pages::{Listed, envelope as envelope_list};

/// What is no customer's id in a POST.
const IMPORT: &str = "import";

pub(super) async fn list(State(parts): Shared, Extension(by): By, parameters: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let query = query(parameters)?;
    let (window, created) = (query.window(Listed::Customers)?, query.created()?);
    let (email, name) = (query.text("email").map(str::to_owned), query.text("name").map(str::to_owned));
    let text = blocking(parts, move |parts| {
        let wanted = |customer: &Customer| {
            email.as_ref().is_none_or(|email| customer.email.as_ref() == Some(email))
                && name.as_ref().is_none_or(|name| customer.name.as_ref() == Some(name))
                && created.has(customer.created_at)
        };
        let page = parts.customers.page(by.account, window, wanted);
        // Nobody's id is in a list's errors.
        let page = page.map_err(|error| of_billing(None, "", error.into()))?;
        let shown = shown(parts, by.account, page.items.iter().map(|(_, customer)| customer))?;
        let mut shown = shown.into_iter();
        Ok(envelope_list(&page, Listed::Customers, |_| shown.next().unwrap_or_default()).to_string())
    });
    Ok(super::json(StatusCode::OK, text.await?))
}

pub(super) async fn provision(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let NewCustomer { id, fields } = NewCustomer::parse(&read(body)?)?;
    let create = move |parts: &Parts, id: &CustomerId| {
        let made = parts.customers.create_first(by.account, id, |new| fields.apply(new));
        made.map_err(|error| of_customer(id, error))
    };
    answer(parts, StatusCode::CREATED, by.account, id, create).await
}

pub(super) async fn show(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Read)?;
    let find = move |parts: &Parts, id: &CustomerId| parts.customers.record(by.account, id).map_err(|error| of_customer(id, error));
    answer(parts, StatusCode::OK, by.account, customer_in(path)?, find).await
}

pub(super) async fn change(State(parts): Shared, Extension(by): By, path: InPath, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let (id, fields) = (customer_in(path)?, CustomerFields::parse(&read(body)?)?);
    answer(parts, StatusCode::OK, by.account, id, edit(by.account, move |customer| fields.apply(customer))).await
}

pub(super) async fn archive(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let archive = move |parts: &Parts, id: &CustomerId| parts.customers.archive(by.account, id).map_err(|error| of_customer(id, error));
    answer(parts, StatusCode::OK, by.account, customer_in(path)?, archive).await
}

pub(super) async fn unarchive(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let unarchive = move |parts: &Parts, id: &CustomerId| {
        parts.billing.unarchive(by.account, id).map_err(|error| of_billing(Some(id), id.as_str(), error))
    };
    answer(parts, StatusCode::OK, by.account, customer_in(path)?, unarchive).await
}

pub(super) async fn attach(State(parts): Shared, Extension(by): By, path: InPath, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let (id, method) = (customer_in(path)?, PaymentMethod::parse(&read(body)?)?);
    answer(parts, StatusCode::OK, by.account, id, edit(by.account, move |customer| method.attach(customer))).await
}

pub(super) async fn detach(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Admin)?;
    answer(parts, StatusCode::OK, by.account, customer_in(path)?, edit(by.account, PaymentMethod::detach)).await
}

/// The customer whose id is the last segment of a POST.
fn called_import() -> InPath {
    Ok(Path(IMPORT.into()))
}

pub(super) async fn show_import(parts: Shared, by: By) -> Answer {
    show(parts, by, called_import()).await
}

pub(super) async fn change_import(parts: Shared, by: By, body: Received) -> Answer {
    change(parts, by, called_import(), body).await
}

pub(super) async fn archive_import(parts: Shared, by: By) -> Answer {
    archive(parts, by, called_import()).await
}

/// One customer after the other: what was done when the store fails, stays, and the same once more does the rest.
pub(super) async fn import(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let customers = NewCustomer::parse_import(&read(body)?)?;
    let made = blocking(parts, move |parts| {
        let mut made = Vec::new();
        for NewCustomer { id, fields } in customers {
            let put = parts.customers.put_record(by.account, &id, |customer| fields.apply(customer));
            if put.map_err(|error| of_customer(&id, error))?.1 {
                made.push(id.as_str().to_owned());
            }
        }
        Ok(made)
    });
    let made = made.await?;
    let object = format!("{} customers", made.len());
    Ok(changed(StatusCode::OK, object, one(json!({"newCustomers": made}))))
}

fn edit(
    account: u32,
    edit: impl Fn(&mut Customer) + Send + 'static,
) -> impl FnOnce(&Parts, &CustomerId) -> Result<Customer, ApiError> + Send + 'static {
    move |parts, id| parts.customers.change_record(account, id, edit).map_err(|error| of_customer(id, error))
}

/// Does `work`, and answers with the customer that it leaves.
async fn answer<W>(parts: Parts, status: StatusCode, account: u32, id: CustomerId, work: W) -> Answer
where
    W: FnOnce(&Parts, &CustomerId) -> Result<Customer, ApiError> + Send + 'static,
{
    let object = id.as_str().to_owned();
    let text = blocking(parts, move |parts| {
        let customer = work(parts, &id)?;
        Ok(one(shown(parts, account, std::iter::once(&customer))?.pop().unwrap_or_default()))
    });
    Ok(changed(status, object, text.await?))
}

/// Customers with what they are subscribed to.
fn shown<'c>(parts: &Parts, account: u32, customers: impl Iterator<Item = &'c Customer>) -> Result<Vec<Value>, ApiError> {
    let of_each = customers.map(|customer| Ok((customer, parts.billing.subscriptions(account, customer)?)));
    let with_all = of_each.collect::<Result<Vec<(&Customer, Vec<Subscription>)>, _>>();
    let with_names = with_all.and_then(|customers| {
        // Of what is over nothing is shown.
        let open = customers.iter().flat_map(|(_, made)| made.iter().filter(|made| !made.is_over()));
        let plans = open.map(|made| made.row.plan_id.as_str());
        let names = parts.billing.plan_names(account, plans)?;
        Ok((customers, names))
    });
    let (customers, names) = with_names.map_err(|error| of_billing(None, "", error))?;
    Ok(customers.into_iter().map(|(customer, made)| render(customer, &made, &names)).collect())
}
