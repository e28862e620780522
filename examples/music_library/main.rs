//! Keeps a music library.

#![allow(dead_code, reason = "the tasks that use these modules need the board")]

mod demo;
mod download;
mod files;
mod list;
mod names;
mod session;
mod shelf;

fn main() {}
