//! Places where a test can end a process: behind one effect and before the next.

/// Ends the process if its environment names a folder, `SLUICE_FAIL_POINTS`, and a file of this name is
/// in it. Whoever removes the file obeys, so one process dies for each file. Nothing without the feature
/// `fail-points`, which no product has.
#[cfg(feature = "fail-points")]
pub(crate) fn fail_point(name: &str) {
    let order = std::env::var_os("SLUICE_FAIL_POINTS")
        .map(|folder| std::path::Path::new(&folder).join(name));
    if order.is_some_and(|order| std::fs::remove_file(order).is_ok()) {
        std::process::abort();
    }
}

#[cfg(not(feature = "fail-points"))]
pub(crate) fn fail_point(_: &str) {}
