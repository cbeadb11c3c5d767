//! Reads a crate's sources and finds which of its files use each other in a circle.
//!
//! A file uses another where one of its paths, outside tests, leads to something that the other
//! defines: `pub use` is followed to its end, so a file that only declares and re-exports modules is
//! never part of a circle. Paths inside macro calls are not seen.

mod graph;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which files of the crate in `src` each of its files uses: paths below `src`.
pub fn uses(src: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    Ok(graph::uses(&source::read(src)?))
}

/// The circles of the crate whose `lib.rs` or `main.rs` lies in `src`: each is the list of its files, as
/// paths below `src`. A file that cannot be read or parsed is an error.
pub fn circles(src: &Path) -> Result<Vec<Vec<String>>, String> {
    Ok(graph::circles(&uses(src)?))
}
