//! In which order rows are locked, and what is never waited for. Documentation alone: no code stands here.
//!
//! Many transactions run side by side on a server. Two that wait for each other are a deadlock, which the server ends after a
//! second by undoing one of them; and one that waits keeps all that it has locked from everybody else. A transaction of an
//! application ([`push_in`](crate::Board::push_in)) or of an operator may last for long. From this follow two rules.
//!
//! **Rule 1: what is waited for is locked in this order.**
//! 1. Rows of `task_queue` by `seq`: ends of runs, claims that are given back.
//! 2. Rows of `task_limit` by scope and name: claims under limits.
//! 3. The row of `change_mark`, the row of `schedule_mark`: the last statement of their transactions.
//!
//! **Rule 2: everything else is not waited for.** It is locked with `SKIP LOCKED` or `NOWAIT`, and when it is not free the work
//! is left out, or undone and done again ([`Abort::Busy`](crate::backend::sql::errors::Abort)):
//!
//! | what | locked by | when it is not free |
//! |---|---|---|
//! | pending, due, expired, orphaned and finished tasks | claims, upkeep, pruning | passed by, until the next look |
//! | the task that has a unique key | a push that changes it or takes its key: `replace`, `keep_latest`, a key whose holder has lost it | the push is set aside (`Inserted::Busy`) |
//! | the entry of a key that no row has | a push that stores it | PostgreSQL, which shows nothing of it, waits 5 ms and undoes the commit, which goes on without the push; MariaDB and MySQL look with `NOWAIT` |
//! | the task that is to be changed | an edit | the edit is undone and done again, by the board until the deadline of a push; by a filter it ends before that task |
//! | the task that waits for another | the end, cancel, deletion of the other | the transaction is undone and done again, four times at most |
//! | the holder of a key that a retried task needs | an edit | the same |
//! | a schedule, and the tasks that its turn calls off or waits for | a firing | the turn is lost, and decided anew |
//!
//! A push that is only told who holds a key (`return_existing`, `reject`) locks nothing. A task that waits for another was stored
//! after it, so locking it behind the other agrees with the order by `seq`.
//!
//! What no order helps against: where a key passes from one task to the next, InnoDB also locks its neighbour in the index, whose
//! holder may be another push at the same moment. MariaDB and MySQL find such a deadlock at once, and the one that was undone is
//! done again (`Health::storage_conflicts` counts it).
//!
//! What is waited for is waited for half a second on PostgreSQL, one on MariaDB. A commit that has waited so long is done once
//! more with care: it then locks each task whose run has ended by itself, waits for none, and sets aside the ends whose tasks
//! others have locked (`Settled::Busy`). What was set aside is sent again by the queue (`src/queue/aside.rs`), each in a commit of
//! its own, with longer and longer pauses, a push until its deadline.
//!
//! A transaction of the application waits for what others have locked, on the application's own thread, and in the order in
//! which the application asks: two of them that push the same keys in different orders may deadlock with each other, and with
//! nothing of callboard's.
