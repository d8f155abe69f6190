//! Calls of the payment provider.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};

/// Tries of calls of Stripe by what came of them. Labels: `outcome`, see [`CallOutcome`].
pub const CALLS_TOTAL: &str = "tollgate_stripe_calls_total";
/// Seconds that a try took.
pub const CALL_SECONDS: &str = "tollgate_stripe_call_seconds";

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// Stripe did it.
    Done,
    /// Stripe will not do it: 4xx.
    Refused,
    /// Stripe does not know the key, or the key may not do this: 401, 403.
    Unauthorized,
    /// 429.
    Limited,
    /// 5xx, or 409: the same call was under way.
    Failed,
    /// No connection, or one that broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// An answer that is none.
    Nonsense,
}

impl CallOutcome {
    const ALL: [Self; 8] =
        [Self::Done, Self::Refused, Self::Unauthorized, Self::Limited, Self::Failed, Self::Unreachable, Self::TimedOut, Self::Nonsense];

    /// As it stands in metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Nonsense => "nonsense",
        }
    }
}

/// Says that there is a payment provider here: its series begin.
pub fn begin_stripe() {
    describe_counter!(CALLS_TOTAL, "Tries of calls of Stripe by what came of them.");
    describe_histogram!(CALL_SECONDS, "Seconds that a try of a call of Stripe took.");
    for outcome in CallOutcome::ALL {
        counter!(CALLS_TOTAL, "outcome" => outcome.label()).increment(0);
    }
    drop(histogram!(CALL_SECONDS));
}

/// Counts one try.
pub fn observe_stripe_call(outcome: CallOutcome, took: Duration) {
    counter!(CALLS_TOTAL, "outcome" => outcome.label()).increment(1);
    histogram!(CALL_SECONDS).record(took);
}
