//! A disk that becomes full, and later has space again.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use callboard::{Board, ExecutionStatus, NewTask, Outcome, PushError, TaskId, TaskState};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use tokio::sync::watch;

use crate::support::ledger::Stored;
use crate::support::{Place, eventually, soon, sql};

/// The environment variable that marks the process with the right to mount.
const INSIDE: &str = "CHAOS_MAY_MOUNT";
const LEASE: Duration = Duration::from_secs(1);

#[test]
fn a_full_disk_is_said_clearly_survived_and_over_when_there_is_space() {
    if std::env::var_os(INSIDE).is_none() {
        return again_where_it_may_mount();
    }
    let place = Place::new();
    let (no, kind, options) = (None::<&str>, Some("tmpfs"), Some("size=4m"));
    mount(no, place.folder(), kind, MsFlags::empty(), options).expect("a small file system");
    actix_rt::System::new().block_on(fill_and_free(&place));
    nix::mount::umount2(place.folder(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// Runs this test again in a process with its own mounts, which end with the process. No rights are needed if the
/// kernel allows user namespaces.
fn again_where_it_may_mount() {
    let ways = [&["--map-root-user", "--mount"][..], &["--mount"]];
    let may =
        |way: &&[&str]| Command::new("unshare").args(*way).arg("true").output().is_ok_and(|o| o.status.success());
    let way = ways.into_iter().find(may).expect(
        "this test fills a small file system: `unshare` (util-linux) must be allowed to make mounts, as root or \
         in a user namespace (sysctl kernel.unprivileged_userns_clone=1)",
    );
    let test = "disk_full::a_full_disk_is_said_clearly_survived_and_over_when_there_is_space";
    let output = Command::new("unshare")
        .args(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "nothing was tested");
}

/// Fills all the space that is left.
fn fill(ballast: &Path) -> usize {
    let mut file = File::create(ballast).unwrap();
    let mut written = 0;
    loop {
        match file.write(&[0; 4096]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == ErrorKind::StorageFull => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn fill_and_free(place: &Place) {
    let (open_gates, gates) = watch::channel(false);
    let board = Board::builder()
        .url(place.url())
        .lease(LEASE)
        .configure(|c| c.push_deadline = Duration::from_millis(400))
        .handler("n", |_, _| async { Ok(Outcome::done()) })
        .handler("gate", move |_, _| {
            let mut gates = gates.clone();
            async move {
                gates.wait_for(|open| *open).await?;
                Ok(Outcome::done())
            }
        })
        .start()
        .await
        .unwrap();
    let some = |kind: &'static str, count: usize| (0..count).map(move |_| json!({"type": kind}));
    let mut acknowledged: Vec<TaskId> = Vec::new();
    let gates = board.push_many(some("gate", 4)).await.unwrap();
    acknowledged.extend(gates.iter().chain(&board.push_many(some("n", 50)).await.unwrap()).map(|p| p.task_id));
    eventually("the gates run", async || {
        let counts = board.counts().await.unwrap();
        counts.iter().any(|count| count.state == TaskState::Running && count.tasks == 4).then_some(())
    })
    .await;

    let ballast = place.folder().join("ballast");
    let bytes = fill(&ballast);
    let full = Instant::now();
    let (mut taken, mut refused) = (0, Vec::new());
    while refused.len() < 3 {
        let task = NewTask::new("n", &"x".repeat(20_000));
        match soon("an answer", board.push(task)).await {
            Ok(pushed) => {
                taken += 1;
                acknowledged.push(pushed.task_id);
            }
            Err(PushError::Storage(error)) => refused.push(error.to_string()),
            Err(other) => panic!("not a clear error: {other}"),
        }
    }
    assert!(refused.iter().all(|error| error.contains("full")), "{refused:?}");
    // These runs end while nothing can be written, and the wait lasts until the lease has ended.
    open_gates.send_replace(true);
    eventually("the lease ends", async || (!board.health().await.lease_holds).then_some(())).await;
    let health = board.health().await;
    assert!(!health.healthy, "{health:?}");
    println!("filled up with {bytes} bytes; {taken} pushes were taken, then: {}", refused[0]);

    std::fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    let pushed = eventually("a push is taken again", async || board.push(json!({"type": "n"})).await.ok()).await;
    acknowledged.push(pushed.task_id);
    for task_id in &acknowledged {
        let task = soon("an acknowledged task", board.wait(*task_id)).await.unwrap();
        assert_eq!(task.state, TaskState::Completed, "{task:?}");
    }
    eventually("health", async || board.health().await.healthy.then_some(())).await;
    let health = board.health().await;
    println!(
        "full for {:.1?}, all {} acknowledged tasks completed {:.1?} after there was space; {} commits tried again",
        freed - full,
        acknowledged.len(),
        freed.elapsed(),
        health.storage_retries
    );
    assert_eq!((health.rescued, health.fenced), (0, 0), "rescued, fenced");
    assert!(health.parts.iter().all(|part| part.restarts == 0), "{health:?}");
    soon("the stop", board.stop()).await;
    assert_eq!(sql::integrity(&place.file()), "ok");
    let stored = Stored::at(&place.url());
    assert_eq!(stored.runs(ExecutionStatus::Success), stored.count(TaskState::Completed));
    assert_eq!(stored.runs(ExecutionStatus::Lost), 0, "a run was taken away");
    // A push that returned an error may still have been stored. In that case its task has run like the rest.
    assert_eq!(stored.count(TaskState::Completed), stored.tasks.len());
    assert!(stored.tasks.len() <= acknowledged.len() + refused.len());
}
