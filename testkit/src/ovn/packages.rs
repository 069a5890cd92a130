//! The unpacked packages of OVN and Open vSwitch.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The programs of one version.
#[derive(Clone, Debug)]
pub struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Those that `.ci/ovn` has unpacked below the directory of the build; `ATOLL_OVN` names another version.
    ///
    /// # Panics
    /// They are not there.
    pub fn new() -> Self {
        Self::find().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same for a program.
    ///
    /// # Errors
    /// They are not there.
    pub fn find() -> Result<Self> {
        let given = std::env::var_os("ATOLL_OVN").map(PathBuf::from);
        let root = given.unwrap_or_else(|| {
            let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("ovn/root")
        });
        let found = Self { root };
        ensure!(
            found.program("ovsdb-server").is_some(),
            "{}: no OVN is unpacked there; ./run-tests does it, and .ci/ovn alone",
            found.root.display()
        );
        Ok(found)
    }

    /// The root of the unpacked files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The schema of a database.
    pub fn schema(&self, file: &str) -> PathBuf {
        let places = ["usr/share/ovn", "usr/share/openvswitch"];
        let found = places.iter().map(|place| self.root.join(place).join(file)).find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("{file} is not in the packages"))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let places = ["usr/bin", "usr/sbin", "usr/lib/openvswitch-switch"];
        places.iter().map(|place| self.root.join(place).join(name)).find(|path| path.is_file())
    }

    /// A command that starts one of the programs.
    pub fn command(&self, name: &str) -> Command {
        let program = self.program(name).unwrap_or_else(|| panic!("{name} is not in the packages"));
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.libraries());
        command
    }

    /// A program, and the directories of its libraries.
    pub fn located(&self, name: &str) -> (PathBuf, std::ffi::OsString) {
        (self.program(name).unwrap_or_else(|| panic!("{name} is not in the packages")), self.libraries())
    }

    /// The arguments of a command that starts one of the programs behind another program, such as `setpriv`.
    pub fn behind(&self, command: &mut Command, name: &str) {
        let program = self.program(name).unwrap_or_else(|| panic!("{name} is not in the packages"));
        command.arg(program).env("LD_LIBRARY_PATH", self.libraries());
    }

    fn libraries(&self) -> std::ffi::OsString {
        let library = std::fs::read_dir(self.root.join("usr/lib")).into_iter().flatten().flatten();
        let library = library.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        std::env::join_paths(library).unwrap_or_default()
    }
}

impl Default for Packages {
    fn default() -> Self {
        Self::new()
    }
}
