//! A database server for a single test, in a temporary folder. The test may stop it, kill it or fill it with
//! connections.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::place::Place;
use crate::waiting::until;

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command that runs a program as the user `postgres`, because the program refuses to run as root.
pub(crate) fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    // `setpriv` replaces its own process with the program, so that signals reach the program.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

/// Lets the user `postgres` write in `folder`.
pub(crate) fn give_to_postgres(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:").arg(folder));
    }
}

/// Runs a program, and panics if it fails.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("this test needs {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The path of a program of PostgreSQL. Debian keeps these programs out of `PATH`.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).max();
    found.unwrap_or_else(|| name.into())
}

/// The server. It is killed on drop.
pub(crate) struct Own {
    is_postgres: bool,
    folder: TempDir,
    port: u16,
    /// Options in addition to the usual options.
    options: Vec<String>,
    process: Child,
}

impl Own {
    pub(crate) fn new<P: Place>() -> Self {
        Self::with::<P>(|_| Vec::new())
    }

    /// Starts a server with the options that `prepare` returns. `prepare` may put files into the server's folder.
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

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its URL, for a user with all rights.
    pub(crate) fn url(&self) -> String {
        if self.is_postgres {
            return format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        }
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    /// Stops the server like an administrator does.
    pub(crate) fn shut_down(&mut self) {
        // These signals do not wait until clients disconnect.
        self.signal(if self.is_postgres { Signal::SIGINT } else { Signal::SIGTERM });
        until("the end of the server", || self.process.try_wait().unwrap());
    }

    /// Kills the server like the kernel does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the server again on the same files and port.
    pub(crate) fn start_again(&mut self) {
        self.process = self.process_again();
        until("the server is back", || {
            if self.process.try_wait().unwrap().is_some() {
                // This start failed, because processes of the killed server still exist.
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
        // The server may be down already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// MariaDB runs as the user that starts it. It runs as root only if `--user` says so.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    format!("--user={}", String::from_utf8_lossy(&output.stdout).trim())
}

/// A server that starts removes the files of other servers in a shared folder. So each server has a temporary folder of
/// its own.
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
