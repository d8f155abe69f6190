//! Random choices that can be made again.

/// SplitMix64. Small and good enough for choices in tests.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// From `TOLLGATE_TEST_SEED`, or else a seed of its own. A test that fails shows which.
    pub(crate) fn seeded() -> Self {
        let given = std::env::var("TOLLGATE_TEST_SEED").ok().map(|text| text.parse().expect("TOLLGATE_TEST_SEED is a number"));
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("random bytes");
            u64::from_le_bytes(bytes)
        });
        println!("the same choices again: TOLLGATE_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, as unforeseen as this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `chances`.
    pub(crate) fn once_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// Puts items into another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
