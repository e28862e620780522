//! Demand: whether to ask storage for work. Pure.

/// Whether storage may hold pending tasks that this node has not claimed.
///
/// A claim that comes back short proves that there are none, unless a task was pushed, promoted or announced after the
/// claim was composed. `announced` is the count that shows this.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    maybe: bool,
    announced: u64,
    /// Storage refused a commit with this claim in it, perhaps because of the claim. The claim is sent by itself until
    /// a claim comes back.
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

    /// From now on the claim is sent by itself.
    pub(crate) fn ask_alone(&mut self) {
        self.alone = true;
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Storage refused a claim composed at `mark` that was sent alone.
    pub(crate) fn was_refused(&mut self, mark: u64) {
        if self.announced == mark {
            self.maybe = false;
        }
    }

    /// A claim composed at `mark` came back, short or full. A full claim locks an extra row until it is over. A
    /// concurrent claim may skip that row and come back short, so there may be more work.
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
