//! The rules of a schedule for missed times, overlapping runs and failed runs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::task::{UnknownSpelling, spelled};

spelled! {
    /// The rule for a firing while [`max_instances`](Policy::max_instances) earlier runs have not ended. Runs of
    /// backfills and runs triggered by hand do not count, and none of these rules affects them.
    Overlap ("overlap policy") {
        /// The firing is skipped.
        Skip = "skip",
        /// The firing waits until the run before it has ended. While a firing waits and no place is free, further
        /// firings are skipped.
        BufferOne = "buffer_one",
        /// The firing waits until the run before it has ended, however many wait already; 1,000 at most. With
        /// `max_instances = n` there are up to n chains, and the firing joins the chain whose last task is the
        /// oldest.
        BufferAll = "buffer_all",
        /// The oldest run is cancelled, and the firing runs when that run has ended. If `max_instances` was lowered,
        /// several runs may have to be cancelled. The firing then waits for the youngest of them.
        CancelOther = "cancel_other",
        /// The firing runs beside them.
        Allow = "allow",
    }
}

/// Which of several due times run, after an outage or after a clock was set ahead.
///
/// ```
/// use callboard::Coalesce;
/// assert_eq!("all 10".parse(), Ok(Coalesce::All(10)));
/// assert_eq!(Coalesce::Latest.to_string(), "latest");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coalesce {
    /// The last time.
    Latest,
    /// The first time.
    Earliest,
    /// All times, but at most this many, counted from the last.
    All(u32),
    /// None: missed times are not made up. A time runs only if it is at most [`ON_TIME`] late.
    None,
}

/// A time that is at most this late is on time for [`Coalesce::None`], because a busy machine is no outage.
pub const ON_TIME: Duration = Duration::from_secs(10);

/// The shortest misfire grace. A round of the scheduler itself takes about as long.
const SHORTEST_GRACE: Duration = Duration::from_millis(1);

/// Number of nominal times that a schedule remembers after their tasks are gone. For a schedule of every minute this
/// is 69 days, in 6 MB.
pub(crate) const KEPT_RUNS: u32 = 100_000;

/// The most runs that a single backlog causes with [`Coalesce::All`].
pub(crate) const MOST_AT_ONCE: u32 = 1_000;

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Earliest => f.write_str("earliest"),
            Self::All(most) => write!(f, "all {most}"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for Coalesce {
    type Err = UnknownSpelling;
    fn from_str(text: &str) -> Result<Self, UnknownSpelling> {
        let all = text.strip_prefix("all ").and_then(|most| most.parse().ok());
        match (text, all) {
            ("latest", _) => Ok(Self::Latest),
            ("earliest", _) => Ok(Self::Earliest),
            ("none", _) => Ok(Self::None),
            (_, Some(most)) if (1..=MOST_AT_ONCE).contains(&most) => Ok(Self::All(most)),
            _ => Err(UnknownSpelling::new(
                "coalesce policy",
                text,
                &["latest", "earliest", "all N (1 to 1000)", "none"],
            )),
        }
    }
}

impl Serialize for Coalesce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The rules of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// A time that is later than this is recorded as missed and does not run. `None` means that no time is too late.
    /// At least 1 ms. With less than a few seconds, a busy machine misses times.
    pub misfire_grace: Option<Duration>,
    /// Which of several due times run.
    pub coalesce: Coalesce,
    /// The rule for a firing while earlier runs go on.
    pub overlap: Overlap,
    /// How many runs may go on side by side before `overlap` decides; at least 1.
    pub max_instances: u32,
    /// Pauses the schedule when this many of its runs in a row are dead. Cancelled runs do not count.
    pub pause_after: Option<u32>,
    /// Finishes the schedule after it has made this many tasks.
    pub run_limit: Option<u64>,
    /// How many firings the history keeps, at least.
    pub keep_firings: u32,
}

impl Default for Policy {
    /// The latest time of a backlog runs, however late it is; an overlapping run is skipped; 100 firings are
    /// remembered.
    fn default() -> Self {
        Self {
            misfire_grace: None,
            coalesce: Coalesce::Latest,
            overlap: Overlap::Skip,
            max_instances: 1,
            pause_after: None,
            run_limit: None,
            keep_firings: 100,
        }
    }
}

impl Policy {
    /// The problem with the policy, or `None` if it is valid.
    pub(crate) fn fault(&self) -> Option<String> {
        let zero = |what: &str| Some(format!("{what} is 0; at least 1 is needed"));
        match self {
            Self { max_instances: 0, .. } => zero("max_instances"),
            Self { pause_after: Some(0), .. } => zero("pause_after"),
            Self { run_limit: Some(0), .. } => zero("run_limit"),
            Self { keep_firings: 0, .. } => zero("keep_firings"),
            Self { misfire_grace: Some(grace), .. } if *grace < SHORTEST_GRACE => Some(format!(
                "misfire_grace is {grace:?}, and no time runs as early as that; give it some seconds, or leave it away so that \
                 nothing is too late"
            )),
            Self { keep_firings: 10_001.., .. } => {
                Some(format!("keep_firings is {}; at most 10000 are kept", self.keep_firings))
            }
            Self { coalesce: Coalesce::All(most), .. } if !(1..=MOST_AT_ONCE).contains(most) => {
                Some(format!("coalesce is all {most}; 1 to {MOST_AT_ONCE} are allowed"))
            }
            _ => None,
        }
    }
}
