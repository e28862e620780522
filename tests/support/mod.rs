//! Support for tests that run the examples as programs.

use std::path::PathBuf;
use std::process::Command;

/// Builds an example with the features and the profile of the calling test. Returns the path of its program.
///
/// Plain `cargo test` has already built it, and then this takes no time. After `cargo test --test NAME` the program
/// might be missing or older than its source.
pub(crate) fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().expect("the test knows its own path");
    let profile = deps.ancestors().nth(2).expect("a test lives in target/<profile>/deps").to_owned();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args(["build", "--quiet", "--no-default-features", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let features = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("postgres", cfg!(feature = "postgres")),
        ("mysql", cfg!(feature = "mysql")),
        ("testing", cfg!(feature = "testing")),
    ];
    build.args(features.iter().filter(|(_, on)| *on).map(|(feature, _)| format!("--features={feature}")));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    // Some build scripts read the variables that cargo sets for this test's own package. They would run again each
    // time, so these variables are removed.
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|own| text.starts_with(own)) {
            build.env_remove(&variable);
        }
    }
    let built = build.status().expect("cargo starts");
    assert!(built.success(), "the example {name} does not build");
    profile.join("examples").join(name)
}
