//! A database role that may use the tables but not alter them, as a careful administrator grants it to a program.

use std::time::Duration;

use callboard::backend::{OpenOptions, Retention, TaskFilter, TaskOrder, open};
use callboard::testing::World;
use callboard::{
    Board, BoxError, Limit, LimitScope, NewTask, Outcome, Schedule, TaskError, TaskId, TaskState, Timestamp, Trigger,
    Unique,
};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use serde_json::json;

use crate::place::{Place, on_both, with_user};
use crate::servers::{Schema, postgres_url};
use crate::waiting::{eventually, soon};

on_both!(a_role_without_ddl_runs_everything, a_missing_migration_is_said_clearly);

const PASSWORD: &str = "of-a-test";

/// A role that has no rights at first, and that is dropped when the test ends.
struct Role<'a, P: Place> {
    place: &'a P,
    name: String,
}

impl<'a, P: Place> Role<'a, P> {
    fn new(place: &'a P) -> Self {
        // MySQL allows at most 32 characters.
        let name = format!("r{}", &uuid::Uuid::now_v7().simple().to_string()[..28]);
        let role = Self { place, name };
        role.each_host(|user| {
            if P::IS_POSTGRES {
                return format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'");
            }
            format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'")
        });
        role
    }

    /// Grants the rights that docs/operations.md lists.
    fn grant(&self) {
        let (name, rights) = (self.place.name(), "SELECT, INSERT, UPDATE, DELETE");
        self.each_host(|user| {
            if P::IS_POSTGRES {
                return format!(
                    "GRANT USAGE ON SCHEMA {name} TO {user}; GRANT {rights} ON ALL TABLES IN SCHEMA {name} TO {user};
                    GRANT USAGE ON ALL SEQUENCES IN SCHEMA {name} TO {user}"
                );
            }
            format!("GRANT {rights} ON {name}.* TO {user}")
        });
    }

    fn each_host(&self, statement: impl Fn(&str) -> String) {
        let name = &self.name;
        if P::IS_POSTGRES {
            return self.place.execute(&statement(name));
        }
        // If an anonymous user of `localhost` exists, it takes precedence over a user of all hosts.
        for host in ["%", "localhost", "127.0.0.1"] {
            self.place.execute(&statement(&format!("'{name}'@'{host}'")));
        }
    }

    /// Makes connections for the application, with the same rights.
    fn connector(&self) -> impl Fn() -> P::Conn + Clone + Send + Sync + 'static + use<P> {
        let (name, server, url) = (self.name.clone(), P::server(), self.url());
        move || {
            if !P::IS_POSTGRES {
                return P::Conn::establish(&url).unwrap();
            }
            let mut conn = P::Conn::establish(&server).unwrap();
            conn.batch_execute(&format!("SET ROLE {name}")).unwrap();
            conn
        }
    }

    fn url(&self) -> String {
        with_user(&self.place.url(), &self.name, PASSWORD)
    }
}

impl<P: Place> Drop for Role<'_, P> {
    fn drop(&mut self) {
        let role = &self.name;
        self.each_host(|user| {
            if P::IS_POSTGRES {
                return format!("DROP OWNED BY {role}; DROP ROLE {role}");
            }
            format!("DROP USER {user}")
        });
    }
}

