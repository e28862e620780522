//! When to scan a list of waiters for closed waiters. A waiter that goes away does not say so.

/// Decides when to drop closed waiters. A full scan runs only after the list has doubled since the last scan, so each
/// insertion pays for at most two visits, however many waiters there are.
#[derive(Default)]
pub(crate) struct StaleScan {
    /// A list of this many waiters is worth a scan, but never a list shorter than [`FEW`].
    look_at: usize,
    /// Waiters visited so far.
    #[cfg(test)]
    pub(crate) looks: usize,
}

/// Fewer waiters than this are not worth a scan.
pub(crate) const FEW: usize = 64;

impl StaleScan {
    /// True when it is time to scan all `waiting` waiters.
    pub(crate) fn worth_a_look(&self, waiting: usize) -> bool {
        waiting >= self.look_at.max(FEW)
    }

    /// Records a scan: all `before` waiters were visited, and `left` of them still wait.
    #[cfg_attr(not(test), allow(unused_variables, reason = "tests count the looks"))]
    pub(crate) fn looked(&mut self, before: usize, left: usize) {
        #[cfg(test)]
        {
            self.looks += before;
        }
        self.look_at = left * 2;
    }
}
