//! Pullers: callers of `pop` that wait for a task of a lane. Pure: no actix, no storage, no clock.

use std::collections::VecDeque;

use super::inbox::Puller;
use crate::runtime::core::stale::StaleScan;

/// The pullers of a lane, in FIFO order.
///
/// A puller that stops waiting does not say so. On a lane where nothing is pushed, nothing else would notice it. So
/// closed pullers are looked for as further pullers come.
#[derive(Default)]
pub(crate) struct Pullers {
    line: VecDeque<Puller>,
    gone: StaleScan,
}

impl Pullers {
    pub(crate) fn add(&mut self, puller: Puller) {
        if self.gone.worth_a_look(self.line.len()) {
            self.forget_gone();
        }
        self.line.push_back(puller);
    }

    /// Drops closed pullers.
    pub(crate) fn forget_gone(&mut self) {
        let before = self.line.len();
        self.line.retain(|puller| !puller.answer.is_closed());
        self.gone.looked(before, self.line.len());
    }

    /// The puller that has waited longest. It may be closed.
    pub(crate) fn next(&mut self) -> Option<Puller> {
        self.line.pop_front()
    }

    /// Turns away the pullers that do not want to wait, by dropping their senders.
    pub(crate) fn turn_away_hasty(&mut self) {
        self.line.retain(|puller| !puller.once);
    }

    /// Turns away all pullers, by dropping their senders.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
    }

    /// The number of pullers. It includes pullers that have closed since.
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
    use crate::runtime::core::stale::FEW;
    use crate::runtime::queue::inbox::Pulled;

    fn come(pullers: &mut Pullers) -> oneshot::Receiver<Pulled> {
        let (answer, delivery) = oneshot::channel();
        pullers.add(Puller { answer, once: false });
        delivery
    }

    #[test]
    fn one_who_pulls_costs_the_same_however_many_there_are() {
        let mut pullers = Pullers::default();
        let waiting: Vec<_> = (0..100_000).map(|_| come(&mut pullers)).collect();
        assert_eq!(pullers.len(), waiting.len(), "none of them has gone away");
        assert!(pullers.gone.looks <= 2 * waiting.len(), "{} looks at {}", pullers.gone.looks, waiting.len());
    }

    #[test]
    fn those_that_have_gone_away_are_forgotten_and_the_others_keep_their_order() {
        let mut pullers = Pullers::default();
        let mut first = come(&mut pullers);
        for _ in 0..50_000 {
            drop(come(&mut pullers));
        }
        let mut last = come(&mut pullers);
        assert!(pullers.len() <= FEW, "{} are left", pullers.len());
        assert!(pullers.gone.looks <= 2 * 50_000, "{} looks", pullers.gone.looks);
        pullers.forget_gone();
        for stays in [&mut first, &mut last] {
            drop(pullers.next());
            assert!(stays.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        }
        assert!(pullers.is_empty());
    }
}
