//! Where our own binaries are: the release build, because that is what users run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The path of one of our programs: in `ATOLL_BIN_DIR`, else in the release directory of a static target.
pub fn path(program: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is the parent directory")?;
    let arch = std::env::consts::ARCH;
    let mut candidates: Vec<PathBuf> = std::env::var_os("ATOLL_BIN_DIR").map(PathBuf::from).into_iter().collect();
    if candidates.is_empty() {
        candidates.extend(["musl", "gnu"].map(|libc| root.join(format!("target/{arch}-unknown-linux-{libc}/release"))));
    }
    candidates.iter().map(|dir| dir.join(program)).find(|path| path.is_file()).with_context(|| {
        format!("{program} is not built: looked in {candidates:?}; `./run-tests` builds it, or name its directory in ATOLL_BIN_DIR")
    })
}