async fn a_role_without_ddl_runs_everything<P: Place>() {
    let place = P::new();
    let role = Role::new(&place);
    drop(open(&place.url(), &OpenOptions::default()).unwrap());
    role.grant();
    let connect = role.connector();
    let own = connect.clone();
    let board = Board::builder()
        .url(role.url())
        .handler("completes itself", move |_, cx: callboard::Context| {
            let completed = own().transaction(|conn| -> Result<(), BoxError> {
                cx.complete_in(conn, &"in the transaction")?;
                Ok(())
            });
            async move { completed.map(|()| Outcome::done()) }
        })
        .handler("work", |_, cx: callboard::Context| async move {
            cx.progress(0.5, "half of it");
            Ok(Outcome::from(json!(1)))
        })
        .start()
        .await
        .unwrap();
    let work = || NewTask::new("work", &json!({}));
    let later = || work().delay(Duration::from_secs(3_600)).tag("later");
    // Tasks are stored, run and settled: alone, in bulk, and with optional columns filled.
    let pushed = board.push_many((0..20).map(|_| work())).await.unwrap();
    let due = board.push(work().delay(Duration::from_millis(50)).unique(Unique::key("k"))).await.unwrap();
    for task in pushed.iter().chain([&due]) {
        assert_eq!(soon("the end", board.wait(task.task_id)).await.unwrap().state, TaskState::Completed);
    }
    let page = board.list(TaskFilter::default(), TaskOrder::NewestFirst, None, 100).await.unwrap();
    assert_eq!(page.tasks.len(), 21);
    assert_eq!(board.executions(due.task_id).await.unwrap().len(), 1);
    assert!(!board.counts().await.unwrap().is_empty() && board.nodes().await.unwrap().len() == 1);
    // All edits, and the settings of a queue.
    let [one, two, three] =
        [board.push(later()).await.unwrap(), board.push(later()).await.unwrap(), board.push(later()).await.unwrap()];
    assert!(board.reprioritise(one.task_id, 3).await.unwrap());
    assert!(board.reschedule(one.task_id, Timestamp::from_micros(i64::MAX / 2)).await.unwrap());
    assert!(board.cancel(one.task_id, "no longer wanted").await.unwrap());
    assert!(board.delete(two.task_id).await.unwrap() && board.retry(three.task_id).await.unwrap());
    assert_eq!(soon("the end", board.wait(three.task_id)).await.unwrap().state, TaskState::Completed);
    board.pause("default").await.unwrap();
    board.resume("default").await.unwrap();
    board.set_concurrency("default", Some(3)).await.unwrap();
    assert_eq!(board.nodes().await.unwrap()[0].queues, [("default".into(), 3)]);
    // A limit with a rate, which stores the starts of tasks.
    board.set_limit(Limit::of_type("work").running(2).rate(100, Duration::from_secs(1))).await.unwrap();
    let limited = board.push(work()).await.unwrap().task_id;
    assert_eq!(soon("the end", board.wait(limited)).await.unwrap().state, TaskState::Completed);
    assert!(board.remove_limit(LimitScope::Type, "work").await.unwrap());
    // A schedule from its creation to its deletion.
    let every = Trigger::every(Duration::from_millis(100)).unwrap();
    let schedules = board.schedules();
    schedules.create(Schedule::new("often", every, work())).await.unwrap();
    eventually("it fires", async || {
        let firings = schedules.firings("often", None, 10).await.unwrap();
        (!firings.is_empty()).then_some(())
    })
    .await;
    schedules.delete("often").await.unwrap();
    // A push and a completion in transactions of the application, under the same role.
    let push = |conn: &mut P::Conn| -> Result<TaskId, TaskError> {
        Ok(board.push_in(conn, NewTask::new("completes itself", &json!({})))?.task_id)
    };
    let pushed = connect().transaction(push).unwrap();
    let ended = soon("the end", board.wait(pushed)).await.unwrap();
    assert_eq!((ended.state, ended.result), (TaskState::Completed, Some("in the transaction".into())));
    assert!(board.health().await.healthy);
    soon("the stop", board.stop()).await;
    let backend = open(&role.url(), &OpenOptions::default()).unwrap();
    let rules = [Retention { state: TaskState::Completed, finished_before: None, keep: Some(1) }];
    let outdated = backend.outdated(&rules, callboard::Timestamp::from_micros(0), 1_000).unwrap();
    assert!(!backend.prune(&outdated).unwrap().is_empty());
}

/// If an administrator has created the schema, the role needs no right to create schemas.
#[test]
fn a_role_that_has_a_schema_migrates_it() {
    let place = Schema::new();
    let (role, name) = (Role::new(&place), place.name());
    let mut conn = PgConnection::establish(&postgres_url()).unwrap();
    conn.batch_execute(&format!("CREATE SCHEMA {name}; GRANT CREATE, USAGE ON SCHEMA {name} TO {}", role.name))
        .unwrap();
    let world = World::on(open(&role.url(), &OpenOptions::default()).unwrap());
    let task_id = world.push(NewTask::new("work", &json!({})));
    assert_eq!(world.claim_ids(1), [task_id]);
}

async fn a_missing_migration_is_said_clearly<P: Place>() {
    let place = P::new();
    let role = Role::new(&place);
    let refused = |what: &str| {
        let error = open(&role.url(), &OpenOptions::default()).map(drop).expect_err(what);
        println!("{what}: {error}");
        assert!(!error.is_transient(), "{what}: {error}");
        assert!(error.to_string().contains("docs/operations.md"), "{what}: {error}");
    };
    refused("nothing is there");
    // MySQL can grant rights on tables that do not exist yet.
    if !P::IS_POSTGRES {
        role.grant();
        refused("nothing is there, and it may use it");
    }
    drop(open(&place.url(), &OpenOptions::default()).unwrap());
    if P::IS_POSTGRES {
        refused("the role has no rights");
    }
    role.grant();
    drop(open(&role.url(), &OpenOptions::default()).unwrap());
    place.execute("DELETE FROM callboard_migration");
    refused("a migration is missing");
}
