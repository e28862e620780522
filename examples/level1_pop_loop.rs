//! Lesson: no handlers: push, pop in a loop of the application, and share data in the public store.
//!
//! Command: `cargo run --example level1_pop_loop`
//!
//! Expected output:
//! ```text
//! "download_audio": {"save_path":"玉盘.mp3","url":"https://a.example/1"} with cookie "k=1"
//! "download_audio": {"save_path":"像鱼.mp3","url":"https://a.example/2"} with cookie "k=1"
//! nothing left; session after delete: None
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use callboard::Board;
use serde_json::json;

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let board = Board::builder().start().await?;
    let store = board.store();
    store.set_public("current_session", json!({"cookie": "k=1"}), Some(Duration::from_secs(600))).await?;
    for (url, save_path) in [("https://a.example/1", "玉盘.mp3"), ("https://a.example/2", "像鱼.mp3")] {
        let params = json!({"url": url, "save_path": save_path});
        board.push(json!({"type": "download_audio", "params": params})).await?;
    }
    while let Some(delivery) = board.pop("default", Some(Duration::from_secs(1))).await? {
        let task = delivery.to_json();
        let session = store.get_public("current_session").await?.unwrap_or_default();
        println!("{}: {} with cookie {}", task["type"], task["params"], session["cookie"]);
        delivery.ack().await?;
    }
    store.delete_public("current_session").await?;
    println!("nothing left; session after delete: {:?}", store.get_public("current_session").await?);
    board.stop().await;
    Ok(())
}
