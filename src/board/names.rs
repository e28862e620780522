//! Names that callers give: looked at before storage is asked for them.

use crate::error::BoardError;
use crate::name::{Name, name_fault};

/// A name that storage may be asked for; `what` says what it is the name of.
pub(super) fn named(what: &str, name: impl Into<Name>) -> Result<Name, BoardError> {
    let name = name.into();
    name_fault(what, &name).map_or(Ok(name), |fault| Err(BoardError::Invalid(fault)))
}
