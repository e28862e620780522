//! A server of a test's own in a temporary folder: one that may be stopped, killed, or filled with connections.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::place::Place;
use crate::waiting::until;

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A program as the user `postgres`, for it does not run as root.
pub(crate) fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    // In place of itself and not beside it, so that what is signalled is the program.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

/// Lets that user write there.
pub(crate) fn give_to_postgres(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:").arg(folder));
    }
}

/// Runs a program that has to succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where PostgreSQL's programs are: Debian keeps them out of the path.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    found.unwrap_or_else(|| name.into())
}

/// The server. Killed when dropped.
pub(crate) struct Own {
    is_postgres: bool,
    folder: TempDir,
    port: u16,
    /// What it is started with beside the usual.
    options: Vec<String>,
    process: Child,
}

impl Own {
    pub(crate) fn new<P: Place>() -> Self {
        Self::with::<P>(|_| Vec::new())
    }

    /// With options that `prepare` gives, which may put files into the server's folder.
    pub(crate) fn with<P: Place>(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let data = folder.path().join("data");
        let options = prepare(folder.path());
        if P::IS_POSTGRES {
            give_to_postgres(folder.path());
            let mut make = as_postgres(&postgres_program("initdb"));
            run(make.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "--no-sync"]).current_dir("/"));
        } else {
            let mut make = Command::new("mariadb-install-db");
            run(make
                .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                .arg(user())
                .arg(tmpdir(folder.path()))
                .arg(format!("--datadir={}", data.display())));
        }
        let process = start(P::IS_POSTGRES, folder.path(), port, &options);
        let own = Self { is_postgres: P::IS_POSTGRES, folder, port, options, process };
        own.answers();
        own
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its address, for someone who may do everything.
    pub(crate) fn url(&self) -> String {
        if self.is_postgres {
            return format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        }
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    /// Stops it as an administrator does.
    pub(crate) fn shut_down(&mut self) {
        // Without waiting for clients to leave.
        self.signal(if self.is_postgres { Signal::SIGINT } else { Signal::SIGTERM });
        until("the end of the server", || self.process.try_wait().unwrap());
    }

    /// Kills it as the kernel does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it where it left off.
    pub(crate) fn start_again(&mut self) {
        self.process = self.process_again();
        until("the server is back", || {
            if self.process.try_wait().unwrap().is_some() {
                // The processes of the one that was killed are not gone yet.
                self.process = self.process_again();
            }
            self.is_up().then_some(())
        });
    }

    fn process_again(&self) -> Child {
        start(self.is_postgres, self.folder.path(), self.port, &self.options)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    fn answers(&self) {
        until("an answer of the new server", || self.is_up().then_some(()));
    }

    fn is_up(&self) -> bool {
        use diesel::Connection;
        if self.is_postgres {
            return diesel::PgConnection::establish(&self.url()).is_ok();
        }
        diesel::MysqlConnection::establish(&self.url()).is_ok()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may be down already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// MariaDB runs as whoever starts it, but as root only when told.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    format!("--user={}", String::from_utf8_lossy(&output.stdout).trim())
}

/// A server that starts removes what it finds of others in a folder that they share.
fn tmpdir(folder: &Path) -> String {
    format!("--tmpdir={}", folder.display())
}

fn start(is_postgres: bool, folder: &Path, port: u16, options: &[String]) -> Child {
    let data = folder.join("data");
    let mut command = if is_postgres {
        let mut command = as_postgres(&postgres_program("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(folder).args(["-p", &port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"]);
        command
    } else {
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1"]).arg(user());
        command.arg(format!("--port={port}")).arg(format!("--datadir={}", data.display()));
        command.arg(tmpdir(folder));
        command.arg(format!("--socket={}", folder.join("socket").display())).arg("--max-connections=400");
        command
    };
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command.args(options).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"))
}
