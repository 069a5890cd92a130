//! Where the namespaces, files and servers of a lab are, and until when.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use atoll_node::files::make;

use crate::lab::daemon::Lifetime;
use crate::lab::netns::LabNetns;
use crate::lab::programs;
use crate::lab::scratch::{Scratch, unique_name};

/// The place of a lab.
#[derive(Debug)]
pub struct LabPlace {
    kind: Kind,
    directory: PathBuf,
    bin_dir: PathBuf,
}

#[derive(Debug)]
enum Kind {
    /// Namespaces have unique names. Everything is removed with the lab.
    Test(Scratch),
    /// The names of namespaces begin with this. Everything outlives the process.
    Lasting(String),
}

impl LabPlace {
    /// One that is removed with the lab.
    pub fn of_test() -> Result<Self> {
        let scratch = Scratch::new(&unique_name())?;
        let atoll = programs::path("atoll")?;
        let bin_dir = atoll.parent().context("a program is in a directory")?.to_owned();
        Ok(Self { directory: scratch.path().to_owned(), bin_dir, kind: Kind::Test(scratch) })
    }

    /// One that outlives this process, in an existing directory.
    pub fn lasting(prefix: &str, directory: &Path, bin_dir: &Path) -> Self {
        Self { kind: Kind::Lasting(prefix.to_owned()), directory: directory.to_owned(), bin_dir: bin_dir.to_owned() }
    }

    /// The directory of its files.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The directory of our programs.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The test passed: the directory is deleted. One that lasts is kept.
    pub fn passed(&self) {
        if let Kind::Test(scratch) = &self.kind {
            scratch.passed();
        }
    }

    /// When its servers end.
    pub(crate) fn lifetime(&self) -> Lifetime {
        match self.kind {
            Kind::Test(_) => Lifetime::Scoped,
            Kind::Lasting(_) => Lifetime::Lasting,
        }
    }

    /// A new namespace.
    pub(crate) fn netns(&self, name: &str) -> Result<LabNetns> {
        match &self.kind {
            Kind::Test(_) => LabNetns::new(),
            Kind::Lasting(prefix) => LabNetns::lasting(&format!("{prefix}-{name}")),
        }
    }

    /// A directory inside.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        make::directory(&path, make::PRIVATE_DIRECTORY).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}
