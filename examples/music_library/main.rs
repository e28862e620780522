//! Keeps a music library: downloads songs across interruptions, and moves each song to the folder that its name says.
//!
//! Shows: tasks that push further tasks under ids of their own, so that everything may be pushed, killed and started
//! again at any time; retries, dead letters and resumption; async and blocking handlers; the public store with a time
//! to live; schedules that survive restarts; events; a graceful stop.
//!
//! ```sh
//! cargo run --example music_library                          # a demo list, served by itself
//! cargo run --example music_library -- --urls songs.tsv --library ~/Music
//! ```

mod args;
mod demo;
mod download;
mod files;
mod job;
mod library;
mod list;
mod names;
mod report;
mod screen;
mod session;
mod shelf;
mod tasks;
mod upkeep;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use actix::{Actor, Addr};
use callboard::{Board, BoardBuilder, Clock, DEFAULT_QUEUE, TaskState};
use slog::Drain;

use args::{Args, Command};
use job::Job;
use library::Library;
use report::Report;
use screen::{Close, Say, Screen, say};
use tasks::{Cleanup, DOWNLOADS, DownloadAudio, OrganiseAudio};
use upkeep::Rescan;

/// The exit status that shells expect after Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let end = match args::parse(std::env::args_os()) {
        Ok(Command::Help) => {
            say(args::HELP.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Ok(Command::Run(args)) => actix_rt::System::new().block_on(run(args)),
        Err(error) => Err(format!("{error}; see --help").into()),
    };
    end.unwrap_or_else(|error| {
        say(&format!("error: {error}"));
        ExitCode::FAILURE
    })
}

async fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let job = Job { list: read_list(&args)?, started_at: Clock::system().now() };
    let library = Library::open(args.library.clone(), download::client()?)?;
    let url = args.database_url.clone().unwrap_or_else(|| format!("sqlite:{}", library.own("library.db").display()));
    let screen = Screen::new().start();
    let board = describe(&args, &library, screen.clone())?.url(&url).start().await?;
    library.set_board(board.clone());
    let work = async {
        if args.retry {
            job::retry(&board).await?;
        }
        job.push(&board).await?;
        job.announce(&board, &screen).await?;
        Ok::<_, Box<dyn Error>>(job::finish(&board).await?)
    };
    let (code, report) = tokio::select! {
        end = work => {
            end?;
            let report = job.report(&board, &library).await?;
            board.stop().await;
            (ExitCode::SUCCESS, report)
        }
        () = interrupted() => {
            screen.do_send(Say("stopping; Ctrl-C again stops at once"));
            tokio::select! {
                () = board.stop() => {}
                // Nothing is lost: the next start continues the running tasks.
                () = interrupted() => std::process::exit(INTERRUPTED.into()),
            }
            (ExitCode::from(INTERRUPTED), report_at_rest(&job, &library, &url).await?)
        }
    };
    screen.send(Close).await?;
    say(&format!("\n{report}"));
    Ok(code)
}

/// The report from storage after a stop, read by a board that runs no tasks.
async fn report_at_rest(job: &Job, library: &Library, url: &str) -> Result<Report, Box<dyn Error>> {
    let reader = remember_all_done(Board::builder().url(url)).start().await?;
    let report = job.report(&reader, library).await?;
    reader.stop().await;
    Ok(report)
}

/// Completed tasks are kept forever, because otherwise an old list would be downloaded again. Every board that starts
/// on the database applies its own retention rules.
fn remember_all_done(board: BoardBuilder) -> BoardBuilder {
    board.retention(TaskState::Completed, None, None)
}

fn read_list(args: &Args) -> Result<Vec<list::Entry>, String> {
    let Some(file) = &args.urls else { return Ok(demo::Demo::list()) };
    let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (entries, bad) = list::read(&text);
    bad.iter().for_each(|bad| say(&format!("{}: {bad}; skipped", file.display())));
    Ok(entries)
}

fn describe(args: &Args, library: &Library, screen: Addr<Screen>) -> Result<BoardBuilder, Box<dyn Error>> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(library.own("callboard.log"))?;
    let drain = slog_term::FullFormat::new(slog_term::PlainSyncDecorator::new(log)).build().fuse();
    let [rescan, cleanup] = upkeep::schedules()?;
    Ok(remember_all_done(Board::builder())
        .schedule(rescan)
        .schedule(cleanup)
        .blocking(Rescan::look)
        .queue(DOWNLOADS, args.concurrency)
        .queue(DEFAULT_QUEUE, 2)
        .task::<DownloadAudio>()
        .blocking(OrganiseAudio::place)
        .task::<Cleanup>()
        .data(library.clone())
        .on_event(move |event| screen.do_send(event.clone()))
        .logger(slog::Logger::root(drain.filter_level(slog::Level::Info).fuse(), slog::o!()))
        .task_logs(library.own("logs"))
        // A start right after `kill -9` continues the work within seconds.
        .lease(Duration::from_secs(3))
        // Long enough for downloads that are nearly done; the rest is resumed.
        .drain(Duration::from_secs(3))
        // A download crashes no program. But users may kill this program more than the usual 3 times during a download.
        .configure(|config| config.crash_limit = 100))
}

/// Resolves at Ctrl-C, and when a service manager sends SIGTERM.
async fn interrupted() {
    #[cfg(unix)]
    {
        use actix_rt::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = actix_rt::signal::ctrl_c() => return,
                _ = terminated.recv() => return,
            }
        }
    }
    if actix_rt::signal::ctrl_c().await.is_err() {
        // Signals cannot be received here; then they end the program in the system's own way.
        std::future::pending::<()>().await;
    }
}
