mod actor;
mod entries;
mod model;
