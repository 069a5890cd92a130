//! `atoll-mutants`: removes the code of one guarantee at a time and requires that a test fails.
//!
//! A test that cannot fail proves nothing. Each mutant in `tools/mutants/*.toml` changes one place of the code; the tests
//! that it names must fail with it. `./run-tests --long` runs all of them.
//!
//! All mutants are built at once, each behind a switch that an environment variable turns on, so that one build serves
//! every mutant. The build is of a copy below `target/`: the tree itself is never changed.
//!
//! Exit code 1: a mutant survived its tests. 2: the run itself failed, for instance because the text that a mutant
//! replaces no longer occurs exactly once.
//!
//! | module | what |
//! |---|---|
//! | [`list`] | the mutants, and how one changes a file |
//! | [`copy`] | the copy of the tree |
//! | [`suite`] | building and running tests in the copy |

mod copy;
mod list;
mod suite;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use atoll_node::files::print;
use clap::Parser;

use self::list::Mutant;
use self::suite::{MutantResult, Suite};

/// Removes the code of one guarantee at a time and requires that a test fails.
#[derive(Debug, Parser)]
struct Args {
    /// Only mutants whose names contain one of these texts.
    names: Vec<String>,
    /// Check that every mutant still finds its place in the code, and build nothing.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            print::say(&format!("error: {error:#}\n"));
            ExitCode::from(2)
        }
    }
}

/// False: a mutant survived.
fn run(args: &Args) -> Result<bool> {
    let root = root()?;
    let mut mutants = list::read(&root.join("tools/mutants"))?;
    mutants.retain(|mutant| args.names.is_empty() || args.names.iter().any(|name| mutant.name.contains(name)));
    ensure!(!mutants.is_empty(), "no mutant has such a name");
    let changed = list::apply(&root, &mutants)?;
    if args.check {
        print::say(&format!("{} mutants find their places\n", mutants.len()));
        return Ok(true);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let place = target.join("mutants");
    let tree = place.join("tree");
    copy::bring_up_to_date(&root, &tree, &changed)?;
    let suite = Suite::build(&tree, &place.join("target"))?;
    suite.demand_that_all_pass(&mutants)?;
    let mut survivors = Vec::new();
    for (number, mutant) in mutants.iter().enumerate() {
        let verdict = suite.run(mutant)?;
        print::say(&format!("{:>4}/{} {:<9} {}\n", number + 1, mutants.len(), verdict.word(), mutant.name));
        if verdict == MutantResult::Survived {
            survivors.push(mutant);
        }
    }
    print::say(&summary(&mutants, &survivors));
    Ok(survivors.is_empty())
}

fn summary(all: &[Mutant], survivors: &[&Mutant]) -> String {
    let mut text =
        format!("{} mutants: {} killed, {} survived\n", all.len(), all.len() - survivors.len(), survivors.len());
    for mutant in survivors {
        text.extend(["  ", &mutant.name, " in ", &mutant.file, ": no test of \"", &mutant.tests, "\" failed\n"]);
    }
    text
}

/// The root of the workspace, above the working directory.
fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("read the working directory")?;
    let root = here.ancestors().find(|directory| is_root(directory)).map(Path::to_owned);
    root.with_context(|| format!("{} is in no workspace with tools/mutants", here.display()))
}

fn is_root(directory: &Path) -> bool {
    directory.join("Cargo.lock").exists() && directory.join("tools/mutants").is_dir()
}
