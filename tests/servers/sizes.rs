//! Large tasks, and more of them at once than a server accepts in a single statement.

use callboard::backend::{OpenOptions, open};
use callboard::testing::World;
use callboard::{Board, NewTask, Outcome, TaskState};
use futures_util::future::join_all;
use serde_json::json;

use crate::own::Own;
use crate::place::{Place, on_both};
use crate::servers::Database;
use crate::waiting::soon;

on_both!(large_tasks_in_bulk_and_at_once);

/// The tasks return their params as their results.
async fn large_tasks_in_bulk_and_at_once<P: Place>() {
    let place = P::new();
    let board = Board::builder()
        .url(place.url())
        .handler("work", |params, _| async { Ok(Outcome::from(params)) })
        .configure(|c| (c.max_params_bytes, c.max_result_bytes) = (2 << 20, 2 << 20))
        .start()
        .await
        .unwrap();
    let of = |bytes: usize| NewTask::new("work", &json!("x".repeat(bytes)));
    let many = soon("the push of many", board.push_many((0..256).map(|_| of(64 << 10)))).await.unwrap();
    let single = soon("the pushes", join_all((0..16).map(|_| board.push(of(1 << 20))))).await;
    let single = single.into_iter().map(|pushed| pushed.unwrap());
    for pushed in many.into_iter().chain(single) {
        assert_eq!(soon("its end", board.wait(pushed.task_id)).await.unwrap().state, TaskState::Completed);
    }
    soon("the stop", board.stop()).await;
}

/// Otherwise MySQL would cut the connection, and look like a server out of reach.
#[test]
fn mysql_says_what_is_too_large_for_it() {
    let server = Own::with::<Database>(|_| vec!["--max-allowed-packet=1M".into()]);
    let place = Database::at(server.url());
    let world = World::on(open(&place.url(), &OpenOptions::default()).unwrap());
    let all = world.push_all((0..40).map(|_| NewTask::new("work", &json!("x".repeat(100 << 10)))));
    assert_eq!(world.claim_ids(100), all);
    let insertion = world.insertion(NewTask::new("work", &json!("x".repeat(1 << 20))));
    let insert = vec![callboard::backend::InsertGroup { tasks: vec![insertion] }];
    let commit = callboard::backend::Commit { insert, ..world.blank() };
    let error = world.backend.commit(&commit).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("raise its max_allowed_packet"), "{error}");
}
