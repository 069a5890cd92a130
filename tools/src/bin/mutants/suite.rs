//! Building and running tests in the copy of the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_testkit::program::command;

use super::list::{Mutant, VARIABLE};

/// The exit code of nextest when a test failed (`NextestExitCode::TEST_RUN_FAILED`).
const TEST_FAILED: i32 = 100;

/// Whether a mutant's tests noticed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MutantResult {
    /// A test failed, as it must.
    Killed,
    /// All tests passed although the guarantee is removed.
    Survived,
}

impl MutantResult {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Survived => "SURVIVED",
        }
    }
}

/// A built copy of the tree.
#[derive(Debug)]
pub(crate) struct Suite {
    tree: PathBuf,
    target: PathBuf,
}

impl Suite {
    /// Builds all tests of the copy.
    ///
    /// # Errors
    /// The copy does not compile: the compiler has printed why.
    pub(crate) fn build(tree: &Path, target: &Path) -> Result<Self> {
        let suite = Self { tree: tree.to_owned(), target: target.to_owned() };
        let built = suite.nextest(&["--no-run"]).stderr(Stdio::inherit()).status().context("start cargo")?;
        ensure!(built.success(), "the tree with its mutants does not compile");
        Ok(suite)
    }

    /// Runs the tests of all mutants while none is switched on.
    ///
    /// # Errors
    /// A test that fails without a mutant proves nothing.
    pub(crate) fn demand_that_all_pass(&self, mutants: &[Mutant]) -> Result<()> {
        let filters: BTreeSet<_> = mutants.iter().map(|mutant| format!("({})", mutant.tests)).collect();
        let filter = filters.into_iter().collect::<Vec<_>>().join(" | ");
        let output = self.nextest(&["--no-fail-fast", "-E", &filter]).output().context("start cargo")?;
        ensure!(output.status.success(), "a test fails without any mutant:\n{}", text(&output));
        Ok(())
    }

    /// Runs a mutant's tests until one fails.
    ///
    /// # Errors
    /// The filter selects no test, or the tests could not be run.
    pub(crate) fn run(&self, mutant: &Mutant) -> Result<MutantResult> {
        let mut command = self.nextest(&["--fail-fast", "-E", &mutant.tests]);
        let output = command.env(VARIABLE, &mutant.name).output().context("start cargo")?;
        match output.status.code() {
            Some(0) => Ok(MutantResult::Survived),
            Some(TEST_FAILED) => Ok(MutantResult::Killed),
            _ => bail!("the tests of \"{}\" ({}) could not be run:\n{}", mutant.name, mutant.tests, text(&output)),
        }
    }

    fn nextest(&self, arguments: &[&str]) -> Command {
        let mut command = command("cargo");
        command.current_dir(&self.tree).args(["nextest", "run", "--workspace", "--locked"]).args(arguments);
        command.env("CARGO_TARGET_DIR", &self.target).env_remove(VARIABLE).stdin(Stdio::null());
        command
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
