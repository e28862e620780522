//! The suite that every backend passes.
//!
//! The tests of a backend call `callboard::conformance!(name, harness)`; each case becomes a test. Times are passed
//! to the backend, so no case sleeps.

pub mod claim;
pub mod edit;
pub mod firings;
pub mod insert;
pub mod limits;
pub mod list;
pub mod model;
pub mod nodes;
pub mod pairs;
pub mod prune;
pub mod rates;
pub mod schedules;
pub mod settle;
pub mod sweep;
mod timetable;
pub mod unique;

use std::time::Duration;

use super::factory::World;
use crate::backend::{ClaimRequest, InsertGroup, Insertion, Opened};
use crate::task::{DEFAULT_QUEUE, TaskState};

/// Opens the backend under test.
pub trait Harness {
    /// Opens a fresh, empty backend. Each call gives a new backend.
    fn open(&self) -> Opened;

    /// Opens the backend that [`open`](Harness::open) gave last again, after its handles were dropped. Required for a
    /// backend whose capabilities say `durable`.
    fn reopen(&self) -> Option<Opened> {
        None
    }

    /// A second handle on the backend that [`open`](Harness::open) gave last, as a second process would have.
    /// Required for a backend whose capabilities say `shared`.
    fn second(&self) -> Option<Opened> {
        None
    }

    /// True if storage may undo either of two transactions although they locked in the documented order. InnoDB needs
    /// this: when a key passes from task to task, it also locks the neighbour of the key in its index.
    fn locks_neighbours(&self) -> bool {
        false
    }

    /// How many random sequences the model cases try; fewer for slow storage.
    fn sequences(&self) -> u64 {
        1_000
    }
}

/// The only list of cases, group by group. Each listed case becomes a test.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($make:path) => {
        $make! {
            claim: by_priority by_run_at_then_push_order promoted_tasks_keep_their_run_at
                future_high_priority_does_not_run_early limit_is_kept queues_are_apart types_are_filtered
                requests_are_answered_in_order claim_is_written own_inserts_are_claimed expired_is_not_claimed
                settings_do_not_hinder_claims claims_of_two_nodes_never_overlap last_chance_runs_alone
                last_chance_counts_per_node one_crash_is_forgiven what_cannot_be_read_is_named;
            settle: completed_is_kept second_settlement_is_fenced twice_in_one_commit
                foreign_settlements_are_fenced fenced_after_release fenced_after_rescue failed_is_retried
                dead_keeps_its_reason snooze_uses_no_attempt given_back_is_not_lost
                giving_back_keeps_older_crashes cancelled_run cancel_outlasts_a_failure
                progress_comes_before_the_end running_execution_is_shown progress_is_fenced clock_set_back
                order_within_a_commit empty_commit;
            insert: record_is_complete plain_record full_unicode params_keep_their_text extremes any_uuid_is_an_id
                seq_is_push_order known_id_is_a_duplicate duplicate_is_not_claimed twice_in_one_commit
                claimed_as_pushed group_is_all_or_nothing group_refuses_its_own_key durable_data_survives
                shared_handles_agree;
            unique: held_by_scope_state_and_period one_holder_over_queues_and_types key_passes_on
                deleted_holder_frees_its_key replace_takes_over replace_leaves_a_running_holder
                same_id_comes_before_the_key stored_state_is_told keep_latest_runs_once_after freed_only_when_somebody_waited
                follower_waits_through_retries follower_may_be_scheduled follower_is_freed_by_other_ends
                orphaned_follower_goes_on follower_can_be_called_off keep_latest_until_started
                keep_latest_outlasts_its_period retry_needs_the_key no_key_is_another;
            edit: cancel_in_each_state cancel_request_reaches_the_holder retry_in_each_state
                retry_from_a_crash_loop delete_unless_running reprioritise reschedule reschedule_to_now
                unknown_ids_are_passed_by filter_limit_and_more exact_limit_is_not_more each_task_is_met_once
                filter_passes_by_what_cannot_change an_edit_looks_at_so_many;
            list: by_state by_queue_and_type by_tag by_time by_text fields_narrow_together pages_in_both_orders
                cursor_is_stable cursors_at_the_ends few_among_many lists_show_whole_records counts first_in_line;
            sweep: promotes_what_is_due is_idempotent is_bounded retried_after_expiry expires started_once_never_expires
                rescues_after_a_crash renewed_lease_keeps_tasks rescues_from_unknown_nodes
                own_tasks_are_not_rescued crash_loop_is_dead rescued_with_cancel_is_cancelled ended_are_named settings_are_told clock_set_back;
            limits: running_in_a_queue running_of_a_type running_with_a_key together passed_over_and_not_in_the_way
                requests_share_a_limit what_runs_already_counts last_chance_under_a_limit set_listed_and_removed
                kept_in_storage only_named_limits_hold key_is_kept side_by_side_never_too_many;
            rates: rate_is_exact_at_its_edges rate_of_a_key_and_of_a_type great_rates_are_exact every_start_counts
                a_clock_set_back_holds_nothing_up side_by_side_never_too_fast;
            prune: by_age age_is_time_of_finishing by_count by_age_and_count limit_and_more live_tasks_stay
                retried_counts_anew found_and_retried_stays oldest_of_all_queues_go_first nothing_else_deletes
                a_period_outlasts_retention;
            nodes: heartbeat_renews nodes_by_name release_gives_back release_keeps_what_runs
                released_with_cancel_is_cancelled queue_settings queue_changes_side_by_side watch_comes_back health_and_capabilities
                opened_apart;
            schedules: saved_is_read names_and_turns_are_kept found_by_the_name_in_code changes_are_told_by_version
                those_ahead_of_the_clock_are_named schedules_are_listed deleted_ones_are_forgotten finished_ones_are_forgotten schedules_are_shared_and_survive;
            firings: a_turn_is_written_whole one_of_many_nodes_fires a_nominal_time_makes_one_task
                runs_follow_each_other others_are_called_off what_began_since_is_waited_for
                what_was_to_be_called_off_and_began_is_waited_for what_ended_since_is_not_waited_for
                one_follower_for_each_that_is_called_off a_buffered_run_waits_for_what_goes_on
                a_decision_about_what_was_changed_is_lost failures_are_counted failures_outlast_their_tasks
                a_nominal_time_is_remembered history_is_bounded;
            pairs: no_two_operations_deadlock;
            model: random_histories;
        }
    };
}

