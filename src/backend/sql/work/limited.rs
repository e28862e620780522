//! Claims under limits.
//!
//! A claim reads the pending tasks in their order, without locking them, and locks the limits that apply to them. The
//! first step covers all limits that the heads of its lines need. It locks them in an order that is the same for every
//! claim, and waits for concurrent claims that have them. With these limits locked, the claim counts running tasks and
//! recent starts, and chooses the tasks that may start. It takes each chosen task that no concurrent transaction has
//! taken meanwhile. If these are too few because tasks had to be passed over, the claim reads on behind them, up to
//! [`LOOK_AHEAD`] tasks. It does not wait for limits that apply to these later tasks alone.
//!
//! A line whose head is under no limit is claimed as if there were no limits.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, Queryable};

use super::claim::{LAST_CHANCE, claimed};
use super::commit::Batch;
use super::limits;
use super::pending::{Row, RowTypes, columns, of_types};
use crate::backend::sql::conn::Conn;
use crate::backend::sql::dialect::placeholders;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::rows::StoredText;
use crate::backend::sql::statement::{Value, statements};
use crate::backend::{ClaimRequest, Claimed};
use crate::clock::Timestamp;
use crate::limit::{Gate, LOOK_AHEAD, Labels, Limits};

/// Rows read at a time after the first page.
const PAGE: usize = 1_000;

/// The pending tasks of a queue behind a given position in line.
macro_rules! line {
    ($of_types:literal) => {
        concat!(
            "SELECT seq, type, limit_key, priority, run_at, crash_count
            FROM task_queue INDEXED BY task_queue_pending
            WHERE state = 'pending' AND queue = ?1
            AND (expires_at IS NULL OR expires_at > ?2 OR started_at IS NOT NULL)
            AND (priority, run_at, seq) > (?3, ?4, ?5) ",
            $of_types,
            " ORDER BY priority, run_at, seq LIMIT ?6"
        )
    };
}

type PlaceTypes = (BigInt, Text, Nullable<Text>, BigInt, BigInt, BigInt);

statements! {
    Line -> PlaceTypes: (line!(""));
    LineOfFew -> PlaceTypes: (line!("AND type IN (?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"));
    LineOfTypes -> PlaceTypes: {
        sqlite line!("AND type IN (SELECT value FROM json_each(?7))");
        postgres line!("AND type = ANY (ARRAY(SELECT jsonb_array_elements_text(?7::jsonb)))");
        mysql line!("AND JSON_CONTAINS(?7, JSON_QUOTE(type))");
    };
}

/// A pending task, with the columns that the choice needs.
#[derive(Queryable)]
struct Place {
    seq: i64,
    kind: StoredText,
    key: Option<StoredText>,
    priority: i64,
    run_at: i64,
    crash_count: i64,
}

impl Place {
    fn labels<'a>(&'a self, queue: &'a str) -> Labels<'a> {
        Labels { queue, kind: &self.kind, key: self.key.as_deref() }
    }
}

/// A section of a line.
struct Page {
    places: Vec<Place>,
    /// True when more tasks may follow.
    full: bool,
}

impl Page {
    fn labels<'a>(&'a self, request: &'a ClaimRequest) -> impl Iterator<Item = Labels<'a>> {
        self.places.iter().map(|place| place.labels(&request.queue))
    }
}

/// The next `limit` tasks in line behind a given task, or from the start of the line.
fn page<C: Conn>(
    conn: &mut C,
    request: &ClaimRequest,
    now: Timestamp,
    behind: Option<&Place>,
    limit: usize,
) -> QueryResult<Page> {
    let begin = (i64::MIN, i64::MIN, i64::MIN);
    let (priority, run_at, seq) = behind.map_or(begin, |place| (place.priority, place.run_at, place.seq));
    let values = vec![
        Value::Text(&request.queue),
        Value::Int(now.as_micros()),
        Value::Int(priority),
        Value::Int(run_at),
        Value::Int(seq),
        Value::Int(i64::try_from(limit).unwrap_or(i64::MAX)),
    ];
    let places = of_types::<Line, LineOfFew, LineOfTypes, _, Place>(conn, request.types.as_deref(), values)?;
    let full = places.len() == limit;
    Ok(Page { places, full })
}

