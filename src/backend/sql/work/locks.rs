//! The order in which rows are locked, and the rows that are never waited for. This module is documentation only: it
//! has no code.
//!
//! Many transactions run concurrently on a server. Two transactions that wait for each other are a deadlock. The server
//! ends it after a second by rolling back either of them. A waiting transaction also keeps all its locks, so every
//! other transaction that needs them waits too. A transaction of an application ([`push_in`](crate::Board::push_in)) or
//! of an operator may last long. This gives two rules.
//!
//! **Rule 1: locks that may be waited for are taken in this order.**
//! 1. Rows of `task_queue` by `seq`: ends of runs, claims that are given back.
//! 2. Rows of `task_limit` by scope and name: claims under limits.
//! 3. The row of `change_mark`, the row of `schedule_mark`: the last statement of their transactions.
//!
//! **Rule 2: no other lock is waited for.** Such rows are locked with `SKIP LOCKED` or `NOWAIT`. If they are not free,
//! the work is left out, or undone and repeated ([`Abort::Busy`](crate::backend::sql::errors::Abort)):
//!
//! | rows | locked by | if not free |
//! |---|---|---|
//! | pending, due, expired, orphaned and finished tasks | claims, upkeep, pruning | skipped until the next look |
//! | the task that has a unique key | a push that changes it or takes its key: `replace`, `keep_latest`, a key whose holder has lost it | the push is deferred (`Inserted::Busy`) |
//! | the index entry of a key that no row has | a push that stores it | PostgreSQL cannot show the entry: it waits 5 ms, undoes the commit, and repeats it without the push; MariaDB and MySQL look with `NOWAIT` |
//! | the task to be changed | an edit | the edit is undone and repeated by the board, until the deadline of a push; an edit by filter ends before that task |
//! | the task that waits for a parent | the end, cancel or deletion of the parent | the transaction is undone and repeated, four times at most |
//! | the holder of a key that a retried task needs | an edit | the same |
//! | a schedule, and the tasks that its turn cancels or waits for | a firing | the turn is lost, and decided anew |
//!
//! A push that only reports the holder of a key (`return_existing`, `reject`) locks nothing. A task that waits for its
//! parent was stored after it. So locking the task after its parent agrees with the order by `seq`.
//!
//! No order helps in the following case. When a key passes from a task to the next, InnoDB also locks the neighbour in
//! the index, which a concurrent push may hold at the same moment. MariaDB and MySQL detect such a deadlock at once.
//! The transaction that was rolled back is repeated (`Health::storage_conflicts` counts it).
//!
//! A wait for a lock lasts at most half a second on PostgreSQL, and a second on MariaDB. A commit that has waited so
//! long is repeated with care. It then locks each ended run's task in a statement of its own, and waits for none. Ends
//! whose tasks a concurrent transaction has locked are deferred (`Settled::Busy`). The queue sends deferred work again
//! (`src/runtime/queue/deferred.rs`): each item in a commit of its own, with growing pauses, and a push until its
//! deadline. Claims of tasks under a locked limit are held back (`HeldBack::locked`). The queue asks for these tasks again
//! in a commit of its own, so that a limit that stays locked delays no other work.
//!
//! A transaction of the application waits for rows that concurrent transactions have locked. It waits on the
//! application's own thread, in the order in which the application asks. Two such transactions that push the same keys
//! in different orders may deadlock with each other. They never deadlock with a transaction of callboard's own.
