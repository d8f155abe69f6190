//! The description of Octane's routes.

use crate::accounts::Scope;
use crate::openapi::Operation;

pub(super) fn list_subscriptions() -> Operation {
    Operation::new("octaneListSubscriptions", "List subscriptions").needs(Scope::Read)
}

pub(super) fn create_subscription() -> Operation {
    Operation::new("octaneCreateSubscription", "Create subscription").needs(Scope::Admin)
}

pub(super) fn replace_subscription() -> Operation {
    Operation::new("octaneReplaceSubscription", "Replace subscription").needs(Scope::Admin)
}

pub(super) fn show_active_subscription() -> Operation {
    Operation::new("octaneShowActiveSubscription", "Show active subscription").needs(Scope::Read)
}

pub(super) fn replace_active_subscription() -> Operation {
    Operation::new("octaneReplaceActiveSubscription", "Replace active subscription").needs(Scope::Admin)
}

pub(super) fn end_active_subscription() -> Operation {
    Operation::new("octaneEndActiveSubscription", "End active subscription").needs(Scope::Admin)
}

pub(super) fn list_customers() -> Operation {
    Operation::new("octaneListCustomers", "List customers").needs(Scope::Read)
}

pub(super) fn create_customer() -> Operation {
    Operation::new("octaneCreateCustomer", "Create customer").needs(Scope::Admin)
}

pub(super) fn show_customer() -> Operation {
    Operation::new("octaneShowCustomer", "Show customer").needs(Scope::Read)
}

pub(super) fn change_customer() -> Operation {
    Operation::new("octaneChangeCustomer", "Change customer").needs(Scope::Admin)
}

pub(super) fn remove_customer() -> Operation {
    Operation::new("octaneRemoveCustomer", "Remove customer").needs(Scope::Admin)
}

pub(super) fn list_mappings() -> Operation {
    Operation::new("octaneListMappings", "List mappings").needs(Scope::Read)
}

pub(super) fn add_mapping() -> Operation {
    Operation::new("octaneAddMapping", "Add mapping").needs(Scope::Admin)
}

pub(super) fn remove_mappings() -> Operation {
    Operation::new("octaneRemoveMappings", "Remove mappings").needs(Scope::Admin)
}

pub(super) fn list_metadata() -> Operation {
    Operation::new("octaneListMetadata", "List metadata").needs(Scope::Read)
}

pub(super) fn merge_metadata() -> Operation {
    Operation::new("octaneMergeMetadata", "Merge metadata").needs(Scope::Admin)
}

pub(super) fn show_customer_status() -> Operation {
    Operation::new("octaneShowCustomerStatus", "Show customer status").needs(Scope::Read)
}

pub(super) fn list_meters() -> Operation {
    Operation::new("octaneListMeters", "List meters").needs(Scope::Read)
}

pub(super) fn create_meter() -> Operation {
    Operation::new("octaneCreateMeter", "Create meter").needs(Scope::Admin)
}

pub(super) fn show_meter() -> Operation {
    Operation::new("octaneShowMeter", "Show meter").needs(Scope::Read)
}

pub(super) fn change_meter() -> Operation {
    Operation::new("octaneChangeMeter", "Change meter").needs(Scope::Admin)
}

pub(super) fn remove_meter() -> Operation {
    Operation::new("octaneRemoveMeter", "Remove meter").needs(Scope::Admin)
}

pub(super) fn archive_meter() -> Operation {
    Operation::new("octaneArchiveMeter", "Archive meter").needs(Scope::Admin)
}
