//! Tasks of every kind, chosen at random.

use std::time::Duration;

use callboard::{NewTask, Retry, TaskId, Unique, UniqueMode, UniqueScope};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use super::handlers::Params;
use super::note::Wanted;

/// The time for which a key of the kind `period:` is held.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);
/// The tag of all load tasks that an edit of many tasks may change.
pub(crate) const TAG: &str = "edited";

/// A task and its note for the ledger.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) task: NewTask,
    pub(crate) wanted: Wanted,
}

impl Made {
    fn new(rng: &mut StdRng, params: &Params) -> Self {
        let id: TaskId = Uuid::from_u128(rng.random()).into();
        let task = NewTask::new("work", params).task_id(id).retry(Retry::fixed(Duration::from_millis(30)));
        Self { task, wanted: Wanted { id, key: None, tagged: false } }
    }

    fn with(self, change: impl FnOnce(NewTask) -> NewTask) -> Self {
        Self { task: change(self.task), ..self }
    }

    fn tagged(mut self) -> Self {
        self.wanted.tagged = true;
        self.with(|task| task.tag(TAG).delay(Duration::from_millis(300)))
    }

    fn unique(mut self, unique: Unique) -> Self {
        self.wanted.key = Some(unique.key.clone());
        self.with(|task| task.unique(unique))
    }
}

/// A task without a unique key.
pub(crate) fn plain(rng: &mut StdRng) -> Made {
    let ms = rng.random_range(0..15);
    let of = |params: Params| params;
    let made = |rng: &mut StdRng, params: Params| Made::new(rng, &of(params));
    match rng.random_range(0..100) {
        // Long runs, so that a fault meets running tasks.
        0..6 => {
            let (ms, deaf) = (rng.random_range(0..1_500), rng.random_bool(0.3));
            made(rng, Params { ms, deaf, ..Params::default() })
        }
        6..10 => made(rng, Params { ms: ms * 4, ..Params::default() }).with(|task| task.limit_key("narrow")),
        10..14 => {
            made(rng, Params { ms, ..Params::default() }).with(|task| task.limit_key(format!("paced:{}", ms % 2)))
        }
        14..24 => made(rng, Params::default()).with(|task| task.delay(Duration::from_millis(ms * 40)).priority(1)),
        24..36 => {
            let fail = rng.random_range(0..4);
            made(rng, Params { fail, ..Params::default() }).with(|task| task.max_attempts(3))
        }
        36..44 => made(rng, Params { snooze_ms: ms * 10, ..Params::default() }),
        44..48 => made(rng, Params { fatal: true, ..Params::default() }),
        48..60 => made(rng, Params { ms, ..Params::default() }).with(|task| task.queue("held")),
        60..70 => made(rng, Params { ms, ..Params::default() }).tagged(),
        70..80 => made(rng, Params { ms, ..Params::default() }).with(|task| task.queue("side").priority(-1)),
        _ => made(rng, Params { ms, ..Params::default() }),
    }
}

/// A task with a key that many tasks share, in either of two queues.
pub(crate) fn unique(rng: &mut StdRng) -> Made {
    let params = Params { ms: rng.random_range(0..60), deaf: true, ..Params::default() };
    let hot = rng.random_range(0..4);
    let unique = match rng.random_range(0..10) {
        0..5 => {
            let mode = *UniqueMode::ALL.choose(rng).expect("there are modes");
            Unique::key(format!("mixed:{hot}")).mode(mode)
        }
        5..8 => Unique::key(format!("latest:{hot}")).mode(UniqueMode::KeepLatest),
        8 => {
            let mode = *[UniqueMode::ReturnExisting, UniqueMode::Replace].choose(rng).expect("there are modes");
            Unique::key(format!("started:{hot}")).scope(UniqueScope::UntilStarted).mode(mode)
        }
        _ => Unique::key(format!("period:{hot}")).scope(UniqueScope::Period).period(PERIOD),
    };
    let (queue, delay) = (*["default", "side"].choose(rng).expect("two"), rng.random_range(0..30));
    let made = Made::new(rng, &params).unique(unique).with(|task| task.queue(queue));
    if rng.random_bool(0.5) { made.with(|task| task.delay(Duration::from_millis(delay))) } else { made }
}
