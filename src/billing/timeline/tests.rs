use proptest::prelude::*;

use super::*;

const JANUARY_H: u32 = 490_896;

fn assignment(plan: &str, start_h: u32, end_h: Option<u32>) -> Assignment {
    let ms = |hour: u32| i64::from(hour) * HOUR_MS;
    Assignment {
        life: 0,
        plan_id: plan.into(),
        plan_version: Some(1),
        product_id: None,
        start_ms: ms(start_h),
        end_ms: end_h.map(ms),
        ..Assignment::default()
    }
}

fn shown(assignments: &[Assignment], until_h: u32) -> Vec<(String, u32, u32)> {
    let found = periods(assignments, &Lives::default(), until_h, &|_| true);
    found.into_iter().map(|period| (period.plan.id, period.start_h - JANUARY_H, period.end_h - JANUARY_H)).collect()
}

fn of(plan: &str, start: u32, end: u32) -> (String, u32, u32) {
    (plan.into(), start, end)
}

#[test]
fn an_assignment_holds_until_its_end_or_the_next_one() {
    let h = JANUARY_H;
    assert_eq!(shown(&[assignment("a", h, None)], h + 800), [of("a", 0, 744), of("a", 744, 744 + 672)]);
    assert_eq!(shown(&[assignment("a", h, None)], h + 744), [of("a", 0, 744)], "February has not begun");
    assert_eq!(shown(&[assignment("a", h, None), assignment("b", h + 9, None)], h + 1), [of("a", 0, 9)]);
    assert_eq!(shown(&[assignment("b", h + 9, None), assignment("a", h, None)], h + 20), [of("a", 0, 9), of("b", 9, 744)], "by start");
    assert_eq!(shown(&[assignment("a", h, Some(h + 5)), assignment("b", h + 9, None)], h + 20), [of("a", 0, 5), of("b", 9, 744)]);
    assert_eq!(shown(&[assignment("a", h, None), assignment("b", h, None)], h + 20), [of("b", 0, 744)], "made later");
    assert_eq!(shown(&[assignment("a", h, Some(h + 2)), assignment("b", h + 1, Some(h + 3))], h + 20), [of("a", 0, 1), of("b", 1, 3)]);
}

#[test]
fn stretches_of_one_plan_are_one_and_other_versions_are_others() {
    let h = JANUARY_H;
    let same = [assignment("a", h, None), assignment("a", h + 9, None), assignment("a", h + 12, None)];
    assert_eq!(shown(&same, h + 20), [of("a", 0, 744)]);
    let mut newer = same.clone();
    newer[2].plan_version = Some(2);
    assert_eq!(shown(&newer, h + 20), [of("a", 0, 12), of("a", 12, 744)]);
    // Made before there was a plan: its first version, as soon as there is one.
    let mut early = same;
    early[0].plan_version = None;
    assert_eq!(shown(&early, h + 20), [of("a", 0, 744)]);
    let unmade = periods(&early[..1], &Lives::default(), h + 20, &|_| false);
    assert_eq!(unmade[0].plan, PlanRef { id: "a".into(), version: 0 });
}

#[test]
fn months_have_their_hours() {
    assert_eq!(month_of(JANUARY_H), JANUARY_H..JANUARY_H + 744);
    assert_eq!(month_of(JANUARY_H + 743), month_of(JANUARY_H));
    assert_eq!(month_of(JANUARY_H + 744).len(), 28 * 24);
    assert_eq!((hour_of(UnixMillis(-1)), hour_of(UnixMillis(i64::MAX)), hour_from(UnixMillis(i64::MAX))), (0, HOUR_MAX, HOUR_MAX));
    assert_eq!((hour_from(UnixMillis(HOUR_MS)), hour_from(UnixMillis(HOUR_MS + 1))), (1, 2));
}

proptest! {
    #[test]
    fn periods_never_overlap_and_lie_within_a_month(
        assignments in proptest::collection::vec(("[ab]", 0_u32..3_000, proptest::option::of(0_u32..4_000)), 0..12)
    ) {
        let assignments: Vec<_> = assignments
            .iter()
            .map(|(plan, start, end)| assignment(plan, JANUARY_H + start, end.map(|end| JANUARY_H + end)))
            .collect();
        let found = periods(&assignments, &Lives::default(), JANUARY_H + 10_000, &|_| true);
        for period in &found {
            prop_assert!(period.start_h < period.end_h);
            prop_assert_eq!(month_of(period.start_h), month_of(period.end_h - 1));
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].end_h <= pair[1].start_h));
        // Each hour has the plan of the last assignment that began by then, if that has not ended. One that was canceled before never began.
        for hour in (JANUARY_H..JANUARY_H + 4_000).step_by(37) {
            let begun = assignments.iter().filter(|made| made.start_ms <= i64::from(hour) * HOUR_MS && !made.is_void());
            let last = begun.max_by_key(|assignment| assignment.start_ms);
            let holds = last.filter(|assignment| assignment.end_ms.is_none_or(|end_ms| i64::from(hour) * HOUR_MS < end_ms));
            let period = found.iter().find(|period| period.start_h <= hour && hour < period.end_h);
            prop_assert_eq!(period.map(|period| &period.plan.id), holds.map(|assignment| &assignment.plan_id));
        }
    }
}

#[test]
fn an_assignment_that_ends_where_it_begins_ends_no_other_one() {
    let never = assignment("b", JANUARY_H + 10, Some(JANUARY_H + 10));
    let assignments = [assignment("a", JANUARY_H, None), never, assignment("c", JANUARY_H + 20, Some(JANUARY_H + 30))];
    assert_eq!(shown(&assignments, JANUARY_H + 100), [of("a", 0, 20), of("c", 20, 30)]);
}
