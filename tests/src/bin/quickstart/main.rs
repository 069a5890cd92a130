//! `atoll-quickstart`: two tenants with real pods on this machine, and a table of who reaches whom.
//!
//! Started by the script `quickstart`, which builds, checks the machine and removes what was there before. Exit code:
//! 0 when everyone reaches whom they should and nobody else, 1 when not, 2 when it did not come that far.
//!
//! | module | what |
//! |---|---|
//! | [`world`] | starts etcd, the controller and the pods, through the CNI protocol |
//! | [`matrix`] | who should reach whom, and who does |
//! | [`report`] | the facts, as text for people and as JSON for programs |
//! | [`progress`] | what is going on, on standard error |

mod matrix;
mod progress;
mod report;
mod world;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use progress::Progress;
use report::Facts;
use world::World;

/// Two tenants with real pods on this machine, and a table of who reaches whom.
#[derive(Debug, Parser)]
struct Args {
    /// What every network namespace is called at the beginning.
    #[arg(long, default_value = "at-qs")]
    prefix: String,
    /// Sockets and namespaces of the data plane.
    #[arg(long, default_value = "/run/atoll-quickstart")]
    run_dir: PathBuf,
    /// Data, configuration and logs.
    #[arg(long, default_value = "/var/lib/atoll-quickstart")]
    state_dir: PathBuf,
    /// Where our programs are.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Print the facts as JSON, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (text, code) = match up(&args) {
        Ok(facts) => {
            let text = if args.json { report::json(&facts) } else { report::text(&facts) };
            (text, if facts.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Err(error) => {
            let hint = "what is there is left for a look; `./quickstart down` removes it";
            let text = if args.json { report::json_error(&error) } else { String::new() };
            // With nobody to read it, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}\n{hint}");
            (text, ExitCode::from(2))
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(2),
    }
}

fn up(args: &Args) -> Result<Facts> {
    let progress = Progress::start();
    let world = World::start(args, &progress)?;
    progress.step("asking everyone for everyone");
    let cells = matrix::measure(&world.endpoints()?)?;
    progress.step("reading the topology");
    let facts = world.facts(cells)?;
    progress.end();
    Ok(facts)
}
