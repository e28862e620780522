//! The tables for Diesel's query builder. The columns are the same in every database.

diesel::table! {
    task_queue (seq) {
        seq -> BigInt,
        task_id -> Text,
        queue -> Text,
        #[sql_name = "type"]
        kind -> Text,
        params -> Text,
        state -> Text,
        priority -> BigInt,
        run_at -> BigInt,
        attempt -> BigInt,
        max_attempts -> BigInt,
        crash_count -> BigInt,
        timeout -> Nullable<BigInt>,
        retry -> Text,
        unique_key -> Nullable<Text>,
        unique_rule -> Nullable<Text>,
        unique_until -> Nullable<BigInt>,
        parent_id -> Nullable<Text>,
        schedule_id -> Nullable<Text>,
        nominal_at -> Nullable<BigInt>,
        tags -> Nullable<Text>,
        meta -> Nullable<Text>,
        progress -> Nullable<Text>,
        result -> Nullable<Text>,
        last_error -> Nullable<Text>,
        node -> Nullable<Text>,
        claim_token -> Nullable<BigInt>,
        cancel_reason -> Nullable<Text>,
        expires_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    task_execution (task_id, execution_id) {
        task_id -> Text,
        execution_id -> BigInt,
        attempt -> BigInt,
        status -> Text,
        node -> Text,
        started_at -> BigInt,
        finished_at -> BigInt,
        result -> Nullable<Text>,
        error_message -> Nullable<Text>,
    }
}

diesel::table! {
    node (node_id) {
        node_id -> Text,
        name -> Text,
        started_at -> BigInt,
        heartbeat_at -> BigInt,
        lease_until -> BigInt,
        version -> Text,
        queues -> Text,
        types -> Text,
        pulls -> Text,
    }
}

diesel::table! {
    #[sql_name = "queue"]
    queue_setting (queue) {
        queue -> Text,
        paused -> BigInt,
        concurrency -> Nullable<BigInt>,
    }
}

diesel::table! {
    // Without `version` and `code_name`, which appear only in conditions.
    scheduler_task (schedule_id) {
        schedule_id -> Text,
        name -> Text,
        #[sql_name = "type"]
        kind -> Text,
        params -> Text,
        trigger_kind -> Text,
        trigger_expr -> Text,
        timezone -> Text,
        queue -> Text,
        priority -> BigInt,
        timeout -> Nullable<BigInt>,
        max_attempts -> BigInt,
        retry -> Text,
        options -> Text,
        misfire_grace -> Nullable<BigInt>,
        coalesce -> Text,
        max_instances -> BigInt,
        overlap_policy -> Text,
        run_limit -> Nullable<BigInt>,
        status -> Text,
        status_reason -> Nullable<Text>,
        paused_until -> Nullable<BigInt>,
        code -> Nullable<Text>,
        description -> Nullable<Text>,
        cursor_at -> BigInt,
        last_run_at -> Nullable<BigInt>,
        next_run_at -> Nullable<BigInt>,
        run_count -> BigInt,
        failures_from -> BigInt,
        forgotten_to -> Nullable<BigInt>,
        turn -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}
