//! Claims under limits.
//!
//! A claim looks at the pending tasks in their order, without locking them, and asks for the limits that they are under:
//! first for all that the beginnings of its lines need, in an order that is the same for every claim, waiting for other
//! claims that have them. With these locked it counts what runs and what has started, chooses the tasks that may start,
//! and takes those of them that nobody else has taken meanwhile. Where that is too few, because tasks had to be passed
//! over, it goes on to those behind them, [`LOOK_AHEAD`] at most; limits that only these are under are not waited for.
//!
//! A line whose beginning is under no limit is claimed as if there were none.

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

/// Rows read at a time after the first look.
const PAGE: usize = 1_000;

/// The pending tasks of a queue behind a place in line.
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

/// A pending task, as far as choosing needs to know it.
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

/// A stretch of a line.
struct Page {
    places: Vec<Place>,
    /// There may be more behind it.
    full: bool,
}

impl Page {
    fn labels<'a>(&'a self, request: &'a ClaimRequest) -> impl Iterator<Item = Labels<'a>> {
        self.places.iter().map(|place| place.labels(&request.queue))
    }
}

/// The next `limit` tasks in line behind a place, or from the beginning.
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

/// What the claims of one commit share.
struct Claims {
    gate: Gate,
    known: Arc<Limits>,
    /// Tasks that the commit has taken so far.
    taken: HashSet<i64>,
    /// Whether a task on its last chance may start: found out when one is met.
    suspects: Option<bool>,
    /// One was left, by the request under way.
    passed_over: bool,
}

impl<C: Conn> Batch<'_, C> {
    /// As [`claim`](Self::claim), under the limits that the commit names.
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
        limits::open(self.conn, &mut claims.gate, known, &places, true)?;
        self.arrive(&mut claims.gate, &places)?;
        for (index, (request, head)) in commit.claim.iter().zip(heads).enumerate() {
            let claimed = match head {
                Some(head) => self.claim_behind(request, head, &mut claims)?,
                None => self.claim_free(request, &mut claims)?,
            };
            let held = claims.gate.held_back(index).filter(|_| claimed.len() < request.limit);
            self.receipt.held_back.extend(held);
            self.receipt.claimed.push(claimed);
        }
        limits::remember(self.conn, &claims.gate)?;
        Ok(())
    }

    /// Sets a gate to the time at which the limits were locked: what was composed long ago starts now, and counts from now.
    fn arrive(&mut self, gate: &mut Gate, places: &BTreeSet<usize>) -> Result<(), Abort> {
        let Some(sent) = self.commit.sent.filter(|_| gate.counts_starts(places)) else { return Ok(()) };
        let now = self.conn.time()?.unwrap_or_else(|| self.commit.now + sent.elapsed());
        gate.reached(now);
        Ok(())
    }

    /// The beginning of the line of a request, if a task in it is under a limit.
    fn head(&mut self, request: &ClaimRequest, known: &Limits) -> Result<Option<Page>, Abort> {
        if request.limit == 0 || !known.may_touch(&request.queue, request.types.as_deref()) {
            return Ok(None);
        }
        let head = page(self.conn, request, self.commit.now, None, request.limit.saturating_add(1))?;
        let limited = head.labels(request).any(|labels| known.touch(labels));
        Ok(limited.then_some(head))
    }

    /// Claims where no limit is in sight.
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
            // A task under a limit has come in meanwhile.
            claims.gate.in_the_way();
        }
        claims.taken.extend(claimed.iter().map(|task| task.seq));
        Ok(claimed)
    }

    /// Claims through the gate, from the `head` of the line on.
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
            // Pages are read without locks. A task that an edit moved down the line after the first look stands in a later
            // page again, and must not be claimed twice.
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

    /// The places of up to `room` tasks that may start.
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
                    // One at a time.
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

    /// Locks and reads the tasks that were chosen, as far as nobody else has taken them.
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
