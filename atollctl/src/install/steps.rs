//! Executes the steps of an installation.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use atoll_node::files::atomic::{self, Durability, Replacement};
use atoll_node::files::{PROGRAM, make, read};

use super::plan::{FileStep, There};

/// A present file; none: it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<There>> {
    let file = match read::open_given(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok(Some((read::contents(&file, PROGRAM)?, mode)))
}

/// The file, if it exists, and what an interrupted install left beside it. Files that cannot be listed are not removed.
pub(super) fn there(path: &Path) -> Vec<PathBuf> {
    let file = path.exists().then(|| path.to_owned());
    file.into_iter().chain(atomic::leftovers(path).unwrap_or_default()).collect()
}

/// Carries out one step.
pub(super) fn perform(step: &FileStep) -> io::Result<()> {
    match step {
        FileStep::MakeDirectory(path) => make::directory(path, make::DIRECTORY),
        FileStep::Stage { temporary, path, content, mode } => {
            atomic::remove_leftovers(path)?;
            let mut new = Replacement::create_at(temporary, path, *mode, Durability::Durable)?;
            new.file().write_all(content)?;
            new.stage()
        }
        FileStep::Swap { temporary, path } => atomic::swap(temporary, path),
        FileStep::Remove(path) => {
            remove(path)?;
            atomic::sync_directory(path)
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::super::plan::{self, DesiredFile, FileAction, FileChange};
    use super::*;

    /// The files of an installation, in one directory each.
    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn install(&self, text: &str) -> Vec<FileChange> {
            let wanted = [("bin/atoll", 0o755), ("secret/password", 0o600), ("net.d/10-atoll.conflist", 0o600)];
            let wanted = wanted.map(|(name, mode)| DesiredFile::new(self.path(name), content(name, text), mode));
            plan::install(wanted.into(), |path| read(path).expect("works"))
        }

        fn uninstall(&self) -> Vec<FileChange> {
            plan::uninstall(vec![self.path("net.d/10-atoll.conflist"), self.path("bin/atoll")], there)
        }

        /// The version of a file: "old", "new" or absent; anything else is an incomplete file.
        fn version(&self, name: &str) -> Option<&'static str> {
            let (found, mode) = read(&self.path(name)).expect("works")?;
            assert_eq!(mode, if name == "bin/atoll" { 0o755 } else { 0o600 }, "{name}");
            let version = ["old", "new"].into_iter().find(|version| found == content(name, version));
            Some(version.unwrap_or_else(|| panic!("{name} is neither old nor new")))
        }

        fn files(&self) -> Vec<String> {
            let below = |directory: &str| crate::nodefiles::entries(&self.path(directory)).expect("works");
            let all = ["bin", "secret", "net.d"].into_iter().flat_map(below);
            all.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
        }
    }

    fn content(name: &str, text: &str) -> Vec<u8> {
        format!("{name} {text}").repeat(1000).into_bytes()
    }

    fn steps(changes: Vec<FileChange>) -> Vec<FileStep> {
        changes.into_iter().flat_map(|change| change.steps).collect()
    }

    fn whole(changes: Vec<FileChange>) {
        die_after(&steps(changes), usize::MAX);
    }

    /// Carries out the first `number` steps, and half of the next if that only touches a temporary file.
    fn die_after(steps: &[FileStep], number: usize) {
        for step in steps.iter().take(number) {
            perform(step).expect("works");
        }
        if let Some(FileStep::Stage { temporary, content, .. }) = steps.get(number) {
            fs::write(temporary, &content[..content.len() / 2]).expect("works");
        }
    }

    #[test]
    fn killed_anywhere_every_file_is_whole_and_the_configuration_never_runs_ahead_of_the_plugin() {
        for before in [None, Some("old")] {
            for number in 0..usize::MAX {
                let site = Site::new();
                if let Some(version) = before {
                    whole(site.install(version));
                }
                let plan = steps(site.install("new"));
                if number > plan.len() {
                    break;
                }
                die_after(&plan, number);
                let [plugin, password, conflist] =
                    ["bin/atoll", "secret/password", "net.d/10-atoll.conflist"].map(|name| site.version(name));
                assert!(conflist != Some("new") || (plugin, password) == (Some("new"), Some("new")), "{number}");
                assert!(conflist.is_none() || plugin.is_some(), "a configuration without a plugin: {number}");
                assert!(plugin.is_some() || before.is_none(), "a plugin that was there is gone: {number}");
                // The next call completes it.
                whole(site.install("new"));
                assert_eq!(site.files(), ["atoll", "password", "10-atoll.conflist"], "{number}");
                assert!(site.install("new").iter().all(|change| change.action == FileAction::Keep), "twice is once");
            }
        }
    }

    #[test]
    fn killed_anywhere_while_uninstalling_no_configuration_is_left_without_its_plugin() {
        for number in 0..=2 {
            let site = Site::new();
            whole(site.install("old"));
            let plan = steps(site.uninstall());
            assert_eq!(plan.len(), 2);
            die_after(&plan, number);
            assert!(site.version("net.d/10-atoll.conflist").is_none() || site.version("bin/atoll").is_some());
            whole(site.uninstall());
            assert_eq!(site.files(), ["password"], "what it did not put there by itself stays");
        }
    }

    #[test]
    fn what_a_killed_install_left_goes_with_the_rest() {
        let site = Site::new();
        let plan = steps(site.install("new"));
        die_after(&plan, plan.len() - 2);
        assert!(site.files().iter().any(|name| name.starts_with(".10-atoll.conflist.")), "{:?}", site.files());
        whole(site.uninstall());
        assert_eq!(site.files(), ["password"]);
    }

    #[test]
    fn a_mode_that_became_wide_is_repaired() {
        let site = Site::new();
        whole(site.install("new"));
        fs::set_permissions(site.path("secret/password"), Permissions::from_mode(0o644)).expect("works");
        let changes = site.install("new");
        let actions: Vec<_> = changes.iter().map(|change| change.action).collect();
        assert_eq!(actions, [FileAction::Keep, FileAction::Replace, FileAction::Keep]);
        whole(changes);
        assert_eq!(site.version("secret/password"), Some("new"));
    }
}
