//! The stage of a board, from running to stopped or failed.

use tokio::sync::watch;

/// The stage of a board, from running to stopped or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The board accepts tasks and runs them.
    Running,
    /// The board accepts nothing new. Tasks that run may end.
    Stopping,
    /// Everything has ended.
    Stopped,
    /// A part died too often. The board gave up and has to be started anew.
    Failed,
}

impl Stage {
    /// Moves a board to a later stage; true when it moved. A board never goes back, and a stopped or failed board stays
    /// so.
    pub(crate) fn move_on(board: &watch::Sender<Self>, to: Self) -> bool {
        board.send_if_modified(|stage| {
            let moves = *stage < Self::Stopped && *stage < to;
            if moves {
                *stage = to;
            }
            moves
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_never_goes_back_and_a_stopped_one_never_fails() {
        use Stage::{Failed, Running, Stopped, Stopping};
        for (from, to, after) in [
            (Running, Stopping, Stopping),
            (Running, Failed, Failed),
            (Stopping, Stopping, Stopping),
            (Stopping, Running, Stopping),
            (Stopping, Stopped, Stopped),
            (Stopping, Failed, Failed),
            (Stopped, Failed, Stopped),
            (Stopped, Stopping, Stopped),
            (Failed, Stopped, Failed),
            (Failed, Running, Failed),
        ] {
            let board = watch::Sender::new(from);
            let seen = board.subscribe();
            let moved = Stage::move_on(&board, to);
            assert_eq!((*board.borrow(), moved), (after, from != after), "{from:?} to {to:?}");
            assert_eq!(seen.has_changed().unwrap(), moved, "{from:?} to {to:?}");
        }
    }
}
