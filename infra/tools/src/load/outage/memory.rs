//! The memory of a process.

use std::path::Path;

/// The resident memory, in MiB, of the process whose id is in this file. `None` if it does not run.
pub(super) fn resident_mib(pid_file: &Path) -> Option<u64> {
    let pid = std::fs::read_to_string(pid_file).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_read_and_of_none_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.pid");
        assert_eq!(resident_mib(&file), None);
        std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert!(resident_mib(&file).is_some_and(|mib| mib > 0));
    }
}