/// Runs the conformance suite: `conformance!(name, harness)` makes a module `name` with a test for each case.
/// `harness` is an expression, evaluated anew for each test. Its type implements
/// [`Harness`](crate::testing::Harness).
#[macro_export]
macro_rules! conformance {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn harness() -> impl $crate::testing::Harness {
                $harness
            }

            $crate::conformance_cases!($crate::conformance_tests);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($($group:ident: $($case:ident)+;)+) => {
        $(mod $group {
            $(#[test]
            fn $case() {
                $crate::testing::conformance::$group::$case(&super::harness());
            })+
        })+
    };
}

fn group(tasks: impl IntoIterator<Item = Insertion>) -> InsertGroup {
    InsertGroup { tasks: tasks.into_iter().collect() }
}

/// Lets nodes claim up to `tasks` tasks and die, and rescues the tasks.
fn crash(w: &World, tasks: usize) {
    let mut claimed = 0;
    while claimed < tasks {
        // Several nodes are needed, because tasks on their last chance run one at a time on a node.
        let mortal = w.mortal(0);
        let some = mortal.claim(tasks - claimed).len();
        assert!(some > 0, "there is a task to claim");
        claimed += some;
    }
    let before = w.now();
    w.advance(Duration::from_secs(1));
    assert_eq!(w.rescue().rescued.len(), tasks, "from {before}");
}

/// The states in which [`World::push_in`] can leave a task: all but `waiting`.
const REACHABLE: [TaskState; 7] = [
    TaskState::Scheduled,
    TaskState::Pending,
    TaskState::Running,
    TaskState::Retrying,
    TaskState::Completed,
    TaskState::Dead,
    TaskState::Cancelled,
];

/// A request for up to `limit` tasks of the default queue.
fn any(limit: usize) -> ClaimRequest {
    ClaimRequest { queue: DEFAULT_QUEUE.into(), types: None, limit }
}

#[cfg(test)]
mod tests {
    macro_rules! listed {
        ($($group:ident: $($case:ident)+;)+) => {
            const LISTED: &[(&str, &str, &[&str])] =
                &[$((stringify!($group), include_str!(concat!(stringify!($group), ".rs")), &[$(stringify!($case)),+])),+];
        };
    }

    conformance_cases!(listed);

    #[test]
    fn every_case_that_is_written_is_listed() {
        for (group, source, listed) in LISTED {
            let cases = source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next());
            assert_eq!(cases.collect::<Vec<_>>(), *listed, "in {group}.rs");
        }
    }
}
