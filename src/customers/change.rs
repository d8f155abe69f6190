//! What each operation makes of a customer: functions of (stored, request, now), without a store and without a clock.

use super::{Customer, CustomerId, Error, Stage};
use crate::clock::UnixMicros;

/// A new customer; `fill` writes its fields. Nothing of a removed one under the same id is taken over, but that there was one.
///
/// # Errors
/// [`Error::Exists`].
pub(super) fn create(stored: Option<&Customer>, id: &CustomerId, fill: &dyn Fn(&mut Customer), now: UnixMicros) -> Result<Customer, Error> {
    let created_at = match stored {
        // Not before the end of the one that had the id, whatever the clock says: what is owed is told apart by these times.
        Some(stored) => now.max(stored.removed_at.ok_or(Error::Exists)?),
        None => now,
    };
    let mut customer = Customer::new(id.clone(), created_at);
    if let Some((stored, removed_at)) = stored.and_then(|stored| Some((stored, stored.removed_at?))) {
        customer.former = stored.former.followed_by(removed_at);
    }
    fill(&mut customer);
    stamp(&mut customer, None, created_at);
    Ok(customer)
}

/// A customer as `edit` leaves it.
///
/// # Errors
/// [`Error::Unknown`].
pub(super) fn edit(stored: Option<&Customer>, edit: &dyn Fn(&mut Customer), now: UnixMicros) -> Result<Customer, Error> {
    Ok(edit_record(present(stored)?, edit, now))
}

/// The same, also of one that is removed.
pub(super) fn edit_record(stored: &Customer, edit: &dyn Fn(&mut Customer), now: UnixMicros) -> Customer {
    let mut customer = stored.clone();
    edit(&mut customer);
    stamp(&mut customer, Some(stored), now);
    customer
}

/// A customer as `edit` leaves it, unless it refuses.
///
/// # Errors
/// [`Error::Unknown`], and whatever `edit` returns.
pub(super) fn try_edit<E: From<Error>>(
    stored: Option<&Customer>,
    edit: &dyn Fn(&mut Customer) -> Result<(), E>,
    now: UnixMicros,
) -> Result<Customer, E> {
    let stored = present(stored)?;
    let mut customer = stored.clone();
    edit(&mut customer)?;
    stamp(&mut customer, Some(stored), now);
    Ok(customer)
}

/// A customer in its own or a later stage.
///
/// # Errors
/// [`Error::Unknown`], [`Error::StepBack`].
pub(super) fn set_stage(stored: Option<&Customer>, stage: Stage, now: UnixMicros) -> Result<Customer, Error> {
    let from = present(stored)?.stage;
    if stage < from {
        return Err(Error::StepBack { from, to: stage });
    }
    edit(stored, &|customer| customer.stage = stage, now)
}

/// A customer that is no longer one.
///
/// # Errors
/// [`Error::Unknown`].
pub(super) fn remove(stored: Option<&Customer>, now: UnixMicros) -> Result<Customer, Error> {
    let mut customer = edit(stored, &|_| (), now)?;
    customer.removed_at = Some(customer.updated_at);
    Ok(customer)
}

/// A customer that was removed at a time and is one again: in the life that ended then, or in a new one that begins then. Any other
/// stays as it is.
pub(super) fn bring_back(stored: &Customer, removed_at: UnixMicros, goes_on: bool, now: UnixMicros) -> Customer {
    if stored.removed_at != Some(removed_at) {
        return stored.clone();
    }
    let mut customer = edit_record(stored, &|_| (), now);
    customer.removed_at = None;
    if !goes_on {
        customer.former = stored.former.followed_by(removed_at);
    }
    customer
}

fn present(stored: Option<&Customer>) -> Result<&Customer, Error> {
    stored.filter(|customer| !customer.is_removed()).ok_or(Error::Unknown)
}

