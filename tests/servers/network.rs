//! Networks that break at the worst moments.

use std::time::Duration;

use rand::Rng;

use crate::load::Load;
use crate::place::{Place, address, on_both};
use crate::proxy::{Cut, Proxy};
use crate::waiting::eventually;

on_both!(
    connections_cut_before_a_commit,
    connections_cut_after_a_commit,
    commits_that_arrive_late,
    connections_cut_at_any_moment,
    slow_answers,
    refused_connections,
    a_black_hole,
    a_black_hole_that_nobody_notices,
);

/// Length of an outage of the server. This is the length of the fault, not a wait for an event.
const OUTAGE: Duration = Duration::from_secs(3);

async fn behind_a_proxy<P: Place>() -> (P, Proxy, Load) {
    let place = P::new();
    let proxy = Proxy::new(address(&place.url()));
    let load = Load::start(&place.url_by(proxy.address())).await;
    load.goes_on().await;
    (place, proxy, load)
}

async fn cut_at_commits<P: Place>(cut: Cut, enough: impl Fn(usize, &Load) -> bool) {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    while !enough(proxy.cuts(), &load) {
        let before = proxy.cuts();
        proxy.cut_at_commit(cut);
        eventually("a commit comes by", async || (proxy.cuts() > before).then_some(())).await;
        load.goes_on().await;
    }
    load.end(&place.url()).await;
}

async fn connections_cut_before_a_commit<P: Place>() {
    cut_at_commits::<P>(Cut::Before, |cuts, _| cuts >= 20).await;
}

async fn connections_cut_after_a_commit<P: Place>() {
    // Most commits carry a push before its deadline, which the board repeats by itself. So many cuts may pass before a
    // producer sees an unknown outcome.
    cut_at_commits::<P>(Cut::After, |cuts, load| cuts >= 20 && (load.unknown() > 0 || cuts >= 100)).await;
}

async fn commits_that_arrive_late<P: Place>() {
    cut_at_commits::<P>(Cut::Late, |cuts, _| cuts >= 5).await;
}

async fn connections_cut_at_any_moment<P: Place>() {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    for _ in 0..20 {
        // A random pause spreads the moments of the cuts.
        let pause = Duration::from_micros(rand::rng().random_range(0..30_000));
        tokio::time::sleep(pause).await;
        proxy.cut();
        load.goes_on().await;
    }
    load.end(&place.url()).await;
}

async fn slow_answers<P: Place>() {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    for millis in [3, 10, 25] {
        proxy.delay(Duration::from_millis(millis));
        load.goes_on().await;
        // On this slow network a new connection takes longer than a push waits. The push is repeated until it succeeds.
        proxy.cut();
        load.goes_on().await;
    }
    proxy.delay(Duration::ZERO);
    load.goes_on().await;
    load.end(&place.url()).await;
}

async fn refused_connections<P: Place>() {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    proxy.refuse(true);
    proxy.cut();
    tokio::time::sleep(OUTAGE).await;
    let health = load.board.health().await;
    assert!(!health.healthy, "it is said to be well: {health:?}");
    proxy.refuse(false);
    load.goes_on().await;
    eventually("it is well again", async || load.board.health().await.healthy.then_some(())).await;
    load.end(&place.url()).await;
}

async fn a_black_hole<P: Place>() {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    for _ in 0..2 {
        proxy.swallow(true);
        tokio::time::sleep(OUTAGE).await;
        proxy.swallow(false);
        // The dropped data is missing from the stream, so no connection is usable any more.
        proxy.cut();
        load.goes_on().await;
    }
    load.end(&place.url()).await;
}

/// No connection is cut, and at the level of the operating system the proxy still answers for the server. So only the
/// server ends the connections, after it has received nothing for half a minute.
async fn a_black_hole_that_nobody_notices<P: Place>() {
    let (place, proxy, load) = behind_a_proxy::<P>().await;
    proxy.swallow(true);
    tokio::time::sleep(OUTAGE).await;
    proxy.swallow(false);
    load.goes_on().await;
    load.end(&place.url()).await;
}
