//! The program's output while it runs: bars on a terminal, lines otherwise. An actor that receives the board's events.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use callboard::{Event, Task, TaskFact, TaskId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::download::Arrived;
use crate::report::{printable, size};
use crate::tasks::{DownloadAudio, OrganiseAudio};

/// Steps of a bar.
const STEPS: u64 = 1_000;

/// Shows the progress of songs.
pub(crate) struct Screen {
    /// The song names, by the ids of both tasks of each song.
    names: HashMap<TaskId, String>,
    /// Events that came before the names were known.
    early: Vec<Event>,
    look: Look,
}

enum Look {
    Bars { all: MultiProgress, whole: ProgressBar, running: HashMap<TaskId, ProgressBar> },
    Lines,
}

impl Screen {
    /// Bars on a terminal, lines otherwise.
    pub(crate) fn new() -> Self {
        let watched = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let look = if watched { Look::bars() } else { Look::Lines };
        Self { names: HashMap::new(), early: Vec::new(), look }
    }

    fn heard(&mut self, event: &Event) {
        let Some(fact) = event.task() else { return };
        let Some(name) = self.names.get(&fact.task_id).cloned() else { return };
        match (event, &*fact.kind) {
            (Event::Running(_), DownloadAudio::TYPE) => self.began(fact, &name),
            (Event::Progress(_), DownloadAudio::TYPE) => self.moved(fact, &name),
            (Event::Completed(_), DownloadAudio::TYPE) => self.downloaded(fact, &name),
            (Event::Completed(_), OrganiseAudio::TYPE) => {
                let path = fact.result.as_deref().and_then(|result| serde_json::from_str::<String>(result).ok());
                self.ended(&format!("in library   {name} -> {}", path.as_deref().unwrap_or("?")));
            }
            (Event::Retrying(_), _) => {
                self.stopped(fact);
                let wait = fact.run_at.map(|at| at.since(fact.at)).unwrap_or_default();
                let why = fact.error.as_deref().unwrap_or("no reason given");
                self.say(&format!("again in {:>3} s {name}: {why}", wait.as_secs_f64().ceil()));
            }
            (Event::Dead(_), _) => {
                self.stopped(fact);
                self.ended(&format!("given up     {name}: {}", fact.error.as_deref().unwrap_or("no reason given")));
            }
            (Event::Cancelled(_), _) => {
                self.stopped(fact);
                self.ended(&format!("called off   {name}"));
            }
            // Given back, for example because the program stops.
            (Event::Pending(_) | Event::Scheduled(_), DownloadAudio::TYPE) => self.stopped(fact),
            _ => {}
        }
    }

    fn began(&mut self, fact: &TaskFact, name: &str) {
        match &mut self.look {
            Look::Bars { all, whole, running } => {
                let bar = all.insert_before(whole, ProgressBar::new(STEPS).with_style(style(RUNNING)));
                bar.set_prefix(console::pad_str(name, 40, console::Alignment::Left, Some("…")).into_owned());
                bar.enable_steady_tick(Duration::from_millis(200));
                running.insert(fact.task_id, bar);
            }
            Look::Lines => self.say(&format!("downloading  {name}{}", nth(fact.attempt))),
        }
    }

    fn moved(&mut self, fact: &TaskFact, name: &str) {
        let Look::Bars { running, .. } = &self.look else { return };
        let Some(progress) = &fact.progress else { return };
        if !running.contains_key(&fact.task_id) {
            self.began(fact, name);
        }
        if let Look::Bars { running, .. } = &self.look
            && let Some(bar) = running.get(&fact.task_id)
        {
            bar.set_position((progress.fraction * STEPS as f64) as u64);
            bar.set_message(progress.message.clone());
        }
    }

    fn downloaded(&mut self, fact: &TaskFact, name: &str) {
        self.stopped(fact);
        let arrived = fact.result.as_deref().and_then(|result| serde_json::from_str(result).ok());
        match (&self.look, arrived) {
            (_, Some(Arrived { bytes, resumed_at })) if resumed_at > 0 => {
                self.say(&format!("downloaded   {name} ({}, resumed at {})", size(bytes), size(resumed_at)));
            }
            (Look::Lines, Some(Arrived { bytes, .. })) => self.say(&format!("downloaded   {name} ({})", size(bytes))),
            (Look::Lines, None) => self.say(&format!("downloaded   {name}")),
            // On a terminal the line about its place in the library is enough.
            (Look::Bars { .. }, _) => {}
        }
    }

    /// Removes its bar.
    fn stopped(&mut self, fact: &TaskFact) {
        if let Look::Bars { all, running, .. } = &mut self.look
            && let Some(bar) = running.remove(&fact.task_id)
        {
            bar.finish_and_clear();
            all.remove(&bar);
        }
    }

    /// A song has ended.
    fn ended(&self, line: &str) {
        if let Look::Bars { whole, .. } = &self.look {
            whole.inc(1);
        }
        self.say(line);
    }

    fn say(&self, line: &str) {
        match &self.look {
            // Above the bars. If the terminal is gone, nothing is shown, and the work goes on.
            Look::Bars { all, .. } => all.println(line).unwrap_or(()),
            Look::Lines => say(line),
        }
    }
}

/// Prints a line. Goes on if the reader of the output is gone.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").unwrap_or(());
}

fn nth(attempt: u32) -> String {
    if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() }
}

const RUNNING: &str = "{prefix} [{bar:24}] {msg}";
const WHOLE: &str = "{prefix:40} [{bar:24}] {pos} of {len} songs, {elapsed}";

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong template would show as plain bars.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Look {
    fn bars() -> Self {
        let all = MultiProgress::new();
        let whole = all.add(ProgressBar::new(0).with_style(style(WHOLE)).with_prefix("the whole"));
        Self::Bars { all, whole, running: HashMap::new() }
    }
}

impl Actor for Screen {
    type Context = Context<Self>;
}

impl Handler<Event> for Screen {
    type Result = ();
    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        if self.names.is_empty() {
            self.early.push(event);
        } else {
            self.heard(&event);
        }
    }
}

/// The songs to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Expect(pub(crate) Vec<(TaskId, String)>);

impl Handler<Expect> for Screen {
    type Result = ();
    fn handle(&mut self, Expect(songs): Expect, _: &mut Self::Context) {
        if let Look::Bars { whole, .. } = &self.look {
            whole.inc_length(songs.len() as u64);
            whole.enable_steady_tick(Duration::from_millis(200));
        }
        for (download, name) in songs {
            self.names.insert(crate::library::organise_id(download), name.clone());
            self.names.insert(download, name);
        }
        for event in std::mem::take(&mut self.early) {
            self.heard(&event);
        }
    }
}

/// Show a line above the bars.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Say(pub(crate) &'static str);

impl Handler<Say> for Screen {
    type Result = ();
    fn handle(&mut self, Say(line): Say, _: &mut Self::Context) {
        self.say(line);
    }
}

/// Removes the bars: later output stays on the screen.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

impl Handler<Close> for Screen {
    type Result = ();
    fn handle(&mut self, _: Close, _: &mut Self::Context) {
        if let Look::Bars { all, .. } = &self.look {
            all.clear().unwrap_or(());
        }
        self.look = Look::Lines;
        self.names.clear();
    }
}

/// The name of the song that a download task is about.
pub(crate) fn song_name(save_path: &Path) -> String {
    let name = save_path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    printable(crate::files::split_extension(&name).0)
}
