//! Whether to ask storage for work. Pure.

/// Whether storage may hold pending tasks that nobody here has claimed.
///
/// A claim that comes back short proves that there are none, unless something was pushed, promoted or announced
/// after the claim was composed: that is what the count is for.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    maybe: bool,
    announced: u64,
    /// Storage refused a commit with its claim in it, perhaps for the sake of that: it is asked for by itself until a claim
    /// comes back.
    alone: bool,
}

impl Demand {
    pub(crate) fn announce(&mut self) {
        self.maybe = true;
        self.announced += 1;
    }

    pub(crate) fn is_set(&self) -> bool {
        self.maybe
    }

    pub(crate) fn mark(&self) -> u64 {
        self.announced
    }

    /// From now on it is asked for by itself.
    pub(crate) fn ask_alone(&mut self) {
        self.alone = true;
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Storage refused a claim composed at `mark` that came alone.
    pub(crate) fn was_refused(&mut self, mark: u64) {
        if self.announced == mark {
            self.maybe = false;
        }
    }

    /// A claim composed at `mark` came back, short or full. A full one has read a row more, and kept it locked until it was
    /// over: one beside it may have passed that row over, and come back short.
    pub(crate) fn came_back(&mut self, short: bool, mark: u64) {
        self.alone = false;
        if short {
            self.came_back_short(mark);
        } else {
            self.announce();
        }
    }

    /// A claim composed at `mark` came back short.
    pub(crate) fn came_back_short(&mut self, mark: u64) {
        if self.announced == mark {
            self.maybe = false;
        }
    }
}
