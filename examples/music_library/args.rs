//! The command line of the program.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Error, Parser, ValueExt};

/// Printed for `--help`.
pub(crate) const HELP: &str = "\
Keeps a music library: downloads songs, and puts each where its name says it belongs.

usage: music_library [OPTIONS]

  --urls FILE          what to download: lines URL<TAB>file name, file names in the form
                       Title (version) - Artist _ Artist; without it, a demo list that this program serves itself
  --library DIR        where the songs go, as DIR/<first artist>/<title> (<version>).<ext> [default: music]
  --database-url URL   where the tasks are kept [default: sqlite:DIR/.callboard/library.db]
  --concurrency N      songs downloaded at a time, 1 to 100 [default: 4]
  --retry              try what was given up in an earlier run once more
  --help               print this

Ctrl-C stops after what is nearly done, a second Ctrl-C at once. Started again, it goes on where it stopped.
";

/// The action to perform.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run(Args),
}

/// The options of the action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) urls: Option<PathBuf>,
    pub(crate) library: PathBuf,
    pub(crate) database_url: Option<String>,
    pub(crate) concurrency: usize,
    pub(crate) retry: bool,
}

/// Parses the command line. Its first word is the program.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut parser = Parser::from_iter(words);
    let mut args = Args { urls: None, library: "music".into(), database_url: None, concurrency: 4, retry: false };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("urls") => args.urls = Some(parser.value()?.into()),
            Arg::Long("library") => args.library = parser.value()?.into(),
            Arg::Long("database-url") => args.database_url = Some(parser.value()?.string()?),
            Arg::Long("concurrency") => args.concurrency = parser.value()?.parse_with(read_concurrency)?,
            Arg::Long("retry") => args.retry = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Command::Run(args))
}

fn read_concurrency(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| (1..=100).contains(n)).ok_or("--concurrency takes a number from 1 to 100")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, Error> {
        parse(std::iter::once("music_library").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let all = "--urls list.tsv --library=/songs --database-url sqlite:x.db --concurrency 8 --retry";
        let Ok(Command::Run(args)) = read(all) else { panic!("{all}") };
        assert_eq!(args.urls.as_deref(), Some("list.tsv".as_ref()));
        assert_eq!(args.library, PathBuf::from("/songs"));
        assert_eq!((args.database_url.as_deref(), args.concurrency, args.retry), (Some("sqlite:x.db"), 8, true));
        assert_eq!(read("--urls x --help").unwrap(), Command::Help);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for wrong in ["--url x", "--urls", "--concurrency 0", "--concurrency many", "--concurrency 101", "list.tsv"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