/// State that the claims of a single commit share.
struct Claims {
    gate: Gate,
    known: Arc<Limits>,
    /// Tasks that the commit has taken so far.
    taken: HashSet<i64>,
    /// Whether a task on its last chance may start. Found out when the first such task is met.
    suspects: Option<bool>,
    /// The current request passed over a task on its last chance.
    passed_over: bool,
}

impl<C: Conn> Batch<'_, C> {
    /// The same as [`claim`](Self::claim), under the limits that the commit names.
    pub(super) fn claim_limited(&mut self, known: &Arc<Limits>) -> Result<(), Abort> {
        let (commit, gate) = (self.commit, Gate::new(known, self.commit.now));
        let mut claims =
            Claims { gate, known: Arc::clone(known), taken: HashSet::new(), suspects: None, passed_over: false };
        let mut heads = Vec::with_capacity(commit.claim.len());
        for request in &commit.claim {
            heads.push(self.head(request, known)?);
        }
        let both = || commit.claim.iter().zip(&heads);
        let labels = || both().flat_map(|(request, head)| head.iter().flat_map(|head| head.labels(request)));
        let places = claims.gate.unasked(labels());
        limits::open(self.conn, &mut claims.gate, known, &places, self.awaits_limits)?;
        self.arrive(&mut claims.gate, &places)?;
        for (index, (request, head)) in commit.claim.iter().zip(heads).enumerate() {
            let claimed = match head {
                Some(head) => self.claim_behind(request, head, &mut claims)?,
                None => self.claim_free(request, &mut claims)?,
            };
            let mut held = claims.gate.held_back(index).filter(|_| claimed.len() < request.limit);
            // Limits of later tasks are never waited for, so that they are locked says nothing there.
            held.iter_mut().for_each(|held| held.locked &= !self.awaits_limits);
            self.receipt.held_back.extend(held);
            self.receipt.claimed.push(claimed);
        }
        limits::remember(self.conn, &claims.gate)?;
        Ok(())
    }

    /// Sets a gate to the time at which the limits were locked. A commit composed long ago starts its tasks now, so its
    /// starts count from now.
    fn arrive(&mut self, gate: &mut Gate, places: &BTreeSet<usize>) -> Result<(), Abort> {
        let Some(sent) = self.commit.sent.filter(|_| gate.counts_starts(places)) else { return Ok(()) };
        let now = self.conn.time()?.unwrap_or_else(|| self.commit.now + sent.elapsed());
        gate.reached(now);
        Ok(())
    }

    /// The head of the line of a request, if any task in it is under a limit.
    fn head(&mut self, request: &ClaimRequest, known: &Limits) -> Result<Option<Page>, Abort> {
        if request.limit == 0 || !known.may_touch(&request.queue, request.types.as_deref()) {
            return Ok(None);
        }
        let head = page(self.conn, request, self.commit.now, None, request.limit.saturating_add(1))?;
        let limited = head.labels(request).any(|labels| known.touch(labels));
        Ok(limited.then_some(head))
    }

    /// Claims from a line in whose head no task is under a limit.
    fn claim_free(&mut self, request: &ClaimRequest, claims: &mut Claims) -> Result<Vec<Claimed>, Abort> {
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let mut suspects = claims.suspects.unwrap_or(true);
        let (claimed, limited) = self.claim_for(request, &mut suspects)?;
        if !suspects {
            claims.suspects = Some(false);
        }
        if limited {
            // A task under a limit has arrived meanwhile.
            claims.gate.in_the_way();
        }
        claims.taken.extend(claimed.iter().map(|task| task.seq));
        Ok(claimed)
    }

    /// Claims through the gate, starting at the `head` of the line.
    fn claim_behind(
        &mut self,
        request: &ClaimRequest,
        head: Page,
        claims: &mut Claims,
    ) -> Result<Vec<Claimed>, Abort> {
        let (mut tasks, mut seen, mut page) = (Vec::new(), 0, head);
        claims.passed_over = false;
        loop {
            limits::look(self.conn, &mut claims.gate, page.labels(request))?;
            let chosen = self.choose(request, &page, claims, request.limit - tasks.len())?;
            let taken = self.take(request, &chosen, claims)?;
            // Pages are read without locks. If an edit moved a task down the line after the first read, a later page
            // shows the task again. It must not be claimed twice.
            claims.taken.extend(taken.iter().map(|task| task.seq));
            tasks.extend(taken);
            seen += page.places.len();
            if tasks.len() >= request.limit || !page.full || seen >= LOOK_AHEAD {
                break;
            }
            page = self::page(self.conn, request, self.commit.now, page.places.last(), PAGE)?;
            let places = claims.gate.unasked(page.labels(request));
            limits::open(self.conn, &mut claims.gate, &claims.known, &places, false)?;
            self.arrive(&mut claims.gate, &places)?;
        }
        self.receipt.passed_over |= claims.passed_over && tasks.len() < request.limit;
        if !tasks.is_empty() {
            let seqs: Vec<i64> = tasks.iter().map(|task| task.seq).collect();
            C::start(self, &seqs)?;
        }
        Ok(tasks)
    }

    /// The `seq` of up to `room` tasks that may start.
    fn choose(
        &mut self,
        request: &ClaimRequest,
        page: &Page,
        claims: &mut Claims,
        room: usize,
    ) -> Result<Vec<i64>, Abort> {
        let mut chosen = Vec::new();
        for place in &page.places {
            if chosen.len() == room {
                break;
            }
            if claims.taken.contains(&place.seq) {
                continue;
            }
            let suspect = place.crash_count >= LAST_CHANCE;
            if suspect && !self.may_start_suspect(claims)? {
                claims.passed_over = true;
                continue;
            }
            if claims.gate.admit(place.labels(&request.queue)) {
                chosen.push(place.seq);
                if suspect {
                    // At most a single such task at a time.
                    claims.suspects = Some(false);
                }
            }
        }
        Ok(chosen)
    }

    fn may_start_suspect(&mut self, claims: &mut Claims) -> Result<bool, Abort> {
        let may = match claims.suspects {
            Some(may) => may,
            None => !self.runs_suspect()?,
        };
        claims.suspects = Some(may);
        Ok(may)
    }

    /// Locks and reads the chosen tasks, except tasks that a concurrent transaction has taken.
    fn take(&mut self, request: &ClaimRequest, chosen: &[i64], claims: &mut Claims) -> Result<Vec<Claimed>, Abort> {
        let mut tasks: Vec<Claimed> = Vec::with_capacity(chosen.len());
        for seqs in chosen.chunks(C::MOST_ROWS) {
            let values: Vec<Value<'_>> = seqs.iter().map(|seq| Value::Int(*seq)).collect();
            let sql = format!(
                "SELECT {} FROM task_queue WHERE state = 'pending' AND seq IN ({})
                ORDER BY priority, run_at, seq {{skip}}",
                columns!(),
                placeholders(1, seqs.len())
            );
            let rows: Vec<Row> = self.conn.load_once::<RowTypes, _>(&sql, &values)?;
            for row in rows {
                let seq = row.seq;
                match claimed(row, request, self.commit, tasks.last()) {
                    Ok(task) => tasks.push(task),
                    Err(unreadable) => self.bury([(seq, unreadable)])?,
                }
            }
        }
        tasks.iter().for_each(|task| claims.gate.begun(task.spec.labels()));
        if tasks.len() < chosen.len() {
            claims.gate.in_the_way();
        }
        Ok(tasks)
    }
}
