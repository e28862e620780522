//! A server that goes down and comes back under load.

use crate::load::Load;
use crate::own::Own;
use crate::place::{Place, on_both};

on_both!(graceful_restarts, killed_and_restarted);

const RESTARTS: usize = 3;

async fn graceful_restarts<P: Place>() {
    restarts::<P>(Own::shut_down).await;
}

async fn killed_and_restarted<P: Place>() {
    restarts::<P>(Own::kill).await;
}

async fn restarts<P: Place>(bring_down: fn(&mut Own)) {
    let mut server = Own::new::<P>();
    let place = P::at(&server.url());
    let load = Load::start(&place.url()).await;
    for _ in 0..RESTARTS {
        load.goes_on().await;
        // On a different thread, so that the producers push meanwhile.
        server = actix_rt::task::spawn_blocking(move || {
            bring_down(&mut server);
            server.start_again();
            server
        })
        .await
        .unwrap();
    }
    load.goes_on().await;
    load.end(&place.url()).await;
}
