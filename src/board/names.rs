//! Names that callers give, checked before storage is asked about them.

use crate::error::BoardError;
use crate::name::{Name, name_fault};

/// Checks that a name is valid. `what` describes the named thing, for the error text.
pub(super) fn named(what: &str, name: impl Into<Name>) -> Result<Name, BoardError> {
    let name = name.into();
    name_fault(what, &name).map_or(Ok(name), |fault| Err(BoardError::Invalid(fault)))
}
