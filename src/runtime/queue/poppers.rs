//! Those who pull from a lane. Pure: no actix, no storage, no clock.

use std::collections::VecDeque;

use super::desk::Popper;
use crate::runtime::core::gone::Gone;

/// Those who pull from one lane, in the order in which they came.
///
/// Whoever gives up waiting does not say so. On a lane where nothing is pushed nobody else would notice, so those that have
/// gone away are looked for as others come.
#[derive(Default)]
pub(crate) struct Poppers {
    line: VecDeque<Popper>,
    gone: Gone,
}

impl Poppers {
    pub(crate) fn add(&mut self, popper: Popper) {
        if self.gone.worth_a_look(self.line.len()) {
            self.forget_gone();
        }
        self.line.push_back(popper);
    }

    /// Drops those who went away.
    pub(crate) fn forget_gone(&mut self) {
        let before = self.line.len();
        self.line.retain(|popper| !popper.answer.is_closed());
        self.gone.looked(before, self.line.len());
    }

    /// The one who has waited longest; it may have gone away.
    pub(crate) fn next(&mut self) -> Option<Popper> {
        self.line.pop_front()
    }

    /// Turns away those who do not want to wait, by dropping their sender.
    pub(crate) fn turn_away_hasty(&mut self) {
        self.line.retain(|popper| !popper.once);
    }

    /// Turns all of them away, by dropping their senders.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
    }

    /// How many there are, those included that have gone away since.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::core::gone::FEW;
    use crate::runtime::queue::desk::Pulled;

    fn come(poppers: &mut Poppers) -> oneshot::Receiver<Pulled> {
        let (answer, delivery) = oneshot::channel();
        poppers.add(Popper { answer, once: false });
        delivery
    }

    #[test]
    fn one_who_pulls_costs_the_same_however_many_there_are() {
        let mut poppers = Poppers::default();
        let waiting: Vec<_> = (0..100_000).map(|_| come(&mut poppers)).collect();
        assert_eq!(poppers.len(), waiting.len(), "none of them has gone away");
        assert!(poppers.gone.looks <= 2 * waiting.len(), "{} looks at {}", poppers.gone.looks, waiting.len());
    }

    #[test]
    fn those_that_have_gone_away_are_forgotten_and_the_others_keep_their_order() {
        let mut poppers = Poppers::default();
        let mut first = come(&mut poppers);
        for _ in 0..50_000 {
            drop(come(&mut poppers));
        }
        let mut last = come(&mut poppers);
        assert!(poppers.len() <= FEW, "{} are left", poppers.len());
        assert!(poppers.gone.looks <= 2 * 50_000, "{} looks", poppers.gone.looks);
        poppers.forget_gone();
        for stays in [&mut first, &mut last] {
            drop(poppers.next());
            assert!(stays.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        }
        assert!(poppers.is_empty());
    }
}
