//! Commits that are copied while folding goes on, and what is not committed, by customer.

use super::far::{Folding, block_of};
use super::*;

/// Rows that are not committed, of some customers or of all.
fn uncommitted(folding: &Folding, customers: Option<&[String]>) -> BTreeMap<Vec<u8>, Row> {
    let mut rows = BTreeMap::new();
    let of = customers.map(|customers| (ACCOUNT.number, customers));
    let is_wanted = |key: &RowKey<'_>| customers.is_none_or(|customers| customers.iter().any(|customer| customer == key.customer));
    folding.working.uncommitted(of, &mut |key| is_wanted(key), &mut rows);
    rows
}

/// The same, looked for among all.
fn picked(folding: &Folding, customers: &[String]) -> BTreeMap<Vec<u8>, Row> {
    let is_wanted = |key: &[u8]| customers.iter().any(|customer| customer == RowKey::read(key).expect("a key").customer);
    uncommitted(folding, None).into_iter().filter(|(key, _)| is_wanted(key)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_commit_has_the_rows_as_they_were_when_it_began_however_late_they_are_copied(
        turns in proptest::collection::vec((proptest::collection::vec(sent(), 1..20), any::<bool>(), 0_usize..5), 1..30),
    ) {
        let (mut at_once, mut slowly) = (Folding::new(SETS_MAX), Folding::new(SETS_MAX));
        let mut under_way: Option<Vec<(Vec<u8>, Row)>> = None;
        for (batch, commits, copies) in turns {
            let block = block_of(&batch);
            at_once.add(&block, false);
            slowly.add(&block, false);
            if commits && under_way.is_none() {
                slowly.working.begin_commit();
                under_way = Some(at_once.commit());
            }
            if let Some(expected) = under_way.take() {
                match slowly.working.copy_commit(copies) {
                    None => under_way = Some(expected),
                    Some(rows) => prop_assert_eq!(slowly.end_commit(rows), expected),
                }
            }
        }
        if let Some(expected) = under_way {
            let rows = slowly.working.copy_commit(usize::MAX).expect("all");
            prop_assert_eq!(slowly.end_commit(rows), expected);
        }
        prop_assert_eq!(slowly.commit(), at_once.commit());
    }

    #[test]
    fn what_is_not_committed_is_found_by_customer_as_among_all(
        turns in proptest::collection::vec((proptest::collection::vec(sent(), 1..20), any::<bool>()), 1..20),
    ) {
        let mut folding = Folding::new(SETS_MAX);
        for (batch, commits) in turns {
            folding.add(&block_of(&batch), false);
            if commits {
                folding.commit();
                prop_assert_eq!(uncommitted(&folding, None), BTreeMap::new());
            }
            for customers in [&["c-1"][..], &["c-0", "c-2"], &["c-9"], &[]] {
                let customers: Vec<_> = customers.iter().map(|&customer| customer.to_owned()).collect();
                prop_assert_eq!(uncommitted(&folding, Some(&customers)), picked(&folding, &customers));
            }
        }
    }
}
