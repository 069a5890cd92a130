//! The files that namespaces are pinned at.

use std::path::{Path, PathBuf};

use atoll_node::files::read;
use uuid::Uuid;

use crate::error::PlaneError;

/// The name of the namespace that stands for the external network behind an uplink.
pub(crate) const EXTERNAL: &str = "outside";

/// The pinned namespaces of the data plane: files that are named by an id, or `outside`.
pub(crate) fn pinned(directory: &Path) -> Result<Vec<PathBuf>, PlaneError> {
    let fail = |source| PlaneError::Namespace { what: "list", path: directory.to_owned(), source };
    let is_ours = |name: &str| name == EXTERNAL || Uuid::try_parse(name).is_ok();
    let names = read::names(directory, is_ours).map_err(fail)?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}
