//! When to look for those who have gone away without a word.

/// Says when a look at each of those who wait is worth it, as others come. Not before there are twice as many as were left by
/// the last look: so each that comes pays for two looks, however many wait.
#[derive(Default)]
pub(crate) struct StaleScan {
    /// As many are worth a look at each.
    look_at: usize,
    /// Looks at a single one so far.
    #[cfg(test)]
    pub(crate) looks: usize,
}

/// Fewer than this are not worth a look.
pub(crate) const FEW: usize = 64;

impl StaleScan {
    /// True when it is time to look at all `waiting`.
    pub(crate) fn worth_a_look(&self, waiting: usize) -> bool {
        waiting >= self.look_at.max(FEW)
    }

    /// All `before` were looked at, and `left` are still there.
    #[cfg_attr(not(test), allow(unused_variables, reason = "tests count the looks"))]
    pub(crate) fn looked(&mut self, before: usize, left: usize) {
        #[cfg(test)]
        {
            self.looks += before;
        }
        self.look_at = left * 2;
    }
}
