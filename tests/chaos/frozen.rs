//! A process that is frozen for longer than its lease.

use crate::support::{Place, frozen};

#[actix_rt::test]
async fn what_a_frozen_node_had_is_rescued_and_its_own_outcome_refused() {
    let place = Place::new();
    frozen::is_rescued_and_refused(&place.url(), &place.folder().join("gate")).await;
}
