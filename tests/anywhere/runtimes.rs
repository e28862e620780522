//! Runtimes around a board: actix, both kinds of tokio, no runtime, a blocked runtime, and a runtime that ends before
//! the board.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;

use callboard::{Board, Outcome, TaskState};
use serde_json::{Value, json};

use crate::place::{Place, on_each_storage};
use crate::waiting::PATIENCE;

on_each_storage! {
    an_actix_system
    tokio_with_many_threads
    tokio_with_one_thread
    a_plain_thread
    two_boards_in_one_process
    a_caller_that_blocks_its_thread
    a_system_that_ends_before_the_board
    a_runtime_that_is_dropped_with_the_board_in_it
}

/// A board that doubles numbers. Each task reports its number, and then waits at the gate.
struct Gated {
    board: Board,
    open: Sender<()>,
    begun: Receiver<u64>,
}

async fn start(url: String) -> Gated {
    let (open, gate) = channel();
    let (tell, begun) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let double = move |params: Value, _| {
        let (number, gate, tell) = (params.as_u64().unwrap(), Arc::clone(&gate), tell.clone());
        async move {
            // An `Rc` held over an await, because handlers need not be `Send`.
            let number = std::rc::Rc::new(number);
            tell.send(*number).unwrap();
            while gate.lock().unwrap().try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            Ok(Outcome::from(json!(*number * 2)))
        }
    };
    let board = Board::builder().url(url).handler("double", double).start().await.unwrap();
    Gated { board, open, begun }
}

/// Every operation that a caller awaits.
async fn use_it(url: String) {
    let Gated { board, open, begun } = start(url).await;
    board.store().set_public("k", json!(1), None).await.unwrap();
    assert_eq!(board.store().get_public("k").await.unwrap(), Some(json!(1)));
    let pushed = board.push(json!({"type": "double", "params": 21})).await.unwrap();
    open.send(()).unwrap();
    let task = board.wait(pushed.task_id).await.unwrap();
    assert_eq!((task.state, task.result), (TaskState::Completed, Some(json!(42))));
    assert_eq!(begun.recv().unwrap(), 21);
    let later = board.push(json!({"type": "double", "params": 1, "delay_seconds": 3600})).await.unwrap();
    assert!(board.cancel(later.task_id, "not wanted").await.is_ok());
    assert!(board.health().await.healthy);
    board.stop().await;
    assert!(!board.ended().await, "it did not give up");
}

fn an_actix_system(place: &Place) {
    actix_rt::System::new().block_on(use_it(place.url()));
}

fn tokio_with_many_threads(place: &Place) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let work = runtime.spawn(use_it(place.url()));
    runtime.block_on(work).unwrap();
}

fn tokio_with_one_thread(place: &Place) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(use_it(place.url()));
}

fn a_plain_thread(place: &Place) {
    block_on(use_it(place.url()));
}

fn two_boards_in_one_process(place: &Place) {
    let two = || async { (start(place.url()).await, start(place.url()).await) };
    let (first, second) = block_on(two());
    // The second board continues after the first has stopped.
    first.board.blocking_stop();
    let pushed = block_on(second.board.push(json!({"type": "double", "params": 4}))).unwrap();
    second.open.send(()).unwrap();
    assert_eq!(block_on(second.board.wait(pushed.task_id)).unwrap().result, Some(json!(8)));
    second.board.blocking_stop();
}

fn a_caller_that_blocks_its_thread(place: &Place) {
    actix_rt::System::new().block_on(async {
        let Gated { board, open, begun } = start(place.url()).await;
        for number in 0..10 {
            board.push(json!({"type": "double", "params": number})).await.unwrap();
            open.send(()).unwrap();
        }
        // From here on this thread only waits and runs nothing further.
        let mut numbers: Vec<_> = (0..10).map(|_| begun.recv_timeout(PATIENCE).unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        board.blocking_stop();
    });
}

fn a_system_that_ends_before_the_board(place: &Place) {
    let system = actix_rt::System::new();
    let Gated { board, open, begun } = system.block_on(start(place.url()));
    let pushed = system.block_on(board.push(json!({"type": "double", "params": 3}))).unwrap();
    assert_eq!(begun.recv_timeout(PATIENCE).unwrap(), 3);
    // As actix-server does after its own end.
    actix_rt::System::current().stop();
    system.run().unwrap();
    // The run continues during the stop, and its end is stored.
    let waiting = std::thread::spawn({
        let board = board.clone();
        move || block_on(board.wait(pushed.task_id))
    });
    open.send(()).unwrap();
    board.blocking_stop();
    // The stop may come before the waiting thread checks the task. The stored state is checked in any case.
    if let Ok(task) = waiting.join().unwrap() {
        assert_eq!((task.state, task.result, task.attempt), (TaskState::Completed, Some(json!(6)), 1));
    }
    if !matches!(place, Place::Memory) {
        let stored = callboard::backend::open(&place.url(), &Default::default()).unwrap();
        let task = stored.get(pushed.task_id).unwrap().unwrap();
        assert_eq!((task.state, task.result, task.attempt), (TaskState::Completed, Some(json!(6)), 1));
        assert_eq!(stored.nodes().unwrap().len(), 0, "the lease is given back");
    }
}

/// Stops its board when it is dropped.
struct Service(Board);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.blocking_stop();
    }
}

fn a_runtime_that_is_dropped_with_the_board_in_it(place: &Place) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let (tell, told) = channel();
    let url = place.url();
    runtime.spawn(async move {
        let service = Service(start(url).await.board);
        tell.send(service.0.clone()).unwrap();
        std::future::pending::<()>().await;
        drop(service);
    });
    let board = told.recv_timeout(PATIENCE).unwrap();
    drop(runtime);
    assert!(!block_on(board.ended()), "stopped, and did not give up");
}

/// The simplest possible executor.
fn block_on<F: Future>(work: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut work = std::pin::pin!(work);
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
