//! Real processes, real kills, full disks: what is promised holds then, too.

mod kills;
mod support;
