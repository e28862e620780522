//! No package that callboard is built or tested with may be copyleft, on any platform.
//!
//! The test reads the output of `cargo metadata`, so it needs no tool beyond Rust. `deny.toml` holds the same list for
//! `cargo deny`, and a test here keeps the two lists equal.

use std::process::Command;

use serde_json::Value;

/// Licences that require at most a notice.
const PERMISSIVE: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
#[ignore = "fetches the packages of every platform; ./scripts/test runs it"]
fn every_package_is_permissive() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_permissive))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not permissive, or no licence given:\n{}", refused.join("\n"));
    println!("{} packages, all under permissive licences", packages.len());
}

#[test]
fn cargo_deny_has_the_same_list() {
    let deny = include_str!("../../deny.toml");
    let list = deny.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("an allow list").0;
    let listed: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, PERMISSIVE);
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for permissive in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-2.0 AND MIT OR ISC",
    ] {
        assert!(is_permissive(permissive), "{permissive}");
    }
    for refused in
        ["GPL-3.0", "MIT AND GPL-3.0", "(MIT AND LGPL-2.1) OR MPL-2.0", "", "MIT OR", "Proprietary", "MIT) OR MIT"]
    {
        assert!(!is_permissive(refused), "{refused}");
    }
}

/// True if an SPDX expression allows a choice of permissive licences only.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words).is_some_and(|permissive| permissive && words.peek().is_none())
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> Option<bool> {
    let mut any = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        any |= both(words)?;
    }
    Some(any)
}

fn both(words: &mut Words<'_>) -> Option<bool> {
    let mut all = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        all &= one(words)?;
    }
    Some(all)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let inner = either(words)?;
        return words.next_if_eq(&")").map(|_| inner);
    }
    // An exception only adds permissions, so it is skipped.
    if words.next_if_eq(&"WITH").is_some() {
        words.next()?;
    }
    Some(PERMISSIVE.contains(&word))
}
