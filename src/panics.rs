//! Turns panics of application code into values.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work`; a panic in it becomes an error with the panic's text.
///
/// # Errors
/// The text of the panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(said)
}

/// The text of a panic. The payload is dropped here, and its destructor may panic too.
pub(crate) fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("a panic without a text").to_owned();
    let_go(panic);
    text
}

/// Drops a value of the application. A panic in its destructor is caught and goes no further.
pub(crate) fn let_go<T>(what: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(what))) {
        // A payload from a panicking destructor may panic when it is dropped too, so it is leaked.
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
