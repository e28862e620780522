//! Panics of what others wrote, made values.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work`; a panic in it becomes the text that it said.
///
/// # Errors
/// What the panic said.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(said)
}

/// What a panic said. What it carried is let go of, and its destructor may panic in its turn.
pub(crate) fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a text").to_owned();
    let_go(panic);
    text
}

/// Drops what belongs to somebody else: a destructor that panics hurts nobody.
pub(crate) fn let_go<T>(what: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(what))) {
        // Whoever panics in two destructors may do so in a third: this one is not run.
        std::mem::forget(panic);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Self)
        }
    }

    #[test]
    fn a_panic_becomes_its_text_whatever_its_destructor_does() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| panic!("a word")), Err::<(), _>("a word".to_owned()));
        assert_eq!(caught(|| panic!("{} words", 2)), Err::<(), _>("2 words".to_owned()));
        assert_eq!(caught(|| panic_any(Bomb)), Err::<(), _>("a panic without a text".to_owned()));
        let_go(Bomb);
    }
}
