//! Tests of processes that die in the middle of their work.

use crate::support::{Place, rescue};

#[actix_rt::test]
async fn the_tasks_of_a_dead_node_are_rescued_in_time() {
    let place = Place::new();
    rescue::comes_in_time(&place.url(), &place.folder().join("gate")).await;
}
