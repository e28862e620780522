//! Processes that die or freeze in the middle of their work, on a server. The torture program (`tests/torture`) covers
//! combinations with other faults.

use tempfile::TempDir;

use crate::place::{Place, on_both};
use crate::{frozen, rescue};

on_both!(a_frozen_node_is_refused, the_tasks_of_a_dead_node_are_rescued_in_time);

async fn a_frozen_node_is_refused<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    frozen::is_rescued_and_refused(&place.url(), &folder.path().join("gate")).await;
}

async fn the_tasks_of_a_dead_node_are_rescued_in_time<P: Place>() {
    let (place, folder) = (P::new(), TempDir::new().unwrap());
    rescue::comes_in_time(&place.url(), &folder.path().join("gate")).await;
}
