//! Places where a test can kill a process: after one effect and before the next.

/// Aborts the process if the folder that `SLUICE_FAIL_POINTS` names holds a file of this name. The process
/// that removes the file aborts, so one process dies for each file. Without the feature `fail-points`,
/// which no product has, this does nothing.
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