/// Sets the times that follow from a change. `updated_at` never goes back, even if the clock did.
fn stamp(after: &mut Customer, before: Option<&Customer>, now: UnixMicros) {
    let at = now.max(after.updated_at).max(after.created_at);
    after.updated_at = at;
    let was_disabled = before.is_some_and(|before| before.enabled == Some(false));
    if after.enabled == Some(false) && !was_disabled {
        after.deactivated_at = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::customers::arbitrary::{any_customer, any_stage, any_time};

    fn id() -> CustomerId {
        CustomerId::parse("acme-7").expect("a good id")
    }

    fn disable(customer: &mut Customer) {
        customer.enabled = Some(false);
    }

    #[test]
    fn only_the_step_to_disabled_is_a_deactivation() {
        let new = create(None, &id(), &|_| (), UnixMicros(1)).expect("a free id");
        assert_eq!(new.deactivated_at, None);
        let disabled = edit(Some(&new), &disable, UnixMicros(2)).expect("is there");
        assert_eq!(disabled.deactivated_at, Some(UnixMicros(2)));
        let still = edit(Some(&disabled), &disable, UnixMicros(3)).expect("is there");
        assert_eq!(still.deactivated_at, Some(UnixMicros(2)));
        let enabled = edit(Some(&still), &|customer| customer.enabled = Some(true), UnixMicros(4)).expect("is there");
        assert_eq!(enabled.deactivated_at, Some(UnixMicros(2)), "the last deactivation stays known");
        let again = edit(Some(&enabled), &disable, UnixMicros(5)).expect("is there");
        assert_eq!(again.deactivated_at, Some(UnixMicros(5)));
        assert_eq!(create(None, &id(), &disable, UnixMicros(6)).expect("a free id").deactivated_at, Some(UnixMicros(6)));
    }

    proptest! {
        #[test]
        fn a_create_starts_anew_where_the_id_is_free_and_nowhere_else(stored in any_customer(), now in any_time()) {
            match create(Some(&stored), stored.id(), &|_| (), now) {
                Ok(made) => {
                    prop_assert!(stored.is_removed());
                    prop_assert!(Some(made.created_at) >= stored.removed_at);
                    let mut expected = Customer::new(stored.id().clone(), made.created_at);
                    expected.former = stored.former.followed_by(stored.removed_at.expect("is removed"));
                    prop_assert_eq!(&made, &expected);
                }
                Err(error) => prop_assert!(matches!(error, Error::Exists) && !stored.is_removed()),
            }
        }

        #[test]
        fn time_never_goes_back(stored in any_customer(), created_at in proptest::option::of(any_time()), now in any_time()) {
            let set = |customer: &mut Customer| customer.created_at = created_at.unwrap_or(customer.created_at);
            if let Ok(changed) = edit(Some(&stored), &set, now) {
                prop_assert!(changed.updated_at >= stored.updated_at);
                prop_assert!(changed.updated_at >= now);
                prop_assert!(changed.updated_at >= changed.created_at);
            }
            let made = create(None, stored.id(), &set, now).expect("a free id");
            prop_assert!(made.updated_at >= made.created_at);
        }

        #[test]
        fn an_edit_changes_what_it_names_and_the_time(stored in any_customer(), now in any_time()) {
            match edit(Some(&stored), &|customer| customer.tags.push("new".into()), now) {
                Ok(changed) => {
                    let mut expected = stored.clone();
                    expected.tags.push("new".into());
                    expected.updated_at = changed.updated_at;
                    prop_assert_eq!(changed, expected);
                }
                Err(error) => prop_assert!(matches!(error, Error::Unknown) && stored.is_removed()),
            }
        }

        #[test]
        fn a_stage_is_never_left_for_an_earlier_one(stored in any_customer(), stage in any_stage(), now in any_time()) {
            match set_stage(Some(&stored), stage, now) {
                Ok(changed) => prop_assert!(changed.stage == stage && stage >= stored.stage),
                Err(Error::StepBack { from, to }) => prop_assert!(from == stored.stage && to == stage && to < from),
                Err(error) => prop_assert!(matches!(error, Error::Unknown) && stored.is_removed()),
            }
        }

        #[test]
        fn a_removal_keeps_all_but_the_times(stored in any_customer(), now in any_time()) {
            if let Ok(removed) = remove(Some(&stored), now) {
                let mut expected = stored.clone();
                expected.updated_at = removed.updated_at;
                expected.removed_at = Some(removed.updated_at);
                prop_assert_eq!(&removed, &expected);
                prop_assert!(matches!(remove(Some(&removed), now), Err(Error::Unknown)));
            }
        }
    }
}
