//! Which handler runs which type.

use std::collections::HashMap;
use std::sync::Arc;

use super::Handle;
use crate::error::StartError;
use crate::name::Name;

/// The handlers of a board; never changed after its start.
#[derive(Default)]
pub(crate) struct Registry {
    handlers: HashMap<Name, Box<dyn Handle>>,
    types: Arc<[Name]>,
}

impl Registry {
    /// # Errors
    /// [`StartError::TwoHandlers`] when two are for one type.
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

    /// Each type, sorted, with the queue that its tasks go to by themselves, where the type names one.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&Name, Option<&'static str>)> {
        self.types.iter().map(|kind| (kind, self.get(kind).and_then(Handle::queue)))
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&dyn Handle> {
        self.handlers.get(kind).map(|handler| &**handler)
    }
}
