//! The torture in a single process. Several boards share a memory backend that is slow or unavailable, loses its
//! answers, or panics. Meanwhile parts of the boards panic, and boards are stopped and started. Nothing is killed,
//! because memory is lost with its process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callboard::backend::{OpenOptions, open};
use callboard::testing::{Fault as Once, Faulty, crash};
use callboard::{Board, BoardBuilder, Part};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::faults::Fault;
use crate::judge::{Evidence, judge};
use crate::ledger::Follower;
use crate::limits;
use crate::nodes::schedules::KINDS;
use crate::nodes::{Member, Plan, nothing_left};
use crate::waiting::{eventually, soon};
use crate::world::Folder;

const BOARDS: usize = 3;
const ENOUGH: usize = 20;
/// The delay of a slow disk. So the data behind a decision has often changed before the decision is written.
const SLOW: Duration = Duration::from_millis(40);
/// The time for which storage is slow.
const SPAN: Duration = Duration::from_secs(4);

const FAULTS: [Fault; 6] =
    [Fault::Slow, Fault::Away, Fault::AnswersLost, Fault::Panics, Fault::PartPanics, Fault::Stopped];
/// Parts that restart after a panic.
const PARTS: [Part; 5] = [Part::Queue, Part::Scheduler, Part::Maintenance, Part::Worker, Part::Events];

struct InProcess {
    storage: Arc<Faulty>,
    members: Vec<Member>,
    rng: StdRng,
    started: usize,
    folder: Folder,
    follower: Follower,
}

pub(crate) fn torture(span: Duration, seed: u64) {
    actix_rt::System::new().block_on(InProcess::new(seed).torture(span, seed));
}

impl InProcess {
    fn new(seed: u64) -> Self {
        let inner = open("memory:", &OpenOptions::default()).unwrap();
        let storage = Faulty::new(inner, true);
        let folder = Folder::new("memory", seed);
        let follower = Follower::new(folder.path());
        Self { storage, members: Vec::new(), rng: StdRng::seed_from_u64(seed), started: 0, folder, follower }
    }

    async fn torture(mut self, span: Duration, seed: u64) {
        let board = self.builder().start().await.unwrap();
        limits::set(&board).await;
        soon("the stop", board.stop()).await;
        for _ in 0..BOARDS {
            let member = self.start(2).await;
            self.members.push(member);
        }
        let mut met: BTreeMap<Fault, usize> = FAULTS.iter().map(|fault| (*fault, 0)).collect();
        let mut first = FAULTS.to_vec();
        first.shuffle(&mut self.rng);
        let (mut first, begun) = (first.into_iter(), Instant::now());
        while let Some(fault) =
            first.next().or_else(|| FAULTS.choose(&mut self.rng).copied().filter(|_| begun.elapsed() < span))
        {
            println!("{:>6.1} s: {fault:?}", begun.elapsed().as_secs_f64());
            *met.entry(fault).or_default() += 1;
            self.meet(fault).await;
        }
        let lasted = begun.elapsed();
        for member in std::mem::take(&mut self.members) {
            soon("the stop", member.stop()).await;
        }
        let last = self.start(0).await;
        for kind in &KINDS {
            soon("the pause", last.board.schedules().pause(kind.name)).await.unwrap();
        }
        soon("everything runs", nothing_left(&last.board)).await;
        soon("the stop", last.stop()).await;
        let evidence = Evidence::gather(self.folder.path(), &*self.storage, Vec::new());
        judge("memory", seed, lasted, &met, &evidence, None);
    }

    fn builder(&self) -> BoardBuilder {
        Board::builder().backend(Arc::clone(&self.storage) as _)
    }

    async fn start(&mut self, producers: u64) -> Member {
        self.started += 1;
        let ledger = self.folder.path().join(format!("{}.ledger", self.started));
        let seed = self.rng.random_range(0..1 << 40);
        let plan = Plan { url: "memory:".into(), ledger, producers, seed, ..Plan::default() };
        Member::start(&plan, || self.builder()).await.unwrap()
    }

    async fn meet(&mut self, fault: Fault) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..1_000))).await;
        let at = self.rng.random_range(0..self.members.len());
        let several = self.rng.random_range(1..20);
        let next = |fault: Once| self.storage.next_commits(std::iter::repeat_n(fault, several));
        match fault {
            Fault::Slow => {
                self.storage.slow_down(SLOW);
                tokio::time::sleep(SPAN).await;
                self.storage.slow_down(Duration::ZERO);
            }
            Fault::Away => next(Once::Away),
            Fault::AnswersLost => next(Once::AnswerLost),
            Fault::Panics => next(if several % 2 == 0 { Once::Panic } else { Once::PanicAfter }),
            Fault::PartPanics => {
                let part = *PARTS.choose(&mut self.rng).expect("there are parts");
                assert!(crash(&self.members[at].board, part));
            }
            Fault::Stopped => {
                soon("the stop", self.members.remove(at).stop()).await;
                let member = self.start(2).await;
                self.members.push(member);
            }
            other => panic!("{other:?} does not happen in memory"),
        }
        let before = self.follower.counts();
        eventually("the load goes on", async || {
            let now = self.follower.counts();
            (now.0 >= before.0 + ENOUGH && now.1 >= before.1 + ENOUGH).then_some(())
        })
        .await;
    }
}
