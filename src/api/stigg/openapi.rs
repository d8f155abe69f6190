//! The description of Stigg's routes.

use crate::accounts::Scope;
use crate::openapi::Operation;

pub(super) fn list_customers() -> Operation {
    Operation::new("stiggListCustomers", "List customers").needs(Scope::Read)
}

pub(super) fn provision_customer() -> Operation {
    Operation::new("stiggProvisionCustomer", "Provision customer").needs(Scope::Admin)
}

pub(super) fn show_customer() -> Operation {
    Operation::new("stiggShowCustomer", "Show customer").needs(Scope::Read)
}

pub(super) fn change_customer() -> Operation {
    Operation::new("stiggChangeCustomer", "Change customer").needs(Scope::Admin)
}

pub(super) fn archive_customer() -> Operation {
    Operation::new("stiggArchiveCustomer", "Archive customer").needs(Scope::Admin)
}

pub(super) fn import_customers() -> Operation {
    Operation::new("stiggImportCustomers", "Import customers").needs(Scope::Admin)
}

pub(super) fn unarchive_customer() -> Operation {
    Operation::new("stiggUnarchiveCustomer", "Unarchive customer").needs(Scope::Admin)
}

pub(super) fn attach_payment_method() -> Operation {
    Operation::new("stiggAttachPaymentMethod", "Attach payment method").needs(Scope::Admin)
}

pub(super) fn detach_payment_method() -> Operation {
    Operation::new("stiggDetachPaymentMethod", "Detach payment method").needs(Scope::Admin)
}

pub(super) fn list_subscriptions() -> Operation {
    Operation::new("stiggListSubscriptions", "List subscriptions").needs(Scope::Read)
}

pub(super) fn provision_subscription() -> Operation {
    Operation::new("stiggProvisionSubscription", "Provision subscription").needs(Scope::Admin)
}

pub(super) fn show_subscription() -> Operation {
    Operation::new("stiggShowSubscription", "Show subscription").needs(Scope::Read)
}

pub(super) fn change_subscription() -> Operation {
    Operation::new("stiggChangeSubscription", "Change subscription").needs(Scope::Admin)
}

pub(super) fn cancel_subscription() -> Operation {
    Operation::new("stiggCancelSubscription", "Cancel subscription").needs(Scope::Admin)
}
