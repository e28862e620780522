//! The handler of each task type.

use std::collections::HashMap;
use std::sync::Arc;

use super::Handle;
use crate::error::StartError;
use crate::name::Name;

/// The handlers of a board. They never change after its start.
#[derive(Default)]
pub(crate) struct Registry {
    handlers: HashMap<Name, Box<dyn Handle>>,
    types: Arc<[Name]>,
}

impl Registry {
    /// # Errors
    /// [`StartError::TwoHandlers`] when two handlers are given for the same type.
    pub(crate) fn new(handlers: Vec<(Name, Box<dyn Handle>)>) -> Result<Self, StartError> {
        let mut by_type = HashMap::with_capacity(handlers.len());
        for (name, handler) in handlers {
            if by_type.insert(name.clone(), handler).is_some() {
                return Err(StartError::TwoHandlers(name.to_string()));
            }
        }
        let mut types: Vec<Name> = by_type.keys().cloned().collect();
        types.sort_unstable();
        Ok(Self { handlers: by_type, types: types.into() })
    }

    /// The types, sorted.
    pub(crate) fn types(&self) -> &Arc<[Name]> {
        &self.types
    }

    /// Each type, sorted, with its default queue if the type names a queue.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&Name, Option<&'static str>)> {
        self.types.iter().map(|kind| (kind, self.get(kind).and_then(Handle::queue)))
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&dyn Handle> {
        self.handlers.get(kind).map(|handler| &**handler)
    }
}
