//! From the wanted and the present files to a list of steps. Pure, except for the reader that the caller passes.
//!
//! The order of the steps makes it safe: after a kill between any two, every file is complete, and a reader of the
//! network configuration finds the plugin that it names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_node::files::atomic;
use serde::Serialize;

/// A file as it should be.
#[derive(Clone)]
pub(super) struct DesiredFile {
    path: PathBuf,
    content: Arc<[u8]>,
    mode: u32,
    /// Written even if it is unchanged.
    is_renewed: bool,
}

impl DesiredFile {
    pub(super) fn new(path: PathBuf, content: Vec<u8>, mode: u32) -> Self {
        Self { path, content: content.into(), mode, is_renewed: false }
    }

    /// To be written again, so that a watcher of its directory detects it.
    pub(super) fn renewed(self, is_renewed: bool) -> Self {
        Self { is_renewed, ..self }
    }
}

/// A present file: its content and its mode.
pub(super) type There = (Vec<u8>, u32);

/// What happens to one file. The shape of its JSON is stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FileChange {
    pub(super) action: FileAction,
    pub(super) path: PathBuf,
    #[serde(skip)]
    pub(super) steps: Vec<FileStep>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FileAction {
    Write,
    Replace,
    /// The same text, written again so that a runtime detects it.
    Renew,
    Keep,
    Remove,
}

impl FileAction {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Replace => "replace",
            Self::Renew => "renew",
            Self::Keep => "keep",
            Self::Remove => "remove",
        }
    }
}

/// One change of the file system. It takes effect completely or not at all, or it only touches a temporary file.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum FileStep {
    /// The directory, with those above it.
    MakeDirectory(PathBuf),
    /// Writes and syncs a temporary file. What an interrupted install left beside the file is removed.
    Stage { temporary: PathBuf, path: PathBuf, content: Arc<[u8]>, mode: u32 },
    /// Renames the temporary file to the file, and syncs the directory.
    Swap { temporary: PathBuf, path: PathBuf },
    /// Removes the file and syncs the directory. A missing file is no error.
    Remove(PathBuf),
}

impl std::fmt::Display for FileStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MakeDirectory(path) => write!(f, "make directory {}", path.display()),
            Self::Stage { temporary, .. } => write!(f, "write {}", temporary.display()),
            Self::Swap { temporary, path } => write!(f, "rename {} to {}", temporary.display(), path.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
        }
    }
}

impl std::fmt::Debug for FileStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// In the given order: a file comes after those that it needs.
pub(super) fn install(wanted: Vec<DesiredFile>, there: impl Fn(&Path) -> Option<There>) -> Vec<FileChange> {
    let mut made = BTreeSet::new();
    let one = |DesiredFile { path, content, mode, is_renewed }: DesiredFile| {
        let action = match there(&path) {
            Some((now, now_mode)) if *now == *content && now_mode == mode && is_renewed => FileAction::Renew,
            Some((now, now_mode)) if *now == *content && now_mode == mode => {
                return FileChange { action: FileAction::Keep, path, steps: Vec::new() };
            }
            Some(_) => FileAction::Replace,
            None => FileAction::Write,
        };
        let directory = path.parent().map(Path::to_owned).filter(|directory| made.insert(directory.clone()));
        let mut steps: Vec<_> = directory.map(FileStep::MakeDirectory).into_iter().collect();
        // No runtime reads a file with this extension.
        let temporary = atomic::temporary(&path);
        steps.push(FileStep::Stage { temporary: temporary.clone(), path: path.clone(), content, mode });
        steps.push(FileStep::Swap { temporary, path: path.clone() });
        FileChange { action, path, steps }
    };
    wanted.into_iter().map(one).collect()
}

/// Removes files in the order given: a file comes before what it needs. `there` finds a file and the temporary files of an interrupted
/// install beside it.
pub(super) fn uninstall(doomed: Vec<PathBuf>, there: impl Fn(&Path) -> Vec<PathBuf>) -> Vec<FileChange> {
    let one = |path: PathBuf| {
        let steps: Vec<_> = there(&path).into_iter().map(FileStep::Remove).collect();
        let action = if steps.is_empty() { FileAction::Keep } else { FileAction::Remove };
        (action == FileAction::Remove).then_some(FileChange { action, path, steps })
    };
    doomed.into_iter().filter_map(one).collect()
}
